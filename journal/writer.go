package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// A WriterConfig says how a Writer resolves what went wrong. The zero value is
// ready.
type WriterConfig struct {
	// LookFor bounds one look at what lies after the cursor. Default 1 s.
	LookFor time.Duration

	// MinBackoff and MaxBackoff bound the pause between two attempts, which
	// doubles each time. Defaults 2 ms and 250 ms.
	MinBackoff, MaxBackoff time.Duration

	// LostAfter is how long the journal may end below the cursor, or refuse appends
	// and not show the entry at the cursor, before the Writer believes it (ErrLost).
	// A deposed server can say so for a moment. Default 10 s.
	LostAfter time.Duration

	// OnRetry, if not nil, is told of each append that did not simply succeed and
	// is being resolved. It is called from Append and must not block.
	OnRetry func(err error, attempt int)

	// OnSkip, if not nil, is told of each dead batch, with the number of its
	// records, and of each void fence that was read over. As OnRetry otherwise.
	OnSkip func(v Verdict, records int)
}

// maxBatch bounds batches. Larger ones gain nothing, since the cost of an append is
// spread thin long before; and what one backend takes the others take too, so that
// a journal can be copied: a NATS server takes messages of 1 MiB with their headers.
const maxBatch = 1<<20 - 4<<10

// A Writer appends batches in one tenure. It numbers records, states the chain,
// and resolves unknown appends and conflicts by reading the journal: after
// Append returned, the outcome is certain unless the error matches ErrUnknown
// or ErrBroken. One append is in flight at a time.
//
// Append is for one goroutine, and so is the filling of builders; the two may
// be different ones.
type Writer struct {
	cfg   WriterConfig
	j     Journal
	track Tracker
	stamp Time // of the newest record added to a builder
	over  error
	below time.Time // since when looks have seen the journal end below the cursor
	other time.Time // since when refusals came without the entry at the cursor to be seen
}

// NewWriter returns a Writer of the tenure that is open at the cursor: the caller
// opened it with Fence and has read up to its fence.
func NewWriter(j Journal, at Cursor, cfg WriterConfig) *Writer {
	if cfg.LookFor == 0 {
		cfg.LookFor = time.Second
	}
	if cfg.MinBackoff == 0 {
		cfg.MinBackoff = 2 * time.Millisecond
	}
	if cfg.MaxBackoff == 0 {
		cfg.MaxBackoff = 250 * time.Millisecond
	}
	if cfg.LostAfter == 0 {
		cfg.LostAfter = 10 * time.Second
	}
	return &Writer{cfg: cfg, j: j, track: Tracker{Cursor: at}, stamp: at.Time}
}

// NewBuilder returns a builder whose batches fit the journal and whose records
// are later than every record added to any builder of this Writer.
func (w *Writer) NewBuilder() *Builder {
	size := maxBatch
	if m := Describe(w.j).MaxBatch; m > 0 {
		size = min(size, m)
	}
	return newBuilder(w.track.Cursor.Owner, size, &w.stamp)
}

// Cursor returns the place after the last entry that this Writer appended or
// read. It must not be called while Append runs.
func (w *Writer) Cursor() Cursor { return w.track.Cursor }

// Append stores the records of b, or a barrier if it has none, as the next
// batch, and states d in it. On nil it is done and the records have the Seqs
// from Cursor().Seq+1 before the call.
//
// An error matching ErrFenced says that the tenure is over and the batch was
// not stored: the journal was read through the larger fence. ErrFull and
// ErrTooLarge say that it was not stored and the tenure goes on. An error
// matching ErrUnknown or ErrBroken says that it may be stored or may yet be; a
// *CorruptError or one matching ErrLost, that the journal cannot be trusted. An
// error matching ErrConflict says that it was not stored, and that ctx ended
// before it was known what was. After every error but ErrFull and ErrTooLarge
// the Writer is finished.
func (w *Writer) Append(ctx context.Context, b *Builder, d Digest) error {
	if w.over != nil {
		return fmt.Errorf("%w: the tenure is over: %v", ErrClosed, w.over)
	}
	err := w.append(ctx, b, d)
	if err != nil && !errors.Is(err, ErrFull) && !errors.Is(err, ErrTooLarge) || errors.Is(err, ErrUnknown) {
		w.over = err
	}
	return err
}

// append tries until the outcome is certain. An attempt whose outcome is unknown
// can only land directly after the cursor, since the backend compares: so once
// anything else lies there it never will.
func (w *Writer) append(ctx context.Context, b *Builder, d Digest) error {
	c := &w.track.Cursor
	unknown := false // an attempt after the present cursor may be stored or may yet be
	w.below, w.other = time.Time{}, time.Time{}
	for attempt := 1; ; attempt++ {
		raw := b.Seal(c.Seq+1, c.Epoch, d, c.Chain)
		link := w.linkAhead(raw)
		pos, err := w.j.Append(ctx, c.Epoch, c.Pos, raw)
		if chain := link(); err == nil {
			w.took(pos, b, chain)
			return nil
		}
		conflict := errors.Is(err, ErrConflict) || errors.Is(err, ErrFenced)
		switch {
		case errors.Is(err, ErrBroken), errors.Is(err, ErrLost):
			return err
		case OutcomeOf(err) == Unknown:
			unknown = true
		case !conflict && unknown:
			return fmt.Errorf("append after %d: %w: %w", c.Pos, ErrUnknown, err)
		case !conflict:
			return err
		}
		if w.cfg.OnRetry != nil {
			w.cfg.OnRetry(err, attempt)
		}
		before := c.Pos
		done, lookErr := w.look(ctx, b, raw)
		if done || lookErr != nil {
			return lookErr
		}
		if c.Pos != before { // dead batches or void fences took the place
			unknown = false
			continue
		}
		if errors.Is(err, ErrFenced) && !unknown {
			return err // the backend knows of a fence that we have read ourselves
		}
		if conflict {
			if err := w.meet(ctx); err != nil {
				return err
			}
		}
		if err := w.pause(ctx, attempt); err != nil {
			if !unknown {
				return fmt.Errorf("append after %d: %w: %w", c.Pos, err, ErrConflict)
			}
			return fmt.Errorf("append after %d: %w: %w", c.Pos, ErrUnknown, err)
		}
	}
}

// linkAheadFrom is the size in bytes from which a batch is hashed while it is
// being stored: below it, hashing takes less than handing over (SHA-256 takes
// about 5 µs for it).
const linkAheadFrom = 8 << 10

// linkAhead begins to compute the chain after raw and returns a function that
// waits for it. It must be called before raw is changed.
func (w *Writer) linkAhead(raw []byte) func() Hash {
	before := w.track.Cursor.Chain
	if len(raw) < linkAheadFrom {
		return func() Hash { return w.track.link(before, raw) }
	}
	done := make(chan Hash, 1)
	go func() { done <- w.track.link(before, raw) }()
	return func() Hash { return <-done }
}

// took moves the cursor over our own batch.
func (w *Writer) took(pos Position, b *Builder, chain Hash) {
	c := &w.track.Cursor
	c.Prev, c.Before, c.Pos, c.Chain = c.Pos, c.Chain, pos, chain
	if b.count > 0 {
		c.Seq += Seq(b.count)
		c.Time = b.end
	}
}

// errLookedFor ends a look that took too long.
var errLookedFor = errors.New("journal: look ended")

// look reads what lies after the cursor. It returns true if that is raw, an error
// matching ErrFenced if a larger fence came before it, and false with nil if
// there is nothing, or only entries that change nothing, over which the cursor
// has then moved.
func (w *Writer) look(ctx context.Context, b *Builder, raw []byte) (done bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, w.cfg.LookFor, errLookedFor)
	defer cancel()
	c := &w.track.Cursor
	epoch, begin := c.Epoch, c.Pos
	var got Batch
	for e, err := range w.j.Follow(ctx, c.Pos) {
		switch {
		case err != nil:
			return false, w.unreadable(err)
		case len(e.Data) == 0 && e.Pos >= c.Pos:
			w.below = time.Time{}
			return false, nil
		case len(e.Data) == 0:
			if err := w.lower(e.Pos); err != nil {
				return false, err
			}
			continue
		case e.Pos <= c.Pos: // delivered again
			continue
		case c.Pos == begin && bytes.Equal(e.Data, raw):
			w.took(e.Pos, b, w.track.link(c.Chain, raw))
			return true, nil
		}
		verdict, fence, err := w.track.Take(e, &got)
		switch {
		case err != nil:
			return false, err
		case verdict == Opened:
			return false, fmt.Errorf("epoch %d: %w at position %d by %s, who opened epoch %d",
				epoch, ErrFenced, e.Pos, fence.Owner, fence.Epoch)
		case verdict == Live:
			return false, &CorruptError{Pos: e.Pos, Seq: got.First - 1, Offset: -1, Err: fmt.Errorf(
				"%w: %s appended a batch that this process did not", ErrWriter, got.Owner)}
		case w.cfg.OnSkip != nil && verdict == Dead:
			w.cfg.OnSkip(Dead, got.Count)
		case w.cfg.OnSkip != nil:
			w.cfg.OnSkip(Void, 0)
		}
	}
	return false, nil
}

// lower takes note of a look that showed the journal to end at pos, below the
// cursor: an old one, or the journal lost what was read from it.
func (w *Writer) lower(pos Position) error {
	if w.below.IsZero() {
		w.below = time.Now()
	}
	if time.Since(w.below) < w.cfg.LostAfter {
		return nil
	}
	return fmt.Errorf("%w: it ends at position %d, the cursor is at %d", ErrLost, pos, w.track.Cursor.Pos)
}

// meet reads the entry at the cursor again, after a refusal with nothing after the
// cursor to explain it. If the journal does not hold that entry for LostAfter, it
// is not the one that was written.
func (w *Writer) meet(ctx context.Context) error {
	c := &w.track.Cursor
	if c.Prev == c.Pos { // nobody read it
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, w.cfg.LookFor, errLookedFor)
	defer cancel()
	for e, err := range w.j.Follow(ctx, c.Prev) {
		switch {
		case err != nil:
			return w.unreadable(err) // trimmed, or not to be read now: it proves nothing
		case len(e.Data) == 0 && e.Pos < c.Pos:
			return nil // look takes note of that
		case len(e.Data) > 0 && e.Pos <= c.Prev: // delivered again
			continue
		case e.Pos == c.Pos && len(e.Data) > 0 && w.track.link(c.Before, e.Data) == c.Chain:
			w.other = time.Time{}
			return nil
		}
		if w.other.IsZero() {
			w.other = time.Now()
		}
		if time.Since(w.other) < w.cfg.LostAfter {
			return nil
		}
		return fmt.Errorf("%w: appends are refused, and position %d does not hold what was written or read there", ErrLost, c.Pos)
	}
	return nil
}

// unreadable decides about an error of Follow: damage and loss are final, anything
// else leaves the next attempt to find out.
func (w *Writer) unreadable(err error) error {
	var corrupt *CorruptError
	if errors.As(err, &corrupt) || errors.Is(err, ErrLost) {
		return err
	}
	return nil
}

func (w *Writer) pause(ctx context.Context, attempt int) error {
	wait := w.cfg.MaxBackoff
	if shift := attempt - 1; shift < 10 {
		wait = min(wait, w.cfg.MinBackoff<<shift)
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
