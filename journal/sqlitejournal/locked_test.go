package sqlitejournal_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/sqlitejournal"
)

// While another program holds the write lock, appends and fences wait; when their
// context ends nothing was written, and the handle works on. Reading goes on
// throughout.
func TestLockedDatabase(t *testing.T) {
	path := newPath(t)
	j := openAt(t, path, sqlitejournal.Config{})
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	other := foreign(t, path, "BEGIN IMMEDIATE")
	for name, call := range map[string]func(context.Context) error{
		"Append": func(ctx context.Context) error { return p.Append(ctx, j, journaltest.Records(1, 8)...) },
		"Fence":  func(ctx context.Context) error { _, err := j.Fence(ctx, 2, "b"); return err },
		"Trim":   func(ctx context.Context) error { return j.Trim(ctx, 1) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		start := time.Now()
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) || journal.OutcomeOf(err) != journal.Unknown || errors.Is(err, journal.ErrBroken) {
			t.Errorf("%s while the database is locked = %v, want DeadlineExceeded and nothing worse", name, err)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s took %v to see that its context ended", name, took)
		}
		cancel()
	}
	wantEntries(t, j, 0, p.Entries())
	time.AfterFunc(20*time.Millisecond, func() { other.ExecContext(context.Background(), "ROLLBACK") })
	must(t, p.Append(t.Context(), j, journaltest.Records(1, 8)...))
	wantEntries(t, j, 0, p.Entries())
}

// Close ends a call that waits for the lock.
func TestCloseWhileLocked(t *testing.T) {
	path := newPath(t)
	j := openAt(t, path, sqlitejournal.Config{})
	foreign(t, path, "BEGIN IMMEDIATE")
	done := make(chan error, 1)
	go func() { _, err := j.Fence(context.Background(), 1, "a"); done <- err }()
	time.Sleep(10 * time.Millisecond)
	closing(t, j)
	if err := <-done; !errors.Is(err, journal.ErrClosed) {
		t.Errorf("Fence = %v, want ErrClosed", err)
	}
}

// A follower that is slow does not keep the log from being moved into the
// database: between two pages it holds no transaction.
func TestSlowFollowerDoesNotHoldTheLog(t *testing.T) {
	path := newPath(t)
	j := openAt(t, path, sqlitejournal.Config{})
	journaltest.Write(t, j, 10)
	other := foreign(t, path)
	for e, err := range j.Follow(t.Context(), 0) {
		must(t, err)
		if e.Pos < 5 {
			continue
		}
		var busy, log, moved int
		must(t, other.QueryRowContext(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &log, &moved))
		if busy != 0 || log != 0 {
			t.Errorf("while an entry is held: busy %d, %d frames in the log", busy, log)
		}
		break
	}
}

// A write wakes the followers of its journal in all handles of the process, and no
// others.
func TestWriteWakes(t *testing.T) {
	path := newPath(t)
	j, same := openAt(t, path, sqlitejournal.Config{}), openAt(t, path, sqlitejournal.Config{})
	other := openAt(t, path, sqlitejournal.Config{Name: "other"})
	mine, others := same.Watch(), other.Watch()
	journaltest.Write(t, j, 1)
	select {
	case <-mine:
	default:
		t.Error("a follower of the same journal was not woken")
	}
	select {
	case <-others:
		t.Error("a follower of another journal was woken")
	default:
	}
}
