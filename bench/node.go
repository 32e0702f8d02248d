package main

import (
	"context"
	"io"
	"sync/atomic"
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
func onFile(ctx context.Context, dir string, f func(n *node.Node) (figure, error)) (figure, error) {
	j, err := filejournal.Open(dir, filejournal.Config{})
	if err != nil {
		return figure{}, err
	}
	defer j.Close()
	return withNode(ctx, j, f)
}

func nodeOnFile(submitters int) func(context.Context, settings, string) (figure, error) {
	return func(ctx context.Context, s settings, dir string) (figure, error) {
		return onFile(ctx, dir, submitLoop(submitters, s))
	}
}

// nodeAsync keeps 16,384 commands in flight from one goroutine.
func nodeAsync(ctx context.Context, s settings, dir string) (figure, error) {
	return onFile(ctx, dir, func(n *node.Node) (figure, error) {
		data := make([]byte, commandBytes)
		free := make(chan error, 16384)
		done := func(r node.Result) { free <- r.Err }
		for range cap(free) {
			free <- nil
		}
		var answered atomic.Uint64
		began := time.Now()
		for time.Since(began) < s.length {
			for range 1024 {
				if err := <-free; err != nil {
					return figure{}, err
				}
				answered.Add(1)
				n.SubmitAsync(put(data), done)
			}
		}
		for range cap(free) {
			if err := <-free; err != nil {
				return figure{}, err
			}
		}
		return figure{rate: float64(answered.Load()) / time.Since(began).Seconds()}, nil
	})
}
