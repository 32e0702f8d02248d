package sqlitejournal

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"sync"
	"time"

	"understudy.dev/journal"
)

// MaxBatch is the largest batch in bytes.
const MaxBatch = 16 << 20

// DefaultName is the name of a journal that is given none.
const DefaultName = "main"

// A Config says how to open a journal. The zero value is ready.
type Config struct {
	// Name is the journal's name in the database. "" means DefaultName.
	Name string

	// Create makes the database and the journal in it if they are missing. The
	// folder must be there.
	Create bool

	// ReadOnly opens without changing anything in the database: no appends, no
	// fences. SQLite may still make the log's index beside it, which readers share
	// with writers: the folder must be writable, or the database be in use.
	ReadOnly bool
}

// A Journal is a handle on one journal in a database. It implements
// journal.Journal, journal.Ender, journal.Trimmer, journal.Locator,
// journal.Importer and journal.Describer. Several handles, in one or more
// processes of one machine, may be open at a time.
type Journal struct {
	path  string
	name  string
	cfg   Config
	id    int64 // the row in table journals
	place *place
	log   map[string]os.FileInfo // the database's log and its index, by path

	db     *sql.DB
	anchor *sql.Conn    // open until Close, so that the log stays: the writer's, if there is one
	idle   chan *reader // read connections nobody uses

	closed    chan struct{}
	closeOnce sync.Once
	closeErr  error

	turn chan struct{} // holds the token of whoever may use what follows
	writer
}

// writer is what only the holder of a handle's turn may use.
type writer struct {
	begin, commit, rollback *sql.Stmt
	head, insert, update    *sql.Stmt
	fenceBefore, addFence   *sql.Stmt
	statements              statements
	broken                  error // the first failed statement or commit, or what a look found
	looked                  time.Time
	dec                     journal.Decoder
}

// Open opens a journal in the database at path. It waits for a database that is
// locked until ctx ends. A database or journal that is missing and not to be made
// is an error matching fs.ErrNotExist; one that cannot be trusted, a
// *journal.CorruptError with ErrForeign, journal.ErrVersion or what SQLite says.
func Open(ctx context.Context, path string, cfg Config) (*Journal, error) {
	j, err := open(ctx, path, cfg)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	return j, nil
}

// Append implements journal.Journal: one transaction and one sync.
func (j *Journal) Append(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
	pos, err := journal.Position(0), error(nil)
	if len(batch) > MaxBatch {
		err = fmt.Errorf("batch of %d bytes, at most %d: %w", len(batch), MaxBatch, journal.ErrTooLarge)
	} else {
		pos, err = j.write(ctx, false, func(h *head) ([]byte, error) { return batch, j.admit(h, epoch, prev, batch) })
	}
	if err != nil {
		return 0, fmt.Errorf("append after %d in epoch %d: %w", prev, epoch, err)
	}
	return pos, nil
}

// admit decides about a batch, and moves the head over it as far as it depends on
// what the batch says.
func (j *Journal) admit(h *head, epoch journal.Epoch, prev journal.Position, batch []byte) error {
	var b journal.Batch
	if err := j.dec.Batch(batch, &b); err != nil {
		return err
	}
	if b.Epoch != epoch {
		return fmt.Errorf("batch is stamped with epoch %d: %w", b.Epoch, journal.ErrMalformed)
	}
	open, at := h.Fence, h.fenceAt
	if prev < at {
		var err error
		if open, at, err = j.openAt(prev); err != nil {
			return err
		}
	}
	switch {
	case open.Epoch > epoch, open.Epoch == epoch && open.Owner != b.Owner:
		return fmt.Errorf("epoch %d was opened by %q at %d: %w", open.Epoch, open.Owner, at, journal.ErrFenced)
	case prev != h.end:
		return fmt.Errorf("the end is %d: %w", h.end, journal.ErrConflict)
	case open.Epoch < epoch:
		return journal.ErrEpoch
	}
	h.pass(&b)
	return nil
}

// pass moves a head over a live batch.
func (h *head) pass(b *journal.Batch) {
	h.seq = b.Last()
	if b.Count > 0 {
		h.time = b.End
	}
}

// Fence implements journal.Journal. It waits for a transaction under way, of this
// or another process, and asks for the database's lock more often than an append
// does, so that a busy writer cannot starve it.
func (j *Journal) Fence(ctx context.Context, epoch journal.Epoch, owner string) (journal.Position, error) {
	pos, err := j.fence(ctx, epoch, owner)
	if err != nil {
		return 0, fmt.Errorf("fence epoch %d for %q: %w", epoch, owner, err)
	}
	return pos, nil
}

func (j *Journal) fence(ctx context.Context, epoch journal.Epoch, owner string) (journal.Position, error) {
	if err := journal.CheckFence(epoch, owner); err != nil {
		return 0, err
	}
	already := journal.Position(0)
	pos, err := j.write(ctx, true, func(h *head) ([]byte, error) {
		switch {
		case h.Epoch == epoch && h.Owner == owner:
			already = h.fenceAt
			return nil, nil
		case h.Epoch >= epoch:
			return nil, fmt.Errorf("epoch %d was opened by %q at %d: %w", h.Epoch, h.Owner, h.fenceAt, journal.ErrFenced)
		}
		h.Fence, h.fenceAt = journal.Fence{Epoch: epoch, Owner: owner}, h.end+1
		return journal.AppendFence(nil, epoch, owner), nil
	})
	return max(pos, already), err
}

// Import implements journal.Importer.
func (j *Journal) Import(ctx context.Context, prev journal.Position, entry []byte) (journal.Position, error) {
	pos, err := j.importEntry(ctx, prev, entry)
	if err != nil {
		return 0, fmt.Errorf("import after %d: %w", prev, err)
	}
	return pos, nil
}

func (j *Journal) importEntry(ctx context.Context, prev journal.Position, entry []byte) (journal.Position, error) {
	if len(entry) > MaxBatch {
		return 0, fmt.Errorf("entry of %d bytes, at most %d: %w", len(entry), MaxBatch, journal.ErrTooLarge)
	}
	if err := journal.CheckEntry(entry); err != nil {
		return 0, err
	}
	return j.write(ctx, false, func(h *head) ([]byte, error) {
		if h.end != prev {
			return nil, fmt.Errorf("the end is %d: %w", h.end, journal.ErrConflict)
		}
		var b journal.Batch
		if f, err := journal.DecodeFence(entry); err == nil && f.Epoch > h.Epoch {
			h.Fence, h.fenceAt = f, h.end+1
		} else if j.dec.Batch(entry, &b) == nil && b.Epoch == h.Epoch && b.Owner == h.Owner {
			h.pass(&b)
		}
		return entry, nil
	})
}

// End implements journal.Ender.
func (j *Journal) End(ctx context.Context) (journal.End, error) {
	var h head
	err := j.read(ctx, func(r *reader) (err error) {
		h, err = r.head(j)
		return err
	})
	if err != nil {
		return journal.End{}, fmt.Errorf("sample end: %w", err)
	}
	return journal.End{
		Pos: h.end, Seq: h.seq, Epoch: h.Epoch, Time: h.time,
		Bytes: h.bytes, First: h.trimmed, When: time.Now(),
	}, nil
}

// Describe implements journal.Describer.
func (j *Journal) Describe() journal.Capabilities {
	return journal.Capabilities{
		Backend: "sqlite", Location: fmt.Sprintf("%s in %s", j.name, j.path),
		Survives: journal.SurvivesProcess | journal.SurvivesMachine,
		Fence:    true, ReadOnly: j.cfg.ReadOnly, MaxBatch: MaxBatch,
		Notes: []string{
			"fences out the processes of this machine only; the database must be on a local disk",
			"a process that is stopped in the midst of a transaction keeps all others from writing until it goes on or dies",
		},
	}
}

// Close implements journal.Journal. It waits for a transaction under way.
func (j *Journal) Close() error {
	j.closeOnce.Do(func() {
		close(j.closed)
		<-j.turn // and nobody gets it any more
		j.closeErr = j.release()
	})
	return j.closeErr
}

func (j *Journal) isClosed() bool {
	select {
	case <-j.closed:
		return true
	default:
		return false
	}
}

// usable reports why a call may not go on.
func (j *Journal) usable(ctx context.Context) error {
	if j.isClosed() {
		return journal.ErrClosed
	}
	return ctx.Err()
}
