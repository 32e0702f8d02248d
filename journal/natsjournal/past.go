package natsjournal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"understudy.dev/journal"
)

// errRecreated ends a Follow whose stream is another one than it began with. It
// is not final: the reader looks at what is there now.
var errRecreated = errors.New("the stream was created anew")

// A streamState is where a stream ends and begins.
type streamState struct {
	first, last journal.Position
	deleted     int // positions without a message between first and last
	fences      uint64
	batches     uint64
	bytes       int64
	created     time.Time
	leader      string
}

// streamInfo is the part of a stream's description that we use.
type streamInfo struct {
	Error   *jetstream.APIError `json:"error"`
	Created time.Time           `json:"created"`
	State   struct {
		Bytes   int64            `json:"bytes"`
		First   journal.Position `json:"first_seq"`
		Last    journal.Position `json:"last_seq"`
		Deleted int              `json:"num_deleted"`

		Subjects map[string]uint64 `json:"subjects"` // how many messages each has; none are left out
	} `json:"state"`
	Cluster *struct {
		Leader string `json:"leader"`
	} `json:"cluster"`
}

func (i *streamInfo) state(names subjects) streamState {
	s := streamState{
		first: i.State.First, last: i.State.Last, deleted: i.State.Deleted, bytes: i.State.Bytes, created: i.Created,
		fences: i.State.Subjects[names.epoch], batches: i.State.Subjects[names.data],
	}
	if i.Cluster != nil {
		s.leader = i.Cluster.Leader
	}
	return s
}

// decodeState decodes the answer to a look. ok is false if there was nobody to
// answer.
func (f *follower) decodeState(m *nats.Msg) (s streamState, ok bool, err error) {
	if len(m.Data) == 0 { // no responders
		return s, false, nil
	}
	var info streamInfo
	if err := json.Unmarshal(m.Data, &info); err != nil {
		return s, false, fmt.Errorf("decode the end: %w", err)
	}
	switch {
	case info.Error != nil && passing(info.Error):
		return s, false, nil
	case info.Error != nil:
		return s, false, fmt.Errorf("ask for the end: %w", info.Error)
	case f.created.IsZero():
		f.created = info.Created
	case !f.created.Equal(info.Created):
		return s, false, errRecreated
	}
	return info.state(f.subjects), true, nil
}

// A stateQuery is what is sent to have a streamState.
type stateQuery struct {
	Subjects string `json:"subjects_filter"`
}

// stateRequest is a stateQuery, encoded. A stream's name needs no quoting.
func (j *Journal) stateRequest() []byte {
	return []byte(`{"subjects_filter":"` + j.subjects.all + `"}`)
}

// state asks the leader where the stream ends and waits for the answer.
func (j *Journal) state(ctx context.Context) (streamState, error) {
	var info streamInfo
	if err := j.ask(ctx, "STREAM.INFO", stateQuery{j.subjects.all}, &info); err != nil {
		return streamState{}, fmt.Errorf("ask for the end: %w", err)
	}
	if info.Error != nil {
		return streamState{}, fmt.Errorf("ask for the end: %w", info.Error)
	}
	return info.state(j.subjects), nil
}

// readPast yields what one replica after another has, until one has no more.
func (f *follower) readPast() error {
	for {
		before := f.at
		if err := f.read(readCount); err != nil {
			return err
		}
		if f.at == before {
			return nil
		}
	}
}

// fill yields everything up to through, which the stream is known to have. A
// replica may not have it yet; the leader decides what is really missing.
func (f *follower) fill(through journal.Position) error {
	pause, deadline := time.Millisecond, time.Now().Add(silence)
	for f.at < through {
		before := f.at
		if err := f.read(int(min(through-f.at, readCount))); err != nil {
			return err
		}
		if f.at > before {
			pause = time.Millisecond
			continue
		}
		if err := f.fromLeaderNext(through); err != nil {
			return err
		}
		if f.at > before {
			continue
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("read positions %d to %d: %w", f.at+1, through, journal.ErrSilent)
		}
		if err := wait(f.ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, 50*time.Millisecond)
	}
	return nil
}

// read yields up to count entries after f.at, from one direct get. Where it meets
// a hole it asks the leader what that is.
func (f *follower) read(count int) error {
	ctx, cancel := context.WithTimeout(f.ctx, silence)
	defer cancel()
	before := f.at
	for m, err := range f.direct(ctx, f.at, count, readBytes) {
		if err != nil {
			if f.ctx.Err() != nil || passing(err) {
				return nil // no progress, which callers see
			}
			return fmt.Errorf("read after %d: %w", f.at, err)
		}
		for m.pos > f.at+1 {
			if err := f.hole(); err != nil {
				return err
			}
		}
		if m.pos != f.at+1 {
			continue
		}
		if err := f.give(m); err != nil {
			return err
		}
	}
	if f.at == before && ctx.Err() != nil && f.ctx.Err() == nil { // the library ends silently then
		return fmt.Errorf("read after %d: %w", f.at, journal.ErrSilent)
	}
	return nil
}

// fromLeaderNext yields the entry after f.at if the leader has it. If it has
// none there but ends later, there is a hole.
func (f *follower) fromLeaderNext(through journal.Position) error {
	m, found, err := f.fromLeader(f.ctx, leaderGet{Seq: f.at + 1})
	if err != nil {
		if passing(err) {
			return nil
		}
		return err
	}
	if found {
		return f.give(m)
	}
	state, err := f.state(f.ctx)
	if err != nil {
		if passing(err) {
			return nil
		}
		return err
	}
	if state.last >= through {
		return f.missing()
	}
	return nil
}

// hole deals with a replica that has later entries but not the next one.
func (f *follower) hole() error {
	m, found, err := f.fromLeader(f.ctx, leaderGet{Seq: f.at + 1})
	if err != nil {
		return fmt.Errorf("read position %d: %w", f.at+1, err)
	}
	if found {
		return f.give(m)
	}
	return f.missing()
}

// missing names what happened to the entry after f.at, which is gone while later
// ones are there. Trimming removes batches from the front, so if an older batch
// is left, this entry was not trimmed.
func (f *follower) missing() error {
	oldest, found, err := f.fromLeader(f.ctx, leaderGet{Seq: 1, NextFor: f.subjects.data})
	if err != nil {
		return fmt.Errorf("read the oldest batch: %w", err)
	}
	if !found || oldest.pos > f.at {
		return f.trimmed()
	}
	return f.corrupt(f.at+1, errDeleted)
}

// trimmed tells what was trimmed from what was purged.
func (f *follower) trimmed() error {
	if state, err := f.state(f.ctx); err == nil {
		if err := f.seen.missed(state); err != nil {
			return err
		}
	}
	return journal.ErrTrimmed
}

// errDeleted is what is wrong with an entry that somebody deleted.
var errDeleted = errors.New("the message was deleted or lost")

func (f *follower) corrupt(pos journal.Position, err error) error {
	return &journal.CorruptError{Source: f.cfg.Stream, Pos: pos, Offset: -1, Err: err}
}
