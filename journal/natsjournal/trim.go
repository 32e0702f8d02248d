package natsjournal

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"understudy.dev/journal"
)

// Trim implements journal.Trimmer. It purges batches and no fence: without the
// newest one its subject's expectation would start at 0 again, and an old epoch
// could be opened a second time. The newest record stays too, so that the end of
// the journal can still be told.
func (j *Journal) Trim(ctx context.Context, through journal.Position) error {
	if err := j.trim(ctx, through); err != nil {
		return fmt.Errorf("trim stream %s through %d: %w", j.cfg.Stream, through, err)
	}
	return nil
}

// purgeTimeout bounds a purge, which takes longer than a message.
const purgeTimeout = 10 * time.Second

func (j *Journal) trim(ctx context.Context, through journal.Position) error {
	if err := j.usable(ctx); err != nil {
		return err
	}
	if j.info.Config.DenyPurge {
		return fmt.Errorf("%w: the stream denies purging", journal.ErrUnsupported)
	}
	if through == 0 {
		return nil
	}
	ctx, done := j.within(ctx)
	defer done()
	ctx, cancel := context.WithTimeout(ctx, purgeTimeout)
	defer cancel()
	newest, err := j.newestPosition(ctx)
	if err != nil {
		return err
	}
	if through = min(through, newest-1); newest == 0 || through == 0 {
		return nil
	}
	s, err := j.js.Stream(ctx, j.cfg.Stream)
	if err != nil {
		return err
	}
	return s.Purge(ctx, jetstream.WithPurgeSubject(j.subjects.data), jetstream.WithPurgeSequence(uint64(through)+1))
}

// newestPosition returns where the newest record is; 0 if there is none.
func (j *Journal) newestPosition(ctx context.Context) (journal.Position, error) {
	if _, err := j.end(ctx); err != nil {
		return 0, err
	}
	j.tail.mu.Lock()
	defer j.tail.mu.Unlock()
	return j.tail.newest.pos, nil
}
