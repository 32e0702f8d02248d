package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Running is the state of an operation whose outcome is not there yet. Its other
// states are the certainties.
const Running Certainty = "running"

// An Operation is one promotion that was asked for, by its key.
type Operation struct {
	Operation string    `json:"operation"`
	Kind      string    `json:"kind"` // promote
	State     Certainty `json:"state"`
	StartedAt Time      `json:"started_at"`
	EndedAt   Time      `json:"ended_at"`
	Actor     string    `json:"actor"`
	Reason    string    `json:"reason"`
	Report    *Report   `json:"report"`
	Problem   *Problem  `json:"problem"`
}

// Operations is what GET /admin/operations answers, the newest first.
type Operations struct {
	Operations []Operation `json:"operations"`
}

// newKey returns a key that no other request has.
func newKey() string { return uuid.Must(uuid.NewV7()).String() }

// maxKey is the length limit of a key in bytes: a UUID has 36, and a key is part
// of a URL.
const maxKey = 64

// validKey reports whether a key can be part of a URL as it is.
func validKey(key string) bool {
	if key == "" || len(key) > maxKey || key[0] == '.' {
		return false
	}
	for i := range len(key) {
		c := key[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return true
}

// replayable reports that the operation ended without having begun, so its key may be
// used for another attempt.
func replayable(p *Problem) bool { return p != nil && p.Type == JournalUnavailable }

// An operation is an Operation under way.
type operation struct {
	view        Operation // guarded by operations.mu
	fingerprint string
	answered    chan struct{} // closed when there is an outcome, be it unknown
	settled     chan struct{} // closed when the outcome will not change any more
}

// operations keeps the newest operations and runs one at a time. They belong to
// it and not to those who asked: it waits for them in close.
type operations struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	max    int

	mu      sync.Mutex
	list    []*operation // oldest first
	running *operation
	closed  bool
}

func newOperations(limit int) *operations {
	o := &operations{max: limit}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	return o
}

// start runs run for req, or finds the operation that has its key. The error is a
// *Problem and says that nothing was started.
func (o *operations) start(req PromoteRequest, run func(context.Context) (Report, error)) (op *operation, repeated bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if op := o.findLocked(req.Key); op != nil && !replayable(op.view.Problem) {
		if op.fingerprint != req.fingerprint() {
			return nil, false, &Problem{Type: KeyReused, Operation: req.Key, Detail: "an earlier request with this key asked for something else"}
		}
		return op, true, nil
	}
	if o.closed {
		return nil, false, &Problem{Type: Stopping}
	}
	if o.running != nil {
		return nil, false, &Problem{Type: PromotionInProgress, Operation: o.running.view.Operation, Detail: "this node runs another operation"}
	}
	op = &operation{
		view: Operation{
			Operation: req.Key, Kind: "promote", State: Running, StartedAt: At(time.Now()), Actor: req.Actor, Reason: req.Reason,
		},
		fingerprint: req.fingerprint(), answered: make(chan struct{}), settled: make(chan struct{}),
	}
	o.keepLocked(op)
	o.running = op
	o.wg.Go(func() { o.run(op, run) })
	return op, false, nil
}

// keepLocked adds op in the place of one of the same key, or of the oldest if
// there are too many. The oldest is not the running one, since max is above 1.
func (o *operations) keepLocked(op *operation) {
	kept := o.list[:0]
	for _, old := range o.list {
		if old.view.Operation != op.view.Operation {
			kept = append(kept, old)
		}
	}
	clear(o.list[len(kept):])
	o.list = append(kept, op)
	if len(o.list) > o.max {
		o.list[0] = nil
		o.list = o.list[1:]
	}
}

// run carries op out. After an unknown outcome it goes on to resolve it, and lets
// the next operation begin meanwhile: the node knows best whether it may.
func (o *operations) run(op *operation, run func(context.Context) (Report, error)) {
	defer close(op.settled)
	report, err := run(o.ctx)
	resolve := o.finish(op, report, err)
	close(op.answered)
	if resolve == nil {
		return
	}
	if report, err := resolve(o.ctx); o.ctx.Err() == nil || err == nil {
		o.finish(op, report, err)
	}
}

// finish records what became of op and returns how to find out more, if there is
// a way.
func (o *operations) finish(op *operation, report Report, err error) (resolve func(context.Context) (Report, error)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	op.view.EndedAt = At(time.Now())
	if o.running == op {
		o.running = nil
	}
	if err == nil {
		report.Operation = op.view.Operation
		report.Outcome = cmp.Or(report.Outcome, Promoted)
		report.Checks = marked(report.Checks)
		report.Accepted = append([]CheckID{}, report.Accepted...)
		op.view.State, op.view.Report, op.view.Problem = CertainlyDone, &report, nil
		return nil
	}
	p := problemOf(err, OutcomeUnknown)
	p.Operation = op.view.Operation
	op.view.State, op.view.Problem = p.Certainty, &p
	if p.Certainty == Uncertain {
		return p.Resolve
	}
	return nil
}

// problemOf returns the complete problem in err, or one of type otherwise.
func problemOf(err error, otherwise ProblemType) Problem {
	var p *Problem
	if !errors.As(err, &p) {
		p = &Problem{Type: otherwise, Err: err}
	}
	return p.complete()
}

// get returns the operation of that key, or nil.
func (o *operations) get(key string) *operation {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.findLocked(key)
}

func (o *operations) findLocked(key string) *operation {
	for _, op := range o.list {
		if op.view.Operation == key {
			return op
		}
	}
	return nil
}

// view returns how op stands.
func (o *operations) view(op *operation) Operation {
	o.mu.Lock()
	defer o.mu.Unlock()
	return op.view
}

// all returns the operations, the newest first.
func (o *operations) all() Operations {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := Operations{Operations: []Operation{}}
	for i := len(o.list) - 1; i >= 0; i-- {
		out.Operations = append(out.Operations, o.list[i].view)
	}
	return out
}

// close starts no more operations, ends the waits of those under way and waits
// for them until ctx ends.
func (o *operations) close(ctx context.Context) error {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.cancel()
	ended := make(chan struct{})
	go func() { o.wg.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("a promotion has not ended: %w", context.Cause(ctx))
	}
}
