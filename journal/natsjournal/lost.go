package natsjournal

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"understudy.dev/journal"
)

// checkEvery is how old the last look at the stream may be when something is
// written. A server that was purged still takes appends: the position of its end
// has not changed.
const checkEvery = time.Second

// A witness is what a handle knows to have been in the stream. Positions only
// grow, and trimming keeps what they stand for: every fence, and from the newest
// record on everything.
type witness struct {
	fence   atomic.Uint64 // position of the newest fence that was written or yielded; 0 if none
	batch   atomic.Uint64 // of the newest batch
	checked atomic.Int64  // when the stream was last held against it, in nanoseconds since since
	since   time.Time
	lost    atomic.Pointer[lostError] // nil until loss was found, which is final
}

// A lostError says that a stream lost what was read from it.
type lostError struct{ found string }

func (e *lostError) Error() string {
	return fmt.Sprintf("%v: %s: was the stream purged or restored while nodes ran? "+
		"stop all of them, and put back a backup or an export before any starts again", journal.ErrLost, e.found)
}

func (e *lostError) Unwrap() error { return journal.ErrLost }

// saw takes note of an entry.
func (w *witness) saw(pos journal.Position, entry []byte) {
	if journal.IsFence(entry) {
		raise(&w.fence, uint64(pos))
	} else {
		raise(&w.batch, uint64(pos))
	}
}

func raise(v *atomic.Uint64, to uint64) {
	for {
		if was := v.Load(); was >= to || v.CompareAndSwap(was, to) {
			return
		}
	}
}

// conclude remembers loss and returns it. What was found first stays.
func (w *witness) conclude(format string, args ...any) error {
	w.lost.CompareAndSwap(nil, &lostError{found: fmt.Sprintf(format, args...)})
	return w.lost.Load()
}

// err returns the loss that was found, or nil.
func (w *witness) err() error {
	if lost := w.lost.Load(); lost != nil {
		return lost
	}
	return nil
}

// due reports whether it is time to look at the stream again.
func (w *witness) due() bool {
	return time.Since(w.since)-time.Duration(w.checked.Load()) >= checkEvery
}

// missed reports loss that one answer of the stream's leader proves: it has, or
// had, everything that this handle knows of, and nothing of the kind that
// trimming keeps is left. An answer that ends before what the handle knows proves
// nothing: it may come from a server that was deposed.
func (w *witness) missed(s streamState) error {
	fence, batch := journal.Position(w.fence.Load()), journal.Position(w.batch.Load())
	switch {
	case s.last < max(fence, batch):
		return nil
	case fence > 0 && s.fences == 0:
		return w.conclude("the fence at position %d is gone and no other is left; %v", fence, s)
	case s.first > fence && fence > 0:
		return w.conclude("the fence at position %d is gone; %v", fence, s)
	case batch > 0 && s.batches == 0:
		return w.conclude("the batch at position %d is gone and no other is left; %v", batch, s)
	}
	return nil
}

// String says what a stream has.
func (s streamState) String() string {
	if s.first > s.last {
		return fmt.Sprintf("the stream is empty up to position %d", s.last)
	}
	return fmt.Sprintf("the stream has positions %d to %d", s.first, s.last)
}

// compare holds what a server said against what this handle knows. newest is the
// last fence that the server has: one that lies where the handle knows that there
// is none proves that the stream lost its end and was filled again. While it ends
// below what the handle knows, its followers and writers see that for themselves.
func (j *Journal) compare(s streamState, newest fenceAt) error {
	if err := j.seen.missed(s); err != nil {
		return err
	}
	if through, other := j.known.contradicts(newest); other && s.last >= through {
		return j.seen.conclude("the fence of epoch %d by %q lies at position %d, where another entry was acknowledged or read up to position %d",
			newest.Epoch, newest.Owner, newest.pos, through)
	}
	j.seen.checked.Store(int64(time.Since(j.seen.since)))
	return nil
}

// intact fails if loss was found, and looks for it if nobody has for checkEvery. It
// fails too if it cannot look: after an outage the stream may be another one.
func (j *Journal) intact(ctx context.Context) error {
	if err := j.seen.err(); err != nil || !j.seen.due() {
		return err
	}
	ctx, done := j.within(ctx)
	defer done()
	state, err := j.state(ctx)
	if err != nil {
		return fmt.Errorf("look at the stream first: %w", err)
	}
	newest, err := j.newestFence(ctx)
	if err != nil {
		return fmt.Errorf("look for the newest fence first: %w", err)
	}
	return j.compare(state, newest)
}
