package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"understudy.dev/admin"
	"understudy.dev/journal"
	"understudy.dev/machine"
	"understudy.dev/node"
	"understudy.dev/replay"
)

// operated is a node as the admin server sees it. The server starts first, since
// the node writes its addresses into the journal; until attach it is starting.
type operated struct {
	group, client string
	build         admin.Build
	journal       journal.Journal
	started       time.Time
	metrics       *admin.Metrics
	checked       atomic.Pointer[checked] // of a while ago
	admin         atomic.Pointer[string]
	node          atomic.Pointer[node.Node]
}

func (o *operated) attach(n *node.Node, adminURL string) {
	o.admin.Store(&adminURL)
	o.node.Store(n)
}

// buildOf describes the binary.
func buildOf(app App) admin.Build {
	env := journal.ThisEnvironment()
	arch := runtime.GOARCH
	if env.Level != "" {
		arch += "/" + env.Level
	}
	return admin.Build{
		Version: app.version(), GoVersion: env.Go, GoArch: arch,
		Machine: app.Machine.Name, LogicVersion: app.Machine.Version,
	}
}

// Snapshot implements admin.Node.
func (o *operated) Snapshot() admin.Snapshot {
	now := time.Now()
	row := admin.NodeStatus{
		State: admin.Starting, Role: admin.Standby, Machine: o.build.Machine, LogicVersion: o.build.LogicVersion,
		Build: o.build.Version, StartedAt: admin.At(o.started), Client: o.client,
	}
	n := o.node.Load()
	if n == nil {
		return admin.Snapshot{Group: o.group, Node: row}
	}
	v := n.Overview()
	row.Admin = *o.admin.Load()
	o.fillRow(&row, &v, now)
	s := admin.Snapshot{
		Group: o.group, Epoch: v.Progress.Epoch, Node: row,
		Journal: o.journalStatus(&v.Progress), BusySince: v.BusySince, Counters: countersOf(&v),
	}
	if c := o.checked.Load(); c != nil && c.of == situationOf(&v) && v.State == node.Following {
		s.Checks = c.checks
		s.Node.RefusedBy = admin.Refused(c.checks, admin.AcceptableIDs())
		promotable := len(s.Node.RefusedBy) == 0
		s.Node.Promotable = &promotable
	}
	if v.TenureAt != 0 {
		s.EpochStartedAt = v.TenureAt.UTC()
	}
	return s
}

// stateWord is a node's state in the operator's words.
func stateWord(v *node.Overview) admin.State {
	if v.State == node.Following && !v.Progress.CaughtUp {
		return admin.Replaying
	}
	return admin.State(v.State.String())
}

func (o *operated) fillRow(row *admin.NodeStatus, v *node.Overview, now time.Time) {
	p := &v.Progress
	row.Node, row.State = v.Node, stateWord(v)
	if v.State == node.Leading {
		row.Role = admin.Primary
	}
	if v.Err != nil {
		row.Error = v.Err.Error()
	}
	// The digest and its Seq are one value, which the progress is not quite level
	// with while batches are applied.
	row.Epoch, row.AppliedSeq, row.Cursor, row.CommandsReplayed = p.Epoch, v.Digest.Seq, p.Cursor, p.Replayed
	if p.Time != 0 {
		row.AppliedTime = admin.At(p.Time.UTC())
	}
	rate, caughtUp, sessions, waiting := p.Rate, p.CaughtUp, v.Sessions, v.Waiting
	row.RecordsPerSecond, row.CaughtUp, row.Sessions, row.InflightCommands = &rate, &caughtUp, &sessions, &waiting
	row.Lag = lagOf(p, now)
	if v.State == node.Halted || v.State == node.Diverged {
		row.Lag.CatchUpSeconds = nil // it will not, whatever its rate was a moment ago
	}
	row.StateHash = v.Digest.Hash.String()
	if v.Agreed != 0 {
		agrees := v.State != node.Diverged
		row.Checkpoint = &admin.Checkpoint{Seq: v.Agreed, Agrees: &agrees}
	}
	promotable := false // a standby's checks say more
	row.Promotable = &promotable
	if v.State == node.Following {
		row.Promotable = nil
	}
}

// checkEvery is how often a node runs the checks of a promotion on its own, to
// show whether it can be promoted; lookEvery, how often it looks whether its
// state or the journal's is another, which is checked at once.
const (
	checkEvery = 2 * time.Second
	lookEvery  = 100 * time.Millisecond
)

// checked is what the checks came to, and the situation that the node was in: in
// another one they say nothing.
type checked struct {
	of     situation
	checks []admin.Check
}

type situation struct {
	state node.State
	up    bool // the journal
}

func situationOf(v *node.Overview) situation {
	return situation{v.State, v.Progress.TailKnown && v.Progress.TailErr == nil}
}

// keepChecking runs the checks until ctx ends.
func (o *operated) keepChecking(ctx context.Context, n *node.Node) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var last situation
	var at time.Time
	for {
		v := n.Overview()
		if of := situationOf(&v); of != last || at.IsZero() || time.Since(at) >= checkEvery {
			cctx, cancel := context.WithTimeout(ctx, checkEvery)
			list := checksOf(n.Checks(cctx)) // their own sample of the tail says whether the journal is up
			cancel()
			last, at = of, time.Now()
			o.checked.Store(&checked{situation{of.state, !slices.Contains(admin.Refused(list, nil), admin.CheckJournal)}, list})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// maxCatchUp is the longest time to catch up that is told, in seconds: a month.
const maxCatchUp = 30 * 24 * 3600

// lagOf leaves out what is not known.
func lagOf(p *replay.Progress, now time.Time) admin.Lag {
	l := p.Lag(now)
	if !l.Known {
		return admin.Lag{}
	}
	seconds := l.Time.Seconds()
	out := admin.Lag{Records: &l.Records, Seconds: &seconds}
	if l.Bytes >= 0 {
		b := uint64(l.Bytes)
		out.Bytes = &b
	}
	catchUp := 0.0
	if l.Records > 0 {
		if catchUp = float64(l.Records) / p.Rate; p.Rate <= 0 || catchUp > maxCatchUp {
			return out // it does not catch up at this rate
		}
	}
	out.CatchUpSeconds = &catchUp
	return out
}

func (o *operated) journalStatus(p *replay.Progress) admin.JournalStatus {
	caps := journal.Describe(o.journal)
	s := admin.JournalStatus{URL: caps.Location, Up: p.TailErr == nil && p.TailKnown, Capabilities: admin.CapabilitiesOf(caps)}
	if p.TailErr != nil {
		s.Error = p.TailErr.Error()
	}
	if !p.TailKnown {
		return s
	}
	tail := p.Tail
	s.TailSeq, s.TailSampledAt = &tail.Seq, admin.At(tail.When)
	if tail.Time != 0 {
		s.TailTime = admin.At(tail.Time.UTC())
	}
	if tail.Bytes >= 0 {
		s.SizeBytes = &tail.Bytes
	}
	if tail.First == 0 && tail.Seq > 0 {
		first := journal.Seq(1)
		s.FirstSeq = &first
	}
	return s
}

// Checks implements admin.Node.
func (o *operated) Checks(ctx context.Context) ([]admin.Check, error) {
	n := o.node.Load()
	if n == nil {
		return nil, &admin.Problem{Type: admin.JournalUnavailable, Detail: "the node is starting"}
	}
	return checksOf(n.Checks(ctx)), nil
}

// checksOf puts a node's checks into the words of the API, where a warning is
// what an operator may accept.
func checksOf(list []node.Check) []admin.Check {
	out := make([]admin.Check, 0, len(list))
	for _, c := range list {
		a := admin.Check{ID: admin.CheckID(c.ID), Detail: c.Detail, Verdict: admin.VerdictOK}
		switch {
		case c.Verdict == node.Fail && c.Acceptable:
			a.Verdict = admin.VerdictWarn
		case c.Verdict == node.Fail:
			a.Verdict = admin.VerdictFail
		case c.Verdict == node.Warn:
			a.Verdict = admin.VerdictInfo
		}
		out = append(out, a)
	}
	return out
}

// Promote implements admin.Node.
func (o *operated) Promote(ctx context.Context, req admin.PromoteRequest) (admin.Report, error) {
	n := o.node.Load()
	if n == nil {
		return admin.Report{}, &admin.Problem{Type: admin.JournalUnavailable, Detail: "the node is starting"}
	}
	ask := node.PromoteRequest{
		Operation: req.Key, Actor: req.Actor, Reason: req.Reason,
		Expect: node.Expect{Node: req.Expect.Node, Epoch: req.Expect.Epoch, MinSeq: req.Expect.MinSeq},
	}
	for _, id := range req.Accept {
		ask.Accept = append(ask.Accept, string(id))
	}
	r, err := n.Promote(ctx, ask)
	if err != nil {
		return admin.Report{}, o.problem(n, err)
	}
	rep := admin.Report{
		Operation: req.Key, Outcome: admin.Promoted, Group: o.group, Node: r.Node, FromEpoch: r.FromEpoch, Epoch: r.Epoch,
		FencePosition: r.Fence, EpochSeq: r.StartSeq, TailBefore: &r.TailSeq, Drained: r.Drained, StateHash: r.Digest.Hash.String(),
		PhasesMS: admin.Phases{
			Checks: admin.Millis(r.Phases.Checks), Fence: admin.Millis(r.Phases.Fence), Drain: admin.Millis(r.Phases.Drain),
			Verify: admin.Millis(r.Phases.Verify), Open: admin.Millis(r.Phases.Open),
		},
		TookMS: admin.Millis(r.Took), Accepted: append([]admin.CheckID{}, req.Accept...), Checks: checksOf(r.Checks),
		Actor: req.Actor, Reason: req.Reason, At: admin.At(r.At),
	}
	return rep, nil
}

// problemTypes says which problem of the API a failure is.
var problemTypes = map[node.Failure]admin.ProblemType{
	node.AlreadyPrimary: admin.AlreadyPrimary, node.InProgress: admin.PromotionInProgress, node.ChecksFailed: admin.ChecksFailed,
	node.ExpectationFailed: admin.ExpectationFailed, node.JournalUnavailable: admin.JournalUnavailable, node.LostRace: admin.LostRace,
	node.CannotGoOn: admin.ChecksFailed, node.Stopping: admin.Stopping, node.FenceUnknown: admin.OutcomeUnknown,
	node.FencedNotServing: admin.FencedNotServing,
}

func (o *operated) problem(n *node.Node, err error) error {
	var e *node.PromoteError
	if !errors.As(err, &e) {
		return &admin.Problem{Type: admin.OutcomeUnknown, Err: err}
	}
	p := &admin.Problem{
		Type: problemTypes[e.Failure], Epoch: e.Epoch, Holder: e.Owner,
		Checks: checksOf(e.Checks), Err: err,
	}
	p.Detail = detailOf(e, p.Type)
	p.RefusedBy = admin.Refused(p.Checks, nil)
	switch e.Failure {
	case node.CannotGoOn:
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		p.Checks = checksOf(n.Checks(ctx))
		cancel()
		p.RefusedBy = admin.Refused(p.Checks, nil)
	case node.FencedNotServing:
		seq := e.Seq
		p.Seq, p.Next = &seq, []string{n.Overview().Node}
		if e.Err != nil {
			p.Cause = e.Err.Error()
		}
	case node.FenceUnknown:
		p.Resolve = func(ctx context.Context) (admin.Report, error) { return admin.Report{}, o.resolve(ctx, n, e) }
	}
	return p
}

// detailOf is what an error says beyond its type, which a Problem says itself.
func detailOf(e *node.PromoteError, t admin.ProblemType) string {
	said := strings.TrimPrefix(e.Error(), fmt.Sprintf("promote %s: ", e.Node))
	if rest, ok := strings.CutPrefix(said, string(t)); ok {
		said = strings.TrimPrefix(rest, ": ")
	}
	return cmp.Or(said, "node "+e.Node)
}

// resolve waits until the journal shows what became of a fence that was never
// answered.
func (o *operated) resolve(ctx context.Context, n *node.Node, e *node.PromoteError) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		p := n.Progress()
		if p.Epoch > e.Epoch {
			found := *e
			found.Epoch, found.Owner, found.Seq, found.Failure = p.Epoch, p.Owner, p.Seq, node.LostRace
			if p.Owner == n.Owner() {
				found.Failure = node.FencedNotServing
			}
			return o.problem(n, &found)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return o.problem(n, e)
		}
	}
}

// observer tells the metrics what a node does.
type observer struct{ metrics *admin.Metrics }

// Appended implements node.Observer.
func (c observer) Appended(records, _ int, took time.Duration, err error) {
	c.metrics.ObserveBatch(records)
	outcome := map[journal.Outcome]string{journal.Done: "done", journal.NotDone: "not_done", journal.Unknown: "unknown"}
	c.metrics.ObserveJournal("append", outcome[journal.OutcomeOf(err)], took)
}

// Applied implements node.Observer.
func (c observer) Applied(records []journal.Record, _ []machine.Outcome, took time.Duration, live bool) {
	phase := "catchup"
	if live {
		phase = "live"
	}
	c.metrics.ObserveApply(phase, took)
	for i := 0; i < len(records); {
		name, n, size := recordType(&records[i]), 0, 0
		for ; i < len(records) && recordType(&records[i]) == name; i++ {
			n++
			size += len(records[i].Data)
		}
		c.metrics.CountApplied(name, n, size)
	}
}

// recordType is a command's type, or another record's kind.
func recordType(r *journal.Record) string {
	if r.Kind == journal.KindCommand {
		return r.Name
	}
	return r.Kind.String()
}

// Answered implements node.Observer.
func (c observer) Answered(r *node.Request, res *node.Result, took time.Duration) {
	name := r.Name
	if r.Kind != journal.KindCommand {
		name = r.Kind.String()
	}
	switch res.Status {
	case node.Done:
		outcome := "ok"
		switch {
		case res.Outcome.Repeated:
			c.metrics.CountCommand(name, "duplicate")
			return
		case res.Outcome.Code != machine.OK:
			outcome = "rejected"
		}
		c.metrics.CountCommand(name, outcome)
		c.metrics.ObserveSubmit(outcome, took)
	case node.Refused:
		c.metrics.CountCommand(name, "refused")
	case node.NotDone, node.NotPrimary:
		c.metrics.CountCommand(name, "not_done")
	default:
		c.metrics.CountCommand(name, "unknown")
		c.metrics.ObserveSubmit("unknown", took)
	}
}

// countersOf counts what a node's overview tells.
func countersOf(v *node.Overview) admin.Counters {
	out := admin.Counters{
		HashEqual: v.Compared, HashSkipped: v.Blind, DeadRecords: v.Progress.DeadRecords, Reconnects: v.Reconnects,
	}
	switch {
	case v.State == node.Diverged:
		out.HashDifferent = 1
	case errors.Is(v.Err, journal.ErrGap):
		out.Gaps = 1
	case errors.As(v.Err, new(*journal.CorruptError)):
		out.CorruptRecords = 1
	}
	return out
}
