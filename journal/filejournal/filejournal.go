package filejournal

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"understudy.dev/journal"
)

// MaxBatch is the largest batch in bytes.
const MaxBatch = 16 << 20

// What can be wrong with a journal's files beside what package journal names:
// ErrForeign, ErrVersion, and ErrLost for a journal that ends before its mark.
// All come in a *journal.CorruptError.
var (
	// ErrDamaged: something that was durable cannot be read back.
	ErrDamaged = errors.New("filejournal: damaged")

	// ErrMissing: a segment is not there, or the state file is not.
	ErrMissing = errors.New("filejournal: missing file")
)

// errTakenOver: a fence took over the right to write during an append. What the
// append wrote is not in the journal, unless the machine stops before the fence
// is written.
var errTakenOver = errors.New("filejournal: the right to write was taken over")

// A Config says how to open a journal. The zero value is ready.
type Config struct {
	// ReadOnly opens without changing anything: no appends, no fences, no
	// recovery. What recovery would cut is only left out.
	ReadOnly bool

	// SegmentBytes is the size of segment files. 0 means 64 MiB: preparing one
	// takes a fraction of a second and a trim frees that much at a time. A new
	// journal starts with smaller ones. A batch that does not fit gets a segment
	// of its own size.
	SegmentBytes int64

	// Patience is how long Fence waits for an append under way, of this or
	// another process, before it takes over the right to write. 0 means 250 ms:
	// several times what a sync takes on a busy disk. A writer that is only slow
	// loses its append then, and would have lost its epoch anyway.
	Patience time.Duration

	// Foreground prepares segments and writes indexes in the call that needs
	// them, instead of in the background: for tests and short-lived tools.
	Foreground bool

	// FS is the file system. nil means that of the machine, OS().
	FS FS
}

const (
	defaultSegmentBytes = 64 << 20
	firstSegmentBytes   = 1 << 20
	segmentGrowth       = 4 // each new segment is this much larger, up to SegmentBytes
	defaultPatience     = 250 * time.Millisecond
)

func (c *Config) setDefaults() error {
	if c.SegmentBytes == 0 {
		c.SegmentBytes = defaultSegmentBytes
	}
	if c.SegmentBytes < 2*segmentHeader {
		return fmt.Errorf("segment of %d bytes, at least %d", c.SegmentBytes, 2*segmentHeader)
	}
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	if c.FS == nil {
		c.FS = OS()
	}
	return nil
}

// A Journal is a handle on a folder. It implements journal.Journal and all of
// its optional abilities. Several handles, in one or more processes of one
// machine, may be open at a time.
type Journal struct {
	dir   string
	fsys  FS
	cfg   Config
	st    *state
	still journal.Position // the end, if the mapped block is not current (read-only)
	era   uint16           // the generation then

	foundMu sync.Mutex
	found   Recovery

	closed    chan struct{}
	closeOnce sync.Once
	closeErr  error
	refs      atomic.Int64 // 1 for the open handle, 1 for each call that uses the mapping

	turn chan struct{} // holds the token of whoever may use what follows
	writer
}

// writer is what only the holder of a journal's turn may use.
type writer struct {
	lock     File
	lockedAt uint16 // the generation that lock is for

	generation uint16 // of the right to write, while it is held
	tail       tail
	behind     *reader  // reads what others wrote
	seg        *segment // the newest, if this handle wrote to it
	broken     error    // the first failed write or sync, or what a look found
	looked     time.Time
	buf        []byte
	helper     *helper
}

// Open opens the journal in folder dir and makes it if there is none. Damage is
// a *journal.CorruptError; see Recovered for what was found and cut.
func Open(dir string, cfg Config) (*Journal, error) {
	j, err := open(dir, cfg)
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", dir, err)
	}
	return j, nil
}

// Recovered tells what was found when the handle was opened, or later when it
// followed a writer that died.
func (j *Journal) Recovered() Recovery {
	j.foundMu.Lock()
	defer j.foundMu.Unlock()
	return j.found
}

// Append implements journal.Journal: one write and one sync.
func (j *Journal) Append(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
	pos, err := j.append(ctx, epoch, prev, batch)
	if err != nil {
		return 0, fmt.Errorf("append after %d in epoch %d: %w", prev, epoch, err)
	}
	return pos, nil
}

func (j *Journal) append(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
	if len(batch) > MaxBatch {
		return 0, fmt.Errorf("batch of %d bytes, at most %d: %w", len(batch), MaxBatch, journal.ErrTooLarge)
	}
	if err := j.begin(ctx, false); err != nil {
		return 0, err
	}
	defer j.end()
	t := &j.tail
	b := &t.batch
	if err := t.dec.Batch(batch, b); err != nil {
		return 0, err
	}
	if b.Epoch != epoch {
		return 0, fmt.Errorf("batch is stamped with epoch %d: %w", b.Epoch, journal.ErrMalformed)
	}
	open := t.open(prev)
	switch {
	case open.Epoch > epoch, open.Epoch == epoch && open.Owner != b.Owner:
		return 0, fmt.Errorf("epoch %d was opened by %q at %d: %w", open.Epoch, open.Owner, open.pos, journal.ErrFenced)
	case prev != t.cursor.Pos:
		return 0, fmt.Errorf("the end is %d: %w", t.cursor.Pos, journal.ErrConflict)
	case open.Epoch < epoch:
		return 0, journal.ErrEpoch
	}
	pos, err := j.store(batch)
	if err == nil {
		t.passBatch(prev, pos, b)
	}
	*b = journal.Batch{} // it refers to the caller's bytes
	return pos, err
}

// Fence implements journal.Journal. If an append is under way and does not end
// within the patience, because its process was stopped or its disk hangs, Fence
// takes over the right to write: that append cannot succeed any more.
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
	for {
		pos, err := j.tryFence(ctx, epoch, owner)
		if !errors.Is(err, errTakenOver) {
			return pos, err
		}
	}
}

// tryFence makes one attempt, which another fence may interrupt.
func (j *Journal) tryFence(ctx context.Context, epoch journal.Epoch, owner string) (journal.Position, error) {
	if err := j.begin(ctx, true); err != nil {
		return 0, err
	}
	defer j.end()
	at := j.tail.cursor.Pos
	switch open := j.tail.open(at); {
	case open.Epoch == epoch && open.Owner == owner:
		return open.pos, nil
	case open.Epoch >= epoch:
		return 0, fmt.Errorf("epoch %d was opened by %q at %d: %w", open.Epoch, open.Owner, open.pos, journal.ErrFenced)
	}
	pos, err := j.store(journal.AppendFence(nil, epoch, owner))
	if err == nil {
		j.tail.passFence(at, pos, journal.Fence{Epoch: epoch, Owner: owner})
	}
	return pos, err
}

// End implements journal.Ender.
func (j *Journal) End(ctx context.Context) (journal.End, error) {
	if err := j.take(ctx); err != nil {
		return journal.End{}, fmt.Errorf("sample end: %w", err)
	}
	defer j.give()
	generation, end := j.durable()
	if err := j.lookFirst(j.catchUp(generation, end)); err != nil {
		return journal.End{}, fmt.Errorf("sample end: %w", err)
	}
	c := &j.tail.cursor
	first := j.st.trimmed()
	return journal.End{
		Pos: c.Pos, Seq: c.Seq, Epoch: c.Epoch, Time: c.Time,
		Bytes: int64(c.Pos - first), First: first, When: time.Now(),
	}, nil
}

// Describe implements journal.Describer.
func (j *Journal) Describe() journal.Capabilities {
	notes := []string{"fences out the processes of this machine only; the folder must be on a local disk"}
	if r := j.Recovered(); r.CutBytes > 0 {
		notes = append(notes, fmt.Sprintf("%d bytes after the end, at byte %d of %s, are no whole entry; if the machine lost its power it may have been acknowledged; set aside: %s",
			r.CutBytes, r.CutOffset, r.CutSource, cmp.Or(r.CutFile, "no, the journal is open read-only")))
	}
	survives := journal.SurvivesProcess | journal.SurvivesMachine
	if j.fsys.Volatile(j.dir) {
		survives = journal.SurvivesProcess
		notes = append(notes, "the folder is on a file system in memory: when the machine stops, the journal is gone")
	}
	return journal.Capabilities{
		Backend: "file", Location: j.dir, Survives: survives,
		Fence: true, ReadOnly: j.cfg.ReadOnly, MaxBatch: MaxBatch,
		Notes: notes,
	}
}

// Close implements journal.Journal. It waits for an append under way.
func (j *Journal) Close() error {
	j.closeOnce.Do(func() {
		close(j.closed)
		j.fsys.Wake(&j.st.pulse)
		<-j.turn // and nobody gets it any more
		j.closeErr = j.writer.close(j)
		j.release()
	})
	return nil
}

// close gives back what a writer holds. A handle that could write leaves its
// newest position as a mark, so that after a clean end nothing is ambiguous even
// if the machine lost power later.
func (w *writer) close(j *Journal) error {
	w.helper.close()
	w.behind.close()
	var errs []error
	if w.seg != nil {
		errs = append(errs, w.lastMark(j), w.seg.file.Close())
	}
	if w.lock != nil {
		errs = append(errs, w.lock.Close())
	}
	return errors.Join(errs...)
}

// lastMark writes a mark at the end if nobody is writing. If somebody is, the
// marks are theirs to write.
func (w *writer) lastMark(j *Journal) error {
	generation, end := j.st.load()
	if w.broken != nil || w.seg.generation != generation || w.lock == nil || w.lockedAt != generation {
		return nil
	}
	if end <= w.seg.start() || end != w.tail.cursor.Pos {
		return nil
	}
	if ok, err := w.lock.TryLock(); !ok {
		return err
	}
	if _, now := j.st.load(); now != end || j.st.isBusy() {
		return nil
	}
	if _, err := w.seg.writeMark(end, make([]byte, markBytes)); err != nil {
		return err
	}
	return w.seg.file.Datasync()
}

// take takes the turn.
func (j *Journal) take(ctx context.Context) error {
	if j.isClosed() {
		return journal.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-j.turn:
	default:
		select {
		case <-j.turn:
		case <-ctx.Done():
			return ctx.Err()
		case <-j.closed:
			return journal.ErrClosed
		}
	}
	if j.isClosed() {
		j.give()
		return journal.ErrClosed
	}
	return nil
}

func (j *Journal) give() { j.turn <- struct{}{} }

func (j *Journal) isClosed() bool {
	select {
	case <-j.closed:
		return true
	default:
		return false
	}
}

// retain keeps the mapping alive until release, or returns false if the handle
// was closed.
func (j *Journal) retain() bool {
	for {
		n := j.refs.Load()
		if n == 0 || j.isClosed() {
			return false
		}
		if j.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (j *Journal) release() {
	if j.refs.Add(-1) == 0 {
		j.st.close()
	}
}

// durable returns the generation and the durable end.
func (j *Journal) durable() (uint16, journal.Position) {
	if j.cfg.ReadOnly && !j.st.current() {
		return j.era, j.still
	}
	return j.st.load()
}

func (j *Journal) newReader(at journal.Position) *reader {
	return &reader{fsys: j.fsys, dir: j.dir, st: j.st, at: at}
}

// The names of files that are not segments.
const (
	tmpPrefix   = "tmp-"
	sparePrefix = "spare-"
	lockPrefix  = "lock-"
	cutPrefix   = "cut-"
	leftPrefix  = "left-"
	recoverLock = "lock"
)

// randomName returns a name that nothing else has.
func randomName(prefix string) string {
	var b [8]byte
	rand.Read(b[:])
	return prefix + hex.EncodeToString(b[:])
}
