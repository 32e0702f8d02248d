package harness

import (
	"context"
	"errors"
	"fmt"
	"io"

	"understudy.dev/journal"
)

// DiffOptions say what of two runs is compared, and how.
type DiffOptions struct {
	A, B   Range // the parts to compare
	Strict bool  // in the total order rather than path by path

	// MaxAhead is how many entries one run may be ahead of the other on all paths
	// together: they are held in memory. Default [DefaultMaxAhead].
	MaxAhead int
}

// DefaultMaxAhead is how many entries a comparison holds in memory unless told
// otherwise.
const DefaultMaxAhead = 1_000_000

// ErrTooFarApart: the paths of two runs interleave so differently that comparing
// them in order takes more memory than MaxAhead allows.
var ErrTooFarApart = errors.New("harness: runs are too far apart to compare in order")

// Diff compares two recorded runs path by path, values included and times not,
// and returns the first difference in the order of a, or nil. A difference in
// what only b recorded is placed by b's number. Memory grows only with how far
// the paths have drifted apart. If neither part has an entry, it is ErrNothing.
func Diff(ctx context.Context, a, b journal.Journal, opts DiffOptions) (*Difference, error) {
	d, err := newDiffer(ctx, a, b, opts)
	if err != nil {
		return nil, fmt.Errorf("harness: diff: %w", err)
	}
	defer d.close()
	if err := d.run(ctx); err != nil {
		return nil, fmt.Errorf("harness: diff: %w", err)
	}
	return d.best, nil
}

// A differ reads both runs side by side.
type differ struct {
	opts  DiffOptions
	sides [2]side // a, b
	lanes map[string]*pair
	held  int
	any   bool        // something was compared
	best  *Difference // the first so far
}

// A side is one run.
type side struct {
	name  string
	s     *scanner
	part  Range
	ended bool
}

// A pair is one path in both runs. Only one of the queues holds anything.
type pair struct {
	queues [2][]Entry
	recent recent
	parted bool // a difference was found here
}

func newDiffer(ctx context.Context, a, b journal.Journal, opts DiffOptions) (*differ, error) {
	if opts.MaxAhead == 0 {
		opts.MaxAhead = DefaultMaxAhead
	}
	if err := errors.Join(opts.A.check(), opts.B.check()); err != nil {
		return nil, err
	}
	d := &differ{opts: opts, lanes: make(map[string]*pair)}
	d.sides[0] = side{name: "first run", part: opts.A}
	d.sides[1] = side{name: "second run", part: opts.B}
	for i, j := range []journal.Journal{a, b} {
		s, err := newScanner(ctx, j)
		if err != nil {
			d.close()
			return nil, fmt.Errorf("%s: %w", d.sides[i].name, err)
		}
		d.sides[i].s = s
	}
	return d, nil
}

func (d *differ) close() {
	for i := range d.sides {
		if s := d.sides[i].s; s != nil {
			s.close()
		}
	}
}

// run reads in turn from both until they end or nothing that is still open can
// come before the best difference.
func (d *differ) run(ctx context.Context) error {
	for !d.sides[0].ended || !d.sides[1].ended {
		for i := range d.sides {
			if err := d.step(ctx, i); err != nil {
				return err
			}
		}
		if d.best != nil && d.settled() {
			return nil
		}
	}
	if !d.any {
		return ErrNothing
	}
	for _, p := range d.lanes {
		d.leftover(p)
	}
	return nil
}

// settled reports whether no entry that was read and not matched, and none that
// is still to be read, lies before the best difference.
func (d *differ) settled() bool {
	for i := range d.sides {
		if !d.sides[i].ended && d.sides[i].s.last < d.best.Number {
			return false
		}
	}
	for _, p := range d.lanes {
		for i := range p.queues {
			if !p.parted && len(p.queues[i]) > 0 && p.queues[i][0].Number < d.best.Number {
				return false
			}
		}
	}
	return true
}

// step takes in the next entry of one side.
func (d *differ) step(ctx context.Context, i int) error {
	from := &d.sides[i]
	for !from.ended {
		e, err := from.s.next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			from.ended = true
		case err != nil:
			return fmt.Errorf("%s: %w", from.name, err)
		case from.part.beyond(e.Number):
			from.ended = true
		case e.Number < from.part.From:
			continue
		default:
			return d.take(i, e)
		}
	}
	return nil
}

func (d *differ) take(i int, e *Entry) error {
	d.any = true
	p := d.lane(e.Path)
	other := p.queues[1-i]
	switch {
	case p.parted:
		return nil
	case len(other) == 0:
		if d.held++; d.held > d.opts.MaxAhead {
			return fmt.Errorf("%w: %d entries held, the next is record %d of the %s on path %s",
				ErrTooFarApart, d.opts.MaxAhead, e.Number, d.sides[i].name, showPath(e.Path))
		}
		p.queues[i] = append(p.queues[i], own(e))
		return nil
	}
	was := other[0]
	p.queues[1-i] = other[1:]
	d.held--
	want, got := e, &was
	if i == 1 {
		want, got = &was, e
	}
	if agrees(want, got, true) {
		kept := own(want)
		p.recent.add(&kept)
		return nil
	}
	w, g := own(want), own(got)
	d.found(p, &Difference{Number: w.Number, Path: w.Path, Expected: &w, Got: &g, Before: p.recent.last()})
	return nil
}

// leftover decides about a path on which one run did more.
func (d *differ) leftover(p *pair) {
	switch a, b := p.queues[0], p.queues[1]; {
	case p.parted:
	case len(a) > 0:
		d.found(p, &Difference{Number: a[0].Number, Path: a[0].Path, Expected: &a[0], Missing: uint64(len(a)), Before: p.recent.last()})
	case len(b) > 0:
		d.found(p, &Difference{Number: b[0].Number, Path: b[0].Path, Got: &b[0], Before: p.recent.last()})
	}
}

// found keeps the difference that comes first, and drops what is left on its path.
func (d *differ) found(p *pair, diff *Difference) {
	for i := range p.queues {
		d.held -= len(p.queues[i])
		p.queues[i] = nil
	}
	p.parted = true
	tie := d.best != nil && diff.Number == d.best.Number && diff.Expected != nil && d.best.Expected == nil
	if d.best == nil || diff.Number < d.best.Number || tie {
		d.best = diff
	}
}

func (d *differ) lane(path string) *pair {
	if d.opts.Strict {
		path = ""
	}
	p := d.lanes[path]
	if p == nil {
		p = &pair{}
		d.lanes[path] = p
	}
	return p
}
