package accel

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// A Kernel is a definition that devices implement: its parameters and the rule
// that fixes every bit of its outputs.
//
// A signature lists the parameters. A buffer is name:mode type[words], where
// words is a product of numbers and of scalar parameters; a scalar is name:type.
type Kernel struct {
	Name      string
	Signature string
	Rule      string
	Params    []Param
}

// A Param is one parameter of a kernel.
type Param struct {
	Name  string
	Mode  Mode
	Float bool     // a buffer of float32 rather than uint32
	Words []string // factors of a buffer's smallest length in words
}

// definitions is what every device must agree on. A change of a rule's meaning
// is a change of its text, and so of the kernel's identity. Products and sums
// are float32, rounded one by one to nearest, never fused, unless a rule says
// otherwise; sums of several terms start at +0 and take them by ascending index.
// Once a NaN arises, which NaN it is depends on the device.
var definitions = [...]Kernel{
	{
		Name:      "fill_uniform",
		Signature: "out:out f32[n] n:u32 stream:u64 lo:f32 hi:f32",
		Rule:      "w = word i%4 of philox4x32-10(counter {i/4, 0, stream}, key seed); u = (w>>8) * 2^-24; out[i] = lo + (hi-lo)*u",
	},
	{
		Name:      "fill_normal",
		Signature: "out:out f32[n] n:u32 stream:u64 mean:f32 std:f32",
		Rule: "words w as for fill_uniform; of each pair (a, b) in float64: r = sqrt(-2*ln(((a>>8)+1) * 2^-24)), t = b * 2^-32 turns; " +
			"out[i] = float32(mean + std*(r*cos t)), out[i+1] with sin; ln, sin, cos: polynomials 1",
	},
	{
		Name:      "saxpy",
		Signature: "y:inout f32[n] x:in f32[n] n:u32 a:f32",
		Rule:      "y[i] = y[i] + a*x[i]",
	},
	{
		Name:      "sgemm",
		Signature: "c:out f32[m*n] a:in f32[m*k] b:in f32[k*n] m:u32 n:u32 k:u32 ta:u32 tb:u32",
		Rule:      "c[i,j] = sum over l of A[i,l]*B[l,j]; rows first; A is a, of k by m and transposed if ta is not 0; B is b, of n by k and transposed if tb is not 0",
	},
	{
		Name:      "reduce_sum",
		Signature: "out:out f32[1] x:in f32[n] n:u32",
		Rule:      "v[t] = sum of x[t], x[t+256], ...; for s = 128, 64, ..., 1: v[t] = v[t] + v[t+s] for t < s; out[0] = v[0]",
	},
	{
		Name:      "softmax",
		Signature: "out:out f32[rows*cols] x:in f32[rows*cols] rows:u32 cols:u32",
		Rule:      "of each row: e[j] = exp(x[j] - max), max the first of the largest; out[j] = e[j] / sum e; exp: polynomial 1",
	},
	{
		Name:      "relu",
		Signature: "out:out f32[n] x:in f32[n] n:u32",
		Rule:      "out[i] = x[i] > 0 ? x[i] : +0",
	},
	{
		Name:      "relu_grad",
		Signature: "dx:out f32[n] dy:in f32[n] x:in f32[n] n:u32",
		Rule:      "dx[i] = x[i] > 0 ? dy[i] : +0",
	},
	{
		Name:      "sgd",
		Signature: "w:inout f32[n] g:in f32[n] n:u32 rate:f32",
		Rule:      "w[i] = w[i] - rate*g[i]",
	},
	{
		Name:      "bias_add",
		Signature: "x:inout f32[rows*cols] b:in f32[cols] rows:u32 cols:u32",
		Rule:      "x[i,j] = x[i,j] + b[j]",
	},
	{
		Name:      "bias_grad",
		Signature: "db:out f32[cols] dy:in f32[rows*cols] rows:u32 cols:u32",
		Rule:      "db[j] = sum over i of dy[i,j]",
	},
	{
		Name:      "cross_entropy",
		Signature: "loss:out f32[rows] p:in f32[rows*cols] label:in u32[rows] rows:u32 cols:u32",
		Rule:      "q = p[i,label[i]]; loss[i] = label[i] < cols ? float32(-ln(q > 2^-100 ? q : 2^-100)) : +0; ln: polynomial 1",
	},
	{
		Name:      "cross_entropy_grad",
		Signature: "dx:out f32[rows*cols] p:in f32[rows*cols] label:in u32[rows] rows:u32 cols:u32 scale:f32",
		Rule:      "dx[i,j] = (p[i,j] - (label[i] == j ? 1 : 0)) * scale",
	},
	{
		Name:      "dropout",
		Signature: "out:out f32[n] x:in f32[n] n:u32 stream:u64 p:f32 scale:f32",
		Rule:      "u as for fill_uniform; out[i] = u < p ? +0 : x[i]*scale",
	},
	{
		Name:      "gather",
		Signature: "out:out u32[rows*cols] x:in u32[total*cols] index:in u32[rows] total:u32 rows:u32 cols:u32",
		Rule:      "row i of out is row index[i] of x; zeros if index[i] >= total",
	},
}

// Catalogue returns the kernels that all devices define alike, by name.
func Catalogue() map[string]*Kernel {
	all := make(map[string]*Kernel, len(definitions))
	for _, k := range definitions {
		k.Params = parseSignature(k.Signature)
		all[k.Name] = &k
	}
	return all
}

// Identity returns a short digest of the whole definition.
func (k *Kernel) Identity() string {
	h := sha256.Sum256([]byte(k.Name + "\n" + k.Signature + "\n" + k.Rule))
	return hex.EncodeToString(h[:8])
}

// parseSignature reads a signature of the table above; it panics on one that is
// misspelled, which is a fault of this package.
func parseSignature(s string) []Param {
	fields := strings.Fields(s)
	var params []Param
	for i := 0; i < len(fields); i++ {
		name, mode, _ := strings.Cut(fields[i], ":")
		p := Param{Name: name, Mode: parseMode(mode)}
		if p.Mode.IsBuffer() {
			i++
			typ, words, _ := strings.Cut(fields[i], "[")
			p.Float = typ == "f32"
			p.Words = strings.Split(strings.TrimSuffix(words, "]"), "*")
		}
		params = append(params, p)
	}
	return params
}

func parseMode(s string) Mode {
	for m := ModeIn; m <= ModeF32; m++ {
		if m.String() == s {
			return m
		}
	}
	panic("accel: unknown mode " + s)
}

// Check fails with ErrKernel, ErrBuffer or ErrBounds unless args fit the kernel:
// their modes, the sizes of the buffers, and no written buffer passed twice. size
// returns a buffer's size in bytes. Devices call it before they run the kernel.
func (k *Kernel) Check(args []Arg, size func(Buffer) (int, error)) error {
	if len(args) != len(k.Params) {
		return fmt.Errorf("%s: %d arguments for %d parameters: %w", k.Name, len(args), len(k.Params), ErrKernel)
	}
	for i := range k.Params {
		p, a := &k.Params[i], args[i]
		if p.Mode != a.Mode {
			return fmt.Errorf("%s: %s is %v, not %v: %w", k.Name, p.Name, p.Mode, a.Mode, ErrKernel)
		}
		if !p.Mode.IsBuffer() {
			continue
		}
		have, err := size(a.Buffer())
		if err != nil {
			return fmt.Errorf("%s: %s: %w", k.Name, p.Name, err)
		}
		if need := k.words(p, args); need > uint64(have)/4 {
			return fmt.Errorf("%s: %s needs %d words, buffer %d has %d: %w", k.Name, p.Name, need, a.Buffer(), have/4, ErrBounds)
		}
		if p.Mode.Writes() && k.passed(args, a.Buffer()) > 1 {
			return fmt.Errorf("%s: %s is passed twice: %w", k.Name, p.Name, ErrKernel)
		}
	}
	return nil
}

// words returns how many words the parameter needs, or the largest number if the
// product overflows.
func (k *Kernel) words(p *Param, args []Arg) uint64 {
	product := uint64(1)
	for _, factor := range p.Words {
		v, err := strconv.ParseUint(factor, 10, 64)
		if err != nil {
			v = args[k.index(factor)].Bits
		}
		hi, lo := bits.Mul64(product, v)
		if hi != 0 {
			return 1<<64 - 1
		}
		product = lo
	}
	return product
}

// index returns the place of a parameter; signatures name only their own.
func (k *Kernel) index(name string) int {
	for i := range k.Params {
		if k.Params[i].Name == name {
			return i
		}
	}
	panic("accel: " + k.Name + " has no parameter " + name)
}

func (k *Kernel) passed(args []Arg, b Buffer) int {
	n := 0
	for _, a := range args {
		if a.Mode.IsBuffer() && a.Buffer() == b {
			n++
		}
	}
	return n
}
