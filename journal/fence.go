package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// A fence as stored, little endian. It depends on nothing but its two values,
// so a copy of a journal has the same bytes and the same chain.
//
//	 0  4  magic "UDF1"
//	 4  4  CRC32C of the bytes from 8 to the end
//	 8  4  size of the whole in bytes
//	12  1  format version, 1
//	13  1  length of the owner
//	14  2  zero
//	16  8  epoch
//	24  n  owner
const (
	fenceMagic  = "UDF1"
	fenceHeader = 24
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Fence opens an epoch for one owner and shuts every smaller epoch out.
type Fence struct {
	Epoch Epoch
	Owner string
}

// AppendFence appends the stored form of a fence to dst. It panics if owner is
// empty or longer than MaxOwner, or epoch is 0: backends check with CheckFence.
func AppendFence(dst []byte, epoch Epoch, owner string) []byte {
	if err := CheckFence(epoch, owner); err != nil {
		panic(err)
	}
	at := len(dst)
	dst = append(dst, fenceMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(fenceHeader+len(owner)))
	dst = append(dst, formatVersion, byte(len(owner)), 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(epoch))
	dst = append(dst, owner...)
	binary.LittleEndian.PutUint32(dst[at+4:], crc32.Checksum(dst[at+8:], castagnoli))
	return dst
}

// CheckFence reports what makes a fence impossible to store.
func CheckFence(epoch Epoch, owner string) error {
	switch {
	case epoch == 0:
		return fmt.Errorf("fence: %w: epochs start at 1", ErrMalformed)
	case owner == "":
		return fmt.Errorf("fence: %w: no owner", ErrMalformed)
	case len(owner) > MaxOwner:
		return fmt.Errorf("fence: %w: owner of %d bytes, at most %d", ErrTooLarge, len(owner), MaxOwner)
	}
	return nil
}

// IsFence reports whether data starts as a fence does.
func IsFence(data []byte) bool { return len(data) >= 4 && string(data[:4]) == fenceMagic }

// DecodeFence is the inverse of AppendFence. Its error is one of the Err values
// that a CorruptError holds.
func DecodeFence(data []byte) (Fence, error) {
	if !IsFence(data) {
		return Fence{}, ErrForeign
	}
	if err := checkFrame(data, fenceHeader); err != nil {
		return Fence{}, err
	}
	if int(data[13]) != len(data)-fenceHeader || data[14] != 0 || data[15] != 0 {
		return Fence{}, fmt.Errorf("fence: %w: owner length", ErrMalformed)
	}
	f := Fence{Epoch: Epoch(binary.LittleEndian.Uint64(data[16:])), Owner: string(data[fenceHeader:])}
	if err := CheckFence(f.Epoch, f.Owner); err != nil {
		return Fence{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return f, nil
}

// checkFrame checks what batches and fences have in common: size, checksum and
// format version, in the order that gives the most telling error.
func checkFrame(data []byte, header int) error {
	if len(data) < header {
		return fmt.Errorf("%w: %d bytes, the header alone has %d", ErrShort, len(data), header)
	}
	size := binary.LittleEndian.Uint32(data[8:])
	if int64(size) > int64(len(data)) {
		return fmt.Errorf("%w: %d bytes of %d", ErrShort, len(data), size)
	}
	if int(size) < len(data) {
		return fmt.Errorf("%w: %d bytes after the end", ErrMalformed, len(data)-int(size))
	}
	if got, want := crc32.Checksum(data[8:], castagnoli), binary.LittleEndian.Uint32(data[4:]); got != want {
		return fmt.Errorf("%w: computed %08x, stored %08x", ErrChecksum, got, want)
	}
	if data[12] != formatVersion {
		return fmt.Errorf("%w: format %d, this version reads %d", ErrVersion, data[12], formatVersion)
	}
	return nil
}
