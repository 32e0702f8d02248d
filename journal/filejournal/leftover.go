package filejournal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"understudy.dev/journal"
)

// A leftover is what lies in a segment behind the end of the journal.
type leftover struct {
	whole     []byte // frame and entry, if they are good
	tornBytes int64  // else how much may come from a write that was not completed
}

// maxGuess bounds what is set aside when a torn write lost its frame, in bytes:
// in a recycled segment nobody can tell its end from what was there before.
const maxGuess = 1 << 20

// inspect looks at what lies behind end.
func inspect(seg *segment, end journal.Position) (leftover, error) {
	room := seg.room(end)
	if room < frameBytes {
		return leftover{}, nil
	}
	frame := make([]byte, frameBytes)
	if err := seg.read(frame, end); err != nil {
		return leftover{}, err
	}
	size, ok := seg.id.frame(frame, end)
	if !ok {
		n, err := seg.guess(end)
		return leftover{tornBytes: n}, err
	}
	whole := make([]byte, min(int64(frameBytes+size), room))
	if err := seg.read(whole, end); err != nil {
		return leftover{}, err
	}
	var t tail
	if len(whole) == frameBytes+size && t.take(end, end, whole[frameBytes:]) == nil {
		return leftover{whole: whole}, nil
	}
	return leftover{tornBytes: int64(len(whole))}, nil
}

// read fills b from the position pos on.
func (s *segment) read(b []byte, pos journal.Position) error {
	_, err := s.file.ReadAt(b, s.offset(pos))
	if errors.Is(err, io.EOF) {
		return s.damaged(pos, 0, fmt.Errorf("segment %w", journal.ErrShort))
	}
	if err != nil {
		return fmt.Errorf("read segment %s: %w", s.path, err)
	}
	return nil
}

// guess returns how much after pos, where no frame is, is not zero, and at most
// maxGuess; 0 if a segment that was recycled shows no sign of a write there.
func (s *segment) guess(pos journal.Position) (int64, error) {
	last := int64(0)
	err := s.chunks(pos, func(b []byte, at int64) bool {
		if n := len(bytes.TrimRight(b, "\x00")); n > 0 {
			last = at + int64(n)
		}
		return true
	})
	return min(last, maxGuess), err
}

// chunks calls f with what lies from pos to the end of the file, and how far
// after pos each piece starts. Pieces overlap by a frame less one byte.
func (s *segment) chunks(pos journal.Position, f func(b []byte, at int64) bool) error {
	room := s.room(pos)
	if room <= 0 {
		return nil
	}
	buf := make([]byte, min(room, 1<<20))
	for at := int64(0); at < room; {
		b := buf[:min(int64(len(buf)), room-at)]
		if err := s.read(b, pos+journal.Position(at)); err != nil {
			return err
		}
		if !f(b, at) || at+int64(len(b)) == room {
			return nil
		}
		at += int64(len(b)) - frameBytes + 1
	}
	return nil
}

// frameAfter returns the first position after pos where a frame of this journal
// lies, or false. An entry is written only after the one before it is durable, so
// such a frame proves that what lies before it was.
func (s *segment) frameAfter(pos journal.Position) (found journal.Position, ok bool, err error) {
	err = s.chunks(pos+1, func(b []byte, at int64) bool {
		base := pos + 1 + journal.Position(at)
		for i := 0; i+frameBytes <= len(b); i++ {
			here := base + journal.Position(i)
			if binary.LittleEndian.Uint64(b[i:]) != uint64(here) {
				continue
			}
			if _, ok = s.id.frame(b[i:], here); ok {
				found = here
				return false
			}
		}
		return true
	})
	return found, ok, err
}

// isZero reports whether nothing but zeros follows pos.
func (s *segment) isZero(pos journal.Position) (bool, error) {
	zero := true
	err := s.chunks(pos, func(b []byte, _ int64) bool {
		zero = len(bytes.TrimRight(b, "\x00")) == 0
		return zero
	})
	return zero, err
}

// rewrite writes what was read at pos again and makes it durable.
func rewrite(seg *segment, pos journal.Position, b []byte) error {
	if _, err := seg.file.WriteAt(b, seg.offset(pos)); err != nil {
		return err
	}
	return seg.file.Datasync()
}

func cutName(pos journal.Position) string { return asideName(cutPrefix, pos) }

// leftName is for a segment that a writer began and did not announce.
func leftName(pos journal.Position) string { return asideName(leftPrefix, pos) }

func asideName(prefix string, pos journal.Position) string {
	return randomName(fmt.Sprintf("%s%020d-", prefix, uint64(pos))) + ".bin"
}

// setAside copies n bytes at pos into a file of their own, makes that durable,
// and only then clears them. It returns the file's name.
func setAside(fsys FS, dir string, seg *segment, pos journal.Position, n int64) (string, error) {
	if n == 0 {
		return "", nil
	}
	b := make([]byte, n)
	if err := seg.read(b, pos); err != nil {
		return "", err
	}
	name := cutName(pos)
	f, err := fsys.Open(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := f.WriteAt(b, 0); err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	if err := fsys.SyncDir(dir); err != nil {
		return "", err
	}
	return name, fillZero(seg.file, seg.offset(pos), n)
}
