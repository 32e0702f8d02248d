package sinks_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"understudy.dev/harness"
	"understudy.dev/harness/sinks"
	"understudy.dev/journal"
	"understudy.dev/journal/memjournal"
)

// childRole makes this binary a child that speaks, or misspeaks, the exec
// protocol.
const childRole = "SINKS_TEST_CHILD"

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		child(role)
	}
	goleak.VerifyTestMain(m)
}

// child acknowledges every entry, but does as its role says at record 3.
func child(role string) {
	if role == "asleep" {
		select {}
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var m sinks.Message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		fmt.Fprintf(os.Stderr, "%d %s %s %s %s\n", m.Number, m.Kind, m.Path, m.Name, m.Seed)
		switch {
		case role == "refuse" && m.Number == 3:
			fmt.Println(`{"ack":3,"error":"disk is full"}`)
			continue
		case role == "last ahead" && m.Number == 5:
			fmt.Print("{\"ack\":5}\n{\"ack\":6}\n")
			continue
		case m.Number == 3:
			misbehave(role)
		}
		fmt.Printf("{\"ack\":%d}\n", m.Number)
	}
	switch role {
	case "bad status":
		os.Exit(7)
	case "stays":
		select {}
	}
	os.Exit(0)
}

func misbehave(role string) {
	switch role {
	case "babble":
		fmt.Println("three!")
	case "other number":
		fmt.Println(`{"ack":2}`)
	case "no number":
		fmt.Println(`{"error":"x"}`)
	case "ahead":
		fmt.Print("{\"ack\":3}\n{\"ack\":4}\n")
	case "before its own":
		fmt.Print("{\"ack\":4}\n{\"ack\":3}\n")
	case "twice":
		fmt.Println(`{"ack":3}`)
	case "flood":
		os.Stdin.Close()
		for range 100 {
			fmt.Println(`{"ack":3}`)
		}
		os.Exit(0)
	case "long line":
		fmt.Println(strings.Repeat("x", 1<<20))
	case "die":
		os.Exit(3)
	case "silent":
		select {}
	case "deaf":
		os.Stdout.Close()
		select {}
	}
}

// five is a journal of five entries.
func five(t *testing.T) *memjournal.Journal {
	t.Helper()
	j := memjournal.New()
	h, err := harness.New(t.Context(), j, harness.Config{Mode: harness.Record, Async: true})
	if err != nil {
		t.Fatal(err)
	}
	h.DeviceCmd("alloc", []byte{0, 255})
	h.RNGSeed("rng", 1<<63)
	h.Actor("w").KernelCmd("saxpy", nil)
	h.BatchSize("loader", 0)
	h.Output("loss", []byte("x"))
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	return j
}

func replay(t *testing.T, s harness.Sink, timeout time.Duration) error {
	t.Helper()
	p, err := harness.NewPlayer(five(t), s, harness.ReplayOptions{SinkTimeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	return p.Run(t.Context())
}

// syncBuffer is what a child says on its standard error.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestExec(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		role    string
		number  uint64 // of the SinkError; 0 is none
		want    error
		text    string
		closing string // in the error of Close; "" is none
	}{
		{role: "good"},
		{role: "refuse", number: 3, text: "disk is full"},
		{role: "babble", number: 3, want: sinks.ErrProtocol, text: "three!"},
		{role: "other number", number: 3, want: sinks.ErrProtocol, text: "acknowledges record 2"},
		{role: "no number", number: 3, want: sinks.ErrProtocol},
		{role: "twice", number: 4, want: sinks.ErrProtocol, text: "acknowledges record 3"},
		{role: "ahead", number: 4, want: sinks.ErrProtocol, text: "acknowledges record 4 before it was sent"},
		{role: "before its own", number: 3, want: sinks.ErrProtocol, text: "acknowledges record 4 before it was sent"},
		{role: "last ahead", closing: "acknowledges record 6 before it was sent"},
		{role: "long line", number: 3, want: sinks.ErrProtocol, closing: "killed"},
		{role: "die", number: 3, want: sinks.ErrExited, text: "exit status 3", closing: "exit status 3"},
		{role: "flood", number: 4, want: sinks.ErrProtocol, text: "acknowledges record 3"},
		{role: "silent", number: 3, want: harness.ErrSinkTimeout, closing: "killed"},
		{role: "deaf", number: 3, want: sinks.ErrExited, closing: "killed"},
		{role: "bad status", closing: "exit status 7"},
		{role: "stays", closing: "killed"},
	}
	for _, tt := range tests {
		t.Run(tt.role, func(t *testing.T) {
			t.Parallel()
			var words syncBuffer
			grace, timeout := 20*time.Second, 20*time.Second
			switch tt.role {
			case "silent":
				timeout = 500 * time.Millisecond
			case "stays", "deaf":
				grace = 300 * time.Millisecond
			}
			s, err := sinks.NewExec([]string{self}, sinks.ExecConfig{
				Env: append(os.Environ(), childRole+"="+tt.role), Stderr: &words, Grace: grace,
			})
			if err != nil {
				t.Fatal(err)
			}
			err = replay(t, s, timeout)
			var at *harness.SinkError
			switch {
			case tt.number == 0 && err != nil:
				t.Errorf("replay = %v", err)
			case tt.number == 0:
			case !errors.As(err, &at) || at.Number != tt.number || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text):
				t.Errorf("replay = %v; want %v %q at record %d", err, tt.want, tt.text, tt.number)
			}
			err = s.Close()
			if tt.closing == "" && err != nil || tt.closing != "" && (err == nil || !strings.Contains(err.Error(), tt.closing)) {
				t.Errorf("Close = %v, want %q", err, tt.closing)
			}
			if again := s.Close(); !errors.Is(again, err) {
				t.Errorf("second Close = %v, want the same", again)
			}
			if got := words.String(); tt.role == "good" && got != "1 device  alloc \n2 seed rng  9223372036854775808\n3 kernel w saxpy \n4 batch-size loader  \n5 output  loss \n" {
				t.Errorf("the child saw %q", got)
			}
		})
	}
}

// A command of a machine carries its version.
func TestMessageHasTheVersion(t *testing.T) {
	for version, want := range map[uint32]string{
		0: `{"number":1,"seq":1,"time":"1970-01-01T00:00:00.000000001Z","micros":0,"run":1,"kind":"command","name":"add"}`,
		3: `{"number":1,"seq":1,"time":"1970-01-01T00:00:00.000000001Z","micros":0,"run":1,"kind":"command","name":"add","version":3}`,
	} {
		got, err := json.Marshal(sinks.MessageOf(&harness.Entry{
			Number: 1, Seq: 1, Time: 1, Run: 1, Kind: journal.KindCommand, Name: "add", Version: version,
		}))
		if err != nil || string(got) != want {
			t.Errorf("version %d: got %s, %v; want %s", version, got, err, want)
		}
	}
}

// A sink can be a shell script.
func TestExecShell(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip(err)
	}
	script := `n=0; while read -r line; do n=$((n+1)); echo "{\"ack\":$n}"; done`
	s, err := sinks.NewExec([]string{"sh", "-c", script}, sinks.ExecConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(replay(t, s, 0), s.Close()); err != nil {
		t.Error(err)
	}
}

// A child that acknowledges everything at once, or without reading, is found out:
// at the latest by what follows the first acknowledgement.
func TestExecAcknowledgesAhead(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip(err)
	}
	for _, script := range []string{
		`printf '{"ack":1}\n{"ack":2}\n{"ack":3}\n{"ack":4}\n{"ack":5}\n'; cat >/dev/null`,
		`printf '{"ack":1}\n{"ack":2}\n{"ack":3}\n{"ack":4}\n{"ack":5}\n'`,
	} {
		s, err := sinks.NewExec([]string{"sh", "-c", script}, sinks.ExecConfig{})
		if err != nil {
			t.Fatal(err)
		}
		err = replay(t, s, 0)
		var at *harness.SinkError
		if !errors.As(err, &at) || at.Number > 2 || !errors.Is(err, sinks.ErrProtocol) || !strings.Contains(err.Error(), "before it was sent") {
			t.Errorf("replay into %s = %v, want an acknowledgement before its record was sent, at record 1 or 2", script, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	}
}

func TestExecCannotStart(t *testing.T) {
	for _, argv := range [][]string{nil, {""}, {"/does/not/exist"}} {
		if _, err := sinks.NewExec(argv, sinks.ExecConfig{}); err == nil {
			t.Errorf("NewExec(%q) succeeded", argv)
		}
	}
}

// A child that does not even read is killed when the deadline has passed.
func TestExecDoesNotRead(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s, err := sinks.NewExec([]string{self}, sinks.ExecConfig{Env: append(os.Environ(), childRole+"=asleep"), Grace: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	e := harness.Entry{Number: 1, Kind: journal.KindDevice, Data: make([]byte, 1<<20)} // more than a pipe holds
	if err := s.Apply(ctx, &e); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Apply = %v, want the context's end", err)
	}
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Close = %v, want killed", err)
	}
}

// What a child started is ended with it.
func TestExecEndsTheGroup(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip(err)
	}
	s, err := sinks.NewExec([]string{"sh", "-c", "sleep 1000 & wait"}, sinks.ExecConfig{Grace: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	// The grandchild holds the output open: unless it ends too, Close waits for ever.
	if err := s.Close(); err == nil {
		t.Error("Close of a killed child = nil")
	}
}

func TestHTTP(t *testing.T) {
	var got []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m sinks.Message
		body, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(body, &m); err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s with %q: %v", r.Method, body, err)
		}
		got = append(got, fmt.Sprintf("%s/%d/%s", r.Header.Get("Understudy-Number"), m.Number, r.Header.Get("X-Token")))
		w.WriteHeader(http.StatusAccepted)
	}))
	defer srv.Close()
	s, err := sinks.NewHTTP(srv.URL, sinks.HTTPConfig{Header: http.Header{"X-Token": {"t"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := replay(t, s, 0); err != nil {
		t.Fatal(err)
	}
	if want := "[1/1/t 2/2/t 3/3/t 4/4/t 5/5/t]"; fmt.Sprint(got) != want {
		t.Errorf("server got %v, want %s", got, want)
	}
}

func TestHTTPRefusals(t *testing.T) {
	tests := []struct {
		name   string
		handle func(w http.ResponseWriter, r *http.Request)
		text   string
		want   error
	}{
		{name: "server error", text: "500 Internal Server Error: no room", handle: func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no room", http.StatusInternalServerError)
		}},
		{name: "redirect", text: "redirects are not followed", handle: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}},
		{name: "not modified", text: "304", handle: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }},
		{name: "connection lost", handle: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{name: "silent", want: harness.ErrSinkTimeout, handle: func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body) // the server sees the client go only when the body was read
			<-r.Context().Done()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Understudy-Number") == "2" {
					tt.handle(w, r)
				}
			}))
			defer srv.Close()
			s, err := sinks.NewHTTP(srv.URL, sinks.HTTPConfig{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			timeout := 20 * time.Second
			if tt.want != nil {
				timeout = 200 * time.Millisecond
			}
			err = replay(t, s, timeout)
			var at *harness.SinkError
			if !errors.As(err, &at) || at.Number != 2 || !strings.Contains(err.Error(), tt.text) || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("replay = %v, want %q %v at record 2", err, tt.text, tt.want)
			}
		})
	}
}

func TestHTTPURL(t *testing.T) {
	for _, u := range []string{"", "ftp://h/", "localhost:80", "http://", "http://h\x00"} {
		if _, err := sinks.NewHTTP(u, sinks.HTTPConfig{}); err == nil {
			t.Errorf("NewHTTP(%q) succeeded", u)
		}
	}
}
