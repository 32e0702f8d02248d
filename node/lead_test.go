package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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

// pair returns a primary over a faulty journal, and that journal's store.
func pair(t *testing.T, change ...func(*node.Config)) (*member, *journaltest.Faulty, *memjournal.Journal) {
	t.Helper()
	store := memjournal.New()
	f := journaltest.NewFaulty(t, store.Handle(), 1)
	a := join(t, f, "a", nil, change...)
	a.lead(t)
	return a, f, store
}

// now returns the answer that has come, or ends the test.
func now(t *testing.T, c <-chan node.Result) node.Result {
	t.Helper()
	synctest.Wait()
	select {
	case res := <-c:
		return res
	default:
		t.Fatal("no answer")
		return node.Result{}
	}
}

// RULES 14: a primary that was fenced while idle steps down by itself, within a
// sample of the tail and a look at it, and becomes a standby.
func TestIdlePrimaryStepsDownByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, store := pair(t)
		time.Sleep(time.Hour)
		store.Fence(t.Context(), 2, "other/1")
		time.Sleep(550 * time.Millisecond)
		synctest.Wait()
		o := a.Overview()
		if o.State != node.Following || o.Progress.Epoch != 2 || o.Progress.Owner != "other/1" {
			t.Errorf("state %v, epoch %d by %s", o.State, o.Progress.Epoch, o.Progress.Owner)
		}
		if primary, addr, epoch := a.Leader(); primary || addr != "" || epoch != 2 {
			t.Errorf("leader: %v %q %d, want nobody known in epoch 2", primary, addr, epoch)
		}
	})
}

// RULES 14: what was appended before the fence is answered done, what is absent
// after reading through it is certainly not done.
func TestInFlightWhenFenced(t *testing.T) {
	tests := []struct {
		name  string
		fault journaltest.FaultKind // of the append; 0 for none
		want  node.Status
	}{
		{"the append comes after the fence", 0, node.NotPrimary},
		{"the append vanished", journaltest.Vanish, node.NotPrimary},
		{"the append is delayed beyond the fence", journaltest.Delay, node.NotPrimary},
		{"the append landed and its answer was lost", journaltest.LoseAck, node.Done},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, f, store := pair(t)
				f.Hold = time.Minute
				f.Rate(journaltest.OpFollow, 1, journaltest.Fault{Kind: journaltest.Break, After: 0}) // nothing can be resolved yet
				if tt.fault != 0 {
					f.Rate(journaltest.OpAppend, 1, journaltest.Fault{Kind: tt.fault})
				} else {
					store.Fence(t.Context(), 2, "other/1")
				}
				first, second := a.later(put(1)), a.later(put(2))
				time.Sleep(100 * time.Millisecond)
				if tt.fault != 0 {
					store.Fence(t.Context(), 2, "other/1")
				}
				select {
				case res := <-first:
					t.Fatalf("answered %v (%v) before the journal could be read", res.Status, res.Err)
				default:
				}
				f.Heal()
				time.Sleep(2 * time.Second)
				if res := now(t, first); res.Status != tt.want {
					t.Errorf("status %v (%v), want %v", res.Status, res.Err, tt.want)
				}
				if res := now(t, second); res.Status != tt.want && res.Status != node.NotPrimary {
					t.Errorf("the one behind it: status %v (%v)", res.Status, res.Err)
				}
				time.Sleep(2 * time.Minute)
				a.stop()
				if got, want := a.machine.counts()[1], map[bool]int{true: 1}[tt.want == node.Done]; got != want {
					t.Errorf("applied %d times, want %d", got, want)
				}
			})
		})
	}
}

// RULES 2, 14: what the journal cannot tell by the end is unknown, and the
// process ends in time.
func TestStopWhileAppendHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := pair(t)
		f.Rate(journaltest.OpAppend, 1, journaltest.Fault{Kind: journaltest.Stall})
		flying := a.later(put(1))
		synctest.Wait()
		waits := a.later(put(2))
		began := time.Now()
		if err := a.stop(); err != nil {
			t.Errorf("run: %v", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("stopping took %v", took)
		}
		if res := now(t, flying); res.Status != node.Unknown {
			t.Errorf("in flight: %v (%v)", res.Status, res.Err)
		}
		if res := now(t, waits); res.Status != node.NotPrimary {
			t.Errorf("never sequenced: %v (%v)", res.Status, res.Err)
		}
		if primary, _, _ := a.Leader(); primary {
			t.Error("a stopped node says that it is the primary")
		}
	})
}

// What is in flight when the process is told to stop is waited for.
func TestStopDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := pair(t)
		f.Hold = 100 * time.Millisecond
		f.Plan(journaltest.OpAppend, 1, journaltest.Fault{Kind: journaltest.Delay})
		flying := a.later(put(1))
		synctest.Wait()
		if err := a.stop(); err != nil {
			t.Errorf("run: %v", err)
		}
		if res := now(t, flying); res.Status != node.Done || res.Outcome.Seq != 2 {
			t.Errorf("in flight: %v (%v) at seq %d", res.Status, res.Err, res.Outcome.Seq)
		}
		a.submit(t, put(3), node.NotPrimary)
	})
}

// A journal that is down for a while delays answers and loses none.
func TestJournalDownThenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := pair(t)
		for _, op := range []journaltest.Op{journaltest.OpAppend, journaltest.OpFollow, journaltest.OpEnd} {
			f.Rate(op, 1, journaltest.Fault{Kind: journaltest.Vanish})
		}
		var answers []<-chan node.Result
		for id := range uint64(50) {
			answers = append(answers, a.later(put(id)))
		}
		time.Sleep(20 * time.Second)
		if p := a.Progress(); p.TailErr == nil {
			t.Error("the tail could be read")
		}
		f.Heal()
		time.Sleep(2 * time.Second)
		for id, c := range answers {
			if res := now(t, c); res.Status != node.Done {
				t.Fatalf("id %d: %v (%v)", id, res.Status, res.Err)
			}
		}
		a.stop()
		for id, n := range a.machine.counts() {
			if n != 1 {
				t.Errorf("id %d applied %d times", id, n)
			}
		}
	})
}

// A full journal refuses for certain and does not end the tenure.
func TestJournalFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := pair(t)
		f.Plan(journaltest.OpAppend, 1, journaltest.Fault{Kind: journaltest.Refuse})
		if res := a.submit(t, put(1), node.NotDone); !errors.Is(res.Err, journal.ErrFull) {
			t.Errorf("err = %v", res.Err)
		}
		if got := a.submit(t, put(2), node.Done).Outcome.Seq; got != 2 {
			t.Errorf("the next one has seq %d, want 2: nothing was burnt", got)
		}
	})
}

// RULES 4: a broken handle is final: nothing is answered as if it had not been.
func TestBrokenHandleHalts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := pair(t)
		f.Plan(journaltest.OpAppend, 1, journaltest.Fault{Kind: journaltest.Vanish, Err: journal.ErrBroken})
		a.submit(t, put(1), node.Unknown)
		until(t, "it has halted", a.is(node.Halted))
		if err := a.stop(); !errors.Is(err, journal.ErrBroken) {
			t.Errorf("run: %v", err)
		}
	})
}

// RULES 21 on the primary: a journal that ends below what was read from it is
// lost, not a conflict to be retried for ever.
func TestPrimaryOfALostJournalHalts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memjournal.New()
		j := &replaceable{Journal: store}
		a := join(t, j, "a", nil)
		a.lead(t)
		a.submit(t, put(1), node.Done)
		j.replace(memjournal.New())
		res := a.submit(t, put(2), node.Unknown)
		if !errors.Is(res.Err, journal.ErrLost) && !errors.As(res.Err, new(*journal.CorruptError)) {
			t.Errorf("err = %v", res.Err)
		}
		until(t, "it has halted", a.is(node.Halted))
	})
}

// RULES 3: what cannot be sequenced is refused before, and leaves no trace.
func TestRefusedBeforeSequencing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, store := pair(t)
		tests := []struct {
			name string
			req  node.Request
			want error
		}{
			{"unknown command", command("fly"), machine.ErrUnknownCommand},
			{"unknown version", node.Request{Kind: journal.KindCommand, Name: "put", Version: 1}, machine.ErrUnknownCommand},
			{"no name", command(""), machine.ErrUnknownCommand},
			{"too large", node.Request{Kind: journal.KindCommand, Name: "put", Data: make([]byte, a.MaxData("put")+1)}, journal.ErrTooLarge},
			{"a session of no kind", node.Request{Kind: journal.KindSession, Name: "sorted"}, node.ErrBadRequest},
			{"an epoch start", node.Request{Kind: journal.KindEpochStart}, node.ErrBadRequest},
			{"request 0 of a session", node.Request{Kind: journal.KindCommand, Name: "put", Client: 1, Low: 1}, node.ErrBadRequest},
			{"lowest 0", node.Request{Kind: journal.KindCommand, Name: "put", Client: 1, Number: 1}, node.ErrBadRequest},
			{"lowest above the request", node.Request{Kind: journal.KindCommand, Name: "put", Number: 1, Low: 2}, node.ErrBadRequest},
		}
		before, _ := store.End(t.Context())
		for _, tt := range tests {
			if res := a.submit(t, tt.req, node.Refused); !errors.Is(res.Err, tt.want) {
				t.Errorf("%s: err = %v, want %v", tt.name, res.Err, tt.want)
			}
		}
		if after, _ := store.End(t.Context()); after.Pos != before.Pos {
			t.Errorf("the journal grew from %d to %d", before.Pos, after.Pos)
		}
		a.submit(t, node.Request{Kind: journal.KindCommand, Name: "put", Data: make([]byte, a.MaxData("put"))}, node.Done)
	})
}

// More than may wait are told so, and may come again.
func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := pair(t, func(c *node.Config) { c.MaxWaiting = 3 })
		f.Plan(journaltest.OpAppend, 1, journaltest.Fault{Kind: journaltest.Stall})
		first := a.later(put(1))
		synctest.Wait()
		rest := []<-chan node.Result{a.later(put(2)), a.later(put(3))}
		if got := a.Overview().Waiting; got != 3 {
			t.Errorf("%d wait, want 3", got)
		}
		if res := now(t, a.later(put(4))); res.Status != node.NotDone || !errors.Is(res.Err, node.ErrOverloaded) {
			t.Errorf("the fourth: %v (%v)", res.Status, res.Err)
		}
		if err := a.Read(t.Context(), func(machine.Machine) {}); !errors.Is(err, node.ErrOverloaded) {
			t.Errorf("a read: %v", err)
		}
		a.stop() // the stalled append ends with the node only
		for i, c := range append(rest, first) {
			if res := now(t, c); res.Status == node.Done {
				t.Errorf("request %d: %v", i, res.Status)
			}
		}
	})
}

// RULES 26: a read is proved by an append that began after it arrived, and many
// share one.
func TestReadsShareAProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, store := pair(t)
		a.submit(t, put(1), node.Done)
		before := f.Calls(journaltest.OpAppend)
		f.Plan(journaltest.OpAppend, 1, journaltest.Fault{Kind: journaltest.Vanish}) // the rest arrives while it is resolved
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				err := a.Read(t.Context(), func(m machine.Machine) {
					if got := len(m.(*tally).ids); got != 1 {
						t.Errorf("read %d ids", got)
					}
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := f.Calls(journaltest.OpAppend) - before; n < 1 || n > 4 {
			t.Errorf("100 reads took %d appends", n)
		}
		end, _ := store.End(t.Context())
		if end.Seq != 2 {
			t.Errorf("reads used up seqs: the last is %d", end.Seq)
		}
	})
}

// RULES 26: a primary that was fenced, and does not know it yet, does not answer
// a read from its stale state.
func TestReadOnAFencedPrimaryFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, store := pair(t)
		b := join(t, store.Handle(), "b", nil)
		b.lead(t)
		b.submit(t, put(1), node.Done)
		err := a.Read(t.Context(), func(m machine.Machine) { t.Errorf("read %v", m.(*tally).ids) })
		if err == nil {
			t.Error("the read succeeded")
		}
		time.Sleep(time.Second)
		if err := a.Read(t.Context(), func(machine.Machine) {}); !errors.Is(err, node.ErrNotPrimary) {
			t.Errorf("then: %v", err)
		}
	})
}

// A read whose caller gave up does not run any more.
func TestReadGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := pair(t)
		f.Hold = time.Second
		f.Plan(journaltest.OpAppend, 1, journaltest.Fault{Kind: journaltest.Delay})
		f.Plan(journaltest.OpAppend, 2, journaltest.Fault{Kind: journaltest.Delay})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		var ran atomic.Bool
		if err := a.Read(ctx, func(machine.Machine) { ran.Store(true) }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		time.Sleep(5 * time.Second)
		if ran.Load() {
			t.Error("it ran after its caller was gone")
		}
	})
}

// RULES 25, end to end: a retry gets the first answer and is not applied again,
// also by another primary, and a rejection is an answer like any other.
func TestRetryAfterFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, store := pair(t)
		b := join(t, store.Handle(), "b", nil)
		session := uint64(a.submit(t, node.Request{Kind: journal.KindSession}, node.Done).Outcome.Seq)
		good, bad := put(7), command("put")
		good.Client, good.Number, good.Low = session, 1, 1
		bad.Client, bad.Number, bad.Low = session, 2, 1
		first, second := a.submit(t, good, node.Done), a.submit(t, bad, node.Done)
		b.lead(t)
		for _, tt := range []struct {
			req  node.Request
			want machine.Outcome
		}{{good, first.Outcome}, {bad, second.Outcome}} {
			got := b.submit(t, tt.req, node.Done).Outcome
			if !got.Repeated || got.Code != tt.want.Code || string(got.Reply) != string(tt.want.Reply) {
				t.Errorf("retry: %+v, first %+v", got, tt.want)
			}
		}
		if second.Outcome.Code != machine.Rejected || !strings.Contains(string(second.Outcome.Reply), "0 bytes") {
			t.Errorf("rejection: %+v", second.Outcome)
		}
	})
}

// Each request gets exactly one answer on every path: done, fenced, refused, full,
// promoted at the wrong moment, panicked or stopped.
func TestEachRequestIsAnsweredOnce(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed+1), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 1))
				store := memjournal.New()
				f := journaltest.NewFaulty(t, store.Handle(), seed+1)
				f.Hold = 20 * time.Millisecond
				disturb(f)
				a := join(t, f, "a", nil, func(c *node.Config) { c.MaxWaiting = 50 })
				b := join(t, store.Handle(), "b", nil)
				var asked, answered, twice atomic.Int64
				quit := make(chan struct{})
				var wg sync.WaitGroup
				for range 20 {
					wg.Go(func() {
						for id := uint64(0); ; id++ {
							select {
							case <-quit:
								return
							default:
							}
							var once atomic.Bool
							asked.Add(1)
							r := put(id)
							if seed%3 == 0 && id == 100 {
								r = command("panic")
							}
							a.SubmitAsync(r, func(node.Result) {
								answered.Add(1)
								if once.Swap(true) {
									twice.Add(1)
								}
							})
							time.Sleep(time.Millisecond)
						}
					})
				}
				wg.Go(func() {
					for range 5 {
						ctx, cancel := context.WithTimeout(t.Context(), time.Second)
						a.Promote(ctx, node.PromoteRequest{})
						cancel()
						time.Sleep(50 * time.Millisecond)
						ctx, cancel = context.WithTimeout(t.Context(), time.Second)
						b.Promote(ctx, node.PromoteRequest{})
						cancel()
					}
				})
				time.Sleep(time.Duration(rng.IntN(600)) * time.Millisecond)
				a.stop()
				close(quit)
				wg.Wait()
				if n := answered.Load(); n != asked.Load() || twice.Load() != 0 {
					t.Errorf("%d requests, %d answers, %d of them second ones", asked.Load(), n, twice.Load())
				}
			})
		})
	}
}

// silent is a machine that does nothing.
type silent struct{}

func (silent) Apply(*machine.Context, machine.Command) ([]byte, error) { return nil, nil }
func (silent) Snapshot(io.Writer) error                                { return nil }
func (silent) Restore(io.Reader) error                                 { return nil }

// A command on its way through the primary allocates nothing: what is allocated is
// for its batch.
func TestNoAllocationPerCommand(t *testing.T) {
	const commands = 8000
	a := join(t, memjournal.New(), "a", nil, func(c *node.Config) {
		c.Machine.New = func() machine.Machine { return silent{} }
	})
	a.lead(t)
	req := command("salt")
	var answered sync.WaitGroup
	done := func(r node.Result) {
		if r.Status != node.Done {
			t.Errorf("%v: %v", r.Status, r.Err)
		}
		answered.Done()
	}
	round := func() {
		reached, gate := make(chan struct{}), make(chan struct{})
		held := make(chan error)
		go func() { held <- a.Read(t.Context(), func(machine.Machine) { close(reached); <-gate }) }()
		<-reached
		answered.Add(commands)
		for range commands {
			a.SubmitAsync(req, done)
		}
		close(gate)
		if err := <-held; err != nil {
			t.Error(err)
		}
		answered.Wait()
	}
	round() // memory grows to its size
	if n := testing.AllocsPerRun(5, round) / commands; n > 0.1 {
		t.Errorf("%.2f allocations per command, want none", n)
	}
}
