package cuda

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"slices"
	"unsafe"

	"understudy.dev/accel"
)

//go:embed kernels.ptx
var ptx []byte

// random holds the kernels that take the device's seed after their arguments.
func random(kernel string) bool {
	return slices.Contains([]string{"fill_uniform", "fill_normal", "dropout"}, kernel)
}

// A Device is one GPU's primary context. Make one with Open.
type Device struct {
	cu        *driver
	ordinal   int32
	ctx       uintptr
	module    uintptr
	functions map[string]uintptr
	catalogue map[string]*accel.Kernel
	memory    map[accel.Buffer]allocation
	last      accel.Buffer
	seed      uint64
	env       accel.Environment
}

type allocation struct {
	address uint64
	bytes   int
}

// Open opens GPU number ordinal, from 0, and compiles the kernels for it. It fails
// with ErrUnavailable where there is none.
func Open(ordinal int) (*Device, error) { return openWith("libcuda.so.1", ordinal) }

// openWith is Open with a library that the dynamic linker finds by that name.
func openWith(library string, ordinal int) (*Device, error) {
	cu, err := openDriver(library)
	if err != nil {
		return nil, err
	}
	var count int32
	if err := cu.check("count devices", cu.cuDeviceGetCount(&count)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if ordinal < 0 || ordinal >= int(count) {
		return nil, fmt.Errorf("%w: number %d of %d", ErrUnavailable, ordinal, count)
	}
	d := &Device{
		cu: cu, catalogue: accel.Catalogue(), functions: make(map[string]uintptr), memory: make(map[accel.Buffer]allocation),
	}
	if err := d.open(int32(ordinal)); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Device) open(ordinal int32) error {
	if err := d.cu.check("get device", d.cu.cuDeviceGet(&d.ordinal, ordinal)); err != nil {
		return err
	}
	if err := d.cu.check("retain context", d.cu.cuPrimaryCtxRetain(&d.ctx, d.ordinal)); err != nil {
		return err
	}
	if err := d.compile(); err != nil {
		return err
	}
	return d.identify()
}

// compile loads the PTX, which the driver compiles, and finds the kernels in it.
func (d *Device) compile() error {
	image := append(bytes.Clone(ptx), 0) // a C string
	err := d.inContext("compile kernels", func() result {
		return d.cu.cuModuleLoadDataEx(&d.module, &image[0], 0, nil, nil)
	})
	for name := range d.catalogue {
		if err != nil {
			return err
		}
		var function uintptr
		err = d.inContext("find kernel "+name, func() result {
			return d.cu.cuModuleGetFunction(&function, d.module, name)
		})
		d.functions[name] = function
	}
	return err
}

// Attributes of a device (CUdevice_attribute).
const (
	computeMajor = 75
	computeMinor = 76
)

// identify fills in the environment.
func (d *Device) identify() error {
	var version, major, minor int32
	name := make([]byte, 256)
	for what, code := range map[string]result{
		"get driver version":     d.cu.cuDriverGetVersion(&version),
		"get device name":        d.cu.cuDeviceGetName(&name[0], int32(len(name)-1), d.ordinal),
		"get compute capability": max(d.cu.cuDeviceGetAttribute(&major, computeMajor, d.ordinal), d.cu.cuDeviceGetAttribute(&minor, computeMinor, d.ordinal)),
	} {
		if err := d.cu.check(what, code); err != nil {
			return err
		}
	}
	text := sha256.Sum256(ptx)
	d.env = accel.Environment{
		Device:  fmt.Sprintf("%s sm_%d%d", cString(unsafe.Pointer(&name[0])), major, minor),
		Driver:  fmt.Sprintf("CUDA %d.%d%s", version/1000, version%1000/10, kernelModule()),
		Library: fmt.Sprintf("understudy.dev/contrib/cuda ptx %x", text[:8]),
		Kernels: accel.Identities(d.catalogue),
		Host:    runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
	}
	return nil
}

// kernelModule returns the version of NVIDIA's kernel module, whose compiler made
// the kernels' code, or nothing where Linux does not tell.
func kernelModule() string {
	text, err := os.ReadFile("/proc/driver/nvidia/version")
	if err != nil {
		return ""
	}
	_, after, found := bytes.Cut(text, []byte("Kernel Module"))
	for field := range bytes.FieldsSeq(after) {
		if found && field[0] >= '0' && field[0] <= '9' {
			return ", module " + string(field)
		}
	}
	return ""
}

// inContext makes a call with the device's context current, which in CUDA belongs
// to the operating system's thread.
func (d *Device) inContext(what string, call func() result) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := d.cu.check("enter context", d.cu.cuCtxSetCurrent(d.ctx)); err != nil {
		return err
	}
	return d.cu.check(what, call())
}

// Alloc implements accel.Device.
func (d *Device) Alloc(size int) (accel.Buffer, error) {
	if size <= 0 || size%4 != 0 {
		return 0, fmt.Errorf("allocate %d bytes: %w", size, accel.ErrBounds)
	}
	a := allocation{bytes: size}
	if err := d.inContext("allocate", func() result { return d.cu.cuMemAlloc(&a.address, uintptr(size)) }); err != nil {
		return 0, err
	}
	if err := d.inContext("zero memory", func() result { return d.cu.cuMemsetD8(a.address, 0, uintptr(size)) }); err != nil {
		return 0, errors.Join(err, d.inContext("free", func() result { return d.cu.cuMemFree(a.address) }))
	}
	d.last++
	d.memory[d.last] = a
	return d.last, nil
}

// Free implements accel.Device.
func (d *Device) Free(b accel.Buffer) error {
	a, err := d.find(b)
	if err != nil {
		return err
	}
	delete(d.memory, b)
	return d.inContext("free", func() result { return d.cu.cuMemFree(a.address) })
}

// CopyIn implements accel.Device.
func (d *Device) CopyIn(dst accel.Buffer, offset int, src []byte) error {
	address, err := d.at(dst, offset, len(src))
	if err != nil || len(src) == 0 {
		return err
	}
	return d.inContext("copy in", func() result {
		return d.cu.cuMemcpyHtoD(address, unsafe.Pointer(&src[0]), uintptr(len(src)))
	})
}

// CopyOut implements accel.Device.
func (d *Device) CopyOut(dst []byte, src accel.Buffer, offset int) error {
	address, err := d.at(src, offset, len(dst))
	if err != nil || len(dst) == 0 {
		return err
	}
	return d.inContext("copy out", func() result {
		return d.cu.cuMemcpyDtoH(unsafe.Pointer(&dst[0]), address, uintptr(len(dst)))
	})
}

// Seed implements accel.Device.
func (d *Device) Seed(seed uint64) error {
	d.seed = seed
	return nil
}

// Launch implements accel.Device. The kernels know one dimension: a grid or block
// of more is run as one of as many blocks or threads.
func (d *Device) Launch(l *accel.Launch) error {
	k, ok := d.catalogue[l.Kernel]
	if !ok {
		return fmt.Errorf("launch %q: %w", l.Kernel, accel.ErrKernel)
	}
	size := func(b accel.Buffer) (int, error) { a, err := d.find(b); return a.bytes, err }
	if err := k.Check(l.Args, size); err != nil {
		return fmt.Errorf("launch %w", err)
	}
	grid, ok1 := flat(l.Grid, defaultGrid)
	block, ok2 := flat(l.Block, defaultBlock)
	if !ok1 || !ok2 || grid > maxGrid || block > maxBlock {
		return fmt.Errorf("launch %s on grid %v of blocks %v: %w", l.Kernel, l.Grid, l.Block, accel.ErrBounds)
	}
	return d.run(l, grid, block)
}

// By default a GPU of up to 132 processors has a few blocks for each. The limits
// are those of every GPU since compute capability 3.0.
const (
	defaultGrid  = 528
	defaultBlock = 256
	maxGrid      = 1<<31 - 1
	maxBlock     = 1024
)

// flat multiplies the dimensions; all zero means a default.
func flat(dim [3]uint32, otherwise uint32) (uint32, bool) {
	if dim == [3]uint32{} {
		return otherwise, true
	}
	hi, xy := bits.Mul32(dim[0], dim[1])
	hi2, xyz := bits.Mul32(xy, dim[2])
	return xyz, hi == 0 && hi2 == 0 && xyz > 0
}

// run passes each argument's address, as cuLaunchKernel wants it: all of them lie
// in values, little endian, so that a 32-bit argument is at the front of its eight
// bytes. Both arrays are pinned while C looks at them.
func (d *Device) run(l *accel.Launch, grid, block uint32) error {
	values := make([]uint64, 0, len(l.Args)+1)
	for _, a := range l.Args {
		if a.Mode.IsBuffer() {
			values = append(values, d.memory[a.Buffer()].address)
		} else {
			values = append(values, a.Bits)
		}
	}
	if random(l.Kernel) {
		values = append(values, d.seed)
	}
	params := make([]unsafe.Pointer, len(values))
	var pins runtime.Pinner
	defer pins.Unpin()
	pins.Pin(&values[0])
	pins.Pin(&params[0])
	for i := range values {
		params[i] = unsafe.Pointer(&values[i])
	}
	err := d.inContext("launch "+l.Kernel, func() result {
		return d.cu.cuLaunchKernel(d.functions[l.Kernel], grid, 1, 1, block, 1, 1, 0, 0, unsafe.Pointer(&params[0]), nil)
	})
	if err != nil {
		return err
	}
	return d.inContext("run "+l.Kernel, func() result { return d.cu.cuCtxSynchronize() })
}

// Environment implements accel.Device.
func (d *Device) Environment() accel.Environment { return d.env }

// Close frees everything and leaves the context. The device is not used after it.
func (d *Device) Close() error {
	if d.ctx == 0 {
		return nil
	}
	var faults []error
	for b := range d.memory {
		faults = append(faults, d.Free(b))
	}
	if d.module != 0 {
		faults = append(faults, d.inContext("unload kernels", func() result { return d.cu.cuModuleUnload(d.module) }))
	}
	faults = append(faults, d.cu.check("release context", d.cu.cuPrimaryCtxRelease(d.ordinal)))
	d.ctx = 0
	return errors.Join(faults...)
}

func (d *Device) find(b accel.Buffer) (allocation, error) {
	if a, ok := d.memory[b]; ok {
		return a, nil
	}
	return allocation{}, fmt.Errorf("buffer %d: %w", b, accel.ErrBuffer)
}

// at returns the address of a range of a buffer.
func (d *Device) at(b accel.Buffer, offset, bytes int) (uint64, error) {
	a, err := d.find(b)
	if err != nil {
		return 0, err
	}
	if err := accel.CheckRange(offset, bytes, a.bytes); err != nil {
		return 0, err
	}
	return a.address + uint64(offset), nil
}
