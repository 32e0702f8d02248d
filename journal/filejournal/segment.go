package filejournal

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"understudy.dev/journal"
)

// A segment starts with one block, little endian; the frames follow.
//
//	   0    8  magic "UDJSEG1\n"
//	   8    4  CRC32C of the journal's id and the bytes from 12 to 511
//	  12    2  format version, 1
//	  14    2  generation of the right to write, see package comment
//	  16   16  id of the journal
//	  32    8  size of the file in bytes
//	  40  368  cursor before the first entry; its position is where the segment starts
//	           zero up to 511
//	 512   16  mark: position, CRC32C of id and position, zero
//	1024   16  second mark; they are written in turn
//	           zero up to 4095
//
// A mark is a position up to which the journal was durable when the mark was
// written. It goes out with the append after, so the sync that completes that
// append makes the mark durable too. Two sectors in turn, so that a torn one
// leaves the mark before it.
const (
	segmentMagic   = "UDJSEG1\n"
	segmentHeader  = 4096
	segmentVersion = 1
	headerSum      = 512 // bytes of the header that its checksum covers
	markSector     = 512
	markBytes      = 16
	segmentSuffix  = ".udj"
)

// header is what a segment says about itself.
type header struct {
	generation uint16
	id         id
	size       int64          // of the file
	cursor     journal.Cursor // before its first entry; Pos is where it starts
}

func (h *header) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, segmentHeader)
	copy(b, segmentMagic)
	le.PutUint16(b[12:], segmentVersion)
	le.PutUint16(b[14:], h.generation)
	copy(b[16:], h.id[:])
	le.PutUint64(b[32:], uint64(h.size))
	putCursor(b[40:], &h.cursor)
	le.PutUint32(b[8:], h.id.sum(b[12:headerSum]))
	return b
}

// decodeHeader checks and reads a header. Its error is ErrForeign, ErrVersion or
// ErrChecksum.
func decodeHeader(b []byte) (h header, err error) {
	le := binary.LittleEndian
	if string(b[:8]) != segmentMagic {
		return h, fmt.Errorf("not a segment: %w", journal.ErrForeign)
	}
	copy(h.id[:], b[16:])
	if got, want := h.id.sum(b[12:headerSum]), le.Uint32(b[8:]); got != want {
		return h, fmt.Errorf("segment header: %w: computed %08x, stored %08x", journal.ErrChecksum, got, want)
	}
	if v := le.Uint16(b[12:]); v != segmentVersion {
		return h, fmt.Errorf("%w: segment format %d, this version reads %d", journal.ErrVersion, v, segmentVersion)
	}
	h.generation = le.Uint16(b[14:])
	h.size = int64(le.Uint64(b[32:]))
	h.cursor = getCursor(b[40:])
	return h, nil
}

// mark returns the larger of the marks in a header block that are whole.
func (h *header) mark(b []byte) journal.Position {
	best := h.cursor.Pos
	for slot := range 2 {
		m := b[(slot+1)*markSector:]
		if binary.LittleEndian.Uint32(m[8:]) == h.id.sum(m[:8]) {
			best = max(best, journal.Position(binary.LittleEndian.Uint64(m)))
		}
	}
	return best
}

// A segmentID says which segment a file is. Of several with one start, the one of
// the largest generation counts: whoever has the right to write in a generation
// begins with a segment of its own, and one that a stopped writer of an earlier
// generation puts beside it late changes nothing.
type segmentID struct {
	start      journal.Position
	generation uint16
}

// name is the name of its file.
func (s segmentID) name() string {
	if s.generation == 0 {
		return fmt.Sprintf("%020d%s", uint64(s.start), segmentSuffix)
	}
	return fmt.Sprintf("%020d-%d%s", uint64(s.start), s.generation, segmentSuffix)
}

// parseSegmentName is the inverse of name.
func parseSegmentName(name string) (s segmentID, ok bool) {
	stem, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok {
		return s, false
	}
	start, generation, numbered := strings.Cut(stem, "-")
	pos, err := strconv.ParseUint(start, 10, 64)
	s.start = journal.Position(pos)
	if numbered && err == nil {
		var g uint64
		g, err = strconv.ParseUint(generation, 10, 16)
		s.generation = uint16(g)
	}
	return s, err == nil && s.name() == name
}

// segmentFiles returns all segments in a folder, by start and generation.
func segmentFiles(fsys FS, dir string) ([]segmentID, error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, fmt.Errorf("list journal: %w", err)
	}
	var all []segmentID
	for _, name := range names {
		if s, ok := parseSegmentName(name); ok {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b segmentID) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.generation, b.generation))
	})
	return all, nil
}

// listSegments returns the segments in a folder that count, in order.
func listSegments(fsys FS, dir string) ([]segmentID, error) {
	all, err := segmentFiles(fsys, dir)
	counts := all[:0]
	for i, s := range all {
		if i+1 == len(all) || all[i+1].start != s.start {
			counts = append(counts, s)
		}
	}
	return counts, err
}

// openAt opens the segment that starts at pos. If there is none the error matches
// fs.ErrNotExist.
func openAt(fsys FS, dir string, of id, pos journal.Position, flag int) (*segment, error) {
	all, err := listSegments(fsys, dir)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if s.start == pos {
			return openSegment(fsys, dir, of, s, flag)
		}
	}
	return nil, fmt.Errorf("open segment at %d: %w", pos, fs.ErrNotExist)
}

// A segment is an open segment file.
type segment struct {
	header
	file File
	path string
	mark journal.Position // the largest mark when it was opened
	turn int              // which mark is written next
}

// openSegment opens a segment and checks its header. A
// missing file gives an error matching fs.ErrNotExist, and anything else wrong
// with it a *journal.CorruptError.
func openSegment(fsys FS, dir string, of id, which segmentID, flag int) (*segment, error) {
	path := filepath.Join(dir, which.name())
	f, err := fsys.Open(path, flag)
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	s, err := readHeader(f, path, of, which)
	if err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func readHeader(f File, path string, of id, which segmentID) (*segment, error) {
	pos := which.start
	damaged := func(offset int64, err error) error {
		return &journal.CorruptError{What: "bad segment", Source: path, Pos: pos, After: true, Offset: offset, Err: err}
	}
	b := make([]byte, segmentHeader)
	if n, err := f.ReadAt(b, 0); err != nil {
		if !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read segment header of %s: %w", path, err)
		}
		if begins := min(n, len(segmentMagic)); string(b[:begins]) != segmentMagic[:begins] {
			return nil, damaged(0, fmt.Errorf("%d bytes are no segment: %w", n, journal.ErrForeign))
		}
		return nil, damaged(int64(n), fmt.Errorf("%w: segment header: %w", ErrDamaged, journal.ErrShort))
	}
	h, err := decodeHeader(b)
	switch {
	case errors.Is(err, journal.ErrChecksum):
		return nil, damaged(0, fmt.Errorf("%w: %w", ErrDamaged, err))
	case err != nil:
		return nil, damaged(0, err)
	case h.id != of:
		return nil, damaged(16, fmt.Errorf("segment of journal %x in journal %x: %w", h.id, of, journal.ErrForeign))
	case h.segmentID() != which:
		return nil, damaged(40, fmt.Errorf("segment %s under another name: %w", h.segmentID().name(), journal.ErrForeign))
	}
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("size of segment %s: %w", path, err)
	}
	if size < h.size {
		return nil, &journal.CorruptError{
			What: "bad segment", Source: path, Pos: pos, After: true, Seq: h.cursor.Seq, Offset: size,
			Err: fmt.Errorf("%w: segment %w: %d bytes of %d", ErrDamaged, journal.ErrShort, size, h.size),
		}
	}
	return &segment{header: h, file: f, path: path, mark: h.mark(b)}, nil
}

// segmentID returns which segment the header belongs to.
func (h *header) segmentID() segmentID {
	return segmentID{start: h.cursor.Pos, generation: h.generation}
}

// start returns the position where the segment starts.
func (s *segment) start() journal.Position { return s.cursor.Pos }

// offset returns where in the file the frame at pos lies.
func (s *segment) offset(pos journal.Position) int64 {
	return segmentHeader + int64(pos-s.start())
}

// room returns how many bytes are left for frames from pos on.
func (s *segment) room(pos journal.Position) int64 { return s.size - s.offset(pos) }

// writeMark notes that the journal is durable up to pos. The next sync makes
// that durable as well. buf has markBytes.
func (s *segment) writeMark(pos journal.Position, buf []byte) (int, error) {
	binary.LittleEndian.PutUint64(buf, uint64(pos))
	binary.LittleEndian.PutUint32(buf[8:], s.id.sum(buf[:8]))
	clear(buf[12:markBytes])
	n, err := s.file.WriteAt(buf[:markBytes], int64(s.turn+1)*markSector)
	s.turn = 1 - s.turn
	return n, err
}
