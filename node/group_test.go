package node_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"understudy.dev/journal"
	"understudy.dev/machine"
	"understudy.dev/node"
)

// A tally remembers which ids it was given, in order, and answers how many it
// has. Its other commands misbehave.
type tally struct {
	ids   []uint64
	salt  byte             // what "salt" answers: not the same on every node
	took  time.Duration    // what a command costs
	block chan struct{}    // if not nil, "block" waits for it
	began chan journal.Seq // told of each "block"
	seen  func(*machine.Context)
}

func (m *tally) Apply(ctx *machine.Context, c machine.Command) ([]byte, error) {
	if m.took > 0 {
		time.Sleep(m.took)
	}
	if m.seen != nil {
		m.seen(ctx)
	}
	switch c.Name {
	case "panic":
		panic("told to")
	case "salt":
		return []byte{m.salt}, nil
	case "block":
		if m.block != nil {
			m.began <- ctx.Seq()
			<-m.block
		}
		return nil, nil
	}
	if len(c.Data) != 8 {
		return nil, fmt.Errorf("an id of %d bytes", len(c.Data))
	}
	m.ids = append(m.ids, binary.BigEndian.Uint64(c.Data))
	return binary.BigEndian.AppendUint64(nil, uint64(len(m.ids))), nil
}

func (m *tally) Snapshot(w io.Writer) error { return binary.Write(w, binary.BigEndian, m.ids) }
func (m *tally) Restore(io.Reader) error    { return errors.New("not needed") }

// counts returns how often each id was applied.
func (m *tally) counts() map[uint64]int {
	n := make(map[uint64]int)
	for _, id := range m.ids {
		n[id]++
	}
	return n
}

func tallying(m *tally) machine.Definition {
	return machine.Definition{
		Name: "tally", Version: 1, New: func() machine.Machine { return m }, Window: 64, Sessions: 512,
		Commands: []machine.CommandType{{Name: "put"}, {Name: "panic"}, {Name: "salt"}, {Name: "block"}},
	}
}

// A member is a node that runs. Its machine may be looked at once it was stopped.
type member struct {
	*node.Node
	machine *tally
	journal journal.Journal
	stop    func() error // ends Run and returns what Run returned
}

// join starts a node; the test's end stops it.
func join(t testing.TB, j journal.Journal, name string, m *tally, change ...func(*node.Config)) *member {
	t.Helper()
	if m == nil {
		m = &tally{}
	}
	cfg := node.Config{Name: name, Journal: j, Machine: tallying(m), Client: "client of " + name}
	for _, f := range change {
		f(&cfg)
	}
	n, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- n.Run(ctx) }()
	mem := &member{Node: n, machine: m, journal: j}
	mem.stop = sync.OnceValue(func() error { cancel(); return <-ran })
	t.Cleanup(func() { mem.stop(); j.Close() })
	return mem
}

// lead makes the node the primary, or ends the test. It is asked to replace
// whoever holds the epoch now, even one who has it only since a moment ago.
func (m *member) lead(t testing.TB, accept ...string) node.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	req := node.PromoteRequest{Accept: accept}
	if end, err := journal.SampleEnd(ctx, m.journal); err == nil {
		req.Expect.Epoch = &end.Epoch
	}
	r, err := m.Promote(ctx, req)
	if err != nil {
		t.Fatalf("promote %s: %v", m.Owner(), err)
	}
	return r
}

// put is the request to remember an id.
func put(id uint64) node.Request {
	return node.Request{Kind: journal.KindCommand, Name: "put", Data: binary.BigEndian.AppendUint64(nil, id)}
}

func command(name string) node.Request { return node.Request{Kind: journal.KindCommand, Name: name} }

// submit hands r in and expects a status.
func (m *member) submit(t testing.TB, r node.Request, want node.Status) node.Result {
	t.Helper()
	res := m.Submit(t.Context(), r)
	if res.Status != want {
		t.Fatalf("submit %s: status %v (%v), want %v", r.Name, res.Status, res.Err, want)
	}
	return res
}

// later hands r in and returns where its answer comes.
func (m *member) later(r node.Request) <-chan node.Result {
	c := make(chan node.Result, 2) // a second answer would be seen
	m.SubmitAsync(r, func(res node.Result) { c <- res })
	return c
}

// until waits for a condition that something else brings about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 60_000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("waited in vain until %s", what)
}

func (m *member) is(s node.State) func() bool {
	return func() bool { return m.Overview().State == s }
}

// wantFailure checks that a promotion failed as it should.
func wantFailure(t testing.TB, err error, want node.Failure) *node.PromoteError {
	t.Helper()
	var p *node.PromoteError
	if !errors.As(err, &p) || p.Failure != want {
		t.Fatalf("promote: %v, want failure %v", err, want)
	}
	return p
}

// A caller submits through a session to whichever node answers, and retries with
// the same number until it knows.
type caller struct {
	nodes   []*member
	at      int
	session uint64
	number  uint64
}

// try sends r until it is done; it returns false if ctx ended first.
func (c *caller) try(ctx context.Context, r node.Request) (machine.Outcome, bool) {
	for ctx.Err() == nil {
		sctx, cancel := context.WithTimeout(ctx, time.Second)
		res := c.nodes[c.at].Submit(sctx, r)
		cancel()
		if res.Status == node.Done {
			return res.Outcome, true
		}
		if res.Status == node.NotPrimary {
			c.at = (c.at + 1) % len(c.nodes)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return machine.Outcome{}, false
}

// open opens a session.
func (c *caller) open(ctx context.Context, ordered bool) bool {
	r := node.Request{Kind: journal.KindSession}
	if ordered {
		r.Name = "ordered"
	}
	out, ok := c.try(ctx, r)
	c.session, c.number = uint64(out.Seq), 0
	return ok
}

// put remembers an id, once.
func (c *caller) put(ctx context.Context, id uint64) (machine.Outcome, bool) {
	c.number++
	r := put(id)
	r.Client, r.Number, r.Low = c.session, c.number, c.number
	return c.try(ctx, r)
}
