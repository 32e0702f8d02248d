package natsserver_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"understudy.dev/internal/natsserver"
)

func start(t *testing.T, cfg natsserver.Config) *natsserver.Server {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	s, err := natsserver.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

func TestStartListensOnLoopback(t *testing.T) {
	s := start(t, natsserver.Config{Name: "solo"})
	if got, want := s.ClientURL(), "nats://127.0.0.1:"; !strings.HasPrefix(got, want) || strings.HasSuffix(got, ":0") {
		t.Errorf("ClientURL() = %q, want a free port after %q", got, want)
	}
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if got, want := nc.ConnectedServerName(), "solo"; got != want {
		t.Errorf("server name = %q, want %q", got, want)
	}
}

func TestStartWithoutListening(t *testing.T) {
	s := start(t, natsserver.Config{NoListen: true})
	if got := s.ClientURL(); got != "" {
		t.Errorf("ClientURL() = %q, want none", got)
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}

// What was stored is there after a restart in the same directory.
func TestRestartKeepsStreams(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		s := start(t, natsserver.Config{Dir: dir})
		nc, err := nats.Connect("", nats.InProcessServer(s))
		if err != nil {
			t.Fatal(err)
		}
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "KEEP", Subjects: []string{"keep"}}); err != nil {
			t.Fatal(err)
		}
		ack, err := js.Publish(t.Context(), "keep", []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := ack.Sequence, uint64(i+1); got != want {
			t.Errorf("sequence after %d restarts = %d, want %d", i, got, want)
		}
		nc.Close()
		s.Shutdown()
		if s.Running() {
			t.Errorf("Running() after Shutdown = true")
		}
	}
}

func TestStartRefuses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		cfg  natsserver.Config
		want string
	}{
		{"no directory", natsserver.Config{}, "no directory"},
		{"port out of range", natsserver.Config{Dir: "x", Port: 70000}, "port 70000"},
		{"port taken", natsserver.Config{Dir: filepath.Join(t.TempDir(), "taken"), Port: taken}, "address already in use"},
		{"cluster port taken", natsserver.Config{
			Dir: filepath.Join(t.TempDir(), "taken"), Name: "a", Cluster: &natsserver.Cluster{Port: taken, Routes: []string{"nats://127.0.0.1:1"}},
		}, "address already in use"},
		{"a file for a directory", natsserver.Config{Dir: file}, "not a folder"},
		{"a file above the directory", natsserver.Config{Dir: filepath.Join(file, "below")}, "not a folder"},
		{"member without routes", natsserver.Config{Dir: "x", Name: "a", Cluster: &natsserver.Cluster{Port: 1}}, "routes"},
		{"member without name", natsserver.Config{Dir: "x", Cluster: &natsserver.Cluster{Port: 1, Routes: []string{"nats://127.0.0.1:1"}}}, "needs a name"},
		{"route that is none", natsserver.Config{Dir: "x", Name: "a", Cluster: &natsserver.Cluster{Port: 1, Routes: []string{"::"}}}, "want nats://host:port"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := natsserver.Start(t.Context(), tt.cfg)
			if err == nil {
				s.Shutdown()
				t.Fatalf("Start(%+v) = nil, want an error about %q", tt.cfg, tt.want)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Start(%+v) = %v, want an error about %q", tt.cfg, err, tt.want)
			}
		})
	}
}

// A server whose port is taken neither starts nor says that it is ready, and one
// that starts says nothing at the level that operators read.
func TestStartIsQuiet(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var said strings.Builder
	for _, port := range []int{l.Addr().(*net.TCPAddr).Port, 0} {
		level := slog.LevelInfo
		if port != 0 {
			level = slog.LevelDebug
		}
		s, err := natsserver.Start(t.Context(), natsserver.Config{
			Dir: t.TempDir(), Port: port, Log: slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: level})),
		})
		if (err == nil) != (port == 0) {
			t.Fatalf("Start on port %d = %v", port, err)
		}
		if err == nil {
			s.Shutdown()
		}
	}
	if said.Len() > 0 {
		t.Errorf("said:\n%s", said.String())
	}
}

func TestReadyLine(t *testing.T) {
	got := natsserver.Ready{
		Name: "n1", Version: "2.15.2", Client: "nats://127.0.0.1:4222", Cluster: "nats://127.0.0.1:6222", Dir: "d", Sync: true,
	}.String()
	want := "ready n1 nats-server 2.15.2, clients nats://127.0.0.1:4222, cluster nats://127.0.0.1:6222, data d, sync always"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Three servers elect a leader, and again after one of them is gone.
func TestLocalCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers take seconds to elect a leader")
	}
	c, err := natsserver.StartLocalCluster(t.Context(), natsserver.LocalClusterConfig{Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Shutdown)
	nc, err := nats.Connect(strings.Join(c.ClientURLs(), ","))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "R3", Subjects: []string{"r3"}, Replicas: 3}); err != nil {
		t.Fatal(err)
	}
	if c.Leader("R3") == nil {
		t.Error("Leader(R3) = nil after the stream was created")
	}
	for _, r := range c.Ready() {
		if r.Client == "" || r.Cluster == "" {
			t.Errorf("Ready() = %+v, want both addresses", r)
		}
	}
	url := c.Servers[1].ClientURL()
	c.Servers[1].Shutdown()
	if err := c.Restart(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if got := c.Servers[1].ClientURL(); got != url {
		t.Errorf("ClientURL() after a restart = %q, want %q", got, url)
	}
	if err := c.WaitForLeader(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A start that is told to stop does, and says why.
func TestStartIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Nanosecond, errors.New("enough"))
	defer cancel()
	<-ctx.Done()
	s, err := natsserver.Start(ctx, natsserver.Config{Dir: t.TempDir()})
	if err == nil { // it was ready at the first look
		s.Shutdown()
		return
	}
	if !strings.Contains(err.Error(), "enough") {
		t.Errorf("Start = %v, want the context's cause", err)
	}
}
