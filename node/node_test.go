package node_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/memjournal"
	"understudy.dev/machine"
	"understudy.dev/node"
)

// adder adds what it is told and answers the sum.
type adder struct{ sum uint64 }

func (a *adder) Apply(_ *machine.Context, c machine.Command) ([]byte, error) {
	if len(c.Data) != 1 {
		return nil, fmt.Errorf("want one byte, got %d", len(c.Data))
	}
	a.sum += uint64(c.Data[0])
	return binary.BigEndian.AppendUint64(nil, a.sum), nil
}

func (a *adder) Snapshot(w io.Writer) error { return binary.Write(w, binary.BigEndian, a.sum) }
func (a *adder) Restore(r io.Reader) error  { return binary.Read(r, binary.BigEndian, &a.sum) }

var adding = machine.Definition{
	Name: "adder", Version: 1, New: func() machine.Machine { return &adder{} },
	Commands: []machine.CommandType{{Name: "add"}},
}

func start(t *testing.T, cfg node.Config) *node.Node {
	t.Helper()
	if cfg.Machine.Name == "" {
		cfg.Machine = adding
	}
	n, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- n.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ran })
	return n
}

func TestSubmitAndFailOver(t *testing.T) {
	j := memjournal.New()
	a := start(t, node.Config{Name: "a", Journal: j})
	b := start(t, node.Config{Name: "b", Journal: j})
	if _, err := a.Promote(t.Context(), node.PromoteRequest{}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	stop := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				r := a.Submit(t.Context(), node.Request{Kind: journal.KindCommand, Name: "add", Data: []byte{1}})
				mu.Lock()
				if r.Status == node.Done {
					done++
				}
				mu.Unlock()
				if r.Status == node.NotPrimary {
					return
				}
			}
		})
	}
	for {
		mu.Lock()
		d := done
		mu.Unlock()
		if d > 1000 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	rep, err := b.Promote(t.Context(), node.PromoteRequest{})
	if err != nil {
		t.Fatal(err)
	}
	close(stop)
	wg.Wait()
	r := b.Submit(t.Context(), node.Request{Kind: journal.KindCommand, Name: "add", Data: []byte{0}})
	if got := int(binary.BigEndian.Uint64(r.Outcome.Reply)); got != done {
		t.Errorf("sum %d, %d answered", got, done)
	}
	t.Logf("%+v done %d", rep, done)
}
