package client

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"understudy.dev/journal"
	"understudy.dev/machine"
	"understudy.dev/node"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A group is the replicated state of a few nodes, by a small model: a log of
// what was carried out, and sessions as machine/session.go has them.
type group struct {
	mu       sync.Mutex
	seq      uint64
	epoch    journal.Epoch
	window   uint64
	sessions map[uint64]*modelSession
	log      []executed
}

type executed struct {
	name string
	data string
}

type modelSession struct {
	ordered   bool
	low, last uint64
	replies   map[uint64]machine.Outcome
}

func newGroup() *group {
	return &group{window: machine.DefaultWindow, sessions: make(map[uint64]*modelSession), epoch: 1}
}

// apply carries out one request as the machine would. The reply of a command is
// its place in the log, then its data.
func (g *group) apply(r *node.Request) machine.Outcome {
	g.seq++
	seq := journal.Seq(g.seq)
	if r.Kind == journal.KindSession {
		g.sessions[g.seq] = &modelSession{ordered: r.Name == "ordered", low: 1, replies: make(map[uint64]machine.Outcome)}
		return machine.Outcome{Seq: seq}
	}
	if r.Client == 0 {
		return g.call(r, seq)
	}
	s := g.sessions[r.Client]
	if s == nil {
		return machine.Outcome{Seq: seq, Code: machine.NoSession}
	}
	for s.low < r.Low {
		delete(s.replies, s.low)
		s.low++
	}
	old, known := s.replies[r.Number]
	switch {
	case r.Number < s.low:
		return machine.Outcome{Seq: seq, Code: machine.Forgotten}
	case r.Number-s.low >= g.window:
		return machine.Outcome{Seq: seq, Code: machine.Beyond}
	case known:
		old.Seq, old.Repeated = seq, true
		return old
	case s.ordered && r.Number != s.last+1:
		return machine.Outcome{Seq: seq, Code: machine.Hole}
	}
	out := g.call(r, seq)
	s.last = max(s.last, r.Number)
	s.replies[r.Number] = out
	return out
}

func (g *group) call(r *node.Request, seq journal.Seq) machine.Outcome {
	out := machine.Outcome{Seq: seq, Reply: append(binary.LittleEndian.AppendUint64(nil, uint64(len(g.log))), r.Data...)}
	if r.Name == "reject" {
		out.Code, out.Reply = machine.Rejected, []byte("the machine says no")
	}
	g.log = append(g.log, executed{r.Name, string(r.Data)})
	return out
}

func (g *group) executions() []executed {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]executed(nil), g.log...)
}

func (g *group) expireSessions() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.sessions)
}

// A fakeNode is a Submitter with a loop of its own, as a node has.
type fakeNode struct {
	g    *group
	addr string

	mu      sync.Mutex
	primary bool
	points  string // where it says that the primary is
	epoch   journal.Epoch
	queue   []fakeWaiting
	stopped bool // holds its queue: a process that was stopped
	killed  bool
	refuse  string // name of commands that it refuses
	rng     *rand.Rand
	trouble int // of 1000 commands so many get an answer other than done

	signal chan struct{}
}

type fakeWaiting struct {
	req  node.Request
	done func(node.Result)
}

func (n *fakeNode) Leader() (bool, string, journal.Epoch) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.primary, n.points, n.epoch
}

func (n *fakeNode) SubmitAsync(r node.Request, done func(node.Result)) {
	n.mu.Lock()
	switch {
	case n.killed:
		n.mu.Unlock()
		return
	case !n.primary:
		to := n.points
		n.mu.Unlock()
		done(node.Result{Status: node.NotPrimary, Primary: to, Err: errors.New("a standby")})
		return
	case r.Name != "" && r.Name == n.refuse:
		n.mu.Unlock()
		done(node.Result{Status: node.Refused, Err: errors.New("unknown command " + r.Name)})
		return
	}
	n.queue = append(n.queue, fakeWaiting{r, done})
	n.mu.Unlock()
	n.wake()
}

func (n *fakeNode) wake() {
	select {
	case n.signal <- struct{}{}:
	default:
	}
}

func (n *fakeNode) run(ctx context.Context) {
	for {
		select {
		case <-n.signal:
		case <-ctx.Done():
			return
		}
		n.mu.Lock()
		var batch []fakeWaiting
		if !n.stopped && !n.killed {
			batch, n.queue = n.queue, nil
		}
		results := n.carryOut(batch)
		n.mu.Unlock()
		for i, w := range batch {
			w.done(results[i])
		}
	}
}

func (n *fakeNode) carryOut(batch []fakeWaiting) []node.Result {
	n.g.mu.Lock()
	defer n.g.mu.Unlock()
	results := make([]node.Result, len(batch))
	for i := range batch {
		r := &batch[i].req
		if n.trouble > 0 && n.rng.IntN(1000) < n.trouble {
			results[i] = n.inTrouble(r)
			continue
		}
		results[i] = node.Result{Outcome: n.g.apply(r)}
	}
	return results
}

// inTrouble answers what a node may when its journal is unwell.
func (n *fakeNode) inTrouble(r *node.Request) node.Result {
	switch n.rng.IntN(3) {
	case 0:
		return node.Result{Status: node.NotDone, Err: errors.New("too many requests wait")}
	case 1:
		n.g.apply(r)
	}
	return node.Result{Status: node.Unknown, Err: errors.New("journal unreadable")}
}

// A death is what becomes of the commands that a primary had not answered.
type death int

const (
	lostAnswers  death = iota // all are in the journal
	lostCommands              // none is
	lostSome                  // the first half is
)

// kill ends the node as SIGKILL does: nobody gets an answer from it.
func (n *fakeNode) kill(d death) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.g.mu.Lock()
	defer n.g.mu.Unlock()
	keep := map[death]int{lostAnswers: len(n.queue), lostSome: len(n.queue) / 2}[d]
	for i := range n.queue[:keep] {
		n.g.apply(&n.queue[i].req)
	}
	n.queue, n.killed, n.primary = nil, true, false
}

// depose makes the node a standby that was fenced: what it had not appended is
// certainly not done.
func (n *fakeNode) depose(to string) {
	n.mu.Lock()
	queue := n.queue
	n.queue, n.primary, n.points = nil, false, to
	n.mu.Unlock()
	for _, w := range queue {
		w.done(node.Result{Status: node.NotPrimary, Primary: to, Err: errors.New("fenced")})
	}
}

func (n *fakeNode) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopped = true
}

func (n *fakeNode) goOn() {
	n.mu.Lock()
	n.stopped = false
	n.mu.Unlock()
	n.wake()
}

func (n *fakeNode) waiting() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.queue)
}

// promote makes the node the primary of the next epoch.
func (n *fakeNode) promote() {
	n.g.mu.Lock()
	n.g.epoch++
	epoch := n.g.epoch
	n.g.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.primary, n.points, n.epoch = true, n.addr, epoch
}

// A trackedListener can be killed: it and its connections are gone at once.
type trackedListener struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (l *trackedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		l.conns = append(l.conns, c)
		l.mu.Unlock()
	}
	return c, err
}

func (l *trackedListener) kill() {
	l.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

// A fakeServer is a node with its port.
type fakeServer struct {
	*fakeNode
	ln     *trackedListener
	cancel context.CancelFunc
	served chan error
}

// end ends the server gracefully and returns what Serve returned.
func (s *fakeServer) end() error {
	s.cancel()
	err := <-s.served
	s.served <- err
	return err
}

var testServer = ServerConfig{Machine: "model", PingEvery: 30 * time.Millisecond, DeadAfter: 300 * time.Millisecond, Grace: 200 * time.Millisecond}

func startServer(t testing.TB, g *group, cfg ServerConfig) *fakeServer {
	t.Helper()
	ln := listen(t)
	s := &fakeServer{
		fakeNode: &fakeNode{g: g, addr: ln.Addr().String(), signal: make(chan struct{}, 1), rng: rand.New(rand.NewPCG(1, 2))},
		ln:       &trackedListener{Listener: ln}, served: make(chan error, 1),
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	looped := make(chan struct{})
	go func() {
		defer close(looped)
		s.run(ctx)
	}()
	go func() { s.served <- Serve(ctx, s.ln, s.fakeNode, cfg) }()
	t.Cleanup(func() {
		s.end()
		<-looped
	})
	return s
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// testClient has pauses that suit a test.
func testClient(addrs ...string) Config {
	return Config{
		Addrs: addrs, Machine: "model", PingEvery: 30 * time.Millisecond, DeadAfter: 150 * time.Millisecond,
		ConnectTimeout: 150 * time.Millisecond, StallAfter: 2 * time.Second, BackoffMin: time.Millisecond, BackoffMax: 20 * time.Millisecond, Seed: 1,
	}
}

func dial(t testing.TB, cfg Config) *Client {
	t.Helper()
	c, err := Dial(context.Background(), cfg)
	if err != nil {
		t.Fatalf("Dial = %v", err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// until waits for a condition, and fails the test when it does not come about.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for range 20000 {
		if cond() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}
