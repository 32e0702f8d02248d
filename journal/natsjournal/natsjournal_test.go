package natsjournal_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"understudy.dev/internal/natsserver"
	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/natsjournal"
)

// startServer runs a server for one test. Syncing is off: these tests kill no
// machine.
func startServer(tb testing.TB, cfg natsserver.Config) *natsserver.Server {
	tb.Helper()
	if cfg.Dir == "" {
		cfg.Dir = tb.TempDir()
	}
	cfg.NoSync = true
	s, err := natsserver.Start(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Shutdown)
	return s
}

// open opens a stream and closes the handle at the end of the test.
func open(tb testing.TB, cfg natsjournal.Config) *natsjournal.Journal {
	tb.Helper()
	if cfg.Stream == "" {
		cfg.Stream = "TEST"
	}
	j, err := natsjournal.Open(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = j.Close() })
	return j
}

// streams hands out handles on new streams and remembers which is which.
type streams struct {
	config natsjournal.Config
	made   atomic.Int64
	names  map[journal.Journal]string
}

func (s *streams) open(tb testing.TB) journal.Journal {
	return s.handle(tb, fmt.Sprintf("S%d", s.made.Add(1)))
}

func (s *streams) reopen(tb testing.TB, j journal.Journal) journal.Journal {
	return s.handle(tb, s.names[j])
}

func (s *streams) handle(tb testing.TB, name string) journal.Journal {
	cfg := s.config
	cfg.Stream, cfg.Create = name, true
	j := open(tb, cfg)
	s.names[j] = name
	return j
}

func (s *streams) conformance() journaltest.Config {
	s.names = make(map[journal.Journal]string)
	return journaltest.Config{Open: s.open, Reopen: s.reopen}
}

func TestConformance(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	t.Run("in process", func(t *testing.T) {
		s := &streams{config: natsjournal.Config{InProcess: srv}}
		journaltest.Run(t, s.conformance())
	})
}

func TestConformanceOverTCP(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	s := &streams{config: natsjournal.Config{URL: srv.ClientURL()}}
	cfg := s.conformance()
	cfg.Steps = 50
	journaltest.Run(t, cfg)
}

// ended is a context that ended before it was used.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
