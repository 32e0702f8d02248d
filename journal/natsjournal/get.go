package natsjournal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"understudy.dev/journal"
)

// A message is what a stream holds at one position.
type message struct {
	pos     journal.Position
	subject string
	data    []byte
}

// api returns the subject of a JetStream request about our stream.
func (j *Journal) api(request string) string {
	return j.js.Options().APIPrefix + "." + request + "." + j.cfg.Stream
}

// ask sends one JetStream request and decodes the answer.
func (j *Journal) ask(ctx context.Context, request string, body, answer any) error {
	ctx, cancel := j.soon(ctx)
	defer cancel()
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	m, err := j.nc.RequestWithContext(ctx, j.api(request), data)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(m.Data, answer); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}

// leaderGet asks for one message: by Seq, the first on NextFor at or after Seq,
// or the last on LastFor.
type leaderGet struct {
	Seq     journal.Position `json:"seq,omitempty"`
	LastFor string           `json:"last_by_subj,omitempty"`
	NextFor string           `json:"next_by_subj,omitempty"`
}

// fromLeader reads one message from the stream's leader. Unlike a direct get it
// is not answered by a replica that lags, though a deposed leader can answer.
// found is false if there is none.
func (j *Journal) fromLeader(ctx context.Context, get leaderGet) (m message, found bool, err error) {
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject string           `json:"subject"`
			Seq     journal.Position `json:"seq"`
			Data    []byte           `json:"data"`
		} `json:"message"`
	}
	if err := j.ask(ctx, "STREAM.MSG.GET", get, &answer); err != nil {
		return m, false, fmt.Errorf("read from leader: %w", err)
	}
	switch {
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return m, false, nil
	case answer.Error != nil:
		return m, false, fmt.Errorf("read from leader: %w", answer.Error)
	case answer.Message == nil:
		return m, false, errors.New("read from leader: an answer without a message")
	}
	a := answer.Message
	return message{pos: a.Seq, subject: a.Subject, data: a.Data}, true, nil
}

// newestFence reads the last fence of all from the leader.
func (j *Journal) newestFence(ctx context.Context) (fenceAt, error) {
	m, found, err := j.fromLeader(ctx, leaderGet{LastFor: j.subjects.epoch})
	if err != nil || !found {
		return fenceAt{}, err
	}
	return j.decodeFence(m)
}

func (j *Journal) decodeFence(m message) (fenceAt, error) {
	f, err := journal.DecodeFence(m.data)
	if err != nil {
		return fenceAt{}, &journal.CorruptError{Source: j.cfg.Stream, Pos: m.pos, Offset: -1, Err: err}
	}
	return fenceAt{Fence: f, pos: m.pos}, nil
}

// direct reads messages by direct get: from any replica, so what it gives is
// committed, but more may be.
func (j *Journal) direct(ctx context.Context, after journal.Position, count, maxBytes int) iter.Seq2[message, error] {
	return j.directOf(ctx, after, count, maxBytes, "")
}

// directOf reads those of one subject, or with "" all.
func (j *Journal) directOf(ctx context.Context, after journal.Position, count, maxBytes int, subject string) iter.Seq2[message, error] {
	msgs, err := jetstreamext.GetBatch(ctx, j.js, j.cfg.Stream, count,
		jetstreamext.GetBatchSeq(uint64(after)+1), jetstreamext.GetBatchMaxBytes(maxBytes), jetstreamext.GetBatchSubject(subject))
	return messages(msgs, err)
}

// lasts is the last message of each subject at or before a position.
type lasts struct {
	data  message          // zero if there is none
	fence fenceAt          // zero if there is none
	end   journal.Position // of the later one
}

// lastUpTo reads both from one state of one replica. With through 0 they are the
// last of all that it has.
func (j *Journal) lastUpTo(ctx context.Context, through journal.Position) (lasts, error) {
	return j.lastOf(ctx, through, j.subjects.data, j.subjects.epoch)
}

func (j *Journal) lastOf(ctx context.Context, through journal.Position, subjects ...string) (l lasts, err error) {
	ctx, cancel := j.soon(ctx)
	defer cancel()
	var opts []jetstreamext.GetLastForOpt
	if through > 0 {
		opts = append(opts, jetstreamext.GetLastMsgsUpToSeq(uint64(through)))
	}
	for m, err := range messages(jetstreamext.GetLastMsgsFor(ctx, j.js, j.cfg.Stream, subjects, opts...)) {
		if err != nil {
			return lasts{}, fmt.Errorf("read last messages: %w", err)
		}
		l.end = max(l.end, m.pos)
		if m.subject == j.subjects.data {
			l.data = m
			continue
		}
		if l.fence, err = j.decodeFence(m); err != nil {
			return lasts{}, err
		}
	}
	if ctx.Err() != nil { // the library ends silently then
		return lasts{}, fmt.Errorf("read last messages: %w", context.Cause(ctx))
	}
	return l, nil
}

// messages turns what the library yields into ours. No messages are no error.
func messages(msgs iter.Seq2[*jetstream.RawStreamMsg, error], err error) iter.Seq2[message, error] {
	return func(yield func(message, error) bool) {
		if err != nil {
			yield(message{}, err)
			return
		}
		for m, err := range msgs {
			if errors.Is(err, jetstreamext.ErrNoMessages) {
				return
			}
			if errors.Is(err, jetstreamext.ErrBatchUnsupported) { // an answer without a message: every server that we take has batches
				err = fmt.Errorf("%w: %w", nats.ErrNoResponders, err)
			}
			if err != nil {
				yield(message{}, err)
				return
			}
			if !yield(message{pos: journal.Position(m.Sequence), subject: m.Subject, data: m.Data}, nil) {
				return
			}
		}
	}
}
