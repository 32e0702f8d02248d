package main

import (
	"context"
	"io"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/machine"
	"understudy.dev/node"
)

// nothing is a machine that does nothing, so that the way there and back is what
// is measured.
type nothing struct{}

func (nothing) Apply(*machine.Context, machine.Command) ([]byte, error) { return nil, nil }
func (nothing) Snapshot(io.Writer) error                                { return nil }
func (nothing) Restore(io.Reader) error                                 { return nil }

var nothings = machine.Definition{
	Name: "bench", Version: 1, New: func() machine.Machine { return nothing{} },
	Commands: []machine.CommandType{{Name: "put"}},
}

// withNode runs a primary on j.
func withNode(ctx context.Context, j journal.Journal, f func(n *node.Node) (figure, error)) (figure, error) {
	n, err := node.New(node.Config{Name: "bench", Journal: j, Machine: nothings})
	if err != nil {
		return figure{}, err
	}
	ctx, stop := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- n.Run(ctx) }()
	defer func() { stop(); <-ran }()
	if _, err := n.Promote(ctx, node.PromoteRequest{}); err != nil {
		return figure{}, err
	}
	return f(n)
}

func put(data []byte) node.Request {
	return node.Request{Kind: journal.KindCommand, Name: "put", Data: data}
}

// submitLoop measures a closed loop of n submitters through the whole node.
func submitLoop(n int, s settings) func(*node.Node) (figure, error) {
	return func(nd *node.Node) (figure, error) {
		return closedLoop(n, s.length, func(data []byte) error {
			r := nd.Submit(context.Background(), put(data))
			return r.Err
		})
	}
}

// onFile runs f with a node on a file journal.
func onFile(ctx context.Context, dir string, f func(n *node.Node, j *filejournal.Journal) (figure, error)) (figure, error) {
	j, err := filejournal.Open(dir, filejournal.Config{})
	if err != nil {
		return figure{}, err
	}
	defer j.Close()
	return withNode(ctx, j, func(n *node.Node) (figure, error) { return f(n, j) })
}

func nodeOnFile(submitters int) func(context.Context, settings, string) (figure, error) {
	return func(ctx context.Context, s settings, dir string) (figure, error) {
		return onFile(ctx, dir, func(n *node.Node, _ *filejournal.Journal) (figure, error) { return submitLoop(submitters, s)(n) })
	}
}

// inFlight is how many commands nodeAsync keeps in flight.
const inFlight = 16384

// nodeAsync keeps commands in flight from one goroutine. With retention the
// journal is trimmed as it grows, so that its segments are used again.
func nodeAsync(retention bool) func(context.Context, settings, string) (figure, error) {
	return func(ctx context.Context, s settings, dir string) (figure, error) {
		return onFile(ctx, dir, func(n *node.Node, j *filejournal.Journal) (figure, error) {
			if retention {
				ctx, stop := context.WithCancel(ctx)
				trimmed := make(chan struct{})
				go func() { defer close(trimmed); keepTrimmed(ctx, j) }()
				defer func() { stop(); <-trimmed }()
			}
			if _, err := submitAsync(n, s.length/4); err != nil {
				return figure{}, err
			}
			began := time.Now()
			answered, err := submitAsync(n, s.length)
			return figure{rate: float64(answered) / time.Since(began).Seconds()}, err
		})
	}
}

// submitAsync submits for a while and returns how many commands were answered.
func submitAsync(n *node.Node, length time.Duration) (answered int, err error) {
	data := make([]byte, commandBytes)
	results := make(chan error, inFlight)
	done := func(r node.Result) { results <- r.Err }
	for range inFlight {
		n.SubmitAsync(put(data), done)
	}
	for began := time.Now(); time.Since(began) < length; {
		for range 1024 {
			if err := <-results; err != nil {
				return answered, err
			}
			answered++
			n.SubmitAsync(put(data), done)
		}
	}
	for range inFlight {
		if err := <-results; err != nil {
			return answered, err
		}
		answered++
	}
	return answered, nil
}

// keepTrimmed drops what is older than half a second.
func keepTrimmed(ctx context.Context, j *filejournal.Journal) {
	var before journal.Position
	for ctx.Err() == nil {
		time.Sleep(500 * time.Millisecond)
		end, err := j.End(ctx)
		if err == nil && before > 0 {
			err = j.Trim(ctx, before)
		}
		if err != nil {
			return // the run is over
		}
		before = end.Pos
	}
}
