package node_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
	"understudy.dev/machine"
	"understudy.dev/node"
)

// RULES 10: a promoted standby has applied every command that was answered,
// before it answers its first, however far it lagged.
func TestPromoteLosesNothing(t *testing.T) {
	tests := []struct {
		name  string
		write time.Duration // between two commands of the old primary
		apply time.Duration // the standby's cost of one command
	}{
		{name: "idle", write: time.Hour},
		{name: "keeping up", write: 2 * time.Millisecond, apply: time.Millisecond},
		{name: "lagging", write: time.Millisecond, apply: 2 * time.Millisecond},
		{name: "lagging far", write: time.Millisecond, apply: 20 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memjournal.New()
				a := join(t, store.Handle(), "a", nil)
				b := join(t, store.Handle(), "b", &tally{took: tt.apply})
				a.lead(t)
				var answered []uint64
				over := make(chan struct{})
				go func() {
					defer close(over)
					for id := uint64(1); ; id++ {
						switch res := a.Submit(t.Context(), put(id)); res.Status {
						case node.Done:
							answered = append(answered, id)
						default:
							if res.Status != node.NotPrimary {
								t.Errorf("id %d: %v (%v)", id, res.Status, res.Err)
							}
							return
						}
						time.Sleep(tt.write)
					}
				}()
				time.Sleep(time.Second)
				if tt.name == "lagging" {
					// It would fence the old primary and not come to its end for long.
					_, err := b.Promote(t.Context(), node.PromoteRequest{})
					var refused *node.PromoteError
					if !errors.As(err, &refused) || refused.Failure != node.ChecksFailed || refused.Epoch != 1 {
						t.Errorf("promote a node that does not catch up = %v, want checks-failed before the fence", err)
					}
				}
				rep := b.lead(t, "lag")
				first := b.submit(t, put(1<<40), node.Done)
				if rep.FromEpoch != 1 || rep.Epoch != 2 || first.Outcome.Seq <= rep.StartSeq {
					t.Errorf("report %+v, first answer at seq %d", rep, first.Outcome.Seq)
				}
				b.stop()
				a.submit(t, put(1<<41), node.NotPrimary)
				if tt.write < time.Hour {
					<-over
				} else {
					synctest.Wait()
				}
				counts := b.machine.counts()
				for _, id := range answered {
					if counts[id] != 1 {
						t.Fatalf("id %d of %d was answered and applied %d times", id, len(answered), counts[id])
					}
				}
				time.Sleep(2 * tt.write)
				<-over
			})
		})
	}
}

// RULES 11: of two standbys that want the same epoch one wins; the other sees
// that it lost, names the winner, and stays useful as its standby.
func TestOneWinnerPerEpoch(t *testing.T) {
	store := memjournal.New()
	group := []*member{join(t, store.Handle(), "a", nil), join(t, store.Handle(), "b", nil), join(t, store.Handle(), "c", nil)}
	primary := group[0]
	primary.lead(t)
	races := 0
	for round := range 100 {
		epoch := journal.Epoch(round + 1)
		standbys := slices.DeleteFunc(slices.Clone(group), func(m *member) bool { return m == primary })
		var wg sync.WaitGroup
		errs := make([]error, len(standbys))
		for i, s := range standbys {
			wg.Go(func() {
				_, errs[i] = s.Promote(t.Context(), node.PromoteRequest{Expect: node.Expect{Epoch: &epoch}})
			})
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("round %d: %v and %v, want one winner", round, errs[0], errs[1])
		}
		winner, loser, err := standbys[0], standbys[1], errs[1]
		if errs[0] != nil {
			winner, loser, err = standbys[1], standbys[0], errs[0]
		}
		var p *node.PromoteError
		if !errors.As(err, &p) || p.Failure != node.LostRace && p.Failure != node.ExpectationFailed {
			t.Fatalf("round %d: the loser got %v", round, err)
		}
		if p.Failure == node.LostRace {
			races++
		}
		if p.Owner != winner.Owner() || p.Epoch != epoch+1 {
			t.Fatalf("round %d: the loser names %s, epoch %d; want %s, %d", round, p.Owner, p.Epoch, winner.Owner(), epoch+1)
		}
		res := winner.submit(t, put(uint64(round)), node.Done)
		until(t, "the loser has followed", func() bool { return loser.Progress().Seq >= res.Outcome.Seq })
		primary = winner
	}
	t.Logf("%d races were decided by the fence", races)
}

// Two promotions that are asked for at once, by people who do not name the epoch
// that they know: one of them wins, whether the other one comes before the winner's
// fence, between that and its first record, or just after.
func TestPromotionsAtOnce(t *testing.T) {
	for _, accept := range [][]string{nil, {"primary"}} {
		t.Run(fmt.Sprint(accept), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memjournal.New()
				var mu sync.Mutex
				alive := map[string]bool{}
				probe := func(c *node.Config) {
					c.Probe = func(_ context.Context, primary machine.Tenure) error {
						mu.Lock()
						defer mu.Unlock()
						if alive[primary.Node] {
							return nil
						}
						return errors.New("connection refused")
					}
				}
				group := []*member{
					join(t, store.Handle(), "a", nil, probe), join(t, store.Handle(), "b", nil, probe), join(t, store.Handle(), "c", nil, probe),
				}
				primary := group[0]
				primary.lead(t)
				for round := range 300 {
					mu.Lock()
					alive = map[string]bool{"a": true, "b": true, "c": true}
					if accept == nil {
						alive[primary.Overview().Node] = false
					}
					mu.Unlock()
					time.Sleep(5 * time.Second)
					standbys := slices.DeleteFunc(slices.Clone(group), func(m *member) bool { return m == primary })
					var wg sync.WaitGroup
					errs := make([]error, len(standbys))
					for i, s := range standbys {
						wg.Go(func() {
							for range rand.IntN(50) {
								runtime.Gosched()
							}
							_, errs[i] = s.Promote(t.Context(), node.PromoteRequest{Accept: accept})
						})
					}
					wg.Wait()
					winner, err := standbys[0], errs[1]
					if errs[0] != nil {
						winner, err = standbys[1], errs[0]
					}
					var p *node.PromoteError
					if (errs[0] == nil) == (errs[1] == nil) || !errors.As(err, &p) {
						t.Fatalf("round %d: %v and %v, want one winner", round, errs[0], errs[1])
					}
					if p.Failure != node.LostRace && (accept != nil || p.Failure != node.ChecksFailed) || p.Owner != winner.Owner() {
						t.Fatalf("round %d: %v, want it to name %s", round, err, winner.Owner())
					}
					primary = winner
				}
			})
		})
	}
}

// The race decided by the fence itself, every time: another owner's fence lies
// between this node's checks and its own.
func TestLostRaceNamesTheWinner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memjournal.New()
		j := &hooked{Journal: store.Handle()}
		a := join(t, j, "a", nil)
		j.beforeFence = func() { store.Fence(t.Context(), 1, "winner/1") }
		_, err := a.Promote(t.Context(), node.PromoteRequest{})
		p := wantFailure(t, err, node.LostRace)
		if p.Epoch != 1 || p.Owner != "winner/1" {
			t.Errorf("lost to %q, epoch %d", p.Owner, p.Epoch)
		}
		synctest.Wait()
		if s := a.Overview().State; s != node.Following {
			t.Errorf("state %v", s)
		}
		j.beforeFence = nil
		if r := a.lead(t); r.Epoch != 2 {
			t.Errorf("then opens epoch %d", r.Epoch)
		}
	})
}

// A lost race is named by its winner even if the fence that was not answered had
// landed and was outbid since.
func TestOutbidAfterUnknownFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memjournal.New()
		j := &hooked{Journal: store.Handle()}
		j.afterFence = func(pos journal.Position, err error) (journal.Position, error) {
			j.afterFence = nil
			store.Fence(t.Context(), 2, "winner/1")
			return 0, journaltest.ErrInjected
		}
		a := join(t, j, "a", nil)
		_, err := a.Promote(t.Context(), node.PromoteRequest{})
		if p := wantFailure(t, err, node.LostRace); p.Epoch != 2 || p.Owner != "winner/1" {
			t.Errorf("lost to %q, epoch %d", p.Owner, p.Epoch)
		}
	})
}

// The same between the fence and EpochStart.
func TestOutbidBeforeEpochStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memjournal.New()
		j := &hooked{Journal: store.Handle()}
		j.beforeAppend = func() { j.beforeAppend = nil; store.Fence(t.Context(), 2, "winner/1") }
		a := join(t, j, "a", nil)
		_, err := a.Promote(t.Context(), node.PromoteRequest{})
		if p := wantFailure(t, err, node.LostRace); p.Epoch != 2 || p.Owner != "winner/1" {
			t.Errorf("lost to %q, epoch %d", p.Owner, p.Epoch)
		}
		if p := a.Progress(); p.Epoch != 2 || p.Owner != "winner/1" {
			t.Errorf("progress says epoch %d by %s", p.Epoch, p.Owner)
		}
	})
}

// hooked lets a test act between two steps of a promotion.
type hooked struct {
	journal.Journal
	beforeFence, beforeAppend func()
	afterFence                func(journal.Position, error) (journal.Position, error)
}

func (h *hooked) Fence(ctx context.Context, epoch journal.Epoch, owner string) (journal.Position, error) {
	if h.beforeFence != nil {
		h.beforeFence()
	}
	pos, err := h.Journal.Fence(ctx, epoch, owner)
	if h.afterFence != nil {
		return h.afterFence(pos, err)
	}
	return pos, err
}

func (h *hooked) Append(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
	if h.beforeAppend != nil {
		h.beforeAppend()
	}
	return h.Journal.Append(ctx, epoch, prev, batch)
}

func (h *hooked) End(ctx context.Context) (journal.End, error) {
	return journal.SampleEnd(ctx, h.Journal)
}
func (h *hooked) Describe() journal.Capabilities { return journal.Describe(h.Journal) }

// RULES 12: a healthy, busy primary cannot starve a promotion: the first try wins.
func TestFullLoadDoesNotStarvePromotion(t *testing.T) {
	store := memjournal.New()
	group := []*member{join(t, store.Handle(), "a", nil), join(t, store.Handle(), "b", nil)}
	group[0].lead(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	for i := range 64 {
		wg.Go(func() {
			for id := uint64(i) << 32; ; id++ {
				select {
				case <-stop:
					return
				default:
				}
				if group[0].Submit(t.Context(), put(id)).Status != node.Done {
					group[1].Submit(t.Context(), put(id))
				}
			}
		})
	}
	until(t, "there is load", func() bool { return group[0].Progress().Seq > 1000 })
	for i := range 20 {
		if r := group[(i+1)%2].lead(t); r.Epoch != journal.Epoch(i+2) {
			t.Errorf("promotion %d opened epoch %d", i, r.Epoch)
		}
	}
}

// RULES 2, 10: a fence whose outcome is unknown is asked again by the same owner
// until it is known.
func TestUnknownFenceIsResolved(t *testing.T) {
	for _, kind := range []journaltest.FaultKind{journaltest.LoseAck, journaltest.Vanish, journaltest.Delay, journaltest.Stall} {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := journaltest.NewFaulty(t, memjournal.New(), 1)
				f.Hold = 3 * time.Second
				a := join(t, f, "a", nil)
				f.Plan(journaltest.OpFence, 1, journaltest.Fault{Kind: kind})
				f.Plan(journaltest.OpFence, 2, journaltest.Fault{Kind: kind})
				if r := a.lead(t); r.Epoch != 1 || r.StartSeq != 1 {
					t.Errorf("report %+v", r)
				}
				time.Sleep(5 * time.Second)
				a.submit(t, put(1), node.Done)
			})
		})
	}
}

// RULES 16: a fence that stays unknown to the deadline is called unknown, and any
// later promotion, of either node, works whatever became of it.
func TestFenceUnknownAtDeadline(t *testing.T) {
	for _, kind := range []journaltest.FaultKind{journaltest.LoseAck, journaltest.Vanish, journaltest.Delay} {
		for _, again := range []string{"a", "b"} {
			t.Run(kind.String()+", then "+again, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := memjournal.New()
					f := journaltest.NewFaulty(t, store.Handle(), 1)
					f.Hold = time.Minute
					nodes := map[string]*member{"a": join(t, f, "a", nil), "b": join(t, store.Handle(), "b", nil)}
					f.Rate(journaltest.OpFence, 1, journaltest.Fault{Kind: kind})
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					_, err := nodes["a"].Promote(ctx, node.PromoteRequest{})
					wantFailure(t, err, node.FenceUnknown)
					f.Heal()
					nodes[again].lead(t)
					time.Sleep(2 * time.Minute)
					nodes[again].submit(t, put(1), node.Done)
				})
			})
		}
	}
}

// RULES 16: a failure after the fence is called by its name, and a later
// promotion of either node opens the next epoch.
func TestFailureAfterTheFenceIsNamed(t *testing.T) {
	faults := []struct {
		name  string
		op    journaltest.Op
		fault journaltest.Fault
	}{
		{"EpochStart vanishes", journaltest.OpAppend, journaltest.Fault{Kind: journaltest.Vanish}},
		{"EpochStart is late", journaltest.OpAppend, journaltest.Fault{Kind: journaltest.Delay}},
		{"the journal is full", journaltest.OpAppend, journaltest.Fault{Kind: journaltest.Refuse}},
		{"the append hangs", journaltest.OpAppend, journaltest.Fault{Kind: journaltest.Stall}},
	}
	for _, tt := range faults {
		for _, again := range []string{"a", "b"} {
			t.Run(tt.name+", then "+again, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := memjournal.New()
					f := journaltest.NewFaulty(t, store.Handle(), 1)
					f.Hold = time.Minute
					nodes := map[string]*member{"a": join(t, f, "a", nil), "b": join(t, store.Handle(), "b", nil)}
					nodes["b"].lead(t)
					until(t, "a has heard of it", func() bool { return nodes["a"].Progress().Seq == 1 })
					f.Rate(tt.op, 1, tt.fault)
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
					defer cancel()
					_, err := nodes["a"].Promote(ctx, node.PromoteRequest{})
					p := wantFailure(t, err, node.FencedNotServing)
					if p.Epoch != 2 || p.Owner != nodes["a"].Owner() || !strings.Contains(err.Error(), "nobody serves") {
						t.Errorf("%v (epoch %d, %s)", err, p.Epoch, p.Owner)
					}
					time.Sleep(time.Second)
					nodes["b"].submit(t, put(1), node.NotPrimary)
					nodes["a"].submit(t, put(2), node.NotPrimary)
					f.Heal()
					if r := nodes[again].lead(t); r.Epoch != 3 {
						t.Errorf("then epoch %d", r.Epoch)
					}
					time.Sleep(2 * time.Minute)
					nodes[again].submit(t, put(3), node.Done)
					same(t, nodes["a"], nodes["b"])
				})
			})
		}
	}
}

// The journal falls silent between the fence and its own entry.
func TestDrainThatStallsIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memjournal.New()
		f := journaltest.NewFaulty(t, store.Handle(), 1)
		f.Plan(journaltest.OpFollow, 1, journaltest.Fault{Kind: journaltest.BreakSilently})
		f.Rate(journaltest.OpFollow, 1, journaltest.Fault{Kind: journaltest.Stall})
		a := join(t, f, "a", nil)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := a.Promote(ctx, node.PromoteRequest{})
		wantFailure(t, err, node.FencedNotServing)
		f.Heal()
		if r := a.lead(t); r.Epoch != 2 {
			t.Errorf("then epoch %d", r.Epoch)
		}
	})
}

// RULES 2: an EpochStart whose outcome is unknown is resolved like any append.
func TestUnknownEpochStartIsResolved(t *testing.T) {
	for _, kind := range []journaltest.FaultKind{journaltest.LoseAck, journaltest.Vanish, journaltest.Delay} {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := journaltest.NewFaulty(t, memjournal.New(), 1)
				f.Hold = time.Second
				a := join(t, f, "a", nil)
				f.Plan(journaltest.OpAppend, 1, journaltest.Fault{Kind: kind})
				if r := a.lead(t); r.StartSeq != 1 {
					t.Errorf("report %+v", r)
				}
				time.Sleep(2 * time.Second)
				if got := a.submit(t, put(1), node.Done).Outcome.Seq; got != 2 {
					t.Errorf("the first command has seq %d", got)
				}
			})
		})
	}
}

// RULES 16: refusals come before the fence and write nothing.
func TestRefusalsWriteNothing(t *testing.T) {
	epoch := journal.Epoch(7)
	tests := []struct {
		name string
		req  node.PromoteRequest
		j    func(journal.Journal) journal.Journal
		cfg  func(*node.Config)
		want node.Failure
		by   string // the check that refuses
	}{
		{name: "another node", req: node.PromoteRequest{Expect: node.Expect{Node: "x"}}, want: node.ExpectationFailed},
		{name: "another epoch", req: node.PromoteRequest{Expect: node.Expect{Epoch: &epoch}}, want: node.ExpectationFailed},
		{name: "not that far", req: node.PromoteRequest{Expect: node.Expect{MinSeq: 1000}}, want: node.ExpectationFailed},
		{
			name: "no fence", want: node.ChecksFailed, by: "capability",
			j: func(j journal.Journal) journal.Journal {
				return described{j, journal.Capabilities{Backend: "without fence"}}
			},
		},
		{
			name: "read-only", want: node.ChecksFailed, by: "capability",
			j: func(j journal.Journal) journal.Journal {
				return described{j, journal.Capabilities{Fence: true, ReadOnly: true}}
			},
		},
		{
			name: "the tail is below the cursor", want: node.ChecksFailed, by: "tail",
			j: func(j journal.Journal) journal.Journal { return ending{j, 1} },
		},
		{
			name: "too far behind", want: node.ChecksFailed, by: "lag",
			cfg: func(c *node.Config) { c.MaxDrain = 1; c.Machine.New = tallying(&tally{took: time.Second}).New },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memjournal.New()
				a := join(t, store.Handle(), "a", nil)
				a.lead(t)
				for id := range uint64(20) {
					a.submit(t, put(id), node.Done)
				}
				var j journal.Journal = store.Handle()
				if tt.j != nil {
					j = tt.j(j)
				}
				b := join(t, j, "b", nil, func(c *node.Config) {
					if tt.cfg != nil {
						tt.cfg(c)
					}
				})
				time.Sleep(500 * time.Millisecond)
				before, _ := store.End(t.Context())
				list := b.Checks(t.Context())
				_, err := b.Promote(t.Context(), tt.req)
				p := wantFailure(t, err, tt.want)
				if after, _ := store.End(t.Context()); after.Pos != before.Pos {
					t.Errorf("the journal grew from %d to %d", before.Pos, after.Pos)
				}
				if tt.by != "" {
					for _, list := range [][]node.Check{list, p.Checks} {
						if got := failing(list); !slices.Contains(got, tt.by) {
							t.Errorf("refused by %v, want %s", got, tt.by)
						}
					}
				}
				a.submit(t, put(99), node.Done)
			})
		})
	}
}

// An operator may accept a check that can be accepted.
func TestAcceptedLagIsDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memjournal.New()
		a := join(t, store.Handle(), "a", nil)
		a.lead(t)
		for id := range uint64(20) {
			a.submit(t, put(id), node.Done)
		}
		b := join(t, store.Handle(), "b", &tally{took: 100 * time.Millisecond}, func(c *node.Config) { c.MaxDrain = 1 })
		r, err := b.Promote(t.Context(), node.PromoteRequest{Accept: []string{"lag"}})
		if err != nil {
			t.Fatal(err)
		}
		if r.Drained < 15 || !slices.Contains(r.Accepted, "lag") {
			t.Errorf("report %+v", r)
		}
	})
}

// A dry run changes nothing, and does not take a node that follows on while it
// looks for one whose journal became shorter.
func TestChecksOfABusyFollowerPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memjournal.New()
		a := join(t, store.Handle(), "a", nil)
		j := &sampled{Journal: store.Handle()}
		b := join(t, j, "b", nil)
		a.lead(t)
		time.Sleep(100 * time.Millisecond) // between two samples of b's own
		j.next(func(end journal.End) journal.End {
			a.submit(t, put(1), node.Done)
			synctest.Wait() // b follows
			return end
		})
		if bad := failing(b.Checks(t.Context())); bad != nil {
			t.Errorf("failing: %v", bad)
		}
		if p := b.Progress(); p.Epoch != 1 || p.Seq != 2 {
			t.Errorf("epoch %d, seq %d", p.Epoch, p.Seq)
		}
	})
}

// sampled lets a test act after the end was sampled, and before anybody knows it.
type sampled struct {
	journal.Journal
	mu   sync.Mutex
	then func(journal.End) journal.End // of the next sample; one at a time
}

func (s *sampled) next(then func(journal.End) journal.End) (was func(journal.End) journal.End) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, s.then = s.then, then
	return was
}

func (s *sampled) Describe() journal.Capabilities { return journal.Describe(s.Journal) }

func (s *sampled) End(ctx context.Context) (journal.End, error) {
	end, err := journal.SampleEnd(ctx, s.Journal)
	if then := s.next(nil); then != nil {
		end = then(end)
	}
	return end, err
}

func failing(list []node.Check) (ids []string) {
	for _, c := range list {
		if c.Verdict == node.Fail {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// described declares other capabilities.
type described struct {
	journal.Journal
	caps journal.Capabilities
}

func (d described) Describe() journal.Capabilities { return d.caps }
func (d described) End(ctx context.Context) (journal.End, error) {
	return journal.SampleEnd(ctx, d.Journal)
}

// ending says that the journal ends somewhere.
type ending struct {
	journal.Journal
	pos journal.Position
}

func (e ending) Describe() journal.Capabilities { return journal.Describe(e.Journal) }
func (e ending) End(ctx context.Context) (journal.End, error) {
	end, err := journal.SampleEnd(ctx, e.Journal)
	end.Pos = e.pos
	return end, err
}

// RULES 17: the deadline holds also while the machine is busy with a batch; what
// was given up then is not carried out later.
func TestPromotionNotTakenUpIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memjournal.New()
		a := join(t, store.Handle(), "a", nil)
		m := &tally{block: make(chan struct{}), began: make(chan journal.Seq, 1)}
		b := join(t, store.Handle(), "b", m)
		a.lead(t)
		a.submit(t, command("block"), node.Done)
		<-m.began
		for range 2 { // the second finds the first one's place taken
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := b.Promote(ctx, node.PromoteRequest{})
			wantFailure(t, err, node.JournalUnavailable)
		}
		close(m.block)
		time.Sleep(5 * time.Second)
		if p := b.Progress(); p.Epoch != 1 {
			t.Errorf("an abandoned request opened epoch %d", p.Epoch)
		}
		b.lead(t)
	})
}

// One promotion of a node at a time; the primary answers that it is one.
func TestPromoteWhilePromoting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := journaltest.NewFaulty(t, memjournal.New(), 1)
		a := join(t, f, "a", nil)
		f.Plan(journaltest.OpFence, 1, journaltest.Fault{Kind: journaltest.Stall})
		first := make(chan error, 1)
		go func() { _, err := a.Promote(t.Context(), node.PromoteRequest{}); first <- err }()
		synctest.Wait()
		_, err := a.Promote(t.Context(), node.PromoteRequest{})
		wantFailure(t, err, node.InProgress)
		if err := <-first; err != nil {
			t.Fatal(err)
		}
		_, err = a.Promote(t.Context(), node.PromoteRequest{})
		if p := wantFailure(t, err, node.AlreadyPrimary); p.Owner != a.Owner() {
			t.Errorf("the primary is %s", p.Owner)
		}
	})
}

// RULES 15, 17: stopping a node ends its promotion, and says what is certain.
func TestStopDuringPromotion(t *testing.T) {
	for _, tt := range []struct {
		name string
		op   journaltest.Op
		want node.Failure
	}{
		{"before the fence", journaltest.OpEnd, node.Stopping},
		{"at the fence", journaltest.OpFence, node.FenceUnknown},
		{"after the fence", journaltest.OpAppend, node.FencedNotServing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := journaltest.NewFaulty(t, memjournal.New(), 1)
				a := join(t, f, "a", nil)
				f.Rate(tt.op, 1, journaltest.Fault{Kind: journaltest.Stall})
				result := make(chan error, 1)
				go func() { _, err := a.Promote(t.Context(), node.PromoteRequest{}); result <- err }()
				time.Sleep(100 * time.Millisecond)
				if err := a.stop(); err != nil {
					t.Errorf("run: %v", err)
				}
				wantFailure(t, <-result, tt.want)
				_, err := a.Promote(t.Context(), node.PromoteRequest{})
				wantFailure(t, err, node.Stopping)
			})
		})
	}
}

// The ways to start: bootstrap on an empty journal only.
func TestStart(t *testing.T) {
	tests := []struct {
		name  string
		start node.Start
		empty bool
		leads bool
	}{
		{"follow an empty journal", node.Follow, true, false},
		{"bootstrap an empty journal", node.Bootstrap, true, true},
		{"bootstrap a journal that is not empty", node.Bootstrap, false, false},
		{"promote on an empty journal", node.Promote, true, true},
		{"promote on a journal that is not empty", node.Promote, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memjournal.New()
				if !tt.empty {
					journaltest.Write(t, store, 0)
				}
				f := journaltest.NewFaulty(t, store, 1)
				f.Plan(journaltest.OpEnd, 1, journaltest.Fault{Kind: journaltest.Refuse})
				f.Plan(journaltest.OpEnd, 2, journaltest.Fault{Kind: journaltest.Refuse})
				a := join(t, f, "a", nil, func(c *node.Config) { c.Start = tt.start })
				time.Sleep(5 * time.Second)
				if got := a.Overview().State == node.Leading; got != tt.leads {
					t.Errorf("leads %v, want %v", got, tt.leads)
				}
			})
		})
	}
}

// Of several nodes that bootstrap the same journal at once one leads, and none
// takes it from the other.
func TestBootstrapTogether(t *testing.T) {
	for round := range 30 {
		store := memjournal.New()
		var group []*member
		for i := range 3 {
			group = append(group, join(t, store.Handle(), fmt.Sprint(i), nil, func(c *node.Config) { c.Start = node.Bootstrap }))
		}
		until(t, "one leads and the others follow it", func() bool {
			leads := 0
			for _, m := range group {
				if m.Overview().State == node.Leading {
					leads++
				}
				if m.Progress().Seq < 1 {
					return false
				}
			}
			return leads == 1
		})
		for _, m := range group {
			m.stop()
		}
		if end, _ := store.End(t.Context()); end.Epoch != 1 {
			t.Fatalf("round %d: epoch %d was opened", round, end.Epoch)
		}
	}
}

// A node that found the journal empty a moment too early does not take it from
// the one that bootstrapped it.
func TestBootstrapTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memjournal.New()
		a := join(t, store.Handle(), "a", nil)
		a.lead(t)
		j := &stale{Journal: store.Handle()}
		j.left.Store(2) // its first sample, and the one that bootstrapping asks for
		b := join(t, j, "b", nil, func(c *node.Config) { c.Start = node.Bootstrap })
		time.Sleep(5 * time.Second)
		if left := j.left.Load(); left > 0 {
			t.Errorf("%d samples were not asked for", left)
		}
		a.submit(t, put(1), node.Done)
		if s := b.Overview().State; s != node.Following {
			t.Errorf("the late one is %v", s)
		}
	})
}

// stale says a few times that the journal is empty.
type stale struct {
	journal.Journal
	left atomic.Int32
}

func (s *stale) Describe() journal.Capabilities { return journal.Describe(s.Journal) }

func (s *stale) End(ctx context.Context) (journal.End, error) {
	if s.left.Add(-1) >= 0 {
		return journal.End{When: time.Now()}, nil
	}
	return journal.SampleEnd(ctx, s.Journal)
}

// same waits until two nodes have applied the same and compares their digests.
func same(t *testing.T, a, b *member) {
	t.Helper()
	until(t, "both have applied the same", func() bool { return a.Progress().Seq == b.Progress().Seq })
	if x, y := a.Overview().Digest, b.Overview().Digest; x != y {
		t.Errorf("digests %v and %v", x, y)
	}
}

// An old primary that does not know yet that it was fenced does not say that it
// is the primary: it finds out, and carries the promotion out.
func TestPromoteTheOldPrimaryAtOnce(t *testing.T) {
	store := memjournal.New()
	group := []*member{join(t, store.Handle(), "a", nil), join(t, store.Handle(), "b", nil)}
	for i := range 50 {
		if r := group[i%2].lead(t); r.Epoch != journal.Epoch(i+1) {
			t.Fatalf("promotion %d opened epoch %d", i, r.Epoch)
		}
	}
}

// A promotion that is asked for after another one was answered is no race, although
// the node has not read yet who took over.
func TestPromotionsOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memjournal.New()
		slow := &withholding{Journal: store.Handle()}
		a, b := join(t, store.Handle(), "a", nil), join(t, slow, "b", nil)
		time.Sleep(time.Second + 10*time.Millisecond) // b is level, and its next look at the tail far away
		slow.held.Store(true)
		if _, err := a.Promote(t.Context(), node.PromoteRequest{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		time.AfterFunc(5*time.Millisecond, func() { slow.held.Store(false) })
		if r, err := b.Promote(t.Context(), node.PromoteRequest{}); err != nil || r.Epoch != 2 {
			t.Errorf("promotion after another one: epoch %d, %v; want 2", r.Epoch, err)
		}
	})
}

// A withholding journal is read late while it is held.
type withholding struct {
	journal.Journal
	held atomic.Bool
}

func (w *withholding) Follow(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		for e, err := range w.Journal.Follow(ctx, after) {
			for w.held.Load() && ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
			if ctx.Err() != nil || !yield(e, err) {
				return
			}
		}
	}
}

func (w *withholding) End(ctx context.Context) (journal.End, error) {
	return journal.SampleEnd(ctx, w.Journal)
}

func (w *withholding) Describe() journal.Capabilities { return journal.Describe(w.Journal) }
