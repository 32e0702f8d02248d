package node_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
	"understudy.dev/node"
)

// RULES "Failures others shipped": hundreds of failovers under load, with faults
// in every call of the journal. Every acknowledged command is applied exactly
// once, and all nodes end with the same digest (RULES 1, 2, 11, 13, 14, 25, 37).
func TestHundredsOfFailovers(t *testing.T) {
	for _, nodes := range []int{2, 3} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%d nodes, seed %d", nodes, seed+1), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { failOver(t, nodes, seed+1, failovers(t)) })
			})
		}
	}
}

// failovers is how many promotions each group is put through.
func failovers(t *testing.T) int {
	if testing.Short() {
		return 20
	}
	return 100
}

func failOver(t *testing.T, nodes int, seed uint64, rounds int) {
	rng := rand.New(rand.NewPCG(seed, 2))
	store := memjournal.New()
	var group []*member
	var faulty []*journaltest.Faulty
	for i := range nodes {
		f := journaltest.NewFaulty(t, store.Handle(), seed+uint64(i)<<32)
		f.Hold = 30 * time.Millisecond
		faulty = append(faulty, f)
		group = append(group, join(t, f, string(rune('a'+i)), nil))
	}
	group[0].lead(t)
	for _, f := range faulty {
		disturb(f)
	}

	ctx, stop := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	acked := make([][]uint64, 6)
	for i := range acked {
		callers.Go(func() {
			c := &caller{nodes: group, at: i % nodes}
			if !c.open(ctx, i%2 == 0) {
				return
			}
			for id := uint64(i) << 32; ; id++ {
				out, ok := c.put(ctx, id)
				if !ok {
					return
				}
				if !out.Code.Applied() {
					t.Errorf("caller %d, id %d: %v", i, id, out.Code)
					return
				}
				acked[i] = append(acked[i], id)
				time.Sleep(time.Millisecond)
			}
		})
	}

	won := 0
	for range rounds {
		time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
		pctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		if _, err := group[rng.IntN(nodes)].Promote(pctx, node.PromoteRequest{}); err == nil {
			won++
		}
		cancel()
	}
	if won < rounds/4 {
		t.Errorf("%d of %d promotions succeeded", won, rounds)
	}
	for _, f := range faulty {
		f.Heal()
	}
	time.Sleep(time.Second) // for writes that are held back
	last := group[rng.IntN(nodes)]
	if _, err := last.Promote(t.Context(), node.PromoteRequest{}); err != nil {
		wantFailure(t, err, node.AlreadyPrimary)
	}
	time.Sleep(time.Second)
	stop()
	callers.Wait()
	last.submit(t, put(1<<60), node.Done)
	time.Sleep(10 * time.Second) // beyond every back-off

	want := last.Overview().Digest
	for _, m := range group {
		if o := m.Overview(); o.Digest != want || o.Err != nil {
			t.Errorf("node %s ends %v with digest %v, want %v; %v", o.Node, o.State, o.Digest, want, o.Err)
		}
	}
	total := 0
	for _, m := range group {
		if err := m.stop(); err != nil {
			t.Errorf("run: %v", err)
		}
		counts := m.machine.counts()
		total = 0
		for i, ids := range acked {
			total += len(ids)
			for _, id := range ids {
				if counts[id] != 1 {
					t.Errorf("caller %d, id %d was answered and applied %d times", i, id, counts[id])
				}
			}
		}
		for id, n := range counts {
			if n > 1 {
				t.Errorf("id %d applied %d times", id, n)
			}
		}
	}
	if total < rounds {
		t.Errorf("only %d commands in %d failovers", total, rounds)
	}
	t.Logf("%d promotions, %d succeeded, %d commands acknowledged", rounds, won, total)
}

// disturb makes every kind of call fail now and then.
func disturb(f *journaltest.Faulty) {
	for _, kind := range []journaltest.FaultKind{journaltest.LoseAck, journaltest.Vanish, journaltest.Delay} {
		f.Rate(journaltest.OpAppend, 0.03, journaltest.Fault{Kind: kind})
		f.Rate(journaltest.OpFence, 0.1, journaltest.Fault{Kind: kind})
	}
	f.Rate(journaltest.OpAppend, 0.01, journaltest.Fault{Kind: journaltest.Refuse, Err: journal.ErrFull})
	f.Rate(journaltest.OpFollow, 0.1, journaltest.Fault{Kind: journaltest.Break, After: 3})
	f.Rate(journaltest.OpFollow, 0.05, journaltest.Fault{Kind: journaltest.BreakSilently, After: 5})
	f.Rate(journaltest.OpFollow, 0.02, journaltest.Fault{Kind: journaltest.Stall, After: 4})
	f.Rate(journaltest.OpEnd, 0.05, journaltest.Fault{Kind: journaltest.Refuse})
}
