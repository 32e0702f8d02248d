package client

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"understudy.dev/journal"
	"understudy.dev/node"
)

// An instantNode answers at once: what is measured is the protocol.
type instantNode struct{}

func (instantNode) SubmitAsync(r node.Request, done func(node.Result)) {
	res := node.Result{}
	if r.Kind == journal.KindSession {
		res.Outcome.Seq = 1
	}
	done(res)
}

func (instantNode) Leader() (bool, string, journal.Epoch) { return true, "", 1 }

// Commands of 128 bytes through loopback, closed loop, one connection.
func BenchmarkCommands(b *testing.B) {
	for _, outstanding := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("outstanding=%d", outstanding), func(b *testing.B) {
			addr := serveInstant(b)
			c := dial(b, Config{Addrs: []string{addr}, Window: outstanding})
			data := make([]byte, 128)
			var answered sync.WaitGroup
			done := func(Answer) { answered.Done() }
			b.ReportAllocs()
			for b.Loop() {
				answered.Add(1)
				if err := c.Go("put", 0, data, done); err != nil {
					b.Fatal(err)
				}
			}
			answered.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
		})
	}
}

// Many goroutines, each waiting for its answer, share one client.
func BenchmarkSubmit(b *testing.B) {
	addr := serveInstant(b)
	c := dial(b, Config{Addrs: []string{addr}})
	data := make([]byte, 128)
	b.SetParallelism(256)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Submit(b.Context(), "put", 0, data); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
}

func serveInstant(b *testing.B) string {
	ln := listen(b)
	served := make(chan error, 1)
	ctx := b.Context() // ends before the cleanup runs
	go func() { served <- Serve(ctx, ln, instantNode{}, ServerConfig{Grace: 100 * time.Millisecond}) }()
	b.Cleanup(func() { <-served })
	return ln.Addr().String()
}
