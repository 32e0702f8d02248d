package journaltest

import (
	"context"
	"errors"
	"fmt"

	"understudy.dev/journal"
)

var trimScenarios = []scenario{
	{
		name:   "follow after a trim",
		clause: "Following from before what is left gives ErrTrimmed.",
		check:  followTrimmed,
	},
	{
		name:   "trim keeps the newest fence",
		clause: "It never removes the newest fence.",
		check:  trimKeepsFence,
	},
}

// trim trims j, or fails with errSkip if j cannot.
func trim(ctx context.Context, j journal.Journal, through journal.Position) error {
	err := journal.Trim(ctx, j, through)
	if errors.Is(err, journal.ErrUnsupported) {
		return fmt.Errorf("nothing can be trimmed: %w", errSkip)
	}
	if err != nil {
		return fmt.Errorf("trim through %d: %w", through, err)
	}
	return nil
}

// wantTrimmed checks what is left after a trim: at least all after through, and
// perhaps more, since a backend may drop entries in larger pieces only. From
// every entry on, Follow yields all that lies after it or says ErrTrimmed.
func wantTrimmed(ctx context.Context, j journal.Journal, all []journal.Entry, through journal.Position) error {
	first := journal.Position(0)
	if end, err := journal.SampleEnd(ctx, j); err == nil {
		first = end.First
	} else if !errors.Is(err, journal.ErrUnsupported) {
		return err
	}
	if first > through {
		return fmt.Errorf("trimmed through %d, but only what is after %d can be followed", through, first)
	}
	gone := true
	for i := range len(all) + 1 {
		after := journal.Position(0)
		if i > 0 {
			after = all[i-1].Pos
		}
		err := wantEntries(ctx, j, after, all[i:])
		switch {
		case err == nil:
			gone = false
		case !errors.Is(err, journal.ErrTrimmed):
			return fmt.Errorf("after a trim through %d: %w", through, err)
		case !gone || after >= through || first > 0 && after >= first:
			return fmt.Errorf("after a trim through %d, first %d: %w", through, first, err)
		}
		if err == nil && after < first {
			return fmt.Errorf("follow after %d yields all, but the end says that the first is after %d", after, first)
		}
	}
	return nil
}

func followTrimmed(ctx context.Context, s *scene) error {
	if err := trim(ctx, s.j, 0); err != nil {
		return err
	}
	p := NewPen("a")
	if err := p.fill(ctx, s.j, 10); err != nil {
		return err
	}
	if err := p.Fence(ctx, s.j, 2); err != nil {
		return err
	}
	for range 5 {
		if err := p.Append(ctx, s.j, Records(1, 8)...); err != nil {
			return err
		}
	}
	trimmed := journal.Position(0)
	for _, i := range []int{3, 2, 8, len(p.Entries()) - 2} {
		through := p.Entries()[i].Pos
		if err := trim(ctx, s.j, through); err != nil {
			return err
		}
		trimmed = max(trimmed, through)
		for k, j := range s.handles(2) {
			if err := wantTrimmed(ctx, j, p.Entries(), trimmed); err != nil {
				return fmt.Errorf("handle %d: %w", k+1, err)
			}
		}
		if err := p.Append(ctx, s.j, Records(1, 8)...); err != nil {
			return fmt.Errorf("after a trim: %w", err)
		}
	}
	return nil
}

// trimKeepsFence trims through the end, and then asks whether it is still known
// who may write.
func trimKeepsFence(ctx context.Context, s *scene) error {
	p := NewPen("a")
	if err := p.fill(ctx, s.j, 5); err != nil {
		return err
	}
	if err := p.Fence(ctx, s.j, 3); err != nil {
		return err
	}
	fence := p.Cursor().Pos
	if err := p.Append(ctx, s.j, Records(2, 8)...); err != nil {
		return err
	}
	end, n := p.Cursor(), len(p.Entries())
	if err := trim(ctx, s.j, end.Pos); err != nil {
		return err
	}
	for k, j := range s.handles(2) {
		for _, f := range []journal.Fence{{Epoch: 2, Owner: "a"}, {Epoch: 3, Owner: "b"}} {
			_, err := j.Fence(ctx, f.Epoch, f.Owner)
			if err := wantError(fmt.Sprintf("fence epoch %d for %q on handle %d after a trim", f.Epoch, f.Owner, k+1), err, journal.ErrFenced); err != nil {
				return err
			}
		}
		pos, err := j.Fence(ctx, 3, "a")
		if err != nil || pos != fence {
			return fmt.Errorf("fence the open epoch again on handle %d after a trim: position %d, %v, want %d", k+1, pos, err, fence)
		}
		if err := wantEntries(ctx, j, end.Pos, p.Entries()[n:]); err != nil {
			return fmt.Errorf("handle %d after a trim through the end: %w", k+1, err)
		}
		c := p.Cursor()
		for _, stale := range []journal.Cursor{as(c, 1, "a"), as(c, 3, "b")} {
			_, err := j.Append(ctx, stale.Epoch, c.Pos, Batch(stale, Records(1, 8)...))
			if err := wantError(fmt.Sprintf("append in epoch %d by %q on handle %d after a trim", stale.Epoch, stale.Owner, k+1), err, journal.ErrFenced); err != nil {
				return err
			}
		}
		if err := p.Append(ctx, j, Records(1, 8)...); err != nil {
			return fmt.Errorf("handle %d after a trim: %w", k+1, err)
		}
	}
	return nil
}
