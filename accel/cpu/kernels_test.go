package cpu_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"understudy.dev/accel"
	"understudy.dev/accel/cpu"
)

func TestKernels(t *testing.T) {
	inf := float32(math.Inf(1))
	tests := []struct {
		name string
		run  func(*bench) accel.Buffer // returns the output
		want []float32
	}{
		{"saxpy", func(b *bench) accel.Buffer {
			y := b.floats(1, 2, 3)
			b.launch("saxpy", accel.InOut(y), accel.In(b.floats(10, 20, 30)), accel.U32(2), accel.F32(0.5))
			return y
		}, []float32{6, 12, 3}},
		{"sgd", func(b *bench) accel.Buffer {
			w := b.floats(1, 2)
			b.launch("sgd", accel.InOut(w), accel.In(b.floats(4, 8)), accel.U32(2), accel.F32(0.25))
			return w
		}, []float32{0, 0}},
		{"sgemm", gemm(0, 0, []float32{1, 2, 3, 4, 5, 6}, []float32{7, 8, 9, 10, 11, 12}), []float32{58, 64, 139, 154}},
		{"sgemm, a transposed", gemm(1, 0, []float32{1, 4, 2, 5, 3, 6}, []float32{7, 8, 9, 10, 11, 12}), []float32{58, 64, 139, 154}},
		{"sgemm, b transposed", gemm(0, 1, []float32{1, 2, 3, 4, 5, 6}, []float32{7, 9, 11, 8, 10, 12}), []float32{58, 64, 139, 154}},
		{"sgemm, both transposed", gemm(1, 1, []float32{1, 4, 2, 5, 3, 6}, []float32{7, 9, 11, 8, 10, 12}), []float32{58, 64, 139, 154}},
		{"relu", func(b *bench) accel.Buffer {
			out := b.floats(9, 9, 9)
			b.launch("relu", accel.Out(out), accel.In(b.floats(-1, 0, 2)), accel.U32(3))
			return out
		}, []float32{0, 0, 2}},
		{"relu_grad", func(b *bench) accel.Buffer {
			dx := b.floats(9, 9, 9)
			b.launch("relu_grad", accel.Out(dx), accel.In(b.floats(5, 6, 7)), accel.In(b.floats(-1, 0, 2)), accel.U32(3))
			return dx
		}, []float32{0, 0, 7}},
		{"bias_add", func(b *bench) accel.Buffer {
			x := b.floats(1, 2, 3, 4)
			b.launch("bias_add", accel.InOut(x), accel.In(b.floats(10, 20)), accel.U32(2), accel.U32(2))
			return x
		}, []float32{11, 22, 13, 24}},
		{"bias_grad", func(b *bench) accel.Buffer {
			db := b.floats(9, 9)
			b.launch("bias_grad", accel.Out(db), accel.In(b.floats(1, 2, 3, 4, 5, 6)), accel.U32(3), accel.U32(2))
			return db
		}, []float32{9, 12}},
		{"softmax", func(b *bench) accel.Buffer {
			out := b.floats(9, 9, 9, 9)
			b.launch("softmax", accel.Out(out), accel.In(b.floats(3, 3, -inf, 1)), accel.U32(2), accel.U32(2))
			return out
		}, []float32{0.5, 0.5, 0, 1}},
		{"cross_entropy", func(b *bench) accel.Buffer {
			loss := b.floats(9, 9, 9)
			p := b.floats(0.5, 0.5, 1, 0, 1, 0)
			b.launch("cross_entropy", accel.Out(loss), accel.In(p), accel.In(b.numbers(1, 0, 2)), accel.U32(3), accel.U32(2))
			return loss
		}, []float32{math.Ln2, 0, 0}},
		{"cross_entropy_grad", func(b *bench) accel.Buffer {
			dx := b.floats(9, 9, 9, 9)
			p := b.floats(0.25, 0.75, 1, 0)
			b.launch("cross_entropy_grad", accel.Out(dx), accel.In(p), accel.In(b.numbers(1, 0)), accel.U32(2), accel.U32(2), accel.F32(4))
			return dx
		}, []float32{1, -1, 0, 0}},
		{"gather", func(b *bench) accel.Buffer {
			out := b.floats(9, 9, 9, 9, 9, 9)
			x := b.floats(1, 2, 3, 4)
			b.launch("gather", accel.Out(out), accel.In(x), accel.In(b.numbers(1, 7, 0)), accel.U32(2), accel.U32(3), accel.U32(2))
			return out
		}, []float32{3, 4, 0, 0, 1, 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := &bench{t: t, dev: cpu.New()}
			if got := b.read(tt.run(b), len(tt.want)); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// The tree of reduce_sum is fixed: 256 lanes, then halves. 2^24 absorbs every
// single 1 that is added to it alone, so the sum tells the order.
func TestReduceSumFollowsItsTree(t *testing.T) {
	b := &bench{t: t, dev: cpu.New()}
	x := make([]float32, 1000)
	for i := range x {
		x[i] = 1
	}
	x[0] = 1 << 24
	out := b.floats(0)
	b.launch("reduce_sum", accel.Out(out), accel.In(b.floats(x...)), accel.U32(1000))
	// Lane 0 takes 2^24 and three ones, which are lost; the other 255 lanes sum to
	// 996 exactly, and meet lane 0 in seven steps of the tree that round to even.
	lane := float32(1 << 24)
	for s := 128; s > 0; s /= 2 {
		lane += laneSum(s)
	}
	if got := b.read(out, 1)[0]; got != lane || got == 1<<24+999 {
		t.Errorf("got %v, want %v", got, lane)
	}
}

// laneSum is what v[s] holds when it is added to v[0]: the ones of lanes s, s+2s', ...
func laneSum(s int) float32 {
	n := 0
	for i := 1; i < 1000; i++ {
		if lane := i % 256; lane%(2*s) == s {
			n++
		}
	}
	return float32(n)
}

// The order of each sum is fixed. 2^24 absorbs every single 1 that is added to it
// alone, so 2^24 + 1 + 1 - 2^24 is 0 by ascending index, 2 by descending, 1 by halves.
func TestSumsTakeTheirTermsInOrder(t *testing.T) {
	const big = 1 << 24
	ones, terms := []float32{1, 1, 1, 1}, []float32{big, 1, 1, -big}
	// Rows of A: the terms, and ones; columns of B: ones, and the terms.
	a, aTransposed := slices.Concat(terms, ones), []float32{big, 1, 1, 1, 1, 1, -big, 1}
	b, bTransposed := []float32{1, big, 1, 1, 1, 1, 1, -big}, slices.Concat(ones, terms)
	const squares = 1 << 49 // of the terms, rounded
	tests := []struct {
		name string
		run  func(*bench) accel.Buffer
		want []float32
	}{
		{"sgemm", product(0, 0, a, b), []float32{0, squares, 4, 0}},
		{"sgemm, a transposed", product(1, 0, aTransposed, b), []float32{0, squares, 4, 0}},
		{"sgemm, b transposed", product(0, 1, a, bTransposed), []float32{0, squares, 4, 0}},
		{"sgemm, both transposed", product(1, 1, aTransposed, bTransposed), []float32{0, squares, 4, 0}},
		{"bias_grad", func(b *bench) accel.Buffer {
			db := b.floats(9, 9)
			b.launch("bias_grad", accel.Out(db), accel.In(b.floats(big, 1, 1, 1, 1, 1, -big, 1)), accel.U32(4), accel.U32(2))
			return db
		}, []float32{0, 4}},
		// exp(-17.3) is about 2^-25: one is lost in a sum that is 1 already, four
		// together are not.
		{"softmax", func(b *bench) accel.Buffer {
			out := b.floats(9, 9, 9, 9, 9)
			b.launch("softmax", accel.Out(out), accel.In(b.floats(0, -17.3, -17.3, -17.3, -17.3)), accel.U32(1), accel.U32(5))
			return b.numbers(math.Float32bits(b.read(out, 1)[0]))
		}, []float32{1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := &bench{t: t, dev: cpu.New()}
			if got := b.read(tt.run(b), len(tt.want)); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// product multiplies 2 by 4 with 4 by 2.
func product(ta, tb uint32, x, y []float32) func(*bench) accel.Buffer {
	return func(b *bench) accel.Buffer {
		c := b.floats(9, 9, 9, 9)
		b.launch("sgemm", accel.Out(c), accel.In(b.floats(x...)), accel.In(b.floats(y...)),
			accel.U32(2), accel.U32(2), accel.U32(4), accel.U32(ta), accel.U32(tb))
		return c
	}
}

func TestRandomKernels(t *testing.T) {
	const n = 1 << 16
	b := &bench{t: t, dev: cpu.New()}
	x := b.floats(make([]float32, n)...)
	moments := func() (mean, deviation float64) {
		for _, v := range b.read(x, n) {
			mean += float64(v) / n
		}
		for _, v := range b.read(x, n) {
			deviation += (float64(v) - mean) * (float64(v) - mean) / n
		}
		return mean, math.Sqrt(deviation)
	}
	want := func(what string, mean, deviation float64) {
		t.Helper()
		if m, d := moments(); math.Abs(m-mean) > 0.02 || math.Abs(d-deviation) > 0.02 {
			t.Errorf("%s: mean %v and deviation %v, want %v and %v", what, m, d, mean, deviation)
		}
	}
	b.must(b.dev.Seed(42))
	b.launch("fill_uniform", accel.Out(x), accel.U32(n), accel.U64(0), accel.F32(-1), accel.F32(1))
	want("fill_uniform", 0, 1/math.Sqrt(3))
	first := b.read(x, n)
	b.launch("fill_uniform", accel.Out(x), accel.U32(n), accel.U64(1), accel.F32(-1), accel.F32(1))
	if slices.Equal(first, b.read(x, n)) {
		t.Error("two streams of one seed are equal")
	}
	b.launch("fill_normal", accel.Out(x), accel.U32(n), accel.U64(2), accel.F32(3), accel.F32(2))
	want("fill_normal", 3, 2)
	b.launch("dropout", accel.Out(x), accel.In(b.floats(slices.Repeat([]float32{1}, n)...)), accel.U32(n), accel.U64(3), accel.F32(0.25), accel.F32(1/0.75))
	want("dropout", 1, math.Sqrt(1.0/3))
}

func TestLaunchRefuses(t *testing.T) {
	b := &bench{t: t, dev: cpu.New()}
	x, y := b.floats(1, 2), b.floats(1, 2)
	tests := []struct {
		name   string
		launch accel.Launch
		want   error
	}{
		{"an unknown kernel", accel.Launch{Kernel: "magic"}, accel.ErrKernel},
		{"a missing argument", accel.Launch{Kernel: "relu", Args: []accel.Arg{accel.Out(x), accel.In(y)}}, accel.ErrKernel},
		{"a wrong mode", accel.Launch{Kernel: "relu", Args: []accel.Arg{accel.In(x), accel.In(y), accel.U32(2)}}, accel.ErrKernel},
		{"an output passed twice", accel.Launch{Kernel: "relu", Args: []accel.Arg{accel.Out(x), accel.In(x), accel.U32(2)}}, accel.ErrKernel},
		{"a buffer too small", accel.Launch{Kernel: "relu", Args: []accel.Arg{accel.Out(x), accel.In(y), accel.U32(3)}}, accel.ErrBounds},
		{"a product that overflows", accel.Launch{Kernel: "sgemm", Args: []accel.Arg{
			accel.Out(x), accel.In(y), accel.In(y), accel.U32(1 << 31), accel.U32(1 << 31), accel.U32(1), accel.U32(0), accel.U32(0),
		}}, accel.ErrBounds},
		{"no such buffer", accel.Launch{Kernel: "relu", Args: []accel.Arg{accel.Out(99), accel.In(x), accel.U32(2)}}, accel.ErrBuffer},
	}
	for _, tt := range tests {
		if err := b.dev.Launch(&tt.launch); !errors.Is(err, tt.want) {
			t.Errorf("%s: Launch = %v, want %v", tt.name, err, tt.want)
		}
	}
	for _, err := range []error{b.dev.CopyIn(x, 4, make([]byte, 8)), b.dev.CopyOut(make([]byte, 3), x, 0), b.dev.CopyIn(x, -4, nil)} {
		if !errors.Is(err, accel.ErrBounds) {
			t.Errorf("copy: %v, want %v", err, accel.ErrBounds)
		}
	}
	b.must(b.dev.Free(x))
	if err := b.dev.Free(x); !errors.Is(err, accel.ErrBuffer) {
		t.Errorf("second Free = %v, want %v", err, accel.ErrBuffer)
	}
}

// A size that this machine can hardly have is refused: Go would end the process.
func TestAllocRefuses(t *testing.T) {
	for _, bytes := range []int{0, -4, 6, cpu.MaxAlloc + 4, 1 << 45, math.MaxInt &^ 3} {
		if b, err := cpu.New().Alloc(bytes); !errors.Is(err, accel.ErrBounds) {
			t.Errorf("Alloc(%d) = %v, %v, want %v", bytes, b, err, accel.ErrBounds)
		}
	}
}

func gemm(ta, tb uint32, x, y []float32) func(*bench) accel.Buffer {
	return func(b *bench) accel.Buffer {
		c := b.floats(9, 9, 9, 9)
		b.launch("sgemm", accel.Out(c), accel.In(b.floats(x...)), accel.In(b.floats(y...)),
			accel.U32(2), accel.U32(2), accel.U32(3), accel.U32(ta), accel.U32(tb))
		return c
	}
}

// bench is a device on which nothing may fail.
type bench struct {
	t   testing.TB
	dev accel.Device
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) launch(kernel string, args ...accel.Arg) {
	b.t.Helper()
	b.must(b.dev.Launch(&accel.Launch{Kernel: kernel, Args: args}))
}

func (b *bench) floats(values ...float32) accel.Buffer {
	b.t.Helper()
	words := make([]uint32, len(values))
	for i, v := range values {
		words[i] = math.Float32bits(v)
	}
	return b.numbers(words...)
}

func (b *bench) numbers(values ...uint32) accel.Buffer {
	b.t.Helper()
	var data []byte
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, v)
	}
	x, err := b.dev.Alloc(len(data))
	b.must(err)
	b.must(b.dev.CopyIn(x, 0, data))
	return x
}

func (b *bench) read(x accel.Buffer, n int) []float32 {
	b.t.Helper()
	data := make([]byte, 4*n)
	b.must(b.dev.CopyOut(data, x, 0))
	out := make([]float32, n)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return out
}

func BenchmarkKernels(b *testing.B) {
	const n, side = 1 << 16, 128
	bench := &bench{t: b, dev: cpu.New()}
	x, y, z := bench.floats(make([]float32, n)...), bench.floats(make([]float32, n)...), bench.floats(make([]float32, n)...)
	for _, k := range []struct {
		kernel string
		bytes  int64
		args   []accel.Arg
	}{
		{"fill_uniform", 4 * n, []accel.Arg{accel.Out(x), accel.U32(n), accel.U64(1), accel.F32(-1), accel.F32(1)}},
		{"fill_normal", 4 * n, []accel.Arg{accel.Out(y), accel.U32(n), accel.U64(1), accel.F32(0), accel.F32(1)}},
		{"saxpy", 12 * n, []accel.Arg{accel.InOut(x), accel.In(y), accel.U32(n), accel.F32(0.001)}},
		{"sgemm", 2 * side * side * side, []accel.Arg{
			accel.Out(z), accel.In(x), accel.In(y), accel.U32(side), accel.U32(side), accel.U32(side), accel.U32(0), accel.U32(0),
		}},
		{"reduce_sum", 4 * n, []accel.Arg{accel.Out(z), accel.In(x), accel.U32(n)}},
		{"softmax", 8 * n, []accel.Arg{accel.Out(z), accel.In(x), accel.U32(n / 256), accel.U32(256)}},
		{"relu", 8 * n, []accel.Arg{accel.Out(z), accel.In(x), accel.U32(n)}},
	} {
		b.Run(k.kernel, func(b *testing.B) {
			b.SetBytes(k.bytes) // of sgemm: floating-point operations
			for b.Loop() {
				bench.launch(k.kernel, k.args...)
			}
		})
	}
}

func ExampleNew() {
	dev := cpu.New()
	x, err := dev.Alloc(16)
	if err != nil {
		fmt.Println(err)
		return
	}
	err = errors.Join(
		dev.Seed(1),
		dev.Launch(&accel.Launch{Kernel: "fill_uniform", Args: []accel.Arg{
			accel.Out(x), accel.U32(4), accel.U64(0), accel.F32(0), accel.F32(1),
		}}),
	)
	data := make([]byte, 16)
	fmt.Println(errors.Join(err, dev.CopyOut(data, x, 0)))
	fmt.Printf("%x\n", data)
	// Output:
	// <nil>
	// 06e8633f0e0a653f22f2153faa15363f
}
