package sqlitejournal_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/sqlitejournal"
)

// replacements are what must not be done to a database that is open.
var replacements = map[string]func(t *testing.T, path string){
	"moved away": func(t *testing.T, path string) { must(t, os.Rename(path, path+".old")) },
	"deleted":    func(t *testing.T, path string) { must(t, os.Remove(path)) },
	"another in its place": func(t *testing.T, path string) {
		other := newPath(t)
		closing(t, openAt(t, other, sqlitejournal.Config{}))
		must(t, os.Rename(other, path))
	},
	"a copy in its place": func(t *testing.T, path string) {
		foreign(t, path, "VACUUM INTO '"+path+".copy'").Close()
		must(t, os.Rename(path+".copy", path))
	},
	"log deleted":   func(t *testing.T, path string) { must(t, os.Remove(path+"-wal")) },
	"index deleted": func(t *testing.T, path string) { must(t, os.Remove(path+"-shm")) },
}

// Calls on a journal that is in use, until one fails.
var usesUntilError = map[string]func(ctx context.Context, j *sqlitejournal.Journal, p *journaltest.Pen) error{
	"append": func(ctx context.Context, j *sqlitejournal.Journal, p *journaltest.Pen) error {
		return p.Append(ctx, j, journaltest.Records(1, 10)...)
	},
	"fence": func(ctx context.Context, j *sqlitejournal.Journal, p *journaltest.Pen) error {
		return p.Fence(ctx, j, p.Cursor().Epoch+1)
	},
	"the same fence again": func(ctx context.Context, j *sqlitejournal.Journal, _ *journaltest.Pen) error {
		_, err := j.Fence(ctx, 1, "a")
		return err
	},
	"trim": func(ctx context.Context, j *sqlitejournal.Journal, _ *journaltest.Pen) error { return j.Trim(ctx, 2) },
	"end": func(ctx context.Context, j *sqlitejournal.Journal, _ *journaltest.Pen) error {
		_, err := j.End(ctx)
		return err
	},
	"follow": func(ctx context.Context, j *sqlitejournal.Journal, p *journaltest.Pen) error {
		for _, err := range j.Follow(ctx, p.Cursor().Pos) {
			if err != nil {
				return err
			}
		}
		return ctx.Err()
	},
}

// A handle whose files were replaced or deleted stops to acknowledge within 100 ms,
// for good, and its followers and samples say what happened.
func TestReplaced(t *testing.T) {
	t.Parallel()
	for what, replace := range replacements {
		for use, call := range usesUntilError {
			t.Run(what+"/"+use, func(t *testing.T) {
				path := newPath(t)
				j := openAt(t, path, sqlitejournal.Config{})
				p := journaltest.NewPen("a")
				must(t, p.Fence(t.Context(), j, 1))
				must(t, p.Append(t.Context(), j, journaltest.Records(1, 10)...))
				must(t, p.Append(t.Context(), j, journaltest.Records(1, 10)...))
				replace(t, path)
				done := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				var err error
				var last time.Time
				for err == nil {
					begun := time.Now()
					if err = call(ctx, j, p); err == nil {
						last = begun
					}
				}
				if !errors.Is(err, journal.ErrLost) || !strings.Contains(err.Error(), path) {
					t.Fatalf("%v, want ErrLost with the path", err)
				}
				if late := last.Sub(done); late > 100*time.Millisecond {
					t.Errorf("a call that was begun %v after it succeeded", late)
				}
				if use == "append" || use == "fence" {
					if _, err := j.Fence(ctx, 1000, "a"); !errors.Is(err, journal.ErrBroken) {
						t.Errorf("Fence afterwards = %v, want ErrBroken", err)
					}
				}
			})
		}
	}
}

// A connection that is opened later does not read from a file that took the place
// of the first one.
func TestReplacedBeforeAReaderIsOpened(t *testing.T) {
	path := newPath(t)
	j := openAt(t, path, sqlitejournal.Config{})
	journaltest.Write(t, j, 3) // no reader was needed
	replacements["a copy in its place"](t, path)
	if got, err := drain(t.Context(), j, 0); !errors.Is(err, journal.ErrLost) {
		t.Errorf("read %d entries, %v, want ErrLost", len(got), err)
	}
}
