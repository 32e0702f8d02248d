package node_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/node"
)

// RULES 14, 17: a primary whose journal takes no appends gives up in time. Those in
// the append are told that nothing is known, those behind it that they are not
// done, and the node follows until somebody promotes it.
func TestPrimaryGivesUp(t *testing.T) {
	tests := []struct {
		name  string
		fault journaltest.FaultKind // of every append
		other bool                  // every other operation vanishes too
		done  bool                  // it turns out to be in the journal
	}{
		{name: "appends get no answer", fault: journaltest.Vanish},
		{name: "appends hang", fault: journaltest.Stall},
		{name: "the journal is unreachable", fault: journaltest.Vanish, other: true},
		{name: "the journal hangs", fault: journaltest.Stall, other: true},
		{name: "the first one was stored, and then it is unreachable", fault: journaltest.LoseAck, other: true, done: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, f, _ := pair(t)
				session := uint64(a.submit(t, node.Request{Kind: journal.KindSession}, node.Done).Outcome.Seq)
				f.Rate(journaltest.OpAppend, 1, journaltest.Fault{Kind: tt.fault})
				if tt.other {
					f.Rate(journaltest.OpFollow, 1, journaltest.Fault{Kind: journaltest.Vanish})
					f.Rate(journaltest.OpEnd, 1, journaltest.Fault{Kind: journaltest.Vanish})
				}
				r := put(1)
				r.Client, r.Number, r.Low = session, 1, 1
				flying := a.later(r)
				synctest.Wait()
				behind := a.later(put(2))
				time.Sleep(29 * time.Second)
				if a.Overview().State != node.Leading || len(flying) != 0 {
					t.Errorf("it gave up before its time: %v", a.Overview().State)
				}
				time.Sleep(2 * time.Second)
				if res := now(t, flying); res.Status != node.Unknown {
					t.Errorf("in the append: %v (%v)", res.Status, res.Err)
				}
				if res := now(t, behind); res.Status != node.NotPrimary || res.Primary != "" {
					t.Errorf("behind it: %v (%v), primary %q", res.Status, res.Err, res.Primary)
				}
				if o := a.Overview(); o.State != node.Following || o.Err != nil {
					t.Errorf("%v: %v", o.State, o.Err)
				}
				time.Sleep(time.Minute)
				f.Heal()
				a.lead(t)
				if res := a.submit(t, r, node.Done); res.Outcome.Repeated != tt.done {
					t.Errorf("sent again: %+v, want a repetition: %v", res.Outcome, tt.done)
				}
				if o := a.Overview(); o.Progress.Epoch != 2 || o.Progress.TailErr != nil {
					t.Errorf("epoch %d, journal: %v", o.Progress.Epoch, o.Progress.TailErr)
				}
				a.stop()
				if n := a.machine.counts()[1]; n != 1 {
					t.Errorf("applied %d times", n)
				}
			})
		})
	}
}

// A promotion that waits while the append hangs is taken up when the node gives up.
func TestGivesUpWithAPromotionWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := pair(t, func(c *node.Config) { c.AppendWithin = 5 * time.Second })
		f.Plan(journaltest.OpAppend, 1, journaltest.Fault{Kind: journaltest.Stall})
		flying := a.later(put(1))
		synctest.Wait()
		if r := a.lead(t); r.Epoch != 2 {
			t.Errorf("epoch %d", r.Epoch)
		}
		if res := now(t, flying); res.Status != node.Unknown {
			t.Errorf("%v (%v)", res.Status, res.Err)
		}
		a.submit(t, put(2), node.Done)
	})
}

// Without a bound it waits until the journal is back.
func TestPrimaryNeverGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := pair(t, func(c *node.Config) { c.AppendWithin = -1 })
		f.Rate(journaltest.OpAppend, 1, journaltest.Fault{Kind: journaltest.Vanish})
		flying := a.later(put(1))
		time.Sleep(time.Hour)
		f.Heal()
		time.Sleep(2 * time.Second)
		if res := now(t, flying); res.Status != node.Done {
			t.Errorf("%v (%v)", res.Status, res.Err)
		}
	})
}

// A primary whose appends hang says so after some seconds, also if the journal can
// be read, and no longer once they succeed.
func TestHangingAppendIsSeen(t *testing.T) {
	tests := []struct {
		name  string
		fault journaltest.FaultKind
		want  string
	}{
		{"no answer", journaltest.Stall, "no answer"},
		{"errors", journaltest.Vanish, journaltest.ErrInjected.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, f, _ := pair(t, func(c *node.Config) { c.AppendWithin = time.Minute })
				f.Rate(journaltest.OpAppend, 1, journaltest.Fault{Kind: tt.fault})
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				a.Submit(ctx, put(1))
				if o := a.Overview(); o.Progress.TailErr != nil {
					t.Errorf("after two seconds: %v", o.Progress.TailErr)
				}
				time.Sleep(2 * time.Second)
				for _, p := range []error{a.Overview().Progress.TailErr, a.Progress().TailErr} {
					if p == nil || !strings.Contains(p.Error(), tt.want) || !strings.Contains(p.Error(), "4s") {
						t.Errorf("after four seconds: %v", p)
					}
				}
				if tt.fault == journaltest.Stall {
					return // that append ends with the tenure
				}
				f.Heal()
				time.Sleep(time.Second)
				if o := a.Overview(); o.Progress.TailErr != nil {
					t.Errorf("when it is done: %v", o.Progress.TailErr)
				}
			})
		})
	}
}

// A full store is seen until an append succeeds: the next command's, or one that an
// idle primary tries.
func TestFullStoreIsSeen(t *testing.T) {
	for _, idle := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			a, f, store := pair(t)
			f.Rate(journaltest.OpAppend, 1, journaltest.Fault{Kind: journaltest.Refuse})
			a.submit(t, put(1), node.NotDone)
			before, _ := store.End(t.Context())
			for range 10 {
				if err := a.Overview().Progress.TailErr; !errors.Is(err, journal.ErrFull) {
					t.Fatalf("while it is full: %v", err)
				}
				time.Sleep(time.Minute)
			}
			if after, _ := store.End(t.Context()); after.Pos != before.Pos || a.Overview().State != node.Leading {
				t.Errorf("the journal grew from %d to %d, the node is %v", before.Pos, after.Pos, a.Overview().State)
			}
			f.Heal()
			if idle {
				time.Sleep(6 * time.Second)
			} else {
				a.submit(t, put(2), node.Done)
			}
			if err := a.Overview().Progress.TailErr; err != nil {
				t.Errorf("when there is room, idle %v: %v", idle, err)
			}
			appends := f.Calls(journaltest.OpAppend)
			time.Sleep(time.Minute)
			if n := f.Calls(journaltest.OpAppend) - appends; n != 0 {
				t.Errorf("%d appends of an idle primary with room", n)
			}
		})
	}
}

// A store without room for a batch may have taken the fence of another node: the
// primary that cannot find out by appending steps down all the same.
func TestFencedWhileTheStoreIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, store := pair(t)
		f.Rate(journaltest.OpAppend, 1, journaltest.Fault{Kind: journaltest.Refuse})
		a.submit(t, put(1), node.NotDone)
		store.Fence(t.Context(), 2, "other/1")
		time.Sleep(time.Second)
		a.submit(t, put(2), node.NotPrimary)
		if o := a.Overview(); o.State != node.Following || o.Progress.Epoch != 2 || o.Progress.TailErr != nil {
			t.Errorf("%v in epoch %d, journal: %v", o.State, o.Progress.Epoch, o.Progress.TailErr)
		}
	})
}

// RULES 13: dead batches and void fences that a primary meets while it appends are
// counted, as by those who follow.
func TestPrimaryCountsWhatIsDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, store := pair(t)
		a, c := join(t, store.Handle(), "a2", nil), join(t, store.Handle(), "c", nil)
		a.lead(t)
		b.stop()
		late := journal.NewBuilder("old/1", 1000, 0)
		for range 3 {
			if err := late.Add(&journal.Record{Kind: journal.KindCommand, Name: "put"}); err != nil {
				t.Fatal(err)
			}
		}
		store.Put(late.Seal(2, 1, journal.Digest{}, journal.Hash{}))
		store.Put(journal.AppendFence(nil, 1, "old/2"))
		a.submit(t, put(1), node.Done)
		synctest.Wait()
		for _, m := range []*member{a, c} {
			if p := m.Progress(); p.Dead != 1 || p.DeadRecords != 3 || p.Void != 1 {
				t.Errorf("%s: %d dead batches with %d records, %d void fences", m.Owner(), p.Dead, p.DeadRecords, p.Void)
			}
		}
	})
}
