package node_test

import (
	"sync"
	"testing"

	"understudy.dev/journal/memjournal"
	"understudy.dev/node"
)

// An overview is one picture: its digest is that of the record it says was applied
// last, on the primary and on a standby, however busy they are.
func TestOverviewIsNotTorn(t *testing.T) {
	store := memjournal.New()
	a, b := join(t, store.Handle(), "a", nil), join(t, store.Handle(), "b", nil)
	a.lead(t)
	quit := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
					a.Submit(t.Context(), put(1))
				}
			}
		})
	}
	torn := false
	for n := 0; n < 50_000 && !torn; n++ {
		for _, m := range []*member{a, b} {
			if o := m.Overview(); o.Digest.Seq != o.Progress.Seq || o.Digest.Hash.IsZero() != (o.Progress.Seq == 0) {
				torn = true
				t.Errorf("%s: digest %s at seq %d, applied up to seq %d", m.Owner(), o.Digest.Hash.Short(), o.Digest.Seq, o.Progress.Seq)
			}
		}
	}
	close(quit)
	wg.Wait()
	end, _ := store.End(t.Context())
	until(t, "the standby has it all", func() bool { return b.Progress().Seq == end.Seq })
	if x, y := a.Overview().Digest, b.Overview().Digest; x != y || a.Overview().State != node.Leading {
		t.Errorf("digests %v and %v at the end", x, y)
	}
}
