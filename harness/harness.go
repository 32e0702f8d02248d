package harness

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"understudy.dev/journal"
	"understudy.dev/journal/memjournal"
)

// Mode says what a call does.
type Mode uint8

// The modes.
const (
	Off    Mode = iota // nothing; inputs are what the caller brings
	Record             // journals the call
	Replay             // compares the call with the record; inputs come from there
)

// String returns "off", "record" or "replay".
func (m Mode) String() string { return [...]string{"off", "record", "replay"}[m] }

// ParseMode is the inverse of String.
func ParseMode(s string) (Mode, error) {
	for m := Off; m <= Replay; m++ {
		if m.String() == s {
			return m, nil
		}
	}
	return 0, fmt.Errorf("unknown mode %q, want off, record or replay", s)
}

// A Config says how a Harness works. The zero value is a harness that is off.
type Config struct {
	Mode Mode

	// Name is who records, in the journal and in the error of a recorder that was
	// fenced. Default "harness".
	Name string

	// Async makes calls return before their records are stored. The first failure
	// is then returned by every later call, by Flush and by Close.
	Async bool

	// Linger is how long an asynchronous entry waits for others to share an
	// append with. Default 1 ms.
	Linger time.Duration

	// Timeout bounds one append, which includes resolving an unknown outcome, and
	// one wait for the journal in replay. Default 30 s.
	Timeout time.Duration

	// Pin is what else the results depend on, such as a driver's version: it is
	// recorded at the start of each run. In replay the keys that both sides have
	// must agree, or the replay is refused with a *PinError.
	Pin map[string]string

	// SameNumerics makes Replay refuse, with a *PinError, a run whose floating point
	// results may differ bit for bit from this build's: another GOARCH, another
	// level such as GOAMD64, or another Go. See journal.Environment.
	SameNumerics bool

	// Part is the part of the numbers that Replay compares with. Default all, which
	// are those of all runs: Runs tells which belong to one.
	Part Range

	// Strict makes Replay ask for the total order of the record rather than for
	// the order on each path.
	Strict bool

	// MaxAhead is how many entries of other paths Replay holds in memory while it
	// looks for the next one of the path that is asked for. Beyond that the replay
	// ends with ErrTooFarApart. Default [DefaultMaxAhead].
	MaxAhead int

	// Writer says how failed appends are resolved.
	Writer journal.WriterConfig
}

func (c *Config) setDefaults() {
	if c.Name == "" {
		c.Name = "harness"
	}
	if c.Linger == 0 {
		c.Linger = time.Millisecond
	}
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	if c.MaxAhead == 0 {
		c.MaxAhead = DefaultMaxAhead
	}
	c.Pin = maps.Clone(c.Pin)
}

func (c *Config) validate() error {
	var faults []error
	if c.Mode > Replay {
		faults = append(faults, fmt.Errorf("mode %d", c.Mode))
	}
	if len(c.Name) > maxRecorder {
		faults = append(faults, fmt.Errorf("name of %d bytes, at most %d", len(c.Name), maxRecorder))
	}
	if !utf8.ValidString(c.Name) { // it would be changed in the record of a start
		faults = append(faults, fmt.Errorf("%w: name %q", ErrName, c.Name))
	}
	for key, value := range c.Pin {
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			faults = append(faults, fmt.Errorf("%w: pin %q: %q", ErrName, key, value))
		}
	}
	if c.Linger < 0 || c.Timeout < 0 {
		faults = append(faults, fmt.Errorf("linger %v, timeout %v: negative", c.Linger, c.Timeout))
	}
	if c.MaxAhead < 0 {
		faults = append(faults, fmt.Errorf("at most %d entries ahead: negative", c.MaxAhead))
	}
	if err := c.Part.check(); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// maxRecorder leaves room in an owner's name for "/" and 26 characters that make
// it unique.
const maxRecorder = journal.MaxOwner - 27

// ErrNotPersistent: the harness was made without a journal, so there is nothing
// to load from an earlier process.
var ErrNotPersistent = errors.New("harness: no persistent journal")

// ErrNothing: no entry is recorded in the part that was to be replayed or
// compared, so that agreeing with it would mean nothing.
var ErrNothing = errors.New("harness: nothing recorded there")

// A Harness records what a program does, or compares it with the record. Its
// methods may be called concurrently.
type Harness struct {
	j      journal.Journal
	own    bool // j is in memory and nobody else's
	cfg    Config
	owner  string
	root   Actor
	state  atomic.Pointer[state] // nil when off
	moving sync.Mutex            // held while the mode changes

	// Guarded by moving.
	closed  bool
	begun   journal.Time    // start of the run; 0 before the first tenure
	first   uint64          // its first number
	tenures []journal.Epoch // in which it recorded
}

// A state is what calls work on in a mode other than Off.
type state struct {
	rec *recorder // of Record
	cmp *comparer // of Replay

	// Of neither:
	err    error // why calls fail
	failed bool  // a change of mode did; otherwise the harness is closed
}

// New makes a harness on j, the journal of one persistence id, in cfg.Mode. The
// caller closes j after the harness. A nil j is a journal in memory.
//
// In Record it reads j to its end, shuts out whoever recorded there, and goes on
// after the highest number found. A journal of a machine is refused with
// ErrForeign, untouched.
//
// In Replay a journal without entries is refused with ErrNothing, and so is a
// Config.Part that begins after the last one, which is ErrPastEnd too.
func New(ctx context.Context, j journal.Journal, cfg Config) (*Harness, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("harness: %w", err)
	}
	h := &Harness{j: j, cfg: cfg, owner: cfg.Name + "/" + rand.Text()}
	h.root.h = h
	if j == nil {
		if cfg.Mode == Replay {
			return nil, fmt.Errorf("harness: replay: %w", ErrNotPersistent)
		}
		h.j, h.own = memjournal.New(), true
	}
	s, err := h.enter(ctx, cfg.Mode, nil)
	if err != nil {
		return nil, fmt.Errorf("harness: %v: %w", cfg.Mode, err)
	}
	h.state.Store(s)
	return h, nil
}

// Mode returns the present mode: Off too after a change that failed, and after
// Close.
func (h *Harness) Mode() Mode {
	switch s := h.state.Load(); {
	case s == nil:
		return Off
	case s.rec != nil:
		return Record
	case s.cmp != nil:
		return Replay
	}
	return Off
}

// SetMode changes the mode. Leaving Record flushes and ends the tenure with a
// record of the change; entering it opens a new tenure, whose first batch says
// so. A change between Off and Replay has no writer and is not recorded. Replay
// starts at the first number of Config.Part; leaving it does not ask whether the
// program did everything: Finish does. Calls at the same time are recorded or
// compared in the old mode, or wait for the new one.
//
// If a change fails, neither mode is on: until a later SetMode succeeds every call
// that Off would let pass, Flush, Finish and Close fail with its error, which says
// what is lost if leaving Record failed.
func (h *Harness) SetMode(ctx context.Context, m Mode) error {
	if m > Replay {
		return fmt.Errorf("harness: mode %d", m)
	}
	h.moving.Lock()
	defer h.moving.Unlock()
	if h.closed {
		return fmt.Errorf("harness: change mode: %w", journal.ErrClosed)
	}
	from := h.Mode()
	if from == m && h.failed() == nil {
		return nil
	}
	s, err := h.change(ctx, from, m)
	if err != nil {
		err = fmt.Errorf("from %v to %v: %w", from, m, err)
		h.state.Store(&state{err: err, failed: true})
		return fmt.Errorf("harness: %w", err)
	}
	h.state.Store(s)
	return nil
}

// change leaves one mode and enters another. The old state stays in place until
// the new one is there: its calls get errMoved and wait, and none passes as if the
// mode were Off.
func (h *Harness) change(ctx context.Context, from, to Mode) (*state, error) {
	if err := h.exit(Change{To: to.String()}); err != nil {
		return nil, err
	}
	return h.enter(ctx, to, &Change{From: from.String(), To: to.String()})
}

// exit leaves the present mode.
func (h *Harness) exit(change Change) error {
	switch s := h.state.Load(); {
	case s == nil:
	case s.rec != nil:
		return s.rec.leave(change)
	case s.cmp != nil:
		s.cmp.close()
	}
	return nil
}

// enter makes the state of m, which is nil for Off; change is nil at creation.
func (h *Harness) enter(ctx context.Context, m Mode, change *Change) (*state, error) {
	switch m {
	case Record:
		rec, err := h.startRecording(ctx, change)
		if err != nil {
			return nil, err
		}
		return &state{rec: rec}, nil
	case Replay:
		cmp, err := newComparer(ctx, h.j, &h.cfg)
		if err != nil {
			return nil, err
		}
		return &state{cmp: cmp}, nil
	}
	return nil, nil
}

// failed returns why the last change of mode failed, if it did.
func (h *Harness) failed() error {
	if s := h.state.Load(); s != nil && s.failed {
		return s.err
	}
	return nil
}

// startRecording opens a tenure and its first batch: the start, and the change
// of mode if there was one.
func (h *Harness) startRecording(ctx context.Context, change *Change) (*recorder, error) {
	t, err := openTenure(ctx, h.j, h.owner, h.cfg.Writer)
	if err != nil {
		return nil, err
	}
	now := max(journal.TimeOf(time.Now()), t.w.Cursor().Time+1)
	if h.begun == 0 {
		h.begun, h.first = now, t.last+1
	}
	b := t.w.NewBuilder()
	start := Start{Harness: h.cfg.Name, Start: h.begun, After: t.last, Environment: journal.ThisEnvironment(), Pin: h.cfg.Pin}
	records := []journal.Record{{Time: now, Kind: journal.KindEpochStart, Name: "harness", Data: mustJSON(start)}}
	if change != nil {
		change.After = t.last
		records = append(records, journal.Record{Time: now, Kind: journal.KindMode, Data: mustJSON(change)})
	}
	for i := range records {
		if err := b.Add(&records[i]); err != nil {
			return nil, fmt.Errorf("open run: %w", err)
		}
	}
	if err := t.w.Append(ctx, b, journal.Digest{}); err != nil {
		return nil, fmt.Errorf("open run: %w", err)
	}
	h.tenures = append(h.tenures, t.w.Cursor().Epoch)
	return newRecorder(t, &h.cfg), nil
}

// Flush waits until everything recorded so far is stored, or says what is not.
func (h *Harness) Flush(ctx context.Context) error {
	if s := h.state.Load(); s != nil && s.rec != nil {
		return s.rec.flush(ctx)
	}
	return h.failed()
}

// Finish tells, in Replay, whether the program did all that was recorded: if not,
// or if there was a difference before, it returns that *Difference. In the other
// modes, and after Close, it returns nil.
func (h *Harness) Finish(ctx context.Context) error {
	if s := h.state.Load(); s != nil && s.cmp != nil {
		return s.cmp.finish(ctx)
	}
	return h.failed()
}

// Close ends the run. In Record it stores what is pending and a record that the
// run was closed; an error that is a *LostError says which numbers are not in the
// journal. In Replay it returns what Finish does. Calling it again, or after
// Abort, returns nil.
//
// A program that stops for an error or an interrupt calls Abort instead: a run
// that was closed is taken as whole.
func (h *Harness) Close() error {
	finish := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), h.cfg.Timeout)
		defer cancel()
		return h.Finish(ctx)
	}
	if err := h.end(finish, Change{To: closed}); err != nil {
		return fmt.Errorf("close harness: %w", err)
	}
	return nil
}

// Abort ends the run like Close, but as one that was cut short: cause, of which
// the journal keeps the words, is why. Replaying it ends with ErrPastEnd and not
// with a difference, as after a kill; Runs tells the cause. In Replay Abort returns
// the difference that there was, and does not ask what the program has not done.
// Calling it again, or after Close, returns nil.
func (h *Harness) Abort(cause error) error {
	if err := h.end(h.parted, aborted(cause)); err != nil {
		return fmt.Errorf("abort harness: %w", err)
	}
	return nil
}

// parted returns the difference that a replay has come to.
func (h *Harness) parted() error {
	if s := h.state.Load(); s != nil && s.cmp != nil {
		return s.cmp.parted()
	}
	return h.failed()
}

// end closes the harness, once, after it has asked how a replay went.
func (h *Harness) end(outcome func() error, change Change) error {
	h.moving.Lock()
	defer h.moving.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	err := outcome()
	err = errors.Join(err, h.exit(change))
	h.state.Store(&state{err: journal.ErrClosed})
	if h.own {
		err = errors.Join(err, h.j.Close())
	}
	return err
}

// Snapshot returns what this harness recorded since it was made, in order, and
// nothing of other recorders on the same journal.
func (h *Harness) Snapshot(ctx context.Context) ([]Entry, error) {
	h.moving.Lock()
	first, tenures := h.first, slices.Clone(h.tenures)
	h.moving.Unlock()
	if first == 0 {
		return nil, nil
	}
	if err := h.Flush(ctx); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	var entries []Entry
	for e, err := range Read(ctx, h.j, Range{From: first}) {
		if err != nil {
			return entries, fmt.Errorf("snapshot: %w", err)
		}
		if slices.Contains(tenures, e.Run) {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// Load returns at most limit entries from a number on, this run's included; see
// the function Load. Without a journal of its own it fails with
// ErrNotPersistent.
func (h *Harness) Load(ctx context.Context, from uint64, limit int) (Page, error) {
	if h.own {
		return Page{}, fmt.Errorf("load from record %d: %w", from, ErrNotPersistent)
	}
	return h.load(ctx, from, limit)
}

func (h *Harness) load(ctx context.Context, from uint64, limit int) (Page, error) {
	if err := h.Flush(ctx); err != nil {
		return Page{}, err
	}
	return Load(ctx, h.j, from, limit)
}
