package understudy_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"strconv"

	"understudy.dev/journal"
	"understudy.dev/journal/memjournal"
	"understudy.dev/machine"
	"understudy.dev/node"
)

// tally is a machine: the sum of what was added.
type tally struct{ sum int64 }

func (t *tally) Apply(_ *machine.Context, cmd machine.Command) ([]byte, error) {
	n, err := strconv.ParseInt(string(cmd.Data), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%q is no number", cmd.Data) // a rejection: an answer, and journaled
	}
	t.sum += n
	return strconv.AppendInt(nil, t.sum, 10), nil
}

func (t *tally) Snapshot(w io.Writer) error { _, err := fmt.Fprintln(w, t.sum); return err }
func (t *tally) Restore(r io.Reader) error  { _, err := fmt.Fscanln(r, &t.sum); return err }

// Two nodes share a journal; one takes over from the other.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	j := memjournal.New() // for tests; to keep it: filejournal.Open, natsjournal.Open, sqlitejournal.Open
	var nodes []*node.Node
	for _, name := range []string{"a", "b"} {
		n, err := node.New(node.Config{Name: name, Journal: j, Machine: machine.Definition{
			Name: "tally", Version: 1,
			New:      func() machine.Machine { return new(tally) },
			Commands: []machine.CommandType{{Name: "add"}},
		}})
		if err != nil {
			log.Fatal(err)
		}
		go n.Run(ctx) // a standby, until it is promoted
		nodes = append(nodes, n)
	}
	add := node.Request{Kind: journal.KindCommand, Name: "add", Data: []byte("5")}
	for _, n := range nodes { // a opens the first epoch; b takes over from it
		report, err := n.Promote(ctx, node.PromoteRequest{Reason: "an example"})
		if err != nil {
			log.Fatal(err)
		}
		res := n.Submit(ctx, add)
		fmt.Printf("%s, epoch %d: %s %s\n", report.Node, report.Epoch, res.Status, res.Outcome.Reply)
	}
	fmt.Println("a, asked again:", nodes[0].Submit(ctx, add).Status)
	// Output:
	// a, epoch 1: done 5
	// b, epoch 2: done 10
	// a, asked again: not primary
}
