// Package replay drives the live records of a journal into a sink, a batch at a
// time, each acknowledged before the next, and keeps account of how far it came.
//
// A [Follower] reads a journal and applies each live batch to its [Sink]; the
// same loop serves a standby that follows for ever and a replay that ends
// somewhere. A [Meter] holds the progress: one consistent value that anybody may
// read at any time without slowing the loop, with the tail of the journal
// sampled four times a second.
//
// # What this package does not do
//
// It never appends, and it never skips a live record: filters are for viewing
// and belong to the viewer.
package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"understudy.dev/journal"
)

// A Sink receives the live batches of a journal in order.
type Sink interface {
	// Apply takes one batch; returning nil acknowledges all its records. records
	// are valid during the call only. An error stops the replay; it is not called
	// again.
	Apply(ctx context.Context, b *journal.Batch, records []journal.Record) error
}

// SinkFunc is a function as a Sink.
type SinkFunc func(ctx context.Context, b *journal.Batch, records []journal.Record) error

// Apply calls f.
func (f SinkFunc) Apply(ctx context.Context, b *journal.Batch, records []journal.Record) error {
	return f(ctx, b, records)
}

// Each makes a Sink of a function that takes one record at a time.
func Each(f func(ctx context.Context, r *journal.Record) error) Sink {
	return SinkFunc(func(ctx context.Context, _ *journal.Batch, records []journal.Record) error {
		for i := range records {
			if err := f(ctx, &records[i]); err != nil {
				return fmt.Errorf("sink at seq %d: %w", records[i].Seq, err)
			}
		}
		return nil
	})
}

// A Follower applies what a Reader reads. It is for one goroutine.
type Follower struct {
	reader  *journal.Reader
	sink    Sink
	meter   *Meter
	to      journal.Seq
	records []journal.Record
	rest    []journal.Record // of item's batch, beyond the Seq that RunTo ended at
	item    journal.Item
	stopped error // of the sink, which is not called again
}

// NewFollower returns a follower that feeds sink from reader, which it closes in
// Close, and tells meter, which may be nil.
func NewFollower(reader *journal.Reader, sink Sink, meter *Meter) *Follower {
	return &Follower{reader: reader, sink: sink, meter: meter}
}

// Close stops the reader.
func (f *Follower) Close() { f.reader.Close() }

// Wake makes the reader try again at once if it is waiting to.
func (f *Follower) Wake() { f.reader.Wake() }

// Cursor returns the place after the last entry applied or passed over.
//
// After a RunTo that ended within a batch it stands after that batch, whose rest
// the next Step applies.
func (f *Follower) Cursor() journal.Cursor { return f.reader.Cursor() }

// Step waits for the next item and applies it if it is a live batch. The item is
// valid until the next Step. After ctx ended nothing was taken and Step may be
// called again. Any other error is final, and the sink is not called again.
func (f *Follower) Step(ctx context.Context) (*journal.Item, error) {
	if f.stopped != nil {
		return nil, f.stopped
	}
	it, err := f.step(ctx)
	if err != nil && (ctx.Err() == nil || !errors.Is(err, context.Cause(ctx))) {
		f.stopped = err
	}
	return it, err
}

func (f *Follower) step(ctx context.Context) (*journal.Item, error) {
	it := &f.item
	if len(f.rest) > 0 {
		return it, f.applyRest(ctx)
	}
	if err := f.reader.Next(ctx, it); err != nil {
		return nil, err
	}
	if it.Verdict == journal.Live {
		if err := f.apply(ctx, it); err != nil {
			return nil, err
		}
	}
	if f.meter != nil {
		f.meter.took(it)
	}
	return it, nil
}

// apply feeds one live batch to the sink. The batch is taken: ctx is not what
// may stop the sink half way.
func (f *Follower) apply(ctx context.Context, it *journal.Item) error {
	var err error
	if f.records, err = it.Batch.Records(f.records[:0]); err != nil {
		return f.reader.Corrupt(it, err)
	}
	now := f.records
	if f.to != 0 && it.Batch.Last() > f.to {
		now, f.rest = f.records[:f.to-it.Batch.First+1], f.records[f.to-it.Batch.First+1:]
		it.Batch.Count = len(now)
		it.Cursor.Seq, it.Cursor.Time = f.to, now[len(now)-1].Time
	}
	return f.hand(ctx, now)
}

// applyRest goes on where a RunTo ended within a batch.
func (f *Follower) applyRest(ctx context.Context) error {
	it, rest := &f.item, f.rest
	if n := f.to - rest[0].Seq + 1; f.to >= rest[0].Seq && n < journal.Seq(len(rest)) {
		rest = rest[:n]
	}
	f.rest = f.rest[len(rest):]
	it.Batch.First, it.Batch.Count, it.Batch.Digest = rest[0].Seq, len(rest), journal.Digest{}
	it.Cursor.Seq, it.Cursor.Time = it.Batch.Last(), rest[len(rest)-1].Time
	if err := f.hand(ctx, rest); err != nil {
		return err
	}
	if f.meter != nil {
		f.meter.took(it)
	}
	return nil
}

// hand gives records of the item's batch to the sink.
func (f *Follower) hand(ctx context.Context, records []journal.Record) error {
	if err := f.sink.Apply(context.WithoutCancel(ctx), &f.item.Batch, records); err != nil {
		return fmt.Errorf("apply seq %d to %d: %w", f.item.Batch.First, f.item.Batch.Last(), err)
	}
	return nil
}

// applied returns the last Seq that the sink was given.
func (f *Follower) applied() journal.Seq {
	if len(f.rest) > 0 {
		return f.rest[0].Seq - 1
	}
	return f.Cursor().Seq
}

// ErrEnd is returned by RunTo of a journal that ended before the target.
var ErrEnd = errors.New("replay: the journal ends before")

// RunTo applies everything up to and including Seq to, or to the end that the
// journal had when sampled if to is 0. It may end within a batch; the next Step
// or RunTo goes on with its rest.
func (f *Follower) RunTo(ctx context.Context, j journal.Journal, to journal.Seq) error {
	end, err := journal.SampleEnd(ctx, j)
	if err != nil {
		return fmt.Errorf("sample the end: %w", err)
	}
	if to != 0 && end.Seq < to {
		return fmt.Errorf("%w seq %d: its last is %d", ErrEnd, to, end.Seq)
	}
	f.to = to
	defer func() { f.to = 0 }()
	for (f.Cursor().Pos < end.Pos || len(f.rest) > 0) && (to == 0 || f.applied() < to) {
		if _, err := f.Step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Silent reports whether the backend has not been heard from for d.
func (p *Progress) Silent(now time.Time, d time.Duration) bool {
	return now.Sub(p.Heard) > d
}
