package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"understudy.dev/journal"
)

// A PromoteRequest asks a standby to become the primary.
type PromoteRequest struct {
	How       string   // "promote" if empty; "bootstrap" and "start" are used by Config.Start
	Operation string   // the operator's id of this request, kept in the journal
	Actor     string   // who asks
	Reason    string   // why
	Accept    []string // ids of failed checks that are accepted
	Expect    Expect
}

// Expect is what the one who asks believes. Zero fields are not compared. What
// differs refuses the promotion.
type Expect struct {
	Node   string
	Epoch  *journal.Epoch // the epoch before the promotion
	MinSeq journal.Seq    // what this node must have applied at least, after draining
}

// A Report tells how a promotion went.
type Report struct {
	Node      string
	FromEpoch journal.Epoch
	Epoch     journal.Epoch    // the one opened
	Fence     journal.Position // where
	StartSeq  journal.Seq      // of the EpochStart record
	TailSeq   journal.Seq      // the tail sample that was drained to before the fence
	Drained   uint64           // records applied between the request and the end
	Digest    journal.Digest   // outcomes at the end of the old epoch
	Accepted  []string
	Checks    []Check
	Phases    Phases
	Took      time.Duration // from the request to serving
	At        time.Time
}

// Phases are the parts of a promotion, in order.
type Phases struct {
	Checks time.Duration // tail sampled, drained to it, checks run
	Fence  time.Duration // fence written
	Drain  time.Duration // everything up to the fence applied
	Verify time.Duration // digests compared
	Open   time.Duration // EpochStart appended and applied, intake opened
}

// Failure says how a promotion failed, and so what is certain.
type Failure uint8

// The failures. All but the last two say that this request wrote nothing.
const (
	AlreadyPrimary     Failure = iota + 1 // this node is the primary
	InProgress                            // another promotion of this node runs
	ChecksFailed                          // refused; Checks says by what
	ExpectationFailed                     // refused: the world is not as the request expects
	JournalUnavailable                    // the tail could not be read in time
	LostRace                              // another node opened the epoch; this one follows it
	CannotGoOn                            // the node has halted or diverged
	Stopping                              // the node is shutting down
	FenceUnknown                          // the fence was sent and not answered in time: the epoch may be open
	FencedNotServing                      // the epoch was opened and nobody serves it: promote a node to the next one
)

// String returns the failure as a slug.
func (f Failure) String() string {
	return [...]string{
		"", "already-primary", "promotion-in-progress", "checks-failed", "expectation-failed",
		"journal-unavailable", "lost-race", "halted", "stopping", "outcome-unknown", "fenced-not-serving",
	}[f]
}

// A PromoteError says why a promotion did not end with this node serving.
type PromoteError struct {
	Failure Failure
	Node    string
	Epoch   journal.Epoch // the open epoch as far as known
	Owner   string        // who holds it
	Seq     journal.Seq   // what this node has applied
	Checks  []Check
	Err     error // cause; may be nil
}

func (e *PromoteError) Error() string {
	s := fmt.Sprintf("promote %s: %s", e.Node, e.Failure)
	switch e.Failure {
	case LostRace, AlreadyPrimary:
		s += fmt.Sprintf(": epoch %d belongs to %s", e.Epoch, e.Owner)
	case FencedNotServing:
		s += fmt.Sprintf(": epoch %d was opened, the old primary is out, nobody serves; promote a standby to the next epoch", e.Epoch)
	case ChecksFailed:
		s += ": " + strings.Join(refused(e.Checks, nil), ", ")
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *PromoteError) Unwrap() error { return e.Err }

// promotion is a request on its way through the loop.
type promotion struct {
	PromoteRequest
	ctx    context.Context // bounds the drain and the fence; ends with the request's deadline only
	began  time.Time
	asked  journal.Time // when it was asked, by the clock that stamps records
	result chan promoted
	level  bool          // this node followed level with the journal when it was asked
	tenure journal.Epoch // that it knew then
	taken  atomic.Bool   // by the loop, or by Promote to give up
}

type promoted struct {
	report Report
	err    error
}

// claim reports whether the caller is the one who decides what becomes of p.
func (p *promotion) claim() bool { return p.taken.CompareAndSwap(false, true) }

func (p *promotion) answer(r Report, err error) { p.result <- promoted{r, err} }

// Promote makes this node the primary, or says why not: its error is a
// *PromoteError. The deadline of ctx bounds it; cancelling ctx otherwise does
// not stop what was begun, since its outcome must not be left open.
func (n *Node) Promote(ctx context.Context, req PromoteRequest) (Report, error) {
	if !n.promoting.TryLock() {
		return Report{}, n.refusal(InProgress, nil)
	}
	defer n.promoting.Unlock()
	if req.How == "" {
		req.How = "promote"
	}
	pctx, cancel := n.promoteContext(ctx)
	defer cancel()
	p := &promotion{PromoteRequest: req, ctx: pctx, began: time.Now(), asked: journal.TimeOf(n.cfg.now()), result: make(chan promoted, 1)}
	v := n.view.Load()
	p.level, p.tenure = v.state == Following && n.meter.Progress().CaughtUp, v.tenure.Epoch
	n.log.Info("promotion requested", "event", "promotion.requested", "operation", req.Operation, "actor", req.Actor, "reason", req.Reason)
	select {
	case n.promotions <- p:
	case <-pctx.Done():
		return Report{}, n.notTaken(pctx)
	case <-n.closed:
		return Report{}, n.refusal(Stopping, nil)
	}
	if wake := n.interrupt.Load(); wake != nil {
		(*wake)()
	}
	return n.awaitPromotion(p)
}

// awaitPromotion waits for the result of a request that was handed to the loop.
// The deadline counts here only until the loop takes it up: from then on the
// loop minds it, and knows what was begun.
func (n *Node) awaitPromotion(p *promotion) (Report, error) {
	deadline := p.ctx.Done()
	for {
		select {
		case r := <-p.result:
			return r.report, r.err
		case <-deadline:
			if p.claim() {
				return Report{}, n.notTaken(p.ctx)
			}
			deadline = nil
		case <-n.closed:
			select {
			case r := <-p.result:
				return r.report, r.err
			default:
				return Report{}, n.refusal(Stopping, nil)
			}
		}
	}
}

// notTaken says that the loop did not come to a request in time.
func (n *Node) notTaken(ctx context.Context) *PromoteError {
	return n.refusal(JournalUnavailable, fmt.Errorf("nothing was begun, the node is busy applying or appending: %w", context.Cause(ctx)))
}

// promoteContext keeps the deadline of ctx, or sets one, and drops its
// cancellation.
func (n *Node) promoteContext(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(n.cfg.PromoteWithin)
	}
	return context.WithDeadlineCause(context.WithoutCancel(ctx), deadline, errors.New("the promotion's deadline passed"))
}

// refusal makes a PromoteError of what is known now.
func (n *Node) refusal(f Failure, cause error) *PromoteError {
	p := n.meter.Progress()
	return &PromoteError{Failure: f, Node: n.cfg.Name, Epoch: p.Epoch, Owner: p.Owner, Seq: p.Seq, Err: cause}
}
