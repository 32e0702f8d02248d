package admin

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// apiVersion is sent with every answer. It grows when a client would have to
// change; fields that are only added leave it as it is.
const apiVersion = 1

// A Server answers for one node on two listeners.
type Server struct {
	cfg    Config
	node   Node
	tokens atomic.Pointer[tokens] // nil on loopback without tokens
	ops    *operations
	peers  []*peer

	admin, public         *http.Server
	adminAddr, publicAddr net.Addr
	wg                    sync.WaitGroup
	quit                  chan struct{}
	once                  sync.Once
}

// Start validates cfg, opens both listeners, and serves until Close. If it
// returns an error, nothing listens.
func Start(cfg Config, node Node) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure admin: %w", err)
	}
	s := newServer(cfg, node)
	if err := s.Reload(); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	return s, nil
}

func newServer(cfg Config, node Node) *Server {
	s := &Server{cfg: cfg.withDefaults(), node: node, quit: make(chan struct{})}
	s.ops = newOperations(s.cfg.Operations)
	for _, url := range s.cfg.Peers {
		s.peers = append(s.peers, newPeer(url, s.cfg.PeerToken))
	}
	s.cfg.Metrics.attach(node)
	return s
}

// open listens and starts to serve.
func (s *Server) open() error {
	admin, err := listen(s.cfg.Admin)
	if err != nil {
		return fmt.Errorf("listen for admin: %w", err)
	}
	if err := s.guard(admin.Addr()); err != nil {
		return errors.Join(err, admin.Close())
	}
	public, err := listen(s.cfg.Public)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for http: %w", err), admin.Close())
	}
	s.adminAddr, s.publicAddr = admin.Addr(), public.Addr()
	s.admin, s.public = s.httpServer(s.adminHandler()), s.httpServer(s.publicHandler())
	s.admin.TLSConfig = s.cfg.TLS
	s.wg.Go(func() { s.serve(s.admin, admin, s.cfg.TLS != nil) })
	s.wg.Go(func() { s.serve(s.public, public, false) })
	if beyond, _ := beyondLoopback(s.cfg.Admin); beyond && s.cfg.TLS == nil {
		s.wg.Go(s.complain)
	}
	return nil
}

// guard refuses an address beyond loopback without tokens. The configured name,
// localhost, can resolve to anything: what counts is where the listener is.
func (s *Server) guard(at net.Addr) error {
	if tcp, ok := at.(*net.TCPAddr); ok && s.tokens.Load() == nil && !tcp.IP.IsLoopback() {
		return fmt.Errorf("listen for admin: %s turned out to be %s, beyond loopback: it needs a token file", s.cfg.Admin, tcp)
	}
	return nil
}

// httpServer has no write deadline, since a promotion and a long poll may take
// as long as they were asked to wait.
func (s *Server) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slogLogger(s.cfg.Log),
	}
}

// serve serves until the listener is closed.
func (s *Server) serve(h *http.Server, l net.Listener, secure bool) {
	var err error
	if secure {
		err = h.ServeTLS(l, "", "")
	} else {
		err = h.Serve(l)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		s.cfg.Log.Error("http listener ended", "event", "http.failed", "addr", l.Addr().String(), "error", err)
	}
}

// complain says each hour that tokens travel in the clear.
func (s *Server) complain() {
	t := time.NewTicker(time.Hour)
	defer t.Stop()
	for {
		s.cfg.Log.Warn("tokens travel without TLS", "event", "http.insecure", "addr", s.cfg.Admin)
		select {
		case <-t.C:
		case <-s.quit:
			return
		}
	}
}

// Reload reads the token file again. After an error the tokens are as before.
func (s *Server) Reload() error {
	if s.cfg.TokenFile == "" {
		return nil
	}
	t, err := readTokenFile(s.cfg.TokenFile)
	if err != nil {
		return err
	}
	s.tokens.Store(&t)
	return nil
}

// AdminURL returns the base URL of the admin listener, for a Client.
func (s *Server) AdminURL() string {
	switch {
	case s.adminAddr.Network() == "unix":
		return "unix://" + s.adminAddr.String()
	case s.cfg.TLS != nil:
		return "https://" + s.adminAddr.String()
	}
	return "http://" + s.adminAddr.String()
}

// PublicURL returns the base URL of the public listener.
func (s *Server) PublicURL() string { return "http://" + s.publicAddr.String() }

// Close stops both listeners and waits until ctx ends for what runs: it ends the
// context of a promotion under way, which then answers what is certain, and lets
// the answers go out. A node that stops too ends its promotions itself: stop it
// before, or at the same time.
func (s *Server) Close(ctx context.Context) error {
	var err error
	s.once.Do(func() {
		close(s.quit)
		err = errors.Join(s.ops.close(ctx), shutdown(ctx, s.admin), shutdown(ctx, s.public))
		s.wg.Wait()
		for _, p := range s.peers {
			p.close()
		}
	})
	return err
}

// shutdown ends h in peace, or by force when ctx has ended.
func shutdown(ctx context.Context, h *http.Server) error {
	err := h.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, h.Close())
	}
	return err
}

// slogLogger passes what net/http complains about, such as broken TLS
// handshakes, to l.
func slogLogger(l *slog.Logger) *log.Logger { return slog.NewLogLogger(l.Handler(), slog.LevelWarn) }
