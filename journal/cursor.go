package journal

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
)

// A Cursor is a place in a journal together with what must be known there to
// check what comes next. The zero Cursor stands before the first entry. It is a
// plain value: copy it, store it, go on from it.
type Cursor struct {
	Pos    Position // the last entry taken in
	Seq    Seq      // the last live record
	Time   Time     // its time
	Chain  Hash     // the chain up to and including Pos
	Epoch  Epoch    // the open epoch; 0 before the first fence
	Owner  string   // who holds it
	Fence  Position // where it was opened
	Prev   Position // the entry before Pos: following from here meets Pos again
	Before Hash     // the chain up to Prev
}

// Verdict is what an entry turned out to be.
type Verdict uint8

// The verdicts.
const (
	Live      Verdict = iota + 1 // a batch of the open epoch by its owner
	Dead                         // a batch of a smaller epoch after a larger fence; skipped
	Opened                       // a fence that opened a larger epoch
	Void                         // a fence not above the open epoch; changes nothing
	Heartbeat                    // no entry: the backend was heard from
)

// String returns the verdict's name.
func (v Verdict) String() string {
	return [...]string{"none", "live", "dead", "opened", "void", "heartbeat"}[v]
}

// After returns the cursor after a live batch with records, which states itself what
// came before it: the batch lies at pos behind the entry at prev, and fence opened its
// epoch.
func (b *Batch) After(prev, pos, fence Position) Cursor {
	h := sha256.New()
	h.Write(b.Prev[:])
	h.Write(b.Raw)
	return Cursor{
		Pos: pos, Seq: b.Last(), Time: b.End, Chain: Hash(h.Sum(nil)),
		Epoch: b.Epoch, Owner: b.Owner, Fence: fence, Prev: prev, Before: b.Prev,
	}
}

// Before returns the cursor before a live batch, at prev, in the epoch that fence
// opened. When the record before it was made is not known, only that it was earlier
// than next, the time of the record after.
func (b *Batch) Before(prev, fence Position, next Time) Cursor {
	return Cursor{
		Pos: prev, Seq: b.First - 1, Time: max(next, 1) - 1, Chain: b.Prev,
		Epoch: b.Epoch, Owner: b.Owner, Fence: fence, Prev: prev,
	}
}

// A Tracker moves a Cursor along a journal entry by entry and decides what each
// one is. Reader and Writer share it, so liveness is decided in one place. It
// is for one goroutine.
type Tracker struct {
	Cursor Cursor
	// SkipChain leaves the chain unchecked and uncomputed: for measuring and for
	// display. Cursors that come from it must not be continued from otherwise.
	SkipChain bool

	dec Decoder
	sum hash.Hash
	buf []byte
}

// Take takes in the next entry. For a batch it fills b, live or dead. On an
// error, a *CorruptError without Source, the cursor has not moved.
func (t *Tracker) Take(e Entry, b *Batch) (Verdict, Fence, error) {
	c := &t.Cursor
	if IsFence(e.Data) {
		f, err := DecodeFence(e.Data)
		if err != nil {
			return 0, f, t.corrupt(e.Pos, err)
		}
		t.step(e)
		if f.Epoch <= c.Epoch {
			return Void, f, nil
		}
		c.Epoch, c.Owner, c.Fence = f.Epoch, f.Owner, e.Pos
		return Opened, f, nil
	}
	if err := t.dec.Batch(e.Data, b); err != nil {
		return 0, Fence{}, t.corrupt(e.Pos, err)
	}
	if b.Epoch < c.Epoch {
		t.step(e)
		return Dead, Fence{}, nil
	}
	if err := t.live(b); err != nil {
		return 0, Fence{}, t.corrupt(e.Pos, err)
	}
	t.step(e)
	c.Seq = b.Last()
	if b.Count > 0 {
		c.Time = b.End
	}
	return Live, Fence{}, nil
}

// live checks that b, which is not of a smaller epoch, continues the cursor.
func (t *Tracker) live(b *Batch) error {
	c := &t.Cursor
	switch {
	case b.Epoch > c.Epoch:
		return fmt.Errorf("%w: batch of epoch %d by %s, the open one is %d", ErrEpoch, b.Epoch, b.Owner, c.Epoch)
	case b.Owner != c.Owner:
		return fmt.Errorf("%w: batch by %s, epoch %d belongs to %s", ErrWriter, b.Owner, c.Epoch, c.Owner)
	case !t.SkipChain && b.Prev != c.Chain:
		return fmt.Errorf("%w: stated %s, computed %s", ErrChain, b.Prev.Short(), c.Chain.Short())
	case b.First != c.Seq+1:
		return fmt.Errorf("%w: starts at seq %d, want %d", ErrGap, b.First, c.Seq+1)
	case b.Count > 0 && b.Time <= c.Time:
		return fmt.Errorf("%w: %v after %v", ErrTime, b.Time, c.Time)
	}
	return nil
}

// step moves the cursor over e and folds its bytes into the chain.
func (t *Tracker) step(e Entry) {
	c := &t.Cursor
	c.Prev, c.Before, c.Pos = c.Pos, c.Chain, e.Pos
	if !t.SkipChain {
		c.Chain = t.link(c.Chain, e.Data)
	}
}

// link returns H(before || data).
func (t *Tracker) link(before Hash, data []byte) Hash {
	if t.sum == nil {
		t.sum = sha256.New()
	}
	t.sum.Reset()
	t.sum.Write(before[:])
	t.sum.Write(data)
	t.buf = t.sum.Sum(t.buf[:0])
	return Hash(t.buf)
}

func (t *Tracker) corrupt(pos Position, err error) error {
	var c *CorruptError
	if errors.As(err, &c) {
		return err
	}
	return &CorruptError{Pos: pos, Seq: t.Cursor.Seq, Offset: -1, Err: err}
}
