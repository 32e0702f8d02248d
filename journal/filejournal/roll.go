package filejournal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"understudy.dev/journal"
)

// roll begins a segment at the position at with room for need bytes. Order:
//
//  1. a file of zeros, whole and synced, under a name that only this handle has;
//  2. its header, synced;
//  3. the rename, which fails if the name is taken, and the sync of the folder;
//  4. the anchor, synced: from here a missing segment is noticed.
//
// Only then an entry goes into it. A crash in between leaves an empty segment or
// a file that recovery removes.
func (j *Journal) roll(at journal.Position, need int64) error {
	if err := j.look(); err != nil { // what follows would go into another journal's folder
		return err
	}
	cursor, err := j.tail.complete(j.behind, j.generation, at)
	if err != nil {
		return err
	}
	f, tmp, size, err := j.freshFile(max(segmentHeader+need, j.nextSize()))
	if err != nil {
		return err
	}
	h := header{generation: j.generation, id: j.st.id, size: size, cursor: cursor}
	j.st.setBusy(j.generation)
	path := filepath.Join(j.dir, h.segmentID().name())
	if err := j.install(f, &h, tmp, path); err != nil {
		f.Close()
		return j.fail(err)
	}
	if err := j.announce(at); err != nil {
		f.Close()
		return err
	}
	j.sealed(at)
	j.mendIndexes()
	j.seg = &segment{header: h, file: f, path: path, mark: at}
	j.tail.points = j.tail.points[:0]
	j.tail.base = cursor // what lies before may be trimmed
	return nil
}

// install makes f, under the name tmp, the segment of a header.
func (j *Journal) install(f File, h *header, tmp, path string) error {
	if _, err := f.WriteAt(h.encode(), 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := j.fsys.Rename(tmp, path); err != nil {
		return err
	}
	if err := f.Unlock(); err != nil { // it is temporary no more
		return err
	}
	return j.fsys.SyncDir(j.dir)
}

// announce writes the anchor for a segment that is in place and tells the other
// handles about it.
func (j *Journal) announce(at journal.Position) error {
	if err := j.st.writeAnchor(j.generation, j.st.trimmed(), at); err != nil {
		return j.fail(err)
	}
	j.st.setNewest(at)
	return nil
}

// sealed closes the segment that ends at a position and has its index written.
func (j *Journal) sealed(end journal.Position) {
	if j.seg == nil {
		return
	}
	j.helper.writeIndex(index{of: j.st.id, start: j.seg.start(), end: end, points: j.tail.points})
	j.seg.file.Close()
	j.seg = nil
}

// nextSize returns the size of the segment after the present one.
func (j *Journal) nextSize() int64 {
	size := min(j.cfg.SegmentBytes, firstSegmentBytes)
	if j.seg != nil {
		size = min(j.cfg.SegmentBytes, max(size, j.seg.size*segmentGrowth))
	}
	return size
}

// freshFile returns a file of at least size bytes that is durable under a name
// that only this handle has: a spare, or a new one. Nothing was written to the
// journal if it fails.
func (j *Journal) freshFile(size int64) (f File, path string, got int64, err error) {
	j.helper.await()
	names, err := j.fsys.List(j.dir)
	if err != nil {
		return nil, "", 0, fmt.Errorf("list journal: %w", err)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, sparePrefix) {
			continue
		}
		if f, path, got, ok := takeSpare(j.fsys, j.dir, name, size); ok {
			return f, path, got, nil
		}
	}
	f, path, err = zeroFile(j.fsys, j.dir, size)
	if isFull(err) {
		return nil, "", 0, fmt.Errorf("%w: prepare segment: %w", journal.ErrFull, err)
	}
	if err != nil {
		return nil, "", 0, j.fail(fmt.Errorf("prepare segment: %w", err))
	}
	return f, path, size, nil
}

// takeSpare takes a spare, if it is large enough and nobody else took it. It is
// renamed before it is touched: of two handles that want it one gets it.
func takeSpare(fsys FS, dir, name string, size int64) (File, string, int64, bool) {
	tmp := filepath.Join(dir, randomName(tmpPrefix))
	if fsys.Rename(filepath.Join(dir, name), tmp) != nil {
		return nil, "", 0, false
	}
	f, err := fsys.Open(tmp, os.O_RDWR)
	if err != nil {
		fsys.Remove(tmp)
		return nil, "", 0, false
	}
	if kept, _ := keep(f, tmp); kept {
		if got, err := f.Size(); err == nil && got >= size {
			return f, tmp, got, true
		}
	}
	f.Close()
	fsys.Remove(tmp)
	return nil, "", 0, false
}

// zeroFile makes a durable file of zeros under a temporary name. Zeros are
// written, not only reserved: on a reserved block the first sync must also make
// durable that the block is in use, which takes a second write to the disk.
func zeroFile(fsys FS, dir string, size int64) (File, string, error) {
	f, tmp, err := tempFile(fsys, dir)
	if err != nil {
		return nil, "", err
	}
	if err := fillZero(f, 0, size); err != nil {
		f.Close()
		fsys.Remove(tmp)
		return nil, "", err
	}
	return f, tmp, nil
}

// fillBytes is how much fillZero writes between two syncs. The sync of an append
// waits for what the disk was given before, so that must stay small.
const fillBytes = 1 << 20

// fillZero writes size zeros and makes them durable.
func fillZero(f File, off, size int64) error {
	zero := make([]byte, min(size, fillBytes))
	for end := off + size; off < end; off += int64(len(zero)) {
		if _, err := f.WriteAt(zero[:min(int64(len(zero)), end-off)], off); err != nil {
			return err
		}
		if err := f.Datasync(); err != nil {
			return err
		}
	}
	return nil
}

// A helper does in the background what appends should not wait for: it prepares
// the next segment and writes indexes. With neither does the journal depend on
// it: a roll that finds no spare makes one, and an index that is missing is made
// by reading the segment. So it reports nothing. A nil helper does nothing.
type helper struct {
	fsys   FS
	dir    string
	inline bool // write indexes at once and prepare nothing
	jobs   chan func()
	gone   chan struct{}
	asked  journal.Position // 1 + start of the segment for whose successor a spare was asked
	ready  chan struct{}    // closed when that was done
	limit  int64
}

func newHelper(fsys FS, dir string, cfg Config) *helper {
	h := &helper{fsys: fsys, dir: dir, inline: cfg.Foreground, limit: cfg.SegmentBytes}
	if h.inline {
		return h
	}
	h.jobs, h.gone = make(chan func(), 16), make(chan struct{})
	go func() {
		defer close(h.gone)
		for job := range h.jobs {
			job()
		}
	}()
	return h
}

// early has a spare prepared once an eighth of a segment is used: at full speed
// the rest of it lasts little longer than the preparation.
func (h *helper) early(seg *segment, at journal.Position) {
	if h.inline || h.asked == seg.start()+1 || seg.room(at) > seg.size/8*7 {
		return
	}
	h.asked = seg.start() + 1
	size := min(h.limit, seg.size*segmentGrowth)
	ready := make(chan struct{})
	if h.do(func() { h.prepare(size); close(ready) }) {
		h.ready = ready
	}
}

// await waits until the spare that was asked for is there, or could not be made.
func (h *helper) await() {
	if h.ready != nil {
		<-h.ready
		h.ready = nil
	}
}

func (h *helper) writeIndex(x index) {
	if h == nil {
		return
	}
	x.points = append([]point(nil), x.points...)
	h.run(func() { x.write(h.fsys, h.dir) })
}

// run does a job that nobody waits for.
func (h *helper) run(job func()) {
	if h.inline {
		job()
		return
	}
	h.do(job)
}

// do hands over a job, or drops it and returns false if the helper is far behind.
func (h *helper) do(job func()) bool {
	select {
	case h.jobs <- job:
		return true
	default:
		return false
	}
}

// prepare makes a spare unless there is one.
func (h *helper) prepare(size int64) {
	names, err := h.fsys.List(h.dir)
	if err != nil || spares(names) > 0 {
		return
	}
	f, tmp, err := zeroFile(h.fsys, h.dir, size)
	if err != nil {
		return
	}
	defer f.Close()
	if h.fsys.Rename(tmp, filepath.Join(h.dir, randomName(sparePrefix))) != nil {
		h.fsys.Remove(tmp)
	}
}

func (h *helper) close() {
	if h == nil || h.inline {
		return
	}
	close(h.jobs)
	<-h.gone
}

func spares(names []string) (n int) {
	for _, name := range names {
		if strings.HasPrefix(name, sparePrefix) {
			n++
		}
	}
	return n
}
