package journal

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// A ReaderConfig says how a Reader reads. The zero value reads from the start.
type ReaderConfig struct {
	// From is where to go on; the zero Cursor is the start. One whose Prev is its Pos
	// stands after an entry that is gone: the Reader goes on after it without reading
	// it again.
	From   Cursor
	Source string // names the journal in errors

	// SkipChain reads with the checksums alone, without computing the chain.
	SkipChain bool

	// Silence is how long the backend may say nothing, not even a heartbeat,
	// before it is followed anew. Default 5 s: five missed heartbeats.
	Silence time.Duration

	// LostAfter is how long the journal may end below the cursor before the
	// reader believes it. A deposed server can say so for a moment. Default 10 s.
	LostAfter time.Duration

	// MinBackoff and MaxBackoff bound the pause between two attempts to follow,
	// which doubles each time. Defaults 20 ms and 1 s.
	MinBackoff, MaxBackoff time.Duration

	// OnRetry, if not nil, is told each time following ended and will be tried
	// again: why (nil if it just ended), how often in a row, and when. It is
	// called from the reader's goroutine and must not block.
	OnRetry func(err error, attempt int, wait time.Duration)
}

// readAhead is how many entries a Reader takes in before the caller asks for
// them: enough to hide the hand-over, few enough to stay small with entries of
// a megabyte.
const readAhead = 8

func (c *ReaderConfig) setDefaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.Silence, 5*time.Second)
	def(&c.LostAfter, 10*time.Second)
	def(&c.MinBackoff, 20*time.Millisecond)
	def(&c.MaxBackoff, time.Second)
}

// An Item is what a Reader found at one position. It is valid until the next
// call of Next: the memory that Batch and its records refer to is used again then.
type Item struct {
	Verdict Verdict
	Pos     Position // of the entry; of a Heartbeat how far the journal was seen
	Batch   Batch    // of Live and Dead
	Fence   Fence    // of Opened and Void
	Cursor  Cursor   // after this item

	loan []byte // the memory of Batch
}

// A Reader follows a journal: it checks every entry, decides which batches are
// live, resumes after its cursor when following fails or ends, and tells an
// idle journal from a dead connection. Checking and hashing happen in a
// goroutine of its own, ahead of the caller.
//
// When it resumes it first reads the entry at its cursor again and compares, so
// a journal that lost entries or was recreated is found out (ErrLost).
type Reader struct {
	cfg    ReaderConfig
	j      Journal
	items  chan Item
	loans  loans
	lent   []byte // to the item given out last
	wake   chan struct{}
	stop   context.CancelFunc
	ended  chan struct{}
	err    error  // why the pump ended; read after items is closed
	cursor Cursor // of the last item given out
	names  names  // of the caller's side
}

// NewReader starts to read j. The caller closes the Reader when done.
func NewReader(j Journal, cfg ReaderConfig) *Reader {
	cfg.setDefaults()
	ctx, stop := context.WithCancel(context.Background())
	r := &Reader{
		cfg: cfg, j: j, cursor: cfg.From, stop: stop,
		items: make(chan Item, readAhead), loans: make(loans, 2*readAhead+2), wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	p := &pump{Reader: r, track: Tracker{Cursor: cfg.From, SkipChain: true}, out: r.items}
	p.whole = cfg.From.Pos > 0 && cfg.From.Prev == cfg.From.Pos
	if !cfg.SkipChain {
		l := newLinker(r)
		p.out = l.in
		go l.run(ctx)
	}
	go p.run(ctx)
	return r
}

// Next waits for the next item and stores it in it. After ctx ended the Reader
// is as before and Next may be called again. Any other error is final:
// *CorruptError, ErrTrimmed, ErrLost or ErrClosed. Next is for one goroutine.
func (r *Reader) Next(ctx context.Context, it *Item) error {
	var ok bool
	select {
	case *it, ok = <-r.items:
	default:
		select {
		case *it, ok = <-r.items:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if !ok {
		return r.err
	}
	if it.Verdict == Live || it.Verdict == Dead {
		it.Batch.names = &r.names
	}
	r.loans.put(r.lent)
	r.lent, r.cursor = it.loan, it.Cursor
	return nil
}

// Cursor returns the place after the last item that Next gave.
func (r *Reader) Cursor() Cursor { return r.cursor }

// Wake cuts the present pause between two attempts short. It may be called from
// any goroutine.
func (r *Reader) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Close stops the Reader and waits until it has stopped.
func (r *Reader) Close() {
	r.stop()
	<-r.ended
}

// Corrupt turns an error of Batch.Records for item it into a *CorruptError with
// its place.
func (r *Reader) Corrupt(it *Item, err error) error {
	return r.placed(CorruptError{Pos: it.Pos, Seq: it.Batch.First - 1, Offset: -1, Err: err})
}

// placed returns c with a place as exact as the backend can tell it.
func (r *Reader) placed(c CorruptError) error {
	place(r.j, &c)
	c.Source = cmp.Or(c.Source, r.cfg.Source)
	return &c
}

// A pump is the goroutine of a Reader that reads, checks checksums and numbers,
// and decides what is live. The chain is the linker's.
type pump struct {
	*Reader
	track   Tracker
	out     chan Item // to the linker, or to the caller if the chain is skipped
	last    []byte    // the entry at the cursor; nil if this Reader has not read it
	below   time.Time // since when the journal has been seen without the entry at the cursor
	whole   bool      // the entry at the cursor is trimmed: resume after it, not at it
	checked bool      // the entry at the cursor was met again in this attempt
	moved   bool      // this attempt yielded something
}

func (p *pump) run(ctx context.Context) {
	if p.cfg.SkipChain {
		defer close(p.ended)
	}
	defer close(p.out)
	p.err = ErrClosed
	for attempt := 1; ; attempt++ {
		p.moved = false
		err := p.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if last := p.final(err); last != nil {
			p.err = last
			return
		}
		if p.moved {
			attempt = 1
		}
		if !p.pause(ctx, err, attempt) {
			return
		}
	}
}

// final returns the error that ends the reader after err, or nil if it goes on. A
// trimmed entry at the cursor does not end it: what comes after it may still be
// there. Damage is told with its whole place and without what the backend said
// around it, since that quotes a place that was not complete.
func (p *pump) final(err error) error {
	var corrupt *CorruptError
	switch {
	case errors.As(err, &corrupt):
		c := *corrupt
		c.Seq = cmp.Or(c.Seq, p.track.Cursor.Seq) // a backend does not number records
		return p.placed(c)
	case errors.Is(err, ErrTrimmed):
		if p.track.Cursor.Pos == 0 || p.whole {
			return err
		}
		p.whole = true
	case errors.Is(err, ErrLost), errors.Is(err, ErrClosed):
		return err
	}
	return nil
}

// pause waits before the next attempt; it returns false when ctx ended.
func (p *pump) pause(ctx context.Context, err error, attempt int) bool {
	wait := p.cfg.MaxBackoff
	if shift := attempt - 1; shift < 10 {
		wait = min(wait, p.cfg.MinBackoff<<shift)
	}
	if p.cfg.OnRetry != nil {
		p.cfg.OnRetry(err, attempt, wait)
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.wake:
	case <-ctx.Done():
		return false
	}
	return true
}

// follow reads until the backend stops. It starts before the cursor, so that the
// entry there is met again and compared.
func (p *pump) follow(ctx context.Context) error {
	from := p.track.Cursor.Prev
	p.checked = p.track.Cursor.Pos == 0 || p.whole
	if p.whole {
		from = p.track.Cursor.Pos
	}
	fctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(p.cfg.Silence, func() { cancel(ErrSilent) })
	defer silence.Stop()
	for e, err := range p.j.Follow(fctx, from) {
		silence.Stop()
		if err != nil {
			return err
		}
		if err := p.take(ctx, e); err != nil {
			return err
		}
		silence.Reset(p.cfg.Silence)
	}
	if fctx.Err() != nil {
		return context.Cause(fctx)
	}
	return nil
}

// errBelow restarts a follow that does not show the entry at the cursor.
var errBelow = errors.New("journal: seen without the entry at the cursor")

// take checks one entry and hands it on.
func (p *pump) take(ctx context.Context, e Entry) error {
	c := &p.track.Cursor
	switch {
	case len(e.Data) == 0:
		return p.heartbeat(e)
	case !p.checked && e.Pos <= c.Prev: // delivered again
		return nil
	case !p.checked:
		if !p.meets(e) {
			return fmt.Errorf("%w: want the entry read before at position %d, found another at %d", ErrLost, c.Pos, e.Pos)
		}
		p.checked, p.below = true, time.Time{}
		return nil
	case e.Pos <= c.Pos: // delivered again
		return nil
	}
	it := Item{Pos: e.Pos, loan: append(p.loans.get(), e.Data...)}
	e.Data = it.loan
	var err error
	it.Verdict, it.Fence, err = p.track.Take(e, &it.Batch)
	if err != nil {
		return err
	}
	p.moved, p.whole, p.below = true, false, time.Time{}
	p.last = e.Data // on loan, and not overwritten before the next entry is taken in
	it.Cursor = *c
	select {
	case p.out <- it:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// meets reports whether e is the entry that the cursor stands on.
func (p *pump) meets(e Entry) bool {
	c := &p.track.Cursor
	switch {
	case e.Pos != c.Pos:
		return false
	case p.last != nil:
		return bytes.Equal(e.Data, p.last)
	}
	return p.cfg.SkipChain || p.track.link(c.Before, e.Data) == c.Chain
}

// heartbeat passes a sign of life on, if the caller is not busy with entries
// anyway, and watches for a journal that ends below the cursor, or has nothing
// where the cursor stands. Either may come for a moment from a server that was
// deposed, so it must last to be believed.
func (p *pump) heartbeat(e Entry) error {
	c := p.track.Cursor
	if e.Pos >= c.Pos && p.checked {
		p.moved, p.below = true, time.Time{}
		select {
		case p.out <- Item{Verdict: Heartbeat, Pos: e.Pos, Cursor: c}:
		default:
		}
		return nil
	}
	if p.below.IsZero() {
		p.below = time.Now()
	}
	if time.Since(p.below) >= p.cfg.LostAfter {
		return fmt.Errorf("%w: nothing lies at the cursor, position %d; seen up to position %d", ErrLost, c.Pos, e.Pos)
	}
	if p.checked || e.Pos >= c.Pos {
		return errBelow // read the entry at the cursor again
	}
	return nil
}
