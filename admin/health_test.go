package admin

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// The table by which Kubernetes, systemd and load balancers see a node.
func TestHealthByState(t *testing.T) {
	behind := func(records uint64, seconds float64) func(*Snapshot) {
		return func(s *Snapshot) { s.Node.Lag = Lag{Records: &records, Seconds: &seconds} }
	}
	tests := []struct {
		name                          string
		state                         State
		also                          func(*Snapshot)
		livez, readyz, primary, stand int
	}{
		{name: "starting", state: Starting, livez: 200, readyz: 503, primary: 503, stand: 503},
		{name: "restoring", state: Restoring, livez: 200, readyz: 503, primary: 503, stand: 503},
		{name: "replaying", state: Replaying, livez: 200, readyz: 503, primary: 503, stand: 503},
		{name: "following within limits", state: Following, livez: 200, readyz: 200, primary: 503, stand: 200},
		{name: "following at the limits", state: Following, also: behind(1000, 5), livez: 200, readyz: 200, primary: 503, stand: 200},
		{name: "following over the records", state: Following, also: behind(1001, 0), livez: 200, readyz: 503, primary: 503, stand: 503},
		{name: "following over the time", state: Following, also: behind(1, 5.001), livez: 200, readyz: 503, primary: 503, stand: 503},
		{name: "following at an unknown distance", state: Following, also: func(s *Snapshot) { s.Node.Lag = Lag{} }, livez: 200, readyz: 503, primary: 503, stand: 503},
		{name: "promoting", state: Promoting, livez: 200, readyz: 200, primary: 503, stand: 503},
		{name: "serving", state: Serving, livez: 200, readyz: 200, primary: 200, stand: 503},
		{name: "stepping down", state: SteppingDown, livez: 200, readyz: 200, primary: 503, stand: 503},
		{name: "paused", state: Paused, livez: 200, readyz: 200, primary: 503, stand: 503},
		{name: "standby without journal", state: Following, also: func(s *Snapshot) { s.Journal.Up = false }, livez: 200, readyz: 503, primary: 503, stand: 503},
		{name: "primary without journal", state: Serving, also: func(s *Snapshot) { s.Journal.Up = false }, livez: 200, readyz: 503, primary: 503, stand: 503},
		{name: "fenced", state: Fenced, livez: 200, readyz: 503, primary: 503, stand: 503},
		{name: "diverged", state: Diverged, livez: 200, readyz: 503, primary: 503, stand: 503},
		{name: "halted", state: Halted, livez: 200, readyz: 503, primary: 503, stand: 503},
		{name: "unknown state", livez: 200, readyz: 503, primary: 503, stand: 503},
		{name: "stuck primary", state: Serving, also: func(s *Snapshot) { s.BusySince = time.Now().Add(-time.Minute) }, livez: 503, readyz: 503, primary: 503, stand: 503},
		{name: "stuck standby", state: Following, also: func(s *Snapshot) { s.BusySince = time.Now().Add(-time.Minute) }, livez: 503, readyz: 503, primary: 503, stand: 503},
		{name: "busy since just now", state: Following, also: func(s *Snapshot) { s.BusySince = time.Now() }, livez: 200, readyz: 200, primary: 503, stand: 200},
	}
	n := standbyB()
	s := startServer(t, Config{}, n)
	base := n.Snapshot()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n.set(func(s *Snapshot) {
				*s = base
				s.Node.State = tt.state
				if tt.also != nil {
					tt.also(s)
				}
			})
			for path, want := range map[string]int{
				"/livez": tt.livez, "/healthz": tt.livez, "/readyz": tt.readyz, "/primary": tt.primary, "/standby": tt.stand,
			} {
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					if r := call(t, method, s.PublicURL()+path, ""); r.status != want {
						t.Errorf("%s %s: got %d %s, want %d", method, path, r.status, r.body, want)
					}
				}
			}
		})
	}
}

// Every state has a row in the table above.
func TestHealthKnowsEveryState(t *testing.T) {
	for _, st := range States() {
		s := Snapshot{Journal: JournalStatus{Up: true}, Node: NodeStatus{State: st}}
		_, isReady := report(ready(&s, limits{records: -1, lag: -1}), nil, false)
		want := st == Following || st == Promoting || st == Serving || st == SteppingDown || st == Paused
		if isReady != want {
			t.Errorf("%s: ready %v, want %v", st, isReady, want)
		}
	}
}

func TestHealthQueries(t *testing.T) {
	tests := []struct {
		name, path string
		also       func(*Snapshot)
		status     int
		body       string
	}{
		{name: "plain", path: "/readyz", status: 200, body: "ok\n"},
		{name: "verbose", path: "/readyz?verbose", status: 200, body: "[+]loop ok\n[+]state ok\n[+]journal ok\n[+]lag ok\n"},
		{name: "failing", path: "/readyz", also: unknownLag, status: 503, body: "[-]lag failed: unknown (limit 1000 records)\n"},
		{name: "without a journal", path: "/readyz", also: journalDown, status: 503, body: "[-]journal failed: unreachable: timeout; read: refused\n"},
		{name: "a full store", path: "/readyz", also: fullStore, status: 503, body: "[-]journal failed: no appends possible: journal: full\n"},
		{name: "a full store", path: "/primary", also: fullStore, status: 503, body: "[-]journal failed: no appends possible: journal: full\n"},
		{name: "excluded", path: "/readyz?exclude=lag", also: unknownLag, status: 200, body: "ok\n"},
		{
			name: "excluded verbosely", path: "/readyz?verbose&exclude=lag,disk", also: unknownLag, status: 200,
			body: "[+]loop ok\n[+]state ok\n[+]journal ok\n[+]lag excluded\nwarn: 1 exclusions match nothing here\n",
		},
		{name: "own limit met", path: "/standby?max_lag_records=7&max_lag=3ms", status: 200, body: "ok\n"},
		{name: "own limit of records", path: "/standby?max_lag_records=6", status: 503, body: "[-]lag failed: 7 records behind (limit 6)\n"},
		{name: "own limit of time", path: "/standby?max_lag=2ms", status: 503, body: "[-]lag failed: 0.003s behind (limit 2ms)\n"},
		{name: "own limit and unknown", path: "/standby?max_lag_records=9", also: unknownLag, status: 503, body: "[-]lag failed: unknown (limit 9 records)\n"},
		{name: "own code", path: "/primary?code=200", status: 200, body: "[-]state failed: following\n"},
		{name: "own code where it holds", path: "/standby?code=429", status: 200, body: "ok\n"},
		{name: "bad limit", path: "/standby?max_lag=2", status: 400},
		{name: "negative limit", path: "/standby?max_lag_records=-1", status: 400},
		{name: "bad code", path: "/primary?code=99", status: 400},
	}
	n := standbyB()
	s := startServer(t, Config{}, n)
	base := n.Snapshot()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n.set(func(s *Snapshot) {
				*s = base
				if tt.also != nil {
					tt.also(s)
				}
			})
			r := call(t, "GET", s.PublicURL()+tt.path, "")
			if r.status != tt.status || tt.body != "" && r.body != tt.body {
				t.Errorf("GET %s: got %d %q, want %d %q", tt.path, r.status, r.body, tt.status, tt.body)
			}
		})
	}
}

func journalDown(s *Snapshot) {
	s.Journal.Up, s.Journal.Error = false, "timeout\nread: refused"
}

func fullStore(s *Snapshot) {
	s.Node.State, s.Node.Role = Serving, Primary
	s.Journal.Up, s.Journal.Error = false, "journal: full"
}

func unknownLag(s *Snapshot) { s.Node.Lag = Lag{} }

// The public listener offers nothing that changes anything, and says what exists.
func TestPublicListener(t *testing.T) {
	s := startServer(t, Config{Build: Build{Version: "v1.4.2", Machine: "exchange"}}, standbyB())
	for _, method := range []string{"POST", "PUT", "DELETE"} {
		r := call(t, method, s.PublicURL()+"/readyz", "")
		if r.status != http.StatusMethodNotAllowed || r.header.Get("Allow") != "GET, HEAD, OPTIONS" {
			t.Errorf("%s: got %d, Allow %q", method, r.status, r.header.Get("Allow"))
		}
	}
	if r := call(t, "OPTIONS", s.PublicURL()+"/readyz", ""); r.status != http.StatusNoContent || r.header.Get("Allow") != "GET, HEAD, OPTIONS" {
		t.Errorf("OPTIONS: got %d, Allow %q", r.status, r.header.Get("Allow"))
	}
	if r := call(t, "OPTIONS", s.AdminURL()+"/admin/status", ""); r.status != http.StatusMethodNotAllowed {
		t.Errorf("OPTIONS of the admin listener: got %d", r.status)
	}
	for _, path := range []string{"/admin/status", "/admin/promote", "/nothing"} {
		r := call(t, "GET", s.PublicURL()+path, "")
		if p := decode[Problem](t, r); r.status != http.StatusNotFound || !strings.Contains(p.Detail, "GET /readyz") {
			t.Errorf("%s: got %d %+v, want 404 that names what exists", path, r.status, p)
		}
	}
	r := call(t, "GET", s.PublicURL()+"/version", "")
	if b := decode[Build](t, r); b.Version != "v1.4.2" || b.Machine != "exchange" || b.API != 1 {
		t.Errorf("/version: got %+v", b)
	}
	checkStamp(t, r, standbyB())
}
