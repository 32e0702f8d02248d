package sqlitejournal

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"strings"

	"understudy.dev/journal"
)

// PRAGMA application_id of our databases is "UDJS", and user_version is the
// version of this schema.
//
// The id of an entry is its journal's id times 2^43 and its position: one B-tree
// in which a journal's entries lie side by side, and one page less to write for
// each than with an index. There is none either on seq and time, because both
// grow with the position: Locate searches by halves.
//
// No name or number here is found through an index that could lose it: see find.
const (
	applicationID = 0x55444a53
	schemaVersion = 1

	positionBits = 43
	maxPosition  = 1<<positionBits - 1 // 14 years of 20,000 entries a second
	maxJournals  = 1<<(63-positionBits) - 1

	schema = `
CREATE TABLE journals (
	id      INTEGER PRIMARY KEY, -- from 1, without gaps
	name    TEXT    NOT NULL,
	"end"   INTEGER NOT NULL,    -- position of the newest entry; 0 if there was none
	trimmed INTEGER NOT NULL,    -- entries at and before it are gone
	bytes   INTEGER NOT NULL,    -- of the entries that are there
	seq     INTEGER NOT NULL,    -- last record of the newest live batch
	time    INTEGER NOT NULL,    -- of that record, ns since 1970 UTC
	epoch   INTEGER NOT NULL,    -- the open one; 0 if there is none
	owner   TEXT    NOT NULL,    -- who opened it
	fence   INTEGER NOT NULL,    -- and at which position
	sum     INTEGER NOT NULL     -- CRC32C of all that
) STRICT;
CREATE TABLE entries (
	id   INTEGER PRIMARY KEY, -- journal << 43 | position
	seq  INTEGER NOT NULL,    -- last live record up to this entry
	time INTEGER NOT NULL,    -- of that record
	data BLOB    NOT NULL     -- the entry: a batch or a fence
) STRICT;
CREATE TABLE fences (
	id   INTEGER PRIMARY KEY, -- as in entries; a fence that opened an epoch, kept for good
	data BLOB    NOT NULL
) STRICT;
`
)

// ErrForeign: the file is a database of another program, or none.
var ErrForeign = errors.New("sqlitejournal: not a database of journals")

// CheckName reports what is wrong with a journal's name: it has 1 to 255 letters,
// digits and . _ -.
func CheckName(name string) error {
	if len(name) == 0 || len(name) > maxName {
		return fmt.Errorf("journal name of %d bytes, want 1 to %d", len(name), maxName)
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-", rune(c)) {
			return fmt.Errorf("journal name %q: %q at byte %d, want letters, digits and . _ -", name, c, i)
		}
	}
	return nil
}

const maxName = 255

// A head is a journal's row: all that a writer must know.
type head struct {
	end, trimmed journal.Position
	bytes        int64
	seq          journal.Seq
	time         journal.Time
	journal.Fence
	fenceAt journal.Position
}

const headColumns = `"end", trimmed, bytes, seq, time, epoch, owner, fence, sum`

// columns returns where to scan the columns of a head, sum among them.
func (h *head) columns(sum *int64) []any {
	return []any{&h.end, &h.trimmed, &h.bytes, signed[journal.Seq]{&h.seq}, &h.time, signed[journal.Epoch]{&h.Epoch}, &h.Owner, &h.fenceAt, sum}
}

// values returns what is stored in the columns.
func (h *head) values(name string) []any {
	return []any{
		int64(h.end), int64(h.trimmed), h.bytes, int64(h.seq), int64(h.time), int64(h.Epoch), h.Owner, int64(h.fenceAt), h.sum(name),
	}
}

// sum is the checksum of a row. It covers the name too, so that no journal is
// taken for another one.
func (h *head) sum(name string) int64 {
	le := binary.LittleEndian
	var b []byte
	for _, v := range [...]uint64{
		uint64(h.end), uint64(h.trimmed), uint64(h.bytes), uint64(h.seq), uint64(h.time), uint64(h.Epoch), uint64(h.fenceAt), uint64(len(name)),
	} {
		b = le.AppendUint64(b, v)
	}
	b = append(append(b, name...), h.Owner...)
	return int64(crc32.Checksum(b, castagnoli))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// signed scans an unsigned number that SQLite keeps as a signed one.
type signed[T ~uint64] struct{ to *T }

// Scan implements sql.Scanner.
func (s signed[T]) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("%T, want an integer", v)
	}
	*s.to = T(n)
	return nil
}

// idOf returns the row of an entry, and positionOf is the inverse.
func (j *Journal) idOf(pos journal.Position) int64 { return j.id<<positionBits | int64(pos) }

func (j *Journal) positionOf(id int64) journal.Position {
	return journal.Position(id - j.id<<positionBits)
}

// checkDatabase finds out whether a database is ours. It returns true for one that is empty.
func (j *Journal) checkDatabase(c *sql.Conn) (empty bool, err error) {
	var app, version, tables int64
	const query = "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema) FROM pragma_application_id, pragma_user_version"
	if err := c.QueryRowContext(background, query).Scan(&app, &version, &tables); err != nil {
		return false, j.readError(err)
	}
	switch {
	case app == 0 && version == 0 && tables == 0:
		return true, nil
	case app != applicationID:
		return false, j.corrupt(0, fmt.Errorf("%w (application_id %#x, %d tables)", ErrForeign, app, tables))
	case version > schemaVersion:
		return false, j.corrupt(0, fmt.Errorf("%w: schema %d, this version reads %d", journal.ErrVersion, version, schemaVersion))
	case version != schemaVersion:
		return false, j.corrupt(0, fmt.Errorf("%w (schema %d)", ErrForeign, version))
	}
	return false, nil
}

// find returns the id of the journal, or 0 if there is none of its name. It reads
// all rows: an index could lose a name, and the journal would be made anew. For
// the same reason the ids must be 1, 2, 3 and so on, and nothing may lie beyond
// the last one. last is the largest id.
func (j *Journal) find(c *sql.Conn) (id, last int64, err error) {
	rows, err := c.QueryContext(background, "SELECT id, name, "+headColumns+" FROM journals ORDER BY id")
	if err != nil {
		return 0, 0, j.readError(err)
	}
	defer rows.Close()
	for rows.Next() {
		var h head
		var row, sum int64
		var name string
		if err := rows.Scan(append([]any{&row, &name}, h.columns(&sum)...)...); err != nil {
			return 0, 0, j.readError(err)
		}
		if last++; row != last || sum != h.sum(name) {
			return 0, 0, j.corrupt(0, fmt.Errorf("row %d of table journals: %w", last, journal.ErrChecksum))
		}
		if name == j.name {
			id = row
		}
	}
	if err := rows.Err(); err != nil {
		return 0, 0, j.readError(err)
	}
	var beyond int64
	err = c.QueryRowContext(background, "SELECT count(*) FROM (SELECT 1 FROM entries WHERE id >= ? LIMIT 1)", (last+1)<<positionBits).Scan(&beyond)
	if err != nil {
		return 0, 0, j.readError(err)
	}
	if beyond > 0 {
		return 0, 0, j.corrupt(0, fmt.Errorf("table journals has %d rows, and there are entries of another one: %w", last, errMissing))
	}
	return id, last, nil
}

// create makes the schema, if the database is empty, and the journal, if it is
// missing, in one transaction.
func (j *Journal) create(ctx context.Context, c *sql.Conn) error {
	if err := j.beginImmediate(ctx, c, false); err != nil {
		return err
	}
	err := j.createWithin(c)
	if err == nil {
		_, err = c.ExecContext(background, "COMMIT")
	}
	if err != nil {
		if _, failed := c.ExecContext(background, "ROLLBACK"); failed != nil && code(failed) != sqliteError {
			err = fmt.Errorf("%w (and %w)", err, failed)
		}
		if code(err) == sqliteFull {
			err = fmt.Errorf("%w: %w", journal.ErrFull, err)
		}
	}
	return err
}

func (j *Journal) createWithin(c *sql.Conn) error {
	empty, err := j.checkDatabase(c)
	if err != nil {
		return err
	}
	if empty {
		pragmas := fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, schemaVersion)
		if _, err := c.ExecContext(background, schema+pragmas); err != nil {
			return fmt.Errorf("make the tables: %w", err)
		}
	}
	id, last, err := j.find(c)
	if err != nil {
		return err
	}
	if id == 0 {
		if id = last + 1; id > maxJournals {
			return fmt.Errorf("%w: %d journals", journal.ErrFull, last)
		}
		var h head
		if _, err := c.ExecContext(background, "INSERT INTO journals (id, name, "+headColumns+") VALUES (?,?,?,?,?,?,?,?,?,?,?)",
			append([]any{id, j.name}, h.values(j.name)...)...); err != nil {
			return fmt.Errorf("make journal %s: %w", j.name, err)
		}
	}
	j.id = id
	return nil
}

// attach finds the journal in a database that has it, in one transaction: others
// may be making theirs.
func (j *Journal) attach(c *sql.Conn) error {
	if _, err := c.ExecContext(background, "BEGIN"); err != nil {
		return err
	}
	err := j.attachWithin(c)
	if _, end := c.ExecContext(background, "COMMIT"); err == nil {
		err = end // or else SQLite may have ended it already
	}
	return err
}

func (j *Journal) attachWithin(c *sql.Conn) error {
	empty, err := j.checkDatabase(c)
	if err != nil {
		return err
	}
	if !empty {
		if j.id, _, err = j.find(c); err != nil {
			return err
		}
	}
	if j.id == 0 {
		return fmt.Errorf("there is no journal %s in it: %w", j.name, fs.ErrNotExist)
	}
	return nil
}
