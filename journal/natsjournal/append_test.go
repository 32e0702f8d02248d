package natsjournal_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"understudy.dev/internal/natsserver"
	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/natsjournal"
)

// headers returns the headers of the message at pos as they are stored.
func headers(t *testing.T, js jetstream.JetStream, pos journal.Position) nats.Header {
	t.Helper()
	s, err := js.Stream(t.Context(), "TEST")
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), uint64(pos))
	if err != nil {
		t.Fatal(err)
	}
	own := maps.Clone(m.Header)
	for _, added := range []string{"Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"} {
		delete(own, added)
	}
	return own
}

// wantHeader checks that a message was stored with one header and no other. The
// server ignores a header whose name has another case, and with it the fence.
func wantHeader(t *testing.T, got nats.Header, name, value string) {
	t.Helper()
	if keys := slices.Collect(maps.Keys(got)); len(keys) != 1 || keys[0] != name || !slices.Equal(got[name], []string{value}) {
		t.Errorf("headers = %v, want %s: %s and no other", got, name, value)
	}
}

func TestAppendExpectsTheEnd(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	j := open(t, natsjournal.Config{InProcess: srv, Create: true})
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	must(t, p.Append(t.Context(), j, journaltest.Records(1, 8)...))
	got := headers(t, jetStream(t, srv), p.Cursor().Pos)
	for name, value := range map[string]string{
		"Nats-Expected-Last-Sequence": "1", "Nats-Expected-Last-Subject-Sequence": "1",
		"Nats-Expected-Last-Subject-Sequence-Subject": "understudy.TEST.epoch",
	} {
		if !slices.Equal(got[name], []string{value}) || len(got) != 3 {
			t.Errorf("headers = %v, want %s: %s", got, name, value)
		}
	}

	// The server itself refuses: another writer of the same epoch moved the end.
	late := journaltest.Batch(p.Cursor(), journaltest.Records(1, 8)...)
	prev := p.Cursor().Pos
	must(t, p.Append(t.Context(), j, journaltest.Records(2, 8)...))
	_, err := j.Append(t.Context(), 1, prev, late)
	wantCode(t, err, journal.ErrConflict, jetstream.JSErrCodeStreamWrongLastSequence)
}

func TestFenceExpectsTheLastFence(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	j := open(t, natsjournal.Config{InProcess: srv, Create: true})
	p := journaltest.NewPen("a")
	for epoch, want := range []string{"0", "1"} {
		must(t, p.Fence(t.Context(), j, journal.Epoch(epoch+1)))
		wantHeader(t, headers(t, jetStream(t, srv), p.Cursor().Pos), "Nats-Expected-Last-Subject-Sequence", want)
		must(t, p.Append(t.Context(), j, journaltest.Records(1, 8)...))
		must(t, p.Append(t.Context(), j, journaltest.Records(1, 8)...))
		if want == "0" {
			continue
		}
		if got := p.Cursor().Fence; got != 4 {
			t.Errorf("second fence is at %d, want 4", got)
		}
	}
}

// wantCode checks that a refusal is one of the journal's and still holds what
// JetStream said.
func wantCode(t *testing.T, err, want error, code jetstream.ErrorCode) {
	t.Helper()
	var api *jetstream.APIError
	if !errors.Is(err, want) || !errors.As(err, &api) || api.ErrorCode != code {
		t.Errorf("err = %v, want %v because of code %d", err, want, code)
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// A full stream refuses appends and fences, and goes on when there is room.
func TestFull(t *testing.T) {
	for _, replicas := range []int{1, 3} {
		t.Run(map[int]string{1: "one replica", 3: "three replicas"}[replicas], func(t *testing.T) {
			var srv *natsserver.Server
			if replicas == 1 {
				srv = startServer(t, natsserver.Config{})
			} else {
				srv = startCluster(t).Servers[0]
			}
			js := jetStream(t, srv)
			cfg := good("TEST")
			cfg.MaxMsgs, cfg.Replicas = 3, replicas
			_, err := js.CreateStream(t.Context(), cfg)
			must(t, err)
			j := open(t, natsjournal.Config{InProcess: srv})
			p := journaltest.NewPen("a")
			must(t, p.Fence(t.Context(), j, 1))
			must(t, p.Append(t.Context(), j, journaltest.Records(1, 8)...))
			must(t, p.Append(t.Context(), j, journaltest.Records(1, 8)...))

			refused := p.Append(t.Context(), j, journaltest.Records(1, 8)...)
			wantCode(t, refused, journal.ErrFull, 10077)
			_, err = j.Fence(t.Context(), 2, "b")
			wantCode(t, err, journal.ErrFull, 10077)
			if o := journal.OutcomeOf(refused); o != journal.NotDone {
				t.Errorf("OutcomeOf(%v) = %v, want not done", refused, o)
			}
			if notes := strings.Join(j.Describe().Notes, "; "); !strings.Contains(notes, "3 entries") {
				t.Errorf("notes = %q, want the limit", notes)
			}
			cfg.MaxMsgs = 100
			_, err = js.UpdateStream(t.Context(), cfg)
			must(t, err)
			must(t, p.Append(t.Context(), j, journaltest.Records(1, 8)...))
		})
	}
}

// The limit of a message bounds a batch, and the server agrees about it.
func TestMaxBatchOfSmallMessages(t *testing.T) {
	tests := []struct {
		name       string
		maxPayload int32
		maxMsgSize int32
		want       int
	}{
		{"server's default", 0, 0, 1<<20 - 4<<10},
		{"smaller payload", 64 << 10, 0, 60 << 10},
		{"larger payload", 4 << 20, 0, 4<<20 - 4<<10},
		{"stream's own limit", 0, 32 << 10, 28 << 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := startServer(t, natsserver.Config{MaxPayload: tt.maxPayload})
			cfg := good("TEST")
			cfg.MaxMsgSize = tt.maxMsgSize
			_, err := jetStream(t, srv).CreateStream(t.Context(), cfg)
			must(t, err)
			j := open(t, natsjournal.Config{InProcess: srv})
			if got := j.Describe().MaxBatch; got != tt.want {
				t.Fatalf("MaxBatch = %d, want %d", got, tt.want)
			}
			p := journaltest.NewPen("a")
			must(t, p.Fence(t.Context(), j, 1))
			must(t, p.Append(t.Context(), j, journaltest.Records(1, tt.want-200)...))
			if err := p.Append(t.Context(), j, journaltest.Records(1, tt.want)...); !errors.Is(err, journal.ErrTooLarge) {
				t.Errorf("append of a batch above %d bytes: err = %v, want %v", tt.want, err, journal.ErrTooLarge)
			}
		})
	}
}

// A server that is gone makes an append unknown, within the time for an
// acknowledgement and without trying again.
func TestAppendWithoutServer(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	j := open(t, natsjournal.Config{URL: srv.ClientURL(), Create: true})
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	srv.Shutdown()
	err := p.Append(t.Context(), j, journaltest.Records(1, 8)...)
	if o := journal.OutcomeOf(err); o != journal.Unknown {
		t.Errorf("append: err = %v, outcome %v, want unknown", err, o)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := j.Fence(ctx, 2, "b"); err == nil || journal.OutcomeOf(err) != journal.Unknown {
		t.Errorf("fence: err = %v, want an unknown outcome", err)
	}
}

// A message that is held up on its way lands after its append was given up. The
// same bytes at the same place then meet a conflict, and what is there is ours.
func TestDelayedAppendLandsLater(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	slow := startProxy(t, srv.ClientURL())
	j := open(t, natsjournal.Config{URL: slow.url(), Create: true, AckTimeout: 200 * time.Millisecond})
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	must(t, p.Append(t.Context(), j, journaltest.Records(1, 8)...))
	c := p.Cursor()
	batch := journaltest.Batch(c, journaltest.Records(3, 8)...)

	slow.hold()
	_, err := j.Append(t.Context(), 1, c.Pos, batch)
	if o := journal.OutcomeOf(err); o != journal.Unknown || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("append of a message that is held up: err = %v, outcome %v, want a time-out", err, o)
	}
	slow.release()
	e := nextEntry(t, j, c.Pos)
	if !bytes.Equal(e.Data, batch) {
		t.Fatalf("entry %d is not the batch that was held up", e.Pos)
	}
	_, err = j.Append(t.Context(), 1, c.Pos, batch)
	wantCode(t, err, journal.ErrConflict, jetstream.JSErrCodeStreamWrongLastSequence)
}

// A fence shuts out what is still on its way.
func TestDelayedAppendMeetsFence(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	slow := startProxy(t, srv.ClientURL())
	old := open(t, natsjournal.Config{URL: slow.url(), Create: true, AckTimeout: 200 * time.Millisecond})
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), old, 1))
	c := p.Cursor()
	slow.hold()
	_, err := old.Append(t.Context(), 1, c.Pos, journaltest.Batch(c, journaltest.Records(3, 8)...))
	if o := journal.OutcomeOf(err); o != journal.Unknown {
		t.Fatalf("append of a message that is held up: err = %v, outcome %v, want unknown", err, o)
	}
	other := open(t, natsjournal.Config{InProcess: srv})
	pos, err := other.Fence(t.Context(), 2, "b")
	must(t, err)
	slow.release()
	must(t, ignoreUnknown(old.Fence(t.Context(), 2, "b"))) // comes after the held message on the same connection
	end, err := other.End(t.Context())
	must(t, err)
	if end.Pos != pos {
		t.Errorf("the journal ends at %d, want the fence at %d: the old append landed", end.Pos, pos)
	}
	_, err = old.Append(t.Context(), 1, pos, journaltest.Batch(c, journaltest.Records(3, 8)...))
	if !errors.Is(err, journal.ErrFenced) {
		t.Errorf("append in the old epoch after the fence: err = %v, want %v", err, journal.ErrFenced)
	}
}

func ignoreUnknown(_ journal.Position, err error) error {
	if journal.OutcomeOf(err) == journal.Unknown {
		return nil
	}
	return err
}

// nextEntry waits for the entry after a position.
func nextEntry(t *testing.T, j journal.Journal, after journal.Position) journal.Entry {
	t.Helper()
	for {
		for e, err := range j.Follow(t.Context(), after) {
			if err != nil {
				break // it ends with an error while the server is away
			}
			if len(e.Data) > 0 {
				return e
			}
		}
		if t.Context().Err() != nil {
			t.Fatal("the test ended before there was an entry")
		}
	}
}

// A handle that was asked about a place beyond the end knows nothing about what
// comes to lie there: a fence that takes it shuts the old epoch out.
func TestStaleEpochAfterAskingBeyondTheEnd(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	j := open(t, natsjournal.Config{InProcess: srv, Create: true})
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	must(t, p.Append(t.Context(), j, journaltest.Records(1, 8)...))
	old := p.Cursor()
	batch := journaltest.Batch(old, journaltest.Records(1, 8)...)
	stale := open(t, natsjournal.Config{InProcess: srv})
	for beyond := range journal.Position(4) {
		if _, err := stale.Append(t.Context(), 1, old.Pos+beyond+1, batch); !errors.Is(err, journal.ErrConflict) {
			t.Fatalf("append after %d, the end is %d: err = %v, want %v", old.Pos+beyond+1, old.Pos, err, journal.ErrConflict)
		}
	}
	next := journaltest.NewPen("b")
	for _, e := range p.Entries() {
		must(t, next.Take(e))
	}
	must(t, next.Fence(t.Context(), j, 2))
	for range 2 {
		_, err := stale.Append(t.Context(), 1, next.Cursor().Pos, batch)
		if !errors.Is(err, journal.ErrFenced) {
			t.Fatalf("append in the old epoch after %d: err = %v, want %v", next.Cursor().Pos, err, journal.ErrFenced)
		}
		must(t, next.Append(t.Context(), j, journaltest.Records(1, 8)...))
	}
}

// An epoch that nobody opened is refused: what it wrote could not be read.
func TestAppendInUnopenedEpoch(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	j := open(t, natsjournal.Config{InProcess: srv, Create: true})
	c := journal.Cursor{Epoch: 7, Owner: "a"}
	for prev := range journal.Position(2) {
		_, err := j.Append(t.Context(), 7, prev, journaltest.Batch(c, journaltest.Records(1, 8)...))
		if !errors.Is(err, journal.ErrEpoch) {
			t.Errorf("append in an epoch that was never opened: err = %v, want %v", err, journal.ErrEpoch)
		}
		must(t, errorOf(j.Fence(t.Context(), 1, "a")))
	}
}
