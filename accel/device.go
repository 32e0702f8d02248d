package accel

import (
	"errors"
	"fmt"
	"math"
)

// A Buffer names device memory between its Alloc and its Free. The zero Buffer
// names nothing. Devices choose the numbers; records hold the Recorder's own.
type Buffer uint64

// A Device holds memory and runs kernels. Sizes and offsets are in bytes and
// multiples of 4. Its methods are called by one goroutine at a time; each returns
// when its effect can be seen by the next. After an error nothing was done, but
// for ErrDevice, which is final.
type Device interface {
	// Alloc returns zeroed memory. Zero bytes are refused.
	Alloc(bytes int) (Buffer, error)
	// Free gives memory back; a buffer that is not allocated gets ErrBuffer.
	Free(b Buffer) error
	// CopyIn writes src at an offset of dst and does not keep src. What does not
	// fit gets ErrBounds.
	CopyIn(dst Buffer, offset int, src []byte) error
	// CopyOut fills dst from an offset of src.
	CopyOut(dst []byte, src Buffer, offset int) error
	// Launch runs a kernel and waits for it.
	Launch(l *Launch) error
	// Seed sets the key of the random kernels. Their counters are arguments, so
	// the seed is the only random state of a device.
	Seed(seed uint64) error
	// Environment tells what the results depend on. It does not change.
	Environment() Environment
}

// Test for these with errors.Is.
var (
	// ErrBuffer: the buffer is not allocated on this device.
	ErrBuffer = errors.New("accel: no such buffer")
	// ErrBounds: a size or offset is not a multiple of 4, or beyond the buffer.
	ErrBounds = errors.New("accel: out of bounds")
	// ErrKernel: the device has no such kernel, or the arguments do not fit it.
	ErrKernel = errors.New("accel: kernel")
	// ErrDevice: the device failed and must not be used again.
	ErrDevice = errors.New("accel: device failed")
)

// A Launch is one run of a kernel.
type Launch struct {
	Kernel string
	// Grid and Block say how the work is spread; zero leaves it to the device.
	// The kernels of the catalogue give the same bits for every choice.
	Grid, Block [3]uint32
	Args        []Arg
}

// Mode says what an argument is.
type Mode uint8

// The modes. Their numbers are part of the encoding.
const (
	ModeIn    Mode = 1 // a buffer that is read
	ModeOut   Mode = 2 // a buffer that is written, its former contents ignored
	ModeInOut Mode = 3 // a buffer that is read and written
	ModeU32   Mode = 4
	ModeU64   Mode = 5
	ModeF32   Mode = 6
)

// String returns the mode as signatures spell it.
func (m Mode) String() string {
	if m > ModeF32 {
		return fmt.Sprintf("mode-%d", uint8(m))
	}
	return [...]string{"none", "in", "out", "inout", "u32", "u64", "f32"}[m]
}

// Reads reports whether a kernel reads the argument; of a scalar it is false, and
// so is Writes.
func (m Mode) Reads() bool { return m == ModeIn || m == ModeInOut }

// Writes reports whether a kernel writes the argument.
func (m Mode) Writes() bool { return m == ModeOut || m == ModeInOut }

// IsBuffer reports whether the argument is memory.
func (m Mode) IsBuffer() bool { return m.Reads() || m.Writes() }

// An Arg is an argument of a kernel: a buffer's number or a scalar's bits.
type Arg struct {
	Mode Mode
	Bits uint64
}

// In passes a buffer to be read.
func In(b Buffer) Arg { return Arg{ModeIn, uint64(b)} }

// Out passes a buffer to be written.
func Out(b Buffer) Arg { return Arg{ModeOut, uint64(b)} }

// InOut passes a buffer to be read and written.
func InOut(b Buffer) Arg { return Arg{ModeInOut, uint64(b)} }

// U32 passes a 32-bit number.
func U32(v uint32) Arg { return Arg{ModeU32, uint64(v)} }

// U64 passes a 64-bit number.
func U64(v uint64) Arg { return Arg{ModeU64, v} }

// F32 passes a floating-point number.
func F32(v float32) Arg { return Arg{ModeF32, uint64(math.Float32bits(v))} }

// Buffer returns the buffer of an argument that is one.
func (a Arg) Buffer() Buffer { return Buffer(a.Bits) }

// Float returns the value of an argument of ModeF32.
func (a Arg) Float() float32 { return math.Float32frombits(uint32(a.Bits)) }

// CheckRange fails with ErrBounds unless n bytes at offset lie within a buffer of
// size bytes, at whole words.
func CheckRange(offset, n, size int) error {
	if offset < 0 || n < 0 || offset%4 != 0 || n%4 != 0 || offset > size || n > size-offset {
		return fmt.Errorf("%d bytes at %d of a buffer of %d: %w", n, offset, size, ErrBounds)
	}
	return nil
}
