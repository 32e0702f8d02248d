package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"understudy.dev/journal"
	"understudy.dev/machine"
)

// takeOver carries out a promotion. The order is the safety argument (RULES 10):
// every refusal comes before the fence, while nothing was changed; the fence
// makes appends of older epochs impossible, and its own Position is the end;
// before everything up to there was applied the machine lacks commands that were
// answered; and the first batch of the new tenure, which states the chain, proves
// that nothing was missed before anybody is answered.
func (n *Node) takeOver(ctx context.Context) State {
	n.publish(TakingOver)
	t := &takeover{Node: n, p: n.takeover, life: ctx, clock: time.Now()}
	n.takeover = nil
	var cancel context.CancelFunc
	t.ctx, cancel = mergeCancel(t.p.ctx, ctx)
	defer cancel()

	t.report = Report{Node: n.cfg.Name, Accepted: t.p.Accept}
	t.replayed = n.meter.Progress().Replayed
	next, err := t.run()
	t.report.At = n.cfg.now().UTC()
	if err != nil {
		n.log.Warn("promotion did not succeed", "event", "promotion.failed", "operation", t.p.Operation, "error", err)
		t.p.answer(Report{}, err)
		return next
	}
	n.log.Info("promotion opens", "event", "promotion.opened", "operation", t.p.Operation, "epoch", t.report.Epoch,
		"seq", t.report.StartSeq, "drained", t.report.Drained)
	n.openIntake()
	t.mark(&t.report.Phases.Open)
	t.report.Took = time.Since(t.p.began)
	t.p.answer(t.report, nil)
	return Leading
}

// mergeCancel returns a context like a that also ends when b does.
func mergeCancel(a, b context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(a)
	stop := context.AfterFunc(b, func() { cancel(context.Cause(b)) })
	return ctx, func() { stop(); cancel(nil) }
}

// takeover is the state of one promotion.
type takeover struct {
	*Node
	p      *promotion
	life   context.Context // of the node
	ctx    context.Context // of the request and the node
	report Report
	clock  time.Time        // when the present phase began
	pos    journal.Position // of the fence

	replayed uint64 // before it began
}

// mark ends a phase.
func (t *takeover) mark(d *time.Duration) {
	now := time.Now()
	*d += now.Sub(t.clock)
	t.clock = now
}

// run returns Leading and nil, or the state to go on in and a *PromoteError.
func (t *takeover) run() (State, error) {
	if next, err := t.prepare(); err != nil {
		return next, err
	}
	t.mark(&t.report.Phases.Checks)
	if next, err := t.fence(); err != nil {
		return next, err
	}
	t.mark(&t.report.Phases.Fence)
	if next, err := t.drain(); err != nil {
		return next, err
	}
	t.mark(&t.report.Phases.Drain)
	t.report.Drained = t.meter.Progress().Replayed - t.replayed
	t.report.Digest = t.replica.Digest()
	t.mark(&t.report.Phases.Verify)
	return t.open()
}

// prepare drains to a sample of the tail and runs every refusal. It writes
// nothing.
func (t *takeover) prepare() (State, error) {
	t.follower.Wake()
	end, err := t.waitForTail(t.ctx)
	if err != nil {
		return Following, t.unread(err)
	}
	t.report.TailSeq = end.Seq
	probed := t.view.Load().tenure.Epoch
	before := t.checks(t.ctx, t.cursor.Pos, end, nil) // the lag that there is before draining
	if err := t.refuse(before); err != nil {
		return Following, err
	}
	if next, err := t.catchUp(end, before); err != nil {
		return next, err
	}
	if next, err := t.awaitTenure(); err != nil {
		return next, err
	}
	if cause := t.raced(); cause != nil {
		return t.outbid(cause)
	}
	if t.view.Load().tenure.Epoch != probed { // draining met another primary: ask that one
		if end, err = t.waitForTail(t.ctx); err != nil {
			return Following, t.unread(err)
		}
		before = t.checks(t.ctx, t.cursor.Pos, end, nil)
		if err := t.refuse(before); err != nil {
			return Following, err
		}
	}
	e, p := t.p.Expect, t.meter.Progress()
	switch {
	case e.Node != "" && e.Node != t.cfg.Name:
		err = fmt.Errorf("this is node %s, not %s", t.cfg.Name, e.Node)
	case e.Epoch != nil && *e.Epoch != p.Epoch:
		err = fmt.Errorf("the open epoch is %d, not %d", p.Epoch, *e.Epoch)
	case e.MinSeq > p.Seq:
		err = fmt.Errorf("seq %d is applied, not %d", p.Seq, e.MinSeq)
	}
	if err != nil {
		return Following, t.refusal(ExpectationFailed, err)
	}
	for _, c := range before {
		if c.Verdict == Warn {
			t.log.Warn("promoting in spite of a warning", "event", "promotion.warned", "check", c.ID, "detail", c.Detail)
		}
	}
	t.report.Checks = before
	return TakingOver, nil
}

// A node that opened an epoch serves within opensWithin, or its takeover failed.
const opensWithin = 2 * drainWithin

// awaitTenure gives a node that has opened an epoch the time to say that it
// serves.
func (t *takeover) awaitTenure() (State, error) {
	ctx, cancel := context.WithTimeout(t.ctx, opensWithin)
	defer cancel()
	for t.cursor.Epoch > t.view.Load().tenure.Epoch && t.cursor.Owner != t.owner {
		err := t.step(ctx)
		switch {
		case err == nil:
		case !t.interrupted(ctx, err):
			return t.stop(err), t.refusal(CannotGoOn, err)
		case t.ctx.Err() != nil:
			return Following, t.unread(err)
		default:
			return TakingOver, nil
		}
	}
	return TakingOver, nil
}

// settles is how old a tenure must be for a blanket acceptance to cover it: two
// requests that people or scripts make at once are not further apart.
const settles = time.Second

// raced tells why this request lost against another one made at the same time, or
// returns nil. One who did not name the epoch meant the primary that there was:
// not one that took over since, or just before. A node that had only not read yet
// who took over before it was asked did not lose: the clocks of the two decide that.
func (t *takeover) raced() error {
	tenure := t.view.Load().tenure
	_, start := t.replica.Tenure()
	switch age := t.p.began.Sub(t.tenureMet); {
	case t.p.Expect.Epoch != nil:
		return nil // compared with the epoch that is open now
	case t.p.level && tenure.Epoch != t.p.tenure && start >= t.p.asked:
		return fmt.Errorf("%s took over while this request was under way: to replace it, expect epoch %d", tenure.Node, tenure.Epoch)
	case slices.Contains(t.p.Accept, "primary") && age < settles:
		return fmt.Errorf("%s took over %v before this request: to replace it, expect epoch %d", tenure.Node, age.Round(time.Millisecond), tenure.Epoch)
	}
	return nil
}

// drainWithin is how long one pass of draining may take for the fence to follow:
// about as long again nobody serves after the fence.
const drainWithin = 250 * time.Millisecond

// catchUp drains to end, then to what came meanwhile, until a pass is short. A
// node that falls behind faster than it applies would fence the old primary and
// then not come to its end: that refuses, unless lag was accepted.
func (t *takeover) catchUp(end journal.End, list []Check) (State, error) {
	for {
		began, from := time.Now(), t.cursor.Seq
		for t.cursor.Pos < end.Pos {
			if next, err := t.advance(); err != nil {
				return next, err
			}
		}
		took, drained := time.Since(began), t.cursor.Seq-from
		if took <= drainWithin || slices.Contains(t.p.Accept, "lag") {
			return TakingOver, nil
		}
		var err error
		if end, err = t.waitForTail(t.ctx); err != nil {
			return Following, t.unread(err)
		}
		if end.Seq > t.cursor.Seq && end.Seq-t.cursor.Seq >= drained {
			list = slices.DeleteFunc(slices.Clone(list), func(c Check) bool { return c.ID == "lag" })
			return Following, t.refuse(append(list, Check{ID: "lag", Verdict: Fail, Acceptable: true, Detail: fmt.Sprintf(
				"while %d records were drained in %v, %d more came: this node does not catch up", drained, took.Round(time.Millisecond), end.Seq-t.cursor.Seq)}))
		}
	}
}

// refuse returns an error if a check refuses.
func (t *takeover) refuse(list []Check) error {
	if len(refused(list, t.p.Accept)) == 0 {
		return nil
	}
	e := t.refusal(ChecksFailed, nil)
	e.Checks = list
	return e
}

// advance applies the next entry before the fence. A node that cannot is out.
func (t *takeover) advance() (State, error) {
	err := t.step(t.ctx)
	switch {
	case err == nil:
		return TakingOver, nil
	case t.interrupted(t.ctx, err):
		return Following, t.unread(err)
	}
	return t.stop(err), t.refusal(CannotGoOn, err)
}

// unread is a failure before the fence because the journal could not be read far
// enough in time.
func (t *takeover) unread(cause error) *PromoteError {
	if t.life.Err() != nil {
		return t.refusal(Stopping, cause)
	}
	return t.refusal(JournalUnavailable, cause)
}

// fence opens the next epoch. An unknown outcome is asked again: the same owner
// gets the first fence's position.
func (t *takeover) fence() (State, error) {
	t.report.FromEpoch = t.cursor.Epoch
	t.report.Epoch = t.cursor.Epoch + 1
	unknown := false
	for attempt := 1; ; attempt++ {
		fctx, cancel := context.WithTimeout(t.ctx, time.Second)
		pos, err := t.cfg.Journal.Fence(fctx, t.report.Epoch, t.owner)
		cancel()
		switch {
		case err == nil:
			t.pos, t.report.Fence = pos, pos
			t.log.Info("fence written", "event", "promotion.fenced", "epoch", t.report.Epoch, "position", pos)
			if pos <= t.cursor.Pos {
				cause := fmt.Errorf("%w: the fence lies at position %d, this node has applied up to %d", journal.ErrLost, pos, t.cursor.Pos)
				return t.stop(cause), t.fenced(cause)
			}
			return TakingOver, nil
		case errors.Is(err, journal.ErrFenced):
			return t.lost(err)
		case journal.OutcomeOf(err) == journal.Unknown:
			unknown = true
		}
		if t.ctx.Err() != nil || errors.Is(err, journal.ErrBroken) || errors.Is(err, journal.ErrClosed) || errors.Is(err, journal.ErrReadOnly) {
			if unknown {
				return Following, t.refusal(FenceUnknown, err)
			}
			return Following, t.unread(err)
		}
		t.log.Warn("fence unanswered, asking again", "event", "promotion.unknown", "attempt", attempt, "error", err)
		sleep(t.ctx, min(250*time.Millisecond, 5*time.Millisecond<<min(attempt, 6)))
	}
}

// lost reads until it is known who won, and says so. It may read over a fence of
// its own: one whose answer was lost, and that another node has outbid since.
func (t *takeover) lost(cause error) (State, error) {
	for t.cursor.Epoch < t.report.Epoch || t.cursor.Owner == t.owner {
		if next, err := t.advance(); err != nil {
			return next, err
		}
	}
	return t.outbid(cause)
}

// outbid names the node that holds the epoch which the cursor has reached.
func (t *takeover) outbid(cause error) (State, error) {
	t.log.Info("another node was first", "event", "promotion.lost_race", "epoch", t.cursor.Epoch, "owner", t.cursor.Owner)
	e := t.refusal(LostRace, cause)
	e.Epoch, e.Owner = t.cursor.Epoch, t.cursor.Owner
	return Following, e
}

// fenced is a failure after the fence: it is called by its name.
func (t *takeover) fenced(cause error) error {
	e := t.refusal(FencedNotServing, cause)
	e.Epoch, e.Owner = t.report.Epoch, t.owner
	return e
}

// drain applies everything up to the fence.
func (t *takeover) drain() (State, error) {
	for t.cursor.Pos < t.pos {
		if err := t.step(t.ctx); err != nil {
			if t.interrupted(t.ctx, err) {
				return Following, t.fenced(err)
			}
			return t.stop(err), t.fenced(err)
		}
	}
	if t.cursor.Epoch == t.report.Epoch && t.cursor.Owner == t.owner {
		return TakingOver, nil
	}
	cause := fmt.Errorf("%w: no fence of epoch %d at position %d", journal.ErrLost, t.report.Epoch, t.pos)
	return t.stop(cause), t.fenced(cause)
}

// open appends EpochStart, the proof that everything before it was seen, and
// applies it.
func (t *takeover) open() (State, error) {
	t.closeFollower()
	t.writer = journal.NewWriter(t.cfg.Journal, t.cursor, journal.WriterConfig{OnRetry: t.appendTrouble, OnSkip: t.skipped})
	tenure, err := json.Marshal(t.tenure())
	if err != nil {
		panic(fmt.Sprintf("marshal tenure: %v", err)) // strings and numbers only
	}
	b := t.writer.NewBuilder()
	records := []journal.Record{{Kind: journal.KindEpochStart, Name: t.cfg.Machine.Name, Time: journal.TimeOf(t.cfg.now()), Data: tenure}}
	if err := b.Add(&records[0]); err != nil {
		return Following, t.fenced(err)
	}
	err = t.writer.Append(t.ctx, b, t.replica.Digest())
	t.cursor = t.writer.Cursor()
	if err != nil {
		t.meter.Advance(t.cursor, 0)
		switch {
		case errors.Is(err, journal.ErrFenced) && t.cursor.Owner != t.owner:
			return t.outbid(err)
		case hopeless(err):
			return t.stop(err), t.fenced(err)
		}
		return Following, t.fenced(err)
	}
	records[0].Seq, records[0].Epoch = t.cursor.Seq, t.cursor.Epoch
	t.report.StartSeq = t.cursor.Seq
	if _, err := t.apply(&journal.Batch{First: t.cursor.Seq, Count: 1, Epoch: t.cursor.Epoch}, records, true); err != nil {
		return t.stop(err), t.fenced(err)
	}
	t.meter.Advance(t.cursor, 1)
	return Leading, nil
}

// hopeless reports whether a Writer's error says that the journal cannot be
// trusted, or this handle no longer used.
func hopeless(err error) bool {
	return errors.As(err, new(*journal.CorruptError)) || errors.Is(err, journal.ErrLost) ||
		errors.Is(err, journal.ErrBroken) || errors.Is(err, journal.ErrClosed)
}

func (t *takeover) tenure() machine.Tenure {
	return machine.Tenure{
		Node: t.cfg.Name, Machine: t.cfg.Machine.Name, Version: t.cfg.Machine.Version,
		Seed: [2]uint64{rand.Uint64(), rand.Uint64()}, Environment: journal.ThisEnvironment(),
		How: t.p.How, Operation: t.p.Operation, Actor: t.p.Actor, Reason: t.p.Reason, Accepted: t.p.Accept,
		Client: t.cfg.Client, Admin: t.cfg.Admin,
	}
}

// skipped takes note of what the Writer read over: a primary that was fenced wrote
// it all the same, which is an alarm (RULES 13).
func (n *Node) skipped(v journal.Verdict, records int) {
	n.meter.Skip(v, records)
	n.log.Warn("read over what changes nothing", "event", "journal.skipped", "verdict", v, "records", records)
}

func (n *Node) appendTrouble(err error, attempt int) {
	n.appends.retried(err)
	if attempt > 3 && attempt%40 != 0 {
		return
	}
	if errors.Is(err, journal.ErrConflict) {
		n.log.Warn("append met another entry; reading what it is", "event", "append.conflict", "attempt", attempt, "error", err)
		return
	}
	n.log.Warn("append is being resolved", "event", "append.unknown", "attempt", attempt, "error", err)
}
