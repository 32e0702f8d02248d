package accel

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Op says what a command does.
type Op uint8

// The ops. Their numbers are part of the encoding.
const (
	OpEnvironment Op = 1
	OpAlloc       Op = 2
	OpFree        Op = 3
	OpCopyIn      Op = 4
	OpCopyOut     Op = 5
	OpSeed        Op = 6
	OpLaunch      Op = 7
)

// String returns the name of the command's record; a launch has its kernel's.
func (o Op) String() string {
	if o == 0 || o > OpLaunch {
		return fmt.Sprintf("op-%d", uint8(o))
	}
	return [...]string{"", "environment", "alloc", "free", "copy-in", "copy-out", "seed", "launch"}[o]
}

// A Command is one command to a device with what went in and what came out.
type Command struct {
	Op      Op
	Env     Environment // OpEnvironment
	Buffer  Buffer      // OpAlloc, OpFree, OpCopyIn, OpCopyOut: the Recorder's number
	Offset  uint64      // OpCopyIn, OpCopyOut, in bytes
	Bytes   uint64      // OpAlloc
	Seed    uint64      // OpSeed
	Launch  Launch      // OpLaunch
	Inputs  []Content   // OpCopyIn: the one copied, kept; OpLaunch: each buffer read
	Outputs []Content   // OpCopyOut: the one copied; OpLaunch: each buffer written
}

// A Content is what some device memory held.
type Content struct {
	Arg    int // index of the argument; 0 for a copy
	Bytes  uint64
	Digest [sha256.Size]byte
	Kept   []byte // all of it, or nothing
}

// contentOf describes data and keeps it, by reference, if keep.
func contentOf(arg int, data []byte, keep bool) Content {
	c := Content{Arg: arg, Bytes: uint64(len(data)), Digest: sha256.Sum256(data)}
	if keep {
		c.Kept = data
	}
	return c
}

// ErrMalformed: a payload is not an encoded command.
var ErrMalformed = errors.New("accel: malformed command")

// A command as payload. Numbers are unsigned LEB128 varints in their shortest
// form, strings their length and bytes.
//
//	format version    one byte, 1
//	op                one byte
//	digest algorithm  one byte, 1 = SHA-256
//
// and then by op:
//
//	environment  device driver library host count {kernel identity}, by ascending kernel;
//	             a Recorder leaves the host empty
//	alloc        buffer bytes
//	free         buffer
//	copy-in      buffer offset contents
//	copy-out     buffer offset contents
//	seed         seed
//	launch       grid x y z, block x y z, count {argument}, contents in, contents out
//
//	argument     mode, one byte; bits
//	contents     count {argument index, bytes, digest of 32 bytes, kept: a string, empty or all}
//
// The kernel of a launch is the record's name.
const (
	commandVersion = 1
	digestSHA256   = 1
)

// AppendTo appends the encoding of c to b.
func (c *Command) AppendTo(b []byte) []byte {
	b = append(b, commandVersion, byte(c.Op), digestSHA256)
	switch c.Op {
	case OpEnvironment:
		return c.Env.appendTo(b)
	case OpAlloc:
		return appendNumbers(b, uint64(c.Buffer), c.Bytes)
	case OpFree:
		return appendNumbers(b, uint64(c.Buffer))
	case OpCopyIn:
		return appendContents(appendNumbers(b, uint64(c.Buffer), c.Offset), c.Inputs)
	case OpCopyOut:
		return appendContents(appendNumbers(b, uint64(c.Buffer), c.Offset), c.Outputs)
	case OpSeed:
		return appendNumbers(b, c.Seed)
	case OpLaunch:
		b = c.Launch.appendTo(b)
		return appendContents(appendContents(b, c.Inputs), c.Outputs)
	}
	panic("accel: encoding " + c.Op.String())
}

func (e *Environment) appendTo(b []byte) []byte {
	for _, s := range [...]string{e.Device, e.Driver, e.Library, e.Host} {
		b = appendString(b, s)
	}
	b = appendNumbers(b, uint64(len(e.Kernels)))
	for _, name := range slices.Sorted(maps.Keys(e.Kernels)) {
		b = appendString(appendString(b, name), e.Kernels[name])
	}
	return b
}

func (l *Launch) appendTo(b []byte) []byte {
	for _, v := range [...][3]uint32{l.Grid, l.Block} {
		b = appendNumbers(b, uint64(v[0]), uint64(v[1]), uint64(v[2]))
	}
	b = appendNumbers(b, uint64(len(l.Args)))
	for _, a := range l.Args {
		b = appendNumbers(append(b, byte(a.Mode)), a.Bits)
	}
	return b
}

func appendContents(b []byte, contents []Content) []byte {
	b = appendNumbers(b, uint64(len(contents)))
	for i := range contents {
		c := &contents[i]
		b = appendNumbers(b, uint64(c.Arg), c.Bytes)
		b = append(b, c.Digest[:]...)
		b = appendNumbers(b, uint64(len(c.Kept)))
		b = append(b, c.Kept...)
	}
	return b
}

func appendNumbers(b []byte, vs ...uint64) []byte {
	for _, v := range vs {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(appendNumbers(b, uint64(len(s))), s...)
}

// Decode is the inverse of AppendTo, for a record with this name. What is kept
// refers to payload. It accepts only what AppendTo makes, or ErrMalformed.
func Decode(name string, payload []byte) (*Command, error) {
	d := decoder{b: payload}
	version, op, alg := d.byte(), Op(d.byte()), d.byte()
	if d.bad || version != commandVersion || alg != digestSHA256 {
		return nil, fmt.Errorf("%q, version %d, digest algorithm %d: %w", name, version, alg, ErrMalformed)
	}
	c := &Command{Op: op}
	switch op {
	case OpEnvironment:
		c.Env = d.environment()
	case OpAlloc:
		c.Buffer, c.Bytes = Buffer(d.number()), d.number()
	case OpFree:
		c.Buffer = Buffer(d.number())
	case OpCopyIn:
		c.Buffer, c.Offset, c.Inputs = Buffer(d.number()), d.number(), d.contents()
		d.must(len(c.Inputs) == 1 && len(c.Inputs[0].Kept) == int(c.Inputs[0].Bytes))
	case OpCopyOut:
		c.Buffer, c.Offset, c.Outputs = Buffer(d.number()), d.number(), d.contents()
		d.must(len(c.Outputs) == 1)
	case OpSeed:
		c.Seed = d.number()
	case OpLaunch:
		c.Launch = d.launch(name)
		c.Inputs, c.Outputs = d.contents(), d.contents()
		d.must(fits(c.Inputs, c.Launch.Args, Mode.Reads) && fits(c.Outputs, c.Launch.Args, Mode.Writes))
	default:
		d.bad = true
	}
	if d.bad || len(d.b) != 0 || op != OpLaunch && op.String() != name {
		return nil, fmt.Errorf("%q, %v, %d bytes of %d left: %w", name, op, len(d.b), len(payload), ErrMalformed)
	}
	return c, nil
}

// fits reports whether contents are those of the arguments that have, in order.
func fits(contents []Content, args []Arg, have func(Mode) bool) bool {
	for i, a := range args {
		if have(a.Mode) {
			if len(contents) == 0 || contents[0].Arg != i {
				return false
			}
			contents = contents[1:]
		}
	}
	return len(contents) == 0
}

// A decoder takes values off the front of b; once something did not fit, bad
// stays true and everything is zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) must(ok bool) { d.bad = d.bad || !ok }

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	taken := d.b[:n:n]
	d.b = d.b[n:]
	return taken
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) number() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || n > 1 && d.b[n-1] == 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads how many items of at least size bytes follow.
func (d *decoder) count(size int) int {
	n := d.number()
	d.must(n <= uint64(len(d.b)/size))
	if d.bad {
		return 0
	}
	return int(n)
}

func (d *decoder) string() string { return string(d.take(d.number())) }

func (d *decoder) dim() uint32 {
	v := d.number()
	d.must(v <= 1<<32-1)
	return uint32(v)
}

func (d *decoder) environment() Environment {
	e := Environment{Device: d.string(), Driver: d.string(), Library: d.string(), Host: d.string()}
	n := d.count(2)
	e.Kernels = make(map[string]string, n)
	last := ""
	for i := range n {
		name := d.string()
		d.must(i == 0 || name > last)
		e.Kernels[name], last = d.string(), name
	}
	return e
}

func (d *decoder) launch(kernel string) Launch {
	l := Launch{Kernel: kernel}
	for _, v := range []*[3]uint32{&l.Grid, &l.Block} {
		v[0], v[1], v[2] = d.dim(), d.dim(), d.dim()
	}
	l.Args = make([]Arg, d.count(2))
	for i := range l.Args {
		l.Args[i] = Arg{Mode(d.byte()), d.number()}
		d.must(l.Args[i].Mode >= ModeIn && l.Args[i].Mode <= ModeF32)
	}
	return l
}

func (d *decoder) contents() []Content {
	contents := make([]Content, d.count(3+sha256.Size))
	for i := range contents {
		c := &contents[i]
		c.Arg, c.Bytes = int(d.dim()), d.number()
		copy(c.Digest[:], d.take(sha256.Size))
		c.Kept = d.take(d.number())
		d.must(len(c.Kept) == 0 || uint64(len(c.Kept)) == c.Bytes)
	}
	return contents
}
