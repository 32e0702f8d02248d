package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"understudy.dev/internal/natsserver"
)

// journalServeFlags are the flags of journal serve.
type journalServeFlags struct {
	dir          string
	host         string
	port         int
	name         string
	cluster      []string
	clusterAddr  string
	localCluster bool
	noSync       bool
}

func (e *Env) journalServeCommand() *cobra.Command {
	var f journalServeFlags
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the journal's server, embedded JetStream, as a process of its own",
		Long: "Runs a NATS server with JetStream that syncs to the disk before each acknowledgement. A node's journal should not\n" +
			"die with the node: run it in its own process, or three of them as a cluster.",
		Example: "  " + e.App.Name + " journal serve --dir understudy-data\n" +
			"  " + e.App.Name + " journal serve --dir a-data --name a --cluster-addr 127.0.0.1:6222 --cluster 127.0.0.1:6222,127.0.0.1:6223,127.0.0.1:6224",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return e.journalServe(cmd.Context(), f) },
	}
	fl := c.Flags()
	fl.StringVar(&f.dir, "dir", "understudy-data", "`DIR` where the journal is kept")
	fl.StringVar(&f.host, "host", "127.0.0.1", "address to listen on")
	fl.IntVar(&f.port, "port", 4222, "port of clients; 0 takes a free one; --local-cluster takes the two after it too")
	fl.StringVar(&f.name, "name", "understudy", "name of this server, unique in its cluster")
	fl.StringSliceVar(&f.cluster, "cluster", nil, "run one member of a cluster: the cluster `HOST:PORT`s of all members")
	fl.StringVar(&f.clusterAddr, "cluster-addr", "", "this member's own cluster `HOST:PORT`")
	fl.BoolVar(&f.localCluster, "local-cluster", false, "run three members in this process: for trying out, not for safety")
	fl.BoolVar(&f.noSync, "no-sync", false, "acknowledge before the sync to disk: survives the process, not a power loss")
	for _, name := range []string{"cluster", "host", "name"} { // its members have loopback and names of their own
		c.MarkFlagsMutuallyExclusive(name, "local-cluster")
	}
	c.MarkFlagsRequiredTogether("cluster", "cluster-addr")
	return c
}

// journalServe runs the server until ctx ends.
func (e *Env) journalServe(ctx context.Context, f journalServeFlags) error {
	log, err := e.logger()
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return fmt.Errorf("make journal directory: %w", err)
	}
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return fmt.Errorf("find journal directory: %w", err)
	}
	if f.localCluster {
		return e.serveLocalCluster(ctx, f, natsserver.LocalClusterConfig{Dir: dir, Ports: f.localPorts(), NoSync: f.noSync, Log: log})
	}
	cfg := natsserver.Config{Dir: dir, Name: f.name, Host: f.host, Port: f.port, NoSync: f.noSync, Log: log}
	if len(f.cluster) > 0 {
		host, port, err := splitAddr(f.clusterAddr)
		if err != nil {
			return usagef("--cluster-addr %s: %v", f.clusterAddr, err)
		}
		cfg.Cluster = &natsserver.Cluster{Host: host, Port: port}
		for _, r := range f.cluster {
			cfg.Cluster.Routes = append(cfg.Cluster.Routes, "nats://"+r)
		}
	}
	srv, err := natsserver.Start(ctx, cfg)
	if err != nil {
		return err
	}
	defer srv.Shutdown()
	r := srv.Ready()
	e.announceServer(r)
	if cfg.Cluster == nil {
		e.progressf("use it with   --journal '%s'\n", f.journalURL(1, r.Client))
	} else {
		e.progressf("use it with   --journal '%s'   where the other members' clients may stand too, after commas\n",
			f.journalURL(f.members(), r.Client))
	}
	<-ctx.Done()
	return nil
}

// check refuses what the server cannot be told.
func (f *journalServeFlags) check() error {
	last := f.port
	if f.localCluster && f.port != 0 {
		last += localMembers - 1
	}
	if f.port < 0 || last > 65535 {
		return usagef("--port %d: want 0 to 65535, for each member", f.port)
	}
	return nil
}

// localMembers is how many members --local-cluster runs.
const localMembers = 3

// localPorts are the members' client ports: --port and the two after it, or none,
// which takes free ones.
func (f *journalServeFlags) localPorts() []int {
	if f.port == 0 {
		return nil
	}
	ports := make([]int, localMembers)
	for i := range ports {
		ports[i] = f.port + i
	}
	return ports
}

// members is how many members the cluster has, this one included.
func (f *journalServeFlags) members() int {
	if slices.Contains(f.cluster, f.clusterAddr) {
		return len(f.cluster)
	}
	return len(f.cluster) + 1
}

// maxReplicas is the most that a stream can have (nats-server v2.15.2,
// server/stream.go, StreamMaxReplicas).
const maxReplicas = 5

// journalURL is a journal on these servers, with what is true of it: sync=always
// is a declaration that nodes believe.
func (f *journalServeFlags) journalURL(members int, clients ...string) string {
	var params []string
	if members > 1 {
		params = append(params, "replicas="+strconv.Itoa(min(members, maxReplicas)))
	}
	if !f.noSync {
		params = append(params, "sync=always")
	}
	u := "nats://" + hosts(clients) + "/ORDERS"
	if len(params) > 0 {
		u += "?" + strings.Join(params, "&")
	}
	return u
}

// serveLocalCluster runs the members in this process until ctx ends.
func (e *Env) serveLocalCluster(ctx context.Context, f journalServeFlags, cfg natsserver.LocalClusterConfig) error {
	lc, err := natsserver.StartLocalCluster(ctx, cfg)
	if err != nil {
		return err
	}
	defer lc.Shutdown()
	for _, r := range lc.Ready() {
		e.announceServer(r)
	}
	e.progressf("journal of three members in this process   --journal '%s'\n", f.journalURL(localMembers, lc.ClientURLs()...))
	<-ctx.Done()
	return nil
}

// journalReady is what journal serve prints with --json.
type journalReady struct {
	Event string `json:"event"`
	PID   int    `json:"pid"`
	natsserver.Ready
}

// announceServer says where a server is reached.
func (e *Env) announceServer(r natsserver.Ready) {
	if e.Global.JSON {
		json.NewEncoder(e.Stdout).Encode(journalReady{"ready", os.Getpid(), r}) //nolint:errcheck // the standard output is gone: nobody reads it
		return
	}
	e.progressf("journal %s   clients %s   pid %d   %s\n", r.Name, r.Client, os.Getpid(), e.Now().Format(time.TimeOnly))
}

// hosts joins the hosts of nats:// URLs as a journal URL wants them.
func hosts(urls []string) string {
	out := make([]string, len(urls))
	for i, u := range urls {
		out[i] = strings.TrimPrefix(u, "nats://")
	}
	return strings.Join(out, ",")
}
