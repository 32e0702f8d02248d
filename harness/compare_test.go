package harness_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"understudy.dev/harness"
	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
)

// recorded returns a journal with the closed run that f recorded.
func recorded(t testing.TB, f func(r harness.Recorder)) *memjournal.Journal {
	t.Helper()
	j := memjournal.New()
	h := start(t, j, harness.Config{Mode: harness.Record, Async: true})
	f(h)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	return j
}

// Every way to part from the record is a difference at its place.
func TestDifferences(t *testing.T) {
	original := func(r harness.Recorder) {
		r.DeviceCmd("alloc", []byte("16"))
		r.RNGSeed("rng", 7)
		r.KernelCmd("saxpy", []byte("a"))
		r.BatchSize("loader", 32)
		r.Output("loss", []byte("0.5"))
	}
	tests := []struct {
		name     string
		strict   bool
		program  func(r harness.Recorder)
		number   uint64
		path     string
		expected string // "" is nothing
		got      string // "" is nothing
	}{
		{name: "the same", program: original},
		{
			name: "another payload", number: 1, expected: `device "alloc" "16" (2 bytes)`, got: `device "alloc" "17" (2 bytes)`,
			program: func(r harness.Recorder) { r.DeviceCmd("alloc", []byte("17")) },
		},
		{
			name: "another name", number: 1, expected: `device "alloc" "16" (2 bytes)`, got: `device "free" "16" (2 bytes)`,
			program: func(r harness.Recorder) { r.DeviceCmd("free", []byte("16")) },
		},
		{
			name: "another kind", number: 1, expected: `device "alloc" "16" (2 bytes)`, got: `kernel "alloc" "16" (2 bytes)`,
			program: func(r harness.Recorder) { r.KernelCmd("alloc", []byte("16")) },
		},
		{
			name: "another input", number: 2, path: "rng", expected: "seed 7", got: "batch size 3",
			program: func(r harness.Recorder) { r.BatchSize("rng", 3) },
		},
		{
			name: "another output", number: 5, expected: `output "loss" "0.5" (3 bytes)`, got: `output "loss" "0.4" (3 bytes)`,
			program: func(r harness.Recorder) {
				r.DeviceCmd("alloc", []byte("16"))
				r.KernelCmd("saxpy", []byte("a"))
				r.Output("loss", []byte("0.4"))
			},
		},
		{
			name: "one left out", number: 3, expected: `kernel "saxpy" "a" (1 bytes)`, got: `output "loss" "0.5" (3 bytes)`,
			program: func(r harness.Recorder) {
				r.DeviceCmd("alloc", []byte("16"))
				r.Output("loss", []byte("0.5"))
			},
		},
		{
			name: "ended early", number: 2, path: "rng", expected: "seed 7",
			program: func(r harness.Recorder) {
				r.DeviceCmd("alloc", []byte("16"))
				r.BatchSize("loader", 0)
			},
		},
		{name: "did nothing", number: 1, expected: `device "alloc" "16" (2 bytes)`, program: func(harness.Recorder) {}},
		{
			name: "did more", number: 6, got: `device "free" 00 (1 bytes)`,
			program: func(r harness.Recorder) {
				original(r)
				r.DeviceCmd("free", []byte{0})
			},
		},
		{
			name: "did more on a new path", number: 6, path: "new", got: "seed 1",
			program: func(r harness.Recorder) {
				original(r)
				r.RNGSeed("new", 1)
			},
		},
		{name: "paths in another order", program: func(r harness.Recorder) {
			r.BatchSize("loader", 1)
			r.RNGSeed("rng", 1)
			r.DeviceCmd("alloc", []byte("16"))
			r.KernelCmd("saxpy", []byte("a"))
			r.Output("loss", []byte("0.5"))
		}},
		{name: "the same, strictly", strict: true, program: original},
		{
			name: "the same command on another path, strictly", strict: true, number: 2, path: "rng", expected: "seed 7", got: "seed 1",
			program: func(r harness.Recorder) {
				r.DeviceCmd("alloc", []byte("16"))
				r.RNGSeed("other", 1)
			},
		},
		{
			name: "paths in another order, strictly", strict: true, number: 1, expected: `device "alloc" "16" (2 bytes)`, got: "batch size 1",
			program: func(r harness.Recorder) { r.BatchSize("loader", 1) },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := start(t, recorded(t, original), harness.Config{Mode: harness.Replay, Strict: tt.strict})
			tt.program(h)
			err := h.Close()
			if tt.number == 0 {
				if err != nil {
					t.Errorf("Close = %v, want no difference", err)
				}
				return
			}
			var d *harness.Difference
			if !errors.As(err, &d) {
				t.Fatalf("Close = %v, want a difference", err)
			}
			if d.Number != tt.number || d.Path != tt.path || what(d.Expected) != tt.expected || what(d.Got) != tt.got {
				t.Errorf("difference at %d on %q: expected %s, got %s; want at %d on %q: %s, %s",
					d.Number, d.Path, what(d.Expected), what(d.Got), tt.number, tt.path, tt.expected, tt.got)
			}
			if r := d.Report(); !strings.Contains(r, fmt.Sprint("record ", tt.number)) || !strings.Contains(r, tt.got) || strings.Contains(r, "got       0 ") {
				t.Errorf("report %q does not name number and call", r)
			}
		})
	}
}

func what(e *harness.Entry) string {
	if e == nil {
		return ""
	}
	return e.What()
}

// The first difference stops the comparison: every later call returns it, also on
// paths that agree.
func TestFirstDifferenceStops(t *testing.T) {
	j := recorded(t, func(r harness.Recorder) {
		for i := range 30 {
			r.DeviceCmd("step", fmt.Append(nil, i))
		}
		r.RNGSeed("rng", 3)
	})
	h := start(t, j, harness.Config{Mode: harness.Replay})
	for i := range 20 {
		if err := h.DeviceCmd("step", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	first := h.DeviceCmd("other", nil)
	var d *harness.Difference
	if !errors.As(first, &d) || d.Number != 21 || len(d.Before) != harness.LastTen {
		t.Fatalf("difference = %+v, want one at 21 with %d before it", d, harness.LastTen)
	}
	checkDense(t, d.Before, 11)
	for name, call := range map[string]func() error{
		"the right command": func() error { return h.DeviceCmd("step", []byte("20")) },
		"another path":      func() error { _, err := h.RNGSeed("rng", 0); return err },
		"Finish":            func() error { return h.Finish(t.Context()) },
	} {
		if err := call(); !errors.Is(err, first) {
			t.Errorf("%s after the difference = %v, want the same difference", name, err)
		}
	}
}

// A program that ended early is told how much it left undone.
func TestMissingIsCounted(t *testing.T) {
	j := recorded(t, func(r harness.Recorder) { program(r, 50, 1, 0) })
	h := start(t, j, harness.Config{Mode: harness.Replay})
	program(h, 10, 1, 0)
	var d *harness.Difference
	if err := h.Close(); !errors.As(err, &d) || d.Number != 10*perStep+1 || d.Missing != 40*perStep {
		t.Errorf("Close = %v, want %d missing from record %d on", err, 40*perStep, 10*perStep+1)
	}
}

// Of many paths that are left, the first in the record is named.
func TestFirstOfManyMissing(t *testing.T) {
	j := recorded(t, func(r harness.Recorder) {
		for i := range 50 {
			r.RNGSeed(fmt.Sprint("rng", i), 1)
		}
		r.DeviceCmd("last", nil)
	})
	h := start(t, j, harness.Config{Mode: harness.Replay})
	if err := h.DeviceCmd("last", nil); err != nil {
		t.Fatal(err)
	}
	var d *harness.Difference
	if err := h.Close(); !errors.As(err, &d) || d.Number != 1 || d.Path != "rng0" || d.Missing != 50 {
		t.Errorf("Close = %v, want the first of 50 missing", err)
	}
}

// Goroutines that interleave differently are no difference path by path, and are
// one in strict order; a planted one is found whatever the interleaving is.
func TestInterleavings(t *testing.T) {
	const actors, steps = 8, 60
	run := func(h *harness.Harness, seed uint64, planted bool) []error {
		errs := make([]error, actors)
		var all sync.WaitGroup
		turns := rand.New(rand.NewPCG(seed, 0)).Perm(actors)
		for _, i := range turns {
			all.Go(func() {
				a := h.Actor(fmt.Sprint("actor", i))
				changed := 0
				if planted && i == 3 {
					changed = 17
				}
				errs[i] = program(a, steps, seed, changed)
			})
		}
		all.Wait()
		return errs
	}
	j := memjournal.New()
	h := start(t, j, harness.Config{Mode: harness.Record})
	for i, err := range run(h, 1, false) {
		if err != nil {
			t.Fatalf("actor %d: %v", i, err)
		}
	}
	h.Close()
	for seed := range uint64(5) {
		h := start(t, j, harness.Config{Mode: harness.Replay})
		for i, err := range run(h, 2+seed, false) {
			if err != nil {
				t.Errorf("seed %d, actor %d: %v", seed, i, err)
			}
		}
		if err := h.Close(); err != nil {
			t.Errorf("seed %d: Close = %v", seed, err)
		}
		h = start(t, j, harness.Config{Mode: harness.Replay})
		run(h, 2+seed, true)
		var d *harness.Difference
		if err := h.Close(); !errors.As(err, &d) || d.Path != "actor3" || d.Got == nil || d.Got.Name != "sgemm" {
			t.Errorf("seed %d: planted difference = %v, want sgemm on actor3", seed, err)
		}
	}
}

// The part of the numbers that is compared ends without a claim about the rest.
func TestPart(t *testing.T) {
	j := recorded(t, func(r harness.Recorder) {
		for i := range 10 {
			r.DeviceCmd("step", fmt.Append(nil, i))
		}
	})
	h := start(t, j, harness.Config{Mode: harness.Replay, Part: harness.Range{From: 4, To: 6}})
	for i := 3; i < 6; i++ {
		if err := h.DeviceCmd("step", fmt.Append(nil, i)); err != nil {
			t.Errorf("record %d: %v", i+1, err)
		}
	}
	if err := h.DeviceCmd("step", []byte("6")); !errors.Is(err, harness.ErrPastEnd) {
		t.Errorf("past the part = %v, want ErrPastEnd", err)
	}
	if err := h.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
}

// A part that ends where a run ended in order is whole, so that a call more is a
// difference there; one that ends elsewhere, or with a run that was cut, is not.
func TestPartThatIsARun(t *testing.T) {
	j := memjournal.New()
	tenure := func(leave func(h *harness.Harness) error) {
		h := start(t, j.Handle(), harness.Config{Mode: harness.Record})
		tenSteps(h)
		if err := leave(h); err != nil {
			t.Fatal(err)
		}
	}
	tenure((*harness.Harness).Close)                                                              // 1 to 10
	tenure(func(*harness.Harness) error { return nil })                                           // 11 to 20
	tenure(func(h *harness.Harness) error { return h.Abort(nil) })                                // 21 to 30
	tenure(func(h *harness.Harness) error { return h.SetMode(t.Context(), harness.Off) })         // 31 to 40
	start(t, j.Handle(), harness.Config{Mode: harness.Record}).Close()                            // none
	tenure((*harness.Harness).Close)                                                              // 41 to 50
	if err := start(t, j.Handle(), harness.Config{Mode: harness.Record}).Abort(nil); err != nil { // none, cut
		t.Fatal(err)
	}
	tests := []struct {
		name     string
		part     harness.Range
		from, to int    // the steps that agree
		number   uint64 // of the difference that one more is; 0 is ErrPastEnd
	}{
		{name: "closed", part: harness.Range{From: 1, To: 10}, to: 10, number: 11},
		{name: "part of a closed one", part: harness.Range{From: 1, To: 9}, to: 9},
		{name: "fenced", part: harness.Range{From: 11, To: 20}, to: 10},
		{name: "aborted", part: harness.Range{From: 21, To: 30}, to: 10},
		{name: "left by a change of mode", part: harness.Range{From: 31, To: 40}, to: 10, number: 41},
		{name: "the last with entries", part: harness.Range{From: 41, To: 50}, to: 10, number: 51},
		{name: "the end of one", part: harness.Range{From: 44, To: 50}, from: 3, to: 10, number: 51},
		{name: "beyond the record, whose last run was cut", part: harness.Range{From: 41, To: 99}, to: 10},
		{name: "open", part: harness.Range{From: 41}, to: 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := start(t, j, harness.Config{Mode: harness.Replay, Part: tt.part})
			for i := tt.from; i < tt.to; i++ {
				if err := h.DeviceCmd("step", fmt.Append(nil, i)); err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
			}
			err := h.DeviceCmd("step", []byte("more"))
			var d *harness.Difference
			if tt.number == 0 {
				last := min(tt.part.To, 50)
				if last == 0 {
					last = 50
				}
				if !errors.Is(err, harness.ErrPastEnd) || !strings.Contains(err.Error(), fmt.Sprintf("stops at %d:", last)) {
					t.Errorf("one more = %v, want past the end at %d", err, last)
				}
				if err := h.Close(); err != nil {
					t.Errorf("Close = %v", err)
				}
				return
			}
			if !errors.As(err, &d) || d.Number != tt.number || d.Expected != nil {
				t.Errorf("one more = %v, want a difference at %d", err, tt.number)
			}
			if err := h.Close(); !errors.Is(err, d) {
				t.Errorf("Close = %v, want the difference", err)
			}
		})
	}
}

// stallAfter is a journal of two entries that keeps the second one back for longer
// than the tests wait.
func stallAfter(t *testing.T) journal.Journal {
	t.Helper()
	inner := memjournal.New()
	h, err := harness.New(t.Context(), inner, harness.Config{Mode: harness.Record})
	if err != nil {
		t.Fatal(err)
	}
	h.DeviceCmd("one", nil)
	h.RNGSeed("two", 2)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	faulty := journaltest.NewFaulty(t, inner, 1)
	// Before it are the fence, the start of the run, and the first entry.
	faulty.Plan(journaltest.OpFollow, 1, journaltest.Fault{Kind: journaltest.Stall, After: 3})
	return faulty
}

// A call that waits for the record when Replay is left does what the new mode says.
func TestLeavingReplayWhileACallReads(t *testing.T) {
	for _, m := range []harness.Mode{harness.Off, harness.Record} {
		synctest.Test(t, func(t *testing.T) {
			h, err := harness.New(t.Context(), stallAfter(t), harness.Config{Mode: harness.Replay})
			if err != nil {
				t.Fatal(err)
			}
			called := make(chan error, 1)
			go func() { _, err := h.RNGSeed("two", 7); called <- err }()
			synctest.Wait()
			if err := h.SetMode(t.Context(), m); err != nil {
				t.Errorf("SetMode(%v) = %v", m, err)
			}
			if err := <-called; err != nil {
				t.Errorf("call while Replay was left for %v = %v", m, err)
			}
			if err := h.Close(); err != nil {
				t.Errorf("Close = %v", err)
			}
		})
	}
}

// Calls all the time while the mode changes: none fails, and none is lost on the
// way.
func TestModeChangesUnderReplay(t *testing.T) {
	j := recorded(t, func(r harness.Recorder) {
		for range 4000 {
			r.DeviceCmd("x", nil)
		}
	})
	h := start(t, j, harness.Config{Mode: harness.Replay, Part: harness.Range{To: 4000}})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				if err := h.DeviceCmd("x", nil); err != nil {
					t.Errorf("DeviceCmd = %v", err)
					return
				}
			}
		})
	}
	for range 20 {
		for _, m := range []harness.Mode{harness.Off, harness.Replay, harness.Record, harness.Replay} {
			if err := h.SetMode(t.Context(), m); err != nil {
				t.Errorf("SetMode(%v) = %v", m, err)
			}
		}
	}
	all.Wait()
	if err := h.SetMode(t.Context(), harness.Off); err != nil {
		t.Error(err)
	}
}

// heldJournal says when it is followed, and then waits.
type heldJournal struct {
	journal.Journal
	followed, release chan struct{}
}

func (j *heldJournal) Follow(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
	if j.followed != nil {
		j.followed <- struct{}{}
		<-j.release
	}
	return j.Journal.Follow(ctx, after)
}

// While the mode changes a call waits: it does not pass as if the mode were Off.
func TestCallWaitsForTheNewMode(t *testing.T) {
	j := &heldJournal{Journal: memjournal.New()}
	h := start(t, j, harness.Config{Mode: harness.Record})
	if _, err := h.RNGSeed("x", 5); err != nil {
		t.Fatal(err)
	}
	j.followed, j.release = make(chan struct{}, 8), make(chan struct{})
	changed := make(chan error, 1)
	go func() { changed <- h.SetMode(t.Context(), harness.Replay) }()
	<-j.followed // Record was left, and the record is being read
	got := make(chan uint64, 1)
	go func() {
		seed, err := h.RNGSeed("x", 9)
		if err != nil {
			t.Errorf("RNGSeed during the change = %v", err)
		}
		got <- seed
	}()
	select {
	case seed := <-got:
		t.Errorf("RNGSeed returned %d while the mode changed", seed)
		close(j.release)
	case <-time.After(20 * time.Millisecond):
		close(j.release)
		if seed := <-got; seed != 5 {
			t.Errorf("RNGSeed during the change = %d, want the recorded 5", seed)
		}
	}
	if err := <-changed; err != nil {
		t.Error(err)
	}
}

// A wait for the journal is bounded by Config.Timeout.
func TestReplayMeetsASilentJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := harness.New(t.Context(), stallAfter(t), harness.Config{Mode: harness.Replay, Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := h.RNGSeed("two", 7); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("call = %v after %v, want the deadline after 1 s", err, time.Since(began))
		}
		h.Close()
	})
}

// Damage met in replay stops it with the number, for every path.
func TestReplayMeetsDamage(t *testing.T) {
	j := recorded(t, func(r harness.Recorder) { r.DeviceCmd("one", nil) })
	appendRaw(t, j, &journal.Record{Kind: journal.KindSeed, Request: 2, Name: "rng"})
	h := start(t, j, harness.Config{Mode: harness.Replay})
	if err := h.DeviceCmd("one", nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var bad *harness.RecordError
		if _, err := h.RNGSeed("rng", 0); !errors.As(err, &bad) || bad.Number != 2 {
			t.Errorf("RNGSeed = %v, want an undecodable record 2", err)
		}
	}
	if err := h.Close(); err == nil {
		t.Error("Close after damage = nil")
	}
}

// What a replay holds in memory while it looks for a path is bounded, and what was
// matched makes room.
func TestReplayIsBounded(t *testing.T) {
	j := recorded(t, func(r harness.Recorder) {
		for range 2 {
			fill(r, 100)
			r.RNGSeed("x", 7)
		}
	})
	h := start(t, j, harness.Config{Mode: harness.Replay, MaxAhead: 100})
	for range 2 {
		if seed, err := h.RNGSeed("x", 1); err != nil || seed != 7 {
			t.Fatalf("at most 100 ahead: seed %d, %v; want 7", seed, err)
		}
		fill(h, 100)
	}
	if err := h.Finish(t.Context()); err != nil {
		t.Error(err)
	}
	h = start(t, j, harness.Config{Mode: harness.Replay, MaxAhead: 50})
	if _, err := h.RNGSeed("x", 1); !errors.Is(err, harness.ErrTooFarApart) {
		t.Errorf("at most 50 ahead: %v, want ErrTooFarApart", err)
	}
}
