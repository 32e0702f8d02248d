package sqlitejournal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"understudy.dev/journal"
)

// A page is read in one transaction: about pageBytes, since a consumer holds it in
// memory, or one larger entry.
const (
	pageBytes = 1 << 20
	pageRows  = 4096
)

// A reader is a connection that reads, with its statements.
type reader struct {
	conn                              *sql.Conn
	begin, commit                     *sql.Stmt
	headOf, rows, entry, fence, state *sql.Stmt
	version                           *sql.Stmt
	statements                        statements

	page page
}

// newReader opens a connection.
func (j *Journal) newReader() (*reader, error) {
	conn, err := j.db.Conn(background)
	if err != nil {
		return nil, err
	}
	r := &reader{conn: conn}
	r.statements, err = prepare(conn, map[string]**sql.Stmt{
		"BEGIN": &r.begin, "COMMIT": &r.commit, "PRAGMA data_version": &r.version,
		"SELECT " + headColumns + " FROM journals WHERE id = ? AND name = ?":            &r.headOf,
		"SELECT id, data FROM entries WHERE id > ? AND id < ? ORDER BY id LIMIT ?":      &r.rows,
		"SELECT seq, time, data FROM entries WHERE id = ?":                              &r.entry,
		"SELECT seq, time FROM entries WHERE id = ?":                                    &r.state,
		"SELECT id, data FROM fences WHERE id > ? AND id <= ? ORDER BY id DESC LIMIT 1": &r.fence,
	})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return r, nil
}

// Statements of one connection. They must be closed before it: the pool does not
// do so, and SQLite keeps a connection open that has any.
type statements []*sql.Stmt

// prepare prepares a statement for each query, or none.
func prepare(c *sql.Conn, queries map[string]**sql.Stmt) (all statements, err error) {
	for query, to := range queries {
		if *to, err = c.PrepareContext(background, query); err != nil {
			return nil, errors.Join(err, all.close())
		}
		all = append(all, *to)
	}
	return all, nil
}

func (all statements) close() error {
	var errs []error
	for _, s := range all {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

func (r *reader) close() error { return errors.Join(r.statements.close(), r.conn.Close()) }

// reader returns a connection for reading, which giveBack takes back.
func (j *Journal) reader(ctx context.Context) (r *reader, err error) {
	select {
	case r := <-j.idle:
		return r, nil
	default:
	}
	err = j.untilFree(ctx, false, func() (err error) {
		r, err = j.newReader()
		return err
	})
	return r, err
}

// giveBack keeps a reader for the next one who needs it, unless it failed.
func (j *Journal) giveBack(r *reader, failed bool) {
	if !failed && !j.isClosed() {
		select {
		case j.idle <- r:
			if j.isClosed() { // Close may have looked before
				select {
				case r = <-j.idle:
					r.close()
				default:
				}
			}
			return
		default:
		}
	}
	r.close()
}

// read calls f within a transaction that reads, after a look at the files.
func (j *Journal) read(ctx context.Context, f func(r *reader) error) error {
	if err := j.usable(ctx); err != nil {
		return err
	}
	r, err := j.reader(ctx)
	if err == nil {
		err = r.within(ctx, j, func() error { return f(r) })
		j.giveBack(r, err != nil)
	}
	if lost := j.lost(); lost != nil {
		return lost
	}
	if err != nil && j.isClosed() {
		return journal.ErrClosed
	}
	if err != nil {
		return j.readError(err)
	}
	return nil
}

// within calls f in a transaction that reads. Nothing in it waits, but to begin:
// a lock that is held then is that of a recovery, or of a last handle that closes.
func (r *reader) within(ctx context.Context, j *Journal, f func() error) error {
	return j.untilFree(ctx, false, func() error {
		if err := exec(r.begin); err != nil {
			return err
		}
		err := f()
		if end := exec(r.commit); err == nil {
			err = end // or else SQLite may have ended it already
		}
		return err
	})
}

// head reads the journal's row.
func (r *reader) head(j *Journal) (h head, err error) {
	var sum int64
	if err := r.headOf.QueryRowContext(background, j.id, j.name).Scan(h.columns(&sum)...); err != nil {
		return h, err
	}
	if sum != h.sum(j.name) {
		return h, j.badHead()
	}
	return h, nil
}

// A page is what follows a position.
type page struct {
	entries []journal.Entry // consecutive; their Data lies in buf
	end     journal.Position
	buf     []byte
	ends    []int
}

// fill reads the page after a position. It fails with ErrTrimmed, and with a
// *CorruptError if an entry is missing or lies behind the end.
func (p *page) fill(r *reader, j *Journal, after journal.Position) error {
	p.entries, p.buf, p.ends = p.entries[:0], p.buf[:0], p.ends[:0]
	h, err := r.head(j)
	if err != nil {
		return err
	}
	if after < h.trimmed {
		return fmt.Errorf("entries through %d are gone: %w", h.trimmed, journal.ErrTrimmed)
	}
	if p.end = h.end; after >= maxPosition {
		return nil
	}
	next := after + 1
	rows, err := r.rows.QueryContext(background, j.idOf(after), (j.id+1)<<positionBits, pageRows)
	if err != nil {
		return err
	}
	defer rows.Close()
	for len(p.buf) < pageBytes && rows.Next() {
		var id int64
		var data sql.RawBytes
		if err := rows.Scan(&id, &data); err != nil {
			return j.corruptUnless(next, err)
		}
		switch pos := j.positionOf(id); {
		case pos > h.end:
			return j.corrupt(pos, fmt.Errorf("%w: an entry lies behind the end, %d, that its journal states", journal.ErrMalformed, h.end))
		case pos != next:
			return j.corrupt(next, errMissing)
		case len(data) == 0:
			return j.corrupt(next, fmt.Errorf("%w: no bytes", journal.ErrShort))
		}
		p.buf = append(p.buf, data...)
		p.ends = append(p.ends, len(p.buf))
		next++
	}
	if err := rows.Err(); err != nil {
		return j.corruptUnless(next, err)
	}
	if next <= h.end && len(p.ends) < pageRows && len(p.buf) < pageBytes {
		return j.corrupt(next, errMissing)
	}
	p.cut(after)
	return nil
}

// cut makes entries of the bytes that were read: not before, since the buffer may
// have moved.
func (p *page) cut(after journal.Position) {
	from := 0
	for i, to := range p.ends {
		p.entries = append(p.entries, journal.Entry{Pos: after + 1 + journal.Position(i), Data: p.buf[from:to:to]})
		from = to
	}
}

// corruptUnless adds the position to damage that was met on the way to it.
func (j *Journal) corruptUnless(next journal.Position, err error) error {
	var corrupt *journal.CorruptError
	if err = j.readError(err); errors.As(err, &corrupt) && corrupt.Pos == 0 {
		corrupt.Pos = next
	}
	return err
}
