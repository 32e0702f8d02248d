package journaltest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"understudy.dev/journal"
)

var fenceScenarios = []scenario{
	{
		name:   "fence is stored at the end",
		clause: "by storing the entry AppendFence(nil, epoch, owner) at the end of the journal, and returns that entry's position.",
		check: func(ctx context.Context, s *scene) error {
			p := NewPen("a")
			for _, epoch := range []journal.Epoch{1, 2, 7} {
				if err := p.Fence(ctx, s.j, epoch); err != nil {
					return err
				}
				if err := p.Append(ctx, s.j, Records(1, 8)...); err != nil {
					return err
				}
			}
			if err := increasing(p.Entries()); err != nil {
				return err
			}
			return wantEntries(ctx, s.j, 0, p.Entries())
		},
	},
	{
		name:   "fence needs no knowledge of the end",
		clause: "It needs no knowledge of the end",
		check:  fenceUnread,
	},
	{
		name:   "same owner fences again",
		clause: "The same owner may ask for the open epoch again, so that after an unknown outcome it can simply repeat the call: it gets the position of the first fence.",
		check:  fenceAgain,
	},
	{
		name:   "one owner per epoch",
		clause: "and so does the open one if another owner has it; nothing was written.",
		check: func(ctx context.Context, s *scene) error {
			return fenceRefused(ctx, s, []journal.Epoch{3}, []string{"b", "aa", "A"})
		},
	},
	{
		name:   "smaller epoch",
		clause: "A smaller epoch than the open one gets ErrFenced",
		check: func(ctx context.Context, s *scene) error {
			return fenceRefused(ctx, s, []journal.Epoch{1, 2}, []string{"a", "b"})
		},
	},
	{
		name:   "append from before the fence",
		clause: "and one that names an earlier prev with ErrConflict, including one already under way.",
		check:  appendFromBeforeFence,
	},
	{
		name:   "fence through a busy writer",
		clause: "so a busy writer cannot starve it.",
		check:  fenceBusyWriter,
	},
	{
		name:   "concurrent fences of one epoch",
		clause: "and so does the open one if another owner has it; nothing was written.",
		check:  concurrentFences,
	},
	{
		name:   "concurrent fences of many epochs",
		clause: "A smaller epoch than the open one gets ErrFenced",
		check:  concurrentEpochs,
	},
	{
		name:   "impossible fence",
		clause: "backends check with CheckFence.",
		check:  impossibleFence,
	},
	{
		name:   "fence with an ended context",
		clause: "so that after an unknown outcome it can simply repeat the call",
		check:  fenceEndedContext,
	},
}

// fenceUnread fences on handles that have read nothing, behind another's back.
func fenceUnread(ctx context.Context, s *scene) error {
	p := NewPen("a")
	if err := p.fill(ctx, s.j, 3); err != nil {
		return err
	}
	for i := range 3 {
		j := s.handles(2)[1]
		if err := p.Fence(ctx, j, journal.Epoch(i+2)); err != nil {
			return err
		}
		if err := p.Append(ctx, j, Records(1, 8)...); err != nil {
			return err
		}
	}
	return wantEntries(ctx, s.j, 0, p.Entries())
}

func fenceAgain(ctx context.Context, s *scene) error {
	p := NewPen("a")
	if err := p.fill(ctx, s.j, 1); err != nil {
		return err
	}
	if err := p.Fence(ctx, s.j, 4); err != nil {
		return err
	}
	first := p.Cursor().Pos
	for i := range 3 {
		for k, j := range s.handles(2) {
			pos, err := j.Fence(ctx, 4, "a")
			if err != nil {
				return fmt.Errorf("fence the open epoch again on handle %d: %w", k+1, err)
			}
			if pos != first {
				return fmt.Errorf("fence the open epoch again on handle %d, %d entries later: position %d, want %d", k+1, i, pos, first)
			}
		}
		if err := wantEntries(ctx, s.j, 0, p.Entries()); err != nil {
			return err
		}
		if err := p.Append(ctx, s.j, Records(1, 8)...); err != nil {
			return err
		}
	}
	return nil
}

// fenceRefused opens epoch 3 for "a" and then asks for epochs as owners.
func fenceRefused(ctx context.Context, s *scene, epochs []journal.Epoch, owners []string) error {
	p := NewPen("a")
	if err := p.fill(ctx, s.j, 1); err != nil {
		return err
	}
	if err := p.Fence(ctx, s.j, 3); err != nil {
		return err
	}
	for i := range 2 {
		for k, j := range s.handles(2) {
			for _, epoch := range epochs {
				for _, owner := range owners {
					_, err := j.Fence(ctx, epoch, owner)
					call := fmt.Sprintf(`fence epoch %d for %q on handle %d when epoch 3 belongs to "a"`, epoch, owner, k+1)
					if err := wantError(call, err, journal.ErrFenced); err != nil {
						return err
					}
				}
			}
		}
		if err := wantEntries(ctx, s.j, 0, p.Entries()); err != nil {
			return fmt.Errorf("after refused fences: %w", err)
		}
		if err := p.Append(ctx, s.j, Records(i, 8)...); err != nil {
			return fmt.Errorf("after refused fences: %w", err)
		}
	}
	return nil
}

func appendFromBeforeFence(ctx context.Context, s *scene) error {
	p := NewPen("a")
	if err := p.fill(ctx, s.j, 3); err != nil {
		return err
	}
	before := p.Cursor()
	handles := s.handles(2)
	if err := p.Fence(ctx, handles[1], 2); err != nil {
		return err
	}
	for i, j := range handles {
		_, err := j.Append(ctx, 1, before.Pos, Batch(before, Records(1, 8)...))
		call := fmt.Sprintf("append in epoch 1 after %d on handle %d, fenced at %d", before.Pos, i+1, p.Cursor().Pos)
		if err := wantError(call, err, journal.ErrConflict); err != nil {
			return err
		}
	}
	return wantEntries(ctx, s.j, 0, p.Entries())
}

// fenceBusyWriter fences while a writer appends as fast as it can: the fence is
// taken at the first call, and what the writer had acknowledged lies before it.
func fenceBusyWriter(ctx context.Context, s *scene) error {
	p := NewPen("0")
	if err := p.Fence(ctx, s.j, 1); err != nil {
		return err
	}
	for round := range 4 {
		next := fmt.Sprint(round + 1)
		fencer := s.handles(2)[round%2]
		pos, err := fenceWhileWriting(ctx, s.j, fencer, p, next)
		if err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		epoch := p.Cursor().Epoch + 1
		fence := journal.Entry{Pos: pos, Data: journal.AppendFence(nil, epoch, next)}
		if err := wantEntries(ctx, s.j, p.Cursor().Pos, []journal.Entry{fence}); err != nil {
			return fmt.Errorf("round %d: after the last acknowledged append, at %d: %w", round+1, p.Cursor().Pos, err)
		}
		if err := p.Take(fence); err != nil {
			return err
		}
		c := p.Cursor()
		_, err = s.j.Append(ctx, epoch-1, c.Pos, Batch(as(c, epoch-1, p.owner), Records(1, 8)...))
		if err := wantError("append of the old epoch after the fence", err, journal.ErrFenced); err != nil {
			return err
		}
		p.owner = next
		if err := p.Append(ctx, s.j, Records(1, 8)...); err != nil {
			return err
		}
	}
	return wantEntries(ctx, s.j, 0, p.Entries())
}

// fenceWhileWriting lets p append to j without pause and opens the next epoch
// through fencer. It returns when the fence is taken and p is shut out.
func fenceWhileWriting(ctx context.Context, j, fencer journal.Journal, p *Pen, owner string) (journal.Position, error) {
	epoch := p.Cursor().Epoch + 1
	shutOut, result, err := keepWriting(ctx, j, p)
	if err != nil {
		return 0, err
	}
	pos, err := fencer.Fence(ctx, epoch, owner)
	shutOut()
	werr := <-result
	if err != nil {
		return 0, fmt.Errorf("fence epoch %d while a writer appends: %w", epoch, err)
	}
	if err := werr; !errors.Is(err, journal.ErrConflict) && !errors.Is(err, journal.ErrFenced) {
		return 0, fmt.Errorf("the writer's first append that fails: %w, want %w or %w", err, journal.ErrConflict, journal.ErrFenced)
	}
	if last := p.Cursor().Pos; last >= pos {
		return 0, fmt.Errorf("append in epoch %d was acknowledged at %d, behind the fence at %d", epoch-1, last, pos)
	}
	return pos, nil
}

// errWritesOn says that a writer could go on when it should have been stopped.
var errWritesOn = errors.New("appends are still acknowledged")

// keepWriting lets p append to j in a goroutine until an append fails, and
// returns when it is under way. After shutOut the writer has few more appends;
// the channel gets the error that stopped it.
func keepWriting(ctx context.Context, j journal.Journal, p *Pen) (shutOut func(), result <-chan error, err error) {
	const warm, few = 5, 100
	busy, out, stopped := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		for i, more := 0, 0; more < few; i++ {
			if i == warm {
				close(busy)
			}
			if err := p.Append(ctx, j, Records(1, 64)...); err != nil {
				stopped <- err
				return
			}
			select {
			case <-out:
				more++
			default:
			}
		}
		stopped <- errWritesOn
	}()
	select {
	case <-busy:
		return func() { close(out) }, stopped, nil
	case err := <-stopped:
		return nil, nil, fmt.Errorf("append: %w", err)
	}
}

// raceFences asks for fences at once and returns what each was told.
func raceFences(ctx context.Context, handles []journal.Journal, n int, ask func(i int) (journal.Epoch, string)) ([]journal.Position, []error) {
	positions, errs := make([]journal.Position, n), make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			epoch, owner := ask(i)
			positions[i], errs[i] = handles[i%len(handles)].Fence(ctx, epoch, owner)
		})
	}
	close(start)
	wg.Wait()
	return positions, errs
}

func concurrentFences(ctx context.Context, s *scene) error {
	const rounds, owners = 5, 16
	handles := s.handles(4)
	p := NewPen("a")
	if err := p.fill(ctx, s.j, 1); err != nil {
		return err
	}
	for round := range rounds {
		epoch := journal.Epoch(round + 2)
		name := func(i int) string { return fmt.Sprintf("owner-%d", i) }
		positions, errs := raceFences(ctx, handles, owners, func(i int) (journal.Epoch, string) { return epoch, name(i) })
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner >= 0:
				return fmt.Errorf("epoch %d was opened by %q at %d and by %q at %d", epoch, name(winner), positions[winner], name(i), positions[i])
			case err == nil:
				winner = i
			case !errors.Is(err, journal.ErrFenced):
				return fmt.Errorf("fence epoch %d for %q, taken by another: err = %v, want %v", epoch, name(i), err, journal.ErrFenced)
			}
		}
		if winner < 0 {
			return fmt.Errorf("none of %d owners could open epoch %d, the last one got: %v", owners, epoch, errs[owners-1])
		}
		p.owner = name(winner)
		if err := p.Take(journal.Entry{Pos: positions[winner], Data: journal.AppendFence(nil, epoch, p.owner)}); err != nil {
			return err
		}
		if err := wantEntries(ctx, s.j, 0, p.Entries()); err != nil {
			return err
		}
	}
	return p.Append(ctx, s.j, Records(1, 8)...)
}

// concurrentEpochs opens epochs 2 to 17 at once: some are refused, and those
// that are not are in the journal, in order.
func concurrentEpochs(ctx context.Context, s *scene) error {
	const n = 16
	p := NewPen("a")
	if err := p.fill(ctx, s.j, 1); err != nil {
		return err
	}
	ask := func(i int) (journal.Epoch, string) { return journal.Epoch(i + 2), fmt.Sprintf("owner-%d", i) }
	positions, errs := raceFences(ctx, s.handles(4), n, ask)
	for i, err := range errs {
		epoch, owner := ask(i)
		if err == nil {
			if err := p.Take(journal.Entry{Pos: positions[i], Data: journal.AppendFence(nil, epoch, owner)}); err != nil {
				return err
			}
		} else if err := wantError(fmt.Sprintf("fence epoch %d", epoch), err, journal.ErrFenced); err != nil {
			return err
		}
	}
	if errs[n-1] != nil {
		return fmt.Errorf("fence the largest epoch: %w", errs[n-1])
	}
	if err := increasing(p.Entries()); err != nil {
		return fmt.Errorf("fences in the order of their epochs: %w", err)
	}
	return wantEntries(ctx, s.j, 0, p.Entries())
}

func impossibleFence(ctx context.Context, s *scene) error {
	for _, f := range []journal.Fence{
		{Epoch: 0, Owner: "a"},
		{Epoch: 1, Owner: ""},
		{Epoch: 1, Owner: strings.Repeat("a", journal.MaxOwner+1)},
	} {
		if pos, err := s.j.Fence(ctx, f.Epoch, f.Owner); err == nil {
			return fmt.Errorf("fence epoch %d for an owner of %d bytes: stored at %d, want an error", f.Epoch, len(f.Owner), pos)
		}
	}
	if err := wantEntries(ctx, s.j, 0, nil); err != nil {
		return err
	}
	return NewPen(strings.Repeat("a", journal.MaxOwner)).Fence(ctx, s.j, 1)
}

func fenceEndedContext(ctx context.Context, s *scene) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	at, unsure := s.j.Fence(ended, 1, "a")
	p := NewPen("a")
	if err := p.Fence(ctx, s.j, 1); err != nil {
		return fmt.Errorf("after a fence with an ended context (%v): %w", unsure, err)
	}
	if unsure == nil && at != p.Cursor().Pos {
		return fmt.Errorf("fence with an ended context was acknowledged at %d, the fence is at %d", at, p.Cursor().Pos)
	}
	if err := p.Append(ctx, s.j, Records(1, 8)...); err != nil {
		return err
	}
	return wantEntries(ctx, s.j, 0, p.Entries())
}
