package natsjournal

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"understudy.dev/journal"
)

// Fence implements journal.Journal. While the stream has no leader it waits for
// one within ctx. An answer that did not come leaves the outcome unknown; the
// caller asks again.
func (j *Journal) Fence(ctx context.Context, epoch journal.Epoch, owner string) (journal.Position, error) {
	pos, err := j.fence(ctx, journal.Fence{Epoch: epoch, Owner: owner})
	if err != nil {
		return 0, fmt.Errorf("fence epoch %d for %q in stream %s: %w", epoch, owner, j.cfg.Stream, err)
	}
	return pos, nil
}

// fenceTries bounds how often a lost race is run again. A race is lost for good
// when the winner's epoch is not smaller; otherwise the winner is in flight and
// visible within a commit, or was refused itself.
const fenceTries = 200

func (j *Journal) fence(ctx context.Context, want journal.Fence) (journal.Position, error) {
	if err := journal.CheckFence(want.Epoch, want.Owner); err != nil {
		return 0, err
	}
	if err := j.usable(ctx); err != nil {
		return 0, err
	}
	if err := j.intact(ctx); errors.Is(err, journal.ErrLost) { // any other error says that there is no leader yet
		return 0, err
	}
	ctx, done := j.within(ctx)
	defer done()
	for tries := 1; ; tries++ {
		newest, err := j.awaitNewestFence(ctx)
		if err != nil {
			return 0, err
		}
		switch {
		case newest.Fence == want:
			raise(&j.seen.fence, uint64(newest.pos))
			return newest.pos, nil
		case newest.Epoch >= want.Epoch:
			return 0, fmt.Errorf("%w: epoch %d was opened by %q at %d", journal.ErrFenced, newest.Epoch, newest.Owner, newest.pos)
		}
		pos, err := j.publishFence(ctx, want, newest.pos)
		pause := pauseForFence
		switch {
		case err == nil:
			raise(&j.seen.fence, uint64(pos))
			j.known.learn(fenceAt{want, pos}, pos)
			return pos, nil
		case errors.Is(err, journal.ErrConflict) && tries < fenceTries:
		case unsent(err):
			tries, pause = 0, pauseForLeader
		default:
			return 0, err
		}
		if cause := wait(ctx, pause); cause != nil {
			return 0, fmt.Errorf("%w: %w", cause, err)
		}
	}
}

// unsent reports whether a message certainly reached no stream: nobody listened,
// or there was no connection to send it on.
func unsent(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrReconnectBufExceeded)
}

// publishFence stores a fence if the one at last is still the newest.
func (j *Journal) publishFence(ctx context.Context, want journal.Fence, last journal.Position) (journal.Position, error) {
	return j.publish(ctx, j.subjects.epoch, journal.AppendFence(nil, want.Epoch, want.Owner), jetstream.WithExpectLastSequencePerSubject(uint64(last)))
}

// awaitNewestFence reads the newest fence from the leader, and waits within ctx
// until there is one to ask.
func (j *Journal) awaitNewestFence(ctx context.Context) (fenceAt, error) {
	for {
		f, err := j.newestFence(ctx)
		if err == nil || !passing(err) || ctx.Err() != nil {
			return f, err
		}
		if wait(ctx, pauseForLeader) != nil {
			return f, fmt.Errorf("no leader: %w: %w", context.Cause(ctx), err)
		}
	}
}
