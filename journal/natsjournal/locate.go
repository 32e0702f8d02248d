package natsjournal

import (
	"context"
	"fmt"
	"sort"
	"time"

	"understudy.dev/journal"
)

// Locate implements journal.Locator. It reads all fences, which trimming keeps,
// and then searches the batches by halves: each live one states its numbers, its
// times and the chain before it. The cursor stands after the last live batch with
// records before the target; if there is none, before the oldest live batch that
// is left, or, in a stream that was not trimmed, at the start.
//
// In a cursor before the oldest batch, Prev is Pos: the entry there is gone, or the
// chain before it is, so that a Reader goes on after it without meeting it again.
func (j *Journal) Locate(ctx context.Context, target journal.Target) (journal.Cursor, error) {
	c, err := j.locate(ctx, target)
	if err != nil {
		return journal.Cursor{}, fmt.Errorf("locate seq %d, time %d in stream %s: %w", target.Seq, target.Time, j.cfg.Stream, err)
	}
	return c, nil
}

func (j *Journal) locate(ctx context.Context, target journal.Target) (journal.Cursor, error) {
	if err := j.usable(ctx); err != nil {
		return journal.Cursor{}, err
	}
	ctx, done := j.within(ctx)
	defer done()
	state, err := j.state(ctx)
	if err != nil || state.last == 0 {
		return journal.Cursor{}, err
	}
	fences, err := j.fences(ctx)
	if err != nil {
		return journal.Cursor{}, err
	}
	s := search{Journal: j, ctx: ctx, fences: fences}
	var last batchAt
	for low, high := journal.Position(1), state.last+1; low < high; {
		middle := low + (high-low)/2
		b, found, err := s.from(middle, high, true)
		switch {
		case err != nil:
			return journal.Cursor{}, err
		case found && before(&b.Batch, target):
			last, low = b, b.pos+1
		default:
			high = middle
		}
	}
	if last.pos > 0 {
		return last.after(), nil
	}
	first, err := j.first(ctx, state)
	if err != nil || first == 0 {
		return journal.Cursor{}, err
	}
	oldest, found, err := s.from(1, state.last+1, false)
	if err != nil || !found {
		return journal.Cursor{}, err // without a batch nothing can be followed: reading from the start says so
	}
	record := oldest
	if record.Count == 0 {
		if record, _, err = s.from(oldest.pos, state.last+1, true); err != nil {
			return journal.Cursor{}, err
		}
	}
	return oldest.before(record.Time), nil
}

// before reports whether the last record of b lies before the target.
func before(b *journal.Batch, target journal.Target) bool {
	if target.Seq != 0 {
		return b.Last() < target.Seq
	}
	return b.End < target.Time
}

// fences returns all fences that opened an epoch, in order. A replica may lag, so
// they are read until the leader's newest is among them.
func (j *Journal) fences(ctx context.Context) ([]fenceAt, error) {
	newest, err := j.newestFence(ctx)
	if err != nil {
		return nil, err
	}
	var open []fenceAt
	at, heard := journal.Position(0), time.Now()
	for at < newest.pos {
		read := at
		err := j.each(ctx, at, readCount, j.subjects.epoch, func(m message) (bool, error) {
			f, err := j.decodeFence(m)
			if at = m.pos; err == nil && (len(open) == 0 || f.Epoch > open[len(open)-1].Epoch) {
				open = append(open, f)
			}
			return true, err
		})
		switch {
		case err != nil:
			return nil, err
		case at > read:
			heard = time.Now()
		case time.Since(heard) > silence:
			return nil, fmt.Errorf("read fences after %d: %w", at, journal.ErrSilent)
		default:
			if err := wait(ctx, pauseForFence); err != nil {
				return nil, err
			}
		}
	}
	return open, nil
}

// A batchAt is a live batch, where it lies, and the fence of its epoch. The batch
// refers to bytes of its own.
type batchAt struct {
	journal.Batch
	pos   journal.Position
	fence journal.Position
}

func (b *batchAt) after() journal.Cursor { return b.After(b.pos-1, b.pos, b.fence) }

func (b *batchAt) before(next journal.Time) journal.Cursor { return b.Before(b.pos-1, b.fence, next) }

// A search looks at batches.
type search struct {
	*Journal
	ctx    context.Context
	fences []fenceAt
	dec    journal.Decoder
}

// from returns the first live batch in [low, high), with records if wanted.
func (s *search) from(low, high journal.Position, records bool) (b batchAt, found bool, err error) {
	for count := 1; low < high; count = min(2*count, readCount) {
		begin := low
		err := s.each(s.ctx, low-1, count, s.subjects.data, func(m message) (bool, error) {
			if low = m.pos + 1; m.pos >= high {
				return false, nil
			}
			if err := s.dec.Batch(m.data, &b.Batch); err != nil {
				return false, &journal.CorruptError{Source: s.cfg.Stream, Pos: m.pos, Offset: -1, Err: err}
			}
			open := s.open(m.pos)
			b.pos, b.fence = m.pos, open.pos
			found = open.Epoch == b.Epoch && open.Owner == b.Owner && (b.Count > 0 || !records)
			return !found, nil
		})
		if err != nil || found || low == begin {
			return b, found, err
		}
	}
	return b, false, nil
}

// each calls f with up to count messages of a subject after a position, until f
// returns false.
func (j *Journal) each(ctx context.Context, after journal.Position, count int, subject string, f func(message) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, silence, journal.ErrSilent)
	defer cancel()
	for m, err := range j.directOf(ctx, after, count, readBytes, subject) {
		if err != nil {
			return fmt.Errorf("read after %d: %w", after, err)
		}
		if more, err := f(m); err != nil || !more {
			return err
		}
	}
	if ctx.Err() != nil { // the library ends silently then
		return fmt.Errorf("read after %d: %w", after, context.Cause(ctx))
	}
	return nil
}

// open returns the fence that is open at a position.
func (s *search) open(pos journal.Position) fenceAt {
	after := sort.Search(len(s.fences), func(i int) bool { return s.fences[i].pos > pos })
	if after == 0 {
		return fenceAt{}
	}
	return s.fences[after-1]
}
