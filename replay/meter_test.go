package replay_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
	"understudy.dev/replay"
)

// A place is a journal of which only the end matters.
type place struct {
	journal.Journal
	mu    sync.Mutex
	end   journal.End
	err   error
	calls []time.Time
	takes time.Duration
}

func (p *place) set(pos journal.Position, seq journal.Seq, at journal.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end, p.err = journal.End{Pos: pos, Seq: seq, Time: at, Epoch: 1}, nil
}

func (p *place) End(ctx context.Context) (journal.End, error) {
	p.mu.Lock()
	takes := p.takes
	p.calls = append(p.calls, time.Now())
	p.mu.Unlock()
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return journal.End{}, ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	end := p.end
	end.When = time.Now()
	return end, p.err
}

// A meter at work over a place, and what it logged.
type gauge struct {
	*replay.Meter
	at  *place
	log *bytes.Buffer // to be read when the bubble is idle
}

func newGauge(t *testing.T) *gauge {
	g := &gauge{at: &place{}, log: &bytes.Buffer{}}
	var mu sync.Mutex
	g.Meter = replay.NewMeter(replay.MeterConfig{Journal: g.at, Logger: slog.New(slog.NewTextHandler(&locked{w: g.log, mu: &mu}, nil))})
	return g
}

type locked struct {
	w  *bytes.Buffer
	mu *sync.Mutex
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// run samples until the test ends.
func (g *gauge) run(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { g.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
}

// spoken counts the lines about an event, and forgets them all.
func (g *gauge) spoken(event string) int {
	n := strings.Count(g.log.String(), "event="+event)
	g.log.Reset()
	return n
}

func cursor(pos journal.Position, seq journal.Seq, at journal.Time) journal.Cursor {
	return journal.Cursor{Pos: pos, Seq: seq, Time: at, Epoch: 1, Owner: "a"}
}

// RULES 21: lag is unknown, and nobody caught up, before the tail was read; and
// unknown is not zero.
func TestUnknownIsNotZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGauge(t)
		g.at.err = errors.New("no servers")
		g.run(t)
		time.Sleep(time.Second)
		p := g.Progress()
		if lag := p.Lag(time.Now()); lag.Known || p.TailKnown || p.CaughtUp || p.TailErr == nil || lag.Bytes != -1 {
			t.Errorf("lag %+v, caught up %v, err %v", lag, p.CaughtUp, p.TailErr)
		}
		g.at.set(5, 7, 1000)
		time.Sleep(time.Second)
		p = g.Progress()
		if lag := p.Lag(time.Now()); !lag.Known || lag.Records != 7 || p.CaughtUp || p.TailErr != nil {
			t.Errorf("lag %+v, caught up %v, err %v", lag, p.CaughtUp, p.TailErr)
		}
		g.at.mu.Lock()
		g.at.err = errors.New("no servers again")
		g.at.mu.Unlock()
		time.Sleep(time.Minute)
		p = g.Progress()
		if lag := p.Lag(time.Now()); lag.Known || lag.Records != 0 || p.TailErr == nil || !p.TailKnown {
			t.Errorf("with a sample of a minute ago and no journal, lag %+v (%v), want unknown", lag, p.TailErr)
		}
	})
}

// The tail is sampled every 250 ms, and a slow answer does not pile up others.
func TestTailIsSampled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGauge(t)
		g.run(t)
		time.Sleep(10*time.Second + time.Millisecond)
		g.at.mu.Lock()
		if n := len(g.at.calls); n != 41 {
			t.Errorf("%d samples in 10 s, want 41", n)
		}
		for i := 1; i < len(g.at.calls); i++ {
			if d := g.at.calls[i].Sub(g.at.calls[i-1]); d != 250*time.Millisecond {
				t.Errorf("sample %d after %v", i, d)
			}
		}
		g.at.takes, g.at.calls = time.Hour, nil
		g.at.mu.Unlock()
		time.Sleep(10 * time.Second)
		g.at.mu.Lock()
		defer g.at.mu.Unlock()
		if n := len(g.at.calls); n < 9 || n > 12 {
			t.Errorf("%d samples in 10 s that get no answer, want one each second", n)
		}
	})
}

// Caught up takes meeting the tail; falling behind takes a lag worth speaking of.
// A line is logged at each change and every 10 s while behind, and no other.
func TestCaughtUpHasHysteresis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGauge(t)
		second := journal.Time(time.Second)
		step := func(what string, want bool, caughtUp, fellBehind int) {
			t.Helper()
			time.Sleep(600 * time.Millisecond) // two samples
			synctest.Wait()
			if got := g.Progress().CaughtUp; got != want {
				t.Errorf("%s: caught up %v", what, got)
			}
			log := g.log.String()
			g.log.Reset()
			if a, b := strings.Count(log, "standby.caught_up"), strings.Count(log, "standby.fell_behind"); a != caughtUp || b != fellBehind {
				t.Errorf("%s: said caught up %d times and fell behind %d times", what, a, b)
			}
		}
		g.at.set(10, 10, second)
		g.run(t)
		step("at the start", false, 0, 0)
		g.Advance(cursor(9, 9, second), 9)
		step("almost there", false, 0, 0)
		g.Advance(cursor(10, 10, second), 1)
		step("there", true, 1, 0)
		g.at.set(5000, 10_010, second+second/2)
		step("10,000 records behind", true, 0, 0)
		g.at.set(5001, 10_011, second+second/2)
		step("one more", false, 0, 1)
		g.Advance(cursor(5000, 10_010, second), 10_000)
		step("almost there again", false, 0, 0)
		g.Advance(cursor(5001, 10_011, second), 1)
		step("there again", true, 1, 0)
		g.at.set(5002, 10_012, 2*second)
		step("1 s of log time behind", true, 0, 0)
		g.at.set(5003, 10_013, 2*second+1)
		step("more than 1 s of log time behind", false, 0, 1)
	})
}

// The first record after a quiet hour is an hour later than the cursor, and no
// reason to say that the standby fell behind.
func TestQuietHourIsNoLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGauge(t)
		g.at.set(10, 10, 1)
		g.Advance(cursor(10, 10, 1), 10)
		g.run(t)
		for i := range journal.Position(20) {
			time.Sleep(time.Second)
			hour := journal.Time(i+1) * journal.Time(time.Hour)
			g.at.set(11+i, journal.Seq(11+i), hour)
			time.Sleep(240 * time.Millisecond) // one sample at most falls between the tail and the cursor
			g.Advance(cursor(11+i, journal.Seq(11+i), hour), 1)
		}
		synctest.Wait()
		if n := g.spoken("standby.fell_behind"); n != 0 {
			t.Errorf("it said %d times that it fell behind", n)
		}
	})
}

// While behind, a line says so every 10 s; a follower that is caught up is quiet.
func TestProgressLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGauge(t)
		g.at.set(1000, 1000, 1)
		g.run(t)
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if n := g.spoken("standby.progress"); n < 5 || n > 6 {
			t.Errorf("%d lines in 61 s, want one every 10 s", n)
		}
		g.Advance(cursor(1000, 1000, 1), 1000)
		synctest.Wait()
		g.log.Reset()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if g.log.Len() != 0 {
			t.Errorf("caught up, and it says %q", g.log)
		}
	})
}

// A sample that was on its way while the cursor moved on is no lag and no error.
func TestOldSampleIsNoLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGauge(t)
		g.at.set(10, 10, 1)
		g.Advance(cursor(20, 20, 2), 20)
		if _, err := g.Sample(t.Context()); err != nil {
			t.Fatal(err)
		}
		p := g.Progress()
		if lag := p.Lag(time.Now()); lag.Records != 0 || lag.Time != 0 || !p.CaughtUp {
			t.Errorf("lag %+v, caught up %v", lag, p.CaughtUp)
		}
	})
}

// Dead batches and void fences are counted, and are not replayed (RULES 13).
func TestDeadAndVoidAreCounted(t *testing.T) {
	j := memjournal.New()
	t.Cleanup(func() { j.Close() })
	entries := journaltest.Write(t, j, 2)
	j.Put(journal.AppendFence(nil, 2, "b"))
	j.Put(journaltest.Batch(journal.Cursor{Epoch: 1, Owner: "writer", Seq: 2}, journaltest.Records(3, 8)...))
	last := j.Put(journal.AppendFence(nil, 1, "c"))
	m := replay.NewMeter(replay.MeterConfig{Journal: j})
	sink := &taker{}
	if err := follower(t, j, sink, m).RunTo(t.Context(), j, 0); err != nil {
		t.Fatal(err)
	}
	p := m.Progress()
	if p.Dead != 1 || p.DeadRecords != 3 || p.Void != 1 || p.Replayed != 2 || p.Batches != 2 || p.Cursor != last || p.Epoch != 2 || p.Owner != "b" || p.Fence != entries[len(entries)-1].Pos+1 {
		t.Errorf("progress %+v", p)
	}
}

// Progress is one consistent value: readers never see it torn.
func TestProgressIsNeverTorn(t *testing.T) {
	m := replay.NewMeter(replay.MeterConfig{Journal: &place{}})
	var over atomic.Bool
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			last := journal.Position(0)
			for !over.Load() {
				p := m.Progress()
				if uint64(p.Cursor) != p.Replayed || uint64(p.Seq) != p.Replayed || uint64(p.Time) != p.Replayed || p.Batches != p.Replayed || p.Cursor < last {
					t.Errorf("torn: %+v", p)
					return
				}
				last = p.Cursor
			}
		})
	}
	readers.Go(func() {
		for !over.Load() {
			m.Sample(t.Context())
		}
	})
	for i := range 20_000 {
		n := uint64(i + 1)
		m.Advance(cursor(journal.Position(n), journal.Seq(n), journal.Time(n)), 1)
	}
	over.Store(true)
	readers.Wait()
}

// The rate follows what is applied within a second or so.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGauge(t)
		g.run(t)
		for i := range 1000 {
			time.Sleep(10 * time.Millisecond)
			n := i + 1
			g.Advance(cursor(journal.Position(n), journal.Seq(5*n), journal.Time(n)), 5)
		}
		if r := g.Progress().Rate; r < 490 || r > 510 {
			t.Errorf("rate %v, want 500", r)
		}
		time.Sleep(20 * time.Second)
		if r := g.Progress().Rate; r > 1 {
			t.Errorf("rate %v after 20 s of silence", r)
		}
	})
}
