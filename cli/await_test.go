package cli

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"

	"understudy.dev/internal/natsserver"
	"understudy.dev/journal"
)

// A node that is started before its journal's server waits for it.
func TestServeAwaitsItsJournal(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().(*net.TCPAddr)
	ln.Close()
	e := &Env{Global: Global{Journal: "nats://" + addr.String() + "/ORDERS?sync=always"}}
	said := make(chan struct{}, 1)
	log := slog.New(slog.NewTextHandler(writerFunc(func([]byte) { said <- struct{}{} }), nil))
	type opened struct {
		j   journal.Journal
		err error
	}
	got := make(chan opened, 1)
	go func() {
		j, err := e.awaitJournal(t.Context(), time.Minute, log)
		got <- opened{j, err}
	}()
	select {
	case <-said:
	case o := <-got:
		t.Fatalf("opened before there was a server: %v", o.err)
	}
	srv, err := natsserver.Start(t.Context(), natsserver.Config{Dir: t.TempDir(), Port: addr.Port, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Shutdown()
	o := <-got
	if o.err != nil {
		t.Fatal(o.err)
	}
	o.j.Close()
}

type writerFunc func(b []byte)

func (f writerFunc) Write(b []byte) (int, error) { f(b); return len(b), nil }

// What is wrong and stays so is told at once, and waiting ends in time.
func TestServeAwaitsNothingElse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // it answers nothing that NATS would
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	defer ln.Close()
	for _, tt := range []struct {
		url    string
		within time.Duration
		warned bool
	}{
		{"gopher://x/y", time.Hour, false},
		{"nats://127.0.0.1:1/", time.Hour, true},
		{"nats://" + ln.Addr().String() + "/ORDERS", time.Hour, false},
		{"nats://127.0.0.1:1/ORDERS", time.Millisecond, true},
	} {
		var log bytes.Buffer
		e := &Env{Global: Global{Journal: tt.url}}
		if _, err := e.awaitJournal(context.Background(), tt.within, slog.New(slog.NewTextHandler(&log, nil))); err == nil {
			t.Errorf("%s: opened", tt.url)
		}
		if got := log.Len() > 0; got && !tt.warned {
			t.Errorf("%s: warned %s", tt.url, log.String())
		}
	}
}

func TestServerAddrs(t *testing.T) {
	for url, want := range map[string][]string{
		"nats://10.0.0.1,10.0.0.2:4333,[::1]/ORDERS?replicas=3": {"10.0.0.1:4222", "10.0.0.2:4333", "[::1]:4222"},
		"postgres://me:a@b@h/db?journal=x":                      {"h:5432"},
		"redis://h:1/0":                                         {"h:1"},
		"file:///h/dir":                                         nil,
		"nats+context://prod/ORDERS":                            nil,
	} {
		if got := serverAddrs(url); !slices.Equal(got, want) {
			t.Errorf("serverAddrs(%s) = %v, want %v", url, got, want)
		}
	}
}
