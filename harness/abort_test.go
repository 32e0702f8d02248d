package harness_test

import (
	"errors"
	"strings"
	"testing"

	"understudy.dev/harness"
	"understudy.dev/journal"
	"understudy.dev/journal/memjournal"
)

// A run that stopped for an error is not a whole one: what its replay does more is
// no difference, and the journal tells why.
func TestAbortedRunIsCutShort(t *testing.T) {
	onEach(t, func(t *testing.T, open func() journal.Journal, _ string) {
		j := open()
		h := start(t, j, harness.Config{Mode: harness.Record, Async: true})
		if err := program(h, 3, 42, 0); err != nil {
			t.Fatal(err)
		}
		if err := h.Abort(errors.New("interrupted: \xff no sleep")); err != nil {
			t.Fatalf("Abort = %v", err)
		}
		if err := h.DeviceCmd("late", nil); !errors.Is(err, journal.ErrClosed) {
			t.Errorf("call after Abort = %v, want ErrClosed", err)
		}
		if err := errors.Join(h.Close(), h.Abort(nil)); err != nil {
			t.Errorf("Close and Abort after Abort = %v", err)
		}
		runs, err := harness.Runs(t.Context(), j)
		if err != nil || len(runs) != 1 || runs[0].Closed || runs[0].Cut != "interrupted: � no sleep" || runs[0].Last != 3*perStep {
			t.Errorf("Runs = %+v, %v; want one with %d entries, cut, with its cause", runs, err, 3*perStep)
		}
		checkCutRun(t, j, 3*perStep)
	})
}

// The words of a cause never keep the end from being noted.
func TestAbortCauses(t *testing.T) {
	for cause, want := range map[error]string{
		nil:                                    "no cause was given",
		errors.New(strings.Repeat("é", 2<<20)): strings.Repeat("é", 500) + "…",
	} {
		j := memjournal.New()
		h := start(t, j, harness.Config{Mode: harness.Record})
		if err := h.Abort(cause); err != nil {
			t.Errorf("Abort = %v", err)
		}
		runs, err := harness.Runs(t.Context(), j)
		if err != nil || len(runs) != 1 || runs[0].Cut != want {
			t.Errorf("Runs = %d, %v; want one that was cut for %.20q", len(runs), err, want)
		}
	}
}

// In Replay an abort tells the difference there was and asks for nothing more.
func TestAbortInReplay(t *testing.T) {
	j := recorded(t, tenSteps)
	h := start(t, j, harness.Config{Mode: harness.Replay})
	if err := h.Abort(errors.New("interrupted")); err != nil {
		t.Errorf("Abort before the end = %v", err)
	}
	h = start(t, j, harness.Config{Mode: harness.Replay})
	parted := h.DeviceCmd("other", nil)
	if err := h.Abort(errors.New("interrupted")); parted == nil || !errors.Is(err, parted) {
		t.Errorf("Abort = %v, want %v", err, parted)
	}
}

// What is lost with an abort is said, as by Close.
func TestAbortSaysWhatIsLost(t *testing.T) {
	j := memjournal.New()
	h := start(t, j, harness.Config{Mode: harness.Record, Async: true})
	start(t, j.Handle(), harness.Config{Mode: harness.Record})
	h.DeviceCmd("lost", nil)
	var lost *harness.LostError
	if err := h.Abort(errors.New("interrupted")); !errors.As(err, &lost) || lost.From != 1 || lost.To != 1 {
		t.Errorf("Abort of a fenced recorder = %v, want record 1 is lost", err)
	}
}

// Nothing to compare with is not agreement.
func TestNothingRecorded(t *testing.T) {
	empty := func(harness.Recorder) {}
	tests := []struct {
		name    string
		j       journal.Journal
		part    harness.Range
		pastEnd bool
	}{
		{name: "empty journal", j: memjournal.New()},
		{name: "run without entries", j: recorded(t, empty)},
		{name: "part after the end", j: recorded(t, tenSteps), part: harness.Range{From: 11}, pastEnd: true},
		{name: "bounded part after the end", j: recorded(t, tenSteps), part: harness.Range{From: 12, To: 15}, pastEnd: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := harness.New(t.Context(), tt.j, harness.Config{Mode: harness.Replay, Part: tt.part})
			if !errors.Is(err, harness.ErrNothing) || errors.Is(err, harness.ErrPastEnd) != tt.pastEnd {
				t.Errorf("New = %v, want ErrNothing, past the end: %v", err, tt.pastEnd)
			}
			if tt.pastEnd && !strings.Contains(err.Error(), "the last one is 10") {
				t.Errorf("New = %v, does not say how many there are", err)
			}
			if d, err := harness.Diff(t.Context(), tt.j, tt.j, harness.DiffOptions{A: tt.part, B: tt.part}); d != nil || !errors.Is(err, harness.ErrNothing) {
				t.Errorf("Diff = %v, %v; want ErrNothing", d, err)
			}
		})
	}
	d, err := harness.Diff(t.Context(), recorded(t, empty), recorded(t, tenSteps), harness.DiffOptions{})
	if err != nil || d == nil || d.Number != 1 || d.Expected != nil {
		t.Errorf("Diff of nothing with something = %v, %v; want a difference at record 1", d, err)
	}
}
