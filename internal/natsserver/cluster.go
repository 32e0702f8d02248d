package natsserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// A LocalCluster is several servers in this process that replicate among
// themselves. It dies with the process: it is for tests and for trying out.
type LocalCluster struct {
	Servers []*Server // stopped ones stay in their place
	configs []Config
}

// A LocalClusterConfig says how a LocalCluster runs.
type LocalClusterConfig struct {
	Dir    string       // holds a directory for each member; required
	Size   int          // default 3
	Ports  []int        // of clients, one a member; default free ones
	NoSync bool         // as in Config
	Log    *slog.Logger // as in Config
}

// clusterWait bounds how long the members may take to elect a leader. The
// election timeout is 4 to 9 s (nats-server v2.15.2, server/raft.go).
const clusterWait = 45 * time.Second

// StartLocalCluster runs the members and returns when they have a leader and all
// of them have joined.
func StartLocalCluster(ctx context.Context, cfg LocalClusterConfig) (*LocalCluster, error) {
	if cfg.Size == 0 {
		cfg.Size = 3
	}
	c, err := cfg.start(ctx)
	for again := 0; errors.Is(err, syscall.EADDRINUSE) && again < startsAgain; again++ {
		c, err = cfg.start(ctx)
	}
	if err != nil {
		return nil, err
	}
	if err := c.WaitForLeader(ctx); err != nil {
		c.Shutdown()
		return nil, fmt.Errorf("start local cluster: %w", err)
	}
	return c, nil
}

// startsAgain is how often a cluster is started anew on other ports when somebody
// took one between the look for a free one and its use.
const startsAgain = 4

// start starts the members on ports that were free a moment ago.
func (cfg LocalClusterConfig) start(ctx context.Context) (*LocalCluster, error) {
	ports, err := FreePorts(cfg.Size)
	if err != nil {
		return nil, fmt.Errorf("start local cluster: %w", err)
	}
	c := &LocalCluster{}
	for i, m := range cfg.members(ports) {
		s, err := Start(ctx, m)
		if err != nil {
			c.Shutdown()
			return nil, fmt.Errorf("start member %d of %d: %w", i+1, cfg.Size, err)
		}
		c.Servers, c.configs = append(c.Servers, s), append(c.configs, m)
	}
	return c, nil
}

func (cfg LocalClusterConfig) members(ports []int) []Config {
	routes := make([]string, len(ports))
	for i, p := range ports {
		routes[i] = "nats://127.0.0.1:" + strconv.Itoa(p)
	}
	members := make([]Config, len(ports))
	for i, p := range ports {
		name := "n" + strconv.Itoa(i+1)
		members[i] = Config{
			Name: name, Dir: filepath.Join(cfg.Dir, name), NoSync: cfg.NoSync, Log: cfg.Log,
			Cluster: &Cluster{Name: "local", Port: p, Routes: routes},
		}
		if i < len(cfg.Ports) {
			members[i].Port = cfg.Ports[i]
		}
	}
	return members
}

// FreePorts asks the system for loopback ports that are free at this moment. All
// are held until the last is known, so that they differ.
func FreePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

// WaitForLeader waits until the running members have a leader and it sees them
// all.
func (c *LocalCluster) WaitForLeader(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, clusterWait, errors.New("the cluster has no leader"))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !c.formed() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (c *LocalCluster) formed() bool {
	led := false
	for _, s := range c.Servers {
		if !s.Running() {
			continue
		}
		led = led || s.ns.JetStreamIsLeader() && len(s.ns.JetStreamClusterPeers()) == len(c.Servers)
		if !s.ns.JetStreamIsCurrent() {
			return false
		}
	}
	return led
}

// Leader returns the running member that leads a stream of the default account,
// or nil.
func (c *LocalCluster) Leader(stream string) *Server {
	for _, s := range c.Servers {
		if s.Running() && s.Leads(stream) {
			return s
		}
	}
	return nil
}

// Restart starts member i again where it was, after a Shutdown of it.
func (c *LocalCluster) Restart(ctx context.Context, i int) error {
	cfg := c.configs[i]
	cfg.Port = c.Servers[i].port()
	s, err := Start(ctx, cfg)
	if err != nil {
		return fmt.Errorf("restart member %s: %w", cfg.Name, err)
	}
	c.Servers[i] = s
	return nil
}

// ClientURLs returns where clients connect to, for all members.
func (c *LocalCluster) ClientURLs() []string {
	var urls []string
	for _, s := range c.Servers {
		urls = append(urls, s.ClientURL())
	}
	return urls
}

// Ready returns what to print for each member.
func (c *LocalCluster) Ready() []Ready {
	var all []Ready
	for _, s := range c.Servers {
		all = append(all, s.Ready())
	}
	return all
}

// Shutdown stops all members and waits until they have stopped.
func (c *LocalCluster) Shutdown() {
	for _, s := range c.Servers {
		s.ns.Shutdown()
	}
	for _, s := range c.Servers {
		s.Shutdown()
	}
}
