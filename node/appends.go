package node

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"understudy.dev/journal"
)

// slowAppend is how long an append may be under way before the node says that it
// has no use of the journal: longer than one lost request and the look that
// settles it, shorter than the election of a JetStream leader (4 to 9 s), in which
// nobody is answered.
const slowAppend = 3 * time.Second

// probeFull is how often a primary that was refused for lack of room tries again
// with an empty batch, if nothing is handed in: soon enough for whoever waits for
// readiness, seldom enough that what little room there is stays for a fence.
const probeFull = 5 * time.Second

// appends is what is known of a primary's appends. The one in flight and the loop
// write it, anybody reads it.
type appends struct {
	since   atomic.Int64          // Unix ns since when the one in flight has been under way; 0 if none is
	attempt atomic.Pointer[error] // what its last attempt came to; nil if none has ended
	refused atomic.Pointer[error] // why the last one was refused for lack of room; nil if it was not
}

func (a *appends) begin(now time.Time) {
	a.attempt.Store(nil)
	a.since.Store(now.UnixNano())
}

// retried takes note of an attempt that did not simply succeed.
func (a *appends) retried(err error) { a.attempt.Store(&err) }

func (a *appends) end(err error) {
	a.since.Store(0)
	switch {
	case err == nil:
		a.refused.Store(nil)
	case errors.Is(err, journal.ErrFull):
		a.refused.Store(&err)
	}
}

// reset forgets what was, at the end of a tenure.
func (a *appends) reset() {
	a.since.Store(0)
	a.refused.Store(nil)
}

// took returns how long the one in flight has been under way; 0 if none is.
func (a *appends) took(now time.Time) time.Duration {
	if since := a.since.Load(); since != 0 {
		return now.Sub(time.Unix(0, since))
	}
	return 0
}

// fault tells why the journal takes no appends, or returns nil.
func (a *appends) fault(now time.Time) error {
	if took := a.took(now); took > slowAppend {
		cause := errors.New("no answer")
		if err := a.attempt.Load(); err != nil {
			cause = *err
		}
		return fmt.Errorf("an append has been under way for %v: %w", took.Truncate(time.Second), cause)
	}
	if err := a.refused.Load(); err != nil {
		return fmt.Errorf("the last append was refused: %w", *err)
	}
	return nil
}
