package filejournal

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"understudy.dev/journal"
)

// A Recovery says what was found when a journal was opened.
type Recovery struct {
	// End is where the journal ends.
	End journal.Position
	// Mark is a position up to which the journal is known to have been durable.
	// While the machine has not been restarted, it is the acknowledged end. After
	// a restart it may be one entry short of that.
	Mark journal.Position
	// Kept says that a whole entry was found after Mark and kept. It may have
	// been acknowledged.
	Kept bool
	// CutBytes is the size of what was found after the end and set aside, or in a
	// read-only journal left out; CutSource and CutOffset say where it lay. After
	// a restart of the machine, it may have been the last acknowledged entry: the
	// mark of an entry is made durable with the one after it.
	CutBytes  int64
	CutSource string
	CutOffset int64
	// CutFile is the file in the journal's folder that it was copied to.
	CutFile string
}

// examined is the result of examine.
type examined struct {
	report     Recovery
	tail       tail
	generation uint16
	last       *segment // the newest; nil if there is none
}

func (x *examined) close() {
	if x.last != nil {
		x.last.file.Close()
	}
}

// examine finds out where a journal ends and whether anything is wrong with it.
// It changes nothing. current says that the mapped block is of the running
// system: then the end is known, because everything that was written is still
// there, and what lies behind it was never acknowledged.
//
// Verdicts, each with file, offset and Seq, as far as there are any: the Seq before
// a segment that is missing or unreadable is the last of the one before it.
//
//   - a segment or the state file is not there: ErrMissing
//   - a file is no segment, or of another journal: journal.ErrForeign
//   - a file or an entry is of a later version: journal.ErrVersion
//   - the journal ends, with nothing behind, before a position up to which it
//     was durable: journal.ErrLost
//   - there is something, and it is not what was written, or the state file is
//     older than the segments: ErrDamaged
//   - the tail is torn: no error, but a Recovery that says so
func examine(fsys FS, dir string, st *state, flag int, current bool) (x *examined, err error) {
	x = &examined{}
	defer func() {
		if err != nil {
			x.close()
		}
	}()

	// What is known outside the newest segment: where the oldest one starts,
	// where the newest does, and a position up to which all was durable.
	first, newest, mark := st.anchor.first, st.anchor.last, st.anchor.last
	end := journal.Position(0)          // if current
	x.generation = st.anchor.generation // or else that of the newest segment
	if current {
		x.generation, end = st.load()
		first, mark = max(first, st.trimmed()), max(mark, end)
		if n, ok := st.newestSegment(); ok {
			newest = max(newest, n)
		}
	}

	// Which segments are there? Those before first are what a trim left. One that
	// starts behind a known end belongs to a writer at work.
	all, err := listSegments(fsys, dir)
	if err != nil {
		return x, err
	}
	if current && len(all) > 0 {
		s := all[len(all)-1]
		if err := st.covers(s.start, filepath.Join(dir, s.name())); err != nil {
			return x, err
		}
	}
	all = slices.DeleteFunc(all, func(s segmentID) bool { return s.start < first || current && s.start > end })
	switch n := len(all); {
	case n == 0 && first == 0 && mark == 0:
		return x, nil // a new journal
	case n == 0 || all[0].start != first:
		return x, missing(dir, first)
	case all[n-1].start < newest:
		if x.last, err = openSegment(fsys, dir, st.id, all[n-1], flag); err != nil {
			return x, err
		}
		return x, x.behind(missing(dir, newest))
	}

	// Each header must be good, and each segment must reach the next one.
	for _, s := range all {
		seg, err := openSegment(fsys, dir, st.id, s, flag)
		if err != nil {
			return x, x.behind(err)
		}
		before := x.last
		x.last = seg
		if before != nil {
			err = before.reaches(dir, seg)
			before.file.Close()
		}
		if err != nil {
			return x, err
		}
	}
	x.generation = max(x.generation, x.last.generation)
	if current {
		if err := st.covers(x.last.mark, x.last.path); err != nil {
			return x, err
		}
	}

	// The newest segment is read from its start: to the end if that is known, or
	// else to the first thing that is no entry.
	mark = max(mark, x.last.mark)
	bad := x.scan(end, current)
	if bad == nil {
		x.report = Recovery{End: end, Mark: end}
		return x, nil
	}
	end = x.tail.cursor.Pos

	// An entry that could not be read, or that only a later version can, says
	// nothing about where the journal ends.
	if !errors.Is(bad, ErrDamaged) {
		return x, bad
	}

	// Before the mark it is damage, or loss if there is nothing at all.
	if end < mark {
		empty, err := x.last.isZero(end)
		if err != nil {
			return x, err
		}
		if empty {
			bad.(*journal.CorruptError).Err = fmt.Errorf("the journal was durable up to %d: %w", mark, journal.ErrLost)
		}
		return x, bad
	}

	// So it is if a frame lies behind it: an entry is written only when the one
	// before it is durable.
	next, found, err := x.last.frameAfter(end)
	if err != nil {
		return x, err
	}
	if found {
		return x, fmt.Errorf("an entry after %d proves that what lies before was durable: %w", next, bad)
	}

	// Otherwise it is a write that was interrupted, and the journal ends here.
	left, err := inspect(x.last, end)
	if err != nil {
		return x, err
	}
	x.report = Recovery{End: end, Mark: mark, Kept: end > mark}
	if left.tornBytes > 0 {
		x.report.CutBytes, x.report.CutSource, x.report.CutOffset = left.tornBytes, x.last.path, x.last.offset(end)
	}
	return x, nil
}

// covers checks that the published end is not before pos, which the segment in a
// file says was durable: where it starts, or its mark. Both follow the end, and
// whoever asks has read them before. So an end before them is that of an older
// state file, put back while the machine ran, and what was acknowledged since
// would be written over.
func (s *state) covers(pos journal.Position, file string) error {
	_, end := s.load()
	if pos <= end {
		return nil
	}
	return &journal.CorruptError{
		What: "bad state file", Source: s.path, Pos: end, After: true, Offset: wordAt,
		Err: fmt.Errorf("%w: it states %d as the end, and by %s the journal was durable up to %d: it is older than the segments", ErrDamaged, end, file, pos),
	}
}

// missing is the error about a segment that should start at a position.
func missing(dir string, start journal.Position) *journal.CorruptError {
	return &journal.CorruptError{
		What: "missing segment", Source: filepath.Join(dir, segmentID{start: start}.name()), Pos: start, After: true, Err: ErrMissing,
	}
}

// behind adds to an error about the segment behind x.last the last Seq before it.
func (x *examined) behind(err error) error {
	var c *journal.CorruptError
	if x.last != nil && errors.As(err, &c) {
		_ = x.scan(0, false) // it is the end of that segment, or damage before it
		c.Seq = x.tail.cursor.Seq
	}
	return err
}

// reaches checks that s ends where next starts: its last entry, whose place the
// header of next states, must end there.
func (s *segment) reaches(dir string, next *segment) error {
	at := next.cursor.Prev
	if at >= s.start() && s.room(at) >= frameBytes {
		frame := make([]byte, frameBytes)
		if err := s.read(frame, at); err != nil {
			return err
		}
		if size, ok := s.id.frame(frame, at); ok && at+frameBytes+journal.Position(size) == next.start() {
			return nil
		}
	}

	// Is something missing behind s, or is s damaged? Reading it tells.
	x := &examined{last: s}
	bad := x.scan(0, false)
	end := x.tail.cursor.Pos
	if !errors.Is(bad, ErrDamaged) {
		return bad
	}
	_, found, err := s.frameAfter(end)
	if err != nil {
		return err
	}
	left, err := inspect(s, end)
	if err != nil {
		return err
	}
	if found || end == at && left.tornBytes > 0 {
		return bad
	}
	gone := missing(dir, end)
	gone.Seq = x.tail.cursor.Seq
	return gone
}

// bad is the error about the entry whose frame starts at a position. An entry's own
// position is where it ends, which its frame tells, if that is good.
func (s *segment) bad(at journal.Position, seq journal.Seq, err error) error {
	c := &journal.CorruptError{Source: s.path, Pos: at, After: true, Seq: seq, Offset: s.offset(at), Err: err}
	frame := make([]byte, frameBytes)
	if _, err := s.file.ReadAt(frame, c.Offset); err != nil {
		return c
	}
	if size, ok := s.id.frame(frame, at); ok {
		c.Pos, c.After = at+frameBytes+journal.Position(size), false
	}
	return c
}

func (s *segment) damaged(at journal.Position, seq journal.Seq, err error) error {
	return s.bad(at, seq, fmt.Errorf("%w: %w", ErrDamaged, err))
}

// scan takes in the entries of the newest segment up to end, if it is known, or
// else to the first thing that is no entry, which is the error then. What is no
// entry is a *journal.CorruptError that matches ErrDamaged, unless a later
// version wrote it.
func (x *examined) scan(end journal.Position, known bool) error {
	s, t := x.last, &x.tail
	t.startSegment(s.cursor)
	w := window{seg: s}
	for at := s.start(); !known || at < end; at = t.cursor.Pos {
		entry, err := w.entry(at)
		if err == nil && known && at+journal.Position(len(entry)) > end {
			err = fmt.Errorf("entry of %d bytes: %w", len(entry), journal.ErrMalformed)
		}
		if err == nil {
			err = t.take(at, at+journal.Position(len(entry)), entry[frameBytes:])
		}
		switch {
		case err == nil:
		case errors.Is(err, errUnread):
			return err
		case errors.Is(err, journal.ErrVersion):
			return s.bad(at, t.cursor.Seq, err)
		case errors.Is(err, journal.ErrForeign):
			return s.damaged(at, t.cursor.Seq, fmt.Errorf("%w: neither a batch nor a fence", journal.ErrMalformed))
		default:
			return s.damaged(at, t.cursor.Seq, err)
		}
	}
	return nil
}

// errUnread: the file could not be read, which is no verdict on its content.
var errUnread = errors.New("cannot read")

// A window reads the entries of a segment one after the other.
type window struct {
	seg *segment
	at  journal.Position // of buf
	buf []byte
	mem []byte
}

// entry returns the entry at pos with its frame, valid until the next call.
func (w *window) entry(pos journal.Position) ([]byte, error) {
	frame, err := w.bytes(pos, frameBytes)
	if err != nil {
		return nil, err
	}
	size, ok := w.seg.id.frame(frame, pos)
	if !ok {
		return nil, fmt.Errorf("no frame: %w", journal.ErrChecksum)
	}
	return w.bytes(pos, frameBytes+int64(size))
}

func (w *window) bytes(pos journal.Position, n int64) ([]byte, error) {
	if skip := int64(pos - w.at); pos >= w.at && skip+n <= int64(len(w.buf)) {
		return w.buf[skip : skip+n], nil
	}
	room := w.seg.room(pos)
	if room < n {
		return nil, fmt.Errorf("segment %w", journal.ErrShort)
	}
	want := min(room, max(n, chunkBytes))
	if int64(cap(w.mem)) < want {
		w.mem = make([]byte, want)
	}
	w.at, w.buf = pos, w.mem[:want]
	if err := w.seg.read(w.buf, pos); err != nil {
		w.buf = nil
		return nil, fmt.Errorf("%w: %w", errUnread, err)
	}
	return w.buf[:n], nil
}

// putInOrder makes a journal that was examined after a restart of the machine
// ready for writing. The torn tail is set aside. What lies behind the mark is
// whole, and is written again and synced before anyone relies on it.
func (x *examined) putInOrder(fsys FS, dir string, st *state) (Recovery, error) {
	r := x.report
	if x.last == nil {
		return r, nil
	}
	var err error
	if r.CutFile, err = setAside(fsys, dir, x.last, r.End, r.CutBytes); err != nil {
		return r, fmt.Errorf("set torn tail aside: %w", err)
	}
	if r.Kept {
		b := make([]byte, r.End-r.Mark)
		if err := x.last.read(b, r.Mark); err != nil {
			return r, err
		}
		if err := rewrite(x.last, r.Mark, b); err != nil {
			return r, fmt.Errorf("write tail again: %w", err)
		}
	}
	if st.anchor.last < x.last.start() {
		if err := fsys.SyncDir(dir); err != nil {
			return r, fmt.Errorf("sync folder: %w", err)
		}
		return r, st.writeAnchor(x.generation, st.anchor.first, x.last.start())
	}
	return r, nil
}
