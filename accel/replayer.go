package accel

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"understudy.dev/harness"
	"understudy.dev/journal"
)

// A Tolerance says how far the float32 outputs of a kernel may be from the record,
// and why. An element passes if |got - want| <= Abs + Rel*|want|; a NaN passes for
// a NaN only.
type Tolerance struct {
	Abs, Rel float64
	Reason   string
}

// ReplayConfig says whose commands are executed and grants exceptions; the zero
// one means the program itself, and grants none.
type ReplayConfig struct {
	// Path is the actor whose commands are executed; those of others are ignored.
	// If there were only those, Close fails with ErrNothing.
	Path string
	// Accept holds a reason for each pinned field that may differ: "device",
	// "driver", "library" or "kernel NAME" of a kernel that the device has.
	Accept map[string]string
	// Tolerance is by kernel of the device. After a difference within it, the recorded contents
	// are copied onto the device, so that errors do not add up and what follows is
	// compared on the same inputs.
	Tolerance map[string]Tolerance
}

// A Replayer does recorded commands on a device and compares what they give. Its
// Apply makes it a harness.Sink: one record at a time, for one goroutine.
type Replayer struct {
	dev  Device
	cfg  ReplayConfig
	rec  *Recorder // numbers buffers and computes digests as the recorded one did
	want *Command  // what the command at hand gave then
	diff *Difference
	done Report

	failed bool            // Apply told an error
	given  int             // records of any kind and path
	others map[string]bool // paths of the commands that were passed over, at most shownPaths
}

// shownPaths is how many paths ErrNothing names.
const shownPaths = 5

// A Report is what a Replayer has done so far.
type Report struct {
	Commands  int // launches included
	Launches  int
	Tolerated map[string]int // outputs that differed within tolerance, by kernel
}

// NewReplayer returns a replayer on dev. It fails if an exception has no reason, or
// is for something that dev does not have: a misspelt one would never be made use of.
func NewReplayer(dev Device, cfg ReplayConfig) (*Replayer, error) {
	r := &Replayer{dev: dev, cfg: cfg, done: Report{Tolerated: make(map[string]int)}, others: make(map[string]bool)}
	return r, cfg.check(dev.Environment().Pin())
}

// check tells all faults together, in the order of names.
func (cfg *ReplayConfig) check(pin map[string]string) error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	for _, field := range slices.Sorted(maps.Keys(cfg.Accept)) {
		_, known := pin[field]
		fault(!known, "accept %q: the device has no such field: want device, driver, library or kernel NAME", field)
		fault(strings.TrimSpace(cfg.Accept[field]) == "", "accept %s: no reason given", field)
	}
	for _, kernel := range slices.Sorted(maps.Keys(cfg.Tolerance)) {
		t := cfg.Tolerance[kernel]
		_, known := pin["kernel "+kernel]
		fault(!known, "tolerance of %q: the device has no such kernel", kernel)
		fault(strings.TrimSpace(t.Reason) == "" || !(t.Abs >= 0 && t.Rel >= 0),
			"tolerance of %s: absolute %g, relative %g, reason %q", kernel, t.Abs, t.Rel, t.Reason)
	}
	return errors.Join(faults...)
}

// Report returns what was done so far.
func (r *Replayer) Report() Report {
	done := r.done
	done.Tolerated = maps.Clone(done.Tolerated)
	return done
}

// Apply does the command of a device or kernel record and compares; other kinds
// are ignored. It returns a *Difference, a *PinError or the device's error, each
// with the record's number. An environment record begins a new run: what the run
// before left allocated is freed.
func (r *Replayer) Apply(ctx context.Context, e *harness.Entry) error {
	err := r.apply(ctx, e)
	r.failed = r.failed || err != nil
	return err
}

func (r *Replayer) apply(ctx context.Context, e *harness.Entry) error {
	r.given++
	if e.Kind != journal.KindDevice && e.Kind != journal.KindKernel {
		return nil
	}
	if e.Path != r.cfg.Path {
		if len(r.others) < shownPaths {
			r.others[e.Path] = true
		}
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := Decode(e.Name, e.Data)
	if err == nil {
		err = r.do(c)
	}
	if r.diff != nil {
		r.diff.Number, r.diff.Seq = e.Number, e.Seq
		return r.diff
	}
	if err != nil {
		return fmt.Errorf("replay record %d, seq %d, %s: %w", e.Number, e.Seq, e.Name, err)
	}
	r.done.Commands++
	if c.Op == OpLaunch {
		r.done.Launches++
	}
	return nil
}

// ErrNoEnvironment: a command came before any environment.
var ErrNoEnvironment = errors.New("accel: no environment recorded before the first command")

func (r *Replayer) do(c *Command) error {
	if c.Op == OpEnvironment {
		return r.begin(c.Env)
	}
	if r.rec == nil {
		return ErrNoEnvironment
	}
	r.want = c
	switch c.Op {
	case OpAlloc:
		_, err := r.rec.Alloc(int(c.Bytes))
		return err
	case OpFree:
		return r.rec.Free(c.Buffer)
	case OpCopyIn:
		return r.rec.CopyIn(c.Buffer, int(c.Offset), c.Inputs[0].Kept)
	case OpCopyOut:
		m, err := r.rec.find(c.Buffer)
		if err != nil {
			return err
		}
		if c.Outputs[0].Bytes > uint64(m.bytes) { // before room is made for it
			return fmt.Errorf("%d bytes of a buffer of %d: %w", c.Outputs[0].Bytes, m.bytes, ErrBounds)
		}
		return r.rec.CopyOut(make([]byte, c.Outputs[0].Bytes), c.Buffer, int(c.Offset))
	case OpSeed:
		return r.rec.Seed(c.Seed)
	default:
		return r.launch(c)
	}
}

// begin starts a run on an empty device, if it is the recorded one.
func (r *Replayer) begin(recorded Environment) error {
	if err := recorded.Check(r.dev.Environment(), r.cfg.Accept); err != nil {
		return err
	}
	if err := r.free(); err != nil {
		return err
	}
	r.rec = newRecorder(r.dev, r.compare, keepAll, keepAll)
	return nil
}

// launch runs a kernel whose identity was compared when the run began.
func (r *Replayer) launch(c *Command) error {
	return r.rec.Launch(&c.Launch)
}

// compare is the recorder's emit: what the command gave now against then.
func (r *Replayer) compare(got *Command) error {
	tol, granted := r.cfg.Tolerance[got.Launch.Kernel]
	if !granted || got.Op != OpLaunch {
		r.diff = difference(r.want, got)
		return r.stop()
	}
	r.diff = givenDifference(r.want, got)
	for i := 0; r.diff == nil && i < len(got.Outputs); i++ {
		r.diff = r.tolerate(&r.want.Outputs[i], &got.Outputs[i], tol, got)
	}
	return r.stop()
}

// stop turns a difference found into the error that ends the command.
func (r *Replayer) stop() error {
	if r.diff != nil {
		return r.diff
	}
	return nil
}

// tolerate compares one output within a tolerance, and copies the recorded
// contents onto the device if it was made use of.
func (r *Replayer) tolerate(want, got *Content, tol Tolerance, c *Command) *Difference {
	if want.Digest == got.Digest {
		return nil
	}
	param := paramOf(c, got.Arg)
	if len(want.Kept) == 0 || !param.Float || firstBeyond(want.Kept, got.Kept, tol) >= 0 {
		return outputDifference(want, got, c, tol)
	}
	m := r.rec.memory[c.Launch.Args[got.Arg].Buffer()]
	if err := r.dev.CopyIn(m.inner, 0, want.Kept); err != nil {
		return &Difference{Name: c.Launch.Kernel, What: "copying the recorded " + param.Name, Want: "done", Got: err.Error(), Element: -1}
	}
	m.digest = want.Digest
	r.done.Tolerated[c.Launch.Kernel]++
	return nil
}

// ErrNothing: not one command of the path was replayed.
var ErrNothing = errors.New("accel: nothing was replayed")

// Close ends the replay and frees what the run left allocated. It fails with
// ErrNothing if records came and no command of the path was among them.
func (r *Replayer) Close() error {
	err := r.free()
	if r.given == 0 || r.done.Commands > 0 || r.failed {
		return err
	}
	paths := slices.Sorted(maps.Keys(r.others))
	for i := range paths {
		paths[i] = strconv.Quote(paths[i])
	}
	where := "there is none on another path either"
	if len(paths) > 0 {
		where = "there are some on " + strings.Join(paths, ", ")
	}
	return errors.Join(err, fmt.Errorf("%w: %d records and no command of a device on path %q; %s", ErrNothing, r.given, r.cfg.Path, where))
}

// free frees what a run left allocated.
func (r *Replayer) free() error {
	if r.rec == nil {
		return nil
	}
	var faults []error
	for _, b := range slices.Sorted(maps.Keys(r.rec.memory)) {
		faults = append(faults, r.dev.Free(r.rec.memory[b].inner))
	}
	r.rec = nil
	return errors.Join(faults...)
}
