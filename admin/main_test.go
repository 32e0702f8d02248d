package admin

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"understudy.dev/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fakeNode is a Node whose every answer is set by the test.
type fakeNode struct {
	mu       sync.Mutex
	snap     Snapshot
	checks   []Check
	checkErr error
	promote  func(context.Context, PromoteRequest) (Report, error)
	asked    int // promotions
}

func (n *fakeNode) Snapshot() Snapshot {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.snap
}

func (n *fakeNode) set(change func(*Snapshot)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.snap)
}

func (n *fakeNode) Checks(context.Context) ([]Check, error) { return n.checks, n.checkErr }

func (n *fakeNode) Promote(ctx context.Context, req PromoteRequest) (Report, error) {
	n.mu.Lock()
	n.asked++
	promote := n.promote
	n.mu.Unlock()
	return promote(ctx, req)
}

func (n *fakeNode) promotions() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

// standbyB returns node b of group orders, following 7 records behind in epoch 7.
// Its promotion succeeds at once.
func standbyB() *fakeNode {
	n := &fakeNode{checks: []Check{{ID: CheckRole, Verdict: VerdictOK, Detail: "b is a standby, state following"}}}
	n.snap = Snapshot{
		Group: "orders", Epoch: 7,
		Journal: JournalStatus{URL: "mem:", Up: true, TailSeq: new(journal.Seq(1204558)), Capabilities: Capabilities{ConditionalAppend: true}},
		Node: NodeStatus{
			Node: "b", Role: Standby, State: Following, Epoch: 7, AppliedSeq: 1204551,
			Lag: Lag{Records: new(uint64(7)), Bytes: new(uint64(1946)), Seconds: new(0.003), CatchUpSeconds: new(0.001)},
		},
	}
	n.promote = func(_ context.Context, req PromoteRequest) (Report, error) {
		n.set(func(s *Snapshot) { s.Epoch, s.Node.Role, s.Node.State = 8, Primary, Serving })
		return Report{Group: "orders", Node: "b", FromEpoch: 7, Epoch: 8, EpochSeq: 1204559, Drained: 8, Actor: req.Actor, Reason: req.Reason}, nil
	}
	return n
}

// startServer starts a server on free ports of loopback and ends it with the test.
func startServer(t *testing.T, cfg Config, node Node) *Server {
	t.Helper()
	if cfg.Admin == "" {
		cfg.Admin = "127.0.0.1:0"
	}
	cfg.Public = "127.0.0.1:0"
	s, err := Start(cfg, node)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() { closeServer(t, s) })
	return s
}

func closeServer(t *testing.T, s *Server) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// newTestClient returns a client of these servers and closes it with the test.
func newTestClient(t *testing.T, urls ...string) *Client {
	c := &Client{BaseURLs: urls}
	t.Cleanup(c.Close)
	return c
}

// A reply is an HTTP answer, read.
type reply struct {
	status int
	header http.Header
	body   string
}

// call sends one request; header lines are "Name: value".
func call(t *testing.T, method, url, body string, header ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: read body: %v", method, url, err)
	}
	return reply{status: resp.StatusCode, header: resp.Header, body: string(b)}
}

// decode reads a reply's body into a new T.
func decode[T any](t *testing.T, r reply) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("decode %q: %v", r.body, err)
	}
	return v
}
