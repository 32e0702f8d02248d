package sinks_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"understudy.dev/harness"
	"understudy.dev/harness/sinks"
	"understudy.dev/journal"
)

// shell starts a script, or skips the test where the tools for it are missing.
func shell(t *testing.T, script string, grace time.Duration, tools ...string) *sinks.Exec {
	t.Helper()
	for _, tool := range append(tools, "sh") {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	s, err := sinks.NewExec([]string{"sh", "-c", script}, sinks.ExecConfig{Grace: grace, Stderr: new(syncBuffer)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// soon is far more than these tests need and far less than what is slept in them.
const soon = 5 * time.Second

// A process outside the group that keeps the pipes open delays nothing for longer
// than the grace, and is not said to be the child.
func TestExecOutsiderHoldsTheOutput(t *testing.T) {
	script := `setsid sleep 20 & while read -r line; do n=${line#*\"number\":}; echo "{\"ack\":${n%%,*}}"; done`
	s := shell(t, script, 200*time.Millisecond, "setsid")
	if err := replay(t, s, 0); err != nil {
		t.Errorf("replay = %v", err)
	}
	began := time.Now()
	err := s.Close()
	if took := time.Since(began); took > soon {
		t.Errorf("Close took %v", took)
	}
	if err == nil || strings.Contains(err.Error(), "killed") || !strings.Contains(err.Error(), "exit status 0") || !strings.Contains(err.Error(), "held its output open") {
		t.Errorf("Close = %v, want that the child ended and something else held its output", err)
	}
}

// One that holds only the standard error of a child that ended well is no fault.
func TestExecOutsiderHoldsTheWords(t *testing.T) {
	s := shell(t, `setsid sleep 20 >/dev/null </dev/null & cat >/dev/null`, 200*time.Millisecond, "setsid")
	began := time.Now()
	if err := s.Close(); err != nil || time.Since(began) > soon {
		t.Errorf("Close = %v after %v, want nil soon", err, time.Since(began))
	}
}

// A deadline holds although the pipes are in the hands of a process that cannot be
// killed with the child, also for an entry that does not fit the pipe.
func TestExecDeadlineWithAnOutsider(t *testing.T) {
	for _, size := range []int{1, 1 << 20} {
		s := shell(t, `exec setsid sleep 20`, 20*time.Second, "setsid")
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := s.Apply(ctx, &harness.Entry{Number: 1, Kind: journal.KindDevice, Data: make([]byte, size)})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || journal.OutcomeOf(err) != journal.Unknown {
			t.Errorf("Apply = %v, want the deadline and an unknown outcome", err)
		}
		// What is sent after that is not answered by what the child said before.
		if again := s.Apply(t.Context(), &harness.Entry{Number: 2, Kind: journal.KindDevice}); !errors.Is(again, context.DeadlineExceeded) {
			t.Errorf("Apply after the deadline = %v, want the same", again)
		}
		_ = s.Close()
		if took := time.Since(began); took > soon {
			t.Errorf("took %v with %d bytes", took, size)
		}
	}
}

// What an error of a child says about the entry.
func TestExecOutcomes(t *testing.T) {
	tests := []struct {
		name   string
		script string
		size   int
		want   journal.Outcome
	}{
		{name: "refused", script: `read -r line; echo '{"ack":1,"error":"full"}'; cat >/dev/null`, want: journal.NotDone},
		{name: "died before it took it", script: `exit 3`, size: 1 << 20, want: journal.NotDone}, // more than a pipe holds
		{name: "died after it took it", script: `read -r line; exit 3`, want: journal.Unknown},
		{name: "no answer", script: `read -r line; echo done`, want: journal.Unknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := shell(t, tt.script, soon)
			err := s.Apply(t.Context(), &harness.Entry{Number: 1, Kind: journal.KindDevice, Data: make([]byte, tt.size)})
			if err == nil || journal.OutcomeOf(err) != tt.want || errors.Is(err, harness.ErrNotTaken) != (tt.want == journal.NotDone) {
				t.Errorf("Apply = %v: %v, want %v", err, journal.OutcomeOf(err), tt.want)
			}
			_ = s.Close()
		})
	}
}

// What an error of a server, or of the way to it, says about the entry.
func TestHTTPOutcomes(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	unresolved := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{Resolver: &net.Resolver{
		PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no name server") },
	}}).DialContext}}
	answer := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	tests := []struct {
		name   string
		url    string // "" is a server with this handler
		client *http.Client
		handle http.HandlerFunc
		want   journal.Outcome
	}{
		{name: "bad request", handle: answer(400), want: journal.NotDone},
		{name: "conflict", handle: answer(409), want: journal.NotDone},
		{name: "server error", handle: answer(500), want: journal.Unknown},
		{name: "bad gateway", handle: answer(502), want: journal.Unknown},
		{name: "unavailable", handle: answer(503), want: journal.Unknown},
		{name: "gateway time-out", handle: answer(504), want: journal.Unknown},
		{name: "not modified", handle: answer(304), want: journal.Unknown},
		{name: "connection lost", handle: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, want: journal.Unknown},
		{name: "connection refused", url: closed.URL, want: journal.NotDone},
		{name: "no such name", url: "http://sink.invalid/", client: unresolved, want: journal.NotDone},
		{
			name: "refused after a redirect", client: &http.Client{Transport: new(http.Transport)}, want: journal.Unknown,
			handle: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, closed.URL, http.StatusSeeOther) },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.url == "" {
				srv := httptest.NewServer(tt.handle)
				defer srv.Close()
				tt.url = srv.URL
			}
			s, err := sinks.NewHTTP(tt.url, sinks.HTTPConfig{Client: tt.client})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			err = replay(t, s, 0)
			if err == nil || journal.OutcomeOf(err) != tt.want || errors.Is(err, harness.ErrNotTaken) != (tt.want == journal.NotDone) {
				t.Errorf("replay = %v: %v, want %v", err, journal.OutcomeOf(err), tt.want)
			}
		})
	}
}

// Of a long refusal only the beginning is kept.
func TestHTTPLongRefusal(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no room "+strings.Repeat("x", 1<<20), http.StatusConflict)
	}))
	defer srv.Close()
	s, err := sinks.NewHTTP(srv.URL, sinks.HTTPConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var status *sinks.StatusError
	if err := replay(t, s, 0); !errors.As(err, &status) || !strings.HasPrefix(status.Body, "no room x") || len(status.Body) != 200 {
		t.Errorf("replay failed with %.300v, want 200 bytes of the refusal", err)
	}
}
