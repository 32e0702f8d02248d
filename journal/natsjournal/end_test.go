package natsjournal_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"understudy.dev/internal/natsserver"
	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/natsjournal"
)

// wantEnd compares a sample with what was written. When and Bytes are checked for
// being there.
func wantEnd(t *testing.T, j *natsjournal.Journal, want journal.End) {
	t.Helper()
	got, err := j.End(t.Context())
	must(t, err)
	if got.When.IsZero() || got.Pos > 0 && got.Bytes <= 0 {
		t.Errorf("End = %+v, want a time and a size", got)
	}
	got.When, got.Bytes = want.When, want.Bytes
	if got != want {
		t.Errorf("End = %+v, want %+v", got, want)
	}
}

// A dead batch after a fence does not count, and neither do empty batches for the
// time, however many there are.
func TestEndLooksBehindDeadAndEmptyBatches(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	j := open(t, natsjournal.Config{InProcess: srv, Create: true})
	js := jetStream(t, srv)
	p := journaltest.NewPen("a")
	wantEnd(t, j, journal.End{})
	must(t, p.Fence(t.Context(), j, 1))
	wantEnd(t, j, journal.End{Pos: 1, Epoch: 1})
	must(t, p.Append(t.Context(), j)) // a barrier before any record
	wantEnd(t, j, journal.End{Pos: 2, Epoch: 1})
	must(t, p.Append(t.Context(), j, journaltest.Records(3, 8)...))
	newest := p.Cursor().Time
	wantEnd(t, j, journal.End{Pos: 3, Epoch: 1, Seq: 3, Time: newest})
	for range 3 {
		must(t, p.Append(t.Context(), j))
	}
	stale := p.Cursor()
	must(t, p.Fence(t.Context(), j, 2))
	for range 2 {
		_, err := js.Publish(t.Context(), "understudy.TEST.data", journaltest.Batch(stale, journaltest.Records(5, 8)...))
		must(t, err)
	}
	want := journal.End{Pos: 9, Epoch: 2, Seq: 3, Time: newest}
	wantEnd(t, j, want)
	wantEnd(t, j, want) // from memory
	wantEnd(t, open(t, natsjournal.Config{InProcess: srv}), want)
}

func TestEndOfForeignMessage(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	j := open(t, natsjournal.Config{InProcess: srv, Create: true})
	journaltest.Write(t, j, 1)
	_, err := jetStream(t, srv).Publish(t.Context(), "understudy.TEST.data", []byte("hello"))
	must(t, err)
	_, err = j.End(t.Context())
	wantCorrupt(t, "end", err, 3, journal.ErrForeign)
}

// Trimming leaves the fences, says where following can begin, and never lets an
// old epoch be opened again.
func TestTrim(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	j := open(t, natsjournal.Config{InProcess: srv, Create: true})
	p := journaltest.NewPen("a")
	for epoch := range 3 { // fences at 1, 4 and 7
		must(t, p.Fence(t.Context(), j, journal.Epoch(epoch+1)))
		must(t, p.Append(t.Context(), j, journaltest.Records(1, 8)...))
		must(t, p.Append(t.Context(), j, journaltest.Records(1, 8)...))
	}
	c := p.Cursor()
	end := journal.End{Pos: 9, Epoch: 3, Seq: c.Seq, Time: c.Time}
	tests := []struct {
		through, first journal.Position
	}{
		{0, 0},
		{1, 0}, // a fence: nothing goes
		{2, 2},
		{3, 3}, // the fence behind it can still be followed from
		{6, 6},
		{5, 6}, // less than before
		{9, 8}, // the newest record stays
		{99, 8},
	}
	for _, tt := range tests {
		must(t, j.Trim(t.Context(), tt.through))
		end.First = tt.first
		wantEnd(t, j, end)
		wantEnd(t, open(t, natsjournal.Config{InProcess: srv}), end)
		f := follow(t, j, tt.first)
		for pos := tt.first + 1; pos <= 9; pos++ {
			f.want(t, pos)
		}
		for after := journal.Position(0); after < tt.first; after++ {
			f := follow(t, j, after)
			e, err := f.entry()
			for err == nil && journal.IsFence(e.Data) { // fences stay where they are
				e, err = f.entry()
			}
			if !errors.Is(err, journal.ErrTrimmed) {
				t.Errorf("trimmed through %d, followed after %d to %d: err = %v, want %v", tt.through, after, e.Pos, err, journal.ErrTrimmed)
			}
		}
	}
	again := open(t, natsjournal.Config{InProcess: srv})
	if _, err := again.Fence(t.Context(), 2, "b"); !errors.Is(err, journal.ErrFenced) {
		t.Errorf("fence of an old epoch after a trim: err = %v, want %v", err, journal.ErrFenced)
	}
	_, err := again.Append(t.Context(), 2, 9, journaltest.Batch(journal.Cursor{Epoch: 2, Owner: "a"}, journaltest.Records(1, 8)...))
	if !errors.Is(err, journal.ErrFenced) {
		t.Errorf("append in an old epoch after a trim: err = %v, want %v", err, journal.ErrFenced)
	}
	must(t, p.Append(t.Context(), again, journaltest.Records(1, 8)...))
}

func TestTrimIsDenied(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	cfg := good("TEST")
	cfg.DenyPurge = true
	_, err := jetStream(t, srv).CreateStream(t.Context(), cfg)
	must(t, err)
	j := open(t, natsjournal.Config{InProcess: srv})
	journaltest.Write(t, j, 3)
	if err := j.Trim(t.Context(), 2); !errors.Is(err, journal.ErrUnsupported) {
		t.Errorf("Trim = %v, want %v", err, journal.ErrUnsupported)
	}
	if notes := strings.Join(j.Describe().Notes, "; "); !strings.Contains(notes, "cannot be trimmed") {
		t.Errorf("notes = %q, want a word about trimming", notes)
	}
}

func TestDescribe(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	tests := []struct {
		name string
		cfg  natsjournal.Config
		want journal.Survival
		note string
	}{
		{"embedded and synced", natsjournal.Config{InProcess: srv, SyncAlways: true}, journal.SurvivesProcess | journal.SurvivesMachine, "synced before it is acknowledged"},
		{"embedded", natsjournal.Config{InProcess: srv}, journal.SurvivesProcess, "dies with this process"},
		{"elsewhere", natsjournal.Config{URL: srv.ClientURL()}, journal.SurvivesProcess, "not known to sync"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Create = true
			got := open(t, tt.cfg).Describe()
			if got.Backend != "nats" || !got.Fence || got.ReadOnly || !strings.Contains(got.Location, "TEST") {
				t.Errorf("Describe() = %+v, want a nats journal that fences", got)
			}
			if got.Survives != tt.want {
				t.Errorf("survives %v, want %v", got.Survives, tt.want)
			}
			if !slices.ContainsFunc(got.Notes, func(n string) bool { return strings.Contains(n, tt.note) }) {
				t.Errorf("notes = %q, want one with %q", got.Notes, tt.note)
			}
		})
	}
}
