package natsjournal_test

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy.dev/internal/natsserver"
	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/natsjournal"
)

// A server that lost its tail, whose sequences a new primary filled again, does
// not take an append of the old one: the end is where it believes, the epoch is
// not.
func TestLostTailFilledAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	srv := startServer(t, natsserver.Config{Dir: dir})
	u, err := url.Parse(srv.ClientURL())
	must(t, err)
	port, err := strconv.Atoi(u.Port())
	must(t, err)
	j := open(t, natsjournal.Config{URL: srv.ClientURL(), Create: true})
	old := journaltest.NewPen("old")
	must(t, old.Fence(t.Context(), j, 1))
	must(t, old.Append(t.Context(), j, journaltest.Records(1, 8)...))

	srv.Shutdown()
	must(t, os.CopyFS(dir+".before", os.DirFS(dir)))
	srv = startServer(t, natsserver.Config{Dir: dir, Port: port})
	for range 2 {
		eventually(t, func(ctx context.Context) error { return old.Append(ctx, j, journaltest.Records(1, 8)...) })
	}
	srv.Shutdown()
	must(t, os.RemoveAll(dir))
	must(t, os.Rename(dir+".before", dir))
	srv = startServer(t, natsserver.Config{Dir: dir, Port: port})

	k := open(t, natsjournal.Config{URL: srv.ClientURL()})
	next := journaltest.NewPen("next")
	for _, e := range old.Entries()[:2] {
		must(t, next.Take(e))
	}
	must(t, next.Fence(t.Context(), k, 2))
	must(t, next.Append(t.Context(), k, journaltest.Records(1, 8)...))
	if next.Cursor().Pos != old.Cursor().Pos {
		t.Fatalf("the new primary is at %d, the old one at %d: the gap is not filled", next.Cursor().Pos, old.Cursor().Pos)
	}
	late := journaltest.Batch(old.Cursor(), journaltest.Records(1, 8)...)
	eventually(t, func(ctx context.Context) error {
		_, err := j.Append(ctx, 1, old.Cursor().Pos, late)
		switch {
		case err == nil:
			t.Fatal("the old primary's append was acknowledged")
		case errors.Is(err, journal.ErrConflict), errors.Is(err, journal.ErrFenced), errors.Is(err, journal.ErrLost):
			return nil
		}
		return err // not connected again yet
	})
}

// eventually calls f until it succeeds: a client takes a moment to reconnect.
func eventually(t *testing.T, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// On three replicas, where the server is not asked to compare the epoch, the
// handle of the old primary finds by itself that the end was lost and filled
// again: before it appends, and when it is sampled. So does the reader of a
// standby that read what was lost.
func TestReplicatedTailFilledAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster of three takes seconds")
	}
	dir := filepath.Join(t.TempDir(), "store")
	c, err := natsserver.StartLocalCluster(t.Context(), natsserver.LocalClusterConfig{Dir: dir, NoSync: true})
	must(t, err)
	t.Cleanup(c.Shutdown)
	restart := func(between func()) {
		t.Helper()
		c.Shutdown()
		between()
		for i := range c.Servers {
			must(t, c.Restart(t.Context(), i))
		}
		must(t, c.WaitForLeader(t.Context()))
	}
	cfg := natsjournal.Config{URL: strings.Join(c.ClientURLs(), ","), Replicas: 3, Create: true}
	j := open(t, cfg)
	w := newWriter(t, j, 1, "old")
	must(t, w.append(t.Context()))
	kept := entriesOf(t, j, 2)
	restart(func() { must(t, os.CopyFS(dir+".before", os.DirFS(dir))) })
	for range 2 {
		must(t, w.append(t.Context()))
	}
	standby := journal.NewReader(open(t, cfg), journal.ReaderConfig{})
	defer standby.Close()
	readTo(t, standby, w.Cursor().Seq)
	restart(func() {
		must(t, os.RemoveAll(dir))
		must(t, os.Rename(dir+".before", dir))
	})

	k := open(t, cfg)
	next := journaltest.NewPen("next")
	for _, e := range kept {
		must(t, next.Take(e))
	}
	eventually(t, func(ctx context.Context) error { return next.Fence(ctx, k, 2) })
	must(t, next.Append(t.Context(), k, journaltest.Records(1, 8)...))
	if next.Cursor().Pos != w.Cursor().Pos {
		t.Fatalf("the new primary is at %d, the old one at %d: the gap is not filled", next.Cursor().Pos, w.Cursor().Pos)
	}
	if err := w.append(t.Context()); !errors.Is(err, journal.ErrLost) {
		t.Errorf("append of the old primary: err = %v, want %v", err, journal.ErrLost)
	}
	if _, err := j.End(t.Context()); !errors.Is(err, journal.ErrLost) {
		t.Errorf("sample by the old primary: err = %v, want %v", err, journal.ErrLost)
	}
	if err := fails(t.Context(), standby); !errors.Is(err, journal.ErrLost) {
		t.Errorf("standby that read what was lost: err = %v, want %v", err, journal.ErrLost)
	}
	must(t, next.Append(t.Context(), k, journaltest.Records(1, 8)...)) // nothing landed in between
}

// entriesOf returns the first n entries.
func entriesOf(t *testing.T, j journal.Journal, n int) (entries []journal.Entry) {
	t.Helper()
	f := follow(t, j, 0)
	for range n {
		e, err := f.entry()
		must(t, err)
		e.Data = bytes.Clone(e.Data)
		entries = append(entries, e)
	}
	return entries
}
