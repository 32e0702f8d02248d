package journaltest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"understudy.dev/journal"
)

var closeScenarios = []scenario{
	{
		name:   "close twice",
		clause: "calling Close again returns nil.",
		check: func(ctx context.Context, s *scene) error {
			if err := NewPen("a").fill(ctx, s.j, 1); err != nil {
				return err
			}
			var wg sync.WaitGroup
			errs := make([]error, 4)
			for i := range errs {
				wg.Go(func() { errs[i] = s.j.Close() })
			}
			wg.Wait()
			return errors.Join(append(errs, s.j.Close())...)
		},
	},
	{
		name:   "calls after close",
		clause: "Calls after it fail with ErrClosed",
		check:  callsAfterClose,
	},
	{
		name:   "entries stay",
		clause: "Entries stay.",
		check: func(ctx context.Context, s *scene) error {
			p := NewPen("a")
			if err := p.fill(ctx, s.j, 10); err != nil {
				return err
			}
			other, err := s.another()
			if err != nil {
				return err
			}
			if err := s.j.Close(); err != nil {
				return fmt.Errorf("close: %w", err)
			}
			if err := wantEntries(ctx, other, 0, p.Entries()); err != nil {
				return fmt.Errorf("on a handle that is open when another is closed: %w", err)
			}
			if err := p.Append(ctx, other, Records(1, 8)...); err != nil {
				return fmt.Errorf("on a handle that is open when another is closed: %w", err)
			}
			reopened, err := s.another()
			if err != nil {
				return err
			}
			return wantEntries(ctx, reopened, 0, p.Entries())
		},
	},
	{
		name:   "close while a writer appends",
		clause: "ErrClosed: the handle was closed before the call; the call wrote nothing.",
		check:  closeWhileWriting,
	},
}

func callsAfterClose(ctx context.Context, s *scene) error {
	p := NewPen("a")
	if err := p.fill(ctx, s.j, 1); err != nil {
		return err
	}
	if err := s.j.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	c := p.Cursor()
	_, err := s.j.Append(ctx, 1, c.Pos, Batch(c, Records(1, 8)...))
	if err := wantError("append", err, journal.ErrClosed); err != nil {
		return err
	}
	_, err = s.j.Fence(ctx, 2, "a")
	if err := wantError("fence", err, journal.ErrClosed); err != nil {
		return err
	}
	if _, err := journal.SampleEnd(ctx, s.j); !errors.Is(err, journal.ErrUnsupported) && !errors.Is(err, journal.ErrClosed) {
		return fmt.Errorf("end: err = %v, want %v", err, journal.ErrClosed)
	}
	if err := journal.Trim(ctx, s.j, c.Pos); !errors.Is(err, journal.ErrUnsupported) && !errors.Is(err, journal.ErrClosed) {
		return fmt.Errorf("trim: err = %v, want %v", err, journal.ErrClosed)
	}
	// A Follow may be such a call, or one that ends silently as it starts.
	for e, err := range s.j.Follow(ctx, 0) {
		if !errors.Is(err, journal.ErrClosed) {
			return fmt.Errorf("follow: yielded %s, err = %v, want %v", describe(e), err, journal.ErrClosed)
		}
	}
	return nil
}

// closeWhileWriting closes the handle under a writer. What was acknowledged is
// there afterwards, and what failed with ErrClosed is not.
func closeWhileWriting(ctx context.Context, s *scene) error {
	p := NewPen("a")
	if err := p.Fence(ctx, s.j, 1); err != nil {
		return err
	}
	shutOut, result, err := keepWriting(ctx, s.j, p)
	if err != nil {
		return err
	}
	err = s.j.Close()
	shutOut()
	failed := <-result
	if err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if errors.Is(failed, errWritesOn) {
		return fmt.Errorf("after close: %w", failed)
	}
	j, err := s.another()
	if err != nil {
		return err
	}
	got, err := drain(ctx, j, 0)
	if err != nil {
		return err
	}
	acked := p.Entries()
	if err := sameEntries(got[:min(len(acked), len(got))], acked); err != nil {
		return fmt.Errorf("after close: %w", err)
	}
	if extra := len(got) - len(acked); extra > 1 || extra == 1 && journal.OutcomeOf(failed) == journal.NotDone {
		return fmt.Errorf("after close: %d entries more than were acknowledged; the last append said: %w", extra, failed)
	}
	return nil
}
