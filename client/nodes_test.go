package client

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"understudy.dev/journal"
	"understudy.dev/journal/memjournal"
	"understudy.dev/machine"
	"understudy.dev/node"
)

// A node is what a server serves.
var _ Submitter = (*node.Node)(nil)

// A recorder is a machine that keeps what it carried out. The reply is the place
// in that list, then the data.
type recorder struct {
	log []executed
}

func (m *recorder) Apply(_ *machine.Context, cmd machine.Command) ([]byte, error) {
	m.log = append(m.log, executed{cmd.Name, string(cmd.Data)})
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(m.log)-1)), cmd.Data...), nil
}

func (m *recorder) Snapshot(w io.Writer) error {
	for _, e := range m.log {
		if _, err := io.WriteString(w, e.data); err != nil {
			return err
		}
	}
	return nil
}

func (m *recorder) Restore(io.Reader) error { return fmt.Errorf("a recorder is only replayed") }

var recorderDefinition = machine.Definition{
	Name: "model", Version: 1, New: func() machine.Machine { return &recorder{} }, Commands: []machine.CommandType{{Name: "put"}},
}

// startNode runs a real node behind a proxy that spoils connections.
func startNode(t *testing.T, name string, j journal.Journal, start node.Start, seed uint64) (*node.Node, string) {
	t.Helper()
	ln := listen(t)
	p := startProxy(t, ln.Addr().String(), seed, 6)
	n, err := node.New(node.Config{Name: name, Journal: j, Machine: recorderDefinition, Start: start, Client: p.addr()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran, served := make(chan error, 1), make(chan error, 1)
	go func() { ran <- n.Run(ctx) }()
	go func() { served <- Serve(ctx, ln, n, testServer) }()
	t.Cleanup(func() {
		cancel()
		<-ran
		if err := <-served; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	return n, p.addr()
}

// Real nodes and their promotions under load, over connections that fail: every
// command is carried out once.
func TestPromotionsUnderLoad(t *testing.T) {
	const commands = 20000
	for _, inOrder := range []bool{false, true} {
		t.Run(fmt.Sprintf("ordered %v", inOrder), func(t *testing.T) {
			j := memjournal.New()
			defer j.Close()
			a, addrA := startNode(t, "a", j.Handle(), node.Bootstrap, 1)
			b, addrB := startNode(t, "b", j.Handle(), node.Follow, 2)
			cfg := testClient(addrA, addrB)
			cfg.Ordered = inOrder
			c := dial(t, cfg)
			l := newLedger()
			standby, primary := b, a
			for i := range uint64(commands) {
				if i%(commands/4) == commands/8 {
					epoch := primary.Progress().Epoch // one that is open only since a moment ago is meant
					if _, err := standby.Promote(t.Context(), node.PromoteRequest{Accept: []string{"primary", "lag"}, Expect: node.Expect{Epoch: &epoch}}); err != nil {
						t.Fatalf("Promote = %v", err)
					}
					standby, primary = primary, standby
				}
				l.send(t, c, "put", i+1)
			}
			l.open.Wait()
			var log []executed
			if err := primary.Read(t.Context(), func(m machine.Machine) { log = append(log, m.(*recorder).log...) }); err != nil {
				t.Fatalf("Read = %v", err)
			}
			if v := l.check(t, log, inOrder); v[Done] != commands || len(log) != commands {
				t.Errorf("verdicts = %v, carried out %d, want %d done", v, len(log), commands)
			}
			if s := c.Stats(); s.Retried == 0 || s.Reconnects < 4 {
				t.Errorf("Stats = %+v: the test had no faults", s)
			}
		})
	}
}
