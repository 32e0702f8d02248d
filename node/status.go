package node

import (
	"time"

	"understudy.dev/journal"
	"understudy.dev/machine"
	"understudy.dev/replay"
)

// State is where a node is in its life.
type State uint8

// The states.
const (
	Starting   State = iota // Run was not called yet
	Following               // applying records as they come
	TakingOver              // carrying out a promotion
	Leading                 // primary: answering
	Halted                  // cannot go on; needs a person
	Diverged                // halted because its outcomes are not those in the journal
)

// String returns the state's word as operators see it.
func (s State) String() string {
	return [...]string{"starting", "following", "promoting", "serving", "halted", "diverged"}[s]
}

// view is what the loop publishes of what only it may touch.
type view struct {
	state    State
	agreed   journal.Seq
	blind    uint64
	compared uint64
	sessions int
	tenure   machine.Tenure
	tenureAt journal.Time
	halted   error
}

// publish replaces the view.
func (n *Node) publish(s State) {
	c := n.replica.Compared()
	tenure, at := n.replica.Tenure()
	n.view.Store(&view{
		tenure: tenure, tenureAt: at,
		state: s, agreed: c.Agreed, compared: c.Equal, blind: c.Blind, sessions: n.replica.Sessions(),
		halted: n.halted,
	})
}

// publishSame replaces the view in the same state.
func (n *Node) publishSame() { n.publish(n.view.Load().state) }

// An Overview is one consistent picture of a node.
type Overview struct {
	Node       string
	Owner      string
	Machine    string
	Version    uint32 // of the machine's logic
	State      State
	Progress   replay.Progress
	Digest     journal.Digest // outcome digest at Progress.Seq
	Agreed     journal.Seq    // highest Seq at which it was compared with the journal's and equal
	Compared   uint64         // stated digests that were compared and equal
	Blind      uint64         // stated digests that could not be compared
	Reconnects uint64         // how often following ended and was taken up again
	Sessions   int
	Waiting    int            // requests that wait or are in flight
	Tenure     machine.Tenure // of the newest primary applied
	TenureAt   journal.Time   // when it began
	Err        error          // why it halted; nil if it has not
	BusySince  time.Time      // since when the machine has been applying one batch; zero if it is not
}

// Overview returns the present picture.
func (n *Node) Overview() Overview {
	v, p := n.view.Load(), n.Progress()
	s := Overview{
		Node: n.cfg.Name, Owner: n.owner, Machine: n.cfg.Machine.Name, Version: n.cfg.Machine.Version,
		State: v.state, Progress: p, Digest: p.Digest, Agreed: v.agreed, Compared: v.compared, Blind: v.blind,
		Sessions: v.sessions, Tenure: v.tenure, TenureAt: v.tenureAt, Err: v.halted, Reconnects: n.reconnects.Load(),
	}
	if in := n.intake.Load(); in != nil {
		s.Waiting = in.waiting()
	}
	if b := n.busy.Load(); b != 0 {
		s.BusySince = time.Unix(0, b)
	}
	return s
}

// Progress returns how far the node has come. Of a primary whose appends hang or
// are refused for lack of room, TailErr says so.
func (n *Node) Progress() replay.Progress {
	p := n.meter.Progress()
	if p.TailErr == nil {
		p.TailErr = n.appends.fault(time.Now())
	}
	return p
}

// Leader returns whether this node is the primary, where clients reach the
// primary as far as this node knows ("" if not, if the open epoch is newer than
// the tenure it knows, or if that was its own), and the open epoch.
func (n *Node) Leader() (primary bool, addr string, epoch journal.Epoch) {
	epoch = n.meter.Progress().Epoch
	v := n.view.Load()
	if v.tenure.Epoch == epoch && (v.state == Leading || v.tenure.Client != n.cfg.Client) {
		addr = v.tenure.Client
	}
	return v.state == Leading, addr, epoch
}
