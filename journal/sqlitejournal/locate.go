package sqlitejournal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sort"

	"understudy.dev/journal"
)

// Locate implements journal.Locator. Each row states the last live record up to it
// and that one's time, and both grow, so the place is searched by halves. The
// cursor stands after the last live batch with records before the target; if there
// is none left, before the oldest live batch, or, in a journal that was not
// trimmed, at the start.
//
// In a cursor before the oldest batch, Prev is Pos: the entry there is gone, or the
// chain before it is, so that a Reader goes on after it without meeting it again.
func (j *Journal) Locate(ctx context.Context, target journal.Target) (c journal.Cursor, err error) {
	err = j.read(ctx, func(r *reader) (err error) {
		c, err = j.locate(r, target)
		return err
	})
	if err != nil {
		return journal.Cursor{}, fmt.Errorf("locate seq %d, time %d: %w", target.Seq, target.Time, err)
	}
	return c, nil
}

func (j *Journal) locate(r *reader, target journal.Target) (journal.Cursor, error) {
	h, err := r.head(j)
	if err != nil {
		return journal.Cursor{}, err
	}
	s := search{reader: r, j: j, head: h}
	last := s.last(func(seq journal.Seq, time journal.Time) bool { return before(seq, time, target) })
	if seq, _ := s.state(last); s.err == nil && last > h.trimmed && seq > 0 {
		at := s.last(func(other journal.Seq, _ journal.Time) bool { return other < seq }) + 1
		b, live := s.batch(at)
		if s.err == nil && live && b.Count > 0 && b.Last() == seq && before(seq, b.End, target) {
			return b.after(), nil
		}
	}
	if s.err != nil || h.trimmed == 0 {
		return journal.Cursor{}, s.err
	}
	return s.oldest()
}

// before reports whether a record lies before the target.
func before(seq journal.Seq, time journal.Time, target journal.Target) bool {
	if target.Seq != 0 {
		return seq < target.Seq
	}
	return time < target.Time
}

// A search looks at rows. The first error ends it.
type search struct {
	*reader
	j    *Journal
	head head
	dec  journal.Decoder
	err  error
}

// last returns the last position whose state is low, or trimmed if none is.
func (s *search) last(low func(journal.Seq, journal.Time) bool) journal.Position {
	n := int(s.head.end - s.head.trimmed)
	return s.head.trimmed + journal.Position(sort.Search(n, func(i int) bool {
		seq, time := s.state(s.head.trimmed + 1 + journal.Position(i))
		return s.err != nil || !low(seq, time)
	}))
}

// state returns what the row at a position states.
func (s *search) state(pos journal.Position) (seq journal.Seq, time journal.Time) {
	if s.err != nil || pos <= s.head.trimmed {
		return 0, 0
	}
	s.scan(pos, s.reader.state.QueryRowContext(background, s.j.idOf(pos)), signed[journal.Seq]{&seq}, &time)
	return seq, time
}

func (s *search) scan(pos journal.Position, row *sql.Row, to ...any) {
	err := row.Scan(to...)
	if errors.Is(err, sql.ErrNoRows) {
		err = s.j.corrupt(pos, errMissing)
	}
	if err != nil {
		s.err = s.j.corruptUnless(pos, err)
	}
}

// A batchAt is a batch, where it lies, and where its epoch was opened.
type batchAt struct {
	journal.Batch
	pos, fence journal.Position
}

// batch returns the batch at a position, and whether there is one and it is live.
func (s *search) batch(pos journal.Position) (b batchAt, live bool) {
	var seq journal.Seq
	var time journal.Time
	var data []byte
	s.scan(pos, s.entry.QueryRowContext(background, s.j.idOf(pos)), signed[journal.Seq]{&seq}, &time, &data)
	if s.err != nil || journal.IsFence(data) {
		return b, false
	}
	if err := s.dec.Batch(data, &b.Batch); err != nil {
		s.err = s.j.corrupt(pos, err)
		return b, false
	}
	var f journal.Fence
	f, b.fence = s.openAt(pos)
	b.pos, live = pos, f.Epoch == b.Epoch && f.Owner == b.Owner
	if live && (seq != b.Last() || b.Count > 0 && time != b.End) {
		s.err = s.j.corrupt(pos, fmt.Errorf("%w: the row states seq %d and time %d, the batch %d and %d", journal.ErrMalformed, seq, time, b.Last(), b.End))
	}
	return b, live && s.err == nil
}

// openAt returns the fence that is open at a position.
func (s *search) openAt(pos journal.Position) (f journal.Fence, at journal.Position) {
	if s.err != nil {
		return f, 0
	}
	var id int64
	var data []byte
	err := s.fence.QueryRowContext(background, s.j.idOf(0), s.j.idOf(pos)).Scan(&id, &data)
	if errors.Is(err, sql.ErrNoRows) {
		return f, 0
	}
	if err == nil {
		at = s.j.positionOf(id)
		if f, err = journal.DecodeFence(data); err != nil {
			err = s.j.corrupt(at, err)
		}
	}
	s.err = err
	return f, at
}

// oldest returns the cursor before the oldest live batch that is left, or none if
// there is none: reading from the start then says that entries are gone.
func (s *search) oldest() (journal.Cursor, error) {
	for pos := s.head.trimmed + 1; pos <= s.head.end && s.err == nil; pos++ {
		b, live := s.batch(pos)
		if !live {
			continue
		}
		next := b
		for after := pos + 1; next.Count == 0 && after <= s.head.end && s.err == nil; after++ {
			if later, live := s.batch(after); live {
				next = later
			}
		}
		return b.before(next.Time), s.err
	}
	return journal.Cursor{}, s.err
}

func (b *batchAt) after() journal.Cursor { return b.After(b.pos-1, b.pos, b.fence) }

func (b *batchAt) before(next journal.Time) journal.Cursor { return b.Before(b.pos-1, b.fence, next) }
