package cli

import (
	"encoding/binary"
	"fmt"
	"strings"

	"understudy.dev/accel"
	"understudy.dev/accel/trace"
	"understudy.dev/harness"
	"understudy.dev/journal"
	"understudy.dev/machine"
)

// payloadWords puts the data of a record into words: of an epoch's start, of a
// command that accel recorded, of a trace's, which is JSON, of a seed and of a
// batch size. It returns "" for any other.
func payloadWords(kind journal.Kind, name string, data []byte) string {
	switch kind {
	case journal.KindEpochStart:
		if t, err := machine.ParseTenure(data); err == nil {
			return tenureWords(&t)
		}
	case journal.KindDevice, journal.KindKernel:
		if c, err := accel.Decode(name, data); err == nil {
			return commandWords(c)
		}
		if _, err := trace.Decode(data); err == nil {
			return string(data)
		}
	case journal.KindSeed, journal.KindBatchSize:
		if len(data) == 8 {
			return fmt.Sprint(binary.LittleEndian.Uint64(data))
		}
	}
	return ""
}

// recordWords puts the data of a record as it is in the journal into words: by the
// machine's own function, or payloadWords, where the name of a harness's version 1
// begins with the actor's path (docs/HARNESS.md).
func (e *Env) recordWords(r *journal.Record) string {
	name := r.Name
	if r.Kind == journal.KindCommand && e.App.Show != nil {
		return e.App.Show(name, r.Version, r.Data)
	}
	if _, after, ok := strings.Cut(name, ": "); ok && r.Version == 1 {
		name = after
	}
	words := payloadWords(r.Kind, name, r.Data)
	if r.Kind == journal.KindEpochStart && words != "" {
		return fmt.Sprintf("epoch %d: %s", r.Epoch, words)
	}
	return words
}

// entryWords describes an entry without number and path.
func entryWords(en *harness.Entry) string {
	switch en.Kind {
	case journal.KindDevice, journal.KindKernel, journal.KindEpochStart:
		if s := payloadWords(en.Kind, en.Name, en.Data); s != "" {
			return fmt.Sprintf("%v %s %s", en.Kind, en.Name, s)
		}
	}
	return en.What()
}

// tenureWords is "b leads by promote, asked by ana@ops1 because of "drill", …".
func tenureWords(t *machine.Tenure) string {
	s := t.Node + " leads by " + t.How
	add := func(format string, value any, given bool) {
		if given {
			s += ", " + fmt.Sprintf(format, value)
		}
	}
	add("asked by %s", t.Actor, t.Actor != "")
	add("reason %q", t.Reason, t.Reason != "")
	add("accepted %s", strings.Join(t.Accepted, " "), len(t.Accepted) > 0)
	add("operation %s", t.Operation, t.Operation != "")
	s += fmt.Sprintf(", machine %s version %d", t.Machine, t.Version)
	add("clients %s", t.Client, t.Client != "")
	add("admin %s", t.Admin, t.Admin != "")
	env := &t.Environment
	s += fmt.Sprintf(", %s %s/%s", env.Go, env.OS, env.Arch)
	add("%s", env.Level, env.Level != "")
	return s
}

func commandWords(c *accel.Command) string {
	switch c.Op {
	case accel.OpEnvironment:
		return fmt.Sprintf("device %q, driver %q, library %q, %s", c.Env.Device, c.Env.Driver, c.Env.Library, counted(len(c.Env.Kernels), "kernel"))
	case accel.OpAlloc:
		return fmt.Sprintf("buffer %d, %s", c.Buffer, counted(c.Bytes, "byte"))
	case accel.OpFree:
		return fmt.Sprintf("buffer %d", c.Buffer)
	case accel.OpCopyIn:
		return fmt.Sprintf("buffer %d at %d, %s", c.Buffer, c.Offset, contentWords(&c.Inputs[0]))
	case accel.OpCopyOut:
		return fmt.Sprintf("buffer %d at %d, %s", c.Buffer, c.Offset, contentWords(&c.Outputs[0]))
	case accel.OpSeed:
		return fmt.Sprint(c.Seed)
	}
	return launchWords(c)
}

// launchWords is "(in 1, out 2, f32 0.5), read 0: 256 bytes 90ab…, wrote 1: 256 bytes 12cd…".
func launchWords(c *accel.Command) string {
	args := make([]string, len(c.Launch.Args))
	for i, a := range c.Launch.Args {
		if a.Mode == accel.ModeF32 {
			args[i] = fmt.Sprintf("f32 %v", a.Float())
		} else {
			args[i] = fmt.Sprintf("%v %d", a.Mode, a.Bits)
		}
	}
	s := "(" + strings.Join(args, ", ") + ")"
	if c.Launch.Grid != [3]uint32{} || c.Launch.Block != [3]uint32{} {
		s += fmt.Sprintf(" grid %v block %v", c.Launch.Grid, c.Launch.Block)
	}
	for i := range c.Inputs {
		s += fmt.Sprintf(", read %d: %s", c.Inputs[i].Arg, contentWords(&c.Inputs[i]))
	}
	for i := range c.Outputs {
		s += fmt.Sprintf(", wrote %d: %s", c.Outputs[i].Arg, contentWords(&c.Outputs[i]))
	}
	return s
}

func contentWords(c *accel.Content) string {
	return fmt.Sprintf("%s %x…", counted(c.Bytes, "byte"), c.Digest[:4])
}
