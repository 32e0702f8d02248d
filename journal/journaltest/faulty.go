package journaltest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"understudy.dev/journal"
)

// An Op names the calls of a journal that can be made to fail.
type Op uint8

// The operations.
const (
	OpAppend Op = iota
	OpFence
	OpFollow
	OpEnd
	ops
)

// String returns the operation's name.
func (o Op) String() string { return [...]string{"append", "fence", "follow", "end"}[o] }

// FaultKind says what a faulty call does.
type FaultKind uint8

// The kinds of faults.
const (
	// Refuse: the call does nothing and says so. Err is ErrFull by default, for
	// Follow and End ErrInjected.
	Refuse FaultKind = iota + 1
	// Vanish: the call does nothing and its outcome is unknown.
	Vanish
	// LoseAck: the write is done, but the call's outcome is unknown.
	LoseAck
	// Delay: the call's outcome is unknown, and the write is tried later: after
	// Faulty.Hold, or when Release is called.
	Delay
	// Stall: the call waits until its context ends or the journal is closed, and
	// does nothing. A Follow first yields After entries, and then nothing more,
	// no heartbeats either.
	Stall
	// Break: a Follow yields After entries and then one error.
	Break
	// BreakSilently: a Follow yields After entries and then ends without a word,
	// which no backend may do.
	BreakSilently
)

// String returns the kind's name.
func (k FaultKind) String() string {
	return [...]string{"none", "refuse", "vanish", "lose ack", "delay", "stall", "break", "break silently"}[k]
}

// A Fault is what happens to one call.
type Fault struct {
	Kind  FaultKind
	Err   error // what the call returns; nil means ErrInjected, but see Refuse
	After int   // Follow only: entries yielded before, heartbeats not counted
}

// ErrInjected is what a faulty call returns unless told otherwise. Nothing is
// known from it.
var ErrInjected = errors.New("injected fault")

// Faulty is a journal whose calls fail as planned. Calls without a fault, and
// all calls of a Faulty without a plan, do what the journal underneath does. It
// has the optional abilities of that journal.
type Faulty struct {
	// Hold is how long a delayed write is held back. 0 means until Release. It
	// is set before the first call.
	Hold time.Duration

	inner  journal.Journal
	seed   uint64
	closed chan struct{}
	held   sync.WaitGroup // goroutines that hold a write for Hold

	mu       sync.Mutex
	rng      *rand.Rand
	calls    [ops]int
	planned  [ops]map[int]Fault
	rates    [ops][]rate
	delayed  []func() error
	injected []string
	shut     bool
}

// rate is a fault that hits a call with a probability.
type rate struct {
	Fault
	p float64
}

// NewFaulty returns a journal without faults over j. The seed decides which
// calls the faults of Rate hit; 0 means a new one. It is logged when the test
// has failed.
func NewFaulty(tb testing.TB, j journal.Journal, seed uint64) *Faulty {
	if seed == 0 {
		seed = rand.Uint64()
	}
	f := &Faulty{inner: j, seed: seed, closed: make(chan struct{}), rng: rand.New(rand.NewPCG(seed, 1))}
	for op := range f.planned {
		f.planned[op] = make(map[int]Fault)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Log(f)
		}
	})
	return f
}

// Plan makes the n-th next call of op fail; 1 is the next one.
func (f *Faulty) Plan(op Op, n int, fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.planned[op][f.calls[op]+n] = fault
}

// Rate makes each call of op fail with probability p. Several rates for one op
// are tried in the order they were set; p of 0 changes nothing.
func (f *Faulty) Rate(op Op, p float64, fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rates[op] = append(f.rates[op], rate{fault, p})
}

// Heal forgets all plans and rates. What was delayed stays so.
func (f *Faulty) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rates = [ops][]rate{}
	for op := range f.planned {
		clear(f.planned[op])
	}
}

// Calls returns how many calls of op were made.
func (f *Faulty) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// Injected returns the faults that happened, such as "append 3: lose ack".
func (f *Faulty) Injected() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.injected...)
}

// String tells the seed and the faults that happened.
func (f *Faulty) String() string {
	return fmt.Sprintf("faulty journal, seed %d: %q", f.seed, f.Injected())
}

// Release tries the writes that are held back, in the order of their calls, and
// returns what each said. With Hold it is not needed.
func (f *Faulty) Release() []error {
	f.mu.Lock()
	writes := f.delayed
	f.delayed = nil
	f.mu.Unlock()
	var errs []error
	for _, write := range writes {
		errs = append(errs, write())
	}
	return errs
}

// draw counts a call and returns its fault, if it has one.
func (f *Faulty) draw(op Op) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[op]++
	fault, hit := f.planned[op][f.calls[op]]
	delete(f.planned[op], f.calls[op])
	for _, r := range f.rates[op] {
		if !hit && f.rng.Float64() < r.p {
			fault, hit = r.Fault, true
		}
	}
	if !hit {
		return Fault{}, false
	}
	f.injected = append(f.injected, fmt.Sprintf("%v %d: %v", op, f.calls[op], fault.Kind))
	if fault.Err == nil {
		fault.Err = ErrInjected
		if fault.Kind == Refuse && (op == OpAppend || op == OpFence) {
			fault.Err = journal.ErrFull
		}
	}
	return fault, true
}

// Append implements journal.Journal.
func (f *Faulty) Append(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
	fault, hit := f.draw(OpAppend)
	if fault.Kind == Delay {
		batch = append([]byte(nil), batch...) // it is written after this call has returned
	}
	return f.write(ctx, fault, hit, func(ctx context.Context) (journal.Position, error) {
		return f.inner.Append(ctx, epoch, prev, batch)
	})
}

// Fence implements journal.Journal.
func (f *Faulty) Fence(ctx context.Context, epoch journal.Epoch, owner string) (journal.Position, error) {
	fault, hit := f.draw(OpFence)
	return f.write(ctx, fault, hit, func(ctx context.Context) (journal.Position, error) {
		return f.inner.Fence(ctx, epoch, owner)
	})
}

// write makes a call that writes, or fails as the fault says. On a closed
// journal there are no faults.
func (f *Faulty) write(ctx context.Context, fault Fault, hit bool, call func(context.Context) (journal.Position, error)) (journal.Position, error) {
	if !hit || f.isClosed() {
		return call(ctx)
	}
	switch fault.Kind {
	case LoseAck:
		if _, err := call(ctx); journal.OutcomeOf(err) == journal.NotDone {
			return 0, err // there was no acknowledgement to lose
		}
	case Delay:
		f.later(func() error {
			_, err := call(context.WithoutCancel(ctx))
			return err
		})
	case Stall:
		return 0, f.stall(ctx)
	}
	return 0, fault.Err
}

// later holds a write back.
func (f *Faulty) later(write func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.Hold == 0 {
		f.delayed = append(f.delayed, write)
		return
	}
	if f.shut {
		return
	}
	f.held.Go(func() {
		timer := time.NewTimer(f.Hold)
		defer timer.Stop()
		select {
		case <-timer.C:
			_ = write() // nobody is left to tell
		case <-f.closed:
		}
	})
}

// stall waits until ctx ends or the journal is closed.
func (f *Faulty) stall(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-f.closed:
		return journal.ErrClosed // the call did nothing, so this is true
	}
}

// Follow implements journal.Journal.
func (f *Faulty) Follow(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		fault, hit := f.draw(OpFollow)
		if fault.Kind == Refuse || fault.Kind == Vanish {
			yield(journal.Entry{}, fault.Err)
			return
		}
		left := fault.After
		if hit && left == 0 {
			f.end(ctx, fault, yield)
			return
		}
		for e, err := range f.inner.Follow(ctx, after) {
			if !yield(e, err) {
				return
			}
			if err == nil && !isHeartbeat(e) {
				left--
			}
			if hit && left <= 0 {
				f.end(ctx, fault, yield)
				return
			}
		}
	}
}

// end ends a Follow as the fault says.
func (f *Faulty) end(ctx context.Context, fault Fault, yield func(journal.Entry, error) bool) {
	switch fault.Kind {
	case Stall:
		_ = f.stall(ctx) // a Follow ends silently with its context and on Close
	case BreakSilently:
	default:
		yield(journal.Entry{}, fault.Err)
	}
}

// End implements journal.Ender.
func (f *Faulty) End(ctx context.Context) (journal.End, error) {
	fault, hit := f.draw(OpEnd)
	switch {
	case !hit:
		return journal.SampleEnd(ctx, f.inner)
	case fault.Kind == Stall:
		return journal.End{}, f.stall(ctx)
	}
	return journal.End{}, fault.Err
}

// Trim implements journal.Trimmer.
func (f *Faulty) Trim(ctx context.Context, through journal.Position) error {
	return journal.Trim(ctx, f.inner, through)
}

// Locate implements journal.Locator.
func (f *Faulty) Locate(ctx context.Context, target journal.Target) (journal.Cursor, error) {
	return journal.Locate(ctx, f.inner, target)
}

// Describe implements journal.Describer.
func (f *Faulty) Describe() journal.Capabilities { return journal.Describe(f.inner) }

// Close closes the journal underneath. Writes that are still held back are
// dropped.
func (f *Faulty) Close() error {
	f.mu.Lock()
	if !f.shut {
		f.shut, f.delayed = true, nil
		close(f.closed)
	}
	f.mu.Unlock()
	f.held.Wait()
	return f.inner.Close()
}

func (f *Faulty) isClosed() bool {
	select {
	case <-f.closed:
		return true
	default:
		return false
	}
}
