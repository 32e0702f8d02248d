package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// Copied tells what Copy did.
type Copied struct {
	Entries uint64 // copied by this call
	Already uint64 // found in the destination before it
	Source  Cursor // where the copy ends in the source
	Dest    Cursor // and in the destination: the same Seq and chain
}

// ErrDiffer: the destination holds something else than the beginning of the
// source.
var ErrDiffer = errors.New("journal: destination is not a copy of the beginning of the source")

// Copy copies every entry of src up to its present end to dst, byte for byte,
// and proves it by reading dst back: Dest has the chain of Source. What dst
// holds already must be the beginning of src; it is compared and not written
// again, so a copy that was interrupted goes on where it stopped. Nobody may
// lead either journal's copy meanwhile. dst must be an Importer.
//
// progress, if not nil, is called after each entry.
func Copy(ctx context.Context, dst, src Journal, progress func(Cursor)) (Copied, error) {
	var c Copied
	imp, ok := dst.(Importer)
	if !ok {
		return c, fmt.Errorf("copy into %s: %w", Describe(dst).Location, ErrUnsupported)
	}
	end, err := SampleEnd(ctx, src)
	if err != nil {
		return c, fmt.Errorf("sample the end of the source: %w", err)
	}
	had, err := SampleEnd(ctx, dst)
	if err != nil {
		return c, fmt.Errorf("sample the end of the destination: %w", err)
	}
	from := NewReader(src, ReaderConfig{Source: Describe(src).Location})
	defer from.Close()
	if err := c.compare(ctx, dst, had, from, end, progress); err != nil {
		return c, err
	}
	if err := c.write(ctx, imp, from, end, progress); err != nil {
		return c, err
	}
	return c, c.prove(ctx, dst)
}

// compare reads what the destination has beside the source.
func (c *Copied) compare(ctx context.Context, dst Journal, had End, from *Reader, end End, progress func(Cursor)) error {
	to := NewReader(dst, ReaderConfig{Source: Describe(dst).Location})
	defer to.Close()
	var theirs, ours Item
	for c.Dest.Pos < had.Pos {
		if c.Source.Pos >= end.Pos {
			return fmt.Errorf("%w: it goes on after position %d where the source ends", ErrDiffer, c.Dest.Pos)
		}
		if err := nextEntry(ctx, from, &theirs); err != nil {
			return err
		}
		if err := nextEntry(ctx, to, &ours); err != nil {
			return fmt.Errorf("read the destination: %w", err)
		}
		if !bytes.Equal(theirs.Bytes(), ours.Bytes()) {
			return fmt.Errorf("%w: position %d of the source, %d of the destination", ErrDiffer, theirs.Pos, ours.Pos)
		}
		c.Source, c.Dest = theirs.Cursor, ours.Cursor
		c.Already++
		if progress != nil {
			progress(c.Source)
		}
	}
	return nil
}

// write copies the rest.
func (c *Copied) write(ctx context.Context, imp Importer, from *Reader, end End, progress func(Cursor)) error {
	prev := c.Dest.Pos
	var it Item
	for c.Source.Pos < end.Pos {
		if err := nextEntry(ctx, from, &it); err != nil {
			return err
		}
		pos, err := imp.Import(ctx, prev, it.Bytes())
		if err != nil {
			return fmt.Errorf("copy the entry at position %d (outcome %s): %w", it.Pos, OutcomeOf(err), err)
		}
		prev, c.Source = pos, it.Cursor
		c.Entries++
		if progress != nil {
			progress(c.Source)
		}
	}
	return nil
}

// prove reads the destination back up to the copied end.
func (c *Copied) prove(ctx context.Context, dst Journal) error {
	r := NewReader(dst, ReaderConfig{From: c.Dest, Source: Describe(dst).Location})
	defer r.Close()
	var it Item
	for n := uint64(0); n < c.Entries; n++ {
		if err := nextEntry(ctx, r, &it); err != nil {
			return fmt.Errorf("read the copy back: %w", err)
		}
	}
	if c.Dest = r.Cursor(); c.Dest.Chain != c.Source.Chain || c.Dest.Seq != c.Source.Seq {
		return fmt.Errorf("%w: after copying, chain %s at seq %d against %s at %d", ErrDiffer,
			c.Dest.Chain.Short(), c.Dest.Seq, c.Source.Chain.Short(), c.Source.Seq)
	}
	return nil
}

// nextEntry reads the next item that is an entry.
func nextEntry(ctx context.Context, r *Reader, it *Item) error {
	for {
		if err := r.Next(ctx, it); err != nil || it.Verdict != Heartbeat {
			return err
		}
	}
}

// Bytes returns the entry as it is stored; nil for a Heartbeat.
func (it *Item) Bytes() []byte {
	switch it.Verdict {
	case Live, Dead:
		return it.Batch.Raw
	case Opened, Void:
		return AppendFence(nil, it.Fence.Epoch, it.Fence.Owner)
	}
	return nil
}
