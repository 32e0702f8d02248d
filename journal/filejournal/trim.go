package filejournal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"understudy.dev/journal"
)

// Trim implements journal.Trimmer: it drops the segments that end at or before
// through, except the one with the newest fence and those after it. A file that
// nobody can be writing to becomes a spare.
//
// Order: the anchor, so that what is missing is not taken for lost; then the
// word for readers, so that none believes what it reads in a recycled file; then
// the files.
func (j *Journal) Trim(ctx context.Context, through journal.Position) error {
	if err := j.trim(ctx, through); err != nil {
		return fmt.Errorf("trim through %d: %w", through, err)
	}
	return nil
}

func (j *Journal) trim(ctx context.Context, through journal.Position) error {
	if err := j.begin(ctx, false); err != nil {
		return err
	}
	defer j.end()
	starts, err := segmentStarts(j.fsys, j.dir)
	if err != nil {
		return err
	}
	keep := min(through, j.tail.cursor.Pos)
	if f := j.tail.cursor.Fence; f > 0 {
		keep = min(keep, f-1)
	}
	first := j.st.trimmed()
	for _, start := range starts {
		if start <= keep {
			first = max(first, start)
		}
	}
	newest, _ := j.st.newestSegment()
	if first > j.st.trimmed() {
		if err := j.st.writeAnchor(j.generation, first, newest); err != nil {
			return j.fail(err)
		}
		j.st.setTrimmed(first)
	}
	return dropBefore(j.fsys, j.dir, j.st.id, starts, first, j.cfg.SegmentBytes)
}

// dropBefore removes the segments that start before first, or keeps one as a
// spare. starts are all of them, in order.
func dropBefore(fsys FS, dir string, of id, starts []journal.Position, first journal.Position, wantBytes int64) error {
	names, err := fsys.List(dir)
	if err != nil {
		return fmt.Errorf("list journal: %w", err)
	}
	spare := spares(names) > 0
	for i, start := range starts {
		if start >= first || i+1 == len(starts) {
			break
		}
		if err := fsys.Remove(filepath.Join(dir, indexName(start))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove index: %w", err)
		}
		path := filepath.Join(dir, segmentName(start))
		if !spare && quiet(fsys, dir, of, start, starts[i+1], wantBytes) {
			err = fsys.Rename(path, filepath.Join(dir, randomName(sparePrefix)))
			spare = true
		} else {
			err = fsys.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove segment: %w", err)
		}
	}
	return nil
}

// quiet reports whether a segment is of the wanted size and its writer left it
// in order. If the right to write was taken over in it, the writer may be paused
// in the midst of a write, and the file must never be used again.
func quiet(fsys FS, dir string, of id, start, next journal.Position, wantBytes int64) bool {
	a, err := openSegment(fsys, dir, of, start, os.O_RDONLY)
	if err != nil {
		return false
	}
	defer a.file.Close()
	b, err := openSegment(fsys, dir, of, next, os.O_RDONLY)
	if err != nil {
		return false
	}
	defer b.file.Close()
	return a.generation == b.generation && a.size == wantBytes
}
