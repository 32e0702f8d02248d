package sqlitejournal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"understudy.dev/journal"
)

// SQLite's log, as sqlite.org/fileformat2.html draws it. All numbers are big
// endian but for those that are summed, whose order the magic tells.
//
//	header   0  4  magic 0x377f0682, or ...83 if sums are of big-endian numbers
//	         4  4  version
//	         8  4  size of a page
//	        12  4  how often it was started anew
//	        16  8  two salts, others each time that it is started anew
//	        24  8  sum of the bytes before
//	frame    0  4  number of the page
//	         4  4  pages in the database after the commit; 0 in other frames
//	         8  8  the salts
//	        16  8  sum of the frame before, or of the header, and the first 8 bytes
//	               and the page of this frame
//	        24     the page
const (
	logMagic    = 0x377f0682
	logHeader   = 32
	frameHeader = 24
)

// checkLog finds out whether a log that is to be recovered was damaged before its
// synced end. SQLite takes the first frame with a wrong sum for the end, which is
// right for a transaction that was interrupted, and would silently drop what was
// acknowledged otherwise.
//
// The two are told apart by what lies behind. A transaction is written only after
// the one before was synced. So if a frame is bad, and behind the next commit there
// is a frame whose sum continues that commit's, the bad one had been synced. What
// an earlier attempt left there does not continue it. The last transaction has
// nothing behind it: damage in it cannot be told from an interruption.
//
// Somebody may be using the log. Frames are only added then, until it is started
// anew; the header tells, and then nothing is said.
func checkLog(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	l := log{path: path, file: f}
	found := l.check()
	var again [logHeader]byte
	if _, err := f.ReadAt(again[:], 0); err != nil || again != l.header {
		return nil
	}
	return found
}

// A log is read frame by frame.
type log struct {
	path   string
	file   *os.File
	header [logHeader]byte
	order  binary.ByteOrder
	page   []byte // header and page of a frame
}

func (l *log) check() error {
	if _, err := l.file.ReadAt(l.header[:], 0); err != nil {
		return nil // it has no header yet
	}
	be := binary.BigEndian
	magic, size := be.Uint32(l.header[:]), be.Uint32(l.header[8:])
	l.order = binary.ByteOrder(binary.LittleEndian)
	if magic&1 == 1 {
		l.order = be
	}
	if magic&^1 != logMagic || size < 512 || size > 1<<16 || size&(size-1) != 0 || l.sum([2]uint32{}, l.header[:24]) != sumAt(l.header[24:]) {
		return l.checkHeader()
	}
	l.page = make([]byte, frameHeader+size)
	sum, bad, commit := sumAt(l.header[24:]), int64(-1), false
	for i := int64(0); ; i++ {
		if _, err := l.file.ReadAt(l.page, l.offset(i)); err != nil {
			return nil // whole frames only: io.EOF behind the last one
		}
		stated := sumAt(l.page[16:])
		good := bytes.Equal(l.page[8:16], l.header[16:24]) && l.sum(l.sum(sum, l.page[:8]), l.page[frameHeader:]) == stated
		switch {
		case bad < 0 && !good:
			bad = i
		case bad >= 0 && good && commit:
			return l.damaged(l.offset(bad), fmt.Errorf("%w: frame %d, before frame %d, which was synced later", journal.ErrChecksum, bad+1, i+1))
		}
		sum, commit = stated, be.Uint32(l.page[4:]) != 0
	}
}

// checkHeader decides about a header that is bad. One that was interrupted has
// salts of its own; frames with a salt of the header were written after it was
// synced.
func (l *log) checkHeader() error {
	var frame [frameHeader]byte
	if _, err := l.file.ReadAt(frame[:], logHeader); err != nil {
		return nil
	}
	if bytes.Equal(frame[8:12], l.header[16:20]) || bytes.Equal(frame[12:16], l.header[20:24]) {
		return l.damaged(0, fmt.Errorf("%w: the header", journal.ErrChecksum))
	}
	return nil
}

func (l *log) offset(frame int64) int64 { return logHeader + frame*int64(len(l.page)) }

func (l *log) damaged(offset int64, err error) error {
	return &journal.CorruptError{Source: l.path, Offset: offset, Err: err}
}

func sumAt(b []byte) [2]uint32 {
	return [2]uint32{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}
}

// sum continues a sum over b, whose length is a multiple of 8.
func (l *log) sum(s [2]uint32, b []byte) [2]uint32 {
	for ; len(b) >= 8; b = b[8:] {
		s[0] += l.order.Uint32(b) + s[1]
		s[1] += l.order.Uint32(b[4:]) + s[0]
	}
	return s
}
