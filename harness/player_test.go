package harness_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"understudy.dev/harness"
	"understudy.dev/journal"
	"understudy.dev/journal/memjournal"
)

// collect is a sink that keeps the numbers it was given.
type collect struct{ numbers []uint64 }

func (c *collect) Apply(_ context.Context, e *harness.Entry) error {
	c.numbers = append(c.numbers, e.Number)
	return nil
}

func upTo(from, to uint64) []uint64 {
	var s []uint64
	for n := from; n <= to; n++ {
		s = append(s, n)
	}
	return s
}

func tenSteps(r harness.Recorder) {
	for i := range 10 {
		r.DeviceCmd("step", fmt.Append(nil, i))
	}
}

// A replay sends each entry of the part once and in order, on every backend.
func TestReplayIntoSink(t *testing.T) {
	onEach(t, func(t *testing.T, open func() journal.Journal, _ string) {
		h := start(t, open(), harness.Config{Mode: harness.Record, Async: true})
		tenSteps(h)
		tests := []struct {
			name string
			part harness.Range
			want []uint64
		}{
			{name: "all", want: upTo(1, 10)},
			{name: "from", part: harness.Range{From: 8}, want: upTo(8, 10)},
			{name: "to", part: harness.Range{To: 3}, want: upTo(1, 3)},
			{name: "one", part: harness.Range{From: 5, To: 5}, want: upTo(5, 5)},
			{name: "to beyond the end", part: harness.Range{From: 9, To: 99}, want: upTo(9, 10)},
		}
		for _, tt := range tests {
			var got collect
			if err := h.Replay(t.Context(), &got, harness.ReplayOptions{Part: tt.part}); err != nil || !slices.Equal(got.numbers, tt.want) {
				t.Errorf("%s: Replay sent %v, %v; want %v", tt.name, got.numbers, err, tt.want)
			}
		}
		var got collect
		if err := h.Replay(t.Context(), &got, harness.ReplayOptions{Part: harness.Range{From: 11}}); !errors.Is(err, harness.ErrPastEnd) {
			t.Errorf("Replay from past the end = %v, want ErrPastEnd", err)
		}
	})
}

func TestReplayOptionsAreChecked(t *testing.T) {
	for _, opts := range []harness.ReplayOptions{{Pace: -1}, {MaxGap: -1}, {Part: harness.Range{From: 2, To: 1}}} {
		if _, err := harness.NewPlayer(memjournal.New(), &collect{}, opts); err == nil {
			t.Errorf("NewPlayer(%+v) succeeded", opts)
		}
	}
}

// A sink's error stops the replay with the number.
func TestSinkErrorStops(t *testing.T) {
	j := recorded(t, tenSteps)
	full := errors.New("disk is full")
	calls := 0
	p := player(t, j, harness.SinkFunc(func(_ context.Context, e *harness.Entry) error {
		calls++
		if e.Number == 4 {
			return full
		}
		return nil
	}), harness.ReplayOptions{})
	err := p.Run(t.Context())
	var at *harness.SinkError
	if !errors.As(err, &at) || at.Number != 4 || !errors.Is(err, full) || calls != 4 {
		t.Errorf("Run = %v after %d calls, want %v at record 4", err, calls, full)
	}
	if v := p.Progress(); v.State != harness.Stopped || v.Number != 3 || v.Records != 3 {
		t.Errorf("Progress = %+v, want stopped with 3 acknowledged", v)
	}
	if err := p.Run(t.Context()); err == nil {
		t.Error("a player ran twice")
	}
}

func player(t testing.TB, j journal.Journal, s harness.Sink, opts harness.ReplayOptions) *harness.Player {
	t.Helper()
	p, err := harness.NewPlayer(j, s, opts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A sink that does not answer meets the deadline, whether it heeds its context
// or not; one that is slow but in time does not.
func TestSinkTimeout(t *testing.T) {
	tests := []struct {
		name  string
		sink  func(release chan struct{}) harness.SinkFunc
		stuck bool
	}{
		{name: "heeds its context", stuck: true, sink: func(chan struct{}) harness.SinkFunc {
			return func(ctx context.Context, e *harness.Entry) error {
				if e.Number == 3 {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
		}},
		{name: "deaf", stuck: true, sink: func(release chan struct{}) harness.SinkFunc {
			return func(_ context.Context, e *harness.Entry) error {
				if e.Number == 3 {
					<-release
				}
				return nil
			}
		}},
		{name: "slow", sink: func(chan struct{}) harness.SinkFunc {
			return func(context.Context, *harness.Entry) error {
				time.Sleep(900 * time.Millisecond)
				return nil
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := recorded(t, tenSteps)
				release := make(chan struct{})
				began := time.Now()
				err := player(t, j, tt.sink(release), harness.ReplayOptions{SinkTimeout: time.Second}).Run(t.Context())
				took := time.Since(began)
				close(release)
				synctest.Wait()
				var at *harness.SinkError
				switch {
				case !tt.stuck && err != nil:
					t.Errorf("Run = %v", err)
				case tt.stuck && (!errors.Is(err, harness.ErrSinkTimeout) || !errors.As(err, &at) || at.Number != 3):
					t.Errorf("Run = %v, want a time-out at record 3", err)
				case tt.stuck && (took < time.Second || took > 1500*time.Millisecond):
					t.Errorf("noticed after %v, want 1 s to 1.5 s", took)
				}
			})
		})
	}
}

// spread records one entry each second of the bubble's clock.
func spread(t *testing.T) *memjournal.Journal {
	t.Helper()
	return recorded(t, func(r harness.Recorder) {
		for i := range 10 {
			if i > 0 {
				time.Sleep(time.Second)
			}
			r.DeviceCmd("step", nil)
		}
	})
}

// The recorded pace, times a factor, with long gaps cut as asked.
func TestPace(t *testing.T) {
	tests := []struct {
		name string
		opts harness.ReplayOptions
		want time.Duration
	}{
		{name: "full speed"},
		{name: "as recorded", opts: harness.ReplayOptions{Pace: 1}, want: 9 * time.Second},
		{name: "ten times faster", opts: harness.ReplayOptions{Pace: 10}, want: 900 * time.Millisecond},
		{name: "half", opts: harness.ReplayOptions{Pace: 0.5}, want: 18 * time.Second},
		{name: "gaps cut", opts: harness.ReplayOptions{Pace: 1, MaxGap: 200 * time.Millisecond}, want: 1800 * time.Millisecond},
		{name: "from", opts: harness.ReplayOptions{Pace: 1, Part: harness.Range{From: 8}}, want: 2 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := spread(t)
				began := time.Now()
				var got collect
				if err := player(t, j, &got, tt.opts).Run(t.Context()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < tt.want-time.Millisecond || took > tt.want+10*time.Millisecond {
					t.Errorf("took %v of the bubble's time, want %v", took, tt.want)
				}
			})
		})
	}
}

// A pause stops before the next entry and does not count; a resumed replay keeps
// the pace.
func TestPauseAndResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := spread(t)
		var got collect
		p := player(t, j, &got, harness.ReplayOptions{Pace: 1})
		done := make(chan error, 1)
		began := time.Now()
		go func() { done <- p.Run(t.Context()) }()
		time.Sleep(3500 * time.Millisecond)
		p.Pause()
		synctest.Wait()
		v := p.Progress()
		if v.State != harness.Paused || v.Number != 4 || v.Active != 3500*time.Millisecond {
			t.Errorf("Progress in the pause = %+v, want paused after 4 and 3.5 s", v)
		}
		time.Sleep(time.Hour)
		if now := p.Progress(); now != v {
			t.Errorf("Progress moved in the pause from %+v to %+v", v, now)
		}
		p.Resume()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < time.Hour+9*time.Second-time.Millisecond || took > time.Hour+9*time.Second+10*time.Millisecond {
			t.Errorf("took %v, want an hour and 9 s", took)
		}
		if v := p.Progress(); v.State != harness.Finished || v.Records != 10 || v.Remaining != 0 || v.Active > 9100*time.Millisecond {
			t.Errorf("Progress at the end = %+v", v)
		}
	})
}

// Stepwise, each Step lets so many through.
func TestSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := spread(t)
		var got collect
		p := player(t, j, &got, harness.ReplayOptions{Stepwise: true, Pace: 1})
		done := make(chan error, 1)
		go func() { done <- p.Run(t.Context()) }()
		for _, tt := range []struct {
			step int
			want uint64
		}{{0, 0}, {1, 1}, {3, 4}, {-1, 4}, {2, 6}} {
			p.Step(tt.step)
			synctest.Wait()
			if v := p.Progress(); v.Number != tt.want || v.State != harness.Paused {
				t.Errorf("after Step(%d): %+v, want paused at %d", tt.step, v, tt.want)
			}
		}
		time.Sleep(time.Minute)
		began := time.Now()
		p.Resume()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 3*time.Second || took > 5*time.Second {
			t.Errorf("the last four took %v at the recorded pace, want about 4 s", took)
		}
		if !slices.Equal(got.numbers, upTo(1, 10)) {
			t.Errorf("the sink got %v", got.numbers)
		}
	})
}

// Steps that were not used are gone with Resume.
func TestUnusedStepsAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := player(t, spread(t), &collect{}, harness.ReplayOptions{Stepwise: true, Pace: 1})
		p.Step(100)
		p.Resume()
		p.Pause()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		synctest.Wait()
		if v := p.Progress(); v.Records != 0 || v.State != harness.Paused {
			t.Errorf("Progress = %+v, want paused before the first", v)
		}
		cancel()
		<-done
	})
}

// Cancelling ends a replay wherever it waits, with the cause.
func TestCancel(t *testing.T) {
	stop := errors.New("enough")
	tests := []struct {
		name string
		opts harness.ReplayOptions
		sink harness.SinkFunc
	}{
		{name: "paused", opts: harness.ReplayOptions{Stepwise: true}},
		{name: "between two entries", opts: harness.ReplayOptions{Pace: 1e-3}},
		{name: "in the sink", sink: func(ctx context.Context, _ *harness.Entry) error {
			<-ctx.Done()
			return ctx.Err()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := spread(t)
				if tt.sink == nil {
					tt.sink = func(context.Context, *harness.Entry) error { return nil }
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				done := make(chan error, 1)
				go func() { done <- player(t, j, tt.sink, tt.opts).Run(ctx) }()
				synctest.Wait()
				cancel(stop)
				if err := <-done; !errors.Is(err, stop) {
					t.Errorf("Run = %v, want the cause", err)
				}
			})
		})
	}
}

// Progress tells rate and time left.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := spread(t)
		p := player(t, j, &collect{}, harness.ReplayOptions{Pace: 1})
		if v := p.Progress(); v.State != harness.Ready || v.Remaining != -1 || v.Left != -1 {
			t.Errorf("Progress before = %+v, want nothing known", v)
		}
		done := make(chan error, 1)
		go func() { done <- p.Run(t.Context()) }()
		time.Sleep(4500 * time.Millisecond)
		v := p.Progress()
		// One more record, the end of the run, is no entry.
		if v.State != harness.Playing || v.Records != 5 || v.Remaining != 6 || v.Rate < 1.1 || v.Rate > 1.12 || v.Left < 5*time.Second || v.Left > 5100*time.Millisecond {
			t.Errorf("Progress = %+v, want 5 records at 1.11/s, 6 to come in 5 s", v)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// What remains of a part is counted to its end, not the journal's.
func TestProgressOfAPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := player(t, recorded(t, tenSteps), &collect{}, harness.ReplayOptions{Stepwise: true, Part: harness.Range{To: 5}})
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		p.Step(3)
		synctest.Wait()
		if v := p.Progress(); v.Number != 3 || v.Remaining != 2 {
			t.Errorf("Progress = %+v, want 2 to come after 3 of 5", v)
		}
		cancel()
		<-done
	})
}

// A viewer shows what its filter selects and counts the rest.
func TestViewer(t *testing.T) {
	j := recorded(t, func(r harness.Recorder) {
		program(r, 3, 1, 0)
		r.BatchSize("loader/a", 1)
		r.BatchSize("loaders", 1)
	})
	tests := []struct {
		name   string
		filter harness.Filter
		want   []uint64
	}{
		{name: "everything", want: upTo(1, 20)},
		{name: "kinds", filter: harness.Filter{Kinds: []journal.Kind{journal.KindDevice, journal.KindKernel}}, want: []uint64{4, 5, 10, 11, 16, 17}},
		{name: "name", filter: harness.Filter{Names: []string{"loss", "loser"}}, want: []uint64{6, 12, 18}},
		{name: "path and below", filter: harness.Filter{Path: "loader"}, want: []uint64{2, 8, 14, 19}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got collect
			p, err := harness.NewViewer(j, &got, tt.filter, harness.ReplayOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Run(t.Context()); err != nil || !slices.Equal(got.numbers, tt.want) {
				t.Errorf("viewer showed %v, %v; want %v", got.numbers, err, tt.want)
			}
			if v := p.Progress(); v.Passed != uint64(20-len(tt.want)) {
				t.Errorf("passed over %d, want %d", v.Passed, 20-len(tt.want))
			}
		})
	}
}

// machineJournal has two tenures of a machine, a command of version 3 in each.
func machineJournal(t *testing.T) *memjournal.Journal {
	t.Helper()
	j := memjournal.New()
	c := journal.Tracker{}
	for epoch := range journal.Epoch(2) {
		if _, err := j.Fence(t.Context(), epoch+1, "node"); err != nil {
			t.Fatal(err)
		}
		for e, err := range j.Follow(t.Context(), c.Cursor.Pos) {
			if err != nil {
				t.Fatal(err)
			}
			if _, f, err := c.Take(e, new(journal.Batch)); err != nil || f.Epoch == epoch+1 {
				break
			}
		}
		w := journal.NewWriter(j, c.Cursor, journal.WriterConfig{})
		b := w.NewBuilder()
		b.Add(&journal.Record{Kind: journal.KindEpochStart, Time: 1e9, Data: []byte(`{"node":"n1"}`)})
		b.Add(&journal.Record{Kind: journal.KindSession, Time: 2e9})
		b.Add(&journal.Record{Kind: journal.KindCommand, Name: "add", Version: 3, Time: 3e9, Data: []byte("5")})
		if err := w.Append(t.Context(), b, journal.Digest{}); err != nil {
			t.Fatal(err)
		}
	}
	return j
}

// The same player drives the records of a machine where that is asked for: each is
// an entry, with the version of its command.
func TestReplayOfAMachine(t *testing.T) {
	j := machineJournal(t)
	var got []string
	keep := harness.SinkFunc(func(_ context.Context, e *harness.Entry) error {
		got = append(got, fmt.Sprintf("%d/%d run %d %v %v %q v%d %s", e.Number, e.Seq, e.Run, e.At, e.Kind, e.Name, e.Version, e.Data))
		return nil
	})
	if err := player(t, j, keep, harness.ReplayOptions{}).Run(t.Context()); !errors.Is(err, harness.ErrForeign) {
		t.Errorf("Run on a machine's journal = %v, want ErrForeign", err)
	}
	opts := harness.ReplayOptions{Foreign: true, Part: harness.Range{From: 3}}
	if err := player(t, j, keep, opts).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`3/3 run 1 2s command "add" v3 5`,
		`4/4 run 2 0s epoch-start "" v0 {"node":"n1"}`,
		`5/5 run 2 0s session "" v0 `,
		`6/6 run 2 0s command "add" v3 5`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("the sink got %q, want %q", got, want)
	}
	var numbers collect
	if err := player(t, recorded(t, tenSteps), &numbers, harness.ReplayOptions{Foreign: true}).Run(t.Context()); err != nil || !slices.Equal(numbers.numbers, upTo(1, 10)) {
		t.Errorf("of a harness's journal the sink got %v, %v; want its own numbers", numbers.numbers, err)
	}
}

// The channel adapter hands out one entry at a time and waits for each answer.
func TestChannelSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := recorded(t, tenSteps)
		s := harness.NewChannelSink()
		p := player(t, j, s, harness.ReplayOptions{})
		done := make(chan error, 1)
		go func() { done <- p.Run(t.Context()); s.Close() }()
		d := <-s.C
		synctest.Wait()
		select {
		case early := <-s.C:
			t.Errorf("record %d came before record %d was acknowledged", early.Entry.Number, d.Entry.Number)
		default:
		}
		d.Ack()
		d.Ack() // changes nothing
		bad := errors.New("bad")
		last := uint64(0)
		for d := range s.C {
			if last = d.Entry.Number; last == 5 {
				d.Fail(bad)
				continue
			}
			d.Ack()
		}
		var at *harness.SinkError
		if err := <-done; !errors.Is(err, bad) || !errors.As(err, &at) || at.Number != 5 || last != 5 {
			t.Errorf("Run = %v, last delivery %d; want bad at record 5", err, last)
		}
	})
}

// A channel that nobody receives from, or whose receiver never answers, meets the
// deadline.
func TestChannelSinkTimeout(t *testing.T) {
	for _, receive := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			j := recorded(t, tenSteps)
			s := harness.NewChannelSink()
			p := player(t, j, s, harness.ReplayOptions{SinkTimeout: time.Second})
			if receive {
				go func() { <-s.C }()
			}
			if err := p.Run(t.Context()); !errors.Is(err, harness.ErrSinkTimeout) {
				t.Errorf("received %v: Run = %v, want ErrSinkTimeout", receive, err)
			}
		})
	}
}

// A replay never appends.
func TestReplayDoesNotAppend(t *testing.T) {
	j := recorded(t, tenSteps)
	before, _ := j.End(t.Context())
	if err := player(t, j, &collect{}, harness.ReplayOptions{}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after, _ := j.End(t.Context()); after.Pos != before.Pos {
		t.Errorf("the end moved from %d to %d", before.Pos, after.Pos)
	}
}
