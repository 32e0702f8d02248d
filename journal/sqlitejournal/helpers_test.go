package sqlitejournal_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite" // other programs' view of the database

	"understudy.dev/journal"
	"understudy.dev/journal/sqlitejournal"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newPath names a database that is not there yet.
func newPath(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "j.db")
}

// foreign opens a database as another program would, and runs statements.
func foreign(t testing.TB, path string, statements ...string) *sql.Conn {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath())
	must(t, err)
	t.Cleanup(func() { db.Close() })
	c, err := db.Conn(t.Context())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	for _, s := range statements {
		if _, err := c.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	return c
}

// drain returns the entries after a position, up to the first heartbeat.
func drain(ctx context.Context, j journal.Journal, after journal.Position) ([]journal.Entry, error) {
	var got []journal.Entry
	for e, err := range j.Follow(ctx, after) {
		if err != nil {
			return got, err
		}
		if len(e.Data) == 0 {
			return got, nil
		}
		got = append(got, journal.Entry{Pos: e.Pos, Data: bytes.Clone(e.Data)})
	}
	return got, fmt.Errorf("ended after %d entries: %w", len(got), context.Cause(ctx))
}

// wantEntries checks what a journal holds.
func wantEntries(t testing.TB, j journal.Journal, after journal.Position, want []journal.Entry) {
	t.Helper()
	got, err := drain(t.Context(), j, after)
	must(t, err)
	if len(got) != len(want) {
		t.Fatalf("%d entries after %d, want %d", len(got), after, len(want))
	}
	for i := range want {
		if got[i].Pos != want[i].Pos || !bytes.Equal(got[i].Data, want[i].Data) {
			t.Fatalf("entry %d of %d at %d differs from the one at %d", i+1, len(want), got[i].Pos, want[i].Pos)
		}
	}
}

// closing closes a handle before the test ends.
func closing(t testing.TB, j *sqlitejournal.Journal) {
	t.Helper()
	must(t, j.Close())
}
