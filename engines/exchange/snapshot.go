package exchange

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
)

// snapshotMagic opens a snapshot; its last byte is the version of the format.
//
//	magic  levels { price orders { id qty } x orders } x levels   buy side
//	       levels { price orders { id qty } x orders } x levels   sell side
//
// Levels are the best first, orders the longest waiting first, numbers as in
// commands. Nothing in it depends on how the book came about.
const snapshotMagic = "UXB\x01"

// Snapshot writes the book. Equal books give equal bytes.
func (b *Book) Snapshot(w io.Writer) error {
	out := bufio.NewWriter(w)
	out.WriteString(snapshotMagic) // bufio keeps the first error for Flush
	var buf []byte
	for _, side := range []*ladder{&b.bids, &b.asks} {
		out.Write(appendNumbers(buf[:0], uint64(side.len())))
		for lvl := range side.levels() {
			buf = appendNumbers(buf[:0], uint64(lvl.price), uint64(lvl.count))
			for o := lvl.head; o != nil; o = o.next {
				buf = appendNumbers(buf, o.id, o.qty)
			}
			out.Write(buf)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write book: %w", err)
	}
	return nil
}

// Restore replaces the book by the one that Snapshot wrote. It reads to the end of
// r. After an error the book is as it was.
func (b *Book) Restore(r io.Reader) error {
	fresh := NewBook()
	in := snapshotReader{r: bufio.NewReader(r)}
	if err := fresh.restore(&in); err != nil {
		return fmt.Errorf("restore book at byte %d: %w", in.offset, err)
	}
	*b = *fresh
	return nil
}

func (b *Book) restore(in *snapshotReader) error {
	if err := in.magic(); err != nil {
		return err
	}
	for _, s := range []Side{Buy, Sell} {
		if err := b.restoreSide(in, s); err != nil {
			return fmt.Errorf("%v side: %w", s, err)
		}
	}
	bid, ask := b.bids.best(), b.asks.best()
	if bid != nil && ask != nil && bid.price >= ask.price {
		return fmt.Errorf("crossed: bid %d, ask %d", bid.price, ask.price)
	}
	return in.end()
}

func (b *Book) restoreSide(in *snapshotReader, s Side) error {
	levels, err := in.number()
	if err != nil {
		return err
	}
	l := b.side(s)
	last := int64(math.MaxInt64) // as a key: nothing is better
	for i := range levels {
		lvl, err := b.restoreLevel(in, s)
		if err != nil {
			return err
		}
		key := l.key(lvl.price)
		if i > 0 && key >= last {
			return fmt.Errorf("level %d is not worse than the one before it", lvl.price)
		}
		last = key
		_, at := l.find(lvl.price)
		l.insert(at, lvl)
	}
	return nil
}

func (b *Book) restoreLevel(in *snapshotReader, s Side) (*level, error) {
	price, err := in.number()
	if err != nil {
		return nil, err
	}
	if price < 1 || price > math.MaxInt64 {
		return nil, ErrPrice
	}
	count, err := in.number()
	if err != nil {
		return nil, err
	}
	if count == 0 {
		return nil, fmt.Errorf("level %d has no order", price)
	}
	lvl := b.pool.level(s, int64(price))
	for range count {
		if err := b.restoreOrder(in, lvl); err != nil {
			return nil, fmt.Errorf("level %d: %w", price, err)
		}
	}
	return lvl, nil
}

func (b *Book) restoreOrder(in *snapshotReader, lvl *level) error {
	id, err := in.number()
	if err != nil {
		return err
	}
	qty, err := in.number()
	if err != nil {
		return err
	}
	if err := b.admit(Limit{Side: lvl.side, ID: id, Price: lvl.price, Qty: qty}); err != nil {
		return fmt.Errorf("order %d: %w", id, err)
	}
	if lvl.qty > MaxQty-qty {
		return fmt.Errorf("order %d: %w", id, ErrLevelFull)
	}
	o := b.pool.order(id, qty)
	lvl.push(o)
	b.orders[id] = o
	return nil
}

// A snapshotReader reads numbers and knows where it is.
type snapshotReader struct {
	r      *bufio.Reader
	offset int64
}

func (in *snapshotReader) magic() error {
	var magic [len(snapshotMagic)]byte
	n, err := io.ReadFull(in.r, magic[:])
	in.offset += int64(n)
	if err != nil {
		return fmt.Errorf("read magic: %w", err)
	}
	if string(magic[:]) != snapshotMagic {
		return fmt.Errorf("magic %q, want %q", magic[:], snapshotMagic)
	}
	return nil
}

// number reads one number, in its shortest form only.
func (in *snapshotReader) number() (uint64, error) {
	ahead, err := in.r.Peek(10) // the longest number; fewer bytes at the end are fine
	n, size, bad := uvarint(ahead)
	switch {
	case errors.Is(bad, errShort) && err != nil && !errors.Is(err, io.EOF):
		return 0, err
	case bad != nil:
		return 0, bad
	}
	if _, err := in.r.Discard(size); err != nil {
		return 0, err
	}
	in.offset += int64(size)
	return n, nil
}

func (in *snapshotReader) end() error {
	switch _, err := in.r.ReadByte(); {
	case err == nil:
		return errRest
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}
