package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"understudy.dev/journal"
)

// A Range is a part of the numbers. The zero Range is all of them.
type Range struct {
	From uint64 // the first; 0 is 1
	To   uint64 // the last; 0 is as far as there are any
}

// beyond reports whether n is after the range.
func (r Range) beyond(n uint64) bool { return r.To != 0 && n > r.To }

func (r Range) check() error {
	if r.To != 0 && r.To < r.From {
		return fmt.Errorf("from %d to %d: the range is empty", r.From, r.To)
	}
	return nil
}

// Read yields the entries of j in the range, up to where j ends when the loop
// begins. The sequence ends after the first error. The Data of an entry may be
// kept and is read-only. Memory does not grow with the journal.
func Read(ctx context.Context, j journal.Journal, part Range) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		s, err := newScanner(ctx, j)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		defer s.close()
		for {
			e, err := s.next(ctx)
			switch {
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				yield(Entry{}, err)
				return
			case part.beyond(e.Number):
				return
			case e.Number >= part.From && !yield(*e, nil):
				return
			}
		}
	}
}

// A Page is what Load returned.
type Page struct {
	Entries []Entry
	Cut     bool   // the maximum cut it short: there is more
	Next    uint64 // where to go on
}

// Load returns at most limit entries of j from a number on; 0 is the first, and a
// limit of 0 means all of them. A record that cannot be read gives a
// *RecordError with its number; the page then ends before it.
func Load(ctx context.Context, j journal.Journal, from uint64, limit int) (Page, error) {
	if limit < 0 {
		return Page{}, fmt.Errorf("load from record %d: a maximum of %d", from, limit)
	}
	p := Page{Next: max(from, 1)}
	for e, err := range Read(ctx, j, Range{From: from}) {
		switch {
		case err != nil:
			return p, fmt.Errorf("load from record %d: %w", from, err)
		case limit > 0 && len(p.Entries) == limit:
			p.Cut = true
			return p, nil
		}
		p.Entries = append(p.Entries, e)
		p.Next = e.Number + 1
	}
	return p, nil
}

// A Run is one tenure of a recorder.
type Run struct {
	Epoch  journal.Epoch
	Start  Start
	First  uint64 // its first number, if it recorded anything
	Last   uint64 // its last number; smaller than First if it recorded nothing
	Closed bool   // it ended in order, with Close or a change of mode; false if it was aborted, killed, fenced, or is still running
	Cut    string // why, if it was ended with Abort; "" if it was killed, which nobody could note
}

// Runs lists the tenures of j in order.
func Runs(ctx context.Context, j journal.Journal) ([]Run, error) {
	s, err := newScanner(ctx, j)
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	defer s.close()
	var runs []Run
	settle := func() {
		if n := len(runs); n > 0 {
			runs[n-1].Last, runs[n-1].Closed, runs[n-1].Cut = s.last, s.closed, s.cut
		}
	}
	s.onStart = func(epoch journal.Epoch, start *Start) error {
		settle()
		runs = append(runs, Run{Epoch: epoch, Start: *start, First: s.last + 1, Last: s.last})
		return nil
	}
	for {
		_, err := s.next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			settle()
			return runs, nil
		case err != nil:
			return runs, fmt.Errorf("list runs: %w", err)
		}
	}
}
