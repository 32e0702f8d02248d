package cuda

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"understudy.dev/accel"
)

// An interpreter is a device that runs the PTX itself, as far as kernels.ptx makes
// use of it: so the kernels' text is tested where there is no GPU. Every access is
// checked against the buffers. It is no authority on PTX: that is the driver.
type interpreter struct {
	program   program
	catalogue map[string]*accel.Kernel
	memory    map[accel.Buffer][]byte
	last      accel.Buffer
	seed      uint64
}

// A program is the kernels and functions of a PTX text by name.
type program map[string]*function

// A function is a kernel or a .func, its registers bits of at most 64.
type function struct {
	outs, ins []string // of an entry, ins are the parameters
	types     []string // of ins, such as .u64
	code      []instruction
	labels    map[string]int
}

type instruction struct {
	guard string // predicate register, or ""
	op    []string
	args  []string
}

func newInterpreter() *interpreter {
	return &interpreter{program: parsePTX(string(ptx)), catalogue: accel.Catalogue(), memory: make(map[accel.Buffer][]byte)}
}

var (
	comment   = regexp.MustCompile(`//[^\n]*`)
	signature = regexp.MustCompile(`(?s)\.(?:visible \.entry|func)\s*(?:\(([^)]*)\))?\s*(\w+)\s*\(([^)]*)\)\s*\{(.*?)\n\}`)
	operands  = regexp.MustCompile(`\{[^}]*\}|\([^)]*\)|\[[^\]]*\]|[^,\s]+`)
	label     = regexp.MustCompile(`^(\w+):`)
)

func parsePTX(text string) program {
	functions := make(program)
	for _, m := range signature.FindAllStringSubmatch(comment.ReplaceAllString(text, ""), -1) {
		f := &function{outs: words(m[1], 2), ins: words(m[3], 2), types: words(m[3], 1), labels: make(map[string]int)}
		for line := range strings.SplitSeq(m[4], "\n") {
			line = strings.TrimSpace(line)
			if l := label.FindStringSubmatch(line); l != nil {
				f.labels[l[1]] = len(f.code)
			} else if line != "" && line[0] != '.' {
				f.code = append(f.code, parseInstruction(strings.TrimSuffix(line, ";")))
			}
		}
		functions[m[2]] = f
	}
	return functions
}

// words returns word n of each parameter of a list: its space, type and name.
func words(list string, n int) []string {
	var found []string
	for p := range strings.SplitSeq(list, ",") {
		if fields := strings.Fields(p); len(fields) == 3 {
			found = append(found, fields[n])
		}
	}
	return found
}

func parseInstruction(line string) instruction {
	var in instruction
	if guard, rest, ok := strings.Cut(line, " "); ok && guard[0] == '@' {
		in.guard, line = guard[1:], rest
	}
	op, rest, _ := strings.Cut(line, " ")
	in.op = strings.Split(op, ".")
	in.args = operands.FindAllString(rest, -1)
	return in
}

// A thread is where one thread of a kernel stands.
type thread struct {
	*block
	f    *function
	regs map[string]uint64
	at   int
}

// A block is what its threads have in common.
type block struct {
	program program
	global  memory
	shared  []byte
	number  map[string]uint64 // special registers, but for %tid.x
	touched bool              // a thread read or wrote memory
}

// memory returns what lies at an address and behind it, or nothing.
type memory func(address uint64) []byte

// An illegal access is what a kernel panics with.
type illegal string

// step runs until the thread returns (true) or waits at a barrier (false).
func (t *thread) step() bool {
	for {
		in := t.f.code[t.at]
		t.at++
		if in.guard != "" && t.regs[in.guard] == 0 {
			continue
		}
		switch in.op[0] {
		case "ret":
			return true
		case "bar":
			return false
		case "bra":
			t.at = t.f.labels[in.args[0]]
		case "call":
			t.call(in)
		case "ld":
			t.load(in)
		case "st":
			t.store(in)
		case "mov":
			t.move(in)
		case "setp":
			t.regs[in.args[0]] = t.compare(in)
		default:
			t.regs[in.args[0]] = t.compute(in)
		}
	}
}

func (t *thread) call(in instruction) {
	callee := t.program[in.args[1]]
	inner := &thread{block: t.block, f: callee, regs: map[string]uint64{"%tid.x": t.regs["%tid.x"]}}
	for i, name := range names(in.args[2]) {
		inner.regs[callee.ins[i]] = t.value(name, "")
	}
	if !inner.step() {
		panic("barrier in " + in.args[1])
	}
	for i, name := range names(in.args[0]) {
		t.regs[name] = inner.regs[callee.outs[i]]
	}
}

func names(list string) []string {
	return strings.FieldsFunc(strings.Trim(list, "(){}"), func(r rune) bool { return r == ',' || r == ' ' })
}

// value returns an operand's bits; immediates of floats are spelled in hexadecimal.
func (t *thread) value(s, typ string) uint64 {
	if v, ok := t.regs[s]; ok {
		return v
	}
	switch {
	case s[0] == '%':
		return t.number[s]
	case s == "lanes":
		return 0
	case strings.HasPrefix(s, "0f"), strings.HasPrefix(s, "0d"):
		v, err := strconv.ParseUint(s[2:], 16, 64)
		if err != nil || (s[1] == 'f') != (typ == "f32") || len(s) != map[byte]int{'f': 10, 'd': 18}[s[1]] {
			panic(fmt.Sprintf("constant %s as %s", s, typ))
		}
		return v
	}
	v, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		panic("register " + s + " was never written")
	}
	return uint64(v)
}

func (t *thread) move(in instruction) {
	to, from := in.args[0], in.args[1]
	switch {
	case to[0] == '{':
		v := t.value(from, "")
		t.regs[names(to)[0]], t.regs[names(to)[1]] = v&math.MaxUint32, v>>32
	case from[0] == '{':
		t.regs[to] = t.value(names(from)[0], "") | t.value(names(from)[1], "")<<32
	default:
		t.regs[to] = t.value(from, in.op[1])
	}
}

func (t *thread) load(in instruction) {
	where := strings.Trim(in.args[1], "[]")
	if in.op[1] == "param" {
		t.regs[in.args[0]] = t.value(where, "")
		return
	}
	t.regs[in.args[0]] = uint64(binary.LittleEndian.Uint32(t.place(in.op[1], where)))
}

func (t *thread) store(in instruction) {
	place := t.place(in.op[1], strings.Trim(in.args[0], "[]"))
	binary.LittleEndian.PutUint32(place, uint32(t.value(in.args[1], "")))
}

// place returns the word at an address.
func (t *thread) place(space, where string) []byte {
	t.touched = true
	address := t.value(where, "")
	var found []byte
	if space == "global" {
		found = t.global(address)
	} else if address < uint64(len(t.shared)) {
		found = t.shared[address:]
	}
	if address%4 != 0 || len(found) < 4 {
		panic(illegal(fmt.Sprintf("%s access at %#x", space, address)))
	}
	return found
}

func (t *thread) compare(in instruction) uint64 {
	typ := in.op[2]
	a, b := t.value(in.args[1], typ), t.value(in.args[2], typ)
	var less, equal bool
	if typ == "f32" {
		x, y := float(a), float(b)
		less, equal = x < y, x == y
		if in.op[1] == "nan" {
			return truth(x != x || y != y)
		}
		if in.op[1] == "gt" {
			return truth(x > y)
		}
	} else {
		less, equal = a < b, a == b
	}
	return truth(map[string]bool{"lt": less, "ge": !less, "eq": equal, "ne": !equal, "gt": !less && !equal}[in.op[1]])
}

func truth(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func float(v uint64) float32  { return math.Float32frombits(uint32(v)) }
func double(v uint64) float64 { return math.Float64frombits(v) }

// compute does an instruction that only reads registers.
func (t *thread) compute(in instruction) uint64 {
	typ := in.op[len(in.op)-1]
	var v [3]uint64
	for i, s := range in.args[1:] {
		v[i] = t.value(s, typ)
	}
	a, b := v[0], v[1]
	switch in.op[0] {
	case "selp":
		if v[2] != 0 {
			return a
		}
		return b
	case "cvt":
		return convert(strings.Join(in.op[1:], "."), a)
	}
	switch typ {
	case "f32":
		return uint64(math.Float32bits(single(in.op, float(a), float(b))))
	case "f64":
		return math.Float64bits(wide(in.op, double(a), double(b)))
	case "u64", "b64":
		return integer(in.op, a, b)
	}
	if in.op[0] == "mul" && in.op[1] == "hi" {
		hi, _ := bits.Mul32(uint32(a), uint32(b))
		return uint64(hi)
	}
	result := integer(in.op, a&math.MaxUint32, b&math.MaxUint32)
	if in.op[0] == "mul" && in.op[1] == "wide" {
		return result
	}
	return result & math.MaxUint32
}

// rounded insists that an operation says how it rounds: without .rn a mul and an
// add may be fused.
func rounded(op []string) {
	if len(op) != 3 || op[1] != "rn" {
		panic(strings.Join(op, ".") + " does not say .rn")
	}
}

func single(op []string, x, y float32) float32 {
	rounded(op)
	switch op[0] {
	case "add":
		return float32(x + y)
	case "sub":
		return float32(x - y)
	case "mul":
		return float32(x * y)
	case "div":
		return float32(x / y)
	}
	panic(strings.Join(op, "."))
}

func wide(op []string, x, y float64) float64 {
	switch op[0] {
	case "neg":
		return -x
	case "copysign":
		return math.Copysign(y, x) // the sign of the first operand
	}
	rounded(op)
	switch op[0] {
	case "add":
		return float64(x + y)
	case "sub":
		return float64(x - y)
	case "mul":
		return float64(x * y)
	case "div":
		return float64(x / y)
	case "sqrt":
		return math.Sqrt(x)
	}
	panic(strings.Join(op, "."))
}

func integer(op []string, a, b uint64) uint64 {
	switch op[0] {
	case "add":
		return a + b
	case "sub":
		return a - b
	case "mul":
		return a * b
	case "div":
		return a / b
	case "rem":
		return a % b
	case "and":
		return a & b
	case "or":
		return a | b
	case "xor":
		return a ^ b
	case "shl":
		return a << b
	case "shr":
		return a >> b
	}
	panic(strings.Join(op, "."))
}

func convert(kind string, a uint64) uint64 {
	switch kind {
	case "u64.u32", "u32.u64":
		return a & math.MaxUint32
	case "rn.f32.u32":
		return uint64(math.Float32bits(float32(uint32(a))))
	case "rn.f64.u32":
		return math.Float64bits(float64(uint32(a)))
	case "rn.f64.s32":
		return math.Float64bits(float64(int32(a)))
	case "f64.f32":
		return math.Float64bits(float64(float(a)))
	case "rn.f32.f64":
		return uint64(math.Float32bits(float32(double(a))))
	case "rzi.s32.f64":
		return uint64(uint32(int32(double(a))))
	}
	panic("cvt." + kind)
}

// run runs the blocks one after another, and the threads of a block in turns from
// barrier to barrier. It ends after the first block that touches no memory: blocks
// of the catalogue's kernels begin at ever higher elements, so that the rest of a
// large grid has nothing to do either.
func (p program) run(kernel string, grid, threads uint32, params map[string]uint64, global memory) {
	for n := range grid {
		b := &block{program: p, global: global, shared: make([]byte, 1024)}
		b.number = map[string]uint64{"%ctaid.x": uint64(n), "%nctaid.x": uint64(grid), "%ntid.x": uint64(threads)}
		var running []*thread
		for i := range threads {
			t := &thread{block: b, f: p[kernel], regs: maps.Clone(params)}
			t.regs["%tid.x"] = uint64(i)
			running = append(running, t)
		}
		for len(running) > 0 {
			running = slices.DeleteFunc(running, (*thread).step)
		}
		if !b.touched {
			return
		}
	}
}

// Launch implements accel.Device.
func (d *interpreter) Launch(l *accel.Launch) error {
	k, ok := d.catalogue[l.Kernel]
	if !ok {
		return accel.ErrKernel
	}
	if err := k.Check(l.Args, func(b accel.Buffer) (int, error) { return len(d.memory[b]), nil }); err != nil {
		return err
	}
	grid, _ := flat(l.Grid, 3)
	threads, _ := flat(l.Block, 32)
	d.program.run(l.Kernel, grid, threads, d.params(l), d.at)
	return nil
}

// at is the interpreter's memory: buffer n lies at n<<32.
func (d *interpreter) at(address uint64) []byte {
	b := d.memory[accel.Buffer(address>>32)]
	return b[min(address&math.MaxUint32, uint64(len(b))):]
}

func (d *interpreter) params(l *accel.Launch) map[string]uint64 {
	f := d.program[l.Kernel]
	regs := make(map[string]uint64)
	for i, a := range l.Args {
		regs[f.ins[i]] = a.Bits
		if a.Mode.IsBuffer() {
			regs[f.ins[i]] = a.Bits << 32
		}
	}
	if random(l.Kernel) {
		regs[f.ins[len(l.Args)]] = d.seed
	}
	return regs
}

func (d *interpreter) Alloc(bytes int) (accel.Buffer, error) {
	d.last++
	d.memory[d.last] = make([]byte, bytes)
	return d.last, nil
}

func (d *interpreter) Free(b accel.Buffer) error { delete(d.memory, b); return nil }

func (d *interpreter) CopyIn(dst accel.Buffer, offset int, src []byte) error {
	copy(d.memory[dst][offset:], src)
	return nil
}

func (d *interpreter) CopyOut(dst []byte, src accel.Buffer, offset int) error {
	copy(dst, d.memory[src][offset:])
	return nil
}

func (d *interpreter) Seed(seed uint64) error { d.seed = seed; return nil }

func (d *interpreter) Environment() accel.Environment {
	return accel.Environment{Device: "ptx interpreter", Kernels: accel.Identities(d.catalogue)}
}
