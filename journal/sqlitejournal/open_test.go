package sqlitejournal_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/sqlitejournal"
)

// What is not ours is refused by name and not touched.
func TestForeignDatabase(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T, path string)
		want error
		says string
	}{
		{"another program's", func(t *testing.T, path string) {
			foreign(t, path, "CREATE TABLE t (x)", "PRAGMA application_id = 77").Close()
		}, sqlitejournal.ErrForeign, "application_id 0x4d, 1 tables"},
		{"another program's without an id", func(t *testing.T, path string) {
			foreign(t, path, "CREATE TABLE entries (id)").Close()
		}, sqlitejournal.ErrForeign, "application_id 0x0, 1 tables"},
		{"a later version", func(t *testing.T, path string) {
			closing(t, openAt(t, path, sqlitejournal.Config{}))
			foreign(t, path, "PRAGMA user_version = 2").Close()
		}, journal.ErrVersion, "schema 2, this version reads 1"},
		{"a version that never was", func(t *testing.T, path string) {
			closing(t, openAt(t, path, sqlitejournal.Config{}))
			foreign(t, path, "PRAGMA user_version = 0").Close()
		}, sqlitejournal.ErrForeign, "schema 0"},
		{"no database", func(t *testing.T, path string) {
			must(t, os.WriteFile(path, []byte(strings.Repeat("words\n", 1000)), 0o600))
		}, sqlitejournal.ErrForeign, "file is not a database"},
		{"a folder", func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)) }, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := newPath(t)
			tt.make(t, path)
			before, _ := os.ReadFile(path)
			for _, cfg := range []sqlitejournal.Config{{Create: true}, {}, {ReadOnly: true}} {
				j, err := sqlitejournal.Open(t.Context(), path, cfg)
				if err == nil {
					j.Close()
				}
				var corrupt *journal.CorruptError
				if err == nil || tt.want != nil && (!errors.Is(err, tt.want) || !errors.As(err, &corrupt) || corrupt.Source != path) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("Open %+v = %v, want a CorruptError of %s with %v that says %q", cfg, err, path, tt.want, tt.says)
				}
			}
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Error("the file was changed")
			}
		})
	}
}

// What is missing is made for writers that ask for it only.
func TestMissing(t *testing.T) {
	path := newPath(t)
	for _, cfg := range []sqlitejournal.Config{{}, {ReadOnly: true}, {ReadOnly: true, Create: true}} {
		if _, err := sqlitejournal.Open(t.Context(), path, cfg); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open %+v = %v, want ErrNotExist", cfg, err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Fatalf("Open %+v made the file", cfg)
		}
	}
	must(t, os.WriteFile(path, nil, 0o600)) // as an interrupted Open leaves it
	if _, err := sqlitejournal.Open(t.Context(), path, sqlitejournal.Config{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open an empty file = %v, want ErrNotExist", err)
	}
	journaltest.Write(t, openAt(t, path, sqlitejournal.Config{Name: "a"}), 1)
	if _, err := sqlitejournal.Open(t.Context(), path, sqlitejournal.Config{Name: "b"}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "no journal b") {
		t.Errorf("Open another journal = %v, want ErrNotExist with its name", err)
	}
	if _, err := sqlitejournal.Open(t.Context(), filepath.Join(path+".d", "j.db"), sqlitejournal.Config{Create: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open in a folder that is missing = %v, want ErrNotExist", err)
	}
	for _, name := range []string{"a/b", "ä", "a b", strings.Repeat("x", 256)} {
		if _, err := sqlitejournal.Open(t.Context(), path, sqlitejournal.Config{Name: name, Create: true}); err == nil {
			t.Errorf("Open with the name %q succeeded", name)
		}
	}
}

// Handles that are opened at the same time make one journal.
func TestMadeAtOnce(t *testing.T) {
	path := newPath(t)
	const n = 8
	errs := make(chan error, n)
	for i := range n {
		go func() {
			j, err := sqlitejournal.Open(t.Context(), path, sqlitejournal.Config{Create: true, Name: string(rune('a' + i%2))})
			if err == nil {
				_, err = j.Fence(t.Context(), 1, "same")
				err = errors.Join(err, j.Close())
			}
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	var journals, entries int
	c := foreign(t, path)
	must(t, c.QueryRowContext(t.Context(), "SELECT count(*) FROM journals").Scan(&journals))
	must(t, c.QueryRowContext(t.Context(), "SELECT count(*) FROM entries").Scan(&entries))
	if journals != 2 || entries != 2 {
		t.Errorf("%d journals with %d entries, want 2 with a fence each", journals, entries)
	}
}

// A closed handle leaves nothing behind: the last one moves the log into the
// database and removes it.
func TestCloseLeavesTheDatabaseAlone(t *testing.T) {
	path := newPath(t)
	j := openAt(t, path, sqlitejournal.Config{})
	want := journaltest.Write(t, j, 5)
	wantEntries(t, j, 0, want)
	_, err := j.End(t.Context())
	must(t, err)
	closing(t, j)
	all, err := filepath.Glob(path + "*")
	if err != nil || len(all) != 1 {
		t.Errorf("left: %q, %v", all, err)
	}
	wantEntries(t, openAt(t, path, sqlitejournal.Config{ReadOnly: true}), 0, want)
}

// A handle that may only read follows a writer and changes nothing, whether the
// database is in use or not.
func TestReadOnly(t *testing.T) {
	path := newPath(t)
	w := openAt(t, path, sqlitejournal.Config{})
	want := journaltest.Write(t, w, 5)
	r := openAt(t, path, sqlitejournal.Config{ReadOnly: true})
	wantEntries(t, r, 0, want)
	for call, err := range map[string]error{
		"Append": func() error { _, err := r.Append(t.Context(), 1, 6, want[1].Data); return err }(),
		"Fence":  func() error { _, err := r.Fence(t.Context(), 9, "x"); return err }(),
		"Import": func() error { _, err := r.Import(t.Context(), 6, want[1].Data); return err }(),
		"Trim":   r.Trim(t.Context(), 3),
	} {
		if !errors.Is(err, journal.ErrReadOnly) {
			t.Errorf("%s = %v, want ErrReadOnly", call, err)
		}
	}
	closing(t, w)
	wantEntries(t, r, 0, want)
	closing(t, r)
	before, err := os.ReadFile(path)
	must(t, err)
	r = openAt(t, path, sqlitejournal.Config{ReadOnly: true})
	wantEntries(t, r, 0, want)
	closing(t, r)
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the database was changed, %v", err)
	}
}

// A file or folder that cannot be written is said to be so, when it is opened.
func TestWithoutPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere; TestReadOnlyFileSystem has it")
	}
	path := newPath(t)
	closing(t, openAt(t, path, sqlitejournal.Config{}))
	must(t, os.Chmod(path, 0o400))
	if _, err := sqlitejournal.Open(t.Context(), path, sqlitejournal.Config{}); !errors.Is(err, journal.ErrReadOnly) {
		t.Errorf("Open a file without permission = %v, want ErrReadOnly", err)
	}
}

// A database that another program keeps to itself is waited for.
func TestOpenWaitsForALock(t *testing.T) {
	path := newPath(t)
	want := journaltest.Write(t, openAt(t, path, sqlitejournal.Config{}), 2)
	closing(t, openAt(t, path, sqlitejournal.Config{}))
	for name, cfg := range map[string]sqlitejournal.Config{"new journal": {Create: true, Name: "b"}} {
		t.Run(name, func(t *testing.T) {
			other := foreign(t, path, "BEGIN IMMEDIATE")
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if _, err := sqlitejournal.Open(ctx, path, cfg); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "holds the database's lock") {
				t.Errorf("Open while it is locked = %v, want DeadlineExceeded", err)
			}
			time.AfterFunc(20*time.Millisecond, func() { other.ExecContext(context.Background(), "ROLLBACK") })
			openAt(t, path, cfg)
		})
	}
	// What is there already is opened all the same: a stopped writer must not keep a
	// standby from starting.
	foreign(t, path, "BEGIN IMMEDIATE")
	wantEntries(t, openAt(t, path, sqlitejournal.Config{}), 0, want)
}
