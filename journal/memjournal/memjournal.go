// Package memjournal is a journal in memory: the reference that other backends
// are compared with, and the store for tests and demonstrations.
//
// An acknowledged append survives nothing: the entries are gone when the last
// handle is. Positions are 1, 2, 3 and so on. Handles made by [Journal.Handle]
// share the entries as several processes share a server's.
package memjournal

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"understudy.dev/journal"
)

// MaxBatch is the largest batch in bytes that Append takes. Memory needs no
// limit; this one is near what JetStream takes by default, so that what works
// here fits there.
const MaxBatch = 1 << 20

// A Journal is a handle on entries in memory. It implements journal.Journal,
// journal.Ender, journal.Trimmer and journal.Describer.
type Journal struct {
	store  *store
	once   sync.Once
	closed chan struct{}
}

// New returns a handle on a new, empty journal.
func New() *Journal { return open(&store{}) }

func open(s *store) *Journal { return &Journal{store: s, closed: make(chan struct{})} }

// Handle returns another handle on the same entries, as another process would
// have, or the same one after it was started again. It works on a closed handle.
func (j *Journal) Handle() *Journal { return open(j.store) }

// Append implements journal.Journal. A batch that cannot be decoded, carries
// another epoch than the argument, or names an epoch that was never opened is
// the caller's mistake: nothing is written, and the error says what is wrong.
func (j *Journal) Append(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
	pos, err := journal.Position(0), j.usable(ctx)
	if err == nil {
		pos, err = j.store.append(epoch, prev, batch)
	}
	if err != nil {
		return 0, fmt.Errorf("append after %d in epoch %d: %w", prev, epoch, err)
	}
	return pos, nil
}

// Fence implements journal.Journal.
func (j *Journal) Fence(ctx context.Context, epoch journal.Epoch, owner string) (journal.Position, error) {
	pos, err := journal.Position(0), j.usable(ctx)
	if err == nil {
		pos, err = j.store.fence(epoch, owner)
	}
	if err != nil {
		return 0, fmt.Errorf("fence epoch %d for %q: %w", epoch, owner, err)
	}
	return pos, nil
}

// Put stores data as the next entry whatever it is and whoever may write, as a
// foreign client of a real store could: damage and dead batches for readers to
// find. It returns the entry's position.
func (j *Journal) Put(data []byte) journal.Position { return j.store.put(data) }

// Follow implements journal.Journal.
func (j *Journal) Follow(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		if j.isClosed() {
			yield(journal.Entry{}, fmt.Errorf("follow after %d: %w", after, journal.ErrClosed))
			return
		}
		j.follow(ctx, after, yield)
	}
}

// follow yields what is there, then waits. One timer runs from heartbeat to
// heartbeat, so that a trickle of entries does not put heartbeats off.
func (j *Journal) follow(ctx context.Context, after journal.Position, yield func(journal.Entry, error) bool) {
	timer := time.NewTimer(journal.HeartbeatEvery)
	defer timer.Stop()
	for due := true; ; {
		v, err := j.store.after(after)
		if err != nil {
			yield(journal.Entry{}, fmt.Errorf("follow after %d: %w", after, err))
			return
		}
		for i, data := range v.entries {
			if j.usable(ctx) != nil {
				return
			}
			after = v.first + journal.Position(i)
			if !yield(journal.Entry{Pos: after, Data: data}, nil) {
				return
			}
		}
		if len(v.entries) > 0 {
			continue
		}
		if j.usable(ctx) != nil {
			return
		}
		if due {
			if !yield(journal.Entry{Pos: v.end}, nil) {
				return
			}
			due = false
			timer.Reset(journal.HeartbeatEvery)
		}
		select {
		case <-ctx.Done():
			return
		case <-j.closed:
			return
		case <-v.changed:
		case <-timer.C:
			due = true
		}
	}
}

// End implements journal.Ender.
func (j *Journal) End(ctx context.Context) (journal.End, error) {
	if err := j.usable(ctx); err != nil {
		return journal.End{}, fmt.Errorf("sample end: %w", err)
	}
	end := j.store.sample()
	end.When = time.Now()
	return end, nil
}

// Trim implements journal.Trimmer. The newest fence stays open, and who holds
// it stays known, even when its entry can no longer be followed from.
func (j *Journal) Trim(ctx context.Context, through journal.Position) error {
	if err := j.usable(ctx); err != nil {
		return fmt.Errorf("trim through %d: %w", through, err)
	}
	j.store.trim(through)
	return nil
}

// Describe implements journal.Describer.
func (j *Journal) Describe() journal.Capabilities {
	return journal.Capabilities{
		Backend: "memory", Location: "this process", Fence: true, MaxBatch: MaxBatch,
		Notes: []string{"entries are gone when the process ends"},
	}
}

// Close implements journal.Journal. Other handles stay open.
func (j *Journal) Close() error {
	j.once.Do(func() { close(j.closed) })
	return nil
}

func (j *Journal) isClosed() bool {
	select {
	case <-j.closed:
		return true
	default:
		return false
	}
}

// usable reports why a call may not go on.
func (j *Journal) usable(ctx context.Context) error {
	if j.isClosed() {
		return journal.ErrClosed
	}
	return ctx.Err()
}
