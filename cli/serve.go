package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"understudy.dev/admin"
	"understudy.dev/client"
	"understudy.dev/machine"
	"understudy.dev/node"
)

// serveFlags are the flags of serve.
type serveFlags struct {
	node                                  string
	bootstrap, promote                    bool
	adminAddr, httpAddr                   string
	clientAddr, advertise, advertiseAdmin string
	peers                                 []string
	insecureHTTP                          bool
	tlsCert, tlsKey                       string
	readyLag                              int64
	readyLagTime                          time.Duration
	maxDrain                              uint64
	openWithin                            time.Duration
}

func (e *Env) serveCommand() *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use: "serve", GroupID: groupRun,
		Short: "Run a node: a standby, until it is promoted",
		Long: "Runs a node. It starts as a standby and follows the journal; only an explicit request makes it the primary:\n" +
			"the promote command, --bootstrap on an empty journal, or --promote for a single node.",
		Example: "  " + e.App.Name + " serve --node a --bootstrap --journal nats://127.0.0.1:4222/ORDERS",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return e.serve(cmd.Context(), f) },
	}
	fl := c.Flags()
	fl.StringVar(&f.node, "node", "a", "`NAME` of this node in its group")
	fl.BoolVar(&f.bootstrap, "bootstrap", false, "become primary if the journal is empty")
	fl.BoolVar(&f.promote, "promote", false, "become primary at the start: for a single node")
	fl.StringVar(&f.adminAddr, "admin-addr", admin.DefaultAdmin, "`HOST:PORT` or unix:PATH of the admin listener")
	fl.StringVar(&f.httpAddr, "http-addr", admin.DefaultPublic, "`HOST:PORT` of health and metrics")
	fl.StringVar(&f.clientAddr, "client-addr", "127.0.0.1:7072", "`HOST:PORT` where clients submit commands")
	fl.StringVar(&f.advertise, "advertise-client", "", "`HOST:PORT` where clients reach --client-addr (default the same)")
	fl.StringVar(&f.advertiseAdmin, "advertise-admin", "", "`URL` where the other nodes reach --admin-addr (default the same)")
	fl.StringSliceVar(&f.peers, "peers", nil, "admin `URL`s of the group's other nodes")
	fl.BoolVar(&f.insecureHTTP, "insecure-http", false, "allow tokens beyond loopback without TLS")
	fl.StringVar(&f.tlsCert, "tls-cert", "", "certificate `FILE` (PEM) of the admin listener")
	fl.StringVar(&f.tlsKey, "tls-key", "", "key `FILE` (PEM) of the admin listener")
	fl.Int64Var(&f.readyLag, "ready-max-lag-records", admin.DefaultReadyMaxLagRecords, "`RECORDS` behind at which a standby is not ready")
	fl.DurationVar(&f.readyLagTime, "ready-max-lag", admin.DefaultReadyMaxLag, "log time behind at which a standby is not ready")
	fl.Uint64Var(&f.maxDrain, "max-drain", 1_000_000, "`RECORDS` behind beyond which a promotion must accept \"lag\"")
	fl.DurationVar(&f.openWithin, "open-within", 30*time.Second, "how long to wait for the journal at the start")
	c.MarkFlagsMutuallyExclusive("bootstrap", "promote")
	return c
}

// check refuses addresses that others could not use: what a primary writes into
// the journal is where they look for it.
func (f *serveFlags) check() error {
	for _, a := range []struct{ listen, advertised, listenFlag, flag string }{
		{f.clientAddr, f.advertise, "client-addr", "advertise-client"},
		{f.adminAddr, f.advertiseAdmin, "admin-addr", "advertise-admin"},
	} {
		host, _, err := net.SplitHostPort(a.listen)
		if ip := net.ParseIP(host); err == nil && a.advertised == "" && (host == "" || ip != nil && ip.IsUnspecified()) {
			return usagef("--%s %s is every address of this machine: say with --%s where the others reach it", a.listenFlag, a.listen, a.flag)
		}
	}
	return nil
}

// reloadTokens reads the token file again at each SIGHUP.
func reloadTokens(ctx context.Context, srv *admin.Server, log *slog.Logger) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	go func() {
		defer signal.Stop(hup)
		for {
			select {
			case <-hup:
				if err := srv.Reload(); err != nil {
					log.Error("token file not read again; the old tokens stay", "event", "node.reload_failed", "error", err)
				} else {
					log.Info("token file read again", "event", "node.reloaded")
				}
			case <-ctx.Done():
				return
			}
		}
	}()
}

// ready is what serve prints, with --json, once it listens.
type ready struct {
	Event  string `json:"event"`
	Node   string `json:"node"`
	Owner  string `json:"owner"`
	Admin  string `json:"admin"`
	HTTP   string `json:"http"`
	Client string `json:"client"`
}

// serve runs a node until ctx ends.
func (e *Env) serve(ctx context.Context, f serveFlags) error {
	log, err := e.logger()
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	build := buildOf(e.App)
	cfg, err := e.adminConfig(f, build)
	if err != nil {
		return err
	}
	j, err := e.awaitJournal(ctx, f.openWithin, log)
	if err != nil {
		return err
	}
	defer j.Close()
	logRecovered(log, j)
	ln, err := net.Listen("tcp", f.clientAddr)
	if err != nil {
		return WithHint(fmt.Errorf("listen for clients on %s: %w", f.clientAddr, err), "choose another port with --client-addr")
	}
	defer ln.Close()
	if f.advertise == "" {
		f.advertise = ln.Addr().String()
	}
	var commands []string
	for _, c := range e.App.Machine.Commands {
		commands = append(commands, c.Name)
	}
	metrics := admin.NewMetrics(build, commands)
	o := &operated{
		group: e.Global.Group, client: f.advertise, build: build, journal: j, started: e.Now(),
		metrics: metrics,
	}
	cfg.Metrics, cfg.Log = metrics, log
	srv, err := admin.Start(cfg, o)
	if err != nil {
		return err
	}
	defer func() {
		sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		srv.Close(sctx) //nolint:errcheck // the process ends
	}()
	if f.advertiseAdmin == "" {
		f.advertiseAdmin = srv.AdminURL()
	}
	reloadTokens(ctx, srv, log)
	n, err := node.New(node.Config{
		Name: f.node, Journal: j, Machine: e.App.Machine, Start: f.start(), Logger: log, MaxDrain: f.maxDrain,
		Version: build.Version, Client: f.advertise, Admin: f.advertiseAdmin, Probe: e.probe, Observer: observer{metrics},
	})
	if err != nil {
		return WithCode(admin.ExitUsage, err) // it has looked at the configuration only
	}
	o.attach(n, f.advertiseAdmin)
	names := namesakes{overview: n.Overview, started: admin.At(o.started), own: srv.AdminURL(), peers: f.peers, ask: e.rowsOf, log: log}
	checking, stopChecking := context.WithCancel(ctx)
	var checked sync.WaitGroup
	checked.Go(func() { o.keepChecking(checking, n) })
	checked.Go(func() { names.watch(checking) })
	defer func() { stopChecking(); checked.Wait() }()
	if err := e.announce(ready{"ready", f.node, n.Owner(), srv.AdminURL(), srv.PublicURL(), f.advertise}); err != nil {
		return err
	}
	return e.live(ctx, n, ln)
}

// rowsOf asks the nodes at these admin URLs for their rows.
func (e *Env) rowsOf(ctx context.Context, urls []string) ([]admin.NodeStatus, error) {
	token, err := e.token()
	if err != nil {
		return nil, err
	}
	c := &admin.Client{BaseURLs: urls, Token: token}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, e.Global.Timeout)
	defer cancel()
	s, err := c.Status(ctx)
	return s.Nodes, err
}

func (f *serveFlags) start() node.Start {
	switch {
	case f.bootstrap:
		return node.Bootstrap
	case f.promote:
		return node.Promote
	}
	return node.Follow
}

// live runs the node and the client listener together.
func (e *Env) live(ctx context.Context, n *node.Node, ln net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	served := make(chan struct{})
	go func() {
		defer close(served)
		err := client.Serve(ctx, ln, n, client.ServerConfig{Machine: e.App.Machine.Name})
		if err != nil && ctx.Err() == nil {
			cancel(fmt.Errorf("serve clients: %w", err))
		}
	}()
	err := n.Run(ctx)
	cancel(nil)
	<-served
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// announce says where the node is reached.
func (e *Env) announce(r ready) error {
	if e.Global.JSON {
		return json.NewEncoder(e.Stdout).Encode(r)
	}
	e.progressf("node %s   admin %s   health %s   clients %s\n", r.Node, r.Admin, r.HTTP, r.Client)
	return nil
}

// adminConfig makes the configuration of the two HTTP listeners.
func (e *Env) adminConfig(f serveFlags, build admin.Build) (admin.Config, error) {
	cfg := admin.Config{
		Admin: f.adminAddr, Public: f.httpAddr, TokenFile: e.Global.TokenFile, InsecureHTTP: f.insecureHTTP,
		ReadyMaxLagRecords: f.readyLag, ReadyMaxLag: f.readyLagTime, Peers: f.peers, Build: build,
	}
	token, err := e.token()
	if err != nil {
		return cfg, err
	}
	cfg.PeerToken = token
	if f.tlsCert == "" && f.tlsKey == "" {
		return cfg, configured(cfg)
	}
	cert, err := tls.LoadX509KeyPair(f.tlsCert, f.tlsKey)
	if err != nil {
		return cfg, usagef("load TLS certificate: %v", err)
	}
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	return cfg, configured(cfg)
}

// configured reports the faults of a configuration as what they are.
func configured(cfg admin.Config) error {
	if err := cfg.Validate(); err != nil {
		return WithCode(admin.ExitUsage, err)
	}
	return nil
}

// probe asks whether the primary of a tenure still answers.
func (e *Env) probe(ctx context.Context, t machine.Tenure) error {
	if t.Admin == "" || strings.HasPrefix(t.Admin, "unix:") {
		return fmt.Errorf("%w: it has no address for that", node.ErrCannotAsk)
	}
	token, err := e.token()
	if err != nil {
		return err
	}
	c := &admin.Client{BaseURLs: []string{t.Admin}, Token: token}
	defer c.Close()
	s, err := c.Status(ctx)
	switch {
	case err != nil:
		return err
	case len(s.Nodes) == 0 || s.Nodes[0].Node != t.Node:
		return fmt.Errorf("%w at %s, where another node answers: start nodes on several machines with --advertise-admin", node.ErrCannotAsk, t.Admin)
	case s.Nodes[0].Role != admin.Primary:
		return errors.New("it is not the primary any more")
	}
	return nil
}
