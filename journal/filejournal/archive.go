package filejournal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"understudy.dev/internal/spoil"
	"understudy.dev/journal"
)

// An archive is one file, little endian: a header, blocks of entries, an index
// of the blocks, and a footer, the last 408 bytes.
//
// Header:
//
//	 0    8  magic "UDJARC1\n"
//	 8    4  CRC32C of the bytes from 12 to 511
//	12    2  format version, 1
//	14    2  zero
//	16  368  cursor before the first entry
//	         zero up to 511
//
// Block:
//
//	 0    4  magic "UDAB"
//	 4    4  CRC32C of the bytes from 8 to the end of the block
//	 8    4  size of the compressed entries in bytes
//	12    4  their size when decompressed
//	16    n  one zstd frame (RFC 8878) of entries:
//	         0  8  position
//	         8  4  size in bytes
//	        12  n  entry: batch or fence
//
// Index:
//
//	 0    4  magic "UDAI"
//	 4    4  CRC32C of the bytes from 8 to the end of the index
//	 8    8  number of blocks
//	16       for each: 8 bytes offset in the file, 368 bytes cursor before its first entry
//
// Footer:
//
//	 0    8  magic "UDJEND1\n"
//	 8    4  CRC32C of the bytes from 12 to the end
//	12    4  zero
//	16    8  offset of the index
//	24    8  number of entries
//	32    8  size of the entries in bytes, without positions and sizes
//	40  368  cursor at the end: an archive that was cut short has none
const (
	archiveMagic   = "UDJARC1\n"
	archiveVersion = 1
	archiveHeader  = 512
	blockMagic     = "UDAB"
	blockHeader    = 16
	entryHeader    = 12
	blockIndex     = "UDAI"
	indexStart     = 16
	indexRecord    = 8 + cursorBytes
	footerMagic    = "UDJEND1\n"
	footerBytes    = 40 + cursorBytes

	// blockBytes is how many bytes of entries fill a block: what must be read
	// to get at one entry.
	blockBytes = 1 << 20

	// maxBlock bounds the memory that a damaged block can ask for: the largest
	// entry of any backend and what shares a block with it.
	maxBlock = 256 << 20
)

// An Archive is a journal in one compressed file, read-only. It implements
// journal.Journal, journal.Ender, journal.Locator and journal.Describer.
type Archive struct {
	path   string
	file   *os.File
	from   journal.Cursor
	end    journal.Cursor
	size   int64 // of the entries in bytes
	index  int64 // offset of the index, where the blocks end
	blocks []block
	zstd   *zstd.Decoder

	closeOnce sync.Once
	closed    chan struct{}
	closeErr  error
	mu        sync.RWMutex // held by readers of the file; Close takes it whole
}

// A block is a record of the index.
type block struct {
	offset int64
	before journal.Cursor
}

// OpenArchive opens a file that Export wrote. It checks header, index and footer;
// each block is checked when it is read.
func OpenArchive(path string) (*Archive, error) {
	a, err := openArchive(path)
	if err != nil {
		return nil, fmt.Errorf("open archive %s: %w", path, err)
	}
	return a, nil
}

func openArchive(path string) (*Archive, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	a := &Archive{path: path, file: f, closed: make(chan struct{})}
	err = a.readHeader()
	if err == nil {
		err = a.readFooter()
	}
	if err == nil {
		a.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBlock))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return a, nil
}

func (a *Archive) damaged(offset int64, seq journal.Seq, err error) error {
	return &journal.CorruptError{Source: a.path, Seq: seq, Offset: offset, Err: err}
}

// read reads n bytes at an offset. A file that is too short is damage.
func (a *Archive) read(offset, n int64) ([]byte, error) { return a.readInto(nil, offset, n) }

// readInto reads into the memory of room if that suffices.
func (a *Archive) readInto(room []byte, offset, n int64) ([]byte, error) {
	b := slices.Grow(room[:0], int(n))[:n]
	_, err := a.file.ReadAt(b, offset)
	if errors.Is(err, io.EOF) {
		return nil, a.damaged(offset, 0, fmt.Errorf("%w: archive %w", ErrDamaged, journal.ErrShort))
	}
	if err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	return b, nil
}

func (a *Archive) readHeader() error {
	b := make([]byte, archiveHeader)
	n, err := a.file.ReadAt(b, 0)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return fmt.Errorf("read archive: %w", err)
	case !bytes.HasPrefix(b[:n], []byte(archiveMagic)):
		return a.damaged(0, 0, fmt.Errorf("not an archive: %w", journal.ErrForeign))
	case n < len(b):
		return a.damaged(int64(n), 0, fmt.Errorf("%w: archive header: %w", ErrDamaged, journal.ErrShort))
	}
	le := binary.LittleEndian
	if sum(b[12:]) != le.Uint32(b[8:]) {
		return a.damaged(0, 0, fmt.Errorf("%w: archive header: %w", ErrDamaged, journal.ErrChecksum))
	}
	if v := le.Uint16(b[12:]); v != archiveVersion {
		return a.damaged(0, 0, fmt.Errorf("%w: archive format %d, this version reads %d", journal.ErrVersion, v, archiveVersion))
	}
	a.from = getCursor(b[16:])
	return nil
}

func (a *Archive) readFooter() error {
	st, err := a.file.Stat()
	if err != nil {
		return err
	}
	at := max(st.Size()-footerBytes, archiveHeader)
	b, err := a.read(at, footerBytes)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	if string(b[:8]) != footerMagic {
		return a.damaged(at, 0, fmt.Errorf("%w: no footer: archive %w", ErrDamaged, journal.ErrShort))
	}
	if sum(b[12:]) != le.Uint32(b[8:]) {
		return a.damaged(at, 0, fmt.Errorf("%w: archive footer: %w", ErrDamaged, journal.ErrChecksum))
	}
	a.index, a.size, a.end = int64(le.Uint64(b[16:])), int64(le.Uint64(b[32:])), getCursor(b[40:])
	return a.readIndex(a.index, at)
}

func (a *Archive) readIndex(from, to int64) error {
	bad := a.damaged(from, 0, fmt.Errorf("%w: archive index: %w", ErrDamaged, journal.ErrChecksum))
	if from < archiveHeader || to-from < indexStart {
		return bad
	}
	b, err := a.read(from, to-from)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	if string(b[:4]) != blockIndex || sum(b[8:]) != le.Uint32(b[4:]) || le.Uint64(b[8:]) != uint64(len(b)-indexStart)/indexRecord {
		return bad
	}
	for b = b[indexStart:]; len(b) >= indexRecord; b = b[indexRecord:] {
		a.blocks = append(a.blocks, block{offset: int64(le.Uint64(b)), before: getCursor(b[8:])})
	}
	return nil
}

// Append implements journal.Journal: it always fails with ErrReadOnly.
func (a *Archive) Append(context.Context, journal.Epoch, journal.Position, []byte) (journal.Position, error) {
	return 0, a.refuse("append")
}

// Fence implements journal.Journal: it always fails with ErrReadOnly.
func (a *Archive) Fence(context.Context, journal.Epoch, string) (journal.Position, error) {
	return 0, a.refuse("fence")
}

func (a *Archive) refuse(what string) error {
	if a.isClosed() {
		return fmt.Errorf("%s: %w", what, journal.ErrClosed)
	}
	return fmt.Errorf("%s: %w", what, journal.ErrReadOnly)
}

// Follow implements journal.Journal. After the last entry there are heartbeats.
func (a *Archive) Follow(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		if err := a.follow(ctx, after, yield); err != nil {
			yield(journal.Entry{}, fmt.Errorf("follow after %d: %w", after, err))
		}
	}
}

func (a *Archive) follow(ctx context.Context, after journal.Position, yield func(journal.Entry, error) bool) error {
	if a.isClosed() {
		return journal.ErrClosed
	}
	if after < a.from.Pos {
		return fmt.Errorf("the archive starts after %d: %w", a.from.Pos, journal.ErrTrimmed)
	}
	last := after
	tell := yield
	yield = func(e journal.Entry, err error) bool {
		last = e.Pos
		return tell(e, err)
	}
	n := sort.Search(len(a.blocks), func(i int) bool { return a.blocks[i].before.Pos > after })
	var room blockRoom
	for i := max(n-1, 0); i < len(a.blocks) && after < a.end.Pos; i++ {
		more, err := a.yieldBlock(ctx, i, after, &room, yield)
		if err != nil || !more {
			return err
		}
	}
	if last < a.end.Pos {
		return a.damaged(a.size, a.end.Seq, fmt.Errorf("%w: archive: its entries end at position %d, its footer says %d", ErrDamaged, last, a.end.Pos))
	}
	return a.beat(ctx, tell)
}

// blockRoom is memory for one block after another.
type blockRoom struct {
	packed, raw []byte
}

// yieldBlock yields the entries of a block that lie behind after.
func (a *Archive) yieldBlock(ctx context.Context, i int, after journal.Position, room *blockRoom, yield func(journal.Entry, error) bool) (more bool, err error) {
	raw, err := a.block(i, room)
	if err != nil {
		return false, err
	}
	for len(raw) > 0 {
		if a.isClosed() || ctx.Err() != nil {
			return false, nil
		}
		size := uint64(0)
		if len(raw) >= entryHeader {
			size = entryHeader + uint64(binary.LittleEndian.Uint32(raw[8:]))
		}
		if size == 0 || size > uint64(len(raw)) {
			return false, a.damaged(a.blocks[i].offset, a.blocks[i].before.Seq, fmt.Errorf("%w: block: %w", ErrDamaged, journal.ErrMalformed))
		}
		e := journal.Entry{Pos: journal.Position(binary.LittleEndian.Uint64(raw)), Data: raw[entryHeader:size:size]}
		if raw = raw[size:]; e.Pos > after && !yield(e, nil) {
			return false, nil
		}
	}
	return true, nil
}

// block returns the entries of a block, decompressed into room.
func (a *Archive) block(i int, room *blockRoom) ([]byte, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.isClosed() {
		return nil, journal.ErrClosed
	}
	at := a.blocks[i]
	bad := func(err error) error {
		return a.damaged(at.offset, at.before.Seq, fmt.Errorf("%w: block: %w", ErrDamaged, err))
	}
	head, err := a.read(at.offset, blockHeader)
	if err != nil {
		return nil, err
	}
	size, rawSize := binary.LittleEndian.Uint32(head[8:]), binary.LittleEndian.Uint32(head[12:])
	if string(head[:4]) != blockMagic || at.offset+blockHeader+int64(size) > a.index || rawSize > maxBlock {
		return nil, bad(journal.ErrMalformed)
	}
	b, err := a.readInto(room.packed, at.offset+8, 8+int64(size))
	if err != nil {
		return nil, err
	}
	room.packed = b
	if sum(b) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, bad(journal.ErrChecksum)
	}
	spoil.Bytes(room.raw)
	raw, err := a.zstd.DecodeAll(b[8:], slices.Grow(room.raw[:0], int(rawSize)))
	if err != nil {
		return nil, bad(err)
	}
	room.raw = raw
	if len(raw) != int(rawSize) {
		return nil, bad(journal.ErrMalformed)
	}
	return raw, nil
}

// beat yields heartbeats until the caller or the archive is done.
func (a *Archive) beat(ctx context.Context, yield func(journal.Entry, error) bool) error {
	every := time.NewTicker(heartbeatEvery)
	defer every.Stop()
	for !a.isClosed() && ctx.Err() == nil {
		if !yield(journal.Entry{Pos: a.end.Pos}, nil) {
			return nil
		}
		select {
		case <-every.C:
		case <-ctx.Done():
		case <-a.closed:
		}
	}
	return nil
}

// End implements journal.Ender.
func (a *Archive) End(ctx context.Context) (journal.End, error) {
	if err := a.usable(ctx); err != nil {
		return journal.End{}, fmt.Errorf("sample end: %w", err)
	}
	c := a.end
	return journal.End{Pos: c.Pos, Seq: c.Seq, Epoch: c.Epoch, Time: c.Time, Bytes: a.size, First: a.from.Pos, When: time.Now()}, nil
}

// Locate implements journal.Locator: to the block that holds the target.
func (a *Archive) Locate(ctx context.Context, target journal.Target) (journal.Cursor, error) {
	if err := a.usable(ctx); err != nil {
		return journal.Cursor{}, fmt.Errorf("locate: %w", err)
	}
	n := sort.Search(len(a.blocks), func(i int) bool { return !before(a.blocks[i].before.Seq, a.blocks[i].before.Time, target) })
	if n == 0 {
		return a.from, nil
	}
	return a.blocks[n-1].before, nil
}

// Place implements journal.Placer: the archive, and the byte at which the block
// with the entry starts.
func (a *Archive) Place(pos journal.Position) (source string, offset int64) {
	i := sort.Search(len(a.blocks), func(i int) bool { return a.blocks[i].before.Pos >= pos }) - 1
	if i < 0 {
		return "", -1
	}
	return a.path, a.blocks[i].offset
}

// Describe implements journal.Describer.
func (a *Archive) Describe() journal.Capabilities {
	return journal.Capabilities{Backend: "archive", Location: a.path, ReadOnly: true}
}

// Close implements journal.Journal.
func (a *Archive) Close() error {
	a.closeOnce.Do(func() {
		close(a.closed)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.zstd.Close()
		a.closeErr = a.file.Close()
	})
	return a.closeErr
}

func (a *Archive) isClosed() bool {
	select {
	case <-a.closed:
		return true
	default:
		return false
	}
}

func (a *Archive) usable(ctx context.Context) error {
	if a.isClosed() {
		return journal.ErrClosed
	}
	return ctx.Err()
}
