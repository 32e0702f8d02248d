package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"understudy.dev/journal"
)

// Every code of POST /admin/promote, what is certain after it, and the exit code
// that a command gives.
func TestPromoteAnswers(t *testing.T) {
	fails := func(err error) func(*fakeNode) {
		return func(n *fakeNode) {
			n.promote = func(context.Context, PromoteRequest) (Report, error) { return Report{}, err }
		}
	}
	tests := []struct {
		name    string
		body    string
		header  []string
		prepare func(*fakeNode)
		status  int
		problem ProblemType
		sure    Certainty
		exit    int
		asked   int // promotions that reached the node
		in      string
	}{
		{name: "no body", status: 200, asked: 1},
		{
			name: "all fields", status: 200, asked: 1, header: []string{"Idempotency-Key: k1"}, in: `"operation":"k1"`,
			body: `{"expect":{"group":"orders","node":"b","epoch":7,"min_seq":5},"accept":["primary"],"reason":"r","actor":"ana","wait":"30s","dry_run":false}`,
		},
		{name: "dry run", body: `{"dry_run":true}`, status: 200, in: `"would":"promote"`},
		{
			name: "dry run that would be refused", body: `{"dry_run":true}`, status: 200, in: `"would":"refuse"`,
			prepare: func(n *fakeNode) { n.checks = []Check{{ID: CheckPrimary, Verdict: VerdictWarn}} },
		},
		{
			name: "dry run that accepts it", body: `{"dry_run":true,"accept":["primary"]}`, status: 200, in: `"would":"promote"`,
			prepare: func(n *fakeNode) { n.checks = []Check{{ID: CheckPrimary, Verdict: VerdictWarn}} },
		},
		{name: "dry run of another epoch", body: `{"dry_run":true,"expect":{"epoch":6}}`, status: 200, in: `"would":"refuse"`},
		{name: "dry run beyond the tail", body: `{"dry_run":true,"expect":{"min_seq":1204559}}`, status: 200, in: `"would":"refuse"`},
		{
			name: "dry run without a journal", body: `{"dry_run":true}`, status: 503, problem: JournalUnavailable, sure: CertainlyNotDone, exit: 1,
			prepare: func(n *fakeNode) { n.checkErr = errors.New("no servers") },
		},
		{name: "garbled body", body: `{`, status: 400, problem: BadRequest, sure: CertainlyNotDone, exit: 2},
		{name: "unknown field", body: `{"force":true}`, status: 400, problem: BadRequest, sure: CertainlyNotDone, exit: 2, in: "force"},
		{name: "unknown expectation", body: `{"expect":{"leader":"a"}}`, status: 400, problem: BadRequest, sure: CertainlyNotDone, exit: 2},
		{name: "something behind the body", body: `{} {}`, status: 400, problem: BadRequest, sure: CertainlyNotDone, exit: 2},
		{name: "body too large", body: `{"reason":"` + strings.Repeat("x", maxBody) + `"}`, status: 400, problem: BadRequest, sure: CertainlyNotDone, exit: 2},
		{name: "accepts what cannot be", body: `{"accept":["gap"]}`, status: 400, problem: BadRequest, sure: CertainlyNotDone, exit: 2, in: "primary"},
		{name: "negative wait", body: `{"wait":"-1s"}`, status: 400, problem: BadRequest, sure: CertainlyNotDone, exit: 2},
		{name: "key that is no word", header: []string{"Idempotency-Key: a/b"}, status: 400, problem: BadRequest, sure: CertainlyNotDone, exit: 2},
		{name: "cross-origin page", header: []string{"Sec-Fetch-Site: cross-site"}, status: 403, problem: Forbidden, sure: CertainlyNotDone, exit: 1},
		{name: "foreign host", header: []string{"Host: evil.example"}, status: 403, problem: Forbidden, sure: CertainlyNotDone, exit: 1},
		{
			name: "already primary", status: 409, problem: AlreadyPrimary, sure: CertainlyNotDone, exit: 1, asked: 1, in: `"holder":"b"`,
			prepare: fails(&Problem{Type: AlreadyPrimary, Epoch: 7, Holder: "b"}),
		},
		{
			name: "in progress elsewhere", status: 409, problem: PromotionInProgress, sure: CertainlyNotDone, exit: 1, asked: 1,
			prepare: fails(&Problem{Type: PromotionInProgress}),
		},
		{
			name: "lost race", status: 409, problem: LostRace, sure: CertainlyNotDone, exit: 1, asked: 1, in: `"epoch":8,"holder":"c"`,
			prepare: fails(fmt.Errorf("promote: %w", &Problem{Type: LostRace, Epoch: 8, Holder: "c"})),
		},
		{
			name: "epoch moved", status: 409, problem: EpochMoved, sure: CertainlyNotDone, exit: 1, asked: 1,
			prepare: fails(&Problem{Type: EpochMoved, Epoch: 9}),
		},
		{
			name: "checks failed", status: 412, problem: ChecksFailed, sure: CertainlyRefused, exit: 4, asked: 1, in: `"acceptable":true`,
			prepare: fails(&Problem{Type: ChecksFailed, RefusedBy: []CheckID{CheckPrimary}, Checks: []Check{{ID: CheckPrimary, Verdict: VerdictWarn}}}),
		},
		{name: "another node expected", body: `{"expect":{"node":"a"}}`, status: 412, problem: ExpectationFailed, sure: CertainlyRefused, exit: 4},
		{name: "another group expected", body: `{"expect":{"group":"x"}}`, status: 412, problem: ExpectationFailed, sure: CertainlyRefused, exit: 4},
		{
			name: "another epoch found by the node", status: 412, problem: ExpectationFailed, sure: CertainlyRefused, exit: 4, asked: 1,
			prepare: fails(Expect{Epoch: new(journal.Epoch(6))}.Check("orders", "b", 7, 1)),
		},
		{
			name: "fenced and not serving", status: 500, problem: FencedNotServing, sure: CertainlyFailed, exit: 8, asked: 1,
			in:      `"seq":12,"cause":"apply: panic","promotable":["b","c"]`,
			prepare: fails(&Problem{Type: FencedNotServing, Seq: new(journal.Seq(12)), Cause: "apply: panic", Next: []string{"b", "c"}}),
		},
		{
			name: "journal unavailable", status: 503, problem: JournalUnavailable, sure: CertainlyNotDone, exit: 1, asked: 1,
			prepare: fails(&Problem{Type: JournalUnavailable, RetryAfter: 3 * time.Second}),
		},
		{
			name: "outcome unknown", status: 504, problem: OutcomeUnknown, sure: Uncertain, exit: 3, asked: 1,
			prepare: fails(&Problem{Type: OutcomeUnknown}),
		},
		{
			name: "an error that says nothing", status: 504, problem: OutcomeUnknown, sure: Uncertain, exit: 3, asked: 1, in: "boom",
			prepare: fails(errors.New("boom")),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := standbyB()
			if tt.prepare != nil {
				tt.prepare(n)
			}
			s := startServer(t, Config{}, n)
			r := call(t, "POST", s.AdminURL()+"/admin/promote", tt.body, tt.header...)
			if r.status != tt.status || !strings.Contains(r.body, tt.in) {
				t.Fatalf("got %d %s, want %d with %s", r.status, r.body, tt.status, tt.in)
			}
			if got := n.promotions(); got != tt.asked {
				t.Errorf("promotions that reached the node: got %d, want %d", got, tt.asked)
			}
			checkStamp(t, r, n)
			if tt.problem == "" {
				return
			}
			p := decode[Problem](t, r)
			if p.Type != tt.problem || p.Status != tt.status || p.Certainty != tt.sure || p.Title == "" {
				t.Errorf("got problem %+v, want type %s, certainty %s", p, tt.problem, tt.sure)
			}
			if got := r.header.Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("Content-Type: got %q", got)
			}
			if got := ExitCode(fmt.Errorf("promote: %w", &p)); got != tt.exit {
				t.Errorf("ExitCode: got %d, want %d", got, tt.exit)
			}
			if got := r.header.Get("Retry-After"); (tt.problem == JournalUnavailable) != (got != "") {
				t.Errorf("Retry-After: got %q", got)
			}
		})
	}
}

// checkStamp checks the headers that each answer carries, with the epoch at its end.
func checkStamp(t *testing.T, r reply, n *fakeNode) {
	t.Helper()
	want := map[string]string{
		"Understudy-Api": "1", "Understudy-Node": "b", "Cache-Control": "no-store",
		"Understudy-Epoch": fmt.Sprint(n.Snapshot().Epoch),
	}
	for name, v := range want {
		if got := r.header.Get(name); got != v {
			t.Errorf("header %s: got %q, want %q", name, got, v)
		}
	}
}

func TestRepeatedKey(t *testing.T) {
	n := standbyB()
	s := startServer(t, Config{}, n)
	url := s.AdminURL() + "/admin/promote"
	first := decode[Report](t, call(t, "POST", url, `{"reason":"x"}`, "Idempotency-Key: k"))
	again := decode[Report](t, call(t, "POST", url, `{"wait":"1s", "reason" : "x"}`, "Idempotency-Key: k"))
	if first.Repeated || !again.Repeated || again.Epoch != first.Epoch || again.Operation != "k" {
		t.Errorf("got %+v, then %+v; want the same report, repeated", first, again)
	}
	if p := decode[Problem](t, call(t, "POST", url, `{"reason":"y"}`, "Idempotency-Key: k")); p.Status != 422 || p.Type != KeyReused {
		t.Errorf("other body: got %+v, want 422", p)
	}
	if got := n.promotions(); got != 1 {
		t.Errorf("promotions: got %d, want 1", got)
	}
}

// A refusal is an outcome, and the same for the same key; a promotion that never
// began is none, so that the key may be used again after Retry-After.
func TestRepeatedKeyAfterProblem(t *testing.T) {
	for _, tt := range []struct {
		problem ProblemType
		asked   int
	}{{ChecksFailed, 1}, {LostRace, 1}, {OutcomeUnknown, 1}, {JournalUnavailable, 2}} {
		t.Run(string(tt.problem), func(t *testing.T) {
			n := standbyB()
			n.promote = func(context.Context, PromoteRequest) (Report, error) { return Report{}, &Problem{Type: tt.problem} }
			s := startServer(t, Config{}, n)
			call(t, "POST", s.AdminURL()+"/admin/promote", "", "Idempotency-Key: k")
			p := decode[Problem](t, call(t, "POST", s.AdminURL()+"/admin/promote", "", "Idempotency-Key: k"))
			if p.Type != tt.problem || p.Repeated != (tt.asked == 1) || n.promotions() != tt.asked {
				t.Errorf("got %+v after %d promotions, want %s after %d", p, n.promotions(), tt.problem, tt.asked)
			}
			if got := len(s.ops.all().Operations); got != 1 {
				t.Errorf("operations: got %d, want 1", got)
			}
		})
	}
}

// gated makes n's promotions wait for the returned function, and tells when one began.
func gated(n *fakeNode) (began chan struct{}, open func()) {
	began, gate := make(chan struct{}, 8), make(chan struct{})
	promote := n.promote
	n.promote = func(ctx context.Context, req PromoteRequest) (Report, error) {
		began <- struct{}{}
		select {
		case <-gate:
			return promote(ctx, req)
		case <-ctx.Done():
			return Report{}, &Problem{Type: OutcomeUnknown, Err: ctx.Err()}
		}
	}
	return began, func() { close(gate) }
}

func TestPromoteOutlivesItsWait(t *testing.T) {
	n := standbyB()
	_, open := gated(n)
	s := startServer(t, Config{}, n)
	r := call(t, "POST", s.AdminURL()+"/admin/promote", `{"wait":"0s","actor":"ana"}`, "Idempotency-Key: k")
	if r.status != http.StatusAccepted || r.header.Get("Location") != "/admin/operations/k" {
		t.Fatalf("got %d, Location %q; want 202 and the operation's", r.status, r.header.Get("Location"))
	}
	if op := decode[Operation](t, r); op.State != Running || op.Actor != "ana" || op.Report != nil {
		t.Errorf("got %+v, want a running operation", op)
	}
	p := decode[Problem](t, call(t, "POST", s.AdminURL()+"/admin/promote", "", "Idempotency-Key: other"))
	if p.Type != PromotionInProgress || p.Operation != "k" {
		t.Errorf("second promotion: got %+v, want %s naming k", p, PromotionInProgress)
	}
	open()
	op := decode[Operation](t, call(t, "GET", s.AdminURL()+r.header.Get("Location")+"?wait=60s", ""))
	if op.State != CertainlyDone || op.Report == nil || op.Report.Epoch != 8 || op.EndedAt.IsZero() {
		t.Errorf("got %+v, want it done with its report", op)
	}
	if r := decode[Report](t, call(t, "POST", s.AdminURL()+"/admin/promote", `{"actor":"ana"}`, "Idempotency-Key: k")); !r.Repeated {
		t.Errorf("same key after: got %+v, want it repeated", r)
	}
}

// The one who asked goes away; the promotion goes on and its key finds it.
func TestPromoteOutlivesItsRequester(t *testing.T) {
	n := standbyB()
	began, open := gated(n)
	s := startServer(t, Config{}, n)
	c := newTestClient(t, s.AdminURL())
	ctx, hangUp := context.WithCancel(t.Context())
	go func() { <-began; hangUp() }()
	_, err := c.Promote(ctx, PromoteRequest{Key: "k"})
	var lost *LostAnswerError
	if !errors.As(err, &lost) || lost.Operation != "k" || ExitCode(err) != ExitUnknown {
		t.Fatalf("Promote: got %v, want a lost answer that names k", err)
	}
	open()
	op, err := c.Operation(t.Context(), "k", time.Minute)
	if err != nil || op.State != CertainlyDone {
		t.Errorf("Operation: got %+v, %v; want it done", op, err)
	}
}

// An unknown outcome is answered so, and resolved behind it.
func TestUnknownIsResolved(t *testing.T) {
	n := standbyB()
	read := make(chan struct{})
	n.promote = func(context.Context, PromoteRequest) (Report, error) {
		return Report{}, &Problem{Type: OutcomeUnknown, Resolve: func(ctx context.Context) (Report, error) {
			select {
			case <-read:
				return Report{Epoch: 8}, nil
			case <-ctx.Done():
				return Report{}, ctx.Err()
			}
		}}
	}
	s := startServer(t, Config{}, n)
	if r := call(t, "POST", s.AdminURL()+"/admin/promote", "", "Idempotency-Key: k"); r.status != http.StatusGatewayTimeout {
		t.Fatalf("got %d %s, want 504", r.status, r.body)
	}
	url := s.AdminURL() + "/admin/operations/k"
	if op := decode[Operation](t, call(t, "GET", url, "")); op.State != Uncertain || op.Problem == nil {
		t.Errorf("before: got %+v, want it unknown", op)
	}
	close(read)
	op := decode[Operation](t, call(t, "GET", url+"?wait=60s", ""))
	if op.State != CertainlyDone || op.Report == nil || op.Report.Epoch != 8 || op.Problem != nil {
		t.Errorf("after: got %+v, want it done", op)
	}
}

// Closing the server ends the wait of a promotion; it does not claim to know.
func TestCloseDuringPromotion(t *testing.T) {
	n := standbyB()
	began, _ := gated(n)
	s := startServer(t, Config{}, n)
	c := newTestClient(t, s.AdminURL())
	errs := make(chan error, 1)
	go func() {
		_, err := c.Promote(context.Background(), PromoteRequest{})
		errs <- err
	}()
	<-began
	closeServer(t, s)
	if err := <-errs; ExitCode(err) != ExitUnknown {
		t.Errorf("Promote: got %v, want an unknown outcome", err)
	}
	if _, _, err := s.ops.start(PromoteRequest{Key: "late"}, nil); !errors.Is(err, Stopping) {
		t.Errorf("start after close: got %v, want %v", err, Stopping)
	}
}

// A promotion that does not heed its context does not hold the process up.
func TestCloseIsBounded(t *testing.T) {
	n := standbyB()
	began, gate := make(chan struct{}), make(chan struct{})
	n.promote = func(context.Context, PromoteRequest) (Report, error) {
		close(began)
		<-gate
		return Report{}, nil
	}
	s, err := Start(Config{Admin: "127.0.0.1:0", Public: "127.0.0.1:0"}, n)
	if err != nil {
		t.Fatal(err)
	}
	c := newTestClient(t, s.AdminURL())
	answered := make(chan error, 1)
	go func() {
		_, err := c.Promote(context.Background(), PromoteRequest{})
		answered <- err
	}()
	<-began
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Close: got %v, want that its time was over", err)
	}
	if err := <-answered; ExitCode(err) != ExitUnknown {
		t.Errorf("Promote: got %v, want an unknown outcome", err)
	}
	close(gate)
}

func TestOperationsAreBounded(t *testing.T) {
	n := standbyB()
	s := startServer(t, Config{Operations: 3}, n)
	for i := range 5 {
		call(t, "POST", s.AdminURL()+"/admin/promote", "", fmt.Sprintf("Idempotency-Key: k%d", i))
	}
	var got []string
	for _, op := range decode[Operations](t, call(t, "GET", s.AdminURL()+"/admin/operations", "")).Operations {
		got = append(got, op.Operation)
	}
	if want := "[k4 k3 k2]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if r := call(t, "GET", s.AdminURL()+"/admin/operations/k0", ""); r.status != http.StatusNotFound {
		t.Errorf("oldest: got %d, want 404", r.status)
	}
}

func TestRefused(t *testing.T) {
	tests := []struct {
		name   string
		check  Check
		accept []CheckID
		want   bool
	}{
		{name: "ok", check: Check{ID: CheckLag, Verdict: VerdictOK}},
		{name: "info", check: Check{ID: CheckOther, Verdict: VerdictInfo}},
		{name: "warning", check: Check{ID: CheckLag, Verdict: VerdictWarn}, want: true},
		{name: "warning accepted", check: Check{ID: CheckLag, Verdict: VerdictWarn}, accept: []CheckID{CheckLag}},
		{name: "another accepted", check: Check{ID: CheckLag, Verdict: VerdictWarn}, accept: []CheckID{CheckPrimary}, want: true},
		{name: "failure accepted", check: Check{ID: CheckHash, Verdict: VerdictFail}, accept: []CheckID{CheckHash}, want: true},
		{name: "warning that cannot be", check: Check{ID: CheckGap, Verdict: VerdictWarn}, accept: []CheckID{CheckGap}, want: true},
	}
	for _, tt := range tests {
		if got := len(Refused([]Check{tt.check}, tt.accept)) > 0; got != tt.want {
			t.Errorf("%s: refused %v, want %v", tt.name, got, tt.want)
		}
	}
}

// That a promotion was requested is the node's event; over HTTP it is logged who sent
// it, once, as an event of its own.
func TestRequestOverHTTPIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	s := startServer(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, standbyB())
	call(t, "POST", s.AdminURL()+"/admin/promote", `{"actor":"ana"}`)
	closeServer(t, s)
	if got := strings.Count(log.String(), "event=http.promote "); got != 1 || !strings.Contains(log.String(), "actor=ana") {
		t.Errorf("logged %d times: %s", got, log.String())
	}
	if strings.Contains(log.String(), "event=promotion.requested") {
		t.Errorf("logged as the node's event too: %s", log.String())
	}
}
