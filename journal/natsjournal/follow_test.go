package natsjournal_test

import (
	"context"
	"errors"
	"iter"
	"net/url"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"understudy.dev/internal/natsserver"
	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/natsjournal"
)

// A tap reads one Follow step by step.
type tap struct {
	next func() (journal.Entry, error, bool)
}

func follow(tb testing.TB, j journal.Journal, after journal.Position) *tap {
	tb.Helper()
	next, stop := iter.Pull2(j.Follow(tb.Context(), after))
	tb.Cleanup(stop)
	return &tap{next}
}

// entry skips heartbeats and returns the next entry, or the error that ends
// following.
func (p *tap) entry() (journal.Entry, error) {
	for {
		e, err, ok := p.next()
		if !ok {
			return e, errors.New("following ended silently")
		}
		if err != nil || len(e.Data) > 0 {
			return e, err
		}
	}
}

// heartbeat expects no entry before the next heartbeat.
func (p *tap) heartbeat(tb testing.TB) journal.Position {
	tb.Helper()
	e, err, ok := p.next()
	if !ok || err != nil || len(e.Data) > 0 {
		tb.Fatalf("followed to entry %d, err = %v, %v; want a heartbeat", e.Pos, err, ok)
	}
	return e.Pos
}

func (p *tap) want(tb testing.TB, pos journal.Position) {
	tb.Helper()
	e, err := p.entry()
	if err != nil || e.Pos != pos {
		tb.Fatalf("followed to entry %d, err = %v, want entry %d", e.Pos, err, pos)
	}
}

// What somebody else published into the stream is an entry: the reader names it.
func TestFollowForeignMessage(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	j := open(t, natsjournal.Config{InProcess: srv, Create: true})
	js := jetStream(t, srv)
	live := follow(t, j, 0)
	live.heartbeat(t)
	_, err := js.Publish(t.Context(), "understudy.TEST.data", []byte("hello"))
	must(t, err)
	for name, f := range map[string]*tap{"live": live, "past": follow(t, j, 0)} {
		if e, err := f.entry(); err != nil || e.Pos != 1 || string(e.Data) != "hello" {
			t.Errorf("%s: followed to %d %q, err = %v, want 1 %q", name, e.Pos, e.Data, err, "hello")
		}
	}
}

// An empty message would look like a heartbeat: it is damage, with its place.
func TestFollowEmptyMessage(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	j := open(t, natsjournal.Config{InProcess: srv, Create: true})
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	live := follow(t, j, 1)
	live.heartbeat(t)
	_, err := jetStream(t, srv).Publish(t.Context(), "understudy.TEST.data", nil)
	must(t, err)
	for name, f := range map[string]*tap{"live": live, "past": follow(t, j, 1)} {
		_, err := f.entry()
		wantCorrupt(t, name, err, 2, journal.ErrForeign)
	}
}

func wantCorrupt(t *testing.T, name string, err error, pos journal.Position, cause error) {
	t.Helper()
	var c *journal.CorruptError
	if !errors.As(err, &c) || c.Pos != pos || cause != nil && !errors.Is(err, cause) {
		t.Errorf("%s: err = %v, want a CorruptError at %d for %v", name, err, pos, cause)
	}
}

// A message that is gone while older batches are there was not trimmed. The handle
// that wrote it knows that the stream lost it.
func TestFollowDeletedMessage(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	j := open(t, natsjournal.Config{InProcess: srv, Create: true})
	p := journaltest.NewPen("a")
	for epoch := range 3 { // fences at 1, 3 and 5
		must(t, p.Fence(t.Context(), j, journal.Epoch(epoch+1)))
		must(t, p.Append(t.Context(), j, journaltest.Records(1, 8)...))
	}
	live := follow(t, j, 6)
	live.heartbeat(t)
	s, err := jetStream(t, srv).Stream(t.Context(), "TEST")
	must(t, err)
	must(t, s.Purge(t.Context(), jetstream.WithPurgeSubject("understudy.TEST.epoch")))

	if _, err := live.entry(); !errors.Is(err, journal.ErrLost) {
		t.Errorf("on the handle that wrote: err = %v, want %v", err, journal.ErrLost)
	}
	j = open(t, natsjournal.Config{InProcess: srv})
	live = follow(t, j, 6)
	live.heartbeat(t)
	f := follow(t, j, 2)
	_, err = f.entry()
	wantCorrupt(t, "past", err, 3, nil)
	if errors.Is(err, journal.ErrTrimmed) {
		t.Errorf("err = %v, want no word about trimming", err)
	}
	f = follow(t, j, 3)
	f.want(t, 4)
	_, err = f.entry()
	wantCorrupt(t, "after one more", err, 5, nil)
	if _, err := follow(t, j, 0).entry(); !errors.Is(err, journal.ErrTrimmed) { // before the oldest batch: it may have been
		t.Errorf("from the start: err = %v, want %v", err, journal.ErrTrimmed)
	}
	live.heartbeat(t)
}

// The last message of all is missed too.
func TestFollowDeletedTail(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	j := open(t, natsjournal.Config{InProcess: srv, Create: true})
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	must(t, p.Append(t.Context(), j, journaltest.Records(1, 8)...))
	must(t, p.Fence(t.Context(), j, 2))
	s, err := jetStream(t, srv).Stream(t.Context(), "TEST")
	must(t, err)
	must(t, s.Purge(t.Context(), jetstream.WithPurgeSubject("understudy.TEST.epoch")))
	_, err = follow(t, open(t, natsjournal.Config{InProcess: srv}), 2).entry()
	wantCorrupt(t, "tail", err, 3, nil)
}

// A follower that takes its time misses what is republished meanwhile and reads
// it back, in order and once.
func TestFollowSlowly(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	j := open(t, natsjournal.Config{InProcess: srv, Create: true})
	f := follow(t, j, 0)
	f.heartbeat(t)
	const n = 1000 // many times what is kept for a follower
	entries := journaltest.Write(t, j, n)
	for _, e := range entries {
		f.want(t, e.Pos)
	}
	f.heartbeat(t)
}

// Heartbeats come from the server's answer, so they stop with it, and following
// ends with an error instead of hanging.
func TestFollowThroughRestart(t *testing.T) {
	dir := t.TempDir()
	srv := startServer(t, natsserver.Config{Dir: dir})
	j := open(t, natsjournal.Config{URL: srv.ClientURL(), Create: true})
	entries := journaltest.Write(t, j, 5)
	f := follow(t, j, 0)
	for _, e := range entries {
		f.want(t, e.Pos)
	}
	if got, want := f.heartbeat(t), entries[5].Pos; got != want {
		t.Fatalf("heartbeat at %d, want %d", got, want)
	}
	srv.Shutdown()
	_, err := f.entry()
	if !errors.Is(err, journal.ErrSilent) {
		t.Fatalf("following a server that is gone: err = %v, want %v", err, journal.ErrSilent)
	}
	srv = startServer(t, natsserver.Config{Dir: dir, Port: portOf(t, srv)})
	if e := nextEntry(t, j, entries[2].Pos); e.Pos != entries[3].Pos {
		t.Errorf("following again after %d: entry %d, want %d", entries[2].Pos, e.Pos, entries[3].Pos)
	}
	other := open(t, natsjournal.Config{InProcess: srv})
	pos, err := other.Fence(t.Context(), 2, "b")
	must(t, err)
	if e := nextEntry(t, j, entries[5].Pos); e.Pos != pos {
		t.Errorf("following again after %d: entry %d, want the fence at %d", entries[5].Pos, e.Pos, pos)
	}
}

func portOf(t *testing.T, srv *natsserver.Server) int {
	t.Helper()
	u, err := url.Parse(srv.ClientURL())
	must(t, err)
	port, err := strconv.Atoi(u.Port())
	must(t, err)
	return port
}

// A restart that is over before the follower loses patience goes unnoticed.
func TestFollowThroughShortRestart(t *testing.T) {
	dir := t.TempDir()
	srv := startServer(t, natsserver.Config{Dir: dir})
	j := open(t, natsjournal.Config{URL: srv.ClientURL(), Create: true})
	f := follow(t, j, 0)
	f.heartbeat(t)
	srv.Shutdown()
	srv = startServer(t, natsserver.Config{Dir: dir, Port: portOf(t, srv)})
	pos, err := open(t, natsjournal.Config{InProcess: srv}).Fence(t.Context(), 1, "a")
	must(t, err)
	e, err := f.entry()
	for errors.Is(err, journal.ErrSilent) { // the machine was busy
		e, err = follow(t, j, 0).entry()
	}
	if err != nil || e.Pos != pos {
		t.Errorf("followed to %d, err = %v, want the fence at %d", e.Pos, err, pos)
	}
}

// A stream that lost its tail, or was made again, ends before the cursor: the
// heartbeats say so, and nothing is yielded until it has grown past it.
func TestFollowRecreatedStream(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	j := open(t, natsjournal.Config{InProcess: srv, Create: true})
	entries := journaltest.Write(t, j, 5)
	end := entries[5].Pos
	f := follow(t, j, end)
	if got := f.heartbeat(t); got != end {
		t.Fatalf("heartbeat at %d, want %d", got, end)
	}
	js := jetStream(t, srv)
	must(t, js.DeleteStream(t.Context(), "TEST"))
	again := open(t, natsjournal.Config{InProcess: srv, Create: true})
	if _, err := f.entry(); err == nil || errors.Is(err, journal.ErrLost) {
		t.Errorf("following a stream that was made again: err = %v, want an error that is not final", err)
	}
	must(t, errorOf(again.Fence(t.Context(), 1, "a")))
	f = follow(t, j, end)
	for range 2 {
		if got := f.heartbeat(t); got != 1 {
			t.Errorf("heartbeat at %d, want 1, where the new stream ends", got)
		}
	}
	e := nextEntry(t, j, 0)
	if e.Pos != 1 || !journal.IsFence(e.Data) {
		t.Errorf("entry %d of the new stream, want its fence at 1", e.Pos)
	}
	sample, err := j.End(t.Context())
	must(t, err)
	if sample.Pos != 1 || sample.Seq != 0 || sample.Epoch != 1 {
		t.Errorf("End = %+v, want that of the new stream", sample)
	}
}

func errorOf(_ journal.Position, err error) error { return err }

// Messages that somebody publishes where the stream republishes to are not
// entries.
func TestFollowIgnoresForgedRepublish(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	j := open(t, natsjournal.Config{InProcess: srv, Create: true})
	f := follow(t, j, 0)
	f.heartbeat(t)
	js := jetStream(t, srv)
	must(t, js.Conn().Publish("understudy.TEST.live.data", []byte("forged")))
	must(t, js.Conn().Flush())
	f.heartbeat(t)
}

// A Follow whose context ended before it began yields nothing.
func TestFollowEnded(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	j := open(t, natsjournal.Config{InProcess: srv, Create: true})
	journaltest.Write(t, j, 3)
	for e, err := range j.Follow(ended(), 0) {
		t.Errorf("followed to entry %d, err = %v, want nothing", e.Pos, err)
	}
}

// A journal.Reader on top goes on over a restart without being told.
func TestReaderGoesOnOverRestart(t *testing.T) {
	dir := t.TempDir()
	srv := startServer(t, natsserver.Config{Dir: dir})
	j := open(t, natsjournal.Config{URL: srv.ClientURL(), Create: true})
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	must(t, p.Append(t.Context(), j, journaltest.Records(1, 8)...))
	r := journal.NewReader(j, journal.ReaderConfig{})
	defer r.Close()
	readTo(t, r, p.Cursor().Seq)
	srv.Shutdown()
	srv = startServer(t, natsserver.Config{Dir: dir, Port: portOf(t, srv)})
	other := open(t, natsjournal.Config{InProcess: srv})
	for range 3 {
		must(t, p.Append(t.Context(), other, journaltest.Records(1, 8)...))
	}
	readTo(t, r, p.Cursor().Seq)
	if got, want := r.Cursor(), p.Cursor(); got != want {
		t.Errorf("the reader is at %+v, want %+v", got, want)
	}
}

// readTo reads until a record is there.
func readTo(t *testing.T, r *journal.Reader, seq journal.Seq) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var it journal.Item
	for r.Cursor().Seq < seq {
		must(t, r.Next(ctx, &it))
	}
}
