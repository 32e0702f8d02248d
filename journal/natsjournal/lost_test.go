package natsjournal_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"understudy.dev/internal/natsserver"
	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/natsjournal"
)

// A group is a primary and a standby of one stream, each with a handle of its own,
// both caught up.
type group struct {
	primary, standby *natsjournal.Journal
	reader           *journal.Reader // of the standby
	writer           *journal.Writer
}

func newGroup(t *testing.T, primary, standby *natsjournal.Journal) *group {
	t.Helper()
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), primary, 1))
	for range 3 {
		must(t, p.Append(t.Context(), primary, journaltest.Records(2, 8)...))
	}
	must(t, p.Fence(t.Context(), primary, 2))
	for range 3 {
		must(t, p.Append(t.Context(), primary, journaltest.Records(2, 8)...))
	}
	g := &group{primary: primary, standby: standby, writer: journal.NewWriter(primary, p.Cursor(), journal.WriterConfig{})}
	g.reader = journal.NewReader(standby, journal.ReaderConfig{})
	t.Cleanup(g.reader.Close)
	g.read(t, p.Cursor().Pos)
	return g
}

// read reads until the standby is at pos.
func (g *group) read(t *testing.T, pos journal.Position) {
	t.Helper()
	var it journal.Item
	for g.reader.Cursor().Pos < pos {
		must(t, g.reader.Next(t.Context(), &it))
	}
}

// write appends one record.
func (g *group) write(ctx context.Context) error {
	b := g.writer.NewBuilder()
	r := journaltest.Records(1, 8)[0]
	if err := b.Add(&r); err != nil {
		return err
	}
	return g.writer.Append(ctx, b, journal.Digest{})
}

// until is long enough for a slow machine and too short for what believes only
// after LostAfter.
func until(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// fails reads until the reader fails.
func fails(ctx context.Context, r *journal.Reader) error {
	var it journal.Item
	for {
		if err := r.Next(ctx, &it); err != nil {
			return err
		}
	}
}

func wantLost(t *testing.T, who string, err error) {
	t.Helper()
	if !errors.Is(err, journal.ErrLost) || !strings.Contains(err.Error(), "is gone") || !strings.Contains(err.Error(), "stop all of them") {
		t.Errorf("%s: err = %v, want %v with what was found and what to do", who, err, journal.ErrLost)
	}
}

// A stream that is purged under a running primary and a running standby is lost
// to both: the end that the server compares has not moved.
func TestPurgeIsFound(t *testing.T) {
	tests := []struct {
		name  string
		purge []jetstream.StreamPurgeOpt
	}{
		{"everything", nil},
		{"all batches", []jetstream.StreamPurgeOpt{jetstream.WithPurgeSubject("understudy.TEST.data")}},
		{"all fences", []jetstream.StreamPurgeOpt{jetstream.WithPurgeSubject("understudy.TEST.epoch")}},
		{"all up to the newest fence", []jetstream.StreamPurgeOpt{jetstream.WithPurgeSequence(6)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := startServer(t, natsserver.Config{})
			g := newGroup(t, open(t, natsjournal.Config{InProcess: srv, Create: true}), open(t, natsjournal.Config{InProcess: srv}))
			s, err := jetStream(t, srv).Stream(t.Context(), "TEST")
			must(t, err)
			cursor := g.reader.Cursor()
			must(t, s.Purge(t.Context(), tt.purge...))

			wantLost(t, "reader that follows", fails(until(t), g.reader))
			again := journal.NewReader(g.standby, journal.ReaderConfig{From: cursor})
			defer again.Close()
			wantLost(t, "reader that resumes", fails(until(t), again))
			_, err = g.primary.End(t.Context())
			wantLost(t, "sample of the end", err)
			wantLost(t, "append", g.write(until(t)))
			_, err = g.primary.Fence(t.Context(), 3, "b")
			wantLost(t, "fence", err)
		})
	}
}

// A writer whose handle nobody samples finds a purge with its next append: the
// server refuses it, or the handle has not looked for a while.
func TestPurgeIsFoundByTheNextAppend(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	g := newGroup(t, open(t, natsjournal.Config{InProcess: srv, Create: true}), open(t, natsjournal.Config{InProcess: srv}))
	s, err := jetStream(t, srv).Stream(t.Context(), "TEST")
	must(t, err)
	must(t, s.Purge(t.Context()))
	wantLost(t, "append", g.write(until(t)))
	info, err := s.Info(t.Context())
	must(t, err)
	if info.State.Msgs != 0 {
		t.Errorf("%d messages were stored after the purge", info.State.Msgs)
	}
}

// What a trim leaves is enough: neither the primary nor the standby takes it for
// loss, however much is trimmed.
func TestTrimIsNotLoss(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	g := newGroup(t, open(t, natsjournal.Config{InProcess: srv, Create: true}), open(t, natsjournal.Config{InProcess: srv}))
	for range 3 {
		must(t, open(t, natsjournal.Config{InProcess: srv}).Trim(t.Context(), g.writer.Cursor().Pos))
		cursor := g.reader.Cursor()
		var it journal.Item
		for range 3 { // heartbeats: each is a look at the stream
			must(t, g.reader.Next(until(t), &it))
		}
		for _, j := range []*natsjournal.Journal{g.primary, g.standby} {
			end, err := j.End(t.Context())
			must(t, err)
			if end.First == 0 {
				t.Fatal("nothing was trimmed")
			}
		}
		must(t, g.write(until(t)))
		g.read(t, g.writer.Cursor().Pos)
		again := journal.NewReader(g.standby, journal.ReaderConfig{From: cursor})
		must(t, again.Next(until(t), &it))
		again.Close()
	}
}
