package natsjournal_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"understudy.dev/internal/natsserver"
	"understudy.dev/journal/natsjournal"
)

// jetStream returns a connection of another program.
func jetStream(tb testing.TB, srv *natsserver.Server) jetstream.JetStream {
	tb.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		tb.Fatal(err)
	}
	return js
}

// good is a stream that holds a journal, written out: what Create makes must be
// accepted, and so must what a person makes by this.
func good(name string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: name, Subjects: []string{"understudy." + name + ".data", "understudy." + name + ".epoch"},
		Discard: jetstream.DiscardNew, DenyDelete: true, AllowDirect: true,
		RePublish: &jetstream.RePublish{Source: "understudy." + name + ".>", Destination: "understudy." + name + ".live.>"},
	}
}

// Each setting that would break the contract is refused, by name and with what
// fixes it.
func TestOpenRefusesSettings(t *testing.T) {
	tests := []struct {
		name   string
		change func(*jetstream.StreamConfig)
		want   string // in the fault
		fix    string // a flag of nats stream edit; "" if it can only be chosen at creation
	}{
		{"memory storage", func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, "storage is memory", ""},
		{"interest retention", func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy }, "retention is Interest", ""},
		{"work queue retention", func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }, "retention is WorkQueue", ""},
		{"discard old", func(c *jetstream.StreamConfig) { c.Discard, c.MaxBytes = jetstream.DiscardOld, 1<<20 }, "discard is old", "--discard=new"},
		{"discard new per subject", func(c *jetstream.StreamConfig) { c.DiscardNewPerSubject, c.MaxMsgsPerSubject = true, 10 }, "per subject", "--no-discard-per-subject"},
		{"max age", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, "max age is 1h0m0s", "--max-age=0"},
		{"max messages per subject", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 10 }, "per subject is 10", "--max-msgs-per-subject=-1"},
		{"another subject", func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "orders") }, "subjects are", "--subjects="},
		{"one subject", func(c *jetstream.StreamConfig) { c.Subjects = c.Subjects[:1] }, "subjects are", "--subjects="},
		{"sources", func(c *jetstream.StreamConfig) { c.Sources = []*jetstream.StreamSource{{Name: "OTHER"}} }, "sources other streams", ""},
		{"subject transform", func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: ">", Destination: ">"}
		}, "transforms subjects", "--no-transform"},
		{"no republish", func(c *jetstream.StreamConfig) { c.RePublish = nil }, "does not republish", "--republish-source="},
		{"republish elsewhere", func(c *jetstream.StreamConfig) { c.RePublish.Destination = "elsewhere.>" }, "does not republish", "--republish-destination="},
		{"republish headers", func(c *jetstream.StreamConfig) { c.RePublish.HeadersOnly = true }, "with bodies", "--republish-source="},
		{"no direct get", func(c *jetstream.StreamConfig) { c.AllowDirect = false }, "direct get is off", "--allow-direct"},
		{"deletes allowed", func(c *jetstream.StreamConfig) { c.DenyDelete = false }, "deleting", "--deny-delete"},
		{"roll-ups", func(c *jetstream.StreamConfig) { c.AllowRollup = true }, "roll-ups", "--no-allow-rollup"},
		{"time to live", func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true }, "time to live", ""},
		{"counters", func(c *jetstream.StreamConfig) { c.AllowMsgCounter = true; c.Discard = jetstream.DiscardOld }, "counters", ""},
		{"schedules", func(c *jetstream.StreamConfig) { c.AllowMsgSchedules = true; c.Discard = jetstream.DiscardOld }, "schedules", ""},
		{"no acknowledgements", func(c *jetstream.StreamConfig) { c.NoAck = true }, "does not acknowledge", "--ack"},
		{"messages without room for a batch", func(c *jetstream.StreamConfig) { c.MaxMsgSize = 4 << 10 }, "max message size is 4096 bytes", "--max-msg-size=-1"},
		{"first sequence", func(c *jetstream.StreamConfig) { c.FirstSeq = 100 }, "starts at sequence 100", ""},
		{"async persistence", func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode }, "persist mode is async", ""},
	}
	srv := startServer(t, natsserver.Config{})
	js := jetStream(t, srv)
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := good("BAD" + string('a'+rune(i)))
			tt.change(&cfg)
			if _, err := js.CreateStream(t.Context(), cfg); err != nil {
				t.Fatalf("create: %v", err)
			}
			t.Cleanup(func() { _ = js.DeleteStream(t.Context(), cfg.Name) })
			j, err := natsjournal.Open(t.Context(), natsjournal.Config{InProcess: srv, Stream: cfg.Name, Create: true})
			if err == nil {
				j.Close()
				t.Fatal("Open = nil, want a refusal")
			}
			var refused *natsjournal.SettingsError
			if !errors.As(err, &refused) {
				t.Fatalf("Open = %v, want a SettingsError", err)
			}
			if !slices.ContainsFunc(refused.Faults, func(f string) bool { return strings.Contains(f, tt.want) }) {
				t.Errorf("faults = %q, want one about %q", refused.Faults, tt.want)
			}
			if tt.fix == "" && !refused.Remake {
				t.Errorf("%v: want it to say that this is chosen at creation", err)
			}
			if tt.fix != "" && (!strings.HasPrefix(refused.Fix, "nats stream edit "+cfg.Name+" ") || !strings.Contains(refused.Fix, tt.fix)) {
				t.Errorf("fix = %q, want nats stream edit %s with %s", refused.Fix, cfg.Name, tt.fix)
			}
			if refused.Remake {
				return
			}
			if _, err := js.UpdateStream(t.Context(), good(cfg.Name)); err != nil { // what the fix does
				t.Fatalf("fix: %v", err)
			}
			open(t, natsjournal.Config{InProcess: srv, Stream: cfg.Name})
		})
	}
}

func TestOpenListsAllFaults(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	js := jetStream(t, srv)
	cfg := good("MANY")
	cfg.MaxAge, cfg.DenyDelete, cfg.Storage = time.Hour, false, jetstream.MemoryStorage
	if _, err := js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	_, err := natsjournal.Open(t.Context(), natsjournal.Config{InProcess: srv, Stream: "MANY", Replicas: 3})
	for _, want := range []string{"max age", "deleting", "memory", "1 replicas, 3 were asked for", "--max-age=0", "--deny-delete", "--replicas=3", "(at creation)"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open = %v, want a word about %q", err, want)
		}
	}
}

// A stream that a person made by the documented settings is accepted, also with
// limits that refuse.
func TestOpenAcceptsSettings(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	js := jetStream(t, srv)
	for _, change := range []func(*jetstream.StreamConfig){
		func(*jetstream.StreamConfig) {},
		func(c *jetstream.StreamConfig) { c.Name = "LIMITED"; c.MaxBytes, c.MaxMsgs = 1<<20, 100 },
		func(c *jetstream.StreamConfig) { c.Name = "SMALL"; c.MaxMsgSize = 64 << 10 },
		func(c *jetstream.StreamConfig) { c.Name = "NOPURGE"; c.DenyPurge = true },
		func(c *jetstream.StreamConfig) { c.Name = "PACKED"; c.Compression = jetstream.S2Compression },
	} {
		cfg := good("GOOD")
		change(&cfg)
		limits := cfg
		cfg = good(cfg.Name)
		cfg.MaxBytes, cfg.MaxMsgs, cfg.MaxMsgSize, cfg.DenyPurge, cfg.Compression = limits.MaxBytes, limits.MaxMsgs, limits.MaxMsgSize, limits.DenyPurge, limits.Compression
		if _, err := js.CreateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		open(t, natsjournal.Config{InProcess: srv, Stream: cfg.Name})
	}
}

func TestOpenWithoutStream(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	_, err := natsjournal.Open(t.Context(), natsjournal.Config{InProcess: srv, Stream: "NONE"})
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("Open = %v, want %v", err, jetstream.ErrStreamNotFound)
	}
}

// Several that create the same stream at once all get it.
func TestOpenCreatesOnce(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	errs := make(chan error)
	for range 4 {
		go func() {
			j, err := natsjournal.Open(t.Context(), natsjournal.Config{InProcess: srv, Stream: "NEW", Create: true})
			if err == nil {
				err = j.Close()
			}
			errs <- err
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
