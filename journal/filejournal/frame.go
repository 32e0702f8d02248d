package filejournal

import (
	"encoding/binary"
	"hash/crc32"

	"understudy.dev/journal"
)

// A frame precedes each entry in a segment, little endian:
//
//	 0  8  position where the frame starts
//	 8  4  size of the entry in bytes
//	12  4  CRC32C of the journal's id and the 12 bytes before
//
// Segments are recycled without being cleared, so what lies behind the end of
// the journal may be an old segment's content. Since a frame states where it
// belongs and positions never come back, nothing old can pass for new; the entry
// itself carries its own size and checksum.
const frameBytes = 16

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// An id tells journals apart. It is random and made with the journal.
type id [16]byte

// putFrame writes the frame of an entry of size bytes at position at.
func (d *id) putFrame(dst []byte, at journal.Position, size int) {
	binary.LittleEndian.PutUint64(dst, uint64(at))
	binary.LittleEndian.PutUint32(dst[8:], uint32(size))
	binary.LittleEndian.PutUint32(dst[12:], d.sum(dst[:12]))
}

// frame returns the size of the entry whose frame starts at position at, or
// false if src does not start with that frame.
func (d *id) frame(src []byte, at journal.Position) (size int, ok bool) {
	if len(src) < frameBytes || binary.LittleEndian.Uint64(src) != uint64(at) {
		return 0, false
	}
	if binary.LittleEndian.Uint32(src[12:]) != d.sum(src[:12]) {
		return 0, false
	}
	return int(binary.LittleEndian.Uint32(src[8:])), true
}

// sum is CRC32C over the id and b.
func (d *id) sum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(d[:], castagnoli), castagnoli, b)
}
