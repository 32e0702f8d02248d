package natsjournal_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
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
