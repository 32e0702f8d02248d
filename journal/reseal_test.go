package journal_test

import (
	"encoding/binary"
	"hash/crc32"
)

// reseal gives a fuzzed frame its right size and checksum, so that fuzzing gets
// past them.
func reseal(raw []byte) {
	if len(raw) < 12 {
		return
	}
	binary.LittleEndian.PutUint32(raw[8:], uint32(len(raw)))
	binary.LittleEndian.PutUint32(raw[4:], crc32.Checksum(raw[8:], crc32.MakeTable(crc32.Castagnoli)))
}
