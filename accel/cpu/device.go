// Package cpu is a device in pure Go: the kernels of [accel.Catalogue], one
// goroutine, the reference that other devices are compared with.
//
// Its results are the same bits on every architecture, Go version and GOAMD64:
// each product and sum is rounded on its own by an explicit conversion, which
// forbids a fused multiply-add (Go specification, Floating-point operators), and
// exp, ln, sin and cos are this package's own polynomials, since those of package
// math have assembly for some processors. Only math.Sqrt is used, which is
// correctly rounded everywhere. So the toolchain is told in the environment but
// neither recorded nor pinned.
package cpu

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"

	"understudy.dev/accel"
)

// version changes when the bits of a result may.
const version = "1"

// A Device is memory and kernels of this process. Make one with New.
type Device struct {
	catalogue map[string]*accel.Kernel
	kernels   map[string]func(args)
	memory    map[accel.Buffer][]float32
	last      accel.Buffer
	seed      uint64
}

// New returns a device without memory, its seed 0.
func New() *Device {
	return &Device{catalogue: accel.Catalogue(), kernels: kernels(), memory: make(map[accel.Buffer][]float32)}
}

// MaxAlloc is the largest buffer in bytes: 2^32 words, as many as a kernel's count in
// 32 bits reaches. Go ends the process where the machine has not got the memory, which
// one size in a damaged record must not do.
const MaxAlloc = min(4<<32, math.MaxInt)

// Alloc implements accel.Device. A size of more than MaxAlloc gets accel.ErrBounds.
func (d *Device) Alloc(bytes int) (accel.Buffer, error) {
	if bytes <= 0 || bytes%4 != 0 {
		return 0, fmt.Errorf("allocate %d bytes: %w", bytes, accel.ErrBounds)
	}
	if bytes > MaxAlloc {
		return 0, fmt.Errorf("allocate %d bytes, at most %d: %w", bytes, MaxAlloc, accel.ErrBounds)
	}
	d.last++
	d.memory[d.last] = make([]float32, bytes/4)
	return d.last, nil
}

// Free implements accel.Device.
func (d *Device) Free(b accel.Buffer) error {
	if _, err := d.size(b); err != nil {
		return err
	}
	delete(d.memory, b)
	return nil
}

// CopyIn implements accel.Device.
func (d *Device) CopyIn(dst accel.Buffer, offset int, src []byte) error {
	words, err := d.words(dst, offset, len(src))
	for i := range words {
		words[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
	return err
}

// CopyOut implements accel.Device.
func (d *Device) CopyOut(dst []byte, src accel.Buffer, offset int) error {
	words, err := d.words(src, offset, len(dst))
	for i, w := range words {
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(w))
	}
	return err
}

// Seed implements accel.Device.
func (d *Device) Seed(seed uint64) error {
	d.seed = seed
	return nil
}

// Launch implements accel.Device. Grid and block change nothing.
func (d *Device) Launch(l *accel.Launch) error {
	k, ok := d.catalogue[l.Kernel]
	if !ok {
		return fmt.Errorf("launch %q: %w", l.Kernel, accel.ErrKernel)
	}
	if err := k.Check(l.Args, d.size); err != nil {
		return fmt.Errorf("launch %w", err)
	}
	d.kernels[l.Kernel](args{d, l.Args})
	return nil
}

// Environment implements accel.Device.
func (d *Device) Environment() accel.Environment {
	return accel.Environment{
		Device:  "cpu",
		Driver:  "understudy.dev/accel/cpu " + version,
		Library: "understudy.dev/accel/cpu " + version,
		Kernels: accel.Identities(d.catalogue),
		Host:    runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
	}
}

func (d *Device) size(b accel.Buffer) (int, error) {
	words, ok := d.memory[b]
	if !ok {
		return 0, fmt.Errorf("buffer %d: %w", b, accel.ErrBuffer)
	}
	return 4 * len(words), nil
}

// words returns a range of a buffer.
func (d *Device) words(b accel.Buffer, offset, bytes int) ([]float32, error) {
	size, err := d.size(b)
	if err != nil {
		return nil, err
	}
	if err := accel.CheckRange(offset, bytes, size); err != nil {
		return nil, err
	}
	return d.memory[b][offset/4 : (offset+bytes)/4], nil
}

// args are the checked arguments of a kernel. Words that are numbers are kept as
// the float32 with the same bits; moving one never changes them.
type args struct {
	dev  *Device
	list []accel.Arg
}

func (a args) words(i int) []float32 { return a.dev.memory[a.list[i].Buffer()] }
func (a args) n(i int) int           { return int(uint32(a.list[i].Bits)) }
func (a args) u64(i int) uint64      { return a.list[i].Bits }
func (a args) f32(i int) float32     { return a.list[i].Float() }
