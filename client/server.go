package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"understudy.dev/journal"
	"understudy.dev/machine"
	"understudy.dev/node"
)

// A Submitter is the node behind a server.
type Submitter interface {
	// SubmitAsync takes a command and returns. It calls done exactly once, from
	// any goroutine, possibly before it returns. done does not block. Commands
	// handed in by one goroutine are sequenced in that order.
	SubmitAsync(req node.Request, done func(node.Result))

	// Leader says whether this node believes to be the primary, the primary's
	// client address ("" if it is not known) and the epoch that it last saw.
	Leader() (primary bool, addr string, epoch journal.Epoch)
}

// A ServerConfig says how to serve. Zero fields take their defaults.
type ServerConfig struct {
	Machine    string // name in the machine's definition; a client that expects another is refused; at most 255 bytes
	MaxCommand int    // bytes of data in one command; default DefaultMaxCommand
	Window     int    // commands outstanding per connection; default machine.DefaultWindow. At most the window of the machine's definition
	MaxConns   int    // connections at a time; default 4096

	PingEvery    time.Duration // a connection silent for so long is pinged; default 5 s
	DeadAfter    time.Duration // a connection silent for so long is dropped; default 3 × PingEvery
	HelloTimeout time.Duration // for the first frame; default 5 s
	WriteTimeout time.Duration // a client that takes no bytes for so long is dropped; default 10 s
	Grace        time.Duration // for outstanding results of a connection that ends; default 2 s

	Log *slog.Logger // default: none
}

// DefaultMaxCommand is what fits into one message of NATS with its default
// max_payload of 1 MiB (nats-server v2.15, server/const.go), less 4 KiB for the
// batch around it.
const DefaultMaxCommand = 1<<20 - 4<<10

func (c ServerConfig) withDefaults() (ServerConfig, error) {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(len(c.Machine) > maxMachine, "machine name of %d bytes, at most %d are allowed", len(c.Machine), maxMachine)
	fault(c.MaxCommand < 0 || c.MaxCommand > 1<<30, "max command of %d bytes", c.MaxCommand)
	fault(c.Window < 0 || c.Window > 1<<20, "window of %d", c.Window)
	fault(c.MaxConns < 0, "max conns of %d", c.MaxConns)
	for _, d := range []time.Duration{c.PingEvery, c.DeadAfter, c.HelloTimeout, c.WriteTimeout, c.Grace} {
		fault(d < 0, "negative duration %v", d)
	}
	defaultTo(&c.MaxCommand, DefaultMaxCommand)
	defaultTo(&c.Window, machine.DefaultWindow)
	defaultTo(&c.MaxConns, 4096)
	defaultTo(&c.PingEvery, 5*time.Second)
	defaultTo(&c.DeadAfter, 3*c.PingEvery)
	defaultTo(&c.HelloTimeout, 5*time.Second)
	defaultTo(&c.WriteTimeout, 10*time.Second)
	defaultTo(&c.Grace, 2*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, errors.Join(faults...)
}

func defaultTo[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Serve answers clients on ln until ctx ends, then closes ln, says goaway on
// every connection, waits at most Grace for outstanding results, and returns
// nil. Any other end is an error of ln. It owns ln.
//
// A slow client delays nobody: results wait in its connection's own queue, which
// its window bounds, and the connection is dropped after WriteTimeout.
func Serve(ctx context.Context, ln net.Listener, n Submitter, cfg ServerConfig) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		ln.Close()
		return fmt.Errorf("serve clients: %w", err)
	}
	s := &server{cfg: cfg, node: n, conns: make(map[*conn]struct{})}
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	defer ln.Close()
	err = s.accept(ctx, ln)
	s.shutDown()
	s.running.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve clients on %v: %w", ln.Addr(), err)
}

type server struct {
	cfg     ServerConfig
	node    Submitter
	running sync.WaitGroup

	mu    sync.Mutex
	conns map[*conn]struct{}
}

// accept starts a connection for each client until ln is closed or fails. Lack
// of file descriptors and the like pass: it tries again, more and more slowly.
func (s *server) accept(ctx context.Context, ln net.Listener) error {
	var wait time.Duration
	for {
		nc, err := ln.Accept()
		var temporary interface{ Temporary() bool }
		switch {
		case err == nil:
			wait = 0
			s.start(nc)
		case ctx.Err() == nil && errors.As(err, &temporary) && temporary.Temporary():
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			s.cfg.Log.Warn("accept client", "event", "client.accept_failed", "error", err)
			sleep(ctx, wait)
		default:
			return err
		}
	}
}

func (s *server) start(nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	full := len(s.conns) >= s.cfg.MaxConns
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	s.running.Go(func() {
		if full {
			c.refuse(goaway{reason: reasonBusy, words: "too many connections"})
		} else {
			c.serve()
		}
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	})
}

// shutDown asks every connection to end. No connection starts after it.
func (s *server) shutDown() {
	_, addr, _ := s.node.Leader()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.end(&goaway{reason: reasonShutdown, primary: addr, words: "the node ends"})
	}
}

// welcome says who this node is right now.
func (s *server) welcome() welcome {
	primary, addr, epoch := s.node.Leader()
	w := welcome{
		version: version, role: roleStandby, epoch: epoch, machine: s.cfg.Machine,
		maxCommand: uint32(s.cfg.MaxCommand), window: uint32(s.cfg.Window),
	}
	if primary {
		w.role = rolePrimary
	}
	if len(addr) <= maxAddress {
		w.primary = addr
	}
	return w
}

// sleep waits for d or the end of ctx, and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
