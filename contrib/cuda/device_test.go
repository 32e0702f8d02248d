package cuda

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"understudy.dev/accel"
	"understudy.dev/accel/cpu"
	"understudy.dev/harness"
	"understudy.dev/journal"
)

// onEach runs a test on the interpreter of the PTX and on each Device.
func onEach(t *testing.T, test func(t *testing.T, dev accel.Device)) {
	t.Run("interpreted", func(t *testing.T) { test(t, newInterpreter()) })
	onDevices(t, func(t *testing.T, dev *Device) { test(t, dev) })
}

// onDevices runs a test on a stand-in for the driver and, where there is one, on a
// GPU: on what is also about refusals, which the interpreter does not give.
func onDevices(t *testing.T, test func(t *testing.T, dev *Device)) {
	t.Run("stand-in", func(t *testing.T) {
		dev, _ := openStandIn(t)
		test(t, dev)
	})
	t.Run("cuda", func(t *testing.T) { test(t, openGPU(t)) })
}

// openGPU returns a GPU or skips with the reason.
func openGPU(t testing.TB) *Device {
	t.Helper()
	dev, err := Open(0)
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Logf("on %s, %s", dev.Environment().Device, dev.Environment().Driver)
	return dev
}

// Every kernel gives the bits of the CPU, whatever the size and the grid.
func TestSameBitsAsCPU(t *testing.T) {
	onEach(t, func(t *testing.T, dev accel.Device) {
		all := accel.Catalogue()
		for _, name := range slices.Sorted(maps.Keys(all)) {
			for _, c := range []struct {
				size        uint32
				grid, block [3]uint32
			}{
				{size: 1},
				{size: 7, grid: [3]uint32{2, 1, 1}, block: [3]uint32{3, 1, 1}},
				{size: 33, grid: [3]uint32{1, 2, 2}, block: [3]uint32{5, 1, 2}},
			} {
				t.Run(fmt.Sprintf("%s/%d", name, c.size), func(t *testing.T) {
					want := run(t, cpu.New(), all[name], c.size, [3]uint32{}, [3]uint32{})
					got := run(t, dev, all[name], c.size, c.grid, c.block)
					for i := range want {
						sameWords(t, i, want[i], got[i])
					}
				})
			}
		}
	})
}

// run launches k with every dimension size and returns what its buffers hold then.
func run(t *testing.T, dev accel.Device, k *accel.Kernel, size uint32, grid, block [3]uint32) [][]byte {
	t.Helper()
	l := &accel.Launch{Kernel: k.Name, Grid: grid, Block: block}
	words := int(size*size) + 3
	var buffers []accel.Buffer
	for i, p := range k.Params {
		switch {
		case p.Mode.IsBuffer():
			b := alloc(t, dev, content(i, words, p.Float))
			buffers = append(buffers, b)
			l.Args = append(l.Args, accel.Arg{Mode: p.Mode, Bits: uint64(b)})
		case p.Mode == accel.ModeF32:
			l.Args = append(l.Args, accel.F32(0.3+float32(i)))
		case p.Name == "ta" || p.Name == "tb":
			l.Args = append(l.Args, accel.U32(size%2))
		case p.Name == "n" && k.Name != "sgemm":
			l.Args = append(l.Args, accel.U32(uint32(words)))
		case p.Name == "stream":
			l.Args = append(l.Args, accel.U64(0x123456789abcdef0))
		default:
			l.Args = append(l.Args, accel.U32(size))
		}
	}
	must(t, dev.Seed(0xfedcba9876543210))
	must(t, dev.Launch(l))
	var out [][]byte
	for _, b := range buffers {
		data := make([]byte, 4*words)
		must(t, dev.CopyOut(data, b, 0))
		must(t, dev.Free(b))
		out = append(out, data)
	}
	return out
}

// content is made of numbers of both signs and many magnitudes, or of small ones.
func content(salt, words int, isFloat bool) []byte {
	var data []byte
	x := uint32(salt + 1)
	for range words {
		x = x*1664525 + 1013904223
		v := x >> 27
		if isFloat {
			v = math.Float32bits((float32(x>>8)/(1<<23) - 1) * float32(int(1)<<(x>>4&7)))
		}
		data = binary.LittleEndian.AppendUint32(data, v)
	}
	return data
}

func alloc(t *testing.T, dev accel.Device, data []byte) accel.Buffer {
	t.Helper()
	b, err := dev.Alloc(len(data))
	must(t, err)
	must(t, dev.CopyIn(b, 0, data))
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sameWords(t *testing.T, buffer int, want, got []byte) {
	t.Helper()
	for i := 0; i < len(want); i += 4 {
		if w, g := binary.LittleEndian.Uint32(want[i:]), binary.LittleEndian.Uint32(got[i:]); w != g {
			t.Errorf("buffer %d, word %d: got %08x (%v), the CPU gives %08x (%v)", buffer, i/4, g, math.Float32frombits(g), w, math.Float32frombits(w))
			return
		}
	}
}

// The edges of exp and ln reach every branch of the polynomials.
func TestEdgesAsCPU(t *testing.T) {
	inf := math.Float32bits(float32(math.Inf(1)))
	edges := []uint32{
		0, 1 << 31, inf, inf | 1<<31, 1, 0x007fffff, 0x00800000, 0x42b00000, 0x42b00001, 0xc2ae0000, 0xc2ae0001,
		0x3f800000, 0xbf800000, 0x3eb17218, 0x3f317218, 0x7f7fffff, 0xff7fffff, 0x0d800000, 0x0d7fffff,
	}
	var data []byte
	for _, e := range edges {
		for _, other := range []uint32{0, e} { // a row of two for softmax; the largest may be either
			data = binary.LittleEndian.AppendUint32(data, other)
		}
	}
	labels := make([]byte, 4*len(edges))
	for i := range edges {
		labels[4*i] = 1
	}
	onEach(t, func(t *testing.T, dev accel.Device) {
		rows := accel.U32(uint32(len(edges)))
		for _, name := range []string{"softmax", "cross_entropy"} {
			var got [2][]byte
			for i, d := range []accel.Device{cpu.New(), dev} {
				out, x := alloc(t, d, make([]byte, len(data))), alloc(t, d, data)
				args := []accel.Arg{accel.Out(out), accel.In(x)}
				if name == "cross_entropy" {
					args = append(args, accel.In(alloc(t, d, labels)))
				}
				must(t, d.Launch(&accel.Launch{Kernel: name, Args: append(args, rows, accel.U32(2))}))
				got[i] = make([]byte, len(data))
				must(t, d.CopyOut(got[i], out, 0))
			}
			for i := 0; i < len(data); i += 4 {
				w, g := binary.LittleEndian.Uint32(got[0][i:]), binary.LittleEndian.Uint32(got[1][i:])
				if w != g && !(isNaN(w) && isNaN(g)) {
					t.Errorf("%s of %x: word %d is %08x, the CPU gives %08x", name, data[i:i+4], i/4, g, w)
				}
			}
		}
	})
}

func isNaN(bits uint32) bool { return bits&0x7fffffff > 0x7f800000 }

// tape is a harness that keeps entries.
type tape []harness.Entry

func (h *tape) DeviceCmd(name string, payload []byte) error {
	return h.add(journal.KindDevice, name, payload)
}

func (h *tape) KernelCmd(kind string, payload []byte) error {
	return h.add(journal.KindKernel, kind, payload)
}

func (h *tape) add(kind journal.Kind, name string, payload []byte) error {
	*h = append(*h, harness.Entry{Number: uint64(len(*h) + 1), Kind: kind, Name: name, Data: bytes.Clone(payload)})
	return nil
}

// step is one step of training a layer, on whatever device.
func step(t *testing.T, dev accel.Device) {
	t.Helper()
	const rows, in, out = 12, 9, 5
	buffer := func(words int) accel.Buffer { return alloc(t, dev, make([]byte, 4*words)) }
	launch := func(kernel string, args ...accel.Arg) {
		t.Helper()
		must(t, dev.Launch(&accel.Launch{Kernel: kernel, Args: args}))
	}
	w, b, x, y := buffer(in*out), buffer(out), buffer(rows*in), buffer(rows*out)
	p, dy, dw, loss, sum := buffer(rows*out), buffer(rows*out), buffer(in*out), buffer(rows), buffer(1)
	label := alloc(t, dev, content(3, rows, false))
	must(t, dev.Seed(99))
	launch("fill_normal", accel.Out(w), accel.U32(in*out), accel.U64(1), accel.F32(0), accel.F32(0.5))
	launch("fill_uniform", accel.Out(x), accel.U32(rows*in), accel.U64(2), accel.F32(-1), accel.F32(1))
	for range 3 {
		launch("sgemm", accel.Out(y), accel.In(x), accel.In(w), accel.U32(rows), accel.U32(out), accel.U32(in), accel.U32(0), accel.U32(0))
		launch("bias_add", accel.InOut(y), accel.In(b), accel.U32(rows), accel.U32(out))
		launch("softmax", accel.Out(p), accel.In(y), accel.U32(rows), accel.U32(out))
		launch("cross_entropy", accel.Out(loss), accel.In(p), accel.In(label), accel.U32(rows), accel.U32(out))
		launch("reduce_sum", accel.Out(sum), accel.In(loss), accel.U32(rows))
		launch("cross_entropy_grad", accel.Out(dy), accel.In(p), accel.In(label), accel.U32(rows), accel.U32(out), accel.F32(1.0/rows))
		launch("sgemm", accel.Out(dw), accel.In(x), accel.In(dy), accel.U32(in), accel.U32(out), accel.U32(rows), accel.U32(1), accel.U32(0))
		launch("sgd", accel.InOut(w), accel.In(dw), accel.U32(in*out), accel.F32(0.1))
		must(t, dev.CopyOut(make([]byte, 4), sum, 0))
	}
}

// A run recorded on one device replays bit for bit on another that defines its
// kernels alike, once the other environment was accepted.
func TestRecordedRunReplays(t *testing.T) {
	onEach(t, func(t *testing.T, dev accel.Device) {
		accept := map[string]string{}
		for _, field := range []string{"device", "driver", "library"} {
			accept[field] = "kernels of the same identity"
		}
		for name, devices := range map[string][2]accel.Device{
			"CPU to GPU": {cpu.New(), dev}, "GPU to CPU": {dev, cpu.New()}, "GPU to GPU": {dev, dev},
		} {
			var h tape
			rec, err := accel.NewRecorder(devices[0], &h, accel.Config{})
			must(t, err)
			step(t, rec)
			must(t, replay(t.Context(), h, devices[1], accel.ReplayConfig{Accept: accept}))
			if devices[0] == devices[1] {
				continue
			}
			var pin *accel.PinError
			if err := replay(t.Context(), h, devices[1], accel.ReplayConfig{}); !errors.As(err, &pin) || pin.Field != "device" {
				t.Errorf("%s: replay = %v, want a refusal for the device", name, err)
			}
		}
	})
}

func replay(ctx context.Context, h tape, dev accel.Device, cfg accel.ReplayConfig) error {
	r, err := accel.NewReplayer(dev, cfg)
	for i := 0; err == nil && i < len(h); i++ {
		err = r.Apply(ctx, &h[i])
	}
	return errors.Join(err, r.Close())
}

func TestDeviceRefuses(t *testing.T) {
	onDevices(t, func(t *testing.T, dev *Device) {
		b, c := alloc(t, dev, make([]byte, 8)), alloc(t, dev, make([]byte, 8))
		relu := func(words uint32, grid, block [3]uint32) error {
			return dev.Launch(&accel.Launch{Kernel: "relu", Grid: grid, Block: block, Args: []accel.Arg{accel.Out(b), accel.In(c), accel.U32(words)}})
		}
		_, nothing := dev.Alloc(0)
		for _, tt := range []struct {
			name      string
			err, want error
		}{
			{"copy beyond", dev.CopyIn(b, 4, make([]byte, 8)), accel.ErrBounds},
			{"half a word", dev.CopyOut(make([]byte, 2), b, 0), accel.ErrBounds},
			{"too many words", relu(3, [3]uint32{}, [3]uint32{}), accel.ErrBounds},
			{"too large a block", relu(2, [3]uint32{1, 1, 1}, [3]uint32{32, 33, 1}), accel.ErrBounds},
			{"too large a grid", relu(2, [3]uint32{1 << 16, 1 << 15, 1}, [3]uint32{1, 1, 1}), accel.ErrBounds},
			{"a grid beyond 32 bits", relu(2, [3]uint32{1 << 16, 1 << 16, 2}, [3]uint32{1, 1, 1}), accel.ErrBounds},
			{"a dimension of 0", relu(2, [3]uint32{1, 0, 1}, [3]uint32{1, 1, 1}), accel.ErrBounds},
			{"no bytes", nothing, accel.ErrBounds},
			{"no such kernel", dev.Launch(&accel.Launch{Kernel: "swish"}), accel.ErrKernel},
			{"no such buffer", dev.CopyIn(99, 0, make([]byte, 4)), accel.ErrBuffer},
		} {
			if !errors.Is(tt.err, tt.want) || errors.Is(tt.err, accel.ErrDevice) {
				t.Errorf("%s: %v, want %v", tt.name, tt.err, tt.want)
			}
		}
		if _, err := dev.Alloc(1 << 50); err == nil || errors.Is(err, accel.ErrDevice) {
			t.Errorf("Alloc of a petabyte = %v, want a refusal that leaves the device usable", err)
		}
		must(t, relu(2, [3]uint32{}, [3]uint32{}))
		must(t, dev.Free(b))
		if err := dev.Free(b); !errors.Is(err, accel.ErrBuffer) {
			t.Errorf("second Free = %v, want %v", err, accel.ErrBuffer)
		}
	})
}

// New memory holds zeros, also where other contents were before.
func TestAllocIsZeroed(t *testing.T) {
	onEach(t, func(t *testing.T, dev accel.Device) {
		for range 2 {
			b, err := dev.Alloc(64)
			must(t, err)
			got := bytes.Repeat([]byte{1}, 64)
			must(t, dev.CopyOut(got, b, 0))
			if !bytes.Equal(got, make([]byte, 64)) {
				t.Errorf("new memory is %x", got)
			}
			must(t, dev.CopyIn(b, 0, bytes.Repeat([]byte{0xff}, 64)))
			must(t, dev.Free(b))
		}
	})
}

// Copies go where the offset says.
func TestCopyAtOffset(t *testing.T) {
	onEach(t, func(t *testing.T, dev accel.Device) {
		b := alloc(t, dev, []byte("aaaabbbbccccdddd"))
		must(t, dev.CopyIn(b, 4, []byte("BBBBCCCC")))
		must(t, dev.CopyIn(b, 16, nil))
		got := make([]byte, 8)
		must(t, dev.CopyOut(got, b, 8))
		if string(got) != "CCCCdddd" {
			t.Errorf("got %q, want %q", got, "CCCCdddd")
		}
	})
}

func BenchmarkKernels(b *testing.B) {
	const side = 1024
	dev := openGPU(b)
	var buffers [3]accel.Buffer
	for i := range buffers {
		var err error
		if buffers[i], err = dev.Alloc(4 * side * side); err != nil {
			b.Fatal(err)
		}
	}
	x, y, z := buffers[0], buffers[1], buffers[2]
	for _, k := range []struct {
		kernel string
		bytes  int64
		args   []accel.Arg
	}{
		{"fill_normal", 4 * side * side, []accel.Arg{accel.Out(x), accel.U32(side * side), accel.U64(1), accel.F32(0), accel.F32(1)}},
		{"saxpy", 12 * side * side, []accel.Arg{accel.InOut(y), accel.In(x), accel.U32(side * side), accel.F32(0.001)}},
		{"sgemm", 2 * side * side * side, []accel.Arg{
			accel.Out(z), accel.In(x), accel.In(y), accel.U32(side), accel.U32(side), accel.U32(side), accel.U32(0), accel.U32(0),
		}},
		{"reduce_sum", 4 * side * side, []accel.Arg{accel.Out(z), accel.In(x), accel.U32(side * side)}},
	} {
		b.Run(k.kernel, func(b *testing.B) {
			b.SetBytes(k.bytes) // of sgemm: floating-point operations
			for b.Loop() {
				if err := dev.Launch(&accel.Launch{Kernel: k.kernel, Args: k.args}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
