package accel_test

import (
	"errors"
	"testing"

	"understudy.dev/accel"
)

// Whatever two commands differ in is found, by what it is called.
func TestCompareFindsEachDifference(t *testing.T) {
	content := func(arg int, bytes uint64, first byte) accel.Content {
		return accel.Content{Arg: arg, Bytes: bytes, Digest: [32]byte{first}}
	}
	saxpy := func(change func(*accel.Command)) *accel.Command {
		c := &accel.Command{
			Op: accel.OpLaunch,
			Launch: accel.Launch{
				Kernel: "saxpy", Grid: [3]uint32{4, 1, 1}, Block: [3]uint32{32, 1, 1},
				Args: []accel.Arg{accel.InOut(1), accel.In(2), accel.U32(8), accel.F32(0.5)},
			},
			Inputs:  []accel.Content{content(0, 32, 1), content(1, 32, 2)},
			Outputs: []accel.Content{content(0, 32, 3)},
		}
		if change != nil {
			change(c)
		}
		return c
	}
	copyIn := func(buffer accel.Buffer, offset uint64, data string, digest byte) *accel.Command {
		c := content(0, uint64(len(data)), digest)
		c.Kept = []byte(data)
		return &accel.Command{Op: accel.OpCopyIn, Buffer: buffer, Offset: offset, Inputs: []accel.Content{c}}
	}
	copyOut := func(bytes uint64, digest byte) *accel.Command {
		return &accel.Command{Op: accel.OpCopyOut, Buffer: 1, Outputs: []accel.Content{content(0, bytes, digest)}}
	}
	launched := func(want string, change func(*accel.Command)) difference {
		return difference{saxpy(nil), saxpy(change), want}
	}
	tests := []difference{
		{saxpy(nil), saxpy(nil), ""},
		launched("grid and block", func(c *accel.Command) { c.Launch.Grid[0] = 5 }),
		launched("grid and block", func(c *accel.Command) { c.Launch.Grid[2] = 2 }),
		launched("grid and block", func(c *accel.Command) { c.Launch.Block[1] = 2 }),
		launched("argument 0, y", func(c *accel.Command) { c.Launch.Args[0] = accel.InOut(7) }),
		launched("argument 1, x", func(c *accel.Command) { c.Launch.Args[1] = accel.In(7) }),
		launched("argument 2, n", func(c *accel.Command) { c.Launch.Args[2] = accel.U32(7) }),
		launched("argument 2, n", func(c *accel.Command) { c.Launch.Args[2] = accel.U64(8) }),
		launched("argument 3, a", func(c *accel.Command) { c.Launch.Args[3] = accel.F32(0.75) }),
		launched("input 0, y", func(c *accel.Command) { c.Inputs[0].Digest[31] = 9 }),
		launched("input 1, x", func(c *accel.Command) { c.Inputs[1].Digest[0] = 9 }),
		launched("input 1, x, bytes", func(c *accel.Command) { c.Inputs[1].Bytes = 64 }),
		launched("output 0, y", func(c *accel.Command) { c.Outputs[0].Digest[0] = 9 }),
		launched("output 0, y, bytes", func(c *accel.Command) { c.Outputs[0].Bytes = 64 }),
		launched("number of arguments", func(c *accel.Command) { c.Launch.Args = append(c.Launch.Args, accel.U32(1)) }),
		launched("number of inputs", func(c *accel.Command) {
			c.Launch.Args[1].Mode = accel.ModeU32
			c.Inputs = c.Inputs[:1]
		}),
		launched("number of outputs", func(c *accel.Command) {
			c.Launch.Args[1].Mode = accel.ModeInOut
			c.Outputs = append(c.Outputs, content(1, 32, 4))
		}),
		{copyIn(1, 4, "abcd", 1), copyIn(2, 4, "abcd", 1), "buffer"},
		{copyIn(1, 4, "abcd", 1), copyIn(1, 8, "abcd", 1), "offset"},
		{copyIn(1, 4, "abcd", 1), copyIn(1, 4, "abcdefgh", 1), "input, bytes"},
		{copyIn(1, 4, "abcd", 1), copyIn(1, 4, "abce", 2), "input"},
		{copyOut(4, 1), copyOut(8, 1), "output, bytes"},
		{copyOut(4, 1), copyOut(4, 2), "output"},
		{&accel.Command{Op: accel.OpAlloc, Bytes: 4}, &accel.Command{Op: accel.OpAlloc, Bytes: 8}, "bytes"},
		{&accel.Command{Op: accel.OpSeed, Seed: 4}, &accel.Command{Op: accel.OpSeed, Seed: 8}, "seed"},
	}
	for _, tt := range tests {
		name := tt.recorded.Op.String()
		if tt.recorded.Op == accel.OpLaunch {
			name = tt.recorded.Launch.Kernel
		}
		err := accel.Compare(name, tt.recorded.AppendTo(nil), tt.got.AppendTo(nil))
		var d *accel.Difference
		if errors.As(err, &d) != (tt.want != "") || d == nil && err != nil || d != nil && (d.What != tt.want || d.Want == d.Got) {
			t.Errorf("%s: Compare = %v, want %q", name, err, tt.want)
		}
	}
}

// A difference is two commands and what Compare should name.
type difference struct {
	recorded, got *accel.Command
	want          string
}
