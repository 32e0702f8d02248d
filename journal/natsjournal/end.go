package natsjournal

import (
	"context"
	"fmt"
	"sync"
	"time"

	"understudy.dev/journal"
)

// tailCache keeps the last sample, so that sampling an idle journal costs one
// small request.
type tailCache struct {
	mu      sync.Mutex
	end     journal.End
	newest  newest // what end was computed from
	created time.Time
	counted streamState // what end was computed from
	begin   streamState // what First was computed from
	decoder journal.Decoder
}

// End implements journal.Ender. Pos, Bytes and First come from the stream's
// leader; Seq, Epoch and Time from the newest messages of one replica, and if
// that one lags, Pos is where it ends.
func (j *Journal) End(ctx context.Context) (journal.End, error) {
	end, err := j.end(ctx)
	if err != nil {
		return journal.End{}, fmt.Errorf("sample end of stream %s: %w", j.cfg.Stream, err)
	}
	end.When = time.Now()
	return end, nil
}

func (j *Journal) end(ctx context.Context) (journal.End, error) {
	if err := j.usable(ctx); err != nil {
		return journal.End{}, err
	}
	ctx, done := j.within(ctx)
	defer done()
	state, err := j.state(ctx)
	if err != nil {
		return journal.End{}, err
	}
	t := &j.tail
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.created.Equal(state.created) {
		t.created, t.end, t.newest, t.begin = state.created, journal.End{}, newest{}, streamState{}
	}
	if state.last != t.end.Pos || state.fences != t.counted.fences || state.bytes != t.counted.bytes {
		if err := j.sampleTail(ctx, state.last); err != nil {
			return journal.End{}, err
		}
		t.counted = state
	}
	if err := j.compare(state, t.newest.fence); err != nil {
		return journal.End{}, err
	}
	if err := j.sampleFirst(ctx, state); err != nil {
		return journal.End{}, err
	}
	t.end.Bytes = state.bytes
	return t.end, nil
}

// sampleTail reads Seq, Epoch and Time from the newest messages.
func (j *Journal) sampleTail(ctx context.Context, end journal.Position) error {
	t := &j.tail
	last, err := j.lastUpTo(ctx, end)
	if err != nil {
		return err
	}
	if last.data.pos != 0 && last.end < end {
		end = last.end // a replica that lags: a sample that agrees with itself
	}
	n, err := j.newestRecord(ctx, last)
	if err != nil {
		return err
	}
	n.fence = last.fence
	t.newest = n
	t.end = journal.End{Pos: end, Epoch: last.fence.Epoch, Seq: n.seq, Time: n.time, First: t.end.First}
	return nil
}

// newest is where the records end.
type newest struct {
	seq  journal.Seq      // last of the newest batch that looked live
	time journal.Time     // of the newest record
	pos  journal.Position // of the batch that holds it; 0 if there is none

	fence fenceAt // the last one
}

// newestRecord goes back over dead batches to the newest that looked live, and
// over empty ones to the newest record, or to where the last sample was.
func (j *Journal) newestRecord(ctx context.Context, last lasts) (n newest, err error) {
	t := &j.tail
	var b journal.Batch
	for m := last.data; m.pos > 0; {
		if err := t.decoder.Batch(m.data, &b); err != nil {
			return n, &journal.CorruptError{Source: j.cfg.Stream, Pos: m.pos, Offset: -1, Err: err}
		}
		dead := m.pos > last.fence.pos && b.Epoch < last.fence.Epoch
		if !dead && n.seq == 0 {
			n.seq = b.Last()
		}
		switch {
		case !dead && b.Count > 0:
			n.time, n.pos = b.End, m.pos
			return n, nil
		case n.seq != 0 && n.seq == t.newest.seq:
			return t.newest, nil
		case m.pos == 1:
			return n, nil
		}
		before, err := j.lastOf(ctx, m.pos-1, j.subjects.data)
		if err != nil {
			return n, err
		}
		m = before.data
	}
	return n, nil
}

// sampleFirst finds where following can begin. Trimming leaves fences behind, so
// it is the first batch that counts, and the fences directly before it.
func (j *Journal) sampleFirst(ctx context.Context, state streamState) error {
	t := &j.tail
	if state.first == t.begin.first && state.deleted == t.begin.deleted {
		return nil
	}
	first, err := j.first(ctx, state)
	if err != nil {
		return err
	}
	t.end.First, t.begin = first, state
	return nil
}

func (j *Journal) first(ctx context.Context, state streamState) (journal.Position, error) {
	if state.first <= 1 && state.deleted == 0 {
		return 0, nil
	}
	oldest, found, err := j.fromLeader(ctx, leaderGet{Seq: 1, NextFor: j.subjects.data})
	if err != nil {
		return 0, err
	}
	first := state.last
	if found {
		first = oldest.pos - 1
	}
	for first > 0 {
		_, there, err := j.fromLeader(ctx, leaderGet{Seq: first})
		if err != nil {
			return 0, err
		}
		if !there {
			break
		}
		first--
	}
	return first, nil
}
