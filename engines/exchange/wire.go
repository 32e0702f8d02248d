package exchange

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// What can be wrong with encoded bytes. The texts reach clients as rejections and
// with that the digest: a change of wording is a change of the definition's version.
var (
	errShort   = errors.New("bytes end too early")
	errLong    = errors.New("number is longer than it needs to be or does not fit 64 bits")
	errRest    = errors.New("bytes left over")
	errSide    = errors.New("side is neither 1 (buy) nor 2 (sell)")
	errUnknown = errors.New("unknown command")
)

// appendNumbers appends each number in the fewest bytes.
func appendNumbers(dst []byte, numbers ...uint64) []byte {
	for _, n := range numbers {
		dst = binary.AppendUvarint(dst, n)
	}
	return dst
}

// uvarint decodes one number in its shortest form; size is the count of bytes.
func uvarint(data []byte) (n uint64, size int, err error) {
	n, size = binary.Uvarint(data)
	switch {
	case size == 0:
		return 0, 0, errShort
	case size < 0 || size > 1 && data[size-1] == 0:
		return 0, 0, errLong
	}
	return n, size, nil
}

// A decoder takes fields off the front of data. After its first error every field
// is 0, so callers check once, with end.
type decoder struct {
	data  []byte
	err   error
	field string // that err is about
}

func (d *decoder) side() Side {
	if len(d.data) == 0 {
		d.fail("side", errShort)
		return 0
	}
	s := Side(d.data[0])
	if s != Buy && s != Sell {
		d.fail("side", errSide)
		return 0
	}
	d.data = d.data[1:]
	return s
}

func (d *decoder) number(field string) uint64 {
	n, size, err := uvarint(d.data)
	if err != nil {
		d.fail(field, err)
		return 0
	}
	d.data = d.data[size:]
	return n
}

func (d *decoder) price() int64 {
	n := d.number("price")
	if n > math.MaxInt64 {
		d.fail("price", ErrPrice)
		return 0
	}
	return int64(n)
}

// fail keeps the first error, and leaves nothing to decode.
func (d *decoder) fail(field string, err error) {
	if d.err == nil {
		d.err, d.field = err, field
	}
	d.data = nil
}

// end returns what was wrong with the encoding of a command or reply.
func (d *decoder) end(name string) error {
	if d.err != nil {
		return fmt.Errorf("decode %s: %s: %w", name, d.field, d.err)
	}
	if len(d.data) > 0 {
		return fmt.Errorf("decode %s: %w: %d", name, errRest, len(d.data))
	}
	return nil
}

func nameError(name string) error { return fmt.Errorf("decode %q: %w", name, errUnknown) }

func versionError(name string, version uint32) error {
	return fmt.Errorf("decode %q: version %d, want %d", name, version, CommandVersion)
}
