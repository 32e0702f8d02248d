package journaltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"understudy.dev/journal"
)

var appendScenarios = []scenario{
	{
		name:   "append after the end",
		clause: "Append stores batch, an encoded batch, as the entry after prev and returns its position.",
		check: func(ctx context.Context, s *scene) error {
			p := NewPen("a")
			if err := p.fill(ctx, s.j, 12); err != nil {
				return err
			}
			if err := increasing(p.Entries()); err != nil {
				return err
			}
			return wantEntries(ctx, s.j, 0, p.Entries())
		},
	},
	{
		name:   "append elsewhere",
		clause: "It returns an error matching ErrConflict if the journal does not end at prev",
		check:  appendElsewhere,
	},
	{
		name:   "append to what is no longer empty",
		clause: "prev is 0 for an empty journal.",
		check: func(ctx context.Context, s *scene) error {
			p := NewPen("a")
			if err := p.Fence(ctx, s.j, 1); err != nil {
				return err
			}
			_, err := s.j.Append(ctx, 1, 0, Batch(p.Cursor(), Records(1, 8)...))
			if err := wantError("append after 0 behind a fence", err, journal.ErrConflict); err != nil {
				return err
			}
			return wantEntries(ctx, s.j, 0, p.Entries())
		},
	},
	{
		name:   "stale epoch, same handle",
		clause: "From then on every Append of a smaller epoch that names this fence or a later entry as prev fails with ErrFenced",
		check: func(ctx context.Context, s *scene) error {
			return staleEpoch(ctx, s.j, func() (journal.Journal, error) { return s.j, nil })
		},
	},
	{
		name:   "stale epoch, another handle",
		clause: "ErrFenced if the handle knows of a larger fence than epoch at or before prev",
		check: func(ctx context.Context, s *scene) error {
			return staleEpoch(ctx, s.j, s.another)
		},
	},
	{
		name:   "stale epoch, reopened handle",
		clause: "ErrFenced if the handle knows of a larger fence than epoch at or before prev",
		check: func(ctx context.Context, s *scene) error {
			return staleEpoch(ctx, s.j, func() (journal.Journal, error) {
				if s.cfg.Reopen == nil {
					return s.another()
				}
				if err := s.j.Close(); err != nil {
					return nil, fmt.Errorf("close: %w", err)
				}
				return s.another()
			})
		},
	},
	{
		name:   "another owner's append",
		clause: "or of another owner's; then this call wrote nothing.",
		check:  foreignAppend,
	},
	{
		name:   "batch is not kept",
		clause: "Append neither keeps nor changes batch after it returns.",
		check:  batchNotKept,
	},
	{
		name:   "concurrent appends",
		clause: "Its methods may be called concurrently.",
		check:  concurrentAppends,
	},
	{
		name:   "too large",
		clause: "ErrTooLarge, ErrReadOnly and ErrFull also say that nothing was written.",
		check:  tooLarge,
	},
	{
		name:   "append with an ended context",
		clause: "After any other error the outcome is unknown: the batch may be there, or may yet appear.",
		check:  appendEndedContext,
	},
	{
		name:   "acknowledged entries survive a reopening",
		clause: "It returns nil only when the batch is stored as durably as Capabilities says.",
		check:  survivesReopening,
	},
}

// increasing checks that positions grow and start above 0.
func increasing(entries []journal.Entry) error {
	last := journal.Position(0)
	for i, e := range entries {
		if e.Pos <= last {
			return fmt.Errorf("entry %d is at position %d, the one before at %d", i+1, e.Pos, last)
		}
		last = e.Pos
	}
	return nil
}

func appendElsewhere(ctx context.Context, s *scene) error {
	p := NewPen("a")
	if err := p.fill(ctx, s.j, 5); err != nil {
		return err
	}
	end := p.Cursor().Pos
	prevs := []journal.Position{end + 1, end + 1000}
	for _, e := range p.Entries()[:len(p.Entries())-1] {
		prevs = append(prevs, e.Pos)
	}
	for i, j := range s.handles(2) {
		for _, prev := range prevs {
			_, err := j.Append(ctx, 1, prev, Batch(p.Cursor(), Records(1, 8)...))
			if err := wantError(fmt.Sprintf("append after %d on handle %d, the end is %d", prev, i+1, end), err, journal.ErrConflict); err != nil {
				return err
			}
		}
	}
	if err := wantEntries(ctx, s.j, 0, p.Entries()); err != nil {
		return err
	}
	return p.Append(ctx, s.j, Records(1, 8)...)
}

// staleEpoch fences an epoch away and then appends in it, once naming the fence
// and once a later entry as prev, on a handle that has read so far.
func staleEpoch(ctx context.Context, j journal.Journal, handle func() (journal.Journal, error)) error {
	p := NewPen("a")
	if err := p.fill(ctx, j, 2); err != nil {
		return err
	}
	next := NewPen("b")
	for _, e := range p.Entries() {
		if err := next.Take(e); err != nil {
			return err
		}
	}
	if err := next.Fence(ctx, j, 5); err != nil {
		return err
	}
	for i, where := range []string{"naming the fence", "naming a later entry"} {
		if i == 1 {
			if err := next.Append(ctx, j, Records(2, 8)...); err != nil {
				return err
			}
		}
		stale, err := handle()
		if err != nil {
			return err
		}
		if err := refusesStale(ctx, stale, next, where); err != nil {
			return err
		}
		j = stale
	}
	return nil
}

// refusesStale appends to j in all epochs below 5, with the right prev.
func refusesStale(ctx context.Context, j journal.Journal, p *Pen, where string) error {
	if err := wantEntries(ctx, j, 0, p.Entries()); err != nil {
		return err
	}
	c := p.Cursor()
	for _, epoch := range []journal.Epoch{1, 4} {
		for _, owner := range []string{"a", "b"} {
			_, err := j.Append(ctx, epoch, c.Pos, Batch(as(c, epoch, owner), Records(1, 8)...))
			call := fmt.Sprintf("append in epoch %d by %q, %s of epoch 5 by %q", epoch, owner, where, c.Owner)
			if err := wantError(call, err, journal.ErrFenced); err != nil {
				return err
			}
		}
	}
	return wantEntries(ctx, j, 0, p.Entries())
}

func foreignAppend(ctx context.Context, s *scene) error {
	p := NewPen("a")
	if err := p.fill(ctx, s.j, 2); err != nil {
		return err
	}
	for i, j := range s.handles(2) {
		if err := wantEntries(ctx, j, 0, p.Entries()); err != nil {
			return err
		}
		c := p.Cursor()
		_, err := j.Append(ctx, 1, c.Pos, Batch(as(c, 1, "b"), Records(1, 8)...))
		if err := wantError(fmt.Sprintf(`append by "b" in the epoch of "a" on handle %d`, i+1), err, journal.ErrFenced); err != nil {
			return err
		}
	}
	if err := wantEntries(ctx, s.j, 0, p.Entries()); err != nil {
		return err
	}
	return p.Append(ctx, s.j, Records(1, 8)...)
}

func batchNotKept(ctx context.Context, s *scene) error {
	p := NewPen("a")
	if err := p.Fence(ctx, s.j, 1); err != nil {
		return err
	}
	for i := range 5 {
		batch := Batch(as(p.Cursor(), 1, "a"), Records(3, 100)...)
		given := bytes.Clone(batch)
		pos, err := s.j.Append(ctx, 1, p.Cursor().Pos, batch)
		if err != nil {
			return fmt.Errorf("append batch %d: %w", i+1, err)
		}
		if !bytes.Equal(batch, given) {
			return fmt.Errorf("append changed the bytes of batch %d", i+1)
		}
		for k := range batch {
			batch[k] = 0xee
		}
		if err := p.Take(journal.Entry{Pos: pos, Data: given}); err != nil {
			return err
		}
	}
	return wantEntries(ctx, s.j, 0, p.Entries())
}

// concurrentAppends lets several writers append different batches at the same
// prev: one is stored, the others get a conflict.
func concurrentAppends(ctx context.Context, s *scene) error {
	const rounds, writers = 8, 8
	p := NewPen("a")
	if err := p.Fence(ctx, s.j, 1); err != nil {
		return err
	}
	handles := s.handles(2)
	for round := range rounds {
		c := p.Cursor()
		batches, errs, positions := make([][]byte, writers), make([]error, writers), make([]journal.Position, writers)
		var wg sync.WaitGroup
		for w := range writers {
			batches[w] = Batch(c, Records(1, w+1)...)
			wg.Go(func() {
				positions[w], errs[w] = handles[w%2].Append(ctx, 1, c.Pos, batches[w])
			})
		}
		wg.Wait()
		winner := -1
		for w, err := range errs {
			switch {
			case err == nil && winner >= 0:
				return fmt.Errorf("round %d: appends %d and %d after %d were both acknowledged, at %d and %d",
					round, winner, w, c.Pos, positions[winner], positions[w])
			case err == nil:
				winner = w
			case !errors.Is(err, journal.ErrConflict):
				return fmt.Errorf("round %d: append %d, overtaken by another: err = %v, want %v", round, w, err, journal.ErrConflict)
			}
		}
		if winner < 0 {
			return fmt.Errorf("round %d: none of %d appends after %d was acknowledged, the last one with: %v", round, writers, c.Pos, errs[writers-1])
		}
		if err := p.Take(journal.Entry{Pos: positions[winner], Data: batches[winner]}); err != nil {
			return err
		}
	}
	for _, j := range handles {
		if err := wantEntries(ctx, j, 0, p.Entries()); err != nil {
			return err
		}
	}
	return nil
}

// largestTried bounds the memory that the case about MaxBatch takes.
const largestTried = 64 << 20

func tooLarge(ctx context.Context, s *scene) error {
	limit := journal.Describe(s.j).MaxBatch
	if limit == 0 || limit > largestTried {
		return fmt.Errorf("a limit of %d bytes is not tried: %w", limit, errSkip)
	}
	p := NewPen("a")
	if err := p.Fence(ctx, s.j, 1); err != nil {
		return err
	}
	c := p.Cursor()
	_, err := s.j.Append(ctx, 1, c.Pos, sized(c, limit+1))
	if err := wantError(fmt.Sprintf("append a batch of %d bytes, the limit is %d", limit+1, limit), err, journal.ErrTooLarge); err != nil {
		return err
	}
	if err := wantEntries(ctx, s.j, 0, p.Entries()); err != nil {
		return err
	}
	batch := sized(c, limit)
	pos, err := s.j.Append(ctx, 1, c.Pos, batch)
	if err != nil {
		return fmt.Errorf("append a batch of %d bytes, the limit: %w", limit, err)
	}
	return wantEntries(ctx, s.j, c.Pos, []journal.Entry{{Pos: pos, Data: batch}})
}

// sized returns a batch of exactly sizeBytes.
func sized(c journal.Cursor, sizeBytes int) []byte {
	data := make([]byte, sizeBytes-len(Batch(c, Records(1, 0)...)))
	for {
		batch := Batch(c, journal.Record{Kind: journal.KindCommand, Name: "test", Version: 1, Data: data})
		if len(batch) <= sizeBytes {
			return batch
		}
		data = data[:len(data)-(len(batch)-sizeBytes)] // the length of data takes some bytes itself
	}
}

// appendEndedContext appends with a context that has ended. Whatever the call
// says must be true; afterwards the journal works on.
func appendEndedContext(ctx context.Context, s *scene) error {
	p := NewPen("a")
	if err := p.fill(ctx, s.j, 1); err != nil {
		return err
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	c := p.Cursor()
	batch := Batch(c, Records(1, 8)...)
	pos, err := s.j.Append(ended, 1, c.Pos, batch)
	if outcome := journal.OutcomeOf(err); outcome == journal.Done {
		if err := p.Take(journal.Entry{Pos: pos, Data: batch}); err != nil {
			return err
		}
	} else if outcome == journal.NotDone {
		return fmt.Errorf("append with an ended context: err = %v, want nil or an unknown outcome", err)
	}
	// The same bytes again at the same prev resolve an unknown outcome.
	if p.Cursor().Pos == c.Pos {
		again, err := s.j.Append(ctx, 1, c.Pos, batch)
		if errors.Is(err, journal.ErrConflict) {
			got, err := drain(ctx, s.j, c.Pos)
			if err != nil {
				return err
			}
			if len(got) != 1 || !bytes.Equal(got[0].Data, batch) {
				return fmt.Errorf("append again after %d: conflict, and then %d entries are there, want that batch only", c.Pos, len(got))
			}
			again = got[0].Pos
		} else if err != nil {
			return fmt.Errorf("append again after an unknown outcome: %w", err)
		}
		if err := p.Take(journal.Entry{Pos: again, Data: batch}); err != nil {
			return err
		}
	}
	if err := p.Append(ctx, s.j, Records(1, 8)...); err != nil {
		return err
	}
	return wantEntries(ctx, s.j, 0, p.Entries())
}

func survivesReopening(ctx context.Context, s *scene) error {
	p := NewPen("a")
	if err := p.fill(ctx, s.j, 20); err != nil {
		return err
	}
	for round := range 3 {
		if err := s.j.Close(); err != nil {
			return fmt.Errorf("close: %w", err)
		}
		var err error
		if s.j, err = s.another(); err != nil {
			return err
		}
		if err := wantEntries(ctx, s.j, 0, p.Entries()); err != nil {
			return fmt.Errorf("reopened %d times: %w", round+1, err)
		}
		if err := p.Append(ctx, s.j, Records(1, math.MaxUint8)...); err != nil {
			return fmt.Errorf("reopened %d times: %w", round+1, err)
		}
	}
	return nil
}
