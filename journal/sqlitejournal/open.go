package sqlitejournal

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"modernc.org/sqlite"

	"understudy.dev/journal"
)

// idleReaders is how many read connections a handle keeps.
const idleReaders = 4

func open(ctx context.Context, path string, cfg Config) (*Journal, error) {
	if cfg.Name == "" {
		cfg.Name = DefaultName
	}
	if err := CheckName(cfg.Name); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := ensure(path, cfg); err != nil {
		return nil, err
	}
	j := &Journal{
		path: path, name: cfg.Name, cfg: cfg, log: map[string]os.FileInfo{},
		idle: make(chan *reader, idleReaders), closed: make(chan struct{}), turn: make(chan struct{}, 1),
	}
	if j.place, err = placeOf(path); err != nil {
		return nil, err
	}
	if err := checkLog(path + "-wal"); err != nil {
		j.place.release()
		return nil, err
	}
	j.db = sql.OpenDB(&connector{j})
	j.db.SetMaxIdleConns(0) // a reader and the anchor keep theirs
	if err := j.open(ctx); err != nil {
		return nil, errors.Join(err, j.release())
	}
	j.turn <- struct{}{}
	return j, nil
}

// ensure makes an empty file where a database may be made. SQLite takes that for
// an empty database, and it has an identity before anything is in it.
func ensure(path string, cfg Config) error {
	if cfg.ReadOnly || !cfg.Create {
		info, err := os.Stat(path)
		if err == nil && info.IsDir() {
			err = fmt.Errorf("it is a folder: %w", ErrForeign)
		}
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil // not opened: closing it would drop the locks that SQLite has on it in this process
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// open opens the first connection and finds or makes the journal.
func (j *Journal) open(ctx context.Context) error {
	err := j.untilFree(ctx, false, func() (err error) {
		j.anchor, err = j.db.Conn(background)
		return err
	})
	if err != nil {
		return j.openError(err)
	}
	if err := j.untilFree(ctx, false, func() error { return j.attachOrCreate(ctx) }); err != nil {
		return j.openError(err)
	}
	j.remember()
	if j.cfg.ReadOnly {
		return nil
	}
	return j.prepareWriter(ctx)
}

// attachOrCreate finds the journal. Nothing is changed in a database that is not
// ours, its mode neither.
func (j *Journal) attachOrCreate(ctx context.Context) error {
	empty, err := j.checkDatabase(j.anchor)
	if err != nil {
		return err
	}
	if !j.cfg.ReadOnly && (!empty || j.cfg.Create) {
		if err := j.useWAL(); err != nil {
			return err
		}
	}
	err = j.attach(j.anchor)
	if errors.Is(err, fs.ErrNotExist) && j.cfg.Create && !j.cfg.ReadOnly {
		err = j.create(ctx, j.anchor)
	}
	return err
}

// useWAL puts the database in WAL mode, which it keeps, and this connection to
// sync at each commit, and reads back whether they are.
func (j *Journal) useWAL() error {
	var mode string
	if err := j.anchor.QueryRowContext(background, "PRAGMA journal_mode = WAL").Scan(&mode); err != nil {
		return err
	}
	var sync, full, checkpoint int
	for query, to := range map[string]*int{
		"PRAGMA synchronous": &sync, "PRAGMA fullfsync": &full, "PRAGMA checkpoint_fullfsync": &checkpoint,
	} {
		if err := j.anchor.QueryRowContext(background, query).Scan(to); err != nil {
			return err
		}
	}
	if mode != "wal" || sync != synchronousFull || full != 1 || checkpoint != 1 {
		return fmt.Errorf("the database does not take what an acknowledgement rests on: journal_mode is %s, want wal; "+
			"synchronous is %d, want %d; fullfsync is %d and checkpoint_fullfsync %d, want 1", mode, sync, synchronousFull, full, checkpoint)
	}
	return nil
}

const synchronousFull = 2

// openError says what some of SQLite's words mean here.
func (j *Journal) openError(err error) error {
	switch code(err) {
	case sqliteReadOnly:
		return fmt.Errorf("%w: %w", journal.ErrReadOnly, err)
	case sqliteCantOpen:
		return fmt.Errorf("%w; the log and its index are made beside the database, also to read it: "+
			"the folder must be writable, or copy the database to one that is", err)
	case sqliteNotADB:
		return j.corrupt(0, fmt.Errorf("%w: %w", ErrForeign, err))
	}
	return err
}

// prepareWriter prepares the writer's statements, and asks whether the file can be
// written at all. That it is locked does not matter now.
func (j *Journal) prepareWriter(ctx context.Context) error {
	w := &j.writer
	err := j.untilFree(ctx, false, func() (err error) {
		w.statements, err = prepare(j.anchor, map[string]**sql.Stmt{
			"BEGIN IMMEDIATE": &w.begin, "COMMIT": &w.commit, "ROLLBACK": &w.rollback,
			"SELECT " + headColumns + " FROM journals WHERE id = ? AND name = ?":                                                              &w.head,
			"INSERT INTO entries (id, seq, time, data) VALUES (?, ?, ?, ?)":                                                                   &w.insert,
			`UPDATE journals SET "end" = ?, trimmed = ?, bytes = ?, seq = ?, time = ?, epoch = ?, owner = ?, fence = ?, sum = ? WHERE id = ?`: &w.update,
			"SELECT id, data FROM fences WHERE id > ? AND id <= ? ORDER BY id DESC LIMIT 1":                                                   &w.fenceBefore,
			"INSERT INTO fences (id, data) VALUES (?, ?)":                                                                                     &w.addFence,
		})
		return err
	})
	if err != nil {
		return j.openError(err)
	}
	_, err = w.begin.ExecContext(background)
	if err == nil {
		_, err = w.rollback.ExecContext(background)
	}
	if err != nil && !isBusy(err) {
		return j.openError(err)
	}
	return nil
}

// release gives back what a handle holds. A Follow that is ending closes its own
// connection.
func (j *Journal) release() error {
	var errs []error
	for {
		select {
		case r := <-j.idle:
			errs = append(errs, r.close())
			continue
		default:
		}
		break
	}
	if j.anchor != nil {
		errs = append(errs, j.statements.close(), j.anchor.Close())
	}
	errs = append(errs, j.db.Close())
	j.place.release()
	return errors.Join(errs...)
}

// A connector opens connections to the database of a handle.
type connector struct{ j *Journal }

// Driver implements driver.Connector.
func (c *connector) Driver() driver.Driver { return &sqlite.Driver{} }

// settings of each connection; those that are not read back are for protection.
// The time-out is 0 because waiting for a lock is ours to do: SQLite would not see
// that a context ended.
const settings = "_pragma=busy_timeout(0)&_pragma=synchronous(FULL)&_pragma=fullfsync(1)&_pragma=checkpoint_fullfsync(1)" +
	"&_pragma=cell_size_check(1)&_pragma=trusted_schema(0)&_pragma=mmap_size(0)&_pragma=journal_size_limit(67108864)&_dqs=0"

// Connect implements driver.Connector. A look before and one after say that the
// file it opened is the one that the handle opened first.
func (c *connector) Connect(context.Context) (driver.Conn, error) {
	if err := c.j.lost(); err != nil {
		return nil, err
	}
	mode := "rw"
	if c.j.cfg.ReadOnly {
		mode = "ro"
	}
	conn, err := c.Driver().Open("file:" + (&url.URL{Path: filepath.ToSlash(c.j.path)}).EscapedPath() + "?mode=" + mode + "&" + settings)
	if err != nil {
		return nil, err
	}
	if err := c.j.lost(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}
