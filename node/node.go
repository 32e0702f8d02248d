// Package node is one process's life with a machine and a journal: it follows,
// takes over when asked to, leads, and steps down to follow again.
//
// # Roles
//
// One goroutine, the one that calls [Node.Run], owns the role and the machine.
// Each state is one method that returns the next. Others ask by message or look
// at a published value.
//
//	Following -> TakingOver -> Leading -> (fenced) -> Following
//
// Nothing but an explicit request promotes: [Node.Promote], or a Config that
// asks for it at the start. A node that cannot go on (a damaged or lost journal,
// a machine that panicked or diverged) halts: it keeps its state for inspection,
// answers nothing, and is not promotable.
//
// # Answers
//
// A command is answered after its append was acknowledged under the present
// epoch and the machine applied it. What a [Result] says is certain; where
// nothing is, it says so.
//
// # What this package does not do
//
// It knows no HTTP and no client protocol, and it reads no flags.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/google/uuid"

	"understudy.dev/journal"
	"understudy.dev/machine"
	"understudy.dev/replay"
)

// Start says what a node does before anybody asks it anything.
type Start uint8

// The ways to start.
const (
	Follow    Start = iota // as a standby
	Bootstrap              // promote itself if the journal is empty, else follow
	Promote                // promote itself: an explicit request, for a single node
)

// A Config describes a node. Journal, Machine and Name are required.
type Config struct {
	Name    string // of the node; with a UUID made by New it is the owner's name in the journal
	Journal journal.Journal
	Machine machine.Definition

	Start   Start
	Logger  *slog.Logger // nil discards
	Version string       // of the binary, for the log

	// Client and Admin are the addresses where this node is reached once it is
	// primary. They are written into the journal, where the others find them.
	Client, Admin string

	// MaxWaiting is how many requests may wait or be in flight; more are answered
	// NotDone. Default 131,072.
	MaxWaiting int

	// MaxWaitingBytes is how many bytes of data they may have together. Default
	// 256 MiB.
	MaxWaitingBytes int

	// MaxDrain is the lag in records beyond which a promotion asks to be told that
	// it may take its time (check "lag"). Default 1,000,000.
	MaxDrain uint64

	// PromoteWithin bounds a promotion whose request has no deadline. Default 30 s.
	PromoteWithin time.Duration

	// AppendWithin bounds how long an append may be without an outcome. After it
	// those in that append are answered Unknown, those behind it NotPrimary, and the
	// node follows, until it is promoted again. Default 30 s: several elections of a
	// JetStream leader. Below 0 there is no bound: the node waits until the journal
	// is back or another node has fenced it.
	AppendWithin time.Duration

	// Probe, if not nil, asks whether the primary of a tenure still answers: nil
	// says that it does. It must return soon after ctx ends. Check "primary".
	Probe func(ctx context.Context, t machine.Tenure) error

	// Observer, if not nil, is told of each batch. Its methods must not block.
	Observer Observer

	// Meter is how progress is sampled and logged; Journal, Logger and Digest are set.
	Meter replay.MeterConfig

	now func() time.Time // the clock that stamps records; tests set it
}

// An Observer is told what a node does, for metrics.
type Observer interface {
	// Appended: this node, as primary, appended a batch of so many records and
	// bytes. err is nil if it is done.
	Appended(records, bytes int, took time.Duration, err error)
	// Applied: the machine applied a batch. live is false while catching up.
	Applied(records []journal.Record, outcomes []machine.Outcome, took time.Duration, live bool)
	// Answered: a request was answered so long after it was handed in.
	Answered(r *Request, res *Result, took time.Duration)
}

// A Node is one process's part in a group. Make it with New, then call Run. Its
// other methods may be called from any goroutine.
type Node struct {
	cfg   Config
	owner string
	log   *slog.Logger
	meter *replay.Meter

	// What only Run's goroutine touches.
	replica   *machine.Replica
	cursor    journal.Cursor   // after the last entry taken, in every role
	follower  *replay.Follower // open while following and taking over
	takeover  *promotion       // the request being served
	writer    *journal.Writer  // of the tenure won
	tenureMet time.Time        // when another node took over while this one followed level; zero if none did
	halted    error

	promotions chan *promotion // at most one waits
	promoting  sync.Mutex      // held by the caller of Promote
	interrupt  atomic.Pointer[context.CancelFunc]

	intake     atomic.Pointer[intake] // nil unless leading
	limits     admission
	waiters    sync.Pool // of *waiter, so that Submit allocates nothing
	view       atomic.Pointer[view]
	appends    appends
	busy       atomic.Int64 // Unix ns since when the machine has been applying; 0 if it is not
	reconnects atomic.Uint64
	closed     chan struct{}
	ran        atomic.Bool
}

// New checks the configuration and returns a node that follows nothing yet.
func New(cfg Config) (*Node, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxWaiting == 0 {
		cfg.MaxWaiting = 1 << 17
	}
	if cfg.MaxWaitingBytes == 0 {
		cfg.MaxWaitingBytes = 256 << 20
	}
	if cfg.MaxDrain == 0 {
		cfg.MaxDrain = 1_000_000
	}
	if cfg.PromoteWithin == 0 {
		cfg.PromoteWithin = 30 * time.Second
	}
	if cfg.AppendWithin == 0 {
		cfg.AppendWithin = 30 * time.Second
	}
	if cfg.now == nil {
		cfg.now = time.Now
	}
	var faults []error
	if cfg.Name == "" || len(cfg.Name) > 200 || strings.ContainsFunc(cfg.Name, func(r rune) bool { return !unicode.IsPrint(r) || r == '/' }) {
		faults = append(faults, fmt.Errorf("node name %q: want 1 to 200 printable bytes without a slash", cfg.Name))
	}
	if cfg.Journal == nil {
		faults = append(faults, errors.New("no journal"))
	}
	replica, err := machine.NewReplica(cfg.Machine)
	if err = errors.Join(append(faults, err)...); err != nil {
		return nil, fmt.Errorf("configure node: %w", err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("name node %s: %w", cfg.Name, err)
	}
	n := &Node{
		cfg: cfg, owner: cfg.Name + "/" + id.String(), log: cfg.Logger.With("node", cfg.Name), replica: replica,
		promotions: make(chan *promotion, 1), closed: make(chan struct{}),
	}
	n.cfg.Machine = replica.Definition()
	n.cfg.Meter.Journal, n.cfg.Meter.Logger, n.cfg.Meter.Digest = cfg.Journal, n.log, replica.Digest
	n.meter = replay.NewMeter(n.cfg.Meter)
	n.limits = newAdmission(n)
	n.publish(Starting)
	return n, nil
}

// Owner returns the name under which this process holds epochs: node name and a
// UUID of its own.
func (n *Node) Owner() string { return n.owner }

// Run lives until ctx ends. It returns nil then, or why the node had halted. It
// may be called once.
func (n *Node) Run(ctx context.Context) error {
	if n.ran.Swap(true) {
		return errors.New("run node: it ran already")
	}
	ctx, stop := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Go(func() { n.meter.Run(ctx) })
	defer background.Wait()
	defer stop()
	defer n.leave()

	n.sayStarted()
	if n.cfg.Start != Follow {
		background.Go(func() { n.startPromoted(ctx) })
	}
	for state := Following; ctx.Err() == nil; {
		was := state
		switch state {
		case Following:
			state = n.follow(ctx)
		case TakingOver:
			state = n.takeOver(ctx)
		case Leading:
			state = n.lead(ctx)
		default:
			state = n.halt(ctx)
		}
		if state != was && ctx.Err() == nil {
			n.log.Info("node changed state", "event", "node.state_changed", "from", was, "to", state, "epoch", n.cursor.Epoch)
		}
	}
	return n.halted
}

// leave answers whoever still waits when Run ends, also if it ended just after a
// promotion opened the intake.
func (n *Node) leave() {
	n.closeFollower()
	if in := n.intake.Swap(nil); in != nil {
		n.answerNotPrimary(in.close())
	}
	if n.view.Load().state == Leading {
		n.publish(Following)
	}
	close(n.closed)
	n.log.Info("node stops", "event", "node.stopping", "seq", n.replica.Seq())
}

func (n *Node) closeFollower() {
	if n.follower != nil {
		n.follower.Close()
		n.follower = nil
	}
}

// startPromoted carries out the request that the configuration makes.
func (n *Node) startPromoted(ctx context.Context) {
	req := PromoteRequest{How: "start", Reason: "asked for at the start"}
	if n.cfg.Start == Bootstrap {
		end, err := n.waitForTail(ctx)
		if err != nil || end.Pos != 0 {
			return // not empty: follow
		}
		// Another node may find it empty at the same time and be faster.
		req.How, req.Expect.Epoch = "bootstrap", new(journal.Epoch)
	}
	_, err := n.Promote(ctx, req)
	if err != nil && ctx.Err() == nil {
		n.log.Warn("not promoted at the start", "event", "promotion.refused", "error", err)
	}
}

// waitForTail waits until the end of the journal could be read once.
func (n *Node) waitForTail(ctx context.Context) (journal.End, error) {
	for {
		sctx, cancel := context.WithTimeout(ctx, time.Second)
		end, err := n.meter.Sample(sctx)
		cancel()
		if err == nil || ctx.Err() != nil || errors.Is(err, journal.ErrUnsupported) {
			return end, errors.Join(err, ctx.Err())
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return end, context.Cause(ctx)
		}
	}
}

// sleep waits for d; it returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
