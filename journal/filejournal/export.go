package filejournal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"understudy.dev/journal"
)

// An ExportConfig says what to export. The zero value exports all there is.
type ExportConfig struct {
	// From is where the archive starts. The zero Cursor is the oldest entry that
	// the journal still has.
	From journal.Cursor
	// Progress, if not nil, is called after each block with the place reached.
	Progress func(journal.Cursor)
}

// ExportFile exports a journal of any kind to a file that OpenArchive opens. The
// file gets its name when it is whole and durable; one that exists is not
// replaced. See Export.
func ExportFile(ctx context.Context, path string, src journal.Journal, cfg ExportConfig) (journal.Cursor, error) {
	end, err := exportFile(ctx, OS(), path, src, cfg)
	if err != nil {
		return end, fmt.Errorf("export to %s: %w", path, err)
	}
	return end, nil
}

// exportFile writes the archive under a name of its own, and gives it path when it
// is whole and durable.
func exportFile(ctx context.Context, fsys FS, path string, src journal.Journal, cfg ExportConfig) (end journal.Cursor, err error) {
	if f, err := fsys.Open(path, os.O_RDONLY); err == nil {
		f.Close()
		return end, os.ErrExist // the rename would find it, after all the work
	}
	dir, name := filepath.Split(path)
	tmp := filepath.Join(dir, randomName("."+name+"-"))
	f, err := fsys.Open(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return end, err
	}
	defer func() {
		if err != nil {
			fsys.Remove(tmp)
		}
	}()
	end, err = Export(ctx, io.NewOffsetWriter(f, 0), src, cfg)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = fsys.Rename(tmp, path)
	}
	if err == nil {
		err = fsys.SyncDir(filepath.Dir(path))
	}
	return end, err
}

// Export writes a journal of any kind to w as one compressed file, up to where
// the journal ended when it was called, and returns the cursor there. It checks
// every entry and the chain on the way: a damaged journal is not exported. It
// keeps one block and 376 bytes per block in memory.
func Export(ctx context.Context, w io.Writer, src journal.Journal, cfg ExportConfig) (journal.Cursor, error) {
	end, err := journal.SampleEnd(ctx, src)
	if err != nil && !errors.Is(err, journal.ErrUnsupported) {
		return cfg.From, err
	}
	known := err == nil
	if cfg.From.Pos == 0 && end.First > 0 { // no cursor is before Seq 1 but the oldest
		if cfg.From, err = journal.Locate(ctx, src, journal.Target{Seq: 1}); err != nil {
			return cfg.From, err
		}
	}
	x, err := newExporter(w, cfg)
	if err != nil {
		return cfg.From, err
	}
	defer x.zstd.Close()
	if !known || end.Pos > cfg.From.Pos {
		if err := x.copy(ctx, src, end.Pos, known); err != nil {
			return x.cursor, err
		}
	}
	return x.cursor, x.finish()
}

// An exporter writes an archive.
type exporter struct {
	w      io.Writer
	cfg    ExportConfig
	zstd   *zstd.Encoder
	cursor journal.Cursor // after the last entry
	offset int64
	before journal.Cursor // before the first entry of raw
	raw    []byte
	out    []byte
	blocks []block
	count  uint64
	size   uint64
}

func newExporter(w io.Writer, cfg ExportConfig) (*exporter, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	x := &exporter{w: w, cfg: cfg, zstd: enc, cursor: cfg.From, before: cfg.From}
	b := make([]byte, archiveHeader)
	copy(b, archiveMagic)
	binary.LittleEndian.PutUint16(b[12:], archiveVersion)
	putCursor(b[16:], &cfg.From)
	binary.LittleEndian.PutUint32(b[8:], sum(b[12:]))
	return x, x.write(b)
}

func (x *exporter) write(b []byte) error {
	n, err := x.w.Write(b)
	x.offset += int64(n)
	return err
}

// copy takes in entries up to end, or if that is not known to the first moment
// at which there is nothing more.
func (x *exporter) copy(ctx context.Context, src journal.Journal, end journal.Position, known bool) error {
	r := journal.NewReader(src, journal.ReaderConfig{From: x.cfg.From, Source: journal.Describe(src).Location})
	defer r.Close()
	for !known || x.cursor.Pos < end {
		var it journal.Item
		if err := r.Next(ctx, &it); err != nil {
			return err
		}
		switch it.Verdict {
		case journal.Live, journal.Dead:
			x.add(&it, it.Batch.Raw)
		case journal.Opened, journal.Void:
			x.add(&it, journal.AppendFence(nil, it.Fence.Epoch, it.Fence.Owner))
		default:
			if !known {
				return nil
			}
			continue
		}
		if len(x.raw) >= blockBytes {
			if err := x.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *exporter) add(it *journal.Item, data []byte) {
	if len(x.raw) == 0 {
		x.before = x.cursor
	}
	x.raw = binary.LittleEndian.AppendUint64(x.raw, uint64(it.Pos))
	x.raw = binary.LittleEndian.AppendUint32(x.raw, uint32(len(data)))
	x.raw = append(x.raw, data...)
	x.cursor = it.Cursor
	x.count++
	x.size += uint64(len(data))
}

// flush writes the block that has gathered.
func (x *exporter) flush() error {
	if len(x.raw) == 0 {
		return nil
	}
	b := append(x.out[:0], make([]byte, blockHeader)...)
	copy(b, blockMagic)
	b = x.zstd.EncodeAll(x.raw, b)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)-blockHeader))
	binary.LittleEndian.PutUint32(b[12:], uint32(len(x.raw)))
	binary.LittleEndian.PutUint32(b[4:], sum(b[8:]))
	x.blocks = append(x.blocks, block{offset: x.offset, before: x.before})
	x.raw, x.out = x.raw[:0], b
	if err := x.write(b); err != nil {
		return fmt.Errorf("write block: %w", err)
	}
	if x.cfg.Progress != nil {
		x.cfg.Progress(x.cursor)
	}
	return nil
}

// finish writes the last block, the index and the footer.
func (x *exporter) finish() error {
	if err := x.flush(); err != nil {
		return err
	}
	le := binary.LittleEndian
	b := make([]byte, indexStart, indexStart+len(x.blocks)*indexRecord+footerBytes)
	copy(b, blockIndex)
	le.PutUint64(b[8:], uint64(len(x.blocks)))
	for i := range x.blocks {
		b = le.AppendUint64(b, uint64(x.blocks[i].offset))
		b = append(b, make([]byte, cursorBytes)...)
		putCursor(b[len(b)-cursorBytes:], &x.blocks[i].before)
	}
	le.PutUint32(b[4:], sum(b[8:]))
	f := make([]byte, footerBytes)
	copy(f, footerMagic)
	le.PutUint64(f[16:], uint64(x.offset))
	le.PutUint64(f[24:], x.count)
	le.PutUint64(f[32:], x.size)
	putCursor(f[40:], &x.cursor)
	le.PutUint32(f[8:], sum(f[12:]))
	if err := x.write(append(b, f...)); err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	return nil
}

func sum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
