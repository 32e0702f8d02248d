package cli

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"understudy.dev/admin"
	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
	"understudy.dev/node"
	"understudy.dev/replay"
)

// standby runs a node on a journal, as serve does, and ends it with the test.
func standby(t *testing.T, j journal.Journal) *operated {
	t.Helper()
	n, err := node.New(node.Config{Name: "b", Journal: j, Machine: blobs(), Meter: replay.MeterConfig{Every: 5 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	o := &operated{group: "g", journal: j, started: time.Now()}
	o.attach(n, "http://b")
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := n.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() { o.keepChecking(ctx, n) })
	t.Cleanup(func() { stop(); running.Wait() })
	return o
}

// What the checks of a promotion came to is not told of another state of the journal:
// once it is back the node is not refused by it any more, and never is it promotable
// without one.
func TestChecksAreOfTheJournalAsItIs(t *testing.T) {
	f := journaltest.NewFaulty(t, memjournal.New(), 1)
	o := standby(t, f)
	until := func(what string, ok func(s *admin.Snapshot) bool) {
		t.Helper()
		for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(time.Millisecond) {
			s := o.Snapshot()
			promotable := s.Node.Promotable != nil && *s.Node.Promotable
			refused := slices.Contains(s.Node.RefusedBy, admin.CheckJournal)
			if promotable && !s.Journal.Up || refused && s.Journal.Up {
				t.Fatalf("%s: journal up %v, promotable %v, refused by %v", what, s.Journal.Up, promotable, s.Node.RefusedBy)
			}
			if ok(&s) {
				return
			}
		}
		t.Fatalf("never %s", what)
	}
	can := func(want bool) func(s *admin.Snapshot) bool {
		return func(s *admin.Snapshot) bool { return s.Node.Promotable != nil && *s.Node.Promotable == want }
	}
	until("promotable", can(true))
	f.Rate(journaltest.OpEnd, 1, journaltest.Fault{Kind: journaltest.Vanish})
	until("refused", can(false))
	f.Heal()
	until("promotable again", can(true))
}

// A node that has stopped for good does not tell when it will have caught up.
func TestHaltedNodeIsNotCatchingUp(t *testing.T) {
	now := time.Now()
	var adminURL string
	o := &operated{}
	o.admin.Store(&adminURL)
	for _, state := range []node.State{node.Following, node.Halted, node.Diverged} {
		v := node.Overview{State: state, Progress: replay.Progress{TailKnown: true, Tail: journal.End{Pos: 9, Seq: 9, When: now}, Rate: 2}}
		var row admin.NodeStatus
		o.fillRow(&row, &v, now)
		if row.Lag.Records == nil || *row.Lag.Records != 9 {
			t.Errorf("%v: lag %+v, want 9 records", state, row.Lag)
		}
		if got, want := row.Lag.CatchUpSeconds != nil, state == node.Following; got != want {
			t.Errorf("%v: tells when it will have caught up: %v, want %v", state, got, want)
		}
	}
}
