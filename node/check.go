package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"understudy.dev/journal"
	"understudy.dev/replay"
)

// Verdict is what a check came to.
type Verdict uint8

// The verdicts.
const (
	OK   Verdict = iota
	Warn         // worth knowing; does not refuse
	Fail         // refuses, unless it can be and was accepted
)

// String returns "ok", "warn" or "fail".
func (v Verdict) String() string { return [...]string{"ok", "warn", "fail"}[v] }

// A Check is one reason for or against a promotion.
type Check struct {
	ID         string // role, journal, capability, gap, hash, build, tail, lag, primary; clock, if it warns
	Verdict    Verdict
	Detail     string // what was measured, and the limit
	Acceptable bool   // whether an operator may accept its failure by id
}

// Checks tells what a promotion of this node would be refused for, now. It
// changes nothing. A check that passed is advice; the fence decides.
func (n *Node) Checks(ctx context.Context) []Check {
	cursor := n.meter.Progress().Cursor // before the sample: the node follows on meanwhile
	end, err := n.meter.Sample(ctx)
	return n.checks(ctx, cursor, end, err)
}

// checks holds this node against a sample of the tail that was taken when its
// cursor was at least at cursor.
func (n *Node) checks(ctx context.Context, cursor journal.Position, end journal.End, tailErr error) []Check {
	v, p := n.view.Load(), n.meter.Progress()
	caps := journal.Describe(n.cfg.Journal)
	var list []Check
	add := func(id string, bad Verdict, acceptable bool, fault, fine string) {
		c := Check{ID: id, Detail: fine, Acceptable: acceptable}
		if fault != "" {
			c.Verdict, c.Detail = bad, fault
		}
		list = append(list, c)
	}
	role := ""
	if v.state != Following && v.state != TakingOver {
		role = fmt.Sprintf("state is %s", v.state)
	}
	add("role", Fail, false, role, "standby, state following")
	fault := ""
	if tailErr != nil {
		fault = fmt.Sprintf("its end cannot be read: %v", tailErr)
	}
	add("journal", Fail, false, fault, "reachable: "+caps.Location)
	fault = ""
	switch {
	case caps.ReadOnly:
		fault = "the journal is read-only"
	case !caps.Fence:
		fault = "the journal has no fence: two primaries could not be told apart"
	}
	add("capability", Fail, false, fault, "fence; an acknowledged record survives the loss of "+caps.Survives.String())
	gap, hash := "", ""
	switch {
	case v.state == Diverged:
		hash = v.halted.Error()
	case v.state == Halted:
		gap = v.halted.Error()
	}
	add("gap", Fail, false, gap, fmt.Sprintf("records 1..%d continuous, epochs monotonic", p.Seq))
	add("hash", Fail, false, hash, fmt.Sprintf("outcome digest agreed at seq %d", v.agreed))
	add("build", Fail, false, n.buildFault(v), fmt.Sprintf("%s version %d", n.cfg.Machine.Name, n.cfg.Machine.Version))
	list = append(list, tailCheck(cursor, end, tailErr), n.lagCheck(p.Lag(time.Now()), tailErr))
	fault, fine := n.probePrimary(ctx, v)
	add("primary", Fail, true, fault, fine)
	if ahead := aheadOf(n.cfg.now(), max(p.Time, end.Time)); ahead > maxAhead {
		add("clock", Warn, false, fmt.Sprintf("the newest record is %v ahead of this node's clock: until the clock is there, records are a nanosecond apart",
			ahead.Round(time.Millisecond)), "")
	}
	return list
}

// tailCheck holds a sample of the tail against a cursor. A tail that could not be
// read is unknown, which refuses (RULES 21).
func tailCheck(cursor journal.Position, end journal.End, err error) Check {
	c := Check{ID: "tail", Verdict: Fail}
	switch {
	case err != nil:
		c.Detail = "unknown: where the journal ends cannot be read"
	case end.Pos < cursor:
		c.Detail = fmt.Sprintf("the journal is seen to end at position %d, below this node's cursor %d", end.Pos, cursor)
	default:
		c.Verdict, c.Detail = OK, fmt.Sprintf("seq %d, sampled %v ago", end.Seq, time.Since(end.When).Round(time.Millisecond))
	}
	return c
}

// lagCheck tells how much there is to drain. A lag that is not known although the
// tail has just been read is worth knowing and no more: draining finds out.
func (n *Node) lagCheck(lag replay.Lag, tailErr error) Check {
	c := Check{ID: "lag", Acceptable: true}
	switch {
	case tailErr != nil:
		c.Verdict, c.Detail = Fail, "unknown: where the journal ends cannot be read"
	case !lag.Known:
		c.Verdict, c.Detail = Warn, "unknown: the journal could not be read just now"
	case lag.Records > n.cfg.MaxDrain:
		c.Verdict, c.Detail = Fail, fmt.Sprintf("%d records behind, limit %d", lag.Records, n.cfg.MaxDrain)
	default:
		c.Detail = fmt.Sprintf("%d records behind", lag.Records)
	}
	return c
}

// maxAhead is how far the log may be ahead of this node's clock without a word.
// Clocks that are kept by NTP differ by milliseconds; one that is a second off is
// not kept, here or on the node that wrote the log.
const maxAhead = time.Second

// aheadOf returns how far the newest record is ahead of the clock (RULES 19). A log
// that is ahead refuses nothing: times are strange for a while, and nothing else is.
func aheadOf(now time.Time, newest journal.Time) time.Duration {
	return time.Duration(newest - journal.TimeOf(now))
}

func (n *Node) buildFault(v *view) string {
	if v.tenure.Version > n.cfg.Machine.Version {
		return fmt.Sprintf("the journal needs version %d of machine %q, this is %d", v.tenure.Version, n.cfg.Machine.Name, n.cfg.Machine.Version)
	}
	return ""
}

// ErrCannotAsk is what a Probe returns if it cannot find out whether the primary
// answers: that is no sign that it does not.
var ErrCannotAsk = errors.New("cannot be asked")

// probeWithin bounds the question whether the old primary still answers.
const probeWithin = 300 * time.Millisecond

// probePrimary asks whether the newest primary still answers.
func (n *Node) probePrimary(ctx context.Context, v *view) (fault, fine string) {
	switch {
	case v.tenure.Node == "":
		return "", "there was none yet"
	case n.cfg.Probe == nil:
		return "", v.tenure.Node + ", not asked"
	}
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	if err := n.cfg.Probe(ctx, v.tenure); errors.Is(err, ErrCannotAsk) {
		return fmt.Sprintf("whether %s still answers cannot be found out: %v", v.tenure.Node, err), ""
	} else if err != nil {
		return "", fmt.Sprintf("%s does not answer: %v", v.tenure.Node, err)
	}
	return v.tenure.Node + " still answers", ""
}

// refused returns the ids of the checks that refuse, given what was accepted.
func refused(list []Check, accepted []string) []string {
	var ids []string
	for _, c := range list {
		if c.Verdict == Fail && !(c.Acceptable && slices.Contains(accepted, c.ID)) {
			ids = append(ids, c.ID)
		}
	}
	return ids
}
