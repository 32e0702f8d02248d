package natsjournal_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"understudy.dev/internal/natsserver"
	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/natsjournal"
)

// A told journal is one whose cursors are known, from reading it from the start.
type told struct {
	*natsjournal.Journal
	cursors map[journal.Position]journal.Cursor
	live    []journal.Item // with records or without; their batches are gone
	end     journal.Cursor
}

// tell writes three epochs with batches of several sizes, barriers, and dead
// batches after the second and third fence, and reads it all.
func tell(t *testing.T, srv *natsserver.Server) *told {
	t.Helper()
	j := open(t, natsjournal.Config{InProcess: srv, Create: true})
	p := journaltest.NewPen("a")
	for epoch := range 3 {
		stale := p.Cursor()
		must(t, p.Fence(t.Context(), j, journal.Epoch(epoch+1)))
		if epoch > 0 {
			_, err := jetStream(t, srv).Publish(t.Context(), "understudy.TEST.data", journaltest.Batch(stale, journaltest.Records(4, 8)...))
			must(t, err)
			must(t, p.Take(nextEntry(t, j, p.Cursor().Pos)))
		}
		for i := range 12 {
			must(t, p.Append(t.Context(), j, journaltest.Records(i%4, 8)...)) // every fourth is a barrier
		}
	}
	s := &told{Journal: j, cursors: map[journal.Position]journal.Cursor{0: {}}, end: p.Cursor()}
	r := journal.NewReader(j, journal.ReaderConfig{})
	defer r.Close()
	for r.Cursor().Pos < p.Cursor().Pos {
		var it journal.Item
		must(t, r.Next(t.Context(), &it))
		s.cursors[it.Pos] = it.Cursor
		if it.Verdict == journal.Live {
			s.live = append(s.live, journal.Item{Pos: it.Pos, Batch: journal.Batch{First: it.Batch.First, Count: it.Batch.Count, Time: it.Batch.Time, End: it.Batch.End}})
		}
	}
	return s
}

// readOn reads from a cursor to the end and returns the first live batch.
func (s *told) readOn(t *testing.T, j journal.Journal, from journal.Cursor) journal.Seq {
	t.Helper()
	r := journal.NewReader(j, journal.ReaderConfig{From: from})
	defer r.Close()
	first := journal.Seq(0)
	for r.Cursor().Pos < s.end.Pos {
		var it journal.Item
		must(t, r.Next(until(t), &it))
		if it.Verdict == journal.Live && first == 0 {
			first = it.Batch.First
		}
	}
	if got := r.Cursor(); got.Chain != s.end.Chain || got.Seq != s.end.Seq || got.Time != s.end.Time || got.Fence != s.end.Fence {
		t.Errorf("from %+v read on to %+v, want %+v", from, got, s.end)
	}
	return first
}

// Locate finds the last batch with records before each record and each time,
// with the cursor that reading from the start has there.
func TestLocate(t *testing.T) {
	s := tell(t, startServer(t, natsserver.Config{}))
	check := func(target journal.Target, before func(journal.Batch) bool) {
		t.Helper()
		want := journal.Cursor{}
		for _, it := range s.live {
			if it.Batch.Count > 0 && before(it.Batch) {
				want = s.cursors[it.Pos]
			}
		}
		got, err := s.Locate(t.Context(), target)
		must(t, err)
		if got != want {
			t.Errorf("Locate(%+v) = %+v, want %+v", target, got, want)
		}
	}
	for seq := journal.Seq(0); seq <= s.end.Seq+3; seq++ {
		check(journal.Target{Seq: seq}, func(b journal.Batch) bool { return b.Last() < seq })
	}
	for _, it := range s.live {
		for _, at := range []journal.Time{it.Batch.Time, it.Batch.End, it.Batch.End + 1} {
			check(journal.Target{Time: at}, func(b journal.Batch) bool { return b.End < at })
		}
	}
	c, err := s.Locate(t.Context(), journal.Target{Seq: s.end.Seq - 5})
	must(t, err)
	s.readOn(t, s, c)
}

// However much was trimmed, reading goes on from the oldest batch that is left,
// with every check, though the entry before it is gone.
func TestLocateInATrimmedStream(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	s := tell(t, srv)
	for through := journal.Position(1); through <= s.end.Pos; through++ {
		must(t, s.Trim(t.Context(), through))
		end, err := s.End(t.Context())
		must(t, err)
		var oldest journal.Batch
		for _, it := range s.live {
			if it.Pos > end.First {
				oldest = it.Batch
				break
			}
		}
		for _, target := range []journal.Target{{}, {Seq: 1}, {Seq: oldest.First}, {Time: 1}} {
			c, err := s.Locate(t.Context(), target)
			must(t, err)
			if end.First == 0 && c != (journal.Cursor{}) {
				t.Errorf("nothing trimmed: Locate(%+v) = %+v, want the start", target, c)
			}
			if end.First == 0 || target.Seq == 1 || target.Time > 0 {
				continue // as the first
			}
			if got := s.readOn(t, s, c); got != oldest.First {
				t.Errorf("trimmed through %d: Locate(%+v) = %+v, from where seq %d is read first, want %d", end.First, target, c, got, oldest.First)
			}
			if want := s.cursors[c.Pos]; c.Chain != want.Chain || c.Seq != want.Seq || c.Time < want.Time || c.Fence != want.Fence || c.Epoch != want.Epoch || c.Owner != want.Owner {
				t.Errorf("trimmed through %d: Locate(%+v) = %+v, want %+v", end.First, target, c, want)
			}
		}
		c, err := s.Locate(t.Context(), journal.Target{Seq: s.end.Seq})
		must(t, err)
		s.readOn(t, s, c)
	}
	path := filepath.Join(t.TempDir(), "x.udj")
	exported, err := filejournal.ExportFile(t.Context(), path, s, filejournal.ExportConfig{})
	must(t, err)
	if exported.Chain != s.end.Chain {
		t.Errorf("exported up to %+v, want %+v", exported, s.end)
	}
	a, err := filejournal.OpenArchive(path)
	must(t, err)
	defer a.Close()
	c, err := a.Locate(t.Context(), journal.Target{Seq: 1})
	must(t, err)
	s.readOn(t, a, c)
}

func TestLocateWhereNothingIs(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	j := open(t, natsjournal.Config{InProcess: srv, Create: true})
	for range 2 {
		c, err := j.Locate(t.Context(), journal.Target{Seq: 7})
		must(t, err)
		if c != (journal.Cursor{}) {
			t.Errorf("Locate = %+v, want the start", c)
		}
		must(t, errorOf(j.Fence(t.Context(), 1, "a")))
	}
	if _, err := j.Locate(ended(), journal.Target{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Locate = %v, want %v", err, context.Canceled)
	}
	must(t, j.Close())
	if _, err := j.Locate(t.Context(), journal.Target{}); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("Locate after Close = %v, want %v", err, journal.ErrClosed)
	}
}
