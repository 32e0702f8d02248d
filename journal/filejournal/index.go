package filejournal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"

	"understudy.dev/journal"
)

// An index lists places in a sealed segment from which it can be read, in a file
// beside it, little endian. It holds nothing that is not in the segment: one that
// is missing or bad is ignored, and made again. A good one may be of another
// history of the journal, if files were put together from two copies that went on
// apart. So a place counts only once the batch there was held against it.
//
//	 0   8  magic "UDJIDX1\n"
//	 8   4  CRC32C of the journal's id and the bytes from 12 to the end
//	12   4  number of points
//	16  16  id of the journal
//	32   8  position where the segment starts
//	40   8  position where its last entry ends
//	48      points, each of a live batch with records at least 64 KiB after the one before:
//	         0  8  position where its frame starts
//	         8  8  position where it ends
//	        16  8  Seq of its last record
//	        24  8  time of its last record
//	        32  8  position of the fence of its epoch
const (
	indexMagic  = "UDJIDX1\n"
	indexHeader = 48
	pointBytes  = 40
	indexSuffix = ".udx"
)

type index struct {
	of         id
	start, end journal.Position
	points     []point
}

func indexName(start journal.Position) string {
	return fmt.Sprintf("%020d%s", uint64(start), indexSuffix)
}

func (x *index) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, indexHeader, indexHeader+len(x.points)*pointBytes)
	copy(b, indexMagic)
	le.PutUint32(b[12:], uint32(len(x.points)))
	copy(b[16:], x.of[:])
	le.PutUint64(b[32:], uint64(x.start))
	le.PutUint64(b[40:], uint64(x.end))
	for _, p := range x.points {
		for _, v := range [...]uint64{uint64(p.start), uint64(p.end), uint64(p.seq), uint64(p.time), uint64(p.fence)} {
			b = le.AppendUint64(b, v)
		}
	}
	le.PutUint32(b[8:], x.of.sum(b[12:]))
	return b
}

// decodeIndex returns false for anything that is not the whole index of the
// segment that starts at start.
func decodeIndex(b []byte, of id, start journal.Position) (x index, ok bool) {
	le := binary.LittleEndian
	if len(b) < indexHeader || string(b[:8]) != indexMagic || le.Uint32(b[8:]) != of.sum(b[12:]) || id(b[16:32]) != of {
		return x, false
	}
	x = index{of: of, start: journal.Position(le.Uint64(b[32:])), end: journal.Position(le.Uint64(b[40:]))}
	if x.start != start || uint64(len(b)-indexHeader) != uint64(le.Uint32(b[12:]))*pointBytes {
		return x, false
	}
	for b = b[indexHeader:]; len(b) > 0; b = b[pointBytes:] {
		x.points = append(x.points, point{
			start: journal.Position(le.Uint64(b)), end: journal.Position(le.Uint64(b[8:])),
			seq: journal.Seq(le.Uint64(b[16:])), time: journal.Time(le.Uint64(b[24:])), fence: journal.Position(le.Uint64(b[32:])),
		})
	}
	return x, true
}

// write writes the index, whole or not at all. What goes wrong is not reported,
// since an index can always be made again.
func (x *index) write(fsys FS, dir string) {
	f, tmp, err := tempFile(fsys, dir)
	if err != nil {
		return
	}
	defer f.Close()
	_, err = f.WriteAt(x.encode(), 0)
	if err == nil {
		err = f.Sync()
	}
	path := filepath.Join(dir, indexName(x.start))
	if err == nil {
		err = fsys.Rename(tmp, path)
	}
	if errors.Is(err, fs.ErrExist) { // it was ignored so far, or is the same
		if err = fsys.Remove(path); err == nil {
			err = fsys.Rename(tmp, path)
		}
	}
	if err != nil {
		fsys.Remove(tmp)
	}
}

// readIndex returns the index of the segment at start, if there is a good one.
func (j *Journal) readIndex(start journal.Position) (x index, ok bool) {
	f, err := j.fsys.Open(filepath.Join(j.dir, indexName(start)), os.O_RDONLY)
	if err != nil {
		return x, false
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return x, false
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		return x, false
	}
	return decodeIndex(b, j.st.id, start)
}

// Locate implements journal.Locator: by the headers of segments to the segment,
// by its index to within 64 KiB and one batch.
func (j *Journal) Locate(ctx context.Context, target journal.Target) (journal.Cursor, error) {
	c, err := j.locate(ctx, target)
	if err != nil {
		return c, fmt.Errorf("locate seq %d, time %d: %w", target.Seq, target.Time, err)
	}
	return c, nil
}

func (j *Journal) locate(ctx context.Context, target journal.Target) (journal.Cursor, error) {
	if err := j.take(ctx); err != nil {
		return journal.Cursor{}, err
	}
	defer j.give()
	generation, end := j.durable()
	if err := j.catchUp(generation, end); err != nil {
		return journal.Cursor{}, err
	}
	seg, next, err := j.segmentBefore(target, end)
	if err != nil || seg == nil {
		return journal.Cursor{}, err
	}
	defer seg.file.Close()
	if next == 0 {
		return j.cursorBefore(target, seg, j.tail.points, generation, end)
	}
	if x, ok := j.readIndex(seg.start()); ok && x.end == next {
		if c, ok := j.cursorByIndex(target, seg, &x, generation); ok {
			return c, nil
		}
	}
	points, err := j.scanPoints(seg, next, generation)
	if err != nil {
		return journal.Cursor{}, err
	}
	j.helper.writeIndex(index{of: j.st.id, start: seg.start(), end: next, points: points})
	return j.cursorBefore(target, seg, points, generation, end)
}

// before reports whether a place after the record with this Seq and time lies
// before the target.
func before(seq journal.Seq, time journal.Time, target journal.Target) bool {
	if target.Seq != 0 {
		return seq < target.Seq
	}
	return time < target.Time
}

// segmentBefore opens the last segment that starts before the target, or the
// first one there is; nil if there is none. next is where the one behind it starts,
// or 0 if it is the newest.
func (j *Journal) segmentBefore(target journal.Target, end journal.Position) (seg *segment, next journal.Position, err error) {
	all, err := listSegments(j.fsys, j.dir)
	if err != nil {
		return nil, 0, err
	}
	first := j.st.trimmed()
	i := sort.Search(len(all), func(i int) bool { return all[i].start >= first })
	n := sort.Search(len(all), func(i int) bool { return all[i].start > end })
	if i >= n {
		return nil, 0, nil
	}
	all = all[i:n]
	var failed error
	at := sort.Search(len(all)-1, func(i int) bool {
		s, err := openSegment(j.fsys, j.dir, j.st.id, all[i+1], os.O_RDONLY)
		if err != nil {
			failed = errors.Join(failed, err)
			return true
		}
		defer s.file.Close()
		return !before(s.cursor.Seq, s.cursor.Time, target)
	})
	if failed != nil && !errors.Is(failed, fs.ErrNotExist) {
		return nil, 0, failed
	}
	seg, err = openSegment(j.fsys, j.dir, j.st.id, all[at], os.O_RDONLY)
	if at < len(all)-1 {
		next = all[at+1].start
	}
	return seg, next, err
}

// scanPoints reads a sealed segment, up to where the next one starts, for what its
// index holds.
func (j *Journal) scanPoints(seg *segment, next journal.Position, generation uint16) ([]point, error) {
	var t tail
	t.startSegment(seg.cursor)
	r := j.newReader(seg.start())
	defer r.close()
	for r.at < next {
		start := r.at
		e, err := r.next(generation, next)
		if err == nil && j.isClosed() {
			err = journal.ErrClosed // the helper reads on, and is waited for
		}
		if err != nil {
			return nil, err
		}
		if err := t.take(start, e.Pos, e.Data); err != nil {
			return nil, r.seg.damaged(start, t.cursor.Seq, err)
		}
	}
	return t.points, nil
}

// pointBefore returns the last of the points that lies before the target.
func pointBefore(target journal.Target, points []point) (p point, ok bool) {
	i := sort.Search(len(points), func(i int) bool { return !before(points[i].seq, points[i].time, target) })
	if i == 0 {
		return p, false
	}
	return points[i-1], true
}

// cursorBefore returns the cursor after the last point before the target, or the
// one at the start of the segment.
func (j *Journal) cursorBefore(target journal.Target, seg *segment, points []point, generation uint16, end journal.Position) (journal.Cursor, error) {
	p, ok := pointBefore(target, points)
	if !ok {
		return seg.cursor, nil
	}
	r := j.newReader(p.start)
	defer r.close()
	b, err := r.batch(generation, end)
	if err != nil {
		return journal.Cursor{}, err
	}
	return p.cursor(&b), nil
}

// cursorByIndex does the same by the segment's index, and returns false if what
// lies there is not what the index says.
func (j *Journal) cursorByIndex(target journal.Target, seg *segment, x *index, generation uint16) (journal.Cursor, bool) {
	if len(x.points) == 0 {
		return seg.cursor, true
	}
	p, ok := pointBefore(target, x.points)
	if !ok {
		_, good := j.cursorOf(x.points[0], seg, x, generation) // or else the index is made again
		return seg.cursor, good
	}
	return j.cursorOf(p, seg, x, generation)
}

// cursorOf returns the cursor after a point of a segment's index, or false if what
// lies there is not the batch that the point describes.
func (j *Journal) cursorOf(p point, seg *segment, x *index, generation uint16) (journal.Cursor, bool) {
	if p.start < seg.start() || p.start >= x.end {
		return journal.Cursor{}, false
	}
	r := j.newReader(p.start)
	defer r.close()
	b, err := r.batch(generation, x.end)
	if err != nil || r.at != p.end || b.Last() != p.seq || b.Count == 0 || b.End != p.time {
		return journal.Cursor{}, false
	}
	return p.cursor(&b), j.opens(seg, p.fence, &b, generation, p.start)
}

// opens reports whether the fence at pos, before a position in the segment, opens
// the epoch of b for its owner.
func (j *Journal) opens(seg *segment, pos journal.Position, b *journal.Batch, generation uint16, before journal.Position) bool {
	if c := &seg.cursor; pos <= seg.start() {
		return c.Fence == pos && c.Epoch == b.Epoch && c.Owner == b.Owner
	}
	fence := journal.AppendFence(nil, b.Epoch, b.Owner)
	size := journal.Position(frameBytes + len(fence))
	if pos > before || pos < seg.start()+size {
		return false
	}
	r := j.newReader(pos - size)
	defer r.close()
	e, err := r.next(generation, before)
	return err == nil && bytes.Equal(e.Data, fence)
}

// batch reads the batch at r.at, which is valid until r reads on.
func (r *reader) batch(generation uint16, end journal.Position) (b journal.Batch, err error) {
	start := r.at
	e, err := r.next(generation, end)
	if err != nil {
		return b, err
	}
	var d journal.Decoder
	if err := d.Batch(e.Data, &b); err != nil {
		return b, r.seg.damaged(start, 0, err)
	}
	return b, nil
}

// cursor returns the cursor after p's batch.
func (p *point) cursor(b *journal.Batch) journal.Cursor { return b.After(p.start, p.end, p.fence) }

// mendIndexes has an index made for the newest sealed segment that has none, as
// after an interruption. One at a time: where all are gone, reading the whole
// journal is not worth it.
func (j *Journal) mendIndexes() {
	generation, end := j.st.load()
	j.helper.run(func() { j.mendIndex(generation, end) })
}

func (j *Journal) mendIndex(generation uint16, end journal.Position) {
	names, err := j.fsys.List(j.dir)
	if err != nil {
		return
	}
	all, err := listSegments(j.fsys, j.dir)
	if err != nil {
		return
	}
	first := j.st.trimmed()
	for i := len(all) - 2; i >= 0 && all[i].start >= first; i-- {
		next := all[i+1].start
		if _, there := slices.BinarySearch(names, indexName(all[i].start)); there || next > end {
			continue
		}
		seg, err := openSegment(j.fsys, j.dir, j.st.id, all[i], os.O_RDONLY)
		if err != nil {
			return
		}
		defer seg.file.Close()
		if points, err := j.scanPoints(seg, next, generation); err == nil {
			x := index{of: j.st.id, start: seg.start(), end: next, points: points}
			x.write(j.fsys, j.dir)
		}
		return
	}
}

// Place implements journal.Placer: the segment, and the byte in it at which the
// entry's frame starts.
func (j *Journal) Place(pos journal.Position) (source string, offset int64) {
	if !j.retain() {
		return "", -1
	}
	defer j.release()
	all, err := listSegments(j.fsys, j.dir)
	i := sort.Search(len(all), func(i int) bool { return all[i].start >= pos }) - 1
	if err != nil || i < 0 {
		return "", -1
	}
	generation, end := j.durable()
	r := j.newReader(all[i].start)
	defer r.close()
	for r.at < min(pos, end) {
		start := r.at
		e, err := r.next(generation, end)
		if err != nil {
			return "", -1
		}
		if e.Pos == pos {
			return r.seg.path, r.seg.offset(start)
		}
	}
	return "", -1
}
