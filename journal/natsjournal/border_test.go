package natsjournal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"understudy.dev/journal"
)

// What JetStream says about a message, in the journal's words. 10158 cannot be
// provoked, since we send no message id; it and the codes of full disks are
// injected here, the others are met on real servers too.
func TestPublishError(t *testing.T) {
	api := func(code jetstream.ErrorCode) error {
		return fmt.Errorf("nats: %w", &jetstream.APIError{Code: 400, ErrorCode: code, Description: "said the server"})
	}
	tests := []struct {
		name    string
		said    error
		want    error // nil: none of the journal's
		outcome journal.Outcome
	}{
		{"one replica lost the race", api(10071), journal.ErrConflict, journal.NotDone},
		{"three replicas lost the race", api(10164), journal.ErrConflict, journal.NotDone},
		{"message id in process", api(10158), nil, journal.Unknown},
		{"store refused", api(10077), journal.ErrFull, journal.NotDone},
		{"account is full", api(10002), journal.ErrFull, journal.NotDone},
		{"no resources", api(10023), journal.ErrFull, journal.NotDone},
		{"no storage", api(10047), journal.ErrFull, journal.NotDone},
		{"message too large", api(10054), journal.ErrTooLarge, journal.NotDone},
		{"payload too large", nats.ErrMaxPayload, journal.ErrTooLarge, journal.NotDone},
		{"stream is gone", api(10059), nil, journal.Unknown},
		{"stream is sealed", api(10109), nil, journal.Unknown},
		{"sequences do not match", api(10063), nil, journal.Unknown},
		{"no answer in time", context.DeadlineExceeded, nil, journal.Unknown},
		{"given up", context.Canceled, nil, journal.Unknown},
		{"nobody there", nats.ErrNoResponders, nil, journal.Unknown},
		{"no stream there", jetstream.ErrNoStreamResponse, nil, journal.Unknown},
		{"connection lost", nats.ErrDisconnected, nil, journal.Unknown},
		{"connection closed", nats.ErrConnectionClosed, nil, journal.Unknown},
		{"not connected", nats.ErrReconnectBufExceeded, nil, journal.Unknown},
		{"nonsense", jetstream.ErrInvalidJSAck, nil, journal.Unknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := publishError(t.Context(), tt.said)
			if tt.want != nil && !errors.Is(got, tt.want) {
				t.Errorf("publishError(%v) = %v, want %v", tt.said, got, tt.want)
			}
			if o := journal.OutcomeOf(got); o != tt.outcome {
				t.Errorf("OutcomeOf(publishError(%v)) = %v, want %v", tt.said, o, tt.outcome)
			}
			if !errors.Is(got, tt.said) {
				t.Errorf("publishError(%v) = %v, the cause is lost", tt.said, got)
			}
		})
	}
}

// An append that is under way when its handle is closed may have been stored.
func TestPublishErrorWhenClosedMeanwhile(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errClosedMeanwhile)
	got := publishError(ctx, context.Canceled)
	if o := journal.OutcomeOf(got); o != journal.Unknown {
		t.Errorf("OutcomeOf(%v) = %v, want unknown", got, o)
	}
}

func TestCheckVersion(t *testing.T) {
	tests := []struct {
		version string
		want    string // of the error; "" for none
	}{
		{"2.14.4", ""},
		{"2.14.10", ""},
		{"2.15.2", ""},
		{"v2.15.0", ""},
		{"3.0.0", ""},
		{"2.15.0-RC.1", ""},
		{"2.14.3", "2.14.4 or newer"},
		{"2.9.99", "2.14.4 or newer"},
		{"1.99.99", "2.14.4 or newer"},
		{"", "want three numbers"},
		{"2.15", "want three numbers"},
		{"2.x.1", "want three numbers"},
	}
	for _, tt := range tests {
		err := checkVersion(tt.version)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("checkVersion(%q) = %v, want %q", tt.version, err, tt.want)
		}
	}
}

func TestWhereKeepsSecrets(t *testing.T) {
	tests := []struct {
		cfg  Config
		want string
	}{
		{Config{URL: "nats://h1:4222"}, "h1:4222"},
		{Config{URL: "nats://u:secret@h1:4222, nats://u:secret@h2:4222"}, "h1:4222,h2:4222"},
		{Config{URL: "tls://token@h1"}, "h1"},
		{Config{Context: "prod"}, "context prod"},
	}
	for _, tt := range tests {
		if got := where(tt.cfg); got != tt.want {
			t.Errorf("where(%q) = %q, want %q", tt.cfg.URL, got, tt.want)
		}
	}
}

func TestConfigFaultsAreReportedTogether(t *testing.T) {
	_, err := Open(t.Context(), Config{Stream: "a.b", Cert: "x", Replicas: 9, AckTimeout: -time.Second})
	for _, want := range []string{`stream name "a.b"`, "0 of URL, Context, InProcess and Conn", "both Cert and Key", "9 replicas", "timeout -1s"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open = %v, want a word about %q", err, want)
		}
	}
}

func TestSurvives(t *testing.T) {
	tests := []struct {
		replicas int
		sync     bool
		want     string
	}{
		{1, false, "process"},
		{1, true, "process, machine"},
		{2, true, "process, machine"},
		{3, false, "process, disk, node"},
		{3, true, "process, machine, disk, node"},
		{5, true, "process, machine, disk, node"},
	}
	for _, tt := range tests {
		if got := survives(tt.replicas, tt.sync).String(); got != tt.want {
			t.Errorf("survives(%d, %v) = %q, want %q", tt.replicas, tt.sync, got, tt.want)
		}
	}
}

func TestReconnectDelayIsShort(t *testing.T) {
	for rounds := range 70 {
		if d := reconnectDelay(rounds); d < 10*time.Millisecond || d > time.Second {
			t.Errorf("reconnectDelay(%d) = %v, want 10 ms to 1 s", rounds, d)
		}
	}
}
