//go:build unix

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy.dev/admin"
	"understudy.dev/client"
	"understudy.dev/cmd/understudy/internal/group"
	"understudy.dev/engines/exchange"
	"understudy.dev/engines/exchange/flow"
	"understudy.dev/journal"
)

// patience bounds a test: a wait longer than any that two busy cores need.
const patience = 3 * time.Minute

// A stage is a group of processes for one test.
type stage struct {
	*group.Group
	t   *testing.T
	ctx context.Context
}

func newStage(t *testing.T) *stage {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errors.New("the test ran out of patience"))
	s := &stage{&group.Group{Binary: binary, Dir: t.TempDir()}, t, ctx}
	t.Cleanup(func() {
		s.Close()
		cancel()
	})
	return s
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) journal() *group.Server {
	s.t.Helper()
	j, err := s.Journal()
	s.must(err)
	return j
}

// primary starts a node that opens the first epoch.
func (s *stage) primary(name, url string) *group.Node {
	s.t.Helper()
	n, err := s.Node(name, url, "--bootstrap")
	s.must(err)
	s.await(n, "the primary", group.Serving)
	return n
}

// standby starts a node that follows.
func (s *stage) standby(name, url string) *group.Node {
	s.t.Helper()
	n, err := s.Node(name, url)
	s.must(err)
	s.await(n, "following", group.Following)
	return n
}

func (s *stage) await(n *group.Node, what string, is func(*admin.NodeStatus) bool) admin.NodeStatus {
	s.t.Helper()
	st, err := n.Await(s.ctx, what, is)
	s.must(err)
	return st
}

// rejoined waits until a node follows in an epoch with the outcomes of another,
// which is quiet.
func (s *stage) rejoined(n *group.Node, epoch journal.Epoch, like *admin.NodeStatus) {
	s.t.Helper()
	st := s.await(n, fmt.Sprintf("following in epoch %d", epoch), func(st *admin.NodeStatus) bool {
		return group.Following(st) && st.Epoch == epoch && st.AppliedSeq == like.AppliedSeq
	})
	if st.StateHash != like.StateHash {
		s.t.Errorf("%s at seq %d has digest %s, %s has %s", n.Name, st.AppliedSeq, st.StateHash, like.Node, like.StateHash)
	}
}

// dial returns a client as the demo uses it.
func (s *stage) dial(nodes ...*group.Node) *client.Client {
	s.t.Helper()
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.Client)
	}
	c, err := client.Dial(s.ctx, client.Config{Addrs: addrs, Machine: exchange.Name, Ordered: true, Timeout: time.Minute})
	s.must(err)
	s.t.Cleanup(func() { c.Close() })
	return c
}

// start submits operations; the load's hit is closed after half of them.
func (s *stage) start(c *client.Client, rate float64, ops []flow.Op) *load {
	l := newLoad(&Config{Rate: rate}, ops, len(ops)/2, c)
	submitted := make(chan error, 1)
	go func() { submitted <- l.run(s.ctx) }()
	s.t.Cleanup(func() {
		c.Close()
		if err := <-submitted; err != nil {
			s.t.Errorf("submit: %v", err)
		}
	})
	return l
}

// wait waits for one of a load's channels.
func (s *stage) wait(what string, l *load, done <-chan struct{}) {
	s.t.Helper()
	if err := l.await(s.ctx, done); err != nil {
		s.t.Fatalf("wait for %s: %v", what, err)
	}
}

func (s *stage) promote(n *group.Node) admin.Report {
	s.t.Helper()
	r, err := n.Promote(s.ctx, admin.PromoteRequest{})
	s.must(err)
	return r
}

// verify holds everything that clients were told against the journal, the
// primary and the reference book. The loads were submitted one after another.
func (s *stage) verify(url string, primary *group.Node, loads ...*load) admin.NodeStatus {
	s.t.Helper()
	all := newLoad(&Config{}, nil, 0, nil)
	for _, l := range loads {
		s.wait("all answers", l, l.ended)
		all.ops, all.told = append(all.ops, l.ops...), append(all.told, l.told...)
	}
	st, err := all.quiet(s.ctx, primary)
	s.must(err)
	h, err := readHistory(s.ctx, url, st.AppliedSeq)
	s.must(err)
	for _, c := range all.verify(h, &st) {
		if !c.OK {
			s.t.Errorf("%s: %s", c.Name, c.Detail)
		}
	}
	return st
}

// An old primary that was stopped through a promotion acknowledges nothing more
// when it goes on, and becomes a standby by itself.
func TestPausedPrimary(t *testing.T) {
	s := newStage(t)
	url := s.journal().URL()
	a := s.primary("a", url)
	b := s.standby("b", url)
	l := s.start(s.dial(a, b), 4000, flow.Generate(1, 8000))

	// Somebody who only knows a: what they are told, a has told them.
	only, err := client.Dial(s.ctx, client.Config{Addrs: []string{a.Client}, Machine: exchange.Name, Timeout: -1, Dial: dialOnly(a.Client)})
	s.must(err)
	defer only.Close()
	s.wait("half of the load", l, l.hit)
	s.must(a.Pause())
	r := s.promote(b)
	late := make(chan client.Answer, 1)
	name, version, data := flow.Op{Kind: flow.Limit, ID: 1 << 60, Side: exchange.Buy, Price: 1, Qty: 1}.Command()
	s.must(only.Go(name, version, data, func(a client.Answer) { late <- a }))
	s.must(a.Resume())
	st := s.verify(url, b, l)
	s.rejoined(a, r.Epoch, &st)
	only.Close() // answers what is still open
	if got := <-late; got.Verdict == client.Done || got.Verdict == client.Rejected {
		t.Errorf("the old primary acknowledged a command after the promotion: %+v", got)
	}
}

// dialOnly refuses every address but one.
func dialOnly(only string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		if addr != only {
			return nil, fmt.Errorf("dial %s: only %s is known", addr, only)
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
}

// Of two standbys promoted at once exactly one wins. The other says who did, and
// follows it.
func TestTwoPromotions(t *testing.T) {
	for round := range uint64(3) {
		t.Run(fmt.Sprintf("round %d", round+1), func(t *testing.T) { twoPromotions(t, round) })
	}
}

func twoPromotions(t *testing.T, seed uint64) {
	s := newStage(t)
	url := s.journal().URL()
	a := s.primary("a", url)
	nodes := []*group.Node{s.standby("b", url), s.standby("c", url)}
	l := s.start(s.dial(a, nodes[0], nodes[1]), 4000, flow.Generate(seed, 4000))
	s.wait("half of the load", l, l.hit)
	a.Kill()

	reports, faults := make([]admin.Report, 2), make([]error, 2)
	var both sync.WaitGroup
	for i, n := range nodes {
		both.Go(func() { reports[i], faults[i] = n.Promote(s.ctx, admin.PromoteRequest{}) })
	}
	both.Wait()
	win, lose := 0, 1
	if faults[0] != nil {
		win, lose = 1, 0
	}
	if faults[win] != nil || faults[lose] == nil {
		t.Fatalf("promotions = %v, %v; want exactly one to win", faults[0], faults[1])
	}
	winner, loser := nodes[win], nodes[lose]
	var p *admin.Problem
	if !errors.As(faults[lose], &p) || !namesHolder(p, winner) {
		t.Errorf("the loser said %+v, want a problem that names %s", faults[lose], winner.Owner)
	}
	t.Logf("%s won; %s: %v", winner.Name, loser.Name, faults[lose])
	st := s.verify(url, winner, l)
	s.rejoined(loser, reports[win].Epoch, &st)
}

// namesHolder reports whether a refusal says who the primary is: by owner when
// the race was lost at the fence, by a check when it was over before.
func namesHolder(p *admin.Problem, winner *group.Node) bool {
	if p.Type == admin.LostRace {
		return p.Holder == winner.Owner
	}
	for _, c := range p.Checks {
		if c.ID == admin.CheckPrimary && strings.HasPrefix(c.Detail, winner.Name+" ") {
			return p.Type == admin.ChecksFailed
		}
	}
	return false
}

// The journal's process is killed and started again: the nodes reconnect, and
// nothing that was acknowledged is lost.
func TestJournalRestart(t *testing.T) {
	s := newStage(t)
	j := s.journal()
	a := s.primary("a", j.URL())
	b := s.standby("b", j.URL())
	l := s.start(s.dial(a, b), 4000, flow.Generate(2, 12_000))
	s.wait("half of the load", l, l.hit)
	j.Kill()
	s.must(s.Restart(j))
	st := s.verify(j.URL(), a, l)
	s.rejoined(b, 1, &st)
}

// A journal of three servers loses any one of them under load, and nothing else.
func TestClusterMemberKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("elections take seconds: not in short mode")
	}
	s := newStage(t)
	servers, url, err := s.Cluster()
	s.must(err)
	a := s.primary("a", url)
	b := s.standby("b", url)
	c := s.dial(a, b)
	ops := flow.Generate(3, 9000)
	var loads []*load
	for i, victim := range servers {
		l := s.start(c, 2000, ops[i*3000:(i+1)*3000])
		s.wait("half of the load", l, l.hit)
		began := time.Now()
		victim.Kill()
		s.wait("all answers", l, l.ended)
		t.Logf("%s killed: the longest silence was %v", victim.Name, longestSilence(l, began).Round(time.Millisecond))
		s.must(s.Restart(victim))
		loads = append(loads, l)
	}
	st := s.verify(url, a, loads...)
	s.rejoined(b, st.Epoch, &st)
}

// longestSilence returns the longest time without an answer that ended after a
// moment.
func longestSilence(l *load, after time.Time) time.Duration {
	var longest time.Duration
	last := after
	for i := range l.told { // in an ordered session answers come in order
		if at := l.told[i].at; at.After(last) {
			longest = max(longest, at.Sub(last))
			last = at
		}
	}
	return longest
}

// New processes start from a long journal, serve a burst, and fail over.
func TestLongJournal(t *testing.T) {
	s := newStage(t)
	url := s.journal().URL()
	a := s.primary("a", url)
	ops := flow.Generate(4, 60_000)
	first := s.start(s.dial(a), 0, ops[:40_000])
	s.wait("all answers", first, first.ended)
	a.Kill()

	b, c := s.standby("b", url), s.standby("c", url)
	s.promote(b)
	burst := s.start(s.dial(b, c), 0, ops[40_000:])
	s.wait("half of the burst", burst, burst.hit)
	b.Kill()
	if r := s.promote(c); r.Epoch != 3 {
		t.Errorf("promoted to epoch %d, want 3", r.Epoch)
	}
	s.verify(url, c, first, burst)
}

// The demo itself, on generated flow, with the kill at the first, some and the
// last operation.
func TestDemo(t *testing.T) {
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, killAt := range []int{0, 1, 3000} {
		t.Run(fmt.Sprintf("kill after %d", killAt), func(t *testing.T) {
			r, err := Run(t.Context(), Config{
				Binary: binary, Rate: 3000, Duration: time.Second, Seed: 5, KillAfter: killAt, Quiet: true,
				Stdout: io.Discard, Stderr: io.Discard,
			})
			if err != nil {
				t.Fatalf("Run = %v, %+v", err, r)
			}
			if !r.Passed || r.Acknowledged != 3000 || len(r.Checks) != 4 || r.Promotion.Epoch != 2 || r.PromoteCode != 200 {
				t.Errorf("Run = %+v, want 3,000 acknowledged, 4 checks, epoch 2", r)
			}
		})
	}
}
