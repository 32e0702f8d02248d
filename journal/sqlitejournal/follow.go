package sqlitejournal

import (
	"context"
	"fmt"
	"iter"
	"time"

	"understudy.dev/journal"
)

// How often a Follow looks for what other processes write: a look takes some
// 10 µs, and the pause doubles while nothing comes.
const (
	minPoll = 5 * time.Millisecond
	maxPoll = 50 * time.Millisecond

	// heartbeatEvery is shorter than what the contract asks, so that a page that is
	// read slowly does not break it.
	heartbeatEvery = journal.HeartbeatEvery / 2
)

// Follow implements journal.Journal.
func (j *Journal) Follow(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		if j.isClosed() {
			yield(journal.Entry{}, fmt.Errorf("follow after %d: %w", after, journal.ErrClosed))
			return
		}
		if err := j.follow(ctx, after, yield); err != nil && j.usable(ctx) == nil {
			yield(journal.Entry{}, fmt.Errorf("follow after %d: %w", after, err))
		}
	}
}

func (j *Journal) follow(ctx context.Context, after journal.Position, yield func(journal.Entry, error) bool) (err error) {
	if ctx.Err() != nil {
		return nil
	}
	r, err := j.reader(ctx)
	if err != nil {
		return j.readFailed(err)
	}
	failed := true // also if the consumer panics in the midst of it
	defer func() { j.giveBack(r, failed) }()
	err = j.followOn(ctx, r, after, yield)
	failed = err != nil
	return err
}

// followOn yields pages until there is nothing more, and then waits. Whatever is
// written after the watch and the version were taken ends the wait.
func (j *Journal) followOn(ctx context.Context, r *reader, after journal.Position, yield func(journal.Entry, error) bool) error {
	w := waiter{Journal: j, reader: r, poll: minPoll}
	for {
		changed := j.place.watch(j.id)
		if err := w.see(ctx); err != nil {
			return err
		}
		err := r.within(ctx, j, func() error { return r.page.fill(r, j, after) })
		if err != nil {
			return j.readFailed(err)
		}
		for _, e := range r.page.entries {
			if j.usable(ctx) != nil || !yield(e, nil) {
				return nil
			}
			after = e.Pos
		}
		if j.usable(ctx) != nil {
			return nil
		}
		if len(r.page.entries) > 0 {
			w.poll = minPoll
			continue
		}
		for changes := false; !changes; {
			if w.due() && !yield(journal.Entry{Pos: r.page.end}, nil) {
				return nil
			}
			if changes, err = w.wait(ctx, changed); err != nil || j.usable(ctx) != nil {
				return err
			}
		}
	}
}

// readFailed returns what a read that failed means: files that are gone explain
// it.
func (j *Journal) readFailed(err error) error {
	if lost := j.lost(); lost != nil {
		return lost
	}
	return j.readError(err)
}

// A waiter waits for a follower until something was written.
type waiter struct {
	*Journal
	reader    *reader
	version   int64
	poll      time.Duration
	heartbeat time.Time // when the next one is due
	looked    time.Time
}

// see takes the version of the database that is read next, or an older one.
func (w *waiter) see(ctx context.Context) error {
	err := w.untilFree(ctx, false, func() error {
		return w.reader.version.QueryRowContext(background).Scan(&w.version)
	})
	if err != nil {
		return w.readFailed(err)
	}
	return nil
}

// due reports whether it is time for a heartbeat.
func (w *waiter) due() bool {
	now := time.Now()
	if now.Before(w.heartbeat) {
		return false
	}
	w.heartbeat = now.Add(heartbeatEvery)
	return true
}

// wait waits for a change, a heartbeat's time or the end. It returns true when
// there may be more to read.
func (w *waiter) wait(ctx context.Context, changed <-chan struct{}) (changes bool, err error) {
	timer := time.NewTimer(min(w.poll, time.Until(w.heartbeat)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-w.closed:
	case <-changed:
		return true, nil
	case <-timer.C:
		if time.Since(w.looked) >= lookEvery {
			if err := w.lost(); err != nil {
				return false, err
			}
			w.looked = time.Now()
		}
		w.poll = min(2*w.poll, maxPoll)
		was := w.version
		if err := w.see(ctx); err != nil {
			return false, err
		}
		return w.version != was, nil
	}
	return false, nil
}
