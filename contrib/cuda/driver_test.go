package cuda

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"understudy.dev/accel"
	"understudy.dev/accel/cpu"
)

// What only the stand-in makes testable: what the driver refuses, and what is left
// behind then.

func TestEnvironment(t *testing.T) {
	s := newStandIn(t)
	for ordinal, want := range []string{"Stand-in A sm_90", "Stand-in B sm_86"} {
		dev, err := openWith(s.path, ordinal)
		must(t, err)
		env := dev.Environment()
		if env.Device != want {
			t.Errorf("device %d is %q, want %q", ordinal, env.Device, want)
		}
		if want := "CUDA 12.8" + kernelModule(); env.Driver != want {
			t.Errorf("driver is %q, want %q", env.Driver, want)
		}
		if want := "understudy.dev/contrib/cuda ptx "; !strings.HasPrefix(env.Library, want) || len(env.Library) != len(want)+16 {
			t.Errorf("library is %q, want %q and a digest", env.Library, want)
		}
		if err := env.Check(cpu.New().Environment(), map[string]string{"device": "x", "driver": "x", "library": "x"}); err != nil {
			t.Errorf("kernels: %v", err)
		}
		must(t, dev.Close())
	}
	s.balanced(t)
}

func TestUnavailable(t *testing.T) {
	s := newStandIn(t)
	lacking := filepath.Join(t.TempDir(), "libcuda.so.1")
	must(t, compile(lacking, "-DcuMemAlloc_v2=cuMemAlloc")) // as drivers before 3.2 had it
	for _, tt := range []struct {
		name    string
		library string
		ordinal int
		before  func()
		want    string
	}{
		{name: "no such ordinal", library: s.path, ordinal: 2, want: "number 2 of 2"},
		{name: "a negative ordinal", library: s.path, ordinal: -1, want: "number -1 of 2"},
		{name: "no GPU", library: s.path, before: func() { s.fail("cuInit", noDevice, 0) }, want: "initialize: CUDA_ERROR_NO_DEVICE (100)"},
		{
			name: "devices that cannot be counted", library: s.path,
			before: func() { s.fail("cuDeviceGetCount", noDevice, 0) }, want: "count devices: CUDA_ERROR_NO_DEVICE (100)",
		},
		{name: "a library that lacks a symbol", library: lacking, want: "cuMemAlloc_v2"},
		{name: "no library", library: filepath.Join(t.TempDir(), "libcuda.so.1"), want: "cannot open shared object file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.before != nil {
				tt.before()
			}
			dev, err := openWith(tt.library, tt.ordinal)
			if dev != nil || !errors.Is(err, ErrUnavailable) || !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("Open = %v, want %v: %s", err, ErrUnavailable, tt.want)
			}
			s.balanced(t)
		})
	}
}

// An Open that fails half-way says where, by the driver's name for it, and gives
// back what it had.
func TestOpenGivesBack(t *testing.T) {
	s := newStandIn(t)
	for function, what := range map[string]string{
		"cuDeviceGet":              "get device",
		"cuDevicePrimaryCtxRetain": "retain context",
		"cuCtxSetCurrent":          "enter context",
		"cuModuleLoadDataEx":       "compile kernels",
		"cuModuleGetFunction":      "find kernel ",
		"cuDriverGetVersion":       "get driver version",
		"cuDeviceGetName":          "get device name",
		"cuDeviceGetAttribute":     "get compute capability",
	} {
		s.fail(function, 801, 0)
		_, err := openWith(s.path, 0)
		if !errors.Is(err, accel.ErrDevice) || errors.Is(err, ErrUnavailable) {
			t.Errorf("%s fails: Open = %v, want %v", function, err, accel.ErrDevice)
		}
		if text := fmt.Sprint(err); !strings.Contains(text, what) || !strings.Contains(text, "CUDA_ERROR_NOT_SUPPORTED (801)") {
			t.Errorf("%s fails: Open = %q, want %q and the error's name", function, text, what)
		}
		s.balanced(t)
	}
	s.fail("cuDeviceGet", 12345, 0) // of a newer driver, which does not name it either
	if _, err := openWith(s.path, 0); err == nil || !strings.Contains(err.Error(), "error 12345") {
		t.Errorf("Open = %v, want the error's number", err)
	}
}

func TestWrongPTXIsRefused(t *testing.T) {
	s := newStandIn(t)
	right := ptx
	t.Cleanup(func() { ptx = right })
	replaced := func(old, new string) []byte { return bytes.Replace(right, []byte(old), []byte(new), 1) }
	for _, tt := range []struct {
		name, want string
		ptx        []byte
	}{
		{"no PTX", "compile kernels: CUDA_ERROR_INVALID_PTX (218)", []byte("#version 330 core")},
		{"cut short", "compile kernels: CUDA_ERROR_INVALID_PTX (218)", bytes.TrimRight(right, "}\n")},
		{"of a newer driver", "compile kernels: CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222)", replaced(".version 6.4", ".version 99.0")},
		{"a kernel less", "find kernel relu: CUDA_ERROR_NOT_FOUND (500)", replaced(".entry relu ", ".entry rectify ")},
	} {
		ptx = tt.ptx
		if _, err := openWith(s.path, 0); err == nil || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, accel.ErrDevice) {
			t.Errorf("%s: Open = %v, want %s", tt.name, err, tt.want)
		}
		s.balanced(t)
	}
}

// Out of memory is a refusal: nothing is lost, and the device goes on.
func TestOutOfMemory(t *testing.T) {
	dev, s := openStandIn(t)
	s.limit(1024)
	b := alloc(t, dev, content(1, 256, true))
	if _, err := dev.Alloc(4); err == nil || errors.Is(err, accel.ErrDevice) || !strings.Contains(err.Error(), "allocate: out of memory") {
		t.Errorf("Alloc = %v, want a refusal for lack of memory", err)
	}
	must(t, dev.Free(b))
	b, err := dev.Alloc(1024)
	must(t, err)
	must(t, dev.Launch(&accel.Launch{Kernel: "fill_uniform", Args: []accel.Arg{
		accel.Out(b), accel.U32(256), accel.U64(1), accel.F32(0), accel.F32(1),
	}}))
}

// Memory that cannot be zeroed is not kept.
func TestAllocGivesBackWhatItCannotZero(t *testing.T) {
	dev, s := openStandIn(t)
	s.fail("cuMemsetD8_v2", outOfMemory, 0)
	if _, err := dev.Alloc(64); err == nil || errors.Is(err, accel.ErrDevice) {
		t.Errorf("Alloc = %v, want a refusal that leaves the device usable", err)
	}
	if n := s.allocations(); n != 0 {
		t.Errorf("%d allocations are left", n)
	}
	alloc(t, dev, make([]byte, 64))
}

// A kernel that fails breaks the device for the whole process: the driver's
// documentation has it so. Everything after it fails too, with the error's name, and
// Close and the next Open still leave the context.
func TestStickyError(t *testing.T) {
	s := newStandIn(t)
	dev, err := openWith(s.path, 0)
	must(t, err)
	x, y := alloc(t, dev, make([]byte, 64)), alloc(t, dev, make([]byte, 64))
	relu := &accel.Launch{Kernel: "relu", Args: []accel.Arg{accel.Out(y), accel.In(x), accel.U32(16)}}
	must(t, dev.Launch(relu))

	// Freed behind the device's back, x is no address any more when the kernel runs.
	must(t, dev.inContext("free", func() result { return dev.cu.cuMemFree(dev.memory[x].address) }))
	if err := dev.Launch(relu); !errors.Is(err, accel.ErrDevice) || !strings.Contains(err.Error(), "run relu: CUDA_ERROR_ILLEGAL_ADDRESS (700)") {
		t.Errorf("Launch = %v, want %v for an illegal address, when the kernel has run", err, accel.ErrDevice)
	}
	_, allocErr := dev.Alloc(4)
	for name, err := range map[string]error{
		"Alloc": allocErr, "CopyIn": dev.CopyIn(y, 0, make([]byte, 4)), "CopyOut": dev.CopyOut(make([]byte, 4), y, 0),
		"Launch": dev.Launch(relu), "Free": dev.Free(y), "Close": dev.Close(),
	} {
		if !errors.Is(err, accel.ErrDevice) || !strings.Contains(err.Error(), "CUDA_ERROR_ILLEGAL_ADDRESS (700)") {
			t.Errorf("%s after it = %v, want %v for an illegal address", name, err, accel.ErrDevice)
		}
	}
	if n := s.retained(); n != 0 {
		t.Errorf("Close left %d contexts retained", n)
	}
	must(t, dev.Close())

	_, err = openWith(s.path, 0)
	if !errors.Is(err, accel.ErrDevice) || !strings.Contains(fmt.Sprint(err), "compile kernels: CUDA_ERROR_ILLEGAL_ADDRESS (700)") {
		t.Errorf("Open after it = %v, want %v for an illegal address", err, accel.ErrDevice)
	}
	if n := s.retained(); n != 0 {
		t.Errorf("Open left %d contexts retained", n)
	}
}

// A call that fails for good, rather than a kernel, is no different.
func TestStickyCall(t *testing.T) {
	s := newStandIn(t)
	dev, err := openWith(s.path, 0)
	must(t, err)
	b := alloc(t, dev, make([]byte, 4))
	s.fail("cuMemcpyDtoH_v2", launchFailed, 1)
	for range 2 {
		if err := dev.CopyOut(make([]byte, 4), b, 0); !errors.Is(err, accel.ErrDevice) {
			t.Errorf("CopyOut = %v, want %v", err, accel.ErrDevice)
		}
	}
	if err := dev.Close(); !errors.Is(err, accel.ErrDevice) || s.retained() != 0 {
		t.Errorf("Close = %v and %d contexts retained, want %v and none", err, s.retained(), accel.ErrDevice)
	}
}

// Each call's failure is the device's, and names the call.
func TestFailingCalls(t *testing.T) {
	dev, s := openStandIn(t)
	b := alloc(t, dev, make([]byte, 64))
	fill := &accel.Launch{Kernel: "fill_uniform", Args: []accel.Arg{accel.Out(b), accel.U32(16), accel.U64(0), accel.F32(0), accel.F32(1)}}
	data := make([]byte, 4)
	for _, tt := range []struct {
		function, what string
		do             func() error
	}{
		{"cuMemAlloc_v2", "allocate", func() error { _, err := dev.Alloc(4); return err }},
		{"cuMemsetD8_v2", "zero memory", func() error { _, err := dev.Alloc(4); return err }},
		{"cuMemcpyHtoD_v2", "copy in", func() error { return dev.CopyIn(b, 0, data) }},
		{"cuMemcpyDtoH_v2", "copy out", func() error { return dev.CopyOut(data, b, 0) }},
		{"cuLaunchKernel", "launch fill_uniform", func() error { return dev.Launch(fill) }},
		{"cuCtxSynchronize", "run fill_uniform", func() error { return dev.Launch(fill) }},
		{"cuCtxSetCurrent", "enter context", func() error { return dev.CopyIn(b, 0, data) }},
	} {
		s.fail(tt.function, launchFailed, 0)
		want := tt.what + ": CUDA_ERROR_LAUNCH_FAILED (719)"
		if err := tt.do(); !errors.Is(err, accel.ErrDevice) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s fails: %v, want %v: %s", tt.function, err, accel.ErrDevice, want)
		}
	}
}

// Close gives back all that was not freed and leaves the context once.
func TestClose(t *testing.T) {
	s := newStandIn(t)
	dev, err := openWith(s.path, 0)
	must(t, err)
	other, err := openWith(s.path, 0) // the same context, retained twice
	must(t, err)
	for range 3 {
		alloc(t, dev, make([]byte, 64))
	}
	kept := alloc(t, other, []byte("kept"))
	must(t, dev.Close())
	must(t, dev.Close())
	if c, m, a := s.retained(), s.modules(), s.allocations(); c != 1 || m != 1 || a != 1 {
		t.Errorf("after one of two was closed: %d contexts, %d modules, %d allocations, want 1 of each", c, m, a)
	}
	got := make([]byte, 4)
	must(t, other.CopyOut(got, kept, 0))
	if string(got) != "kept" {
		t.Errorf("the other device holds %q", got)
	}
	must(t, other.Close())
	s.balanced(t)
}

// A context is current to a thread of the operating system; a device may be used
// from any, one call after another.
func TestAnyThread(t *testing.T) {
	onDevices(t, func(t *testing.T, dev *Device) {
		var x, y accel.Buffer
		got := make([]byte, 8)
		var errs [6]error
		onThreads(
			func() { x, errs[0] = dev.Alloc(8) },
			func() { y, errs[1] = dev.Alloc(8) },
			func() { errs[2] = dev.CopyIn(x, 0, []byte{0, 0, 0x80, 0x3f, 0, 0, 0x80, 0xbf}) },
			func() {
				errs[3] = dev.Launch(&accel.Launch{Kernel: "relu", Args: []accel.Arg{accel.Out(y), accel.In(x), accel.U32(2)}})
			},
			func() { errs[4] = dev.CopyOut(got, y, 0) },
			func() { errs[5] = dev.Free(x) },
		)
		must(t, errors.Join(errs[:]...))
		if want := []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0}; !bytes.Equal(got, want) {
			t.Errorf("relu gave %x, want %x", got, want)
		}
	})
}

// Between the choice of a context and the call that needs it, the goroutine stays on
// its thread, however much the scheduler would like to move it.
func TestCallStaysOnThread(t *testing.T) {
	dev, s := openStandIn(t)
	done := make(chan struct{})
	var others sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		others.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					runtime.Gosched()
				}
			}
		})
	}
	err := dev.inContext("wait", func() result {
		began := s.thread()
		for range 20000 {
			runtime.Gosched()
			if s.thread() != began {
				t.Error("the goroutine was moved to another thread")
				break
			}
		}
		return dev.cu.cuCtxSynchronize()
	})
	close(done)
	others.Wait()
	must(t, err)
}

// Two devices, used in turns by one thread, keep to themselves.
func TestTwoDevices(t *testing.T) {
	s := newStandIn(t)
	var devices [2]*Device
	var buffers [2]accel.Buffer
	for i := range devices {
		var err error
		devices[i], err = openWith(s.path, i)
		must(t, err)
		buffers[i] = alloc(t, devices[i], bytes.Repeat([]byte{byte('a' + i)}, 8))
	}
	for i, dev := range devices {
		got := make([]byte, 8)
		must(t, dev.CopyOut(got, buffers[i], 0))
		if want := bytes.Repeat([]byte{byte('a' + i)}, 8); !bytes.Equal(got, want) {
			t.Errorf("device %d holds %q, want %q", i, got, want)
		}
	}
	for _, dev := range devices {
		must(t, dev.Close())
	}
	s.balanced(t)
}

// The kernels give the same for every grid, so that only the driver can tell which
// one it was.
func TestLaunchShape(t *testing.T) {
	dev, s := openStandIn(t)
	b := alloc(t, dev, make([]byte, 64))
	for _, tt := range []struct{ grid, block, want [3]uint32 }{
		{want: [3]uint32{defaultGrid, defaultBlock}},
		{grid: [3]uint32{2, 3, 4}, block: [3]uint32{5, 2, 1}, want: [3]uint32{24, 10}},
		{block: [3]uint32{1, 1, maxBlock}, want: [3]uint32{defaultGrid, maxBlock}},
		{grid: [3]uint32{1<<31 - 1, 1, 1}, want: [3]uint32{maxGrid, defaultBlock}},
	} {
		must(t, dev.Launch(&accel.Launch{Kernel: "fill_uniform", Grid: tt.grid, Block: tt.block, Args: []accel.Arg{
			accel.Out(b), accel.U32(16), accel.U64(1), accel.F32(0), accel.F32(1),
		}}))
		var got [6]uint32
		s.shape(&got[0])
		if want := [6]uint32{tt.want[0], 1, 1, tt.want[1], 1, 1}; got != want {
			t.Errorf("grid %v of blocks %v is launched as %v, want %v", tt.grid, tt.block, got, want)
		}
	}
}

// All 64 bits of the seed and of the stream arrive.
func TestSeedAndStreamMatter(t *testing.T) {
	onEach(t, func(t *testing.T, dev accel.Device) {
		seen := make(map[string]string)
		for _, c := range []struct{ seed, stream uint64 }{{0, 0}, {1, 0}, {1 << 32, 0}, {0, 1}, {0, 1 << 32}} {
			b, err := dev.Alloc(16)
			must(t, err)
			must(t, dev.Seed(c.seed))
			must(t, dev.Launch(&accel.Launch{Kernel: "fill_uniform", Args: []accel.Arg{
				accel.Out(b), accel.U32(4), accel.U64(c.stream), accel.F32(0), accel.F32(1),
			}}))
			got := make([]byte, 16)
			must(t, dev.CopyOut(got, b, 0))
			if was, ok := seen[string(got)]; ok {
				t.Errorf("seed %#x and stream %#x give what %s gave", c.seed, c.stream, was)
			}
			seen[string(got)] = fmt.Sprintf("seed %#x and stream %#x", c.seed, c.stream)
		}
	})
}
