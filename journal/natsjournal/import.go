package natsjournal

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"understudy.dev/journal"
)

// Import implements journal.Importer. The server compares the end; it is asked
// nothing else.
func (j *Journal) Import(ctx context.Context, prev journal.Position, entry []byte) (journal.Position, error) {
	subject := j.subjects.data
	if journal.IsFence(entry) {
		subject = j.subjects.epoch
	}
	err := journal.CheckEntry(entry)
	if err == nil {
		err = j.usable(ctx)
	}
	if err == nil && len(entry) > j.maxBatch {
		err = fmt.Errorf("entry of %d bytes, at most %d: %w", len(entry), j.maxBatch, journal.ErrTooLarge)
	}
	if err == nil {
		var pos journal.Position
		if pos, err = j.publish(ctx, subject, entry, jetstream.WithExpectLastSequence(uint64(prev))); err == nil {
			return pos, nil
		}
	}
	return 0, fmt.Errorf("import after %d to stream %s: %w", prev, j.cfg.Stream, err)
}
