package natsjournal_test

import (
	"net"
	"net/url"
	"sync"
	"testing"
)

// A proxy stands between a client and a server and can hold up what the client
// sends.
type proxy struct {
	l      net.Listener
	target string

	mu   sync.Mutex
	open chan struct{} // closed while nothing is held up
}

func startProxy(tb testing.TB, target string) *proxy {
	tb.Helper()
	u, err := url.Parse(target)
	must(tb, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(tb, err)
	p := &proxy{l: l, target: u.Host, open: make(chan struct{})}
	close(p.open)
	var wg sync.WaitGroup
	wg.Go(func() { p.accept(&wg) })
	tb.Cleanup(func() {
		p.release()
		l.Close()
		wg.Wait()
	})
	return p
}

func (p *proxy) url() string { return "nats://" + p.l.Addr().String() }

func (p *proxy) accept(wg *sync.WaitGroup) {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		wg.Go(func() { p.pass(server, client, true) })
		wg.Go(func() { p.pass(client, server, false) })
	}
}

// pass copies until either side closes, then closes both.
func (p *proxy) pass(to, from net.Conn, gated bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if gated {
			p.mu.Lock()
			open := p.open
			p.mu.Unlock()
			<-open
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// hold stops what clients send until release.
func (p *proxy) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = make(chan struct{})
}

func (p *proxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
	default:
		close(p.open)
	}
}
