package node_test

import (
	"context"
	"errors"
	"fmt"
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

// gated is a journal whose appends wait, once it is shut, for somebody to say
// what becomes of each.
type gated struct {
	*memjournal.Journal
	shut     atomic.Bool
	verdicts chan error
	maxBatch atomic.Int64
}

// newGated returns a journal that is not shut yet, with batches of about 1,200
// puts at most.
func newGated() *gated {
	g := &gated{Journal: memjournal.New(), verdicts: make(chan error)}
	g.maxBatch.Store(20_000)
	return g
}

func (g *gated) Describe() journal.Capabilities {
	c := g.Journal.Describe()
	c.MaxBatch = int(g.maxBatch.Load())
	return c
}

func (g *gated) Append(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
	if g.shut.Load() {
		select {
		case err := <-g.verdicts:
			if err != nil {
				return 0, err
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return g.Journal.Append(ctx, epoch, prev, batch)
}

// pass lets the append that waits go on, or fail, and waits for what follows.
func (g *gated) pass(err error) {
	g.verdicts <- err
	synctest.Wait()
}

// stopping tells the node to stop and returns a channel that is closed when it has.
func (m *member) stopping() <-chan struct{} {
	stopped := make(chan struct{})
	go func() {
		m.stop()
		close(stopped)
	}()
	return stopped
}

// sentAhead returns a primary with the first n of its requests, n being the size
// of a batch, done, a second batch sent ahead and in flight, a third one filled,
// and the rest not yet taken up, and the answers to all in their order.
func sentAhead(t *testing.T, change ...func(*node.Config)) (*member, *gated, []<-chan node.Result) {
	t.Helper()
	g := newGated()
	a := join(t, g, "a", nil, change...)
	a.lead(t)
	g.shut.Store(true)
	answers := []<-chan node.Result{a.later(put(0))}
	synctest.Wait() // the first one is in flight alone
	for id := range uint64(6000) {
		answers = append(answers, a.later(put(id+1)))
	}
	g.pass(nil)
	g.pass(nil)
	return a, g, answers
}

// statuses counts the answers by status, in the order in which they were asked for.
func statuses(t *testing.T, answers []<-chan node.Result) string {
	t.Helper()
	var s string
	var last node.Status
	n := 0
	flush := func() {
		if n > 0 {
			s += fmt.Sprintf("%d %v, ", n, last)
		}
		n = 0
	}
	for i, c := range answers {
		res := now(t, c)
		select {
		case again := <-c:
			t.Fatalf("request %d was answered %v and then %v", i, res.Status, again.Status)
		default:
		}
		if res.Status != last {
			flush()
			last = res.Status
		}
		n++
	}
	flush()
	return s
}

// Whatever becomes of a batch that was sent ahead, the filled one behind it and
// those behind that are told the truth, once.
func TestSentAheadAndThen(t *testing.T) {
	tests := []struct {
		name string
		then func(t *testing.T, a *member, g *gated)
		want string // of the 6,001 answers: batches of 1, 1236, 1236 … puts
		left node.State
	}{
		{
			name: "the node stops while it hangs",
			then: func(t *testing.T, a *member, _ *gated) {
				began := time.Now()
				if err := a.stop(); err != nil {
					t.Errorf("run: %v", err)
				}
				if took := time.Since(began); took > 3*time.Second {
					t.Errorf("stopping took %v", took)
				}
			},
			want: "1237 done, 1236 unknown, 3528 not primary, ",
			left: node.Following,
		},
		{
			name: "the node stops and it is done in time",
			then: func(t *testing.T, a *member, g *gated) {
				stopped := a.stopping()
				time.Sleep(time.Second)
				g.pass(nil)
				<-stopped
			},
			want: "2473 done, 3528 not primary, ",
			left: node.Following,
		},
		{
			name: "another node fences",
			then: func(t *testing.T, _ *member, g *gated) {
				if _, err := g.Fence(t.Context(), 2, "other/1"); err != nil {
					t.Fatal(err)
				}
				g.pass(nil)
			},
			want: "1237 done, 4764 not primary, ",
			left: node.Following,
		},
		{
			name: "the store is full for a while",
			then: func(t *testing.T, _ *member, g *gated) {
				g.pass(journal.ErrFull)
				g.shut.Store(false)
				g.pass(nil)
			},
			want: "1237 done, 1236 not done, 3528 done, ",
			left: node.Leading,
		},
		{
			name: "the store is full for long",
			then: func(t *testing.T, _ *member, g *gated) {
				for range 4 {
					g.pass(journal.ErrFull)
				}
			},
			want: "1237 done, 4764 not done, ",
			left: node.Leading,
		},
		{
			name: "the handle breaks",
			then: func(t *testing.T, _ *member, g *gated) { g.pass(journal.ErrBroken) },
			want: "1237 done, 1236 unknown, 3528 not primary, ",
			left: node.Halted,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, g, answers := sentAhead(t)
				tt.then(t, a, g)
				synctest.Wait()
				if got := statuses(t, answers); got != tt.want {
					t.Errorf("answers: %s\nwant:    %s", got, tt.want)
				}
				if o := a.Overview(); o.State != tt.left || o.Waiting != 0 {
					t.Errorf("%v, %d wait", o.State, o.Waiting)
				}
				g.shut.Store(false)
				a.stop()
				for id, n := range a.machine.counts() {
					if n != 1 {
						t.Fatalf("id %d applied %d times", id, n)
					}
				}
			})
		})
	}
}

// A machine that panics while the next batch is in flight: neither is told that it
// is not done, and what was only filled is.
func TestPanicWhileTheNextIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated()
		a := join(t, g, "a", nil)
		a.lead(t)
		g.shut.Store(true)
		answers := []<-chan node.Result{a.later(put(0))}
		synctest.Wait()
		answers = append(answers, a.later(command("panic")))
		for id := range uint64(6000) {
			answers = append(answers, a.later(put(id+1)))
		}
		g.pass(nil)
		g.pass(nil)
		want := "1 done, 2472 unknown, 3529 not primary, "
		if got := statuses(t, answers); got != want {
			t.Errorf("answers: %s\nwant:    %s", got, want)
		}
		if o := a.Overview(); o.State != node.Halted || !errors.As(o.Err, new(*machine.PanicError)) {
			t.Errorf("%v: %v", o.State, o.Err)
		}
	})
}

// A read in a batch that was filled and never sent is not answered from a state
// that nobody proved.
func TestReadInAFilledBatchWhenTheTenureEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated()
		a := join(t, g, "a", nil)
		a.lead(t)
		g.shut.Store(true)
		a.later(put(0))
		synctest.Wait()
		hand := func(n uint64) {
			for id := range n {
				a.later(put(id + 1))
			}
		}
		hand(2600) // the read comes into the third batch
		read := make(chan error, 2)
		go func() { read <- a.Read(t.Context(), func(machine.Machine) { t.Error("it was read") }) }()
		synctest.Wait()
		hand(3000)
		g.pass(nil)
		g.pass(nil)
		if _, err := g.Fence(t.Context(), 2, "other/1"); err != nil {
			t.Fatal(err)
		}
		g.pass(nil)
		if err := <-read; !errors.Is(err, node.ErrNotPrimary) {
			t.Errorf("read: %v", err)
		}
	})
}

// A promotion of this node while its append hangs ends by its own deadline, and
// hinders neither the append nor the next one who asks.
func TestPromotionWhileAppendHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated()
		a := join(t, g, "a", nil)
		a.lead(t)
		g.shut.Store(true)
		flying := a.later(put(1))
		synctest.Wait()
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			_, err := a.Promote(ctx, node.PromoteRequest{})
			cancel()
			wantFailure(t, err, node.JournalUnavailable)
		}
		asked := make(chan error, 1)
		go func() {
			_, err := a.Promote(t.Context(), node.PromoteRequest{})
			asked <- err
		}()
		synctest.Wait()
		g.shut.Store(false)
		g.pass(nil)
		wantFailure(t, <-asked, node.AlreadyPrimary)
		if res := now(t, flying); res.Status != node.Done {
			t.Errorf("%v (%v)", res.Status, res.Err)
		}
		_, err := a.Promote(t.Context(), node.PromoteRequest{})
		wantFailure(t, err, node.AlreadyPrimary)
	})
}

// A command that was admitted and then does not fit, since the journal takes less
// than it did, is refused, and those around it are done.
func TestCommandTooLargeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGated()
		a := join(t, g, "a", nil, func(c *node.Config) { c.MaxWaitingBytes = 12_000 })
		g.maxBatch.Store(5000) // before the builders of the tenure are made
		a.lead(t)
		large := node.Request{Kind: journal.KindCommand, Name: "put", Data: make([]byte, 10_000)}
		for range 3 {
			first, second, third := a.later(put(1)), a.later(large), a.later(put(2))
			if res := now(t, first); res.Status != node.Done {
				t.Errorf("before it: %v (%v)", res.Status, res.Err)
			}
			if res := now(t, second); res.Status != node.Refused || !errors.Is(res.Err, journal.ErrTooLarge) {
				t.Errorf("too large: %v (%v)", res.Status, res.Err)
			}
			if res := now(t, third); res.Status != node.Done {
				t.Errorf("after it: %v (%v)", res.Status, res.Err)
			}
		}
		a.submit(t, large, node.Refused) // alone, in no batch at all
		a.submit(t, large, node.Refused)
		if o := a.Overview(); o.Waiting != 0 {
			t.Errorf("%d wait", o.Waiting)
		}
	})
}

// Who is answered may hand in the next request at once, whatever the limits: it
// takes the place of the one that was answered.
func TestNextRequestFromTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const submitters = 3000 // so many that batches are sent ahead
		a, f, _ := pair(t, func(c *node.Config) { c.MaxWaiting, c.MaxWaitingBytes = submitters, 8*submitters })
		for n := 1; n < 50; n += 7 {
			f.Plan(journaltest.OpAppend, n, journaltest.Fault{Kind: journaltest.Refuse})
		}
		var overloaded, answered atomic.Int64
		var hand func(left int)
		hand = func(left int) {
			a.SubmitAsync(put(1), func(res node.Result) {
				if answered.Add(1); errors.Is(res.Err, node.ErrOverloaded) {
					overloaded.Add(1)
				} else if left > 0 {
					hand(left - 1)
				}
			})
		}
		for range submitters {
			hand(20)
		}
		synctest.Wait()
		if n := overloaded.Load(); n != 0 || answered.Load() != 21*submitters {
			t.Errorf("%d of %d were told that too many wait", n, answered.Load())
		}
	})
}

// A node that is told to stop begins no other append: those behind the one in
// flight know for certain that they are not done.
func TestStopBeginsNoAppend(t *testing.T) {
	for range 20 { // it was a matter of chance
		synctest.Test(t, func(t *testing.T) {
			g := newGated()
			a := join(t, g, "a", nil)
			a.lead(t)
			g.shut.Store(true)
			answers := []<-chan node.Result{a.later(put(0))}
			synctest.Wait()
			answers = append(answers, a.later(put(1)), a.later(put(2)))
			stopped := a.stopping()
			time.Sleep(time.Second)
			g.pass(nil)
			<-stopped
			if got, want := statuses(t, answers), "1 done, 2 not primary, "; got != want {
				t.Errorf("answers: %s want: %s", got, want)
			}
		})
	}
}
