package sqlitejournal

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"modernc.org/sqlite"

	"understudy.dev/journal"
)

// SQLite's primary result codes (sqlite.org/rescode.html).
const (
	sqliteError    = 1
	sqliteBusy     = 5
	sqliteReadOnly = 8
	sqliteCorrupt  = 11
	sqliteFull     = 13
	sqliteCantOpen = 14
	sqliteProtocol = 15
	sqliteNotADB   = 26

	// An extended one: the file ends before a page that it states to have.
	sqliteShortRead = 10 | 2<<8
)

// errMissing: a row that was stored is not there.
var errMissing = errors.New("sqlitejournal: missing row")

// background is for what must not be interrupted: an interrupted statement may
// have taken effect, and the driver could not tell.
var background = context.Background()

// code returns the primary result code of an error of SQLite, or 0.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// isDamage reports whether SQLite says that the file is not what it wrote.
func isDamage(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (code(e) == sqliteCorrupt || code(e) == sqliteNotADB || e.Code() == sqliteShortRead)
}

// isBusy reports whether another connection holds a lock, for now. SQLite says
// PROTOCOL when it lost the race for a lock of the log many times.
func isBusy(err error) bool { return code(err) == sqliteBusy || code(err) == sqliteProtocol }

// corrupt is damage in the database.
func (j *Journal) corrupt(pos journal.Position, err error) error {
	return &journal.CorruptError{Source: j.path, Pos: pos, Offset: -1, Err: err}
}

// readError tells damage from what may pass. What is neither SQLite's word nor the
// pool's comes from a column that does not hold what was stored in it.
func (j *Journal) readError(err error) error {
	var corrupt *journal.CorruptError
	switch {
	case errors.As(err, &corrupt), errors.Is(err, journal.ErrLost):
		return err
	case isDamage(err):
		return j.corrupt(0, err)
	case code(err) != 0:
		return err
	case errors.Is(err, sql.ErrNoRows):
		return j.corrupt(0, fmt.Errorf("%w: journal %s", errMissing, j.name))
	case j.isClosed(), errors.Is(err, sql.ErrConnDone), errors.Is(err, driver.ErrBadConn), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return j.corrupt(0, err)
}
