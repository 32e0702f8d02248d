package filejournal

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"understudy.dev/journal"
)

// indexEvery is the least distance in bytes between two points of an index.
const indexEvery = 64 << 10

// opened is a fence that opened an epoch, and where it ends.
type opened struct {
	journal.Fence
	pos journal.Position
}

// A point is a live batch that reading can begin at. It has records, so that it
// states its last one's time itself.
type point struct {
	start, end journal.Position // of the batch
	seq        journal.Seq      // its last
	time       journal.Time     // its end
	fence      journal.Position // of its epoch
}

// A tail is what must be known at the end of the journal in order to append.
//
// Its cursor has no hashes: hashing is the business of those who read and write
// records. The chain is computed when it is needed, from base on: every live
// batch states the chain before it, so that is one batch back as a rule. So a
// segment's header holds what the writer stated; whoever reads across from the
// segment before it can compare.
type tail struct {
	cursor journal.Cursor // without Chain and Before
	base   journal.Cursor // a place at or before the cursor whose Chain is known; Before too if it is the cursor's
	fences []opened       // those known, by position and epoch
	points []point        // of the newest segment

	dec   journal.Decoder
	batch journal.Batch
}

// startSegment makes c, the cursor at the start of a segment, the place to go on
// from.
func (t *tail) startSegment(c journal.Cursor) {
	t.cursor, t.base = c, c
	t.points = t.points[:0]
	if c.Epoch > t.open(c.Pos).Epoch {
		t.fences = append(t.fences, opened{Fence: journal.Fence{Epoch: c.Epoch, Owner: c.Owner}, pos: c.Fence})
	}
}

// open returns the largest fence at or before pos that is known.
func (t *tail) open(pos journal.Position) opened {
	for _, f := range slices.Backward(t.fences) {
		if f.pos <= pos {
			return f
		}
	}
	return opened{}
}

// take moves the tail over the entry from start to end. Its error is one of the
// Err values of a CorruptError.
func (t *tail) take(start, end journal.Position, data []byte) error {
	if journal.IsFence(data) {
		f, err := journal.DecodeFence(data)
		if err != nil {
			return err
		}
		t.passFence(start, end, f)
		return nil
	}
	if err := t.dec.Batch(data, &t.batch); err != nil {
		return err
	}
	t.passBatch(start, end, &t.batch)
	t.batch = journal.Batch{} // it refers to data
	return nil
}

func (t *tail) passFence(start, end journal.Position, f journal.Fence) {
	t.step(start, end)
	if f.Epoch > t.cursor.Epoch {
		t.cursor.Epoch, t.cursor.Owner, t.cursor.Fence = f.Epoch, f.Owner, end
		t.fences = append(t.fences, opened{Fence: f, pos: end})
	}
}

func (t *tail) passBatch(start, end journal.Position, b *journal.Batch) {
	t.step(start, end)
	c := &t.cursor
	if b.Epoch != c.Epoch || b.Owner != c.Owner {
		return // dead
	}
	t.base = journal.Cursor{Pos: start, Chain: b.Prev}
	c.Seq = b.Last()
	if b.Count == 0 {
		return
	}
	c.Time = b.End
	if n := len(t.points); n == 0 || start-t.points[n-1].start >= indexEvery {
		t.points = append(t.points, point{start: start, end: end, seq: c.Seq, time: c.Time, fence: c.Fence})
	}
}

func (t *tail) step(start, end journal.Position) { t.cursor.Prev, t.cursor.Pos = start, end }

// complete returns the cursor with its hashes, folding what r reads from the
// base on. generation and end are those of the journal.
func (t *tail) complete(r *reader, generation uint16, end journal.Position) (journal.Cursor, error) {
	c := t.cursor
	c.Chain, c.Before = t.base.Chain, t.base.Before
	for r.seek(t.base.Pos); r.at < c.Pos; {
		e, err := r.next(generation, end)
		if err != nil {
			return c, fmt.Errorf("compute chain: %w", err)
		}
		c.Before, c.Chain = c.Chain, link(c.Chain, e.Data)
	}
	return c, nil
}

// link returns H(before || data), a step of the chain.
func link(before journal.Hash, data []byte) journal.Hash {
	h := sha256.New()
	h.Write(before[:])
	h.Write(data)
	return journal.Hash(h.Sum(nil))
}
