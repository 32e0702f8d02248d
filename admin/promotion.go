package admin

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"understudy.dev/journal"
)

// A PromoteRequest asks a standby to become the primary. The zero value asks the
// node that receives it to do so if every check passes.
type PromoteRequest struct {
	// Key is the operation's id and idempotency key, in a header of its own. A
	// node finds it set; a client that leaves it empty makes one.
	Key string `json:"-"`

	Expect Expect    `json:"expect,omitzero"`
	Accept []CheckID `json:"accept,omitempty"` // warnings accepted
	Reason string    `json:"reason,omitempty"`
	Actor  string    `json:"actor,omitempty"`
	Wait   *Duration `json:"wait,omitempty"` // how long to wait for the outcome; default 30 s
	DryRun bool      `json:"dry_run,omitempty"`
}

// DefaultWait is how long POST /admin/promote waits before it answers that the
// operation is still running: the longest that an operator looks at a silent
// terminal, and below the 60 s after which common proxies give up.
const DefaultWait = 30 * time.Second

// Expect is what the one who asks believes. What is zero is not checked.
type Expect struct {
	Group  string         `json:"group,omitempty"`
	Node   string         `json:"node,omitempty"`    // the one to be promoted
	Epoch  *journal.Epoch `json:"epoch,omitempty"`   // open before the promotion
	MinSeq journal.Seq    `json:"min_seq,omitempty"` // applied at least, after the drain
}

// Check compares e with what is true and returns a *Problem of type
// ExpectationFailed, or nil. seq is the last Seq applied after the drain.
func (e Expect) Check(group, node string, epoch journal.Epoch, seq journal.Seq) error {
	failed := func(what string, want, got any) error {
		return &Problem{Type: ExpectationFailed, Detail: fmt.Sprintf("expected %s %v, it is %v", what, want, got), Epoch: epoch}
	}
	switch {
	case e.Group != "" && e.Group != group:
		return failed("group", e.Group, group)
	case e.Node != "" && e.Node != node:
		return failed("node", e.Node, node)
	case e.Epoch != nil && *e.Epoch != epoch:
		return failed("epoch", *e.Epoch, epoch)
	case seq < e.MinSeq:
		return failed("at least seq", e.MinSeq, seq)
	}
	return nil
}

// check returns the request's faults of form.
func (p *PromoteRequest) check() error {
	for _, id := range p.Accept {
		if !slices.Contains(AcceptableIDs(), id) {
			return fmt.Errorf("check %q cannot be accepted; these can: %v", id, AcceptableIDs())
		}
	}
	if p.Wait != nil && *p.Wait < 0 {
		return fmt.Errorf("wait %v is negative", time.Duration(*p.Wait))
	}
	return nil
}

// fingerprint is equal for requests that ask for the same thing. How long to wait
// is no part of that.
func (p PromoteRequest) fingerprint() string {
	p.Wait = nil
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return string(b)
}

// A Duration is a time.Duration written as in "30s" in JSON.
type Duration time.Duration

// MarshalText writes the duration as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// The outcome in a Report, and what a dry run says would happen.
const (
	Promoted     = "promoted"
	WouldPromote = "promote"
	WouldRefuse  = "refuse"
)

// A Report says what a promotion did, or of a dry run what it would do.
type Report struct {
	Operation     string           `json:"operation,omitempty"`
	Outcome       string           `json:"outcome,omitempty"`    // "promoted"; absent from a dry run
	Would         string           `json:"would,omitempty"`      // "promote" or "refuse", of a dry run
	Detail        string           `json:"detail,omitempty"`     // why a dry run would refuse
	RefusedBy     []CheckID        `json:"refused_by,omitempty"` // of a dry run
	Repeated      bool             `json:"repeated,omitempty"`   // an earlier request with this key did it
	Group         string           `json:"group"`
	Node          string           `json:"node"`
	FromEpoch     journal.Epoch    `json:"from_epoch"`
	Epoch         journal.Epoch    `json:"epoch"`
	FencePosition journal.Position `json:"fence_position,omitempty"`
	EpochSeq      journal.Seq      `json:"epoch_seq,omitempty"` // EpochStart's Seq
	TailBefore    *journal.Seq     `json:"tail_before"`         // the sampled tail when it was asked
	Drained       uint64           `json:"drained"`             // records applied since it was asked
	StateHash     string           `json:"state_hash,omitempty"`
	PhasesMS      Phases           `json:"phases_ms,omitzero"`
	TookMS        float64          `json:"took_ms,omitempty"`
	Accepted      []CheckID        `json:"accepted"`
	Checks        []Check          `json:"checks"`
	Actor         string           `json:"actor,omitempty"`
	Reason        string           `json:"reason,omitempty"`
	At            Time             `json:"at"`
}

// Phases is how long the parts of a promotion took, in milliseconds.
type Phases struct {
	Checks float64 `json:"checks"` // drain to the sampled tail, and the refusals
	Fence  float64 `json:"fence"`
	Drain  float64 `json:"drain"` // apply up to the fence
	Verify float64 `json:"verify"`
	Open   float64 `json:"open"` // append EpochStart
}

// Millis returns d in milliseconds.
func Millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// seconds returns each phase by name in seconds, the unit of metrics.
func (p Phases) seconds() map[string]float64 {
	return map[string]float64{
		"checks": p.Checks / 1e3, "fence": p.Fence / 1e3, "drain": p.Drain / 1e3, "verify": p.Verify / 1e3, "open": p.Open / 1e3,
	}
}
