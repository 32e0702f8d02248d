package natsjournal_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"understudy.dev/internal/natsserver"
	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/natsjournal"
)

// startCluster runs three servers for one test.
func startCluster(tb testing.TB) *natsserver.LocalCluster {
	tb.Helper()
	if testing.Short() {
		tb.Skip("a cluster of three takes seconds")
	}
	c, err := natsserver.StartLocalCluster(tb.Context(), natsserver.LocalClusterConfig{Dir: tb.TempDir(), NoSync: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Shutdown)
	return c
}

func TestConformanceOnThreeReplicas(t *testing.T) {
	c := startCluster(t)
	s := &streams{config: natsjournal.Config{URL: strings.Join(c.ClientURLs(), ","), Replicas: 3}}
	cfg := s.conformance()
	cfg.Steps = 80
	journaltest.Run(t, cfg)
}

// openOn opens the stream through one member only, so that the test decides
// which server a handle depends on.
func openOn(tb testing.TB, srv *natsserver.Server, cfg natsjournal.Config) *natsjournal.Journal {
	tb.Helper()
	cfg.InProcess, cfg.Replicas, cfg.Create = srv, 3, true
	return open(tb, cfg)
}

// leader waits until the stream has one.
func leader(t *testing.T, c *natsserver.LocalCluster) *natsserver.Server {
	t.Helper()
	var s *natsserver.Server
	waitFor(t, func() bool { s = c.Leader("TEST"); return s != nil })
	return s
}

// waitFor polls until done, as long as the test may run.
func waitFor(tb testing.TB, done func() bool) {
	tb.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-tb.Context().Done():
			tb.Fatal("the test ended before what it waited for came about")
		}
	}
}

// writer appends through a journal.Writer, which resolves unknown appends from
// the log, and keeps what was acknowledged.
type writer struct {
	*journal.Writer
	builder *journal.Builder
	acked   []journal.Cursor
}

// newWriter opens epoch for owner on an empty journal.
func newWriter(t *testing.T, j journal.Journal, epoch journal.Epoch, owner string) *writer {
	t.Helper()
	p := journaltest.NewPen(owner)
	must(t, p.Fence(t.Context(), j, epoch))
	w := journal.NewWriter(j, p.Cursor(), journal.WriterConfig{})
	return &writer{Writer: w, builder: w.NewBuilder()}
}

func (w *writer) append(ctx context.Context) error {
	w.builder.Reset()
	for _, r := range journaltest.Records(3, 40) {
		if err := w.builder.Add(&r); err != nil {
			return err
		}
	}
	err := w.Append(ctx, w.builder, journal.Digest{})
	if err == nil {
		w.acked = append(w.acked, w.Cursor())
	}
	return err
}

// keepAppending appends until told to stop; then it says how it went.
func (w *writer) keepAppending(ctx context.Context) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	result := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if err := w.append(ctx); err != nil && ctx.Err() == nil {
				result <- err
				return
			}
		}
		result <- nil
	}()
	return func() error { cancel(); return <-result }
}

// wantAcked reads the journal from the start, checked and chained, and looks for
// every cursor that was acknowledged.
func wantAcked(t *testing.T, j journal.Journal, acked []journal.Cursor) {
	t.Helper()
	r := journal.NewReader(j, journal.ReaderConfig{})
	defer r.Close()
	next := 0
	var it journal.Item
	for next < len(acked) {
		must(t, r.Next(t.Context(), &it))
		if it.Verdict == journal.Live && it.Cursor.Seq >= acked[next].Seq {
			if it.Cursor != acked[next] {
				t.Fatalf("batch up to seq %d is at %+v, was acknowledged at %+v", acked[next].Seq, it.Cursor, acked[next])
			}
			next++
		}
	}
}

// The leader steps down again and again under a writer and a follower: nothing
// acknowledged is lost, doubled or moved, and the follower misses nothing.
func TestLeaderStepsDown(t *testing.T) {
	c := startCluster(t)
	j := openOn(t, c.Servers[0], natsjournal.Config{})
	w := newWriter(t, j, 1, "a")
	r := journal.NewReader(openOn(t, c.Servers[1], natsjournal.Config{}), journal.ReaderConfig{OnRetry: func(err error, _ int, _ time.Duration) {
		if err != nil && !errors.Is(err, journal.ErrSilent) {
			t.Errorf("following ended: %v", err)
		}
	}})
	defer r.Close()
	stop := w.keepAppending(t.Context())
	var it journal.Item
	more := func(n journal.Seq) { // the follower gets on
		for want := r.Cursor().Seq + n; r.Cursor().Seq < want; {
			must(t, r.Next(t.Context(), &it))
		}
	}
	for range 5 {
		more(60)
		must(t, leader(t, c).StepDown("TEST"))
	}
	more(60)
	must(t, stop())
	t.Logf("%d batches acknowledged", len(w.acked))
	wantAcked(t, openOn(t, c.Servers[2], natsjournal.Config{}), w.acked)
}

// The leader stops. A fence waits for the next one, a writer and a follower that
// are connected elsewhere go on, and a server that comes back catches up.
func TestLeaderStops(t *testing.T) {
	c := startCluster(t)
	first := openOn(t, c.Servers[0], natsjournal.Config{})
	w := newWriter(t, first, 1, "a")
	must(t, w.append(t.Context()))

	down := leader(t, c)
	var up []*natsserver.Server
	index := 0
	for i, s := range c.Servers {
		if s != down {
			up = append(up, s)
		} else {
			index = i
		}
	}
	j := openOn(t, up[0], natsjournal.Config{})
	follower := follow(t, openOn(t, up[1], natsjournal.Config{}), 2)
	follower.heartbeat(t)
	down.Shutdown()
	pos, err := j.Fence(t.Context(), 2, "b")
	for journal.OutcomeOf(err) == journal.Unknown {
		pos, err = j.Fence(t.Context(), 2, "b")
	}
	must(t, err)
	if pos != 3 {
		t.Errorf("fence after a leader change is at %d, want 3", pos)
	}
	e, err := follower.entry()
	for errors.Is(err, journal.ErrSilent) { // no leader for longer than a follower waits
		follower = follow(t, openOn(t, up[1], natsjournal.Config{}), 2)
		e, err = follower.entry()
	}
	if err != nil || e.Pos != pos {
		t.Fatalf("followed to %d, err = %v, want the fence at %d", e.Pos, err, pos)
	}
	must(t, c.Restart(t.Context(), index))
	must(t, c.WaitForLeader(t.Context()))
	back := openOn(t, c.Servers[index], natsjournal.Config{})
	if e := nextEntry(t, back, 2); e.Pos != pos {
		t.Errorf("on the server that came back: entry %d after 2, want %d", e.Pos, pos)
	}
}

// The server that a follower is connected to stops, while the stream goes on: the
// follower moves to another server and misses nothing.
func TestFollowersServerStops(t *testing.T) {
	c := startCluster(t)
	j := openOn(t, c.Servers[0], natsjournal.Config{})
	w := newWriter(t, j, 1, "a")
	waitFor(t, func() bool { // the server to stop shall be another replica
		l := leader(t, c)
		if l == c.Servers[2] {
			_ = l.StepDown("TEST")
			return false
		}
		return true
	})
	r := journal.NewReader(open(t, natsjournal.Config{
		URL: strings.Join([]string{c.Servers[2].ClientURL(), c.Servers[1].ClientURL()}, ","), Replicas: 3,
		Options: []nats.Option{nats.DontRandomize()},
	}), journal.ReaderConfig{})
	defer r.Close()
	must(t, w.append(t.Context()))
	readTo(t, r, w.Cursor().Seq)
	c.Servers[2].Shutdown()
	for range 20 {
		must(t, w.append(t.Context()))
	}
	readTo(t, r, w.Cursor().Seq)
	if got, want := r.Cursor(), w.Cursor(); got != want {
		t.Errorf("the follower is at %+v, want %+v", got, want)
	}
}

// Of many that fence the same epoch one wins, and a busy writer keeps nobody out.
// On three replicas the losers are told so by 10164 too.
func TestFenceRaceOnThreeReplicas(t *testing.T) {
	c := startCluster(t)
	j := openOn(t, c.Servers[0], natsjournal.Config{})
	w := newWriter(t, j, 1, "a")
	stop := w.keepAppending(t.Context())
	var handles []*natsjournal.Journal
	for i := range 3 {
		handles = append(handles, openOn(t, c.Servers[i], natsjournal.Config{}))
	}
	type result struct {
		pos journal.Position
		err error
	}
	for epoch := journal.Epoch(2); epoch < 12; epoch++ {
		results := make([]result, len(handles))
		var wg sync.WaitGroup
		for i, h := range handles {
			wg.Go(func() {
				pos, err := h.Fence(t.Context(), epoch, fmt.Sprint("owner ", i))
				results[i] = result{pos, err}
			})
		}
		wg.Wait()
		won := 0
		for i, r := range results {
			if r.err == nil {
				won++
			} else if !errors.Is(r.err, journal.ErrFenced) {
				t.Errorf("epoch %d, owner %d: err = %v, want %v", epoch, i, r.err, journal.ErrFenced)
			}
		}
		if won != 1 {
			t.Fatalf("epoch %d: %d owners won, want 1: %v", epoch, won, results)
		}
	}
	if err := stop(); !errors.Is(err, journal.ErrFenced) {
		t.Errorf("the writer of epoch 1 ended with %v, want %v", err, journal.ErrFenced)
	}
}

// On three replicas the server takes an append after a purge: the handle looks
// first, if nobody has for a while, and the standby and the sample find it as on
// one replica.
func TestPurgeIsFoundOnThreeReplicas(t *testing.T) {
	c := startCluster(t)
	primary, standby := openOn(t, c.Servers[0], natsjournal.Config{}), openOn(t, c.Servers[1], natsjournal.Config{})
	g := newGroup(t, primary, standby)
	s, err := jetStream(t, c.Servers[2]).Stream(t.Context(), "TEST")
	must(t, err)
	must(t, s.Purge(t.Context()))
	wantLost(t, "reader that follows", fails(until(t), g.reader)) // takes two looks at most
	_, err = primary.End(t.Context())
	wantLost(t, "sample of the end", err)
	wantLost(t, "append", g.write(until(t)))
	info, err := s.Info(t.Context())
	must(t, err)
	if info.State.Msgs != 0 {
		t.Errorf("%d messages were stored after the purge was found", info.State.Msgs)
	}
}

// A writer alone on three replicas, whom nobody samples, stores nothing after it
// was idle for long enough to look.
func TestIdleWriterFindsAPurgeOnThreeReplicas(t *testing.T) {
	c := startCluster(t)
	primary := openOn(t, c.Servers[0], natsjournal.Config{})
	g := newGroup(t, primary, openOn(t, c.Servers[1], natsjournal.Config{}))
	s, err := jetStream(t, c.Servers[2]).Stream(t.Context(), "TEST")
	must(t, err)
	must(t, s.Purge(t.Context()))
	stored := 0
	for ctx := until(t); ctx.Err() == nil; stored++ { // those before the handle looks again are taken
		if err = g.write(ctx); err != nil {
			break
		}
	}
	wantLost(t, "append", err)
	t.Logf("%d appends were taken between the purge and the look", stored)
}
