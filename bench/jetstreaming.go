package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"understudy.dev/internal/natsserver"
	"understudy.dev/journal"
	"understudy.dev/journal/natsjournal"
	"understudy.dev/machine"
	"understudy.dev/node"
	"understudy.dev/replay"
)

func jetstreaming() []comparison {
	return []comparison{
		{"jetstream", "Embedded JetStream, synced before each acknowledgement, 512 submitters", "commands/s", []contestant{
			{"understudy node", nodeOnNATS(512, false)},
			{"plain nats.go publisher, 512 at a time", publish(512, false)},
		}},
		{"jetstream", "Embedded JetStream, synced by its timer, 512 submitters", "commands/s", []contestant{
			{"understudy node", nodeOnNATS(512, true)},
			{"plain nats.go publisher, 512 at a time", publish(512, true)},
		}},
		{"jetstream", "Embedded JetStream, synced, one submitter", "", []contestant{
			{"understudy node", nodeOnNATS(1, false)},
			{"plain nats.go publisher", publish(1, false)},
		}},
		{"jetstream", "Three embedded replicas, synced, 512 submitters", "commands/s", []contestant{
			{"understudy node", nodeOnCluster},
			{"plain nats.go publisher, 512 at a time", publishToCluster},
		}},
		{"jetstream", "A standby catching up", "records/s", []contestant{
			{"understudy follower", follow},
		}},
		{"jetstream", "From the request to promote to the first new answer, under load", "", []contestant{
			{"understudy node", promote},
		}},
	}
}

// withServer runs an embedded server that is reached over loopback TCP, as a
// server of its own would be.
func withServer(ctx context.Context, dir string, noSync bool, f func(url string) (figure, error)) (figure, error) {
	srv, err := natsserver.Start(ctx, natsserver.Config{Dir: dir, NoSync: noSync})
	if err != nil {
		return figure{}, err
	}
	defer srv.Shutdown()
	return f(srv.ClientURL())
}

// withJournal opens a new stream on a server.
func withJournal(ctx context.Context, url string, replicas int, f func(j journal.Journal) (figure, error)) (figure, error) {
	j, err := natsjournal.Open(ctx, natsjournal.Config{URL: url, Stream: "BENCH", Create: true, Replicas: replicas})
	if err != nil {
		return figure{}, err
	}
	defer j.Close()
	return f(j)
}

func nodeOnNATS(submitters int, noSync bool) func(context.Context, settings, string) (figure, error) {
	return func(ctx context.Context, s settings, dir string) (figure, error) {
		return withServer(ctx, dir, noSync, func(url string) (figure, error) {
			return withJournal(ctx, url, 1, func(j journal.Journal) (figure, error) {
				return withNode(ctx, j, submitLoop(submitters, s))
			})
		})
	}
}

func withCluster(ctx context.Context, dir string, f func(url string) (figure, error)) (figure, error) {
	c, err := natsserver.StartLocalCluster(ctx, natsserver.LocalClusterConfig{Dir: dir})
	if err != nil {
		return figure{}, err
	}
	defer c.Shutdown()
	return f(c.ClientURLs()[0])
}

func nodeOnCluster(ctx context.Context, s settings, dir string) (figure, error) {
	return withCluster(ctx, dir, func(url string) (figure, error) {
		return withJournal(ctx, url, 3, func(j journal.Journal) (figure, error) {
			return withNode(ctx, j, submitLoop(512, s))
		})
	})
}

func publishToCluster(ctx context.Context, s settings, dir string) (figure, error) {
	return withCluster(ctx, dir, func(url string) (figure, error) { return publishTo(ctx, url, 3, 512, s) })
}

func publish(n int, noSync bool) func(context.Context, settings, string) (figure, error) {
	return func(ctx context.Context, s settings, dir string) (figure, error) {
		return withServer(ctx, dir, noSync, func(url string) (figure, error) { return publishTo(ctx, url, 1, n, s) })
	}
}

// publishTo publishes one command a message and waits for each acknowledgement.
func publishTo(ctx context.Context, url string, replicas, n int, s settings) (figure, error) {
	nc, err := nats.Connect(url)
	if err != nil {
		return figure{}, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return figure{}, err
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "PLAIN", Subjects: []string{"plain"}, Replicas: replicas}); err != nil {
		return figure{}, err
	}
	return closedLoop(n, s.length, func(data []byte) error {
		_, err := js.Publish(ctx, "plain", data)
		return err
	})
}

// follow measures a standby that reads a stream from its start.
func follow(ctx context.Context, _ settings, dir string) (figure, error) {
	return withServer(ctx, dir, true, func(url string) (figure, error) {
		return withJournal(ctx, url, 1, func(j journal.Journal) (figure, error) {
			return withNode(ctx, j, func(n *node.Node) (figure, error) {
				if err := write(n, readRecords); err != nil {
					return figure{}, err
				}
				r, err := machine.NewReplica(nothings)
				if err != nil {
					return figure{}, err
				}
				began := time.Now()
				f := replay.NewFollower(journal.NewReader(j, journal.ReaderConfig{}), replay.SinkFunc(
					func(_ context.Context, b *journal.Batch, records []journal.Record) error {
						_, err := r.ApplyBatch(b, records)
						return err
					}), nil)
				defer f.Close()
				if err := f.RunTo(ctx, j, 0); err != nil {
					return figure{}, err
				}
				return figure{rate: float64(r.Seq()) / time.Since(began).Seconds()}, nil
			})
		})
	})
}

// write submits n commands, many in flight.
func write(n *node.Node, count int) error {
	data := make([]byte, commandBytes)
	free := make(chan error, 16384)
	for range cap(free) {
		free <- nil
	}
	for i := range count + cap(free) {
		if err := <-free; err != nil {
			return err
		}
		if i < count {
			n.SubmitAsync(put(data), func(r node.Result) { free <- r.Err })
		}
	}
	return nil
}

// promote makes two nodes take turns as primary under load, and measures from
// the request until the first command is answered by the new one.
func promote(ctx context.Context, s settings, dir string) (figure, error) {
	return withServer(ctx, dir, false, func(url string) (figure, error) {
		return withJournal(ctx, url, 1, func(j journal.Journal) (figure, error) {
			ctx, stop := context.WithCancel(ctx)
			var nodes [2]*node.Node
			ended := make(chan error, len(nodes))
			defer func() {
				stop()
				for range nodes {
					<-ended
				}
			}()
			for i := range nodes {
				var err error
				if nodes[i], err = node.New(node.Config{Name: fmt.Sprint(i), Journal: j, Machine: nothings}); err != nil {
					return figure{}, err
				}
				go func() { ended <- nodes[i].Run(ctx) }()
			}
			return promoteInTurn(ctx, nodes, s)
		})
	})
}

func promoteInTurn(ctx context.Context, nodes [2]*node.Node, s settings) (figure, error) {
	if _, err := nodes[0].Promote(ctx, node.PromoteRequest{}); err != nil {
		return figure{}, err
	}
	loadCtx, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	for range 64 {
		go func() {
			for loadCtx.Err() == nil {
				for _, n := range nodes {
					if n.Submit(loadCtx, put(make([]byte, commandBytes))).Status == node.NotPrimary {
						time.Sleep(100 * time.Microsecond)
					}
				}
			}
		}()
	}
	var took []time.Duration
	for i, began := 1, time.Now(); time.Since(began) < s.length; i++ {
		time.Sleep(20 * time.Millisecond) // under way again
		next := nodes[i%2]
		asked := time.Now()
		if _, err := next.Promote(ctx, node.PromoteRequest{}); err != nil {
			return figure{}, err
		}
		if r := next.Submit(ctx, put(nil)); r.Err != nil {
			return figure{}, r.Err
		}
		took = append(took, time.Since(asked))
	}
	f := figureOf(took, time.Second)
	f.rate = 0
	return f, nil
}
