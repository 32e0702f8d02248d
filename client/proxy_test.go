package client

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// A fault is what a proxy does to one direction of a connection at a byte.
type fault int

const (
	noFault fault = iota
	cut           // both directions end with a reset
	freeze        // this direction forwards nothing any more, and nobody is told
	half          // this direction ends, the other goes on
)

// A proxy forwards connections to a node and spoils the first few, from a seed.
type proxy struct {
	ln     net.Listener
	target string

	mu     sync.Mutex
	rng    *rand.Rand
	faults int // connections that are still to be spoilt
	conns  []net.Conn
	closed bool
	wg     sync.WaitGroup
}

func startProxy(t testing.TB, target string, seed uint64, faults int) *proxy {
	p := &proxy{ln: listen(t), target: target, rng: rand.New(rand.NewPCG(seed, 7)), faults: faults}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) addr() string { return p.ln.Addr().String() }

func (p *proxy) accept() {
	for {
		in, err := p.ln.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			in.Close()
			continue
		}
		if !p.keep(in, out) {
			return
		}
		up, upAt := p.draw()
		down, downAt := noFault, 0
		if up == noFault {
			down, downAt = p.draw()
		}
		p.wg.Go(func() { p.forward(out, in, up, upAt) })
		p.wg.Go(func() { p.forward(in, out, down, downAt) })
	}
}

func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, conns...)
	if p.closed {
		for _, c := range conns {
			c.Close()
		}
	}
	return !p.closed
}

func (p *proxy) draw() (fault, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.faults == 0 || p.rng.IntN(4) == 0 {
		return noFault, 0
	}
	p.faults--
	return fault(1 + p.rng.IntN(3)), p.rng.IntN(1 << p.rng.IntN(15))
}

func (p *proxy) forward(to, from net.Conn, f fault, at int) {
	var src io.Reader = from
	if f != noFault {
		src = io.LimitReader(from, int64(at))
	}
	_, err := io.Copy(to, src)
	switch {
	case f == cut || err != nil:
		to.(*net.TCPConn).SetLinger(0)
		from.(*net.TCPConn).SetLinger(0)
		to.Close()
		from.Close()
	case f == freeze:
		// Both stay open; what comes is left in the buffers.
	default:
		to.(*net.TCPConn).CloseWrite()
	}
}

func (p *proxy) close() {
	p.ln.Close()
	p.mu.Lock()
	p.closed = true
	for _, c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}
