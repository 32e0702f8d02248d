package admin

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestGetStatus(t *testing.T) {
	n := standbyB()
	s := startServer(t, Config{}, n)
	r := call(t, "GET", s.AdminURL()+"/admin/status", "")
	checkStamp(t, r, n)
	st := decode[Status](t, r)
	row := st.Nodes[0]
	if st.Group != "orders" || st.Epoch != 7 || row.Node != "b" || !row.Reachable || row.SeenAt.IsZero() || *row.Lag.Records != 7 {
		t.Errorf("got %+v", st)
	}
	if r := call(t, "HEAD", s.AdminURL()+"/admin/status", ""); r.status != 200 || r.body != "" {
		t.Errorf("HEAD: got %d %q, want 200 without a body", r.status, r.body)
	}
}

// Failed checks are an answer and no problem.
func TestGetChecks(t *testing.T) {
	tests := []struct {
		name    string
		checks  []Check
		ok      bool
		refused string
	}{
		{name: "all pass", checks: []Check{{ID: CheckRole, Verdict: VerdictOK}, {ID: CheckOther, Verdict: VerdictInfo}}, ok: true},
		{name: "one warns", checks: []Check{{ID: CheckLag, Verdict: VerdictWarn}}, refused: "lag"},
		{name: "two", checks: []Check{{ID: CheckGap, Verdict: VerdictFail}, {ID: CheckLag, Verdict: VerdictWarn}}, refused: "gap, lag"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := standbyB()
			n.checks = tt.checks
			s := startServer(t, Config{}, n)
			r := call(t, "GET", s.AdminURL()+"/admin/checks?for=promote", "")
			got := decode[Checks](t, r)
			if r.status != 200 || got.OK != tt.ok || words(got.Refuse) != tt.refused || len(got.Checks) != len(tt.checks) {
				t.Fatalf("got %d %+v, want ok %v, refused by %s", r.status, got, tt.ok, tt.refused)
			}
			for _, c := range got.Checks {
				if c.Acceptable != (c.ID == CheckLag) {
					t.Errorf("%s: acceptable %v", c.ID, c.Acceptable)
				}
			}
		})
	}
}

func TestAdminFaults(t *testing.T) {
	n := standbyB()
	n.checkErr = &Problem{Type: JournalUnavailable, Err: errors.New("no servers"), RetryAfter: 2500 * time.Millisecond}
	s := startServer(t, Config{}, n)
	for _, tt := range []struct {
		name, method, path string
		status             int
		header, value      string
		in                 string
	}{
		{name: "journal down", method: "GET", path: "/admin/checks", status: 503, header: "Retry-After", value: "3", in: "no servers"},
		{name: "checks for another thing", method: "GET", path: "/admin/checks?for=dinner", status: 400, in: "promote"},
		{name: "not there", method: "GET", path: "/admin/history", status: 404, in: "GET /admin/operations/{id}"},
		{name: "not there either", method: "POST", path: "/admin/step-down", status: 404, in: "POST /admin/promote"},
		{name: "promote by GET", method: "GET", path: "/admin/promote", status: 405, header: "Allow", value: "POST"},
		{name: "status by POST", method: "POST", path: "/admin/status", status: 405, header: "Allow", value: "GET, HEAD"},
		{name: "public path", method: "GET", path: "/metrics", status: 404},
		{name: "unknown operation", method: "GET", path: "/admin/operations/nope", status: 404, in: `"operation":"nope"`},
		{name: "bad wait", method: "GET", path: "/admin/operations/nope?wait=10", status: 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := call(t, tt.method, s.AdminURL()+tt.path, "")
			if r.status != tt.status || !strings.Contains(r.body, tt.in) || r.header.Get(tt.header) != tt.value {
				t.Errorf("got %d %s %v, want %d with %s", r.status, r.body, r.header, tt.status, tt.in)
			}
			if p := decode[Problem](t, r); p.Status != tt.status || p.Certainty != CertainlyNotDone {
				t.Errorf("got %+v", p)
			}
			checkStamp(t, r, n)
		})
	}
}
