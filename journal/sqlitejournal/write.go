package sqlitejournal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"understudy.dev/journal"
)

// write runs one transaction that stores an entry at the end, if decide returns
// one, and returns its position; otherwise 0, and nothing was written. decide
// moves the head over the entry, except for its place and size.
func (j *Journal) write(ctx context.Context, fence bool, decide func(h *head) ([]byte, error)) (journal.Position, error) {
	if err := j.take(ctx); err != nil {
		return 0, err
	}
	defer j.give()
	if err := j.beginWrite(ctx, fence); err != nil {
		return 0, err
	}
	h, err := j.headToWrite()
	if err != nil {
		return 0, j.undo(err)
	}
	before := h.fenceAt
	entry, err := decide(&h)
	if err != nil || entry == nil {
		if err := j.undo(err); err != nil {
			return 0, err
		}
		return 0, j.lookInTurn()
	}
	if h.end++; h.end > maxPosition {
		return 0, j.undo(fmt.Errorf("%w: no position after %d", journal.ErrFull, maxPosition))
	}
	h.bytes += int64(len(entry))
	if err := j.store(&h, h.fenceAt > before, entry); err != nil {
		return 0, j.undo(j.failed(err))
	}
	if err := j.commitWrite(); err != nil {
		return 0, err
	}
	return h.end, j.lookInTurn()
}

// take takes the turn of this handle to write.
func (j *Journal) take(ctx context.Context) error {
	if err := j.usable(ctx); err != nil {
		return err
	}
	if j.cfg.ReadOnly {
		return journal.ErrReadOnly
	}
	select {
	case <-j.turn:
	case <-ctx.Done():
		return ctx.Err()
	case <-j.closed:
		return journal.ErrClosed
	}
	err := j.broken
	if j.isClosed() {
		err = journal.ErrClosed
	}
	if err != nil {
		j.give()
	}
	return err
}

func (j *Journal) give() { j.turn <- struct{}{} }

// beginWrite gets the database's write lock: first its turn among the handles of
// this process, which is fair, then that of SQLite among processes.
func (j *Journal) beginWrite(ctx context.Context, fence bool) error {
	select {
	case <-j.place.turn:
	case <-ctx.Done():
		return ctx.Err()
	case <-j.closed:
		return journal.ErrClosed
	}
	err := j.lookInTurn()
	if err == nil {
		err = j.untilFree(ctx, fence, func() error { return exec(j.begin) })
		if code(err) != 0 {
			err = j.fail(err)
		}
	}
	if err != nil {
		j.place.turn <- struct{}{}
	}
	return err
}

// beginImmediate is beginWrite for a handle that is being opened.
func (j *Journal) beginImmediate(ctx context.Context, c *sql.Conn, fence bool) error {
	return j.untilFree(ctx, fence, func() error {
		_, err := c.ExecContext(background, "BEGIN IMMEDIATE")
		return err
	})
}

// A writer pauses longer and longer; a fence asks about as often as a busy writer
// is between two transactions, until it is clear that the lock is held for long.
const (
	minPause      = 20 * time.Microsecond
	maxPause      = time.Millisecond
	fencePatience = 2 * time.Second
)

// untilFree calls f until it does not find the database locked. The locks are
// SQLite's, which has no queue for them. An error because ctx ended has SQLite's
// word in it too.
func (j *Journal) untilFree(ctx context.Context, fence bool, f func() error) error {
	start := time.Now()
	for pause := minPause; ; {
		err := f()
		if err == nil || !isBusy(err) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w: another process holds the database's lock, nothing was written: %v", context.Cause(ctx), err)
		case <-j.closed:
			timer.Stop()
			return journal.ErrClosed
		}
		if !fence || time.Since(start) > fencePatience {
			pause = min(2*pause, maxPause)
		}
	}
}

func exec(s *sql.Stmt, args ...any) error {
	_, err := s.ExecContext(background, args...)
	return err
}

// headToWrite reads the journal's row in a transaction that writes.
func (j *Journal) headToWrite() (h head, err error) {
	var sum int64
	if err := j.head.QueryRowContext(background, j.id, j.name).Scan(h.columns(&sum)...); err != nil {
		return h, j.failed(j.readError(err))
	}
	if sum != h.sum(j.name) {
		return h, j.failed(j.badHead())
	}
	return h, nil
}

func (j *Journal) badHead() error {
	return j.corrupt(0, fmt.Errorf("row %d of table journals: %w", j.id, journal.ErrChecksum))
}

// openAt returns the fence that was open at a position before the newest fence.
func (j *Journal) openAt(pos journal.Position) (f journal.Fence, at journal.Position, err error) {
	var id int64
	var data []byte
	err = j.fenceBefore.QueryRowContext(background, j.idOf(0), j.idOf(pos)).Scan(&id, &data)
	if errors.Is(err, sql.ErrNoRows) {
		return f, 0, nil
	}
	if err != nil {
		return f, 0, j.failed(j.readError(err))
	}
	at = j.positionOf(id)
	if f, err = journal.DecodeFence(data); err != nil {
		return f, at, j.corrupt(at, err)
	}
	return f, at, nil
}

// store writes an entry and the row.
func (j *Journal) store(h *head, opens bool, entry []byte) error {
	id := j.idOf(h.end)
	if err := exec(j.insert, id, int64(h.seq), int64(h.time), entry); err != nil {
		return err
	}
	if opens {
		if err := exec(j.addFence, id, entry); err != nil {
			return err
		}
	}
	return exec(j.update, append(h.values(j.name), j.id)...)
}

// commitWrite ends a transaction that writes, and wakes the followers.
//
// SQLite writes the frame that makes the transaction a whole as the last one, and
// syncs after it. So a disk that is full refused at least that frame; once SQLite
// has rolled back nothing of the transaction counts. After any other error the
// frame may be in the log, whatever SQLite believes: the handle is dead.
func (j *Journal) commitWrite() error {
	if err := exec(j.commit); err != nil {
		return j.undo(j.failed(err))
	}
	j.place.turn <- struct{}{}
	j.place.wake(j.id)
	return nil
}

// undo rolls a transaction back that is not to be committed for the reason err,
// and returns what is to be told. SQLite may have rolled back by itself; then it
// says that there is no transaction.
func (j *Journal) undo(err error) error {
	if back := exec(j.rollback); back != nil && code(back) != sqliteError {
		err = j.fail(errors.Join(err, back))
	}
	j.place.turn <- struct{}{}
	return err
}

// failed decides about an error in a transaction. One for lack of room leaves the
// handle as it was, since it will be rolled back; so does a refusal.
func (j *Journal) failed(err error) error {
	if code(err) == sqliteFull {
		return fmt.Errorf("%w: %w", journal.ErrFull, err)
	}
	return j.fail(err)
}

// fail ends the handle for writing. Files that are gone explain whatever went
// wrong, and it does not pass.
func (j *Journal) fail(err error) error {
	if j.broken == nil {
		if lost := j.lost(); lost != nil && !errors.Is(err, journal.ErrLost) {
			err = lost
		} else {
			err = j.readError(err)
		}
		j.broken = fmt.Errorf("%w: %w", journal.ErrBroken, err)
	}
	return j.broken
}

// lookInTurn looks, if the last look is lookEvery ago, whether the files are still
// those that this handle opened. If not, it is broken: what it has written since,
// nobody will find.
func (j *Journal) lookInTurn() error {
	now := time.Now()
	if now.Sub(j.looked) < lookEvery {
		return nil
	}
	if err := j.lost(); err != nil {
		return j.fail(err)
	}
	j.looked = now
	return nil
}
