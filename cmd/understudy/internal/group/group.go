package group

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"understudy.dev/admin"
	"understudy.dev/internal/natsserver"
)

// A Group is the processes of one group. Its methods may be called concurrently,
// except Close with the others.
type Group struct {
	Binary string // that runs them
	Dir    string // holds their data and logs

	mu    sync.Mutex
	procs []*Process
}

// Close kills what still runs and returns when all have ended.
func (g *Group) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.procs {
		p.Kill()
	}
	g.procs = nil
}

func (g *Group) start(name string, args []string, ready any) (*Process, error) {
	p, err := start(g.Binary, g.Dir, name, args, ready)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.procs = append(g.procs, p)
	return p, nil
}

// A Server is a process with a journal's server, alone or a member of a cluster.
type Server struct {
	*Process
	Addr string // HOST:PORT of its clients
	Dir  string // where it keeps the journal

	args []string
}

// Stream is the name of the journal's stream on a server.
const Stream = "ORDERS"

// Journal starts a server alone. It syncs to the disk before each
// acknowledgement.
func (g *Group) Journal() (*Server, error) {
	return g.server("journal", 0)
}

// URL returns the URL of the journal on one server.
func (s *Server) URL() string { return journalURL([]*Server{s}, "") }

// Kept returns the URL of the journal for when the server has ended.
func (s *Server) Kept() string {
	return (&url.URL{Scheme: "embedded", Path: s.Dir, RawQuery: "stream=" + Stream}).String()
}

func journalURL(servers []*Server, query string) string {
	hosts := make([]string, len(servers))
	for i, s := range servers {
		hosts[i] = s.Addr
	}
	return "nats://" + strings.Join(hosts, ",") + "/" + Stream + "?sync=always" + query
}

func (g *Group) server(name string, port int, more ...string) (*Server, error) {
	s := &Server{Dir: filepath.Join(g.Dir, name)}
	args := append([]string{"journal", "serve", "--json", "--log-level", "warn", "--dir", s.Dir, "--name", name}, more...)
	return s, g.startServer(s, name, args, port)
}

func (g *Group) startServer(s *Server, name string, args []string, port int) error {
	var ready struct{ Client string }
	p, err := g.start(name, append(args, "--port", strconv.Itoa(port)), &ready)
	if err != nil {
		return err
	}
	u, err := url.Parse(ready.Client)
	if err != nil {
		return fmt.Errorf("start %s: its address %q: %w", name, ready.Client, err)
	}
	s.Process, s.Addr, s.args = p, u.Host, args
	return nil
}

// Restart starts a server that has ended again, on its directory and port.
func (g *Group) Restart(s *Server) error {
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return fmt.Errorf("restart %s: %w", s.Name, err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return fmt.Errorf("restart %s: %w", s.Name, err)
	}
	return g.startServer(s, s.Name, s.args, n)
}

// Cluster starts a journal of three servers that replicate among themselves, and
// returns them with the journal's URL.
func (g *Group) Cluster() ([]*Server, string, error) {
	ports, err := natsserver.FreePorts(3)
	if err != nil {
		return nil, "", err
	}
	routes := make([]string, len(ports))
	for i, p := range ports {
		routes[i] = net.JoinHostPort("127.0.0.1", strconv.Itoa(p))
	}
	servers, faults := make([]*Server, len(ports)), make([]error, len(ports))
	var wg sync.WaitGroup
	for i := range ports { // together: each waits for the others
		wg.Go(func() {
			servers[i], faults[i] = g.server("n"+strconv.Itoa(i+1), 0, "--cluster-addr", routes[i], "--cluster", strings.Join(routes, ","))
		})
	}
	wg.Wait()
	for _, err := range faults {
		if err != nil {
			return nil, "", err
		}
	}
	return servers, journalURL(servers, "&replicas=3"), nil
}

// A Node is a process with a node.
type Node struct {
	*Process
	Owner  string // its name with what tells one process of that name from the next
	Admin  string // URL of its admin listener
	Client string // HOST:PORT where clients submit commands

	asked *admin.Client
}

// Node starts a node that follows the journal.
func (g *Group) Node(name, journalURL string, more ...string) (*Node, error) {
	args := append([]string{
		"serve", "--json", "--node", name, "--journal", journalURL,
		"--admin-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--client-addr", "127.0.0.1:0",
	}, more...)
	var ready struct{ Owner, Admin, Client string }
	p, err := g.start(name, args, &ready)
	if err != nil {
		return nil, err
	}
	return &Node{
		Process: p, Owner: ready.Owner, Admin: ready.Admin, Client: ready.Client,
		asked: &admin.Client{BaseURLs: []string{ready.Admin}},
	}, nil
}

// Status returns the node's own row and the journal as the node sees it.
func (n *Node) Status(ctx context.Context) (admin.NodeStatus, error) {
	s, err := n.asked.Status(ctx)
	if err != nil {
		return admin.NodeStatus{}, err
	}
	if len(s.Nodes) == 0 {
		return admin.NodeStatus{}, fmt.Errorf("ask %s: its status holds no node", n.Name)
	}
	return s.Nodes[0], nil
}

// Promote asks the node to become the primary.
func (n *Node) Promote(ctx context.Context, req admin.PromoteRequest) (admin.Report, error) {
	return n.asked.Promote(ctx, req)
}

// pollEvery is how often a condition on a node's status is looked at.
const pollEvery = 5 * time.Millisecond

// Await waits until the node's status is as wanted, and returns it. It fails when
// ctx or the process ends; what names the condition.
func (n *Node) Await(ctx context.Context, what string, is func(*admin.NodeStatus) bool) (admin.NodeStatus, error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		s, err := n.Status(ctx)
		if err == nil && is(&s) {
			return s, nil
		}
		select {
		case <-tick.C:
		case <-n.Done():
			return s, n.Err()
		case <-ctx.Done():
			if err == nil {
				err = fmt.Errorf("it is %s, %s, at seq %d", s.Role, s.State, s.AppliedSeq)
			}
			return s, fmt.Errorf("wait until %s is %s: %w: %w", n.Name, what, context.Cause(ctx), err)
		}
	}
}

// Serving is the condition that a node is the primary and serves.
func Serving(s *admin.NodeStatus) bool { return s.Role == admin.Primary && s.State == admin.Serving }

// Following is the condition that a node is a standby that has caught up.
func Following(s *admin.NodeStatus) bool {
	return s.Role == admin.Standby && s.State == admin.Following
}

// TempDir makes a directory for a group's data.
func TempDir() (string, error) {
	dir, err := os.MkdirTemp("", "understudy-demo-")
	if err != nil {
		return "", fmt.Errorf("make data directory: %w", err)
	}
	return dir, nil
}
