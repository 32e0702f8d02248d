package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"understudy.dev/journal"
)

// A tenure is the right to append to a journal, and where to go on.
type tenure struct {
	w    *journal.Writer
	last uint64 // the highest number found
}

// openTenure reads j to its end, fences whoever records there, and reads through
// the fence. A journal with records that no harness wrote is refused before the
// fence.
func openTenure(ctx context.Context, j journal.Journal, owner string, cfg journal.WriterConfig) (*tenure, error) {
	s, err := newScanner(ctx, j)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.drain(ctx); err != nil {
		return nil, err
	}
	epoch := s.r.Cursor().Epoch + 1
	fence, err := fenceOut(ctx, j, epoch, owner)
	if err != nil {
		return nil, err
	}
	s.end = fence
	if err := s.drain(ctx); err != nil {
		return nil, fmt.Errorf("after the fence of epoch %d, which shut the last recorder out: %w", epoch, err)
	}
	return &tenure{w: journal.NewWriter(j, s.r.Cursor(), cfg), last: s.last}, nil
}

// drain reads to the end.
func (s *scanner) drain(ctx context.Context) error {
	for {
		if _, err := s.next(ctx); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// fenceAgain is the pause before a fence whose outcome is unknown is asked for
// again.
const fenceAgain = 20 * time.Millisecond

// fenceOut opens epoch for owner. The owner is unique, so after an unknown outcome
// it simply asks again until ctx ends.
func fenceOut(ctx context.Context, j journal.Journal, epoch journal.Epoch, owner string) (journal.Position, error) {
	for {
		pos, err := j.Fence(ctx, epoch, owner)
		if err == nil || journal.OutcomeOf(err) == journal.NotDone || errors.Is(err, journal.ErrBroken) {
			return pos, err
		}
		select {
		case <-time.After(fenceAgain):
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}
