package journaltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"understudy.dev/journal"
)

// isHeartbeat reports whether e is not an entry.
func isHeartbeat(e journal.Entry) bool { return len(e.Data) == 0 }

// own returns e with memory of its own, so that it may be kept.
func own(e journal.Entry) journal.Entry {
	e.Data = bytes.Clone(e.Data)
	return e
}

// errEnded says that a Follow ended silently.
var errEnded = errors.New("follow ended")

// drain follows j and returns what it yields up to the first heartbeat.
func drain(ctx context.Context, j journal.Journal, after journal.Position) ([]journal.Entry, error) {
	var got []journal.Entry
	last := after
	for e, err := range j.Follow(ctx, after) {
		switch {
		case err != nil:
			return got, fmt.Errorf("follow after %d: %w", after, err)
		case !isHeartbeat(e):
			got, last = append(got, own(e)), e.Pos
		case len(got) > 0 && e.Pos < last:
			return got, fmt.Errorf("heartbeat at %d after entry %d", e.Pos, last)
		default:
			return got, nil
		}
	}
	return got, fmt.Errorf("follow after %d: %w before its first heartbeat, after %d entries (context: %v)", after, errEnded, len(got), ctx.Err())
}

// wantEntries checks that j holds exactly want after a position.
func wantEntries(ctx context.Context, j journal.Journal, after journal.Position, want []journal.Entry) error {
	got, err := drain(ctx, j, after)
	if err != nil {
		return err
	}
	if err := sameEntries(got, want); err != nil {
		return fmt.Errorf("follow after %d: %w", after, err)
	}
	return nil
}

// sameEntries reports the first difference.
func sameEntries(got, want []journal.Entry) error {
	for i := range min(len(got), len(want)) {
		if got[i].Pos != want[i].Pos || !bytes.Equal(got[i].Data, want[i].Data) {
			return fmt.Errorf("entry %d of %d is %s, want %s", i+1, len(want), describe(got[i]), describe(want[i]))
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d entries, want %d", len(got), len(want))
	}
	return nil
}

// describe names an entry in a message.
func describe(e journal.Entry) string {
	var dec journal.Decoder
	var b journal.Batch
	if f, err := journal.DecodeFence(e.Data); err == nil {
		return fmt.Sprintf("fence of epoch %d for %q at %d", f.Epoch, f.Owner, e.Pos)
	}
	if err := dec.Batch(e.Data, &b); err != nil {
		return fmt.Sprintf("%d bytes (%v) at %d", len(e.Data), err, e.Pos)
	}
	return fmt.Sprintf("batch from seq %d with %d records of epoch %d by %q, %d bytes, at %d", b.First, b.Count, b.Epoch, b.Owner, len(e.Data), e.Pos)
}

// A watch follows a journal in a goroutine of its own.
type watch struct {
	items  chan item
	cancel context.CancelFunc // ends the context of the Follow
	over   chan struct{}      // closed when nobody takes items any more
	quit   chan struct{}      // closed when the goroutine has ended
}

// item is one thing that a Follow yielded.
type item struct {
	journal.Entry
	err error
}

// newWatch starts to follow j.
func newWatch(ctx context.Context, j journal.Journal, after journal.Position) *watch {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{items: make(chan item), cancel: cancel, over: make(chan struct{}), quit: make(chan struct{})}
	go func() {
		defer close(w.quit)
		defer close(w.items)
		for e, err := range j.Follow(ctx, after) {
			select {
			case w.items <- item{own(e), err}:
			case <-w.over:
				return
			}
		}
	}()
	return w
}

// close ends the watch and waits for its goroutine.
func (w *watch) close() {
	w.cancel()
	close(w.over)
	<-w.quit
}

// next waits for the next item, heartbeats included. It fails with errEnded
// when the Follow has ended.
func (w *watch) next(ctx context.Context) (journal.Entry, error) {
	select {
	case it, ok := <-w.items:
		if !ok {
			return journal.Entry{}, errEnded
		}
		return it.Entry, it.err
	case <-ctx.Done():
		return journal.Entry{}, fmt.Errorf("wait for an entry or a heartbeat: %w", ctx.Err())
	}
}

// entries waits for n entries and passes over heartbeats.
func (w *watch) entries(ctx context.Context, n int) ([]journal.Entry, error) {
	var got []journal.Entry
	for len(got) < n {
		e, err := w.next(ctx)
		if err != nil {
			return got, fmt.Errorf("after %d of %d entries: %w", len(got), n, err)
		}
		if !isHeartbeat(e) {
			got = append(got, e)
		}
	}
	return got, nil
}

// heartbeat waits for a heartbeat, which must be the next item.
func (w *watch) heartbeat(ctx context.Context) (journal.Position, error) {
	e, err := w.next(ctx)
	if err == nil && !isHeartbeat(e) {
		err = fmt.Errorf("got %s, want a heartbeat", describe(e))
	}
	return e.Pos, err
}

// ended waits until the Follow ends, which it must do without an error. What it
// still yields before is passed over.
func (w *watch) ended(ctx context.Context) error {
	for {
		if _, err := w.next(ctx); errors.Is(err, errEnded) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
