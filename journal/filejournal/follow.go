package filejournal

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"os"
	"sync/atomic"
	"time"

	"understudy.dev/journal"
)

// Follow implements journal.Journal. It reads up to the durable end, which the
// writer publishes in mapped memory after its sync, and then sleeps until the
// writer, of whatever process, publishes again.
func (j *Journal) Follow(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		if !j.retain() {
			yield(journal.Entry{}, fmt.Errorf("follow after %d: %w", after, journal.ErrClosed))
			return
		}
		defer j.release()
		defer j.wakeAtEnd(ctx)()
		r := j.newReader(after)
		defer r.close()
		if err := j.follow(ctx, r, yield); err != nil {
			yield(journal.Entry{}, fmt.Errorf("follow after %d: %w", after, err))
		}
	}
}

// follow yields entries and heartbeats until there is a reason to stop. The pulse
// is read before the end, so a change after that ends the sleep at once.
func (j *Journal) follow(ctx context.Context, r *reader, yield func(journal.Entry, error) bool) error {
	var heartbeat, looked time.Time
	for {
		pulse := atomic.LoadUint32(&j.st.pulse)
		generation, end := j.durable()
		if r.at < j.st.trimmed() {
			return r.trimmed()
		}
		for r.at < end {
			if ctx.Err() != nil || j.isClosed() {
				return nil
			}
			e, err := r.next(generation, end)
			if err != nil {
				return cmp.Or(j.lost(r.seg), err)
			}
			if !yield(e, nil) {
				return nil
			}
		}
		if ctx.Err() != nil || j.isClosed() {
			return nil
		}
		if time.Since(looked) >= lookEvery {
			if err := j.lookBehind(r); err != nil {
				return err
			}
			looked = time.Now()
		}
		wait := time.Until(heartbeat)
		if wait <= 0 {
			if !yield(journal.Entry{Pos: end}, nil) {
				return nil
			}
			wait = heartbeatEvery
			heartbeat = time.Now().Add(wait)
		}
		j.fsys.Wait(&j.st.pulse, pulse, wait)
	}
}

// lookBehind finds out whether what a follower at the end has read from is still
// there. One that began at the end opens the newest segment for that.
func (j *Journal) lookBehind(r *reader) error {
	newest, exists := j.st.newestSegment()
	if r.seg == nil && exists && newest <= r.at && j.st.current() {
		seg, err := j.openNewest(newest, os.O_RDONLY)
		if now, _ := j.st.newestSegment(); err != nil && now == newest {
			return err
		}
		r.seg = seg
	}
	return j.lost(r.seg)
}

// heartbeatEvery is shorter than what the contract asks, so that a slow wake-up
// does not break it.
const heartbeatEvery = journal.HeartbeatEvery / 2

// wakeAtEnd sees to it that a sleeping follower looks up when ctx ends or the
// journal is closed. It wakes until the returned function is called, since the
// follower may be just about to fall asleep; a read-only handle cannot change
// the pulse to prevent that.
func (j *Journal) wakeAtEnd(ctx context.Context) (stop func()) {
	stopped, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		select {
		case <-ctx.Done():
		case <-j.closed:
		case <-stopped:
			return
		}
		pause := time.NewTimer(0)
		defer pause.Stop()
		for d := time.Millisecond; ; d = min(2*d, heartbeatEvery) {
			select {
			case <-stopped:
				return
			case <-pause.C:
				j.fsys.Wake(&j.st.pulse)
				pause.Reset(d)
			}
		}
	}()
	return func() { close(stopped); <-gone }
}
