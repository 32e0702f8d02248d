package filejournal

import (
	"context"
	"fmt"

	"understudy.dev/journal"
)

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
	if err := journal.CheckEntry(entry); err != nil { // once stored, every later open would find it
		return 0, err
	}
	if err := j.begin(ctx, false); err != nil {
		return 0, err
	}
	defer j.end()
	if end := j.tail.cursor.Pos; end != prev {
		return 0, fmt.Errorf("the end is %d: %w", end, journal.ErrConflict)
	}
	pos, err := j.store(entry)
	if err == nil {
		err = j.tail.take(prev, pos, entry)
	}
	return pos, err
}
