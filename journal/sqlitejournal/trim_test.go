package sqlitejournal_test

import (
	"context"
	"errors"
	"testing"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/sqlitejournal"
)

// many makes a journal of three tenures with more entries than a trim removes at
// once, dead batches and void fences among them.
func many(t *testing.T, j *sqlitejournal.Journal) *journaltest.Pen {
	t.Helper()
	p := journaltest.NewPen("a")
	for epoch := range 3 {
		must(t, p.Fence(t.Context(), j, journal.Epoch(epoch+1)))
		for i := range 500 {
			must(t, p.Append(t.Context(), j, journaltest.Records(i%3, 8)...))
			if i%100 == 50 && epoch > 0 {
				c := p.Cursor()
				c.Epoch--
				put(t, j, p, journaltest.Batch(c, journaltest.Records(2, 8)...))
				put(t, j, p, journal.AppendFence(nil, 1, "z"))
			}
		}
	}
	return p
}

// put stores an entry whatever it is.
func put(t *testing.T, j *sqlitejournal.Journal, p *journaltest.Pen, data []byte) {
	t.Helper()
	pos, err := j.Import(t.Context(), p.Cursor().Pos, data)
	must(t, err)
	must(t, p.Take(journal.Entry{Pos: pos, Data: data}))
}

// What is trimmed is gone from the table, in pieces; positions are not used again,
// the newest record stays, and the fence is known.
func TestTrim(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	j := openAt(t, path, sqlitejournal.Config{})
	other := openAt(t, path, sqlitejournal.Config{Name: "other"})
	others := journaltest.Write(t, other, 3)
	p := many(t, j)
	all := p.Entries()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.Trim(ended, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("Trim with an ended context = %v", err)
	}
	wantEntries(t, j, 0, all)

	must(t, j.Trim(t.Context(), 1200))
	wantEntries(t, j, 1200, all[1200:])
	if _, err := drain(t.Context(), j, 1199); !errors.Is(err, journal.ErrTrimmed) {
		t.Errorf("Follow from before = %v, want ErrTrimmed", err)
	}
	c := foreign(t, path)
	var rows, bytes int64
	must(t, c.QueryRowContext(t.Context(), "SELECT count(*), sum(length(data)) FROM entries WHERE id >> 43 = 1").Scan(&rows, &bytes))
	end, err := j.End(t.Context())
	must(t, err)
	if rows != int64(len(all)-1200) || end.Bytes != bytes || end.First != 1200 {
		t.Errorf("%d rows with %d bytes are left, want %d; the end says %d bytes, first %d", rows, bytes, len(all)-1200, end.Bytes, end.First)
	}

	must(t, j.Trim(t.Context(), p.Cursor().Pos+1000))
	closing(t, j)
	j = openAt(t, path, sqlitejournal.Config{})
	if end, err = j.End(t.Context()); err != nil || end.Seq != p.Cursor().Seq || end.First == 0 {
		t.Errorf("after a trim of all: %+v, %v", end, err)
	}
	left, err := drain(t.Context(), j, end.First)
	if err != nil || len(left) == 0 || len(left) > 3 {
		t.Errorf("%d entries are left, %v; want the newest record and no more than a barrier behind it", len(left), err)
	}
	if pos, err := j.Fence(t.Context(), 3, "a"); err != nil || pos != p.Cursor().Fence {
		t.Errorf("the open fence again: %d, %v, want %d", pos, err, p.Cursor().Fence)
	}
	must(t, p.Append(t.Context(), j, journaltest.Records(1, 8)...))
	if p.Cursor().Pos != end.Pos+1 {
		t.Errorf("the next position is %d, want %d", p.Cursor().Pos, end.Pos+1)
	}
	wantEntries(t, other, 0, others)
}

// A journal without records is trimmed too, and its fence stays known.
func TestTrimWithoutRecords(t *testing.T) {
	path := newPath(t)
	j := openAt(t, path, sqlitejournal.Config{})
	must(t, j.Trim(t.Context(), 5))
	_, err := j.Fence(t.Context(), 1, "a")
	must(t, err)
	must(t, j.Trim(t.Context(), 5))
	if pos, err := j.Fence(t.Context(), 1, "a"); err != nil || pos != 1 {
		t.Errorf("the open fence after it was trimmed: %d, %v", pos, err)
	}
	if _, err := j.Fence(t.Context(), 1, "b"); !errors.Is(err, journal.ErrFenced) {
		t.Errorf("another owner = %v, want ErrFenced", err)
	}
}

// From where Locate leads, a Reader reaches each record of each place, also when
// the beginning is gone; and it leads near to it.
func TestLocate(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	j := openAt(t, path, sqlitejournal.Config{})
	p := many(t, j)
	end := p.Cursor()
	for _, trim := range []journal.Position{0, 777} {
		must(t, j.Trim(t.Context(), trim))
		oldest := oldestLeft(t, p, trim)
		for seq := journal.Seq(1); seq <= end.Seq+1; seq += 37 {
			for _, target := range []journal.Target{{Seq: seq}, {Time: journal.Time(seq)}} { // a record's time is its seq here
				c, err := j.Locate(t.Context(), target)
				must(t, err)
				if seq >= oldest && (c.Seq >= seq || seq-c.Seq > 3) {
					t.Fatalf("Locate %+v stands after seq %d", target, c.Seq)
				}
				readOn(t, j, c, max(seq, oldest), end)
			}
		}
	}
	if c, err := openAt(t, path, sqlitejournal.Config{Name: "empty"}).Locate(t.Context(), journal.Target{Seq: 1}); err != nil || c != (journal.Cursor{}) {
		t.Errorf("Locate in an empty journal = %+v, %v", c, err)
	}
}

// oldestLeft returns the first record of the first live batch behind a position.
func oldestLeft(t *testing.T, p *journaltest.Pen, trimmed journal.Position) journal.Seq {
	t.Helper()
	var track journal.Tracker
	var b journal.Batch
	for _, e := range p.Entries() {
		verdict, _, err := track.Take(e, &b)
		must(t, err)
		if e.Pos > trimmed && verdict == journal.Live {
			return b.First
		}
	}
	return 0
}

// readOn reads from a cursor and expects the record seq, unless it is behind the
// end, and then the end.
func readOn(t *testing.T, j journal.Journal, from journal.Cursor, seq journal.Seq, end journal.Cursor) {
	t.Helper()
	r := journal.NewReader(j, journal.ReaderConfig{From: from})
	defer r.Close()
	var it journal.Item
	met := seq > end.Seq
	for n := 0; r.Cursor().Pos < end.Pos && (!met || n < 5); n++ {
		must(t, r.Next(t.Context(), &it))
		met = met || it.Verdict == journal.Live && it.Batch.First <= seq && it.Batch.Last() >= seq
	}
	if !met {
		t.Fatalf("from %+v record %d was not met", from, seq)
	}
}

// Pages are read one after the other: by bytes, an entry larger than one, and by
// rows.
func TestPages(t *testing.T) {
	t.Parallel()
	j := openAt(t, newPath(t), sqlitejournal.Config{})
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	for _, size := range []int{300_000, 300_000, 300_000, 300_000, 5 << 20, 1, 1<<20 - 500, 600, 1} {
		must(t, p.Append(t.Context(), j, journaltest.Records(1, size)...))
	}
	wantEntries(t, j, 0, p.Entries())
	for range 4200 {
		must(t, p.Append(t.Context(), j))
	}
	wantEntries(t, j, 0, p.Entries())
	wantEntries(t, j, p.Cursor().Pos-4096, p.Entries()[len(p.Entries())-4096:])
}
