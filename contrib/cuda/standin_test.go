package cuda

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"
)

// A standIn is a libcuda.so.1 compiled from testdata/libcuda.c: it lies below the
// code under test, which opens it, finds its symbols and calls it as it would
// NVIDIA's. Its kernels are run by the interpreter. Each has a state of its own.
type standIn struct {
	path string

	onLaunch    func(run uintptr)
	limit       func(bytes uint64)
	fail        func(function string, code, sticky int32)
	shape       func(gridAndBlock *uint32) // of the last launch
	thread      func() uintptr             // of the operating system, that calls it
	allocations func() int
	modules     func() int
	retained    func() int
	leaked      func() int
}

// Results that tests ask for (CUresult).
const (
	noDevice     = 100
	launchFailed = 719
)

// newStandIn makes a driver of the test's own, or skips where it cannot be compiled.
func newStandIn(t testing.TB) *standIn {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the stand-in for libcuda is a shared object of Linux")
	}
	library, err := compiled()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skipf("no stand-in for libcuda without a C compiler: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "libcuda.so.1")
	if err := os.WriteFile(path, library, 0o700); err != nil {
		t.Fatal(err)
	}
	return load(t, path)
}

// compiled returns the shared object. Copies of the file are libraries of their own
// to the dynamic linker.
var compiled = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "libcuda")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "libcuda.so.1")
	if err := compile(path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// compile compiles the stand-in to path. Its own calls stay inside it, whatever
// else is loaded.
func compile(path string, flags ...string) error {
	flags = append(flags, "-O1", "-shared", "-fPIC", "-Wl,-Bsymbolic", "-o", path, filepath.Join("testdata", "libcuda.c"))
	if out, err := exec.Command("cc", flags...).CombinedOutput(); err != nil {
		return fmt.Errorf("compile stand-in: %w\n%s", err, out)
	}
	return nil
}

// load opens the stand-in beside the code under test and has it run kernels.
func load(t testing.TB, library string) *standIn {
	t.Helper()
	handle, err := purego.Dlopen(library, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		t.Fatal(err)
	}
	s := &standIn{path: library}
	for name, function := range map[string]any{
		"standin_on_launch": &s.onLaunch, "standin_limit": &s.limit, "standin_fail": &s.fail, "standin_shape": &s.shape, "standin_thread": &s.thread,
		"standin_allocations": &s.allocations, "standin_modules": &s.modules,
		"standin_retained": &s.retained, "standin_leaked": &s.leaked,
	} {
		purego.RegisterLibFunc(function, handle, name)
	}
	s.onLaunch(callback())
	return s
}

// openStandIn returns the device under test on a stand-in, which at the end of the
// test has everything back.
func openStandIn(t *testing.T) (*Device, *standIn) {
	t.Helper()
	s := newStandIn(t)
	dev, err := openWith(s.path, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
		s.balanced(t)
	})
	return dev, s
}

func (s *standIn) balanced(t *testing.T) {
	t.Helper()
	got := [4]int{s.retained(), s.modules(), s.allocations(), s.leaked()}
	if got != [4]int{} {
		t.Errorf("the driver still has %d contexts, %d modules, %d allocations, and %d were leaked", got[0], got[1], got[2], got[3])
	}
}

// A kernelLaunch is struct launch of testdata/libcuda.c, a span struct range.
type kernelLaunch struct {
	ptx, kernel unsafe.Pointer
	params      unsafe.Pointer
	paramBytes  uint64
	memory      *span
	spans       uint64
	grid, block [3]uint32
}

type span struct {
	address, bytes uint64
	host           *byte
	_              uintptr
}

// callback is C's way to launched. There is one, as callbacks are never released.
var callback = sync.OnceValue(func() uintptr { return purego.NewCallback(launched) })

var programs = make(map[string]program) // by text; only the thread that launches uses it

// launched runs a kernel for a stand-in, and returns a CUresult. A panic must not
// leave it: there is C above.
func launched(l *kernelLaunch) (result uintptr) {
	defer func() {
		switch fault := recover().(type) {
		case nil:
		case illegal:
			result = 700 // CUDA_ERROR_ILLEGAL_ADDRESS
		default:
			fmt.Fprintf(os.Stderr, "stand-in: %s: %v\n", cString(l.kernel), fault)
			result = launchFailed
		}
	}()
	text := cString(l.ptx)
	if programs[text] == nil {
		programs[text] = parsePTX(text)
	}
	if l.grid[1]*l.grid[2]*l.block[1]*l.block[2] != 1 {
		panic(fmt.Sprintf("grid %v of blocks %v: the interpreter has one dimension", l.grid, l.block))
	}
	kernel := cString(l.kernel)
	programs[text].run(kernel, l.grid[0], l.block[0], l.values(programs[text][kernel]), l.at)
	return 0
}

// values reads the parameters from where the kernel's declarations put them.
func (l *kernelLaunch) values(f *function) map[string]uint64 {
	space := unsafe.Slice((*byte)(l.params), l.paramBytes)
	values := make(map[string]uint64)
	at := 0
	for i, name := range f.ins {
		switch f.types[i] {
		case ".u64":
			at = (at + 7) &^ 7
			values[name] = binary.LittleEndian.Uint64(space[at:])
			at += 8
		case ".u32", ".f32":
			values[name] = uint64(binary.LittleEndian.Uint32(space[at:]))
			at += 4
		default:
			panic("parameter of type " + f.types[i])
		}
	}
	if at != len(space) {
		panic(fmt.Sprintf("%d bytes of parameters, %d are declared", len(space), at))
	}
	return values
}

// at is the stand-in's memory, as the kernel sees it.
func (l *kernelLaunch) at(address uint64) []byte {
	for _, s := range unsafe.Slice(l.memory, l.spans) {
		if offset := address - s.address; offset < s.bytes {
			return unsafe.Slice(s.host, s.bytes)[offset:]
		}
	}
	return nil
}

// onThreads calls each function on a thread of the operating system that no other
// has used and that ends with it, one after another.
func onThreads(calls ...func()) {
	for _, call := range calls {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			call()
		}()
		<-done
	}
}
