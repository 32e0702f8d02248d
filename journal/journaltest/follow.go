package journaltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"understudy.dev/journal"
)

var followScenarios = []scenario{
	{
		name:   "follow from each position",
		clause: "Follow yields the entries after a position in order",
		check: func(ctx context.Context, s *scene) error {
			p := NewPen("a")
			if err := p.fill(ctx, s.j, 20); err != nil {
				return err
			}
			if err := wantEntries(ctx, s.j, 0, p.Entries()); err != nil {
				return err
			}
			for i, e := range p.Entries() {
				if err := wantEntries(ctx, s.j, e.Pos, p.Entries()[i+1:]); err != nil {
					return err
				}
			}
			return nil
		},
	},
	{
		name:   "follow many entries",
		clause: "Only durable entries are yielded, each once.",
		check: func(ctx context.Context, s *scene) error {
			p := NewPen("a")
			if err := p.Fence(ctx, s.j, 1); err != nil {
				return err
			}
			for i := range 300 {
				if err := p.Append(ctx, s.j, Records(i%3, 16<<(i%8))...); err != nil {
					return err
				}
			}
			return wantEntries(ctx, s.j, 0, p.Entries())
		},
	},
	{
		name:   "follow live",
		clause: "then waits for new ones",
		check:  followLive,
	},
	{
		name:   "several follow at once",
		clause: "Its methods may be called concurrently.",
		check:  followSeveral,
	},
	{
		name:   "first heartbeat at once",
		clause: "It yields the first heartbeat as soon as it has nothing more to yield.",
		check:  heartbeatAtOnce,
	},
	{
		name:   "heartbeats while idle",
		clause: "and yields a heartbeat at least every HeartbeatEvery while it waits and is connected.",
		check:  heartbeatsIdle,
	},
	{
		name:   "heartbeat says where",
		clause: "every entry up to and including Pos has been yielded, and there was nothing after it.",
		check:  heartbeatPosition,
	},
	{
		name:   "follow from beyond the end",
		clause: "Following from beyond the end is not an error: it yields heartbeats whose Pos is smaller than the position.",
		check:  followBeyond,
	},
	{
		name:   "follow ends with its context",
		clause: "The sequence ends silently when ctx ends or the journal is closed",
		check:  followEndsWithContext,
	},
	{
		name:   "follow ends on close",
		clause: "Close releases what the journal holds and ends every Follow.",
		check:  followEndsOnClose,
	},
	{
		name:   "follow is left early",
		clause: "Its methods may be called concurrently.",
		check: func(ctx context.Context, s *scene) error {
			p := NewPen("a")
			if err := p.fill(ctx, s.j, 10); err != nil {
				return err
			}
			for range 20 {
				for _, err := range s.j.Follow(ctx, p.Entries()[3].Pos) {
					if err != nil {
						return err
					}
					break
				}
			}
			return wantEntries(ctx, s.j, 0, p.Entries())
		},
	},
	{
		name:   "entries stay while held",
		clause: "read-only; valid until the sequence that yielded it goes on or ends",
		check:  entriesStay,
	},
	{
		name:   "work side by side",
		clause: "Its methods may be called concurrently.",
		check:  sideBySide,
	},
}

func followLive(ctx context.Context, s *scene) error {
	for i, j := range s.handles(2) {
		last, err := drain(ctx, j, 0)
		if err != nil {
			return err
		}
		after := journal.Position(0)
		if len(last) > 0 {
			after = last[len(last)-1].Pos
		}
		if err := followLiveFrom(ctx, s.j, j, after, journal.Epoch(i+1), last); err != nil {
			return fmt.Errorf("followed on handle %d: %w", i+1, err)
		}
	}
	return nil
}

// followLiveFrom writes to one handle and expects each entry on the other
// before it writes the next, then a burst.
func followLiveFrom(ctx context.Context, to, from journal.Journal, after journal.Position, epoch journal.Epoch, before []journal.Entry) error {
	p := NewPen("a")
	for _, e := range before {
		if err := p.Take(e); err != nil {
			return err
		}
	}
	w := newWatch(ctx, from, after)
	defer w.close()
	if _, err := w.heartbeat(ctx); err != nil {
		return err
	}
	if err := p.Fence(ctx, to, epoch); err != nil {
		return err
	}
	got, err := w.entries(ctx, 1)
	for range 5 {
		if err != nil {
			return err
		}
		if err := p.Append(ctx, to, Records(1, 8)...); err != nil {
			return err
		}
		var more []journal.Entry
		more, err = w.entries(ctx, 1)
		got = append(got, more...)
	}
	if err != nil {
		return err
	}
	for range 20 {
		if err := p.Append(ctx, to, Records(1, 8)...); err != nil {
			return err
		}
	}
	more, err := w.entries(ctx, 20)
	if err != nil {
		return err
	}
	if err := sameEntries(append(got, more...), p.Entries()[len(before):]); err != nil {
		return err
	}
	_, err = w.heartbeat(ctx) // not an entry that was yielded before
	return err
}

func followSeveral(ctx context.Context, s *scene) error {
	const followers, batches = 4, 60
	handles := s.handles(2)
	watches := make([]*watch, followers)
	for i := range watches {
		watches[i] = newWatch(ctx, handles[i%2], 0)
		defer watches[i].close()
		if _, err := watches[i].heartbeat(ctx); err != nil {
			return fmt.Errorf("follower %d: %w", i+1, err)
		}
	}
	got, errs := make([][]journal.Entry, followers), make([]error, followers)
	var wg sync.WaitGroup
	for i, w := range watches {
		wg.Go(func() { got[i], errs[i] = w.entries(ctx, batches+1) })
	}
	p := NewPen("a")
	wrote := p.fill(ctx, s.j, batches)
	if wrote != nil {
		for _, w := range watches {
			w.cancel()
		}
	}
	wg.Wait()
	if wrote != nil {
		return wrote
	}
	for i := range watches {
		if errs[i] != nil {
			return fmt.Errorf("follower %d: %w", i+1, errs[i])
		}
		if err := sameEntries(got[i], p.Entries()); err != nil {
			return fmt.Errorf("follower %d: %w", i+1, err)
		}
	}
	return nil
}

func heartbeatAtOnce(ctx context.Context, s *scene) error {
	p := NewPen("a")
	for i := range 3 {
		start := time.Now()
		if err := wantEntries(ctx, s.j, 0, p.Entries()); err != nil {
			return err
		}
		if err := wantEntries(ctx, s.j, p.Cursor().Pos, nil); err != nil {
			return err
		}
		if took := time.Since(start); s.cfg.Bubble && took > 0 {
			return fmt.Errorf("two first heartbeats took %v, want none", took)
		}
		if err := p.Fence(ctx, s.j, journal.Epoch(i+1)); err != nil {
			return err
		}
		if err := p.Append(ctx, s.j, Records(i, 8)...); err != nil {
			return err
		}
	}
	return nil
}

func heartbeatsIdle(ctx context.Context, s *scene) error {
	p := NewPen("a")
	w := newWatch(ctx, s.j, 0)
	defer w.close()
	for i := range 2 {
		for beat := range 2 {
			start := time.Now()
			if _, err := w.heartbeat(ctx); err != nil {
				return fmt.Errorf("heartbeat %d after %d entries: %w", beat+1, i, err)
			}
			if took := time.Since(start); s.cfg.Bubble && took > journal.HeartbeatEvery {
				return fmt.Errorf("heartbeat %d came after %v, want at most %v", beat+1, took, journal.HeartbeatEvery)
			}
		}
		if err := p.Fence(ctx, s.j, journal.Epoch(i+1)); err != nil {
			return err
		}
		if _, err := w.entries(ctx, 1); err != nil {
			return err
		}
	}
	return nil
}

func heartbeatPosition(ctx context.Context, s *scene) error {
	p := NewPen("a")
	w := newWatch(ctx, s.j, 0)
	defer w.close()
	for i := range 3 {
		pos, err := w.heartbeat(ctx)
		if err != nil {
			return err
		}
		if pos != p.Cursor().Pos {
			return fmt.Errorf("heartbeat at %d when the journal ends at %d", pos, p.Cursor().Pos)
		}
		if err := p.Fence(ctx, s.j, journal.Epoch(i+1)); err != nil {
			return err
		}
		if _, err := w.entries(ctx, 1); err != nil {
			return err
		}
	}
	return nil
}

func followBeyond(ctx context.Context, s *scene) error {
	p := NewPen("a")
	for i := range 2 {
		end := p.Cursor().Pos
		for _, after := range []journal.Position{end + 1, end + 1<<20} {
			w := newWatch(ctx, s.j, after)
			defer w.close()
			for range 2 - i {
				pos, err := w.heartbeat(ctx)
				if err != nil {
					return fmt.Errorf("follow after %d, the end is %d: %w", after, end, err)
				}
				if pos >= after {
					return fmt.Errorf("follow after %d, the end is %d: heartbeat at %d", after, end, pos)
				}
			}
		}
		if i == 0 {
			if err := p.fill(ctx, s.j, 3); err != nil {
				return err
			}
		}
	}
	return nil
}

func followEndsWithContext(ctx context.Context, s *scene) error {
	p := NewPen("a")
	if err := p.fill(ctx, s.j, 10); err != nil {
		return err
	}
	idle := newWatch(ctx, s.j, 0)
	defer idle.close()
	if _, err := idle.entries(ctx, 11); err != nil {
		return err
	}
	if _, err := idle.heartbeat(ctx); err != nil {
		return err
	}
	busy := newWatch(ctx, s.j, 0)
	defer busy.close()
	if _, err := busy.entries(ctx, 1); err != nil {
		return err
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	late := newWatch(ended, s.j, 0)
	defer late.close()
	idle.cancel()
	busy.cancel()
	start := time.Now()
	for name, w := range map[string]*watch{"waiting": idle, "yielding": busy, "not started": late} {
		if err := w.ended(ctx); err != nil {
			return fmt.Errorf("follow, %s when its context ended: %w", name, err)
		}
	}
	if took := time.Since(start); s.cfg.Bubble && took > 0 {
		return fmt.Errorf("follows went on for %v after their context ended", took)
	}
	return wantEntries(ctx, s.j, 0, p.Entries())
}

func followEndsOnClose(ctx context.Context, s *scene) error {
	p := NewPen("a")
	if err := p.fill(ctx, s.j, 10); err != nil {
		return err
	}
	var watches []*watch
	for i := range 4 {
		w := newWatch(ctx, s.j, 0)
		defer w.close()
		n := 11
		if i == 0 {
			n = 1 // this one has more to yield
		}
		if _, err := w.entries(ctx, n); err != nil {
			return err
		}
		watches = append(watches, w)
	}
	start := time.Now()
	if err := s.j.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	for i, w := range watches {
		if err := w.ended(ctx); err != nil {
			return fmt.Errorf("follow %d after close: %w", i+1, err)
		}
	}
	if took := time.Since(start); s.cfg.Bubble && took > 0 {
		return fmt.Errorf("follows went on for %v after close", took)
	}
	return nil
}

// entriesStay holds each entry while more is written, and while another Follow of
// the same handle reads everything, and compares it with what it was.
func entriesStay(ctx context.Context, s *scene) error {
	p := NewPen("a")
	if err := p.fill(ctx, s.j, 10); err != nil {
		return err
	}
	var got []journal.Entry
	for e, err := range s.j.Follow(ctx, 0) {
		if err != nil {
			return err
		}
		if isHeartbeat(e) {
			if len(got) < len(p.Entries()) {
				continue
			}
			break
		}
		was := own(e)
		if len(got) < 10 {
			if err := p.Append(ctx, s.j, Records(2, 40)...); err != nil {
				return err
			}
		}
		if err := wantEntries(ctx, s.j, 0, p.Entries()); err != nil {
			return err
		}
		if !bytes.Equal(e.Data, was.Data) {
			return fmt.Errorf("while it was held, entry %d was %s and is now %s", len(got)+1, describe(was), describe(e))
		}
		got = append(got, was)
	}
	return sameEntries(got, p.Entries())
}

// sideBySide appends, fences, follows and samples at the same time: for the
// race detector more than for what it returns.
func sideBySide(ctx context.Context, s *scene) error {
	p := NewPen("a")
	if err := p.Fence(ctx, s.j, 1); err != nil {
		return err
	}
	var wg sync.WaitGroup
	var written atomic.Bool
	errs := make([]error, 3)
	again := func(i int, call func() error) {
		wg.Go(func() {
			for n := 0; (n < 3 || !written.Load()) && errs[i] == nil; n++ {
				errs[i] = call()
			}
		})
	}
	again(0, func() error { _, err := s.j.Fence(ctx, 1, "a"); return err })
	again(1, func() error { _, err := drain(ctx, s.j, 0); return err })
	again(2, func() error {
		journal.Describe(s.j)
		if _, err := journal.SampleEnd(ctx, s.j); !errors.Is(err, journal.ErrUnsupported) {
			return err
		}
		return nil
	})
	var failed error
	for i := 0; i < 100 && failed == nil; i++ {
		failed = p.Append(ctx, s.j, Records(1, 8)...)
	}
	written.Store(true)
	wg.Wait()
	return errors.Join(append(errs, failed)...)
}
