package natsjournal

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"understudy.dev/journal"
)

// Append implements journal.Journal. A batch that cannot be decoded, is stamped
// with another epoch, or is of an epoch that was never opened is the caller's
// mistake: nothing is written.
func (j *Journal) Append(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
	pos, err := j.append(ctx, epoch, prev, batch)
	if err != nil {
		return 0, fmt.Errorf("append after %d in epoch %d to stream %s: %w", prev, epoch, j.cfg.Stream, err)
	}
	return pos, nil
}

func (j *Journal) append(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
	if err := j.usable(ctx); err != nil {
		return 0, err
	}
	if len(batch) > j.maxBatch {
		return 0, fmt.Errorf("batch of %d bytes, at most %d: %w", len(batch), j.maxBatch, journal.ErrTooLarge)
	}
	if err := j.intact(ctx); err != nil {
		return 0, err
	}
	owner, err := j.known.stamp(batch, epoch)
	if err != nil {
		return 0, err
	}
	open, err := j.admit(ctx, journal.Fence{Epoch: epoch, Owner: owner}, prev)
	if err != nil {
		return 0, err
	}
	expect := []jetstream.PublishOpt{jetstream.WithExpectLastSequence(uint64(prev))}
	if j.info.Config.Replicas == 1 {
		// The fence's move of the end is what shuts an older writer out, unless the
		// server lost its tail and the new primary filled the same sequences again.
		// So the server compares the epoch too. Replicated streams, which lose no
		// tail with one server, are not asked: they refuse it wrongly with more than
		// one message under way.
		expect = append(expect, jetstream.WithExpectLastSequenceForSubject(uint64(open.pos), j.subjects.epoch))
	}
	pos, err := j.publish(ctx, j.subjects.data, batch, expect...)
	if err != nil {
		return 0, err
	}
	j.seen.saw(pos, batch)
	if open.pos > 0 { // stored directly after prev, so open is still the last fence
		j.known.learn(open, pos)
	}
	return pos, nil
}

// publish sends one entry with its expectation and waits for the answer, once.
// There is no Nats-Msg-Id: servers check it in a different order from the
// expectation depending on replicas, and its refusal proves nothing.
func (j *Journal) publish(ctx context.Context, subject string, data []byte, expect ...jetstream.PublishOpt) (journal.Position, error) {
	ctx, done := j.within(ctx)
	defer done()
	ctx, cancel := j.soon(ctx)
	defer cancel()
	ack, err := j.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data}, append(expect, jetstream.WithRetryAttempts(0))...)
	if err != nil {
		return 0, publishError(ctx, err)
	}
	if ack.Stream != j.cfg.Stream {
		return 0, fmt.Errorf("stream %s took the message", ack.Stream)
	}
	return journal.Position(ack.Sequence), nil
}

// The codes of a refused message that nats.go v1.55 does not name (nats-server
// v2.15.2, server/jetstream_errors_generated.go).
const (
	codeAccountResources = 10002 // resource limits exceeded for account
	codeNoResources      = 10023 // insufficient resources
	codeNoStorage        = 10047 // insufficient storage resources available
	codeStoreFailed      = 10077 // maximum messages or bytes exceeded
)

// publishError turns what became of a message into the journal's words, and keeps
// what was said.
//
// A lost race has two codes: 10071 where the server compares with what is stored,
// 10164 where a replicated stream compares with proposals in flight. Both speak
// of this message only. 10158, a message id in process, and every other code,
// time-out or lost connection leave the outcome unknown. 10077 comes from a store
// that refused the message: with a limit that discards new ones, for lack of room
// (server/stream.go, NewJSStreamStoreFailedError); any other failure to store is
// not answered at all.
func publishError(ctx context.Context, err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %w", journal.ErrTooLarge, err)
	case !errors.As(err, &api):
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			return fmt.Errorf("%w: %w", cause, err)
		}
		return err
	}
	switch api.ErrorCode {
	case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant:
		return fmt.Errorf("%w: %w", journal.ErrConflict, err)
	case jetstream.JSErrCodeStreamMessageExceedsMaximum:
		return fmt.Errorf("%w: %w", journal.ErrTooLarge, err)
	case codeStoreFailed, codeAccountResources, codeNoResources, codeNoStorage:
		return fmt.Errorf("%w: %w", journal.ErrFull, err)
	}
	return err
}
