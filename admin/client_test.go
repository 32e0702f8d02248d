package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"understudy.dev/journal"
)

// primaryA returns node a of group orders, serving epoch 7.
func primaryA() *fakeNode {
	n := standbyB()
	n.set(func(s *Snapshot) {
		s.Node.Node, s.Node.Role, s.Node.State, s.Node.AppliedSeq = "a", Primary, Serving, 1204558
		s.Node.Lag = Lag{Records: new(uint64(0)), Bytes: new(uint64(0)), Seconds: new(0.0)}
	})
	return n
}

// deadURL returns the URL of a port on which nobody listens.
func deadURL(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// What is certain when the answer is none of the node's.
func TestPromoteWithoutAnswer(t *testing.T) {
	hangUp := func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }
	says := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status); fmt.Fprint(w, body) }
	}
	tests := []struct {
		name  string
		serve http.HandlerFunc // nil: nobody listens
		exit  int
	}{
		{name: "nobody listens", exit: ExitNotDone},
		{name: "connection lost", serve: hangUp, exit: ExitUnknown},
		{name: "answer cut off", serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{"outcome":"prom`)
		}, exit: ExitUnknown},
		{name: "a proxy gives up", serve: says(502, "bad gateway"), exit: ExitUnknown},
		{name: "a proxy's own time-out", serve: says(504, "<html>"), exit: ExitUnknown},
		{name: "a web page", serve: says(200, "<html>hello"), exit: ExitUnknown},
		{name: "JSON of something else", serve: says(200, `{"hello":1}`), exit: ExitUnknown},
		{name: "a server that is no node", serve: says(404, "not found"), exit: ExitNotDone},
		{name: "a later version's problem", serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(409)
			fmt.Fprint(w, `{"type":"not-known-here","status":409,"certainty":"not-done"}`)
		}, exit: ExitNotDone},
		{name: "a later version's problem of unknown certainty", serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(409)
			fmt.Fprint(w, `{"type":"not-known-here","status":409}`)
		}, exit: ExitUnknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url := deadURL(t)
			if tt.serve != nil {
				s := httptest.NewServer(tt.serve)
				defer s.Close()
				url = s.URL
			}
			c := newTestClient(t, url)
			defer c.Close()
			_, err := c.Promote(t.Context(), PromoteRequest{Key: "k"})
			if err == nil || ExitCode(err) != tt.exit {
				t.Fatalf("got %v, exit code %d; want %d", err, ExitCode(err), tt.exit)
			}
			var lost *LostAnswerError
			if errors.As(err, &lost) && (lost.Operation != "k" || lost.URL != url) {
				t.Errorf("got %+v, want it to name operation k at %s", lost, url)
			}
		})
	}
}

// The transport of net/http would send the request again when a kept connection
// breaks, because it carries an idempotency key.
func TestPromoteIsSentOnce(t *testing.T) {
	var posts atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			posts.Add(1)
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, `{"nodes":[{"node":"b"}]}`)
	}))
	defer s.Close()
	c := newTestClient(t, s.URL)
	defer c.Close()
	if _, err := c.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := c.Promote(t.Context(), PromoteRequest{})
	if ExitCode(err) != ExitUnknown || posts.Load() != 1 {
		t.Errorf("got %v after %d requests; want an unknown outcome after one", err, posts.Load())
	}
}

func TestClientPromote(t *testing.T) {
	a, b := primaryA(), standbyB()
	sa, sb := startServer(t, Config{}, a), startServer(t, Config{}, b)
	c := newTestClient(t, sa.AdminURL(), sb.AdminURL())

	if _, err := c.Promote(t.Context(), PromoteRequest{}); ExitCode(err) != ExitUsage {
		t.Errorf("no node named: got %v, want wrong usage", err)
	}
	if _, err := c.Promote(t.Context(), PromoteRequest{Expect: Expect{Node: "z"}}); !errors.Is(err, ErrNotSent) || ExitCode(err) != ExitNotDone {
		t.Errorf("unknown node: got %v, want it not sent", err)
	}
	checks, err := c.Checks(t.Context(), "b")
	if err != nil || !checks.OK || checks.Node != "b" {
		t.Errorf("Checks: got %+v, %v", checks, err)
	}
	who, err := c.Who(t.Context())
	if err != nil || who.Node != "a" || who.Admin != sa.AdminURL() {
		t.Errorf("Who before: got %+v, %v; want a", who, err)
	}
	report, err := c.Promote(t.Context(), PromoteRequest{Expect: Expect{Node: "b"}, Reason: "drill"})
	if err != nil || report.Epoch != 8 || report.Reason != "drill" || !validKey(report.Operation) {
		t.Errorf("Promote: got %+v, %v", report, err)
	}
	if a.promotions() != 0 || b.promotions() != 1 {
		t.Errorf("promotions: a %d, b %d; want b alone", a.promotions(), b.promotions())
	}
	b.set(func(s *Snapshot) { s.Node.Epoch = 8 })
	// Node a does not know yet that it was fenced: the larger epoch is right.
	if who, err := c.Who(t.Context()); err != nil || who.Node != "b" {
		t.Errorf("Who after: got %+v, %v; want b", who, err)
	}
	ops, err := c.Operations(t.Context(), "b")
	if err != nil || len(ops.Operations) != 1 {
		t.Errorf("Operations: got %+v, %v", ops, err)
	}
	if op, err := c.Operation(t.Context(), report.Operation, 0); err != nil || op.State != CertainlyDone {
		t.Errorf("Operation: got %+v, %v", op, err)
	}
}

// A promotion that outlives the server's wait is followed to its end.
func TestClientFollowsOperation(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		exit int
	}{
		{name: "done"},
		{name: "refused", err: &Problem{Type: ChecksFailed}, exit: ExitRefused},
		{name: "fenced", err: &Problem{Type: FencedNotServing, Next: []string{"c"}}, exit: ExitFailed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := standbyB()
			began, open := gated(n)
			inner := n.promote
			n.promote = func(ctx context.Context, req PromoteRequest) (Report, error) {
				report, err := inner(ctx, req)
				return report, errors.Join(err, tt.err)
			}
			s := startServer(t, Config{}, n)
			c := newTestClient(t, s.AdminURL())
			go func() { <-began; open() }()
			report, err := c.Promote(t.Context(), PromoteRequest{Wait: new(Duration(0))})
			if ExitCode(err) != tt.exit || (tt.err == nil) != (report.Epoch == 8) {
				t.Errorf("got %+v, %v (exit code %d), want exit code %d", report, err, ExitCode(err), tt.exit)
			}
		})
	}
}

func TestErrorsAsProblems(t *testing.T) {
	n := standbyB()
	n.promote = func(context.Context, PromoteRequest) (Report, error) {
		return Report{}, &Problem{Type: LostRace, Epoch: 8, Holder: "c"}
	}
	s := startServer(t, Config{}, n)
	_, err := newTestClient(t, s.AdminURL()).Promote(t.Context(), PromoteRequest{})
	var p *Problem
	if !errors.Is(err, LostRace) || !errors.As(err, &p) || p.Holder != "c" || p.Epoch != 8 {
		t.Errorf("got %v, want %s with its holder", err, LostRace)
	}
}

// Each problem type leaves a command with one exit code.
func TestExitCode(t *testing.T) {
	want := map[ProblemType]int{
		BadRequest: 2, Unauthorized: 1, Forbidden: 1, NotFound: 1, MethodNotAllowed: 1, AlreadyPrimary: 1, PromotionInProgress: 1,
		LostRace: 1, EpochMoved: 1, ChecksFailed: 4, ExpectationFailed: 4, KeyReused: 2, FencedNotServing: 8, JournalUnavailable: 1,
		Stopping: 1, OutcomeUnknown: 3, "not-known-here": 3,
	}
	for _, p := range append(ProblemTypes(), "not-known-here") {
		if got := ExitCode(&Problem{Type: p}); got != want[p] {
			t.Errorf("%s: got %d, want %d", p, got, want[p])
		}
	}
	for err, want := range map[error]int{nil: 0, ErrUsage: 2, ErrNotSent: 1, ErrNoPrimary: 1, &LostAnswerError{Err: ErrUsage}: 3} {
		if got := ExitCode(err); got != want {
			t.Errorf("%v: got %d, want %d", err, got, want)
		}
	}
}

// An unreachable node keeps its row, without what it cannot know any more.
func TestClusterStatus(t *testing.T) {
	a, b := primaryA(), standbyB()
	sb := startServer(t, Config{}, b)
	dead := deadURL(t)
	sa := startServer(t, Config{Peers: []string{sb.AdminURL(), dead}}, a)
	c := newTestClient(t, sa.AdminURL())

	st, err := c.Status(t.Context())
	if err != nil || len(st.Nodes) != 3 {
		t.Fatalf("got %+v, %v; want three rows", st, err)
	}
	if n := st.Nodes[0]; n.Node != "a" || !n.Reachable {
		t.Errorf("first row: got %+v, want the one that answers", n)
	}
	if n := st.Nodes[1]; n.Node != "b" || !n.Reachable || *n.Lag.Records != 7 || n.Admin != sb.AdminURL() {
		t.Errorf("second row: got %+v, want b as it is", n)
	}
	if n := st.Nodes[2]; n.Node != "" || n.Reachable || n.Role != "" || n.Error == "" || n.Admin != dead {
		t.Errorf("third row: got %+v, want one that was never seen", n)
	}
	seen := st.Nodes[1].SeenAt
	closeServer(t, sb)
	st, err = c.Status(t.Context())
	if err != nil || len(st.Nodes) != 3 {
		t.Fatalf("after b's end: got %+v, %v; want three rows", st, err)
	}
	if n := st.Nodes[1]; n.Node != "b" || n.Reachable || n.Lag.Records != nil || n.Promotable != nil || !n.SeenAt.Equal(seen.Time) || n.State != Following {
		t.Errorf("b's row: got %+v, want the one seen before, its lag unknown", n)
	}
	// Only ?cluster=1 asks.
	if st := decode[Status](t, call(t, "GET", sa.AdminURL()+"/admin/status", "")); len(st.Nodes) != 1 {
		t.Errorf("without cluster: got %d rows, want 1", len(st.Nodes))
	}
}

// A node of another group, and this node itself in a list that all share.
func TestClusterLeavesOutStrangers(t *testing.T) {
	stranger := standbyB()
	stranger.set(func(s *Snapshot) { s.Group = "payments" })
	same := primaryA()
	s1, s2 := startServer(t, Config{}, stranger), startServer(t, Config{}, same)
	s := startServer(t, Config{Peers: []string{s1.AdminURL(), s2.AdminURL()}}, primaryA())
	st, err := newTestClient(t, s.AdminURL()).Status(t.Context())
	if err != nil || len(st.Nodes) != 2 || st.Nodes[1].Reachable || st.Nodes[1].Error != `it belongs to group "payments"` {
		t.Errorf("got %+v, %v; want a, and a row that names the other group", st.Nodes, err)
	}
}

// A peer that accepts and says nothing costs its row one second, not the answer.
func TestClusterSilentPeer(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer silent.Close()
	s := startServer(t, Config{Peers: []string{silent.URL}}, primaryA())
	st, err := newTestClient(t, s.AdminURL()).Status(t.Context())
	if err != nil || len(st.Nodes) != 2 || st.Nodes[1].Reachable {
		t.Errorf("got %+v, %v; want a's row and an unreachable one", st.Nodes, err)
	}
}

func TestStatusOfSeveral(t *testing.T) {
	a, b := primaryA(), standbyB()
	b.set(func(s *Snapshot) { s.Epoch, s.Journal.TailSeq = 8, new(journal.Seq(1204600)) })
	sa, sb := startServer(t, Config{}, a), startServer(t, Config{}, b)
	dead := deadURL(t)
	st, err := newTestClient(t, dead, sa.AdminURL(), sb.AdminURL()).Status(t.Context())
	if err != nil || st.Epoch != 8 || *st.Journal.TailSeq != 1204600 || len(st.Nodes) != 3 || st.Nodes[0].Reachable {
		t.Errorf("got %+v, %v; want epoch 8 as b knows it, and the dead node's row", st, err)
	}
	if _, err := newTestClient(t, dead, deadURL(t)).Status(t.Context()); err == nil || ExitCode(err) != ExitNotDone {
		t.Errorf("nobody answers: got %v", err)
	}
	if _, err := (&Client{}).Status(t.Context()); ExitCode(err) != ExitUsage {
		t.Errorf("no URL: got %v, want wrong usage", err)
	}
	if _, err := newTestClient(t, sb.AdminURL()).Who(t.Context()); !errors.Is(err, ErrNoPrimary) {
		t.Errorf("Who of a standby alone: got %v, want %v", err, ErrNoPrimary)
	}
}

func TestParseBase(t *testing.T) {
	for _, bad := range []string{"", "localhost:7070", "ftp://a", "unix:x.sock", "unix://host/x", "http://", "http://[::1"} {
		if b, err := parseBase(bad); !errors.Is(err, ErrUsage) {
			t.Errorf("parseBase(%q): got %+v, %v; want wrong usage", bad, b, err)
		}
	}
	if b, err := parseBase("http://localhost:7070/"); err != nil || b.url != "http://localhost:7070" {
		t.Errorf("got %+v, %v", b, err)
	}
}

func TestClientOfAbsentSocket(t *testing.T) {
	c := newTestClient(t, "unix://"+filepath.Join(t.TempDir(), "absent"))
	_, err := c.Promote(t.Context(), PromoteRequest{Wait: new(Duration(time.Second))})
	if !errors.Is(err, ErrNotSent) {
		t.Errorf("got %v, want %v", err, ErrNotSent)
	}
}
