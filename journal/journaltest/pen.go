package journaltest

import (
	"context"
	"fmt"
	"math"
	"testing"

	"understudy.dev/journal"
)

// Records returns n commands with sizeBytes of data each, all different.
func Records(n, sizeBytes int) []journal.Record {
	records := make([]journal.Record, n)
	for i := range records {
		data := make([]byte, sizeBytes)
		for k := range data {
			data[k] = byte(i + k + 1)
		}
		records[i] = journal.Record{Kind: journal.KindCommand, Name: "test", Version: 1, Data: data}
	}
	return records
}

// Batch returns the encoding of a batch that continues from c: in the epoch and
// by the owner that c names, numbered, timed and chained after it. Records
// without a time get the next nanosecond. No records make a barrier. It panics
// if a record cannot be encoded.
func Batch(c journal.Cursor, records ...journal.Record) []byte {
	b := journal.NewBuilder(c.Owner, math.MaxInt32, c.Time)
	for _, r := range records {
		if err := b.Add(&r); err != nil {
			panic(err)
		}
	}
	return b.Seal(c.Seq+1, c.Epoch, journal.Digest{}, c.Chain)
}

// as returns c as another writer would stamp its batches.
func as(c journal.Cursor, epoch journal.Epoch, owner string) journal.Cursor {
	c.Epoch, c.Owner = epoch, owner
	return c
}

// A Pen writes to a journal under one owner's name and knows what it wrote: a
// journal.Writer without any care for unknown outcomes. It is for one goroutine.
type Pen struct {
	owner   string
	tracker journal.Tracker
	entries []journal.Entry
}

// NewPen returns a pen for owner at the start of a journal.
func NewPen(owner string) *Pen { return &Pen{owner: owner} }

// Cursor returns where the next batch continues from.
func (p *Pen) Cursor() journal.Cursor { return p.tracker.Cursor }

// Entries returns all that was written and taken in, in order.
func (p *Pen) Entries() []journal.Entry { return p.entries }

// Take takes in the next entry of the journal, whoever wrote it.
func (p *Pen) Take(e journal.Entry) error {
	var b journal.Batch
	if _, _, err := p.tracker.Take(e, &b); err != nil {
		return fmt.Errorf("take in entry %d: %w", e.Pos, err)
	}
	p.entries = append(p.entries, e)
	return nil
}

// Fence opens epoch, which the pen must not have opened before.
func (p *Pen) Fence(ctx context.Context, j journal.Journal, epoch journal.Epoch) error {
	pos, err := j.Fence(ctx, epoch, p.owner)
	if err != nil {
		return fmt.Errorf("fence epoch %d for %q: %w", epoch, p.owner, err)
	}
	return p.Take(journal.Entry{Pos: pos, Data: journal.AppendFence(nil, epoch, p.owner)})
}

// Append appends a batch of records, or a barrier if there are none.
func (p *Pen) Append(ctx context.Context, j journal.Journal, records ...journal.Record) error {
	c := as(p.Cursor(), p.Cursor().Epoch, p.owner)
	batch := Batch(c, records...)
	pos, err := j.Append(ctx, c.Epoch, c.Pos, batch)
	if err != nil {
		return fmt.Errorf("append after %d in epoch %d: %w", c.Pos, c.Epoch, err)
	}
	return p.Take(journal.Entry{Pos: pos, Data: batch})
}

// fill opens epoch 1 and appends n batches of one to three records and, between
// them, barriers.
func (p *Pen) fill(ctx context.Context, j journal.Journal, n int) error {
	if err := p.Fence(ctx, j, 1); err != nil {
		return err
	}
	for i := range n {
		if err := p.Append(ctx, j, Records((i+1)%4, 32+i)...); err != nil {
			return err
		}
	}
	return nil
}

// Write opens epoch 1 of the empty journal j for "writer" and appends n batches
// of one record. It returns the fence and the batches, and ends the test if the
// journal refuses one.
func Write(tb testing.TB, j journal.Journal, n int) []journal.Entry {
	tb.Helper()
	p := NewPen("writer")
	err := p.Fence(tb.Context(), j, 1)
	for range n {
		if err == nil {
			err = p.Append(tb.Context(), j, Records(1, 32)...)
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
	return p.Entries()
}
