package natsserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Version is the version of the embedded server.
const Version = server.VERSION

// A Config says how a server runs.
type Config struct {
	Dir  string // where JetStream keeps its files; required
	Name string // unique in the cluster; default "understudy"

	Host     string // to listen on; default 127.0.0.1
	Port     int    // of clients; default 0, a free one
	NoListen bool   // serve this process only, through InProcessConn

	Cluster *Cluster // nil runs a server alone

	// NoSync leaves syncing to the server's timer of two minutes: an
	// acknowledgement then survives the process and not the machine.
	NoSync bool

	// MaxPayload bounds a message in bytes, headers included. Default 1 MiB,
	// nats-server's own.
	MaxPayload int32

	// Log receives what the server reports; nil discards it.
	Log *slog.Logger
}

// A Cluster makes a server one of several.
type Cluster struct {
	Name   string   // the same for all members; default "understudy"
	Host   string   // default 127.0.0.1
	Port   int      // of routes between members; required
	Routes []string // nats://host:port of the members' routes; its own may be among them
}

func (c Config) validate() error {
	var faults []error
	if c.Dir == "" {
		faults = append(faults, errors.New("no directory"))
	}
	if c.Port < 0 || c.Port > 65535 {
		faults = append(faults, fmt.Errorf("port %d is not between 0 and 65535", c.Port))
	}
	if c.MaxPayload < 0 {
		faults = append(faults, fmt.Errorf("maximum payload of %d bytes", c.MaxPayload))
	}
	if c.Cluster == nil {
		return errors.Join(faults...)
	}
	if c.Name == "" {
		faults = append(faults, errors.New("a member of a cluster needs a name"))
	}
	if c.Cluster.Port < 1 || c.Cluster.Port > 65535 {
		faults = append(faults, fmt.Errorf("cluster port %d is not between 1 and 65535", c.Cluster.Port))
	}
	if len(c.Cluster.Routes) == 0 {
		faults = append(faults, errors.New("a member of a cluster needs the routes of the others"))
	}
	return errors.Join(faults...)
}

func (c Config) options() (*server.Options, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	o := &server.Options{
		ServerName: orDefault(c.Name, "understudy"),
		Host:       orDefault(c.Host, "127.0.0.1"),
		Port:       c.Port, DontListen: c.NoListen,
		JetStream: true, StoreDir: c.Dir, SyncAlways: !c.NoSync,
		MaxPayload: c.MaxPayload,
		NoSigs:     true, NoLog: c.Log == nil,
	}
	if c.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	if c.Cluster == nil {
		return o, nil
	}
	o.Cluster = server.ClusterOpts{
		Name: orDefault(c.Cluster.Name, "understudy"),
		Host: orDefault(c.Cluster.Host, "127.0.0.1"), Port: c.Cluster.Port,
	}
	for _, r := range c.Cluster.Routes {
		u, err := url.Parse(r)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("route %q: want nats://host:port", r)
		}
		o.Routes = append(o.Routes, u)
	}
	return o, nil
}

// vacant fails if a port is taken that the server shall listen on. The server
// itself finds out only when it has read its store and said that it is ready.
func (c Config) vacant() error {
	var addrs []string
	if c.Port != 0 && !c.NoListen {
		addrs = append(addrs, net.JoinHostPort(orDefault(c.Host, "127.0.0.1"), strconv.Itoa(c.Port)))
	}
	if c.Cluster != nil {
		addrs = append(addrs, net.JoinHostPort(orDefault(c.Cluster.Host, "127.0.0.1"), strconv.Itoa(c.Cluster.Port)))
	}
	for _, addr := range addrs {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err // names the address
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// A Server is a running server.
type Server struct {
	ns         *server.Server
	cfg        Config
	lock       *os.File // of the directory
	clientURL  string   // as it was at the start: the server forgets its own once it stops
	clusterURL string
}

// readyWait is how long a server may take until it accepts clients when ctx
// says nothing shorter. It starts in 2 to 6 ms; reading back a large store after
// a crash takes longer.
const readyWait = time.Minute

// Start runs a server and returns when it accepts clients. A member of a cluster
// does so before the cluster has a leader.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	opts, err := cfg.options()
	if err != nil {
		return nil, fmt.Errorf("start nats server: %w", err)
	}
	if err := cfg.vacant(); err != nil {
		return nil, fmt.Errorf("start nats server: %w", err)
	}
	held, err := lock(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("start nats server in %s: %w", cfg.Dir, err)
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		held.Close()
		return nil, fmt.Errorf("start nats server: %w", err)
	}
	sink := &logSink{log: cfg.Log}
	ns.SetLoggerV2(sink, false, false, false)
	ns.Start()
	s := &Server{ns: ns, cfg: cfg, lock: held}
	if err := s.waitReady(ctx, sink); err != nil {
		s.Shutdown()
		return nil, fmt.Errorf("start nats server in %s: %w", cfg.Dir, err)
	}
	if !cfg.NoListen {
		s.clientURL = ns.ClientURL()
	}
	if a := ns.ClusterAddr(); cfg.Cluster != nil && a != nil {
		s.clusterURL = "nats://" + a.String()
	}
	return s, nil
}

// waitReady polls in slices, since the server's own wait cannot be interrupted.
func (s *Server) waitReady(ctx context.Context, sink *logSink) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWait, errors.New("not ready in time"))
	defer cancel()
	for !s.ns.ReadyForConnections(50 * time.Millisecond) {
		if fault := sink.fatal.Load(); fault != nil {
			return errors.New(*fault)
		}
		if !s.ns.Running() {
			return errors.New("the server stopped")
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if fault := sink.fatal.Load(); fault != nil {
		return errors.New(*fault)
	}
	if !s.ns.JetStreamEnabled() {
		return errors.New("the server runs without JetStream")
	}
	return nil
}

// InProcessConn returns a connection to the server that needs no socket. It
// makes a Server what nats.InProcessServer takes.
func (s *Server) InProcessConn() (net.Conn, error) { return s.ns.InProcessConn() }

// Name returns the server's name.
func (s *Server) Name() string { return s.ns.Name() }

// ClientURL returns where clients connect to; "" with NoListen.
func (s *Server) ClientURL() string { return s.clientURL }

// ClusterURL returns the route that other members use; "" for a server alone.
func (s *Server) ClusterURL() string { return s.clusterURL }

// SyncAlways reports whether the server syncs before it acknowledges.
func (s *Server) SyncAlways() bool { return !s.cfg.NoSync }

// Ready describes a running server to people and scripts.
type Ready struct {
	Name    string `json:"name"`
	Version string `json:"version"` // of nats-server
	Client  string `json:"client,omitempty"`
	Cluster string `json:"cluster,omitempty"`
	Dir     string `json:"dir"`
	Sync    bool   `json:"sync"` // every message is synced before it is acknowledged
}

// Ready returns what to print once the server is up.
func (s *Server) Ready() Ready {
	return Ready{
		Name: s.Name(), Version: Version, Client: s.ClientURL(), Cluster: s.ClusterURL(),
		Dir: s.cfg.Dir, Sync: s.SyncAlways(),
	}
}

// String is one line for a terminal, such as
//
//	ready n1 nats-server 2.15.2, clients nats://127.0.0.1:4222, data ./journal, sync always
func (r Ready) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ready %s nats-server %s", r.Name, r.Version)
	if r.Client != "" {
		fmt.Fprintf(&b, ", clients %s", r.Client)
	}
	if r.Cluster != "" {
		fmt.Fprintf(&b, ", cluster %s", r.Cluster)
	}
	fmt.Fprintf(&b, ", data %s, sync %s", r.Dir, map[bool]string{true: "always", false: "by timer"}[r.Sync])
	return b.String()
}

// Running reports whether the server still serves.
func (s *Server) Running() bool { return s.ns.Running() }

// StepDown asks this server to give up the leadership of a stream of the default
// account. It fails if it does not lead it.
func (s *Server) StepDown(stream string) error {
	if err := s.ns.JetStreamStepdownStream(server.DEFAULT_GLOBAL_ACCOUNT, stream); err != nil {
		return fmt.Errorf("step down stream %s on %s: %w", stream, s.Name(), err)
	}
	return nil
}

// Leads reports whether this server leads a stream of the default account.
func (s *Server) Leads(stream string) bool {
	return s.ns.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream)
}

// Shutdown stops the server and waits until it has. It hands leaderships over
// first where it is a member of a cluster. Calling it again does nothing.
func (s *Server) Shutdown() {
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
	s.lock.Close()
}

// WaitForShutdown waits until the server has stopped, whoever stopped it.
func (s *Server) WaitForShutdown() { s.ns.WaitForShutdown() }

// port returns the port of clients, so that a restart can keep it; 0 with
// NoListen.
func (s *Server) port() int {
	u, err := url.Parse(s.clientURL)
	if err != nil {
		return 0
	}
	port, _ := strconv.Atoi(u.Port())
	return port
}
