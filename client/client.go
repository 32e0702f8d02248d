package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"understudy.dev/journal"
	"understudy.dev/machine"
)

// A Config says how to reach a group. Zero fields take their defaults.
type Config struct {
	Addrs   []string // client addresses of the nodes, some or all; required
	Machine string   // the machine that the nodes must run; "" takes any
	Ordered bool     // commands are carried out in the order of submission, also through a failover
	Window  int      // commands outstanding; default machine.DefaultWindow

	Timeout        time.Duration // from submission until a command is given up, and for Dial; default 30 s, negative: never
	ConnectTimeout time.Duration // to connect to one node and hear its welcome; default 1 s
	PingEvery      time.Duration // a silent connection is pinged; default 1 s
	DeadAfter      time.Duration // a connection silent for so long is given up; default 3 × PingEvery
	StallAfter     time.Duration // a node that answers pings but no command for so long is given up; default 15 s
	BackoffMin     time.Duration // before the first repetition of anything; default 5 ms
	BackoffMax     time.Duration // doubled up to this; default 250 ms. Half of each pause is random

	Seed uint64       // of that randomness; default: a random one
	Log  *slog.Logger // default: none

	// Dial connects to a node: for TLS, or a proxy. Default: TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

func (c Config) withDefaults() (Config, error) {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(len(c.Addrs) == 0, "no addresses")
	fault(len(c.Machine) > maxMachine, "machine name of %d bytes, at most %d are allowed", len(c.Machine), maxMachine)
	fault(c.Window < 0 || c.Window > 1<<20, "window of %d", c.Window)
	for _, d := range []time.Duration{c.ConnectTimeout, c.PingEvery, c.DeadAfter, c.StallAfter, c.BackoffMin, c.BackoffMax} {
		fault(d < 0, "negative duration %v", d)
	}
	defaultTo(&c.Window, machine.DefaultWindow)
	defaultTo(&c.Timeout, 30*time.Second)
	defaultTo(&c.ConnectTimeout, time.Second)
	defaultTo(&c.PingEvery, time.Second)
	defaultTo(&c.DeadAfter, 3*c.PingEvery)
	defaultTo(&c.StallAfter, 15*time.Second)
	defaultTo(&c.BackoffMin, 5*time.Millisecond)
	defaultTo(&c.BackoffMax, 250*time.Millisecond)
	defaultTo(&c.Seed, rand.Uint64())
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Dial == nil {
		var d net.Dialer
		c.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
	}
	c.Addrs = slices.Clone(c.Addrs)
	return c, errors.Join(faults...)
}

// Stats counts what a client went through.
type Stats struct {
	Reconnects uint64 // connections to a primary after the first
	Sessions   uint64 // sessions opened
	Retried    uint64 // commands that were sent more than once
	Repeated   uint64 // answers that a first attempt had earned
}

// A Client submits commands to the primary of a group, wherever that is. Its
// methods may be called concurrently.
type Client struct {
	cfg    Config
	ctx    context.Context
	cancel context.CancelCauseFunc
	slots  chan struct{} // one for each command without an answer
	opened chan struct{} // closed with the first session
	fatal  chan error    // capacity 1: why no session will ever open
	ended  sync.WaitGroup

	mu      sync.Mutex
	p       *pipeline
	link    *link // the connection in use; nil while there is none
	closed  bool
	rng     *rand.Rand
	epoch   journal.Epoch    // the largest that a primary told
	hint    string           // where a node said that the primary is
	trouble map[string]error // what the nodes last said, by address
	isOpen  bool             // opened is closed
	links   uint64           // connections that were in use
}

// Dial finds the primary and opens a session. It returns when a session is open,
// or with an error when ctx or Timeout has ended or a node runs another machine
// or speaks another version; the error says what each node answered.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("dial group: %w", err)
	}
	c := &Client{
		cfg: cfg, slots: make(chan struct{}, cfg.Window), opened: make(chan struct{}), fatal: make(chan error, 1),
		p: newPipeline(cfg.Ordered, cfg.Window), rng: rand.New(rand.NewPCG(cfg.Seed, 0)), trouble: make(map[string]error),
	}
	for _, addr := range cfg.Addrs {
		c.trouble[addr] = errMute
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.ended.Go(c.run)
	if cfg.Timeout > 0 {
		c.ended.Go(c.watchDeadlines)
	}
	if err := c.awaitSession(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("dial group: %w", err)
	}
	return c, nil
}

func (c *Client) awaitSession(ctx context.Context) error {
	if c.cfg.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.Timeout)
		defer cancel()
	}
	select {
	case <-c.opened:
		return nil
	case err := <-c.fatal:
		return err
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), c.troubles())
	}
}

// troubles tells what each node last answered.
func (c *Client) troubles() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	addrs := make([]string, 0, len(c.trouble))
	for addr := range c.trouble {
		addrs = append(addrs, addr)
	}
	slices.Sort(addrs)
	errs := make([]error, len(addrs))
	for i, addr := range addrs {
		errs[i] = fmt.Errorf("%s: %w", addr, c.trouble[addr])
	}
	return errors.Join(errs...)
}

// Submit submits a command and waits for its answer. The error is nil if the
// command was carried out, also if the machine rejected it; otherwise it is the
// answer's Err. When ctx ends first, the answer is NotDone if the command was
// never sent and Unknown if it was.
func (c *Client) Submit(ctx context.Context, name string, version uint32, data []byte) (Answer, error) {
	answer := make(chan Answer, 1)
	r, id, err := c.submit(ctx, name, version, data, func(a Answer) {
		a.Reply = slices.Clone(a.Reply)
		answer <- a
	})
	if err != nil {
		a := notDone(err)
		return a, a.Err
	}
	select {
	case a := <-answer:
		return a, a.Err
	case <-ctx.Done():
	}
	c.mu.Lock()
	c.p.abandon(r, id, context.Cause(ctx))
	out := c.p.take(nil)
	c.mu.Unlock()
	c.complete(out)
	a := <-answer
	return a, a.Err
}

// Go submits a command and returns; done is called once with the answer, from
// any goroutine. Go waits only while Window commands have no answer. It fails
// with an error matching ErrClosed when the client is closed; then done is not
// called. data is copied.
//
// done must not block: answers and connection wait for it. It may call Go if
// nobody else does, since the answered command's place is free. Its Reply shares
// memory with others that came with it: clone one that is to be kept for long.
func (c *Client) Go(name string, version uint32, data []byte, done func(Answer)) error {
	_, _, err := c.submit(context.Background(), name, version, data, done)
	return err
}

func (c *Client) submit(ctx context.Context, name string, version uint32, data []byte, done func(Answer)) (*request, uint64, error) {
	if len(name) > journal.MaxName {
		done(refused(fmt.Appendf(nil, "name of %d bytes, at most %d are allowed", len(name), journal.MaxName)))
		return &request{}, 0, nil
	}
	if err := c.acquire(ctx); err != nil {
		return nil, 0, err
	}
	var deadline time.Time
	if c.cfg.Timeout > 0 {
		deadline = time.Now().Add(c.cfg.Timeout)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		<-c.slots
		return nil, 0, ErrClosed
	}
	r := c.p.add(name, version, data, deadline, done)
	c.wakeLocked()
	return r, r.id, nil
}

func (c *Client) acquire(ctx context.Context) error {
	select {
	case c.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.ctx.Done():
		return ErrClosed
	}
}

// complete hands out answers. No lock is held. Places are freed first, so that
// done can submit the next command.
func (c *Client) complete(out []completion) {
	for range out {
		<-c.slots
	}
	for i := range out {
		out[i].done(out[i].answer)
	}
	clear(out)
}

// Stats returns the counters.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Stats{Sessions: c.p.sessions, Retried: c.p.retried, Repeated: c.p.repeated}
	if c.links > 0 {
		s.Reconnects = c.links - 1
	}
	return s
}

// Close ends the client. Commands without an answer are answered first: NotDone
// if they were never sent, Unknown otherwise. It must not be called from done.
// Calling it again returns nil.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel(ErrClosed)
	c.ended.Wait()
	c.mu.Lock()
	c.p.close()
	out := c.p.take(nil)
	c.mu.Unlock()
	c.complete(out)
	return nil
}

// run keeps a connection to the primary until the client is closed.
func (c *Client) run() {
	failures := 0 // connections in a row that were of no use
	for {
		l, err := c.find(c.ctx)
		if err != nil {
			return
		}
		err = c.use(l)
		if c.ctx.Err() != nil {
			return
		}
		c.cfg.Log.Info("connection to the primary lost", "event", "client.disconnected", "remote", l.addr, "reason", err)
		if l.useful {
			failures = 0
			continue
		}
		failures++
		if !sleep(c.ctx, c.pause(failures)) {
			return
		}
	}
}

// use runs one connection to its end and says why it ended.
func (c *Client) use(l *link) error {
	c.mu.Lock()
	c.link = l
	c.links++
	c.epoch = max(c.epoch, l.welcome.epoch)
	c.p.attach(l.welcome.window, l.welcome.maxCommand)
	c.mu.Unlock()
	c.cfg.Log.Info("connected to the primary", "event", "client.connected", "remote", l.addr, "epoch", l.welcome.epoch)

	err := l.run(c.ctx)

	c.mu.Lock()
	c.link = nil
	c.trouble[l.addr] = err
	c.p.detach()
	out := c.p.take(nil)
	c.mu.Unlock()
	c.complete(out)
	return err
}

// pause returns how long to wait before the n-th repetition.
func (c *Client) pause(n int) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pauseLocked(n)
}

func (c *Client) pauseLocked(n int) time.Duration {
	return backoff(c.rng, n, c.cfg.BackoffMin, c.cfg.BackoffMax)
}

// backoff doubles from least to most with n; half of it is random.
func backoff(rng *rand.Rand, n int, least, most time.Duration) time.Duration {
	d := least
	for ; n > 1 && d < most; n-- {
		d *= 2
	}
	d = min(d, most)
	return d/2 + time.Duration(rng.Int64N(int64(d/2)+1))
}

// watchDeadlines gives up commands whose Timeout has passed.
func (c *Client) watchDeadlines() {
	every := min(max(c.cfg.Timeout/16, time.Millisecond), 250*time.Millisecond)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			c.mu.Lock()
			c.p.expire(now)
			out := c.p.take(nil)
			c.mu.Unlock()
			c.complete(out)
		case <-c.ctx.Done():
			return
		}
	}
}

// wakeLocked tells the writer that there is something to send.
func (c *Client) wakeLocked() {
	if c.link != nil && c.link.waiting {
		c.link.waiting = false
		c.link.wake <- struct{}{}
	}
}

// sessionLocked ends Dial's wait.
func (c *Client) sessionLocked() {
	if !c.isOpen {
		c.isOpen = true
		close(c.opened)
	}
}

// failLocked ends Dial's wait with an error that will not go away.
func (c *Client) failLocked(err error) {
	select {
	case c.fatal <- err:
	default:
	}
}
