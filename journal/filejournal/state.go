package filejournal

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"time"
	"unsafe"

	"understudy.dev/journal"
)

// The state file has two blocks. The first is mapped by every handle and changes
// in memory only; after a restart of the machine it means nothing, and its boot
// id says so. Numbers are in the machine's own order.
//
//	 0  32  boot id
//	32   8  word: generation << 48 | position of the durable end
//	40   8  position before which entries were trimmed
//	48   4  pulse: counts changes; what followers wait for
//	52   4  busy: 0, or 1 + the generation of a writer in the midst of an append
//	56   8  until when, ns since 1970, a fence asks appends to hold back
//	64   8  1 + position where the newest segment starts; 0 if there is none
//
// The second holds eight anchors, one in each sector of 512 bytes, little endian:
// two for each generation modulo 4, written in turn and synced each time. A writer
// that was stopped and lost the right to write may yet write an anchor; it lands
// beside those of the next three generations, and counts less than they.
//
//	 0  8  magic "UDJSTAT1"
//	 8  4  CRC32C of the bytes from 12 to 63
//	12  4  format version, 1
//	16 16  id of the journal
//	32  8  number of the anchor
//	40  8  position before which entries were trimmed
//	48  8  position where the newest segment starts: the journal is durable up to there
//	56  2  generation of the writer
//	58  6  zero
//
// Anchors are what is known outside the segments: they tell a journal whose last
// or first segments are missing from one that ends or starts there.
const (
	stateName    = "journal.state"
	stateMagic   = "UDJSTAT1"
	stateVersion = 1
	stateBytes   = 8192
	mappedBytes  = 4096
	anchorAt     = 4096
	anchorSector = 512
	anchorSlots  = 8
	anchorBytes  = 64
	bootBytes    = 32
	wordAt       = 32

	positionBits = 48 // 256 TiB of journal
	positionMask = 1<<positionBits - 1
)

// shared is the mapped block.
type shared struct {
	boot   [bootBytes / 8]uint64
	word   uint64
	first  uint64
	pulse  uint32
	busy   uint32
	wanted int64
	newest uint64
}

// anchor is what is known outside the segments.
type anchor struct {
	number     uint64
	generation uint16
	first      journal.Position
	last       journal.Position // start of the newest segment
}

// newer reports whether a counts more than b.
func (a *anchor) newer(b *anchor) bool {
	if a.generation != b.generation {
		return a.generation > b.generation
	}
	return a.number > b.number
}

// offset returns where in the file a belongs.
func (a *anchor) offset() int64 {
	return anchorAt + anchorSector*int64(uint64(a.generation%4)*2+a.number%2)
}

// A state is an open state file.
type state struct {
	*shared
	fsys   FS
	file   File
	mem    []byte
	path   string
	id     id
	anchor anchor // the newest that this handle read or wrote
	boot   [bootBytes / 8]uint64
}

// createState makes the state file of a new journal, whole or not at all.
func createState(fsys FS, dir string) error {
	var d id
	rand.Read(d[:])
	f, tmp, err := tempFile(fsys, dir)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, stateBytes)
	for n := range uint64(2) {
		a := anchor{number: n + 1}
		a.encode(b[a.offset():], d)
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	err = fsys.Rename(tmp, filepath.Join(dir, stateName))
	if errors.Is(err, fs.ErrExist) {
		err = fsys.Remove(tmp) // another handle was faster
	}
	if err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}

// openState opens and maps the state file.
func openState(fsys FS, dir string, flag int) (*state, error) {
	s := &state{fsys: fsys, path: filepath.Join(dir, stateName)}
	f, err := fsys.Open(s.path, flag)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	s.file = f
	if err := s.readAnchors(); err != nil {
		f.Close()
		return nil, err
	}
	if s.mem, err = f.Map(mappedBytes); err != nil {
		f.Close()
		return nil, fmt.Errorf("map %s: %w", s.path, err)
	}
	s.shared = (*shared)(unsafe.Pointer(&s.mem[0]))
	var boot [bootBytes]byte
	copy(boot[:], fsys.Boot())
	for i := range s.boot {
		s.boot[i] = binary.LittleEndian.Uint64(boot[i*8:])
	}
	return s, nil
}

// readAnchors takes the newer anchor that is whole.
func (s *state) readAnchors() error {
	b := make([]byte, anchorSlots*anchorSector)
	if _, err := s.file.ReadAt(b, anchorAt); err != nil {
		if !errors.Is(err, io.EOF) {
			return fmt.Errorf("read %s: %w", s.path, err)
		}
		return s.damaged(fmt.Errorf("%w: state %w", ErrDamaged, journal.ErrShort))
	}
	var bad error
	for slot := range anchorSlots {
		a, d, err := decodeAnchor(b[slot*anchorSector:][:anchorBytes])
		switch {
		case err != nil && !errors.Is(err, ErrDamaged):
			return s.damaged(err)
		case err != nil:
			bad = err
		case a.newer(&s.anchor):
			if s.anchor = a; s.id != d { // the helper and followers read it, and it is set once
				s.id = d
			}
		}
	}
	if s.anchor.number == 0 {
		return s.damaged(bad)
	}
	return nil
}

func (s *state) damaged(err error) error {
	return &journal.CorruptError{What: "bad state file", Source: s.path, Offset: anchorAt, Err: err}
}

// writeAnchor makes the two positions durable. The caller has the right to write
// of a generation.
func (s *state) writeAnchor(generation uint16, first, last journal.Position) error {
	if err := s.readAnchors(); err != nil { // another process may have written one
		return err
	}
	a := anchor{number: s.anchor.number + 1, generation: generation, first: first, last: last}
	b := make([]byte, anchorBytes)
	a.encode(b, s.id)
	if _, err := s.file.WriteAt(b, a.offset()); err != nil {
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	if err := s.file.Datasync(); err != nil {
		return fmt.Errorf("sync %s: %w", s.path, err)
	}
	s.anchor = a
	return nil
}

func (a *anchor) encode(b []byte, d id) {
	le := binary.LittleEndian
	copy(b, stateMagic)
	le.PutUint32(b[12:], stateVersion)
	copy(b[16:], d[:])
	le.PutUint64(b[32:], a.number)
	le.PutUint64(b[40:], uint64(a.first))
	le.PutUint64(b[48:], uint64(a.last))
	le.PutUint16(b[56:], a.generation)
	le.PutUint32(b[8:], (&id{}).sum(b[12:anchorBytes]))
}

func decodeAnchor(b []byte) (a anchor, d id, err error) {
	le := binary.LittleEndian
	if !bytes.HasPrefix(b, []byte(stateMagic)) {
		return a, d, fmt.Errorf("%w: no anchor", ErrDamaged)
	}
	if le.Uint32(b[8:]) != (&id{}).sum(b[12:anchorBytes]) {
		return a, d, fmt.Errorf("%w: anchor: %w", ErrDamaged, journal.ErrChecksum)
	}
	if v := le.Uint32(b[12:]); v != stateVersion {
		return a, d, fmt.Errorf("%w: state format %d, this version reads %d", journal.ErrVersion, v, stateVersion)
	}
	copy(d[:], b[16:])
	return anchor{
		number: le.Uint64(b[32:]), generation: le.Uint16(b[56:]),
		first: journal.Position(le.Uint64(b[40:])), last: journal.Position(le.Uint64(b[48:])),
	}, d, nil
}

// current reports whether the mapped block was written since the machine started.
func (s *state) current() bool {
	for i := range s.boot {
		if atomic.LoadUint64(&s.shared.boot[i]) != s.boot[i] {
			return false
		}
	}
	return s.boot != [bootBytes / 8]uint64{}
}

// revive makes the mapped block current: the journal is durable up to end.
func (s *state) revive(generation uint16, first journal.Position, newest *segment, end journal.Position) {
	atomic.StoreUint64(&s.shared.boot[0], 0)
	atomic.StoreUint64(&s.word, pack(generation, end))
	atomic.StoreUint64(&s.first, uint64(first))
	atomic.StoreUint64(&s.newest, 0)
	if newest != nil {
		s.setNewest(newest.start())
	}
	atomic.StoreUint32(&s.busy, 0)
	atomic.StoreInt64(&s.wanted, 0)
	for i := len(s.boot) - 1; i >= 0; i-- {
		atomic.StoreUint64(&s.shared.boot[i], s.boot[i])
	}
}

func pack(generation uint16, end journal.Position) uint64 {
	return uint64(generation)<<positionBits | uint64(end)
}

// load returns the generation and the durable end as one consistent value.
func (s *state) load() (uint16, journal.Position) {
	w := atomic.LoadUint64(&s.word)
	return uint16(w >> positionBits), journal.Position(w & positionMask)
}

// trimmed returns the position before which entries are gone.
func (s *state) trimmed() journal.Position {
	if !s.current() {
		return s.anchor.first
	}
	return journal.Position(atomic.LoadUint64(&s.first))
}

// newestSegment returns where the newest segment starts, or false if there is
// none.
func (s *state) newestSegment() (journal.Position, bool) {
	n := atomic.LoadUint64(&s.newest)
	return journal.Position(n - 1), n != 0
}

// setTrimmed and setNewest only move forward: a writer that was stopped and lost
// the right to write may come late.
func (s *state) setTrimmed(first journal.Position) {
	raise(&s.first, uint64(first))
	s.stir()
}

func (s *state) setNewest(start journal.Position) { raise(&s.newest, uint64(start)+1) }

func raise(word *uint64, v uint64) {
	for {
		old := atomic.LoadUint64(word)
		if old >= v || atomic.CompareAndSwapUint64(word, old, v) {
			return
		}
	}
}

// publish moves the durable end, unless the right to write was taken over since
// from was loaded. This is the moment at which an entry is in the journal.
func (s *state) publish(generation uint16, from, to journal.Position) bool {
	if !atomic.CompareAndSwapUint64(&s.word, pack(generation, from), pack(generation, to)) {
		return false
	}
	s.stir()
	return true
}

// takeOver begins the next generation of the right to write: whoever has it now
// cannot publish any more.
func (s *state) takeOver(generation uint16, end journal.Position) error {
	if generation == 1<<16-1 {
		return errors.New("the right to write was taken over too often; restart the machine")
	}
	atomic.CompareAndSwapUint64(&s.word, pack(generation, end), pack(generation+1, end))
	return nil
}

// stir wakes everybody who waits for a change.
func (s *state) stir() {
	atomic.AddUint32(&s.pulse, 1)
	s.fsys.Wake(&s.pulse)
}

// setBusy says that a writer of generation is about to change files; done says
// that they are as they should be.
func (s *state) setBusy(generation uint16) { atomic.StoreUint32(&s.busy, uint32(generation)+1) }

func (s *state) done(generation uint16) {
	atomic.CompareAndSwapUint32(&s.busy, uint32(generation)+1, 0)
}

// clearBusy is for a handle that put things in order after another.
func (s *state) clearBusy() { atomic.StoreUint32(&s.busy, 0) }

func (s *state) isBusy() bool { return atomic.LoadUint32(&s.busy) != 0 }

// askForRoom makes appends hold back until a fence got through, at most for d.
func (s *state) askForRoom(d time.Duration) {
	atomic.StoreInt64(&s.wanted, time.Now().Add(d).UnixNano())
}

func (s *state) roomFound() { atomic.StoreInt64(&s.wanted, 0) }

// roomWanted reports whether a fence waits. A clock that jumps costs appends a
// pause, or a fence its turn for a moment; nothing else.
func (s *state) roomWanted() bool {
	until := atomic.LoadInt64(&s.wanted)
	return until != 0 && time.Now().UnixNano() < until
}

func (s *state) close() error {
	return errors.Join(s.file.Unmap(s.mem), s.file.Close())
}
