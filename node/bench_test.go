package node_test

import (
	"fmt"
	"sync"
	"testing"

	"understudy.dev/journal/memjournal"
	"understudy.dev/node"
)

// BenchmarkSubmit measures the node alone: the journal is memory.
func BenchmarkSubmit(b *testing.B) {
	for _, submitters := range []int{1, 512} {
		b.Run(fmt.Sprint(submitters), func(b *testing.B) {
			a := join(b, memjournal.New(), "a", nil)
			a.lead(b)
			turns := make(chan struct{}, submitters)
			var wg sync.WaitGroup
			for range submitters {
				wg.Go(func() {
					for range turns {
						if res := a.Submit(b.Context(), command("salt")); res.Status != node.Done {
							b.Errorf("%v: %v", res.Status, res.Err)
						}
					}
				})
			}
			for b.Loop() {
				turns <- struct{}{}
			}
			close(turns)
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
