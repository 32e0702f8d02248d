package node

import (
	"context"
	"errors"
	"time"

	"understudy.dev/journal"
	"understudy.dev/machine"
	"understudy.dev/replay"
)

// follow applies what comes until a promotion is asked for or following becomes
// impossible.
func (n *Node) follow(ctx context.Context) State {
	if n.follower == nil {
		n.follower = n.newFollower()
	}
	fctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n.interrupt.Store(&cancel)
	defer n.interrupt.Store(nil)
	n.publish(Following)
	for {
		// Looked at before each step, so a busy journal delays a promotion by one
		// batch at most.
		select {
		case p := <-n.promotions:
			if p.claim() {
				n.takeover = p
				return TakingOver
			}
		default:
		}
		switch err := n.step(fctx); {
		case err == nil:
		case n.interrupted(fctx, err):
			return Following // to look for the promotion again, or to end
		default:
			return n.stop(err)
		}
	}
}

// interrupted reports whether a step with ctx failed for no other reason than
// that ctx ended: then nothing was taken. A machine that failed at the same
// moment must not pass for that, or it could be promoted.
func (n *Node) interrupted(ctx context.Context, err error) bool {
	return ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) && n.replica.Err() == nil
}

// step applies one item of the journal and keeps the cursor.
func (n *Node) step(ctx context.Context) error {
	_, err := n.follower.Step(ctx)
	n.cursor = n.follower.Cursor()
	return err
}

// newFollower follows from the cursor into the machine.
func (n *Node) newFollower() *replay.Follower {
	reader := journal.NewReader(n.cfg.Journal, journal.ReaderConfig{
		From: n.cursor, Source: journal.Describe(n.cfg.Journal).Location,
		OnRetry: func(err error, attempt int, wait time.Duration) {
			n.reconnects.Add(1)
			if attempt <= 3 || attempt%20 == 0 {
				n.log.Warn("following ended, trying again", "event", "journal.lost", "error", err, "attempt", attempt, "wait", wait)
			}
		},
	})
	return replay.NewFollower(reader, replay.SinkFunc(n.applyFollowed), n.meter)
}

// applyFollowed is the standby's sink.
func (n *Node) applyFollowed(_ context.Context, b *journal.Batch, records []journal.Record) error {
	caughtUp, before := n.meter.Progress().CaughtUp, n.view.Load().tenure.Epoch
	_, err := n.apply(b, records, caughtUp)
	n.publishSame()
	if caughtUp && n.view.Load().tenure.Epoch != before {
		n.tenureMet = time.Now()
	}
	return err
}

// apply is the way of every batch into the machine, in every role.
func (n *Node) apply(b *journal.Batch, records []journal.Record, live bool) ([]machine.Outcome, error) {
	began := time.Now()
	n.busy.Store(began.UnixNano())
	outcomes, err := n.replica.ApplyBatch(b, records)
	n.busy.Store(0)
	if n.cfg.Observer != nil && err == nil && len(records) > 0 {
		n.cfg.Observer.Applied(records, outcomes, time.Since(began), live)
	}
	return outcomes, err
}

// stop remembers why the node cannot go on and says which state that is.
func (n *Node) stop(err error) State {
	n.halted = err
	n.closeFollower()
	var diverged *machine.DivergedError
	state := Halted
	if errors.As(err, &diverged) {
		state = Diverged
	}
	n.log.Error("node cannot go on", "event", "node.halted", "seq", n.replica.Seq(), "state", state, "error", err)
	return state
}

// halt keeps the state for inspection and refuses what is asked.
func (n *Node) halt(ctx context.Context) State {
	state := Halted
	var diverged *machine.DivergedError
	if errors.As(n.halted, &diverged) {
		state = Diverged
	}
	n.publish(state)
	for {
		select {
		case p := <-n.promotions:
			p.answer(Report{}, n.refusal(CannotGoOn, n.halted))
		case <-ctx.Done():
			return state
		}
	}
}
