package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"understudy.dev/machine"
)

// A ledger holds what a client was told about each of its commands.
type ledger struct {
	mu      sync.Mutex
	answers map[uint64][]Answer
	open    sync.WaitGroup

	lateUnknown bool // an unknown command may be carried out out of order
}

func newLedger() *ledger { return &ledger{answers: make(map[uint64][]Answer)} }

// send submits command id and notes its answers.
func (l *ledger) send(t *testing.T, c *Client, name string, id uint64) {
	t.Helper()
	l.open.Add(1)
	var told atomic.Bool
	err := c.Go(name, 0, binary.LittleEndian.AppendUint64(nil, id), func(a Answer) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.answers[id] = append(l.answers[id], a)
		if !told.Swap(true) {
			l.open.Done()
		}
	})
	if err != nil {
		t.Errorf("Go(%d) = %v", id, err)
		l.open.Done()
	}
}

// check holds what was told against what was carried out: one answer each, and
// a true one; nothing twice; in order if the session is ordered.
func (l *ledger) check(t *testing.T, log []executed, inOrder bool) (verdicts map[Verdict]int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	times := make(map[uint64]int)
	last := uint64(0)
	for _, e := range log {
		id := binary.LittleEndian.Uint64([]byte(e.data))
		times[id]++
		if times[id] > 1 {
			t.Errorf("command %d was carried out %d times", id, times[id])
		}
		if a := l.answers[id]; l.lateUnknown && len(a) == 1 && a[0].Verdict == Unknown {
			continue
		}
		if inOrder && id <= last {
			t.Errorf("command %d was carried out after %d", id, last)
		}
		last = id
	}
	verdicts = make(map[Verdict]int)
	for id, answers := range l.answers {
		if len(answers) != 1 {
			t.Errorf("command %d got %d answers", id, len(answers))
		}
		a := answers[0]
		verdicts[a.Verdict]++
		switch got := times[id]; a.Verdict {
		case Done, Rejected:
			if got != 1 {
				t.Errorf("command %d is %v, carried out %d times", id, a.Verdict, got)
			}
		case NotDone, Refused:
			if got != 0 {
				t.Errorf("command %d is %v, carried out %d times", id, a.Verdict, got)
			}
		}
		if a.Verdict == Done {
			at := binary.LittleEndian.Uint64(a.Reply)
			if string(a.Reply[8:]) != log[at].data || binary.LittleEndian.Uint64(a.Reply[8:]) != id {
				t.Errorf("command %d got the reply of another", id)
			}
		}
	}
	return verdicts
}

// Whatever a network and failing nodes do, each command is carried out once and
// answered once, and an ordered session keeps its order.
func TestEveryCommandOnceThroughFaults(t *testing.T) {
	const commands = 3000
	seeds := uint64(6)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		for _, inOrder := range []bool{false, true} {
			t.Run(fmt.Sprintf("seed %d ordered %v", seed, inOrder), func(t *testing.T) {
				t.Parallel()
				rng := rand.New(rand.NewPCG(seed, 99))
				g := newGroup()
				var nodes []*fakeServer
				var addrs []string
				for i := range uint64(3) {
					s := startServer(t, g, testServer)
					s.trouble = rng.IntN(20)
					p := startProxy(t, s.addr, seed*10+i, 12)
					s.fakeNode.addr = p.addr()
					nodes, addrs = append(nodes, s), append(addrs, p.addr())
				}
				nodes[0].promote()
				cfg := testClient(addrs...)
				cfg.Ordered, cfg.Seed, cfg.Window = inOrder, seed+1, 1+rng.IntN(300)
				c := dial(t, cfg)
				l := newLedger()
				at := 0
				for id := range uint64(commands) {
					if id%(commands/5) == commands/10 { // four failovers
						next := (at + 1) % len(nodes)
						nodes[at].depose(addrs[next])
						nodes[next].promote()
						at = next
					}
					l.send(t, c, "put", id+1)
				}
				l.open.Wait()
				verdicts := l.check(t, g.executions(), inOrder)
				if verdicts[Done] != commands {
					t.Errorf("verdicts = %v, want all %d done", verdicts, commands)
				}
				if s := c.Stats(); s.Reconnects == 0 || s.Retried == 0 {
					t.Errorf("Stats = %+v: the test had no faults", s)
				}
			})
		}
	}
}

// The second node has or has not what the first one did not answer.
func TestFailoverAfterKill(t *testing.T) {
	for name, d := range map[string]death{"answers lost": lostAnswers, "commands lost": lostCommands, "half of them lost": lostSome} {
		for _, inOrder := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, ordered %v", name, inOrder), func(t *testing.T) {
				g := newGroup()
				a, b := startServer(t, g, testServer), startServer(t, g, testServer)
				a.promote()
				cfg := testClient(a.addr, b.addr)
				cfg.Ordered = inOrder
				c := dial(t, cfg)
				l := newLedger()
				for id := range uint64(100) {
					l.send(t, c, "put", id+1)
				}
				l.open.Wait()
				a.stop()
				for id := range uint64(100) {
					l.send(t, c, "put", id+101)
				}
				until(t, "the primary has all commands", func() bool { return a.waiting() == 100 })
				a.kill(d)
				a.ln.kill()
				b.promote()
				l.open.Wait()
				if v := l.check(t, g.executions(), inOrder); v[Done] != 200 {
					t.Errorf("verdicts = %v, want 200 done", v)
				}
				want := Stats{Reconnects: 1, Sessions: 1, Retried: 100, Repeated: map[death]uint64{lostAnswers: 100, lostSome: 50}[d]}
				if got := c.Stats(); got != want {
					t.Errorf("Stats = %+v, want %+v", got, want)
				}
			})
		}
	}
}

// A primary that is stopped, not dead, is left by its silence; what it does
// later changes nothing.
func TestFailoverFromFrozenPrimary(t *testing.T) {
	g := newGroup()
	a, b := startServer(t, g, testServer), startServer(t, g, testServer)
	p := startProxy(t, a.addr, 1, 0)
	a.promote()
	c := dial(t, testClient(p.addr(), b.addr))
	a.stop()
	l := newLedger()
	for id := range uint64(10) {
		l.send(t, c, "put", id+1)
	}
	until(t, "the primary has all commands", func() bool { return a.waiting() == 10 })
	p.close()
	b.promote()
	l.open.Wait()
	a.depose(b.addr)
	a.goOn()
	l.check(t, g.executions(), false)
}

// A node that answers pings but no commands is left too.
func TestLeavesNodeThatStalls(t *testing.T) {
	g := newGroup()
	a, b := startServer(t, g, testServer), startServer(t, g, testServer)
	a.promote()
	cfg := testClient(a.addr, b.addr)
	cfg.StallAfter = 100 * time.Millisecond
	c := dial(t, cfg)
	a.stop()
	l := newLedger()
	l.send(t, c, "put", 1)
	until(t, "the command arrived", func() bool { return a.waiting() == 1 })
	b.promote() // a still believes in its older epoch
	l.open.Wait()
	if v := l.check(t, g.executions(), false); v[Done] != 1 {
		t.Errorf("verdicts = %v, want 1 done", v)
	}
}

func TestRedirect(t *testing.T) {
	g := newGroup()
	a, b := startServer(t, g, testServer), startServer(t, g, testServer)
	a.promote()
	b.depose(a.addr)
	c := dial(t, testClient(b.addr)) // knows the standby only
	if a, err := c.Submit(t.Context(), "put", 0, id(1)); err != nil || a.Verdict != Done {
		t.Errorf("Submit = %v, %v", a, err)
	}
}

// Nodes that point at each other do not keep a client busy or stuck.
func TestRedirectLoop(t *testing.T) {
	g := newGroup()
	a, b := startServer(t, g, testServer), startServer(t, g, testServer)
	a.depose(b.addr)
	b.depose(a.addr)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := Dial(ctx, testClient(a.addr))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(fmt.Sprint(err), a.addr+": a standby, points to "+b.addr) {
		t.Errorf("Dial = %v, want a deadline and what the nodes said", err)
	}
	dialled := make(chan *Client)
	go func() { dialled <- dial(t, testClient(a.addr)) }()
	b.promote()
	c := <-dialled
	if _, err := c.Submit(t.Context(), "put", 0, id(1)); err != nil {
		t.Errorf("Submit = %v", err)
	}
}

// A node that still believes in an epoch older than one seen is not asked.
func TestStalePrimaryIsPassedOver(t *testing.T) {
	g := newGroup()
	a, b := startServer(t, g, testServer), startServer(t, g, testServer)
	b.promote()
	c := dial(t, testClient(a.addr, b.addr))
	a.mu.Lock()
	a.primary, a.epoch = true, 1
	a.mu.Unlock()
	b.depose("")
	b.ln.kill()
	until(t, "the client met the stale node", func() bool { return strings.Contains(fmt.Sprint(c.troubles()), "still in epoch 1") })
	if got := c.Stats().Reconnects; got != 0 {
		t.Errorf("reconnects = %d, want 0", got)
	}
	a.promote()
	if a, err := c.Submit(t.Context(), "put", 0, id(1)); err != nil || a.Verdict != Done {
		t.Errorf("Submit = %v, %v", a, err)
	}
}

func TestOtherMachineIsRefusedInWords(t *testing.T) {
	s := startServer(t, newGroup(), testServer)
	s.promote()
	cfg := testClient(s.addr)
	cfg.Machine = "exchange"
	_, err := Dial(t.Context(), cfg)
	if !errors.Is(err, ErrMachine) || !strings.Contains(err.Error(), `expects machine "exchange", this node runs "model"`) {
		t.Errorf("Dial = %v", err)
	}
}

func TestVerdictsOfNodeAndMachine(t *testing.T) {
	s := startServer(t, newGroup(), testServer)
	s.promote()
	s.refuse = "nonsense"
	c := dial(t, testClient(s.addr))
	a, err := c.Submit(t.Context(), "reject", 0, id(1))
	if err != nil || a.Verdict != Rejected || string(a.Reply) != "the machine says no" {
		t.Errorf("Submit(reject) = %v, %v", a, err)
	}
	a, err = c.Submit(t.Context(), "nonsense", 0, id(2))
	if !errors.Is(err, ErrRefused) || a.Verdict != Refused || !strings.Contains(err.Error(), "unknown command nonsense") {
		t.Errorf("Submit(nonsense) = %v, %v", a, err)
	}
	a, err = c.Submit(t.Context(), "put", 0, make([]byte, DefaultMaxCommand+1))
	if !errors.Is(err, ErrRefused) || a.Verdict != Refused {
		t.Errorf("Submit(too large) = %v, %v", a.Verdict, err)
	}
	a, err = c.Submit(t.Context(), strings.Repeat("x", 2000), 0, nil)
	if !errors.Is(err, ErrRefused) || a.Verdict != Refused {
		t.Errorf("Submit(name too long) = %v, %v", a.Verdict, err)
	}
	if a, err := c.Submit(t.Context(), "put", 0, make([]byte, DefaultMaxCommand)); err != nil || len(a.Reply) != 8+DefaultMaxCommand {
		t.Errorf("Submit(largest) = %v, %v", a.Verdict, err)
	}
}

// An ordered session survives a refusal in the middle: what came after it is
// carried out in order, in another session.
func TestOrderedSessionGoesOnAfterRefusal(t *testing.T) {
	g := newGroup()
	s := startServer(t, g, testServer)
	s.promote()
	s.refuse = "nonsense"
	cfg := testClient(s.addr)
	cfg.Ordered = true
	c := dial(t, cfg)
	l := newLedger()
	for id := range uint64(500) {
		name := "put"
		if id%50 == 25 {
			name = "nonsense"
		}
		l.send(t, c, name, id+1)
	}
	l.open.Wait()
	if v := l.check(t, g.executions(), true); v[Done] != 490 || v[Refused] != 10 {
		t.Errorf("verdicts = %v, want 490 done and 10 refused", v)
	}
}

// After its session expired, what may have been carried out is unknown and never
// sent again; the rest is done in another session.
func TestExpiredSession(t *testing.T) {
	for _, inOrder := range []bool{false, true} {
		t.Run(fmt.Sprintf("ordered %v", inOrder), func(t *testing.T) {
			g := newGroup()
			a, b := startServer(t, g, testServer), startServer(t, g, testServer)
			a.promote()
			cfg := testClient(a.addr, b.addr)
			cfg.Ordered = inOrder
			c := dial(t, cfg)
			a.stop()
			l := newLedger()
			for id := range uint64(20) {
				l.send(t, c, "put", id+1)
			}
			until(t, "the primary has the commands", func() bool { return a.waiting() == 20 })
			a.kill(lostSome)
			g.expireSessions()
			a.ln.kill()
			until(t, "the client noticed", func() bool { return !c.connected() })
			for id := range uint64(20) {
				l.send(t, c, "put", id+101)
			}
			b.promote()
			l.open.Wait()
			v := l.check(t, g.executions(), inOrder)
			if v[Unknown] != 20 || v[Done] != 20 {
				t.Errorf("verdicts = %v, want 20 unknown and 20 done", v)
			}
			if got := c.Stats().Sessions; got != 2 {
				t.Errorf("sessions = %d, want 2", got)
			}
		})
	}
}

// A command that certainly met no session is sent again in the next one.
func TestExpiredSessionOnALiveConnection(t *testing.T) {
	g := newGroup()
	s := startServer(t, g, testServer)
	s.promote()
	c := dial(t, testClient(s.addr))
	g.expireSessions()
	if a, err := c.Submit(t.Context(), "put", 0, id(1)); err != nil || a.Verdict != Done {
		t.Errorf("Submit = %v, %v", a, err)
	}
}

// A machine with a smaller window than the server tells slows a client down and
// confuses nothing.
func TestMachineWithSmallWindow(t *testing.T) {
	g := newGroup()
	g.window = 7
	s := startServer(t, g, testServer)
	s.promote()
	cfg := testClient(s.addr)
	cfg.Ordered = true
	c := dial(t, cfg)
	l := newLedger()
	for id := range uint64(200) {
		l.send(t, c, "put", id+1)
	}
	l.open.Wait()
	if v := l.check(t, g.executions(), true); v[Done] != 200 {
		t.Errorf("verdicts = %v, want 200 done", v)
	}
}

func TestCancelledSubmit(t *testing.T) {
	g := newGroup()
	s := startServer(t, g, testServer)
	s.promote()
	c := dial(t, testClient(s.addr))
	s.stop()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for s.waiting() == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	a, err := c.Submit(ctx, "put", 0, id(1))
	if a.Verdict != Unknown || !errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("Submit cancelled after sending = %v, %v, want unknown", a.Verdict, err)
	}
	s.ln.kill()
	until(t, "the client noticed", func() bool { return !c.connected() })
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	a, err = c.Submit(ctx, "put", 0, id(2))
	if a.Verdict != NotDone || !errors.Is(err, ErrNotDone) {
		t.Errorf("Submit cancelled before sending = %v, %v, want not done", a.Verdict, err)
	}
}

func (c *Client) connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link != nil
}

// Timeout gives up what nobody answers, and the session goes on after it.
func TestTimeout(t *testing.T) {
	for _, inOrder := range []bool{false, true} {
		t.Run(fmt.Sprintf("ordered %v", inOrder), func(t *testing.T) {
			g := newGroup()
			s := startServer(t, g, testServer)
			s.promote()
			cfg := testClient(s.addr)
			cfg.Ordered, cfg.Timeout, cfg.Window = inOrder, 100*time.Millisecond, 10
			c := dial(t, cfg)
			s.stop()
			l := newLedger()
			for id := range uint64(30) {
				l.send(t, c, "put", id+1) // the last ones wait for a place
			}
			l.open.Wait()
			v := l.check(t, g.executions(), inOrder)
			if v[Unknown] != 10 || v[NotDone] != 20 {
				t.Errorf("verdicts = %v, want 10 unknown (sent) and 20 not done", v)
			}
			s.goOn()
			a, err := c.Submit(t.Context(), "put", 0, id(100))
			for ; err != nil && t.Context().Err() == nil; a, err = c.Submit(t.Context(), "put", 0, id(100)) {
				if a.Verdict != NotDone {
					t.Fatalf("Submit = %v, %v", a.Verdict, err)
				}
			}
			l.check(t, g.executions(), inOrder)
		})
	}
}

func TestCloseAnswersEverything(t *testing.T) {
	g := newGroup()
	s := startServer(t, g, testServer)
	s.promote()
	cfg := testClient(s.addr)
	cfg.Window = 20
	c := dial(t, cfg)
	s.stop()
	l := newLedger()
	for id := range uint64(20) {
		l.send(t, c, "put", id+1)
	}
	until(t, "the primary has the commands", func() bool { return s.waiting() == 20 })
	blocked := make(chan error)
	go func() { blocked <- c.Go("put", 0, id(21), func(Answer) {}) }()
	if err := c.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	l.open.Wait()
	if v := l.check(t, g.executions(), false); v[Unknown] != 20 {
		t.Errorf("verdicts = %v, want 20 unknown", v)
	}
	if err := <-blocked; !errors.Is(err, ErrClosed) {
		t.Errorf("Go that waited for a place = %v, want closed", err)
	}
	if a, err := c.Submit(t.Context(), "put", 0, id(22)); !errors.Is(err, ErrClosed) || a.Verdict != NotDone {
		t.Errorf("Submit after Close = %v, %v", a.Verdict, err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}
}

// An idle client stays connected: pings keep both sides from giving up.
func TestIdleConnectionStays(t *testing.T) {
	server := testServer
	server.PingEvery = time.Hour // the client's pings alone
	server.DeadAfter = 0
	s := startServer(t, newGroup(), server)
	s.promote()
	var pings atomic.Int64
	cfg := testClient(s.addr)
	cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		return countingConn{c, &pings}, err
	}
	c := dial(t, cfg)
	if a, err := c.Submit(t.Context(), "put", 0, id(1)); err != nil || a.Verdict != Done {
		t.Fatalf("Submit = %v, %v", a, err)
	}
	before := pings.Load()
	until(t, "ten pings went out", func() bool { return pings.Load() >= before+10 })
	if got := c.Stats().Reconnects; got != 0 {
		t.Errorf("reconnects = %d, want 0", got)
	}
}

// A countingConn counts its writes.
type countingConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countingConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// done may submit the next command while the window is full.
func TestGoFromDone(t *testing.T) {
	s := startServer(t, newGroup(), testServer)
	s.promote()
	cfg := testClient(s.addr)
	cfg.Window = 8
	c := dial(t, cfg)
	var left atomic.Int64
	left.Store(1000)
	finished := make(chan struct{})
	var next func(Answer)
	var running atomic.Int64
	running.Store(8)
	next = func(Answer) {
		if left.Add(-1) < 0 {
			if running.Add(-1) == 0 {
				close(finished)
			}
			return
		}
		if err := c.Go("put", 0, id(1), next); err != nil {
			t.Errorf("Go = %v", err)
		}
	}
	for range 8 {
		if err := c.Go("put", 0, id(1), next); err != nil {
			t.Fatal(err)
		}
	}
	<-finished
}

func TestConfigFaultsAreReportedTogether(t *testing.T) {
	_, err := Dial(t.Context(), Config{Window: -1, Machine: strings.Repeat("x", 256)})
	for _, want := range []string{"no addresses", "window of -1", "machine name of 256 bytes"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("Dial = %v, want %q in it", err, want)
		}
	}
	err = Serve(t.Context(), listen(t), nil, ServerConfig{Window: -1, Grace: -1})
	for _, want := range []string{"window of -1", "negative duration"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("Serve = %v, want %q in it", err, want)
		}
	}
}

func TestWindowDefaultIsTheMachines(t *testing.T) {
	cfg, err := Config{Addrs: []string{"x"}}.withDefaults()
	if err != nil || cfg.Window != machine.DefaultWindow {
		t.Errorf("window = %d, %v, want %d", cfg.Window, err, machine.DefaultWindow)
	}
}

func id(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }
