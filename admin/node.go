package admin

import (
	"context"
	"time"

	"understudy.dev/journal"
)

// A Node is what the server needs of the node that it stands before. Its methods
// may be called concurrently.
type Node interface {
	// Snapshot returns one consistent value at once: it waits for nobody, and
	// works while the node's loop is stuck. It is called for every request and
	// every scrape.
	Snapshot() Snapshot

	// Checks runs the checks before a promotion. It may read the journal, writes
	// nothing, and returns failed checks as checks and not as an error. Its error
	// is a *Problem, or counts as JournalUnavailable.
	Checks(ctx context.Context) ([]Check, error)

	// Promote makes this node the primary and returns when it serves. The server
	// has checked the request's form, and the expected group and node; the node
	// refuses what req.Expect.Check refuses, with the epoch that it is about to
	// end and the Seq it has drained to, and what Refused says of its checks.
	//
	// Its error is a *Problem: one whose Certainty is refused or not-done only
	// if nothing was written, FencedNotServing if the fence was written and the
	// node does not serve, OutcomeUnknown otherwise. Any other error counts as
	// OutcomeUnknown. When ctx ends the node stops waiting; that makes nothing
	// undone.
	//
	// The server asks one at a time, but the node may be asked elsewhere too.
	Promote(ctx context.Context, req PromoteRequest) (Report, error)
}

// A Snapshot is a node at one moment.
type Snapshot struct {
	Group          string
	Epoch          journal.Epoch
	EpochStartedAt time.Time // zero if unknown
	Journal        JournalStatus
	Node           NodeStatus // this node's row; the server sets Reachable and SeenAt
	BusySince      time.Time  // since when the node's loop has been at one thing, such as applying a batch; zero if at none
	Checks         []Check    // what is known without asking anyone; nil if nothing is
	Counters       Counters
}

// Counters counts since the process started.
type Counters struct {
	Reconnects     uint64 // to the journal
	Gaps           uint64
	CorruptRecords uint64
	DeadRecords    uint64 // records in batches of a dead epoch
	HashEqual      uint64 // comparisons of digests
	HashDifferent  uint64
	HashSkipped    uint64 // not comparable
}

// status returns the snapshot as the status of a group of one.
func (s *Snapshot) status(now time.Time) Status {
	row := s.Node
	row.Reachable, row.SeenAt = true, At(now)
	if row.RefusedBy == nil {
		row.RefusedBy = []CheckID{}
	}
	j := s.Journal
	j.Capabilities.Survives = append([]string{}, j.Capabilities.Survives...)
	j.Capabilities.Notes = append([]string{}, j.Capabilities.Notes...)
	return Status{Group: s.Group, Epoch: s.Epoch, EpochStartedAt: At(s.EpochStartedAt), Journal: j, Nodes: []NodeStatus{row}}
}
