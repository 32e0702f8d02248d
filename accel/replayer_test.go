package accel_test

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"

	"understudy.dev/accel"
	"understudy.dev/accel/cpu"
	"understudy.dev/harness"
	"understudy.dev/journal"
)

// An exception for what the device does not have would silently never be made use of.
func TestExceptionsThatFitNothingAreRefused(t *testing.T) {
	fine := accel.Tolerance{Rel: 1e-4, Reason: "another order of sums"}
	tests := []struct {
		name string
		cfg  accel.ReplayConfig
		want []string // nothing: accepted
	}{
		{name: "none"},
		{name: "what there is", cfg: accel.ReplayConfig{
			Accept:    map[string]string{"device": "x", "driver": "x", "library": "x", "kernel sgemm": "x"},
			Tolerance: map[string]accel.Tolerance{"sgemm": fine},
		}},
		{name: "a kernel misspelt", cfg: accel.ReplayConfig{Tolerance: map[string]accel.Tolerance{"sgem": fine}}, want: []string{`tolerance of "sgem"`}},
		{name: "a field misspelt", cfg: accel.ReplayConfig{Accept: map[string]string{"drivers": "x"}}, want: []string{`accept "drivers"`}},
		{name: "a kernel without its word", cfg: accel.ReplayConfig{Accept: map[string]string{"sgemm": "x"}}, want: []string{`accept "sgemm"`}},
		{
			name: "all faults together",
			cfg: accel.ReplayConfig{
				Accept: map[string]string{"kernel sgem": "x"}, Tolerance: map[string]accel.Tolerance{"relux": fine, "sgemm": {Rel: 1}},
			},
			want: []string{`accept "kernel sgem"`, `tolerance of "relux"`, `tolerance of sgemm`},
		},
	}
	for _, tt := range tests {
		_, err := accel.NewReplayer(cpu.New(), tt.cfg)
		if (err == nil) != (tt.want == nil) {
			t.Errorf("%s: NewReplayer = %v", tt.name, err)
		}
		for _, part := range tt.want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: NewReplayer = %v, want %s named", tt.name, err, part)
			}
		}
	}
}

// A replay of a path on which nothing was recorded is none, and says which there are.
func TestReplayOfNothing(t *testing.T) {
	seeds := &tape{}
	if err := seeds.add(journal.KindSeed, "", make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		tape *tape
		path string
		want string // "" is no error
	}{
		{name: "the program itself", tape: record(t, cpu.New(), accel.Config{})},
		{name: "a path that there is not", tape: record(t, cpu.New(), accel.Config{}), path: "nope", want: `on path "nope"; there are some on ""`},
		{name: "no device at all", tape: seeds, want: `on path ""; there is none on another path either`},
		{name: "no record", tape: &tape{}},
	}
	for _, tt := range tests {
		r, err := accel.NewReplayer(cpu.New(), accel.ReplayConfig{Path: tt.path})
		if err != nil {
			t.Fatal(err)
		}
		for i := range tt.tape.records {
			if err := r.Apply(t.Context(), &tt.tape.records[i]); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
		}
		err = r.Close()
		if errors.Is(err, accel.ErrNothing) != (tt.want != "") || tt.want != "" && !strings.Contains(err.Error(), tt.want) || tt.want == "" && err != nil {
			t.Errorf("%s: Close = %v, want %q", tt.name, err, tt.want)
		}
	}
}

// What stopped a replay is its error, and not that there was nothing.
func TestCloseAfterAFailedReplay(t *testing.T) {
	h := record(t, cpu.New(), accel.Config{})
	r, err := accel.NewReplayer(cpu.New(), accel.ReplayConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Apply(t.Context(), &h.records[1]); !errors.Is(err, accel.ErrNoEnvironment) {
		t.Fatalf("Apply = %v, want %v", err, accel.ErrNoEnvironment)
	}
	if err := r.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
}

// counting counts what is allocated on a device.
type counting struct {
	*cpu.Device
	live, most int
}

func (d *counting) Alloc(n int) (accel.Buffer, error) {
	d.live++
	d.most = max(d.most, d.live)
	return d.Device.Alloc(n)
}

func (d *counting) Free(b accel.Buffer) error {
	d.live--
	return d.Device.Free(b)
}

// What a run left allocated is freed before the next one begins, and at the end.
func TestEachRunBeginsOnAnEmptyDevice(t *testing.T) {
	h := record(t, cpu.New(), accel.Config{})
	h.records = append(h.records, h.records...)
	dev := &counting{Device: cpu.New()}
	report, err := h.replay(t, dev, accel.ReplayConfig{})
	if err != nil || report.Commands != 2*jobCommands {
		t.Fatalf("replay = %+v, %v", report, err)
	}
	const buffers = 4 // of the job, of which it leaves two
	if dev.most != buffers || dev.live != 0 {
		t.Errorf("%d buffers at once and %d at the end, want %d and 0", dev.most, dev.live, buffers)
	}
}

// forging is a device that has other bits in the first word of what a kernel wrote.
type forging struct {
	*cpu.Device
	kernel string
	bits   uint32
}

func (d forging) Launch(l *accel.Launch) error {
	if err := d.Device.Launch(l); err != nil || l.Kernel != d.kernel {
		return err
	}
	return d.CopyIn(l.Args[0].Buffer(), 0, binary.LittleEndian.AppendUint32(nil, d.bits))
}

// launched records a launch of relu or of gather on a device whose result is forged.
func launched(t *testing.T, kernel string, bits uint32) *tape {
	t.Helper()
	h := &tape{}
	r, err := accel.NewRecorder(forging{cpu.New(), kernel, bits}, h, accel.Config{})
	if err != nil {
		t.Fatal(err)
	}
	out, err1 := r.Alloc(16)
	x, err2 := r.Alloc(16)
	index, err3 := r.Alloc(4)
	args := []accel.Arg{accel.Out(out), accel.In(x), accel.U32(4)}
	if kernel == "gather" {
		args = []accel.Arg{accel.Out(out), accel.In(x), accel.In(index), accel.U32(1), accel.U32(1), accel.U32(4)}
	}
	if err := errors.Join(err1, err2, err3, r.Launch(&accel.Launch{Kernel: kernel, Args: args})); err != nil {
		t.Fatal(err)
	}
	return h
}

// A tolerance is for numbers that are near each other: an infinity is near nothing but
// itself, a NaN is another NaN's like, and words that are no numbers have to be equal.
func TestWhatIsWithinATolerance(t *testing.T) {
	inf, less := float32(math.Inf(1)), float32(math.Inf(-1))
	const nan, otherNaN = 0x7fc00000, 0xffc00001
	tests := []struct {
		name      string
		kernel    string
		want, got uint32
		passes    bool
	}{
		{"near", "relu", math.Float32bits(1), math.Float32bits(1.25), true},
		{"at the edge", "relu", math.Float32bits(1), math.Float32bits(1.5), true},
		{"too far", "relu", math.Float32bits(1), math.Float32bits(1.75), false},
		{"an infinity recorded", "relu", math.Float32bits(inf), math.Float32bits(1), false},
		{"the other infinity", "relu", math.Float32bits(inf), math.Float32bits(less), false},
		{"an infinity now", "relu", math.Float32bits(1), math.Float32bits(inf), false},
		{"a NaN recorded", "relu", nan, math.Float32bits(1), false},
		{"a NaN now", "relu", math.Float32bits(1), nan, false},
		{"a NaN for a NaN", "relu", nan, otherNaN, true},
		{"words that are no numbers", "gather", math.Float32bits(1), math.Float32bits(1.25), false},
	}
	for _, tt := range tests {
		h := launched(t, tt.kernel, tt.want)
		report, err := h.replay(t, forging{cpu.New(), tt.kernel, tt.got}, accel.ReplayConfig{
			Tolerance: map[string]accel.Tolerance{tt.kernel: {Abs: 0.25, Rel: 0.25, Reason: "to see what passes"}},
		})
		var d *accel.Difference
		if tt.passes != (err == nil) || err != nil && !errors.As(err, &d) || tt.passes != (report.Tolerated[tt.kernel] == 1) {
			t.Errorf("%s: replay = %v, tolerated %v, want it to pass: %v", tt.name, err, report.Tolerated, tt.passes)
		}
	}
}

var _ harness.Sink = (*accel.Replayer)(nil)
