package journaltest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"understudy.dev/journal"
	"understudy.dev/journal/memjournal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFaultyWithoutFaultsPasses(t *testing.T) {
	under := make(map[journal.Journal]*memjournal.Journal)
	wrap := func(tb testing.TB, j *memjournal.Journal) journal.Journal {
		f := NewFaulty(tb, j, 1)
		under[f] = j
		tb.Cleanup(func() { f.Close() })
		return f
	}
	Run(t, Config{
		Open:   func(tb testing.TB) journal.Journal { return wrap(tb, memjournal.New()) },
		Reopen: func(tb testing.TB, j journal.Journal) journal.Journal { return wrap(tb, under[j].Handle()) },
		Bubble: true,
	})
}

// newFaulty returns a faulty journal with epoch 1 open, its pen, and a handle
// that sees what is really there.
func newFaulty(t *testing.T) (*Faulty, *Pen, journal.Journal) {
	t.Helper()
	mem := memjournal.New()
	f := NewFaulty(t, mem, 7)
	t.Cleanup(func() { f.Close() })
	p := NewPen("a")
	if err := p.Fence(t.Context(), f, 1); err != nil {
		t.Fatal(err)
	}
	return f, p, mem.Handle()
}

func TestFaultyAppend(t *testing.T) {
	later := errors.New("so be it")
	for _, c := range []struct {
		name    string
		fault   Fault
		want    error // of the append
		outcome journal.Outcome
		stored  int // batches there are after the call
		later   int // and after Release
	}{
		{name: "refused", fault: Fault{Kind: Refuse}, want: journal.ErrFull, outcome: journal.NotDone},
		{name: "refused in other words", fault: Fault{Kind: Refuse, Err: journal.ErrReadOnly}, want: journal.ErrReadOnly, outcome: journal.NotDone},
		{name: "vanished", fault: Fault{Kind: Vanish}, want: ErrInjected, outcome: journal.Unknown},
		{name: "acknowledgement lost", fault: Fault{Kind: LoseAck}, want: ErrInjected, outcome: journal.Unknown, stored: 1, later: 1},
		{name: "broken handle", fault: Fault{Kind: LoseAck, Err: journal.ErrBroken}, want: journal.ErrBroken, outcome: journal.Unknown, stored: 1, later: 1},
		{name: "delayed", fault: Fault{Kind: Delay, Err: later}, want: later, outcome: journal.Unknown, later: 1},
		{name: "stalled", fault: Fault{Kind: Stall}, want: context.DeadlineExceeded, outcome: journal.Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, p, really := newFaulty(t)
				f.Plan(OpAppend, 2, c.fault)
				if err := p.Append(t.Context(), f, Records(1, 8)...); err != nil {
					t.Fatalf("the first append: %v", err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				at := p.Cursor()
				batch := Batch(at, Records(1, 8)...)
				_, err := f.Append(ctx, 1, at.Pos, batch)
				if !errors.Is(err, c.want) || journal.OutcomeOf(err) != c.outcome {
					t.Errorf("the second append: got %v, want %v and the outcome %v", err, c.want, c.outcome)
				}
				clear(batch) // the caller may do as it likes with it now
				wantStored(t, really, at.Pos, c.stored)
				for _, err := range f.Release() {
					if err != nil {
						t.Errorf("released: %v", err)
					}
				}
				wantStored(t, really, at.Pos, c.later)
				if got, want := f.Injected(), "append 2: "+c.fault.Kind.String(); len(got) != 1 || got[0] != want {
					t.Errorf("injected %q, want %q", got, want)
				}
				if got := f.Calls(OpAppend); got != 2 {
					t.Errorf("%d appends counted, want 2", got)
				}
			})
		})
	}
}

// wantStored checks how many entries lie after a position.
func wantStored(t *testing.T, j journal.Journal, after journal.Position, want int) {
	t.Helper()
	got, err := drain(t.Context(), j, after)
	if err != nil || len(got) != want {
		t.Errorf("%d entries after %d (%v), want %d", len(got), after, err, want)
	}
	for _, e := range got {
		var dec journal.Decoder
		if err := dec.Batch(e.Data, new(journal.Batch)); err != nil {
			t.Errorf("entry %d: %v", e.Pos, err)
		}
	}
}

func TestDelayedAppendMeetsAConflict(t *testing.T) {
	f, p, really := newFaulty(t)
	f.Plan(OpAppend, 1, Fault{Kind: Delay})
	if err := p.Append(t.Context(), f, Records(1, 8)...); !errors.Is(err, ErrInjected) {
		t.Fatalf("delayed append: got %v, want %v", err, ErrInjected)
	}
	if err := p.Append(t.Context(), f, Records(1, 8)...); err != nil {
		t.Fatalf("append again: %v", err)
	}
	if errs := f.Release(); len(errs) != 1 || !errors.Is(errs[0], journal.ErrConflict) {
		t.Errorf("released: got %v, want one conflict", errs)
	}
	wantStored(t, really, p.Entries()[0].Pos, 1)
}

func TestDelayedAppendLandsAfterHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, p, really := newFaulty(t)
		f.Hold = time.Minute
		f.Plan(OpAppend, 1, Fault{Kind: Delay})
		ctx, cancel := context.WithCancel(t.Context())
		if err := p.Append(ctx, f, Records(1, 8)...); !errors.Is(err, ErrInjected) {
			t.Fatalf("delayed append: got %v, want %v", err, ErrInjected)
		}
		cancel() // the write is under way and no longer cares
		time.Sleep(time.Minute - 1)
		wantStored(t, really, p.Cursor().Pos, 0)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		wantStored(t, really, p.Cursor().Pos, 1)
	})
}

func TestCloseDropsDelayedWrites(t *testing.T) {
	for _, hold := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			f, p, really := newFaulty(t)
			f.Hold = hold
			f.Plan(OpAppend, 1, Fault{Kind: Delay})
			_ = p.Append(t.Context(), f, Records(1, 8)...) // its outcome is unknown
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if errs := f.Release(); len(errs) != 0 {
				t.Errorf("hold %v: released %v after close, want nothing", hold, errs)
			}
			wantStored(t, really, p.Cursor().Pos, 0)
		})
	}
}

func TestFaultyFenceLosesItsAnswer(t *testing.T) {
	f, p, really := newFaulty(t)
	f.Plan(OpFence, 1, Fault{Kind: LoseAck})
	if err := p.Fence(t.Context(), f, 2); !errors.Is(err, ErrInjected) {
		t.Fatalf("fence: got %v, want %v", err, ErrInjected)
	}
	if err := p.Fence(t.Context(), f, 2); err != nil {
		t.Fatalf("fence again: %v", err)
	}
	if err := wantEntries(t.Context(), really, 0, p.Entries()); err != nil {
		t.Error(err)
	}
	f.Plan(OpFence, 1, Fault{Kind: LoseAck})
	if _, err := f.Fence(t.Context(), 1, "b"); !errors.Is(err, journal.ErrFenced) {
		t.Errorf("a fence that is refused: got %v, want %v: there was nothing to lose", err, journal.ErrFenced)
	}
}

func TestFaultyFollow(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault Fault
		want  int // entries
		err   error
	}{
		{"breaks at once", Fault{Kind: Break}, 0, ErrInjected},
		{"breaks after three", Fault{Kind: Break, After: 3}, 3, ErrInjected},
		{"breaks in other words", Fault{Kind: Break, After: 2, Err: journal.ErrTrimmed}, 2, journal.ErrTrimmed},
		{"ends silently", Fault{Kind: BreakSilently, After: 3}, 3, nil},
		{"is refused", Fault{Kind: Refuse}, 0, ErrInjected},
		{"falls silent", Fault{Kind: Stall, After: 3}, 3, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, p, _ := newFaulty(t)
				for range 5 {
					if err := p.Append(t.Context(), f, Records(1, 8)...); err != nil {
						t.Fatal(err)
					}
				}
				f.Plan(OpFollow, 1, c.fault)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var got []journal.Entry
				var last error
				for e, err := range f.Follow(ctx, 0) {
					if err == nil {
						got = append(got, own(e))
					}
					last = err
				}
				if err := sameEntries(got, p.Entries()[:c.want]); err != nil {
					t.Error(err)
				}
				if !errors.Is(last, c.err) || c.err == nil && last != nil {
					t.Errorf("the last error is %v, want %v", last, c.err)
				}
				if stalled := c.fault.Kind == Stall; stalled != (ctx.Err() != nil) {
					t.Errorf("context: %v", ctx.Err())
				}
				if err := wantEntries(t.Context(), f, 0, p.Entries()); err != nil {
					t.Errorf("the next follow: %v", err)
				}
			})
		})
	}
}

func TestFaultyEnd(t *testing.T) {
	f, _, _ := newFaulty(t)
	f.Plan(OpEnd, 2, Fault{Kind: Vanish})
	for i, want := range []error{nil, ErrInjected, nil} {
		if _, err := journal.SampleEnd(t.Context(), f); !errors.Is(err, want) {
			t.Errorf("end %d: got %v, want %v", i+1, err, want)
		}
	}
}

func TestStalledCallsEndOnClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, p, _ := newFaulty(t)
		f.Plan(OpAppend, 1, Fault{Kind: Stall})
		f.Plan(OpFollow, 1, Fault{Kind: Stall})
		w := newWatch(t.Context(), f, 0)
		defer w.close()
		result := make(chan error)
		go func() { result <- p.Append(t.Context(), f, Records(1, 8)...) }()
		synctest.Wait()
		f.Close()
		if err := <-result; !errors.Is(err, journal.ErrClosed) {
			t.Errorf("stalled append: got %v, want %v", err, journal.ErrClosed)
		}
		if err := w.ended(t.Context()); err != nil {
			t.Errorf("stalled follow: %v", err)
		}
	})
}

// TestRateFollowsTheSeed appends under random faults and resolves what is
// unknown by reading, as a writer would: the same seed injects the same faults.
func TestRateFollowsTheSeed(t *testing.T) {
	run := func(seed uint64) []string {
		mem := memjournal.New()
		f := NewFaulty(t, mem, seed)
		defer f.Close()
		p := NewPen("a")
		if err := p.Fence(t.Context(), f, 1); err != nil {
			t.Fatal(err)
		}
		f.Rate(OpAppend, 0.2, Fault{Kind: Refuse})
		f.Rate(OpAppend, 0.2, Fault{Kind: Vanish})
		f.Rate(OpAppend, 0.2, Fault{Kind: LoseAck})
		for range 100 {
			_ = p.Append(t.Context(), f, Records(1, 8)...) // resolved by what follows
			got, err := drain(t.Context(), f, p.Cursor().Pos)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range got {
				if err := p.Take(e); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := wantEntries(t.Context(), mem, 0, p.Entries()); err != nil {
			t.Error(err)
		}
		injected := f.Injected()
		f.Heal()
		for range 20 {
			if err := p.Append(t.Context(), f, Records(1, 8)...); err != nil {
				t.Fatalf("healed: %v", err)
			}
		}
		return injected
	}
	one, again, other := run(1), run(1), run(2)
	if !slices.Equal(one, again) {
		t.Errorf("seed 1 gave\n%q and then\n%q", one, again)
	}
	if slices.Equal(one, other) {
		t.Errorf("seeds 1 and 2 both gave %q", one)
	}
	if len(one) < 20 || len(one) > 80 {
		t.Errorf("%d faults in 100 calls, want about 49", len(one))
	}
}
