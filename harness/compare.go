package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"understudy.dev/journal"
)

// A comparer holds the calls of a program against the record as they come. It
// reads ahead only as far as the paths have drifted apart, and not beyond a bound.
type comparer struct {
	strict bool
	part   Range
	ahead  int             // at most so many are held
	ctx    context.Context // ends with the comparer
	cancel context.CancelFunc

	mu    sync.Mutex
	s     *scanner
	ended bool // everything in the part has been read
	whole bool // and it ends where a run ended in order
	lanes map[string]*lane
	held  int   // in the lanes
	err   error // the first difference, or why the record cannot be read; final
}

// A lane is what is left to match on one path.
type lane struct {
	queue  []Entry // read and not yet matched, oldest first
	recent recent
}

// newComparer reads j up to the first entry of the part, so that a wrong pin or
// an unreadable journal is found at once.
func newComparer(ctx context.Context, j journal.Journal, cfg *Config) (*comparer, error) {
	s, err := newScanner(ctx, j)
	if err != nil {
		return nil, err
	}
	c := &comparer{strict: cfg.Strict, part: cfg.Part, ahead: cfg.MaxAhead, s: s, lanes: make(map[string]*lane)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	s.onStart = func(run journal.Epoch, start *Start) error {
		if cfg.SameNumerics {
			if err := checkNumerics(run, start.Environment); err != nil {
				return err
			}
		}
		return checkPin(run, start.Pin, cfg.Pin)
	}
	for len(c.lanes) == 0 && !c.ended {
		if err := c.read(ctx); err != nil {
			c.close()
			return nil, err
		}
	}
	if len(c.lanes) == 0 {
		c.close()
		return nil, c.nothing()
	}
	s.timeout = cfg.Timeout
	return c, nil
}

// nothing says why the part has no entries. Numbers are dense, so it begins after
// the last one.
func (c *comparer) nothing() error {
	if c.s.last == 0 {
		return ErrNothing
	}
	return fmt.Errorf("%w: from record %d, the last one is %d: %w", ErrNothing, c.part.From, c.s.last, ErrPastEnd)
}

// close ends the comparer. Calls get errMoved from now on, also one that waits for
// the record: they look at the mode again.
func (c *comparer) close() {
	c.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.s.close()
	if c.err == nil {
		c.err = errMoved
	}
}

// read takes in the next entry of the part, or sets ended.
func (c *comparer) read(ctx context.Context) error {
	e, err := c.s.next(ctx)
	switch {
	case errors.Is(err, io.EOF):
		c.ended, c.whole = true, c.s.closed || c.endsWithRun()
		return nil
	case err != nil:
		return err
	case c.part.beyond(e.Number):
		c.ended, c.whole = true, c.endsWithRun()
		return nil
	case e.Number < c.part.From:
		return nil
	}
	if c.held > c.ahead { // one may be of the path that is asked for
		return fmt.Errorf("%w: %d entries held, the next is record %d on path %s", ErrTooFarApart, c.held, e.Number, showPath(e.Path))
	}
	l := c.lane(e.Path)
	l.queue = append(l.queue, own(e))
	c.held++
	return nil
}

// endsWithRun reports whether the part was chosen to end with a run that ended in
// order, whatever comes after it.
func (c *comparer) endsWithRun() bool { return c.part.To != 0 && c.s.whole == c.part.To }

// last returns the highest number of the part that there is.
func (c *comparer) last() uint64 {
	if c.part.To != 0 {
		return min(c.s.last, c.part.To) // one beyond it may have been met
	}
	return c.s.last
}

// lane returns the lane of a path; in strict order there is one for all.
func (c *comparer) lane(path string) *lane {
	if c.strict {
		path = ""
	}
	l := c.lanes[path]
	if l == nil {
		l = &lane{}
		c.lanes[path] = l
	}
	return l
}

// compare matches one call and returns what was recorded for it.
func (c *comparer) compare(kind journal.Kind, path, name string, data []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	l := c.lane(path)
	for len(l.queue) == 0 && !c.ended {
		if err := c.read(c.ctx); err != nil {
			if c.ctx.Err() != nil { // it was closed, which says nothing about the record
				err = errMoved
			}
			c.err = fmt.Errorf("replay: %w", err)
			return nil, c.err
		}
	}
	got := Entry{Kind: kind, Path: path, Name: name, Data: data}
	if len(l.queue) == 0 {
		return nil, c.pastEnd(l, &got)
	}
	want := &l.queue[0]
	if !agrees(want, &got, false) {
		c.err = &Difference{Number: want.Number, Path: want.Path, Expected: want, Got: called(kind, path, name, data), Before: l.recent.last()}
		return nil, c.err
	}
	l.recent.add(want)
	l.queue = l.queue[1:]
	c.held--
	return want.Data, nil
}

// pastEnd says that nothing was recorded for a call: a difference if the record
// is whole.
func (c *comparer) pastEnd(l *lane, got *Entry) error {
	if c.whole {
		c.err = &Difference{
			Number: c.last() + 1, Path: got.Path, Got: called(got.Kind, got.Path, got.Name, got.Data), Before: l.recent.last(),
		}
		return c.err
	}
	return fmt.Errorf("%w, which stops at %d: %s on path %s", ErrPastEnd, c.last(), got.What(), showPath(got.Path))
}

// parted returns the difference there was, or why the record cannot be read.
func (c *comparer) parted() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// finish returns the difference there was, or the first entry that the program
// did not do.
func (c *comparer) finish(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	first, at, left := c.pending()
	for !c.ended && first == nil {
		if err := c.read(ctx); err != nil {
			return fmt.Errorf("harness: replay: %w", err)
		}
		first, at, left = c.pending()
	}
	if first == nil {
		return nil
	}
	n, err := c.countRest(ctx)
	if err != nil {
		return fmt.Errorf("harness: replay: %w", err)
	}
	c.err = &Difference{Number: first.Number, Path: first.Path, Expected: first, Missing: left + n, Before: at.recent.last()}
	return c.err
}

// pending returns the first entry read and not matched, its lane, and how many
// there are.
func (c *comparer) pending() (first *Entry, at *lane, left uint64) {
	for _, l := range c.lanes {
		left += uint64(len(l.queue))
		if len(l.queue) > 0 && (first == nil || l.queue[0].Number < first.Number) {
			first, at = &l.queue[0], l
		}
	}
	return first, at, left
}

// countRest reads on to the end of the part.
func (c *comparer) countRest(ctx context.Context) (n uint64, err error) {
	for !c.ended {
		e, err := c.s.next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			c.ended = true
		case err != nil:
			return n, err
		case c.part.beyond(e.Number):
			c.ended = true
		default:
			n++
		}
	}
	return n, nil
}
