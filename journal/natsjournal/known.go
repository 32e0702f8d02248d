package natsjournal

import (
	"context"
	"fmt"
	"sync"

	"understudy.dev/journal"
)

// A fenceAt is a fence and where it lies. The zero fenceAt says that there is
// none.
type fenceAt struct {
	journal.Fence
	pos journal.Position
}

// fenceKnowledge is what a handle knows about fences: last is the last one at or
// before any position in [last.pos, through]. Positions outside are looked up.
//
// It is right without being fresh: a fence after through moved the end of the
// stream past it, so an append whose prev is at or before through is either
// judged by last or refused by the server for its expectation.
type fenceKnowledge struct {
	mu      sync.Mutex
	valid   bool
	last    fenceAt
	through journal.Position

	decoder journal.Decoder
	batch   journal.Batch
}

// stamp returns the owner that batch names.
func (k *fenceKnowledge) stamp(batch []byte, epoch journal.Epoch) (owner string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.decoder.Batch(batch, &k.batch); err != nil {
		return "", err
	}
	if k.batch.Epoch != epoch {
		return "", fmt.Errorf("batch is stamped with epoch %d: %w", k.batch.Epoch, journal.ErrMalformed)
	}
	owner = k.batch.Owner
	k.batch = journal.Batch{} // which refers to the caller's bytes
	return owner, nil
}

// at returns the last fence at or before pos, if it is known.
func (k *fenceKnowledge) at(pos journal.Position) (fenceAt, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last, k.valid && k.last.pos <= pos && pos <= k.through
}

// contradicts reports whether f lies where another entry is known to be, which
// are known up to through.
func (k *fenceKnowledge) contradicts(f fenceAt) (through journal.Position, other bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.through, k.valid && f.pos <= k.through && (f.pos > k.last.pos || f.pos == k.last.pos && f.Fence != k.last.Fence)
}

// learn takes in that f is the last fence at or before through.
func (k *fenceKnowledge) learn(f fenceAt, through journal.Position) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.valid || through > k.through {
		k.valid, k.last, k.through = true, f, through
	}
}

// admit refuses an append that the open fence at prev shuts out. It returns that
// fence if it is the writer's own.
func (j *Journal) admit(ctx context.Context, writer journal.Fence, prev journal.Position) (fenceAt, error) {
	open, ok := j.known.at(prev)
	if !ok {
		var err error
		if open, err = j.fenceBefore(ctx, prev); err != nil {
			return fenceAt{}, fmt.Errorf("look for the fence at or before %d: %w", prev, err)
		}
	}
	switch {
	case open.Fence == writer:
		return open, nil
	case open.Epoch < writer.Epoch:
		return fenceAt{}, j.admitEarly(ctx, writer)
	}
	return fenceAt{}, fmt.Errorf("%w: epoch %d was opened by %q at %d", journal.ErrFenced, open.Epoch, open.Owner, open.pos)
}

// admitEarly decides about a writer whose fence is not at or before prev. If a
// fence of its epoch or a larger one comes later, prev is not the end, and the
// server will say so. If there is none, the epoch was never opened, and what it
// wrote could not be read.
func (j *Journal) admitEarly(ctx context.Context, writer journal.Fence) error {
	newest, err := j.newestFence(ctx)
	if err != nil {
		return fmt.Errorf("look for the newest fence: %w", err)
	}
	if newest.Epoch < writer.Epoch {
		return journal.ErrEpoch
	}
	return nil
}

// fenceBefore asks the stream for the last fence at or before pos: one replica
// in one state, in which it has pos. If the one that answers does not have it,
// because it lags, because the batch there was trimmed, or because the stream
// ends before it, the leader is asked; what it says is not remembered, since
// nothing proves that it had pos.
func (j *Journal) fenceBefore(ctx context.Context, pos journal.Position) (fenceAt, error) {
	if pos == 0 {
		return fenceAt{}, nil
	}
	ctx, done := j.within(ctx)
	defer done()
	last, err := j.lastUpTo(ctx, pos)
	if err != nil {
		return fenceAt{}, err
	}
	if last.end == pos {
		j.known.learn(last.fence, pos)
		return last.fence, nil
	}
	newest, err := j.newestFence(ctx)
	if err != nil || newest.pos > pos {
		return last.fence, err // with more after pos the server will refuse
	}
	return newest, nil
}
