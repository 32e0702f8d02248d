package filejournal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"

	"understudy.dev/journal"
)

// An index lists places in a sealed segment from which it can be read, in a file
// beside it, little endian. It holds nothing that is not in the segment: one that
// is missing or bad is ignored.
//
//	 0   8  magic "UDJIDX1\n"
//	 8   4  CRC32C of the journal's id and the bytes from 12 to the end
//	12   4  number of points
//	16  16  id of the journal
//	32   8  position where the segment starts
//	40   8  position where its last entry ends
//	48      points, each of a live batch at least 64 KiB after the one before:
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
	if err == nil {
		err = fsys.Rename(tmp, filepath.Join(dir, indexName(x.start)))
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
	seg, last, err := j.segmentBefore(target, end)
	if err != nil || seg == nil {
		return journal.Cursor{}, err
	}
	defer seg.file.Close()
	points := j.tail.points
	if !last {
		if points, err = j.pointsOf(seg, generation, end); err != nil {
			return journal.Cursor{}, err
		}
	}
	i := sort.Search(len(points), func(i int) bool { return !before(points[i].seq, points[i].time, target) })
	if i == 0 {
		return seg.cursor, nil
	}
	return j.cursorAt(points[i-1], generation, end)
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
// first one there is; nil if there is none. last says whether it is the newest.
func (j *Journal) segmentBefore(target journal.Target, end journal.Position) (seg *segment, last bool, err error) {
	all, err := listSegments(j.fsys, j.dir)
	if err != nil {
		return nil, false, err
	}
	first := j.st.trimmed()
	i := sort.Search(len(all), func(i int) bool { return all[i].start >= first })
	n := sort.Search(len(all), func(i int) bool { return all[i].start > end })
	if i >= n {
		return nil, false, nil
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
		return nil, false, failed
	}
	seg, err = openSegment(j.fsys, j.dir, j.st.id, all[at], os.O_RDONLY)
	return seg, at == len(all)-1, err
}

// pointsOf returns the points of a sealed segment: from its index, or else by
// reading it.
func (j *Journal) pointsOf(seg *segment, generation uint16, end journal.Position) ([]point, error) {
	if x, ok := j.readIndex(seg.start()); ok {
		return x.points, nil
	}
	var t tail
	t.startSegment(seg.cursor)
	r := j.newReader(seg.start())
	defer r.close()
	for r.at < end {
		start := r.at
		e, err := r.next(generation, end)
		if err != nil {
			return nil, err
		}
		if r.seg.start() != seg.start() {
			break
		}
		if err := t.take(start, e.Pos, e.Data); err != nil {
			return nil, r.corrupt(fmt.Errorf("%w: %w", ErrDamaged, err))
		}
	}
	return t.points, nil
}

// cursorAt returns the cursor after the live batch of a point, which states
// itself what came before it.
func (j *Journal) cursorAt(p point, generation uint16, end journal.Position) (journal.Cursor, error) {
	r := j.newReader(p.start)
	defer r.close()
	e, err := r.next(generation, end)
	if err != nil {
		return journal.Cursor{}, err
	}
	var d journal.Decoder
	var b journal.Batch
	if err := d.Batch(e.Data, &b); err != nil {
		return journal.Cursor{}, r.corrupt(fmt.Errorf("%w: %w", ErrDamaged, err))
	}
	return journal.Cursor{
		Pos: e.Pos, Seq: b.Last(), Time: p.time, Chain: link(b.Prev, e.Data),
		Epoch: b.Epoch, Owner: b.Owner, Fence: p.fence, Prev: p.start, Before: b.Prev,
	}, nil
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
