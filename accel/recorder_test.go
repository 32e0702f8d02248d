package accel_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"understudy.dev/accel"
	"understudy.dev/accel/cpu"
	"understudy.dev/harness"
	"understudy.dev/journal"
)

// tape is a harness that keeps records, and fails on demand.
type tape struct {
	records []harness.Entry
	fail    error
}

func (h *tape) DeviceCmd(name string, payload []byte) error {
	return h.add(journal.KindDevice, name, payload)
}

func (h *tape) KernelCmd(kind string, payload []byte) error {
	return h.add(journal.KindKernel, kind, payload)
}

func (h *tape) add(kind journal.Kind, name string, payload []byte) error {
	if h.fail != nil {
		return h.fail
	}
	n := uint64(len(h.records) + 1)
	h.records = append(h.records, harness.Entry{Seq: journal.Seq(n) + 1, Number: n, Kind: kind, Name: name, Data: bytes.Clone(payload)})
	return nil
}

// replay gives the records to a replayer, up to the first error.
func (h *tape) replay(t *testing.T, dev accel.Device, cfg accel.ReplayConfig) (accel.Report, error) {
	t.Helper()
	r, err := accel.NewReplayer(dev, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range h.records {
		if err := r.Apply(t.Context(), &h.records[i]); err != nil {
			return r.Report(), err
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return r.Report(), nil
}

// job is a small program: it fills, multiplies, sums and copies out. meddle runs
// between the launches and may change what the program does not see.
func job(t *testing.T, dev accel.Device, seed uint64, meddle func()) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	alloc := func(n int) accel.Buffer {
		t.Helper()
		b, err := dev.Alloc(4 * n)
		must(err)
		return b
	}
	launch := func(kernel string, args ...accel.Arg) {
		t.Helper()
		must(dev.Launch(&accel.Launch{Kernel: kernel, Args: args}))
	}
	a, b, c, sum := alloc(64), alloc(64), alloc(64), alloc(1)
	must(dev.Seed(seed))
	launch("fill_normal", accel.Out(a), accel.U32(64), accel.U64(1), accel.F32(0), accel.F32(1))
	must(dev.CopyIn(b, 0, words(func(i int) float32 { return float32(i) / 7 }, 64)))
	meddle()
	launch("sgemm", accel.Out(c), accel.In(a), accel.In(b), accel.U32(8), accel.U32(8), accel.U32(8), accel.U32(0), accel.U32(0))
	launch("reduce_sum", accel.Out(sum), accel.In(c), accel.U32(64))
	must(dev.CopyOut(make([]byte, 4), sum, 0))
	must(dev.Free(b))
	must(dev.Free(a))
}

const jobCommands = 13 // with the environment

func words(f func(int) float32, n int) []byte {
	var data []byte
	for i := range n {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(f(i)))
	}
	return data
}

// record runs the job on dev and returns its records.
func record(t *testing.T, dev accel.Device, cfg accel.Config) *tape {
	t.Helper()
	h := &tape{}
	r, err := accel.NewRecorder(dev, h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	job(t, r, 7, func() {})
	return h
}

func TestReplayGivesTheSameBits(t *testing.T) {
	h := record(t, cpu.New(), accel.Config{})
	if len(h.records) != jobCommands {
		t.Fatalf("%d records, want %d", len(h.records), jobCommands)
	}
	// Twice in one journal: the second run begins with its own environment.
	second := record(t, cpu.New(), accel.Config{Keep: -1, CopyBytes: 64})
	h.records = append(h.records, second.records...)
	dev := cpu.New()
	if _, err := dev.Alloc(4); err != nil { // so that the device numbers its buffers otherwise
		t.Fatal(err)
	}
	report, err := h.replay(t, dev, accel.ReplayConfig{})
	if err != nil {
		t.Fatal(err)
	}
	// The copy of 256 bytes is four records in the second run.
	if want := 2*jobCommands + 3; report.Commands != want || report.Launches != 6 {
		t.Errorf("replayed %+v, want %d commands, 6 launches", report, want)
	}
}

// A program whose harness is in replay mode makes the same payloads again.
func TestRecordingTwiceGivesTheSamePayloads(t *testing.T) {
	first, second := record(t, cpu.New(), accel.Config{}), record(t, cpu.New(), accel.Config{})
	for i := range first.records {
		w, g := first.records[i], second.records[i]
		if err := accel.Compare(w.Name, w.Data, g.Data); err != nil || !bytes.Equal(w.Data, g.Data) {
			t.Errorf("record %d, %s: %v", i+1, w.Name, err)
		}
	}
}

func TestFirstDifferenceIsNamed(t *testing.T) {
	tests := []struct {
		name   string
		cfg    accel.Config
		seed   uint64
		flip   accel.Buffer // of the device beneath; 0: none
		number int          // of the record that differs
		want   accel.Difference
	}{
		{
			name: "another seed", seed: 6, number: 6,
			want: accel.Difference{Name: "seed", What: "seed", Element: -1, Want: "7", Got: "6"},
		},
		{
			name: "a bit of a matrix flipped", seed: 7, flip: 2, number: 9,
			want: accel.Difference{Name: "sgemm", What: "output 0, c", Element: 5},
		},
		{
			name: "a bit flipped, contents not kept", cfg: accel.Config{Keep: -1}, seed: 7, flip: 2, number: 9,
			want: accel.Difference{Name: "sgemm", What: "output 0, c", Element: -1},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			first := record(t, cpu.New(), tt.cfg)
			dev, h := cpu.New(), &tape{}
			r, err := accel.NewRecorder(dev, h, tt.cfg)
			if err != nil {
				t.Fatal(err)
			}
			job(t, r, tt.seed, func() {
				if tt.flip != 0 {
					flip(t, dev, tt.flip, 4*5)
				}
			})
			for i := range first.records {
				w, g := first.records[i], h.records[i]
				var d *accel.Difference
				if !errors.As(accel.Compare(w.Name, w.Data, g.Data), &d) {
					continue
				}
				if i+1 != tt.number || d.Name != tt.want.Name || d.What != tt.want.What || d.Element != tt.want.Element {
					t.Errorf("record %d: %v, want record %d: %v", i+1, d, tt.number, &tt.want)
				}
				if tt.want.Want != "" && (d.Want != tt.want.Want || d.Got != tt.want.Got) {
					t.Errorf("recorded %s and got %s, want %s and %s", d.Want, d.Got, tt.want.Want, tt.want.Got)
				}
				return
			}
			t.Fatal("no difference was found")
		})
	}
}

// flip changes the highest bit of a word's fraction behind the recorder's back.
func flip(t *testing.T, dev accel.Device, b accel.Buffer, offset int) {
	t.Helper()
	word := make([]byte, 4)
	if err := dev.CopyOut(word, b, offset); err != nil {
		t.Fatal(err)
	}
	word[2] ^= 0x40
	if err := dev.CopyIn(b, offset, word); err != nil {
		t.Fatal(err)
	}
}

// skewed is a device whose sgemm is off by a factor, like one with another order.
type skewed struct {
	*cpu.Device
	by float32
}

func (d skewed) Launch(l *accel.Launch) error {
	if err := d.Device.Launch(l); err != nil || l.Kernel != "sgemm" {
		return err
	}
	c, n := l.Args[0], l.Args[3].Bits*l.Args[4].Bits
	return d.Device.Launch(&accel.Launch{Kernel: "sgd", Args: []accel.Arg{
		accel.InOut(c.Buffer()), accel.In(d.copy(c.Buffer(), int(n))), accel.U32(uint32(n)), accel.F32(d.by),
	}})
}

func (d skewed) copy(b accel.Buffer, n int) accel.Buffer {
	c, err := d.Alloc(4 * n)
	data := make([]byte, 4*n)
	if err = errors.Join(err, d.CopyOut(data, b, 0), d.CopyIn(c, 0, data)); err != nil {
		panic(err)
	}
	return c
}

func TestReplayOnAnotherDevice(t *testing.T) {
	granted := map[string]accel.Tolerance{"sgemm": {Rel: 1e-4, Reason: "another order of sums"}}
	tests := []struct {
		name      string
		by        float32
		keep      int
		tolerance map[string]accel.Tolerance
		tolerated int
		record    uint64
		want      string
	}{
		{name: "bit for bit", by: 1e-5, record: 9, want: "sgemm, output 0, c, element 0: recorded "},
		{name: "within tolerance, resumed from the record", by: 1e-5, tolerance: granted, tolerated: 1},
		{name: "beyond tolerance", by: 1e-3, tolerance: granted, record: 9, want: "sgemm, output 0, c, element 0"},
		{name: "tolerance without contents", by: 1e-5, keep: -1, tolerance: granted, record: 9, want: "contents not kept"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := record(t, cpu.New(), accel.Config{Keep: tt.keep})
			report, err := h.replay(t, skewed{cpu.New(), tt.by}, accel.ReplayConfig{Tolerance: tt.tolerance})
			if report.Tolerated["sgemm"] != tt.tolerated {
				t.Errorf("tolerated %v, want %d", report.Tolerated, tt.tolerated)
			}
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var d *accel.Difference
			if !errors.As(err, &d) || d.Number != tt.record || d.Seq != journal.Seq(tt.record)+1 || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("replay = %v, want record %d, %s", err, tt.record, tt.want)
			}
		})
	}
	if _, err := accel.NewReplayer(cpu.New(), accel.ReplayConfig{Tolerance: map[string]accel.Tolerance{"sgemm": {Rel: 1}}}); err == nil {
		t.Error("a tolerance without a reason was granted")
	}
}

// elsewhere is a device with another environment.
type elsewhere struct {
	*cpu.Device
	env accel.Environment
}

func (d elsewhere) Environment() accel.Environment { return d.env }

func TestEnvironmentPin(t *testing.T) {
	h := record(t, cpu.New(), accel.Config{})
	tests := []struct {
		name   string
		change func(*accel.Environment)
		accept map[string]string
		field  string
	}{
		{name: "another host", change: func(e *accel.Environment) { e.Host = "go1.99" }},
		{name: "another driver", change: func(e *accel.Environment) { e.Driver = "535.1" }, field: "driver"},
		{name: "another driver, accepted", change: func(e *accel.Environment) { e.Driver = "535.1" }, accept: map[string]string{"driver": "same rules"}},
		{name: "another sgemm", change: func(e *accel.Environment) { e.Kernels["sgemm"] = "x" }, field: "kernel sgemm"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := cpu.New().Environment()
			tt.change(&env)
			report, err := h.replay(t, elsewhere{cpu.New(), env}, accel.ReplayConfig{Accept: tt.accept})
			var pin *accel.PinError
			if tt.field == "" {
				if err != nil {
					t.Error(err)
				}
			} else if !errors.As(err, &pin) || pin.Field != tt.field || report.Commands != 0 {
				t.Errorf("replay = %v after %d commands, want a refusal for %s", err, report.Commands, tt.field)
			}
		})
	}
	if _, err := accel.NewReplayer(cpu.New(), accel.ReplayConfig{Accept: map[string]string{"driver": " "}}); err == nil {
		t.Error("a pin was waived without a reason")
	}
	h.records = h.records[1:]
	if _, err := h.replay(t, cpu.New(), accel.ReplayConfig{}); !errors.Is(err, accel.ErrNoEnvironment) {
		t.Errorf("replay without environment = %v, want %v", err, accel.ErrNoEnvironment)
	}
}

func TestHarnessErrorReachesTheProgram(t *testing.T) {
	h := &tape{}
	r, err := accel.NewRecorder(cpu.New(), h, accel.Config{})
	if err != nil {
		t.Fatal(err)
	}
	h.fail = errors.New("fenced")
	if _, err := r.Alloc(4); !errors.Is(err, h.fail) {
		t.Errorf("Alloc = %v, want %v", err, h.fail)
	}
	if _, err := accel.NewRecorder(cpu.New(), h, accel.Config{}); !errors.Is(err, h.fail) {
		t.Errorf("NewRecorder = %v, want %v", err, h.fail)
	}
}

// What the device refuses is not recorded, and replays without it.
func TestRefusedCommandIsNotRecorded(t *testing.T) {
	h := &tape{}
	r, err := accel.NewRecorder(cpu.New(), h, accel.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Alloc(-1); !errors.Is(err, accel.ErrBounds) {
		t.Errorf("Alloc = %v, want %v", err, accel.ErrBounds)
	}
	if err := r.Free(3); !errors.Is(err, accel.ErrBuffer) {
		t.Errorf("Free = %v, want %v", err, accel.ErrBuffer)
	}
	if len(h.records) != 1 {
		t.Errorf("%d records, want the environment alone", len(h.records))
	}
}

// The digest of an input is that of what the buffer holds, however it came there.
func TestInputDigestAfterCopies(t *testing.T) {
	whole := words(func(i int) float32 { return float32(i + 1) }, 4)
	part := words(func(int) float32 { return 9 }, 1)
	both := slices.Concat(whole[:4], part, whole[8:])
	const n = 4
	tests := []struct {
		name string
		cfg  accel.Config
		do   func(r *accel.Recorder, x, y accel.Buffer) error
		want []byte
	}{
		{name: "nothing copied", do: func(*accel.Recorder, accel.Buffer, accel.Buffer) error { return nil }, want: make([]byte, 4*n)},
		{name: "all of it", do: func(r *accel.Recorder, x, _ accel.Buffer) error { return r.CopyIn(x, 0, whole) }, want: whole},
		{name: "all, then a part", do: func(r *accel.Recorder, x, _ accel.Buffer) error {
			return errors.Join(r.CopyIn(x, 0, whole), r.CopyIn(x, 4, part))
		}, want: both},
		{name: "a part, then all", do: func(r *accel.Recorder, x, _ accel.Buffer) error {
			return errors.Join(r.CopyIn(x, 4, part), r.CopyIn(x, 0, whole))
		}, want: whole},
		{name: "all in two records", cfg: accel.Config{CopyBytes: 8}, do: func(r *accel.Recorder, x, _ accel.Buffer) error {
			return r.CopyIn(x, 0, whole)
		}, want: whole},
		{name: "written by a kernel, then a part", do: func(r *accel.Recorder, x, y accel.Buffer) error {
			return errors.Join(r.CopyIn(y, 0, whole), r.Launch(&accel.Launch{Kernel: "relu", Args: []accel.Arg{accel.Out(x), accel.In(y), accel.U32(n)}}),
				r.CopyIn(x, 4, part))
		}, want: both},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := &tape{}
			r, err := accel.NewRecorder(cpu.New(), h, tt.cfg)
			if err != nil {
				t.Fatal(err)
			}
			x, err1 := r.Alloc(4 * n)
			y, err2 := r.Alloc(4 * n)
			err = errors.Join(err1, err2, tt.do(r, x, y), r.Launch(&accel.Launch{Kernel: "relu", Args: []accel.Arg{accel.Out(y), accel.In(x), accel.U32(n)}}))
			if err != nil {
				t.Fatal(err)
			}
			last := h.records[len(h.records)-1]
			c, err := accel.Decode(last.Name, last.Data)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := c.Inputs[0].Digest, sha256.Sum256(tt.want); got != want {
				t.Errorf("the input's digest is %x, want %x", got, want)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	h := &tape{}
	r, err := accel.NewRecorder(cpu.New(), h, accel.Config{})
	if err != nil {
		f.Fatal(err)
	}
	b, err := r.Alloc(8)
	if err = errors.Join(err, r.Seed(3), r.CopyIn(b, 4, make([]byte, 4)), r.Launch(&accel.Launch{Kernel: "relu", Args: []accel.Arg{
		accel.Out(b), accel.In(mustAlloc(f, r)), accel.U32(1),
	}}), r.Free(b)); err != nil {
		f.Fatal(err)
	}
	for _, rec := range h.records {
		f.Add(rec.Name, rec.Data)
	}
	f.Fuzz(func(t *testing.T, name string, payload []byte) {
		c, err := accel.Decode(name, payload)
		if err != nil {
			return
		}
		if again := c.AppendTo(nil); !bytes.Equal(again, payload) {
			t.Errorf("%q decodes and encodes to %x, was %x", name, again, payload)
		}
	})
}

func mustAlloc(f *testing.F, dev accel.Device) accel.Buffer {
	b, err := dev.Alloc(8)
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// silent takes everything and keeps nothing.
type silent struct{}

func (silent) DeviceCmd(string, []byte) error { return nil }
func (silent) KernelCmd(string, []byte) error { return nil }

func BenchmarkRecord(b *testing.B) {
	r, err := accel.NewRecorder(cpu.New(), silent{}, accel.Config{})
	if err != nil {
		b.Fatal(err)
	}
	x, err1 := r.Alloc(4096)
	y, err2 := r.Alloc(4096)
	if err := errors.Join(err1, err2); err != nil {
		b.Fatal(err)
	}
	launch := &accel.Launch{Kernel: "relu", Args: []accel.Arg{accel.Out(y), accel.In(x), accel.U32(1024)}}
	b.Run("seed", func(b *testing.B) {
		for b.Loop() {
			_ = r.Seed(1)
		}
	})
	b.Run("launch", func(b *testing.B) {
		for b.Loop() {
			_ = r.Launch(launch)
		}
	})
}
