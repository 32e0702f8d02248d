package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"understudy.dev/journal"
)

// maxHints bounds the addresses that one search learns from nodes.
const maxHints = 64

// find returns a connection to a node that says it is the primary. It asks all
// known addresses side by side, again and again, so that a node that does not
// answer delays nobody; addresses that nodes point to are asked too. Each
// address has its own back-off, so nodes that point at each other cost little.
// It fails only when ctx ends.
func (c *Client) find(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &search{c: c, found: make(chan *link), hints: make(chan string)}
	defer s.probes.Wait()
	defer cancel()
	asked := make(map[string]bool)
	ask := func(addr string) {
		if addr == "" || asked[addr] || len(asked) >= len(c.cfg.Addrs)+maxHints {
			return
		}
		asked[addr] = true
		seed := c.draw()
		s.probes.Go(func() { s.probe(ctx, addr, rand.New(rand.NewPCG(seed, 0))) })
	}
	ask(c.takeHint())
	for _, addr := range c.cfg.Addrs {
		ask(addr)
	}
	for {
		select {
		case l := <-s.found:
			return l, nil
		case addr := <-s.hints:
			ask(addr)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (c *Client) draw() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rng.Uint64()
}

func (c *Client) takeHint() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	hint := c.hint
	c.hint = ""
	return hint
}

// A search is one call of find.
type search struct {
	c      *Client
	found  chan *link
	hints  chan string
	probes sync.WaitGroup
}

// probe asks one address until it is the primary or the search ends.
func (s *search) probe(ctx context.Context, addr string, rng *rand.Rand) {
	for n := 1; ; n++ {
		l, err := s.c.connect(ctx, addr)
		if ctx.Err() != nil {
			if l != nil {
				l.nc.Close()
			}
			return
		}
		if err == nil {
			err = s.judge(ctx, l)
		}
		if err == nil {
			return
		}
		s.c.note(addr, err)
		if !sleep(ctx, backoff(rng, n, s.c.cfg.BackoffMin, s.c.cfg.BackoffMax)) {
			return
		}
	}
}

var (
	errMute    = errors.New("no answer yet")
	errStandby = errors.New("a standby")
)

// judge hands a primary over and follows a standby's pointer.
func (s *search) judge(ctx context.Context, l *link) error {
	w := &l.welcome
	if w.role == rolePrimary && w.epoch >= s.c.lastEpoch() {
		select {
		case s.found <- l:
		case <-ctx.Done():
			l.nc.Close()
		}
		return nil
	}
	l.nc.Close()
	if w.role == rolePrimary {
		return fmt.Errorf("still in epoch %d, a later one was seen", w.epoch)
	}
	if w.primary != "" {
		select {
		case s.hints <- w.primary:
		case <-ctx.Done():
		}
		return fmt.Errorf("%w, points to %s", errStandby, w.primary)
	}
	return errStandby
}

func (c *Client) lastEpoch() journal.Epoch {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch
}

// note keeps what a node said, for Dial's error. Another machine or version will
// not go away by waiting.
func (c *Client) note(addr string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.trouble) < len(c.cfg.Addrs)+maxHints || c.trouble[addr] != nil {
		c.trouble[addr] = err
	}
	if errors.Is(err, ErrMachine) || errors.Is(err, ErrVersion) {
		c.failLocked(fmt.Errorf("%s: %w", addr, err))
	}
}

// connect connects to one node and hears its welcome, within ConnectTimeout.
func (c *Client) connect(ctx context.Context, addr string) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.ConnectTimeout)
	defer cancel()
	nc, err := c.cfg.Dial(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	in := frameReader{src: nc, max: maxHandshake, chunk: firstChunk}
	w, err := c.greet(nc, &in)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	in.max, in.chunk = maxResult, chunkSize
	return newLink(c, addr, nc, in, w), nil
}

// maxResult is the largest result accepted: far above any reply that a node
// could have journaled for, and a bound on what a broken peer can make us store.
const maxResult = 64 << 20

func (c *Client) greet(nc net.Conn, in *frameReader) (welcome, error) {
	if _, err := nc.Write(appendHello(nil, hello{version: version, machine: c.cfg.Machine})); err != nil {
		return welcome{}, fmt.Errorf("send hello: %w", err)
	}
	kind, payload, err := firstFrame(in)
	if err != nil {
		return welcome{}, err
	}
	if kind == frameGoaway {
		return welcome{}, sentAway(payload)
	}
	if kind != frameWelcome {
		return welcome{}, fmt.Errorf("%w: the first frame is no welcome", errProtocol)
	}
	w, err := decodeWelcome(payload)
	switch {
	case err != nil:
		return welcome{}, err
	case w.version != version:
		return welcome{}, fmt.Errorf("%w: %d, this client speaks %d", ErrVersion, w.version, version)
	case c.cfg.Machine != "" && w.machine != c.cfg.Machine:
		return welcome{}, fmt.Errorf("%w: %q, expected %q", ErrMachine, w.machine, c.cfg.Machine)
	}
	return w, nil
}

// sentAway turns a server's refusal into an error.
func sentAway(payload []byte) error {
	g, err := decodeGoaway(payload)
	if err != nil {
		return err
	}
	switch g.reason {
	case reasonMachine:
		return fmt.Errorf("%w: %s", ErrMachine, g.words)
	case reasonVersion:
		return fmt.Errorf("%w: %s", ErrVersion, g.words)
	}
	return fmt.Errorf("%w: %s", errAway, g.words)
}
