package node_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"understudy.dev/journal"
	"understudy.dev/journal/memjournal"
	"understudy.dev/machine"
	"understudy.dev/node"
)

// A counter counts.
type counter struct{ n uint64 }

func (c *counter) Apply(*machine.Context, machine.Command) ([]byte, error) {
	c.n++
	return fmt.Appendf(nil, "%d", c.n), nil
}

func (c *counter) Snapshot(w io.Writer) error { return binary.Write(w, binary.BigEndian, c.n) }
func (c *counter) Restore(r io.Reader) error  { return binary.Read(r, binary.BigEndian, &c.n) }

// Two nodes share a journal. The first leads; when the second is promoted, it has
// applied everything that was answered and goes on from there.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	store := memjournal.New()
	counting := machine.Definition{
		Name: "counter", Version: 1, New: func() machine.Machine { return &counter{} },
		Commands: []machine.CommandType{{Name: "count"}},
	}
	var nodes []*node.Node
	ended := make(chan error, 2)
	for _, name := range []string{"alice", "bob"} {
		n, err := node.New(node.Config{Name: name, Journal: store.Handle(), Machine: counting})
		if err != nil {
			fmt.Println(err)
			return
		}
		go func() { ended <- n.Run(ctx) }()
		nodes = append(nodes, n)
	}
	count := node.Request{Kind: journal.KindCommand, Name: "count"}
	for _, n := range nodes {
		rep, err := n.Promote(ctx, node.PromoteRequest{Reason: "example"})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s opened epoch %d\n", rep.Node, rep.Epoch)
		for range 2 {
			res := n.Submit(ctx, count)
			fmt.Printf("%v: %s\n", res.Status, res.Outcome.Reply)
		}
	}
	err := nodes[1].Read(ctx, func(m machine.Machine) { fmt.Println("bob has", m.(*counter).n) })
	fmt.Println("read:", err)
	fmt.Println("alice:", nodes[0].Submit(ctx, count).Status)
	stop()
	fmt.Println(<-ended, <-ended)
	// Output:
	// alice opened epoch 1
	// done: 1
	// done: 2
	// bob opened epoch 2
	// done: 3
	// done: 4
	// bob has 4
	// read: <nil>
	// alice: not primary
	// <nil> <nil>
}
