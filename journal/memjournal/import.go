package memjournal

import (
	"context"
	"fmt"

	"understudy.dev/journal"
)

// Import implements journal.Importer.
func (j *Journal) Import(ctx context.Context, prev journal.Position, entry []byte) (journal.Position, error) {
	err := journal.CheckEntry(entry)
	if err == nil {
		err = j.usable(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("import after %d: %w", prev, err)
	}
	j.store.mu.Lock()
	defer j.store.mu.Unlock()
	if end := j.store.sampled.Pos; end != prev {
		return 0, fmt.Errorf("import after %d: the end is %d: %w", prev, end, journal.ErrConflict)
	}
	return j.store.putLocked(entry), nil
}
