package filejournal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"understudy.dev/journal"
)

// begin gets the turn of this handle and the right to write among all handles,
// and takes in what others wrote. After it, until end, the journal ends at the
// tail and nobody moves it, unless a fence takes over.
func (j *Journal) begin(ctx context.Context, fence bool) error {
	if j.cfg.ReadOnly {
		return journal.ErrReadOnly
	}
	if err := j.take(ctx); err != nil {
		return err
	}
	err := j.broken
	if err == nil {
		err = j.acquire(ctx, fence)
	}
	if err == nil {
		if err = j.lookInTurn(); err == nil {
			if err = j.enter(); err != nil {
				err = j.lookFirst(err)
			}
		}
		if err != nil {
			j.lock.Unlock()
		}
	}
	if err != nil {
		j.give()
	}
	return err
}

// end gives back the right to write and the turn.
func (j *Journal) end() {
	if err := j.lock.Unlock(); err != nil && j.broken == nil {
		j.broken = broken(err)
	}
	j.give()
}

// acquire gets the lock file of the present generation. A fence that does not
// get it within the patience begins the next generation, whose lock is free.
func (j *Journal) acquire(ctx context.Context, fence bool) error {
	var deadline time.Time
	for pause := 10 * time.Microsecond; ; pause = min(2*pause, time.Millisecond) {
		if fence || !j.st.roomWanted() {
			ok, err := j.tryLock()
			if err != nil {
				return err
			}
			if ok {
				if fence && !deadline.IsZero() {
					j.st.roomFound()
				}
				return nil
			}
		}
		if fence && deadline.IsZero() {
			deadline = time.Now().Add(j.cfg.Patience)
			j.st.askForRoom(j.cfg.Patience)
		}
		if fence && time.Now().After(deadline) {
			if err := j.st.takeOver(j.st.load()); err != nil {
				return err
			}
			continue
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// tryLock tries to lock the present generation's file.
func (j *Journal) tryLock() (bool, error) {
	generation, _ := j.st.load()
	if j.lock == nil || j.lockedAt != generation {
		f, err := j.fsys.Open(filepath.Join(j.dir, lockName(generation)), os.O_RDWR|os.O_CREATE)
		if err != nil {
			return false, fmt.Errorf("open lock: %w", err)
		}
		if j.lock != nil {
			j.lock.Close()
		}
		j.lock, j.lockedAt = f, generation
	}
	ok, err := j.lock.TryLock()
	if err != nil || !ok {
		return false, err
	}
	if now, _ := j.st.load(); now != generation {
		return false, j.lock.Unlock()
	}
	j.generation = generation
	return true, nil
}

func lockName(generation uint16) string { return fmt.Sprintf("%s%d", lockPrefix, generation) }

// enter brings the tail to the end and puts in order what a writer left that
// died or failed in the midst of a call.
func (j *Journal) enter() error {
	generation, end := j.st.load()
	if generation != j.generation {
		return errTakenOver
	}
	if err := j.catchUp(generation, end); err != nil {
		return err
	}
	if !j.st.isBusy() {
		return nil
	}
	if err := j.look(); err != nil {
		return err
	}
	return j.settle(end)
}

// catchUp moves the tail to the durable end over what others wrote.
func (j *Journal) catchUp(generation uint16, end journal.Position) error {
	t, r := &j.tail, j.behind
	if t.cursor.Pos >= end {
		return nil
	}
	r.seek(t.cursor.Pos)
	for t.cursor.Pos < end {
		start := r.at
		e, err := r.next(generation, end)
		if errors.Is(err, journal.ErrTrimmed) {
			if err = j.skip(); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		if r.seg.start() == start {
			t.startSegment(r.seg.cursor)
		}
		if err := t.take(start, e.Pos, e.Data); err != nil {
			return r.seg.damaged(start, t.cursor.Seq, err)
		}
	}
	return nil
}

// skip moves the tail to the first segment that is left, for a handle that was
// behind while others wrote and trimmed.
func (j *Journal) skip() error {
	seg, err := openAt(j.fsys, j.dir, j.st.id, j.st.trimmed(), os.O_RDONLY)
	if err != nil {
		return err
	}
	defer seg.file.Close()
	j.tail.startSegment(seg.cursor)
	j.behind.seek(seg.start())
	return nil
}

// store writes an entry at the end, makes it durable and publishes it. Its
// errors are those of Append: ErrFull if nothing was written, ErrBroken for
// good after anything else went wrong, or errTakenOver.
func (j *Journal) store(data []byte) (journal.Position, error) {
	at := j.tail.cursor.Pos
	need := int64(frameBytes + len(data))
	if err := j.makeRoom(at, need); err != nil {
		return 0, err
	}
	j.st.setBusy(j.generation)
	if cap(j.buf) < int(need) {
		j.buf = make([]byte, need, max(need, 64<<10)*5/4)
	}
	buf := j.buf[:need]
	if at > j.seg.start() {
		if n, err := j.seg.writeMark(at, buf[:markBytes]); err != nil {
			return 0, j.refused(n, err)
		}
	}
	j.st.id.putFrame(buf, at, len(data))
	copy(buf[frameBytes:], data)
	if n, err := j.seg.file.WriteAt(buf, j.seg.offset(at)); err != nil {
		return 0, j.refused(n, err)
	}
	if err := j.seg.file.Datasync(); err != nil {
		return 0, j.fail(err)
	}
	if err := j.lookInTurn(); err != nil {
		return 0, err
	}
	end := at + journal.Position(need)
	if !j.st.publish(j.generation, at, end) {
		return 0, errTakenOver
	}
	j.st.done(j.generation)
	return end, nil
}

// makeRoom makes j.seg a segment that takes need bytes at the position at.
func (j *Journal) makeRoom(at journal.Position, need int64) error {
	newest, exists := j.st.newestSegment()
	if j.seg != nil && j.seg.start() != newest {
		j.seg.file.Close()
		j.seg = nil
	}
	if j.seg == nil && exists {
		seg, err := j.openNewest(newest, os.O_RDWR)
		if err != nil {
			return j.fail(err)
		}
		j.seg = seg
	}
	if j.seg == nil || j.seg.generation != j.generation || j.seg.room(at) < need {
		return j.roll(at, need)
	}
	j.helper.early(j.seg, at)
	return nil
}

// openNewest opens the newest segment, which has to be there.
func (j *Journal) openNewest(start journal.Position, flag int) (*segment, error) {
	seg, err := openAt(j.fsys, j.dir, j.st.id, start, flag)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, replaced(filepath.Join(j.dir, segmentID{start: start}.name()))
	}
	return seg, err
}

// refused decides about a write of which n bytes were written. A full disk that
// took nothing leaves the handle as it was.
func (j *Journal) refused(n int, err error) error {
	if n == 0 && isFull(err) {
		j.st.done(j.generation)
		return fmt.Errorf("%w: %w", journal.ErrFull, err)
	}
	return j.fail(err)
}

// fail ends the handle for writing. After a failed sync nobody knows which pages
// reached the disk, and the kernel may call them clean: only another handle may
// go on, which writes the tail again before it relies on it.
func (j *Journal) fail(err error) error {
	if j.broken == nil {
		j.broken = broken(err)
	}
	return j.broken
}

func broken(err error) error { return fmt.Errorf("%w: %w", journal.ErrBroken, err) }

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// settle is for a handle that got the right to write from one that did not
// finish. An entry that is whole is kept: it is written again, since its sync
// may have failed, and made durable before anyone reads it. One that is torn is
// set aside. Neither was acknowledged.
//
// If the right was taken over rather than left, the other writer may still be
// writing. Then what lies behind the end is not looked at, and the next entry
// begins a segment.
func (j *Journal) settle(end journal.Position) error {
	if err := j.clearUnannounced(end); err != nil {
		return err
	}
	if newest, exists := j.st.newestSegment(); exists {
		if err := j.settleTail(newest, end); err != nil {
			return err
		}
	}
	j.st.clearBusy()
	return nil
}

// clearUnannounced puts a segment away that a roll left before it was announced.
// Nothing was written to it yet, and if it stayed, recovery would take it for the
// continuation. If the roll came as far as the anchor, its folder was synced
// before, and the segment is announced in its place.
func (j *Journal) clearUnannounced(end journal.Position) error {
	if newest, exists := j.st.newestSegment(); exists && newest == end {
		return nil
	}
	if err := j.st.readAnchors(); err != nil {
		return err
	}
	if end > 0 && j.st.anchor.last == end {
		return j.announce(end)
	}
	err := j.fsys.Rename(filepath.Join(j.dir, segmentID{start: end, generation: j.generation}.name()), filepath.Join(j.dir, leftName(end)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = j.fsys.SyncDir(j.dir)
	}
	if err != nil {
		return j.fail(err)
	}
	return nil
}

func (j *Journal) settleTail(newest, end journal.Position) error {
	seg, err := j.openNewest(newest, os.O_RDWR)
	if errors.Is(err, journal.ErrLost) {
		return j.fail(err)
	}
	if err != nil {
		return err
	}
	defer seg.file.Close()
	if seg.generation != j.generation {
		return nil
	}
	left, err := inspect(seg, end)
	if err != nil {
		return err
	}
	if left.whole == nil {
		file, err := setAside(j.fsys, j.dir, seg, end, left.tornBytes)
		if err != nil {
			return j.fail(err)
		}
		if file != "" {
			j.note(Recovery{
				End: end, Mark: end, CutBytes: left.tornBytes, CutFile: file, CutSource: seg.path, CutOffset: seg.offset(end),
			})
		}
		return nil
	}
	if err := rewrite(seg, end, left.whole); err != nil {
		return j.fail(err)
	}
	if !j.st.publish(j.generation, end, end+journal.Position(len(left.whole))) {
		return errTakenOver
	}
	generation, now := j.st.load()
	j.note(Recovery{End: now, Mark: end, Kept: true})
	return j.catchUp(generation, now)
}

func (j *Journal) note(r Recovery) {
	j.foundMu.Lock()
	defer j.foundMu.Unlock()
	j.found = r
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
