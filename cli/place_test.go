package cli

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
)

// A stretch that nothing can lie in prints nothing, and one that was written the wrong
// way round is wrong usage: the same for all that take places.
func TestStretchesWithNothingInThem(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	j := small(t, dir)
	p := journaltest.NewPen("a")
	if err := p.Fence(t.Context(), j, 1); err != nil {
		t.Fatal(err)
	}
	if err := p.Append(t.Context(), j, journaltest.Records(7, 8)...); err != nil {
		t.Fatal(err)
	}
	j.Close()
	tests := []struct {
		from, to string
		code     int
		records  int // of cat; an entry of ls if there are any
	}{
		{"", "0", 0, 0},
		{"", "1970-01-01T00:00:00Z", 0, 0},
		{"", "1969-01-01T00:00:00Z", 0, 0},
		{"", "1066-10-14T00:00:00Z", 0, 0},
		{"", "-8", 0, 0},
		{"", "-7", 0, 1},
		{"", "9999-01-01T00:00:00Z", 0, 7},
		{"", "-5000000h", 2, 0}, // longer than a duration can be
		{"0", "", 0, 7},
		{"-99", "", 0, 7},
		{"1066-10-14T00:00:00Z", "", 0, 7},
		{"0", "0", 0, 0},
		{"9", "tail", 0, 0}, // what a script asks that has seen all
		{"5", "-6", 0, 0},
		{"5", "3", 2, 0},
		{"5", "0", 2, 0},
		{"-3", "-5", 2, 0},
		{"tail", "-5", 2, 0},
		{"-15m", "-30m", 2, 0},
		{"2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", 2, 0},
		{"3", "3", 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.from+" to "+tt.to, func(t *testing.T) {
			var args []string
			if tt.from != "" {
				args = append(args, "--from", tt.from)
			}
			if tt.to != "" {
				args = append(args, "--to", tt.to)
			}
			r := run(t.Context(), fileURL(dir), append([]string{"journal", "cat"}, args...)...)
			if got := strings.Count(r.stdout, "\n"); r.code != tt.code || got != tt.records {
				t.Errorf("cat exits with %d and prints %d records, want %d and %d: %s", r.code, got, tt.code, tt.records, r.stderr)
			}
			r = run(t.Context(), fileURL(dir), append([]string{"journal", "ls"}, args...)...)
			if got := r.stdout != ""; r.code != tt.code || got != (tt.records > 0) {
				t.Errorf("ls exits with %d and prints %q, want %d and entries: %v", r.code, r.stdout, tt.code, tt.records > 0)
			}
			if tt.code == 2 && tt.from != "" && !strings.Contains(r.stderr, fmt.Sprintf("--from %s lies behind --to %s", tt.from, tt.to)) {
				t.Errorf("it says %s", r.stderr)
			}
		})
	}
	for _, before := range []string{"0", "-99", "1066-10-14T00:00:00Z"} {
		run(t.Context(), fileURL(dir), "journal", "prune", "--before", before).want(t, 1, "no record lies before "+before)
	}
}

// The fences before the first record are listed only with it.
func TestListToATime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	j := small(t, dir)
	p := write(t, j, 0, 0) // two fences
	for _, at := range []journal.Time{50, 60} {
		records := journaltest.Records(1, 8)
		records[0].Time = at
		if err := p.Append(t.Context(), j, records...); err != nil {
			t.Fatal(err)
		}
	}
	j.Close()
	for to, want := range map[int]int{1: 0, 49: 0, 50: 3, 59: 3, 60: 4, 61: 4} {
		at := fmt.Sprintf("1970-01-01T00:00:00.%09dZ", to)
		r := run(t.Context(), fileURL(dir), "journal", "ls", "--to", at)
		if got := strings.Count(r.stdout, "\n"); got != want {
			t.Errorf("to %s it lists %d entries, want %d", at, got, want)
		}
		if r := run(t.Context(), fileURL(dir), "journal", "ls", "--to", at, "--count", "2"); strings.Count(r.stdout, "\n") != min(want, 2) {
			t.Errorf("to %s, of two it lists %q", at, r.stdout)
		}
	}
}

// The tail of a journal without records is before the first one that comes, whatever
// its time, and behind the fences that are there.
func TestTailOfAnEmptyJournal(t *testing.T) {
	sp, err := new(Env).stretchOf(spanFlags{to: "tail"}, journal.End{})
	if err != nil || !sp.to.after(1, 0) || !sp.to.after(1, 1) {
		t.Errorf("record 1 does not lie behind it: %+v, %v", sp, err)
	}
	dir := filepath.Join(t.TempDir(), "j")
	j := small(t, dir)
	write(t, j, 0)
	j.Close()
	run(t.Context(), fileURL(dir), "journal", "ls", "--to", "tail").want(t, 0, "opened epoch 1")
}

// ls counts what it prints, fences and all.
func TestListCounts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	j := small(t, dir)
	write(t, j, 5)
	j.Close()
	for count, want := range []int{6, 1, 2, 3} { // 0 is no limit
		r := run(t.Context(), fileURL(dir), "journal", "ls", "--count", strconv.Itoa(count))
		if got := strings.Count(r.stdout, "\n"); r.code != 0 || got != want {
			t.Errorf("--count %d lists %d entries, want %d", count, got, want)
		}
	}
}
