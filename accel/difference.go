package accel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"understudy.dev/harness"
	"understudy.dev/journal"
)

// A Difference is the first place where a command did not give what was recorded.
type Difference struct {
	Number  uint64      // the harness's number of the record; 0 if not known here
	Seq     journal.Seq // the record's Seq; 0 if not known here
	Name    string      // the kernel, or the command's name
	What    string      // such as "output 0, c" or "argument 7, scale"
	Element int64       // index of the first differing 32-bit word; -1 if it cannot be told
	Want    string      // recorded
	Got     string
}

func (d *Difference) Error() string {
	s := "accel: "
	if d.Number != 0 || d.Seq != 0 {
		s += fmt.Sprintf("record %d, seq %d, ", d.Number, d.Seq)
	}
	s += d.Name + ", " + d.What
	if d.Element >= 0 {
		s += fmt.Sprintf(", element %d", d.Element)
	}
	return s + ": recorded " + d.Want + ", got " + d.Got
}

// Compare says where two payloads of a name part: a *Difference, or nil if they
// say the same. It fails with ErrMalformed if one is no command.
func Compare(name string, want, got []byte) error {
	w, err := Decode(name, want)
	if err != nil {
		return fmt.Errorf("recorded: %w", err)
	}
	g, err := Decode(name, got)
	if err != nil {
		return fmt.Errorf("got: %w", err)
	}
	if d := difference(w, g); d != nil {
		return d
	}
	return nil
}

// Explain says what a difference that a harness found means on the device, or nil if
// it is not between two commands of the same name.
func Explain(d *harness.Difference) *Difference {
	if d.Expected == nil || d.Got == nil || d.Expected.Kind != d.Got.Kind || d.Expected.Name != d.Got.Name {
		return nil
	}
	var found *Difference
	if errors.As(Compare(d.Got.Name, d.Expected.Data, d.Got.Data), &found) {
		found.Number, found.Seq = d.Number, d.Expected.Seq
	}
	return found
}

// difference compares what a command was given, then what it gave.
func difference(want, got *Command) *Difference {
	if d := givenDifference(want, got); d != nil {
		return d
	}
	for i := range got.Outputs {
		if want.Outputs[i].Digest != got.Outputs[i].Digest {
			return outputDifference(&want.Outputs[i], &got.Outputs[i], got, Tolerance{})
		}
	}
	return nil
}

// givenDifference compares all but the digests of the outputs.
func givenDifference(want, got *Command) *Difference {
	at := func(what string, w, g any) *Difference {
		return &Difference{Name: nameOf(got), What: what, Element: -1, Want: fmt.Sprint(w), Got: fmt.Sprint(g)}
	}
	if want.Op != got.Op || want.Launch.Kernel != got.Launch.Kernel {
		return at("command", nameOf(want), nameOf(got))
	}
	if want.Op == OpEnvironment {
		return environmentDifference(&want.Env, &got.Env)
	}
	for _, n := range []struct {
		what      string
		want, got uint64
	}{
		{"buffer", uint64(want.Buffer), uint64(got.Buffer)},
		{"offset", want.Offset, got.Offset},
		{"bytes", want.Bytes, got.Bytes},
		{"seed", want.Seed, got.Seed},
		{"number of arguments", uint64(len(want.Launch.Args)), uint64(len(got.Launch.Args))},
		{"number of inputs", uint64(len(want.Inputs)), uint64(len(got.Inputs))},
		{"number of outputs", uint64(len(want.Outputs)), uint64(len(got.Outputs))},
	} {
		if n.want != n.got {
			return at(n.what, n.want, n.got)
		}
	}
	if want.Launch.Grid != got.Launch.Grid || want.Launch.Block != got.Launch.Block {
		return at("grid and block", []any{want.Launch.Grid, want.Launch.Block}, []any{got.Launch.Grid, got.Launch.Block})
	}
	for i, a := range got.Launch.Args {
		if w := want.Launch.Args[i]; w != a {
			return at(argumentName("argument", got, i), showArg(w), showArg(a))
		}
	}
	for i := range got.Inputs {
		if want.Inputs[i].Bytes != got.Inputs[i].Bytes {
			return at(argumentName("input", got, got.Inputs[i].Arg)+", bytes", want.Inputs[i].Bytes, got.Inputs[i].Bytes)
		}
		if want.Inputs[i].Digest != got.Inputs[i].Digest {
			return contentDifference("input", &want.Inputs[i], &got.Inputs[i], got, Tolerance{})
		}
	}
	for i := range got.Outputs {
		if want.Outputs[i].Bytes != got.Outputs[i].Bytes {
			return at(argumentName("output", got, got.Outputs[i].Arg)+", bytes", want.Outputs[i].Bytes, got.Outputs[i].Bytes)
		}
	}
	return nil
}

// environmentDifference compares all that an environment record says: a harness
// takes no two payloads for one, so kernels that only one side has count, and the
// host of a record that has one.
func environmentDifference(want, got *Environment) *Difference {
	recorded, present := want.Pin(), got.Pin()
	fields := maps.Clone(recorded)
	maps.Copy(fields, present)
	names := slices.Sorted(maps.Keys(fields))
	recorded["host"], present["host"] = want.Host, got.Host
	for _, field := range append(names, "host") {
		was, both := recorded[field]
		is, also := present[field]
		if was != is || both != also {
			return &Difference{Name: OpEnvironment.String(), What: field, Element: -1, Want: quoted(was, both), Got: quoted(is, also)}
		}
	}
	return nil
}

func quoted(s string, there bool) string {
	if !there {
		return "none"
	}
	return strconv.Quote(s)
}

func outputDifference(want, got *Content, c *Command, tol Tolerance) *Difference {
	return contentDifference("output", want, got, c, tol)
}

// contentDifference names the first element beyond a tolerance if the contents
// are known, or else the digests.
func contentDifference(role string, want, got *Content, c *Command, tol Tolerance) *Difference {
	d := &Difference{Name: nameOf(c), What: argumentName(role, c, got.Arg), Element: -1}
	if i := firstBeyond(want.Kept, got.Kept, tol); i >= 0 {
		isFloat := c.Op != OpLaunch || paramOf(c, got.Arg).Float
		d.Element, d.Want, d.Got = int64(i), showWord(want.Kept, i, isFloat), showWord(got.Kept, i, isFloat)
		return d
	}
	d.Want = fmt.Sprintf("%d bytes with digest %x…", want.Bytes, want.Digest[:8])
	d.Got = fmt.Sprintf("%d with %x…, contents not kept", got.Bytes, got.Digest[:8])
	return d
}

// firstBeyond returns the first word of got that is not within the tolerance of
// want, or -1. It compares bits first, so that any NaN equals itself.
func firstBeyond(want, got []byte, tol Tolerance) int {
	for i := range min(len(want), len(got)) / 4 {
		w, g := binary.LittleEndian.Uint32(want[4*i:]), binary.LittleEndian.Uint32(got[4*i:])
		if w != g && !within(float64(math.Float32frombits(w)), float64(math.Float32frombits(g)), tol) {
			return i
		}
	}
	return -1
}

func within(want, got float64, tol Tolerance) bool {
	if tol == (Tolerance{}) {
		return false
	}
	if math.IsNaN(want) || math.IsInf(want, 0) {
		return math.IsNaN(want) && math.IsNaN(got) || want == got
	}
	return math.Abs(got-want) <= tol.Abs+float64(tol.Rel*math.Abs(want))
}

func nameOf(c *Command) string {
	if c.Op == OpLaunch {
		return c.Launch.Kernel
	}
	return c.Op.String()
}

// argumentName says which argument, by name where the catalogue has the kernel.
func argumentName(role string, c *Command, i int) string {
	if c.Op != OpLaunch {
		return role
	}
	s := role + " " + strconv.Itoa(i)
	if p := paramOf(c, i); p.Name != "" {
		s += ", " + p.Name
	}
	return s
}

// paramOf returns the parameter of the catalogue, or the zero Param.
func paramOf(c *Command, i int) Param {
	at := slices.IndexFunc(definitions[:], func(k Kernel) bool { return k.Name == c.Launch.Kernel })
	if at < 0 {
		return Param{}
	}
	params := parseSignature(definitions[at].Signature)
	if i >= len(params) {
		return Param{}
	}
	return params[i]
}

func showArg(a Arg) string {
	if a.Mode == ModeF32 {
		return fmt.Sprintf("f32 %v (0x%08x)", a.Float(), a.Bits)
	}
	return fmt.Sprintf("%v %d", a.Mode, a.Bits)
}

func showWord(data []byte, i int, isFloat bool) string {
	w := binary.LittleEndian.Uint32(data[4*i:])
	if isFloat {
		return fmt.Sprintf("%v (0x%08x)", math.Float32frombits(w), w)
	}
	return strconv.FormatUint(uint64(w), 10)
}
