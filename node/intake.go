package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"understudy.dev/journal"
	"understudy.dev/machine"
)

// Why a request was not taken.
var (
	ErrNotPrimary = errors.New("node: not the primary")
	ErrOverloaded = errors.New("node: too many requests wait")
	ErrBadRequest = errors.New("node: bad request")
)

// waiting is a request, or a read, that waits for its answer.
type waiting struct {
	req  Request
	done func(Result)                       // of a request
	at   time.Time                          // when it was handed in; zero without an Observer
	read func(m machine.Machine, err error) // of a read
}

// An intake is where requests wait for the primary's loop. It exists for one
// tenure; once shut it takes nothing more.
type intake struct {
	mu     sync.Mutex
	queue  []waiting
	limit  int
	flying int           // taken from the queue and not yet answered
	bytes  int           // of the data of both
	room   int           // bytes at most
	shut   bool          // one way
	signal chan struct{} // there is something in the queue
}

func newIntake(limit, room int) *intake {
	return &intake{limit: limit, room: room, signal: make(chan struct{}, 1)}
}

// add queues w. It returns ErrNotPrimary or ErrOverloaded if it did not.
func (in *intake) add(w waiting) error {
	in.mu.Lock()
	switch {
	case in.shut:
		in.mu.Unlock()
		return ErrNotPrimary
	case len(in.queue)+in.flying >= in.limit, in.bytes+len(w.req.Data) > in.room:
		in.mu.Unlock()
		return ErrOverloaded
	}
	in.queue = append(in.queue, w)
	in.bytes += len(w.req.Data)
	first := len(in.queue) == 1
	in.mu.Unlock()
	if first {
		select {
		case in.signal <- struct{}{}:
		default:
		}
	}
	return nil
}

// take swaps the queue for an empty slice and returns it.
func (in *intake) take(empty []waiting) []waiting {
	in.mu.Lock()
	defer in.mu.Unlock()
	q := in.queue
	in.queue = empty[:0]
	in.flying += len(q)
	return q
}

// release makes room for as many others as are about to be answered: one who
// hands in the next request from its answer must find it.
func (in *intake) release(done, bytes int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.flying -= done
	in.bytes -= bytes
}

// queued returns how many wait in the queue.
func (in *intake) queued() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.queue)
}

// close shuts the intake and returns what still waited in it.
func (in *intake) close() []waiting {
	in.mu.Lock()
	defer in.mu.Unlock()
	q := in.queue
	in.queue, in.shut = nil, true
	return q
}

// waiting returns how many requests wait or are in flight.
func (in *intake) waiting() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.queue) + in.flying
}

// admission is what is refused before it is sequenced (RULES 3): it depends on
// the definition and the journal only.
type admission struct {
	replica *machine.Replica // for Knows, which only reads the definition
	probe   *journal.Builder // for MaxData, which only reads its limits
}

func newAdmission(n *Node) admission {
	w := journal.NewWriter(n.cfg.Journal, journal.Cursor{Owner: n.owner}, journal.WriterConfig{})
	return admission{replica: n.replica, probe: w.NewBuilder()}
}

func (a *admission) check(r *Request) error {
	switch r.Kind {
	case journal.KindCommand:
		if err := a.replica.Knows(r.Name, r.Version); err != nil {
			return err
		}
	case journal.KindSession:
		if r.Name != "" && r.Name != "ordered" {
			return fmt.Errorf("%w: session of kind %q, want \"ordered\" or none", ErrBadRequest, r.Name)
		}
	default:
		return fmt.Errorf("%w: kind %s cannot be submitted", ErrBadRequest, r.Kind)
	}
	if r.Client != 0 && (r.Number == 0 || r.Low == 0) || r.Low > r.Number {
		return fmt.Errorf("%w: request %d with lowest unanswered %d: both count from 1, and the lowest is not above", ErrBadRequest, r.Number, r.Low)
	}
	if limit := a.probe.MaxData(r.Name); len(r.Data) > limit {
		return fmt.Errorf("command %q of %d bytes, at most %d: %w", r.Name, len(r.Data), limit, journal.ErrTooLarge)
	}
	return nil
}

// MaxData returns how many bytes of data a command of this name may have.
func (n *Node) MaxData(name string) int { return n.limits.probe.MaxData(name) }

// SubmitAsync hands a request in. done is called exactly once, from any
// goroutine; it must not block, since the primary's loop calls it. The request's
// data must not change before.
func (n *Node) SubmitAsync(r Request, done func(Result)) {
	if err := n.limits.check(&r); err != nil {
		n.turnAway(r, Result{Status: Refused, Err: err}, done)
		return
	}
	in := n.intake.Load()
	if in == nil {
		n.turnAway(r, n.notPrimary(), done)
		return
	}
	w := waiting{req: r, done: done}
	if n.cfg.Observer != nil {
		w.at = time.Now()
	}
	switch err := in.add(w); {
	case err == nil:
	case errors.Is(err, ErrNotPrimary):
		n.turnAway(r, n.notPrimary(), done)
	default:
		n.turnAway(r, Result{Status: NotDone, Err: err}, done)
	}
}

// turnAway answers a request that was not taken.
func (n *Node) turnAway(r Request, res Result, done func(Result)) {
	if n.cfg.Observer != nil {
		n.cfg.Observer.Answered(&r, &res, 0)
	}
	done(res)
}

// Submit hands a request in and waits for its result. If ctx ends first the
// outcome is Unknown.
func (n *Node) Submit(ctx context.Context, r Request) Result {
	w, ok := n.waiters.Get().(*waiter)
	if !ok {
		w = newWaiter()
	}
	n.SubmitAsync(r, w.done)
	select {
	case res := <-w.result:
		n.waiters.Put(w)
		return res
	case <-ctx.Done():
		return Result{Status: Unknown, Err: context.Cause(ctx)} // the waiter gets its answer yet and is not used again
	}
}

// A waiter waits for one result at a time. It is kept, so that Submit allocates
// nothing.
type waiter struct {
	result chan Result
	done   func(Result)
}

func newWaiter() *waiter {
	w := &waiter{result: make(chan Result, 1)}
	w.done = func(r Result) { w.result <- r }
	return w
}

func (n *Node) notPrimary() Result {
	_, addr, _ := n.Leader()
	return Result{Status: NotPrimary, Err: ErrNotPrimary, Primary: addr}
}

// Read calls f with a machine that reflects everything answered before Read was
// called, anywhere: an append that began after the call proves that this node
// was still the primary. f runs on the node's own goroutine: it must be short
// and change nothing. Many reads share one proof.
func (n *Node) Read(ctx context.Context, f func(m machine.Machine)) error {
	in := n.intake.Load()
	if in == nil {
		return ErrNotPrimary
	}
	c := make(chan error, 1)
	var taken atomic.Bool // by the loop, or by us to give up
	err := in.add(waiting{read: func(m machine.Machine, err error) {
		if !taken.CompareAndSwap(false, true) {
			return // nobody waits; what f refers to may be gone
		}
		if err == nil {
			f(m)
		}
		c <- err
	}})
	if err != nil {
		return err
	}
	select {
	case err := <-c:
		return err
	case <-ctx.Done():
		if taken.CompareAndSwap(false, true) {
			return context.Cause(ctx)
		}
		return <-c
	}
}
