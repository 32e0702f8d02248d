package filejournal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sort"

	"understudy.dev/internal/spoil"
	"understudy.dev/journal"
)

// chunkBytes is how much is read at once.
const chunkBytes = 512 << 10

// keepBytes is the largest entry whose memory a reader keeps for the next: twice
// what a journal.Writer makes.
const keepBytes = 4 * chunkBytes

// A reader reads entries in order below the durable end. It is for one goroutine.
type reader struct {
	fsys FS
	dir  string
	st   *state
	at   journal.Position // the next frame

	seg   *segment
	limit journal.Position // where the segment after seg starts; 0 if not known
	chunk []byte           // from at on, if it is not empty
	room  []byte           // memory for chunks, up to keepBytes
}

// seek makes pos the next frame.
func (r *reader) seek(pos journal.Position) {
	if r.at != pos {
		r.close() // another segment may hold it
		r.at = pos
	}
}

// next returns the next entry, valid until the next call. at is below end, which
// was loaded together with generation. The entry's frame was checked, and its
// content not.
func (r *reader) next(generation uint16, end journal.Position) (journal.Entry, error) {
	size, ok := r.st.id.frame(r.chunk, r.at)
	if !ok || len(r.chunk) < frameBytes+size {
		var err error
		if size, err = r.fill(generation, end); err != nil {
			return journal.Entry{}, err
		}
	}
	n := frameBytes + size
	data := r.chunk[frameBytes:n:n]
	r.at, r.chunk = r.at+journal.Position(n), r.chunk[n:]
	if len(r.chunk) == 0 {
		r.chunk = nil // it may be a huge entry's memory
	}
	return journal.Entry{Pos: r.at, Data: data}, nil
}

// fill reads a chunk that starts with the whole entry at r.at and returns the
// entry's size.
func (r *reader) fill(generation uint16, end journal.Position) (int, error) {
	for {
		if r.seg == nil {
			if err := r.find(); err != nil {
				return 0, err
			}
		}
		stop, err := r.stop(generation, end)
		if err != nil {
			return 0, err
		}
		size, ok, err := r.load(stop)
		if errors.Is(err, journal.ErrTrimmed) && r.at >= r.st.trimmed() {
			r.close() // all that was trimmed had been read; the next segment is there
			continue
		}
		if err != nil || ok {
			return size, err
		}
		if err := r.advance(); err != nil {
			return 0, err
		}
	}
}

// load reads a chunk of the present segment. It returns false if the entry at
// r.at is not in this segment.
func (r *reader) load(stop journal.Position) (int, bool, error) {
	n := min(chunkBytes, int64(stop)-int64(r.at), r.seg.room(r.at))
	if n < frameBytes {
		return 0, false, nil
	}
	if err := r.pread(n); err != nil {
		return 0, false, err
	}
	size, ok := r.st.id.frame(r.chunk, r.at)
	if !ok {
		return 0, false, nil
	}
	whole := int64(frameBytes + size)
	if whole > int64(stop)-int64(r.at) || whole > r.seg.room(r.at) {
		return 0, false, r.corrupt(fmt.Errorf("%w: entry of %d bytes reaches over the end", ErrDamaged, size))
	}
	if whole > n {
		if err := r.pread(whole); err != nil {
			return 0, false, err
		}
	}
	return size, true, nil
}

// pread makes n bytes at r.at the chunk. A segment that was trimmed may
// have been recycled meanwhile; Trim says so before it lets go of the file, so
// what was read before it said so is good.
func (r *reader) pread(n int64) error {
	r.chunk = nil
	chunk := r.memory(n)
	_, err := r.seg.file.ReadAt(chunk, r.seg.offset(r.at))
	if r.seg.start() < r.st.trimmed() {
		return r.trimmed()
	}
	if errors.Is(err, io.EOF) {
		return r.corrupt(fmt.Errorf("%w: segment %w", ErrDamaged, journal.ErrShort))
	}
	if err != nil {
		return fmt.Errorf("read segment %s: %w", r.seg.path, err)
	}
	r.chunk = chunk
	return nil
}

// memory returns n bytes to read into: those of the chunk before, unless that
// would keep more than keepBytes.
func (r *reader) memory(n int64) []byte {
	spoil.Bytes(r.room)
	if n > keepBytes {
		return make([]byte, n)
	}
	if int64(len(r.room)) < n {
		r.room = make([]byte, n)
	}
	return r.room[:n]
}

// stop returns where the entries of the present segment end at the latest. While
// the right to write is the one that the segment was made under, that is end.
// After it was taken over, a paused writer may still write behind the last entry;
// so the start of the next segment counts.
func (r *reader) stop(generation uint16, end journal.Position) (journal.Position, error) {
	if r.seg.generation == generation {
		return end, nil
	}
	if r.limit == 0 {
		all, err := listSegments(r.fsys, r.dir)
		if err != nil {
			return 0, err
		}
		for _, s := range slices.Backward(all) {
			if s.start > r.seg.start() {
				r.limit = s.start
			}
		}
	}
	if r.limit != 0 {
		return min(end, r.limit), nil
	}
	return end, nil
}

// advance goes to the segment that starts at r.at.
func (r *reader) advance() error {
	if r.at < r.st.trimmed() {
		return r.trimmed()
	}
	bad := r.corrupt(fmt.Errorf("%w: no frame: %w", ErrDamaged, journal.ErrChecksum))
	if r.at == r.seg.start() {
		return bad
	}
	seg, err := openAt(r.fsys, r.dir, r.st.id, r.at, os.O_RDONLY)
	switch {
	case errors.Is(err, fs.ErrNotExist) && r.at < r.st.trimmed():
		return r.trimmed()
	case errors.Is(err, fs.ErrNotExist):
		return bad
	case err != nil:
		return err
	}
	r.close()
	r.seg = seg
	return nil
}

// find opens the segment that holds r.at.
func (r *reader) find() error {
	for {
		if r.at < r.st.trimmed() {
			return r.trimmed()
		}
		all, err := listSegments(r.fsys, r.dir)
		if err != nil {
			return err
		}
		i := sort.Search(len(all), func(i int) bool { return all[i].start > r.at }) - 1
		if i < 0 {
			return &journal.CorruptError{What: "missing segment", Source: r.dir, Pos: r.at, After: true, Offset: -1, Err: ErrMissing}
		}
		seg, err := openSegment(r.fsys, r.dir, r.st.id, all[i], os.O_RDONLY)
		if errors.Is(err, fs.ErrNotExist) {
			continue // trimmed since the names were read
		}
		if err != nil {
			return err
		}
		r.close()
		r.seg = seg
		return nil
	}
}

func (r *reader) trimmed() error {
	return fmt.Errorf("entries through %d are gone: %w", r.st.trimmed(), journal.ErrTrimmed)
}

// corrupt is the error about the entry that r.at is before.
func (r *reader) corrupt(err error) error { return r.seg.bad(r.at, 0, err) }

func (r *reader) close() {
	if r.seg != nil {
		r.seg.file.Close()
	}
	r.seg, r.limit, r.chunk = nil, 0, nil
}
