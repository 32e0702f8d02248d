package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"understudy.dev/admin"
	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
)

// A copy that stopped says what is certain, by its text and by its exit code: 1 is for
// one that certainly copied nothing.
func TestCopyThatStoppedSaysWhatIsCertain(t *testing.T) {
	broken := fmt.Errorf("%w: %w", journal.ErrBroken, syscall.ENOSPC)
	signal := errors.New("interrupt signal received")
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(signal)
	tests := []struct {
		name    string
		entries uint64
		err     error
		code    int
		text    string
		hint    string
	}{
		{"a full disk, midway", 68_538, broken, admin.ExitUnknown, "what was copied up to there is kept", "the same command goes on from seq 7"},
		{"a full disk, at once", 0, broken, admin.ExitUnknown, "may be copied or not", ""},
		{"a full stream, at once", 0, journal.ErrFull, admin.ExitNotDone, "", ""},
		{"a full stream, midway", 3, journal.ErrFull, admin.ExitUnknown, "is kept", "goes on from seq 7"},
		{"another writer, midway", 3, journal.ErrConflict, admin.ExitUnknown, "is kept", "somebody else writes to the copy"},
		{"another writer, at once", 0, journal.ErrConflict, admin.ExitNotDone, "", "somebody else writes to the copy"},
		{"another history", 0, journal.ErrDiffer, admin.ExitNotDone, "", "it holds another history"},
		{"not the same in the end", 3, journal.ErrDiffer, admin.ExitUnknown, "is kept", "it holds another history"},
		{"a damaged source", 3, &journal.CorruptError{Pos: 3, Err: journal.ErrChecksum}, exitDamage, "", "go on with another copy of the same history"},
		{"interrupted", 3, context.Canceled, exitInterrupted, "is kept", "the same command goes on from seq 7"},
		{"interrupted while it reads", 3, signal, exitInterrupted, "is kept", "the same command goes on from seq 7"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx := t.Context()
			if tt.code == exitInterrupted {
				ctx = ended
			}
			err := halfCopied(ctx, journal.Copied{Entries: tt.entries, Source: journal.Cursor{Pos: 9, Seq: 7}}, fmt.Errorf("copy: %w", tt.err))
			if got := exitCode(ctx, err); got != tt.code {
				t.Errorf("exit code %d of %v, want %d", got, err, tt.code)
			}
			if !strings.Contains(err.Error(), tt.text) {
				t.Errorf("it says %v, want %q", err, tt.text)
			}
			var h *hintError
			if got := ""; tt.hint != "" && (!errors.As(err, &h) || !strings.Contains(h.hint, tt.hint)) {
				if h != nil {
					got = h.hint
				}
				t.Errorf("the hint is %q, want %q", got, tt.hint)
			}
		})
	}
}

// Of a damaged journal what is good is copied, and nobody is told to try the same again.
func TestCopyOfADamagedJournal(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	from := filepath.Join(dir, "j")
	j, err := filejournal.Open(from, filejournal.Config{Foreground: true})
	if err != nil {
		t.Fatal(err)
	}
	write(t, j, 5)
	wrongChain(t, j)
	j.Close()
	r := run(ctx, fileURL(from), "journal", "copy", fileURL(filepath.Join(dir, "copy")))
	r.want(t, 6, "broken chain", "hint: up to seq 5 it is copied; ")
	if strings.Contains(r.stderr, "the same command") {
		t.Errorf("it says %s", r.stderr)
	}
}

// wrongChain opens a new epoch in j and appends a record that does not follow what
// lies before it.
func wrongChain(t *testing.T, j journal.Journal) {
	t.Helper()
	end, err := journal.SampleEnd(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	pos, err := j.Fence(t.Context(), end.Epoch+1, "forger")
	if err != nil {
		t.Fatal(err)
	}
	b := journal.NewBuilder("forger", 1<<20, end.Time)
	if err := b.Add(&journal.Record{Kind: journal.KindCommand, Name: "add", Data: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(t.Context(), end.Epoch+1, pos, b.Seal(end.Seq+1, end.Epoch+1, journal.Digest{}, journal.Hash{1})); err != nil {
		t.Fatal(err)
	}
}
