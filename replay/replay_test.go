package replay_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
	"understudy.dev/replay"
)

// store returns a journal with batches of so many records each.
func store(t testing.TB, sizes ...int) *memjournal.Journal {
	t.Helper()
	j := memjournal.New()
	t.Cleanup(func() { j.Close() })
	p := journaltest.NewPen("a")
	err := p.Fence(t.Context(), j, 1)
	for _, n := range sizes {
		err = errors.Join(err, p.Append(t.Context(), j, journaltest.Records(n, 8)...))
	}
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// A taker is a sink that remembers the Seqs it was given, and fails at one.
type taker struct {
	seqs   []journal.Seq
	calls  int
	failAt journal.Seq
}

var errTaker = errors.New("told to")

func (k *taker) Apply(_ context.Context, b *journal.Batch, records []journal.Record) error {
	k.calls++
	if len(records) != b.Count || len(records) > 0 && (b.First != records[0].Seq || b.Last() != records[len(records)-1].Seq) {
		return fmt.Errorf("%d records from %d in a batch of %d", len(records), b.First, b.Count)
	}
	for _, r := range records {
		if r.Seq == k.failAt {
			return errTaker
		}
		k.seqs = append(k.seqs, r.Seq)
	}
	return nil
}

func follower(t testing.TB, j journal.Journal, sink replay.Sink, m *replay.Meter) *replay.Follower {
	t.Helper()
	f := replay.NewFollower(journal.NewReader(j, journal.ReaderConfig{}), sink, m)
	t.Cleanup(f.Close)
	return f
}

// upTo is 1 to n.
func upTo(n journal.Seq) (seqs []journal.Seq) {
	for s := journal.Seq(1); s <= n; s++ {
		seqs = append(seqs, s)
	}
	return seqs
}

// RunTo ends exactly at the Seq, also in the middle of a batch, and the next one
// goes on with the rest: RULES 40, state replay never skips.
func TestRunTo(t *testing.T) {
	for to := journal.Seq(1); to <= 12; to++ {
		for then := to; then <= 12; then++ {
			j := store(t, 3, 0, 5, 4)
			m := replay.NewMeter(replay.MeterConfig{Journal: j})
			sink := &taker{}
			f := follower(t, j, sink, m)
			for _, to := range []journal.Seq{to, then} {
				if err := f.RunTo(t.Context(), j, to); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(sink.seqs, upTo(to)) {
					t.Fatalf("to %d: got %v", to, sink.seqs)
				}
				if p := m.Progress(); p.Seq != to || p.Replayed != uint64(to) {
					t.Fatalf("to %d: progress says %d, %d replayed", to, p.Seq, p.Replayed)
				}
			}
			if err := f.RunTo(t.Context(), j, 0); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(sink.seqs, upTo(12)) {
				t.Fatalf("to %d, %d, the end: got %v", to, then, sink.seqs)
			}
		}
	}
}

// A step after a RunTo that ended within a batch gives the rest of that batch.
func TestStepAfterRunTo(t *testing.T) {
	j := store(t, 3, 2)
	sink := &taker{}
	f := follower(t, j, sink, nil)
	if err := f.RunTo(t.Context(), j, 1); err != nil {
		t.Fatal(err)
	}
	for len(sink.seqs) < 5 {
		if _, err := f.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(sink.seqs, upTo(5)) {
		t.Errorf("got %v", sink.seqs)
	}
}

// A target beyond the end is an error and not a wait.
func TestRunToBeyondTheEnd(t *testing.T) {
	j := store(t, 3)
	err := follower(t, j, &taker{}, nil).RunTo(t.Context(), j, 4)
	if !errors.Is(err, replay.ErrEnd) || !strings.Contains(err.Error(), "seq 4: its last is 3") {
		t.Errorf("err = %v", err)
	}
}

// RULES 24: a sink that fails stops the replay with the Seq, and is not called again.
func TestSinkFails(t *testing.T) {
	j := store(t, 3, 4, 2)
	sink := &taker{failAt: 5}
	m := replay.NewMeter(replay.MeterConfig{Journal: j})
	f := follower(t, j, sink, m)
	for range 3 {
		err := f.RunTo(t.Context(), j, 0)
		if !errors.Is(err, errTaker) || !strings.Contains(err.Error(), "seq 4 to 7") {
			t.Fatalf("err = %v", err)
		}
	}
	if _, err := f.Step(t.Context()); !errors.Is(err, errTaker) {
		t.Errorf("step: %v", err)
	}
	if sink.calls != 2 {
		t.Errorf("the sink was called %d times, want 2", sink.calls)
	}
	if p := m.Progress(); p.Seq != 3 || p.Replayed != 3 {
		t.Errorf("progress says %d, %d replayed", p.Seq, p.Replayed)
	}
}

// Each names the record that failed.
func TestEachNamesTheSeq(t *testing.T) {
	j := store(t, 3, 4)
	f := follower(t, j, replay.Each(func(_ context.Context, r *journal.Record) error {
		if r.Seq == 5 {
			return errTaker
		}
		return nil
	}), nil)
	if err := f.RunTo(t.Context(), j, 0); !errors.Is(err, errTaker) || !strings.Contains(err.Error(), "seq 5") {
		t.Errorf("err = %v", err)
	}
}

// RULES 20: damage stops the replay at its place.
func TestReplayStopsAtDamage(t *testing.T) {
	j := store(t, 3)
	pos := j.Put([]byte("hello"))
	sink := &taker{}
	err := follower(t, j, sink, nil).RunTo(t.Context(), j, 0)
	var damage *journal.CorruptError
	if !errors.As(err, &damage) || damage.Pos != pos || damage.Seq != 3 {
		t.Errorf("err = %v", err)
	}
	if !slices.Equal(sink.seqs, upTo(3)) {
		t.Errorf("got %v", sink.seqs)
	}
}

// A step whose context ended has taken nothing; the sink is not stopped half way.
func TestStepInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := store(t)
		var sinkErr error
		f := follower(t, j, replay.SinkFunc(func(ctx context.Context, _ *journal.Batch, _ []journal.Record) error {
			sinkErr = ctx.Err()
			return nil
		}), nil)
		for f.Cursor().Pos < 1 {
			if _, err := f.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		var err error
		for err == nil {
			_, err = f.Step(ctx)
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
		p := journaltest.NewPen("a")
		if err := errors.Join(p.Take(journal.Entry{Pos: 1, Data: journal.AppendFence(nil, 1, "a")}), p.Append(t.Context(), j, journaltest.Records(2, 8)...)); err != nil {
			t.Fatal(err)
		}
		for f.Cursor().Seq < 2 {
			if _, err := f.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if sinkErr != nil {
			t.Errorf("the sink's context had ended: %v", sinkErr)
		}
	})
}
