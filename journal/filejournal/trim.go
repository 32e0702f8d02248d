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
	if err := j.look(); err != nil { // nothing is removed from another journal's folder
		return err
	}
	all, err := listSegments(j.fsys, j.dir)
	if err != nil {
		return err
	}
	keep := min(through, j.tail.cursor.Pos)
	if f := j.tail.cursor.Fence; f > 0 {
		keep = min(keep, f-1)
	}
	first := j.st.trimmed()
	for _, s := range all {
		if s.start <= keep {
			first = max(first, s.start)
		}
	}
	newest, _ := j.st.newestSegment()
	if first > j.st.trimmed() {
		if err := j.st.writeAnchor(j.generation, first, newest); err != nil {
			return j.fail(err)
		}
		j.st.setTrimmed(first)
	}
	return dropBefore(j.fsys, j.dir, j.st.id, first, j.cfg.SegmentBytes)
}

// Segments implements journal.Segmenter.
func (j *Journal) Segments() ([]journal.Position, error) {
	if j.isClosed() {
		return nil, fmt.Errorf("segments: %w", journal.ErrClosed)
	}
	all, err := listSegments(j.fsys, j.dir)
	if err != nil {
		return nil, fmt.Errorf("segments: %w", err)
	}
	starts := make([]journal.Position, len(all))
	for i, s := range all {
		starts[i] = s.start
	}
	return starts, nil
}

// dropBefore removes the segments that start before first, or keeps one as a
// spare.
func dropBefore(fsys FS, dir string, of id, first journal.Position, wantBytes int64) error {
	names, err := fsys.List(dir)
	if err != nil {
		return fmt.Errorf("list journal: %w", err)
	}
	all, err := segmentFiles(fsys, dir)
	if err != nil {
		return err
	}
	spare := spares(names) > 0
	for i, s := range all {
		if s.start >= first || i+1 == len(all) {
			break
		}
		next := all[i+1:] // the first of those that start behind s, in the largest generation
		for len(next) > 1 && (next[0].start == s.start || next[1].start == next[0].start) {
			next = next[1:]
		}
		if err := fsys.Remove(filepath.Join(dir, indexName(s.start))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove index: %w", err)
		}
		path := filepath.Join(dir, s.name())
		if !spare && s.generation == next[0].generation && sized(fsys, dir, of, s, wantBytes) {
			err = fsys.Rename(path, filepath.Join(dir, randomName(sparePrefix)))
			spare = true
		} else {
			// Where the next segment is of another generation, the writer may be
			// stopped in the midst of a write: the file is never used again.
			err = fsys.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove segment: %w", err)
		}
	}
	return nil
}

// sized reports whether a segment is good and has the wanted size.
func sized(fsys FS, dir string, of id, s segmentID, wantBytes int64) bool {
	seg, err := openSegment(fsys, dir, of, s, os.O_RDONLY)
	if err != nil {
		return false
	}
	defer seg.file.Close()
	return seg.size == wantBytes
}
