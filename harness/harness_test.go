package harness_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"understudy.dev/harness"
	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
)

// What was recorded is there after the journal was opened again, loads with its
// numbers, and replays without a difference although the world is another.
func TestRecordReopenLoadReplay(t *testing.T) {
	onEach(t, func(t *testing.T, open func() journal.Journal, _ string) {
		const steps = 20
		j := open()
		h := start(t, j, harness.Config{Mode: harness.Record})
		if err := program(h, steps, 42, 0); err != nil {
			t.Fatal(err)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		j.Close()

		j = open()
		page, err := harness.Load(t.Context(), j, 0, 0)
		if err != nil || len(page.Entries) != steps*perStep || page.Cut || page.Next != steps*perStep+1 {
			t.Fatalf("Load = %d entries, cut %v, next %d, %v; want %d", len(page.Entries), page.Cut, page.Next, err, steps*perStep)
		}
		checkDense(t, page.Entries, 1)
		h = start(t, j, harness.Config{Mode: harness.Replay})
		if err := program(h, steps, 7, 0); err != nil {
			t.Errorf("replay = %v", err)
		}
		if err := h.Close(); err != nil {
			t.Errorf("Close after a whole replay = %v", err)
		}
		h = start(t, j, harness.Config{Mode: harness.Replay, Strict: true})
		if err := program(h, steps, 7, 3); !isDifference(err, 2*perStep+5) {
			t.Errorf("replay with another kernel at step 3 = %v, want a difference at record %d", err, 2*perStep+5)
		}
	})
}

func isDifference(err error, number uint64) bool {
	var d *harness.Difference
	return errors.As(err, &d) && d.Number == number
}

func checkDense(t *testing.T, entries []harness.Entry, from uint64) {
	t.Helper()
	for i, e := range entries {
		if e.Number != from+uint64(i) {
			t.Fatalf("entry %d has number %d, want %d", i, e.Number, from+uint64(i))
		}
		if i > 0 && e.Time <= entries[i-1].Time {
			t.Fatalf("record %d is at %v, not after %v", e.Number, e.Time, entries[i-1].Time)
		}
	}
}

// Everything that a process said was recorded is there after kill -9, without
// holes; what it did replays without a difference up to where the record ends,
// and a later recorder goes on with the next number.
func TestKill(t *testing.T) {
	onEach(t, func(t *testing.T, open func() journal.Journal, place string) {
		if place == "" {
			t.Skip("no other process can reach it; TestReopenWithoutClose is its twin")
		}
		const acked = 50
		said := killAfter(t, place, acked)
		j := open()
		page, err := harness.Load(t.Context(), j, 1, 0)
		if err != nil || len(page.Entries) < said*perStep {
			t.Fatalf("Load = %d entries, %v; %d were acknowledged", len(page.Entries), err, said*perStep)
		}
		checkDense(t, page.Entries, 1)
		checkCutRun(t, j, len(page.Entries))
	})
}

// The same in one process: the handle is gone without Close.
func TestReopenWithoutClose(t *testing.T) {
	onEach(t, func(t *testing.T, open func() journal.Journal, _ string) {
		j := open()
		h := start(t, j, harness.Config{Mode: harness.Record})
		for range 9 {
			if err := program(h, 1, 42, 0); err != nil {
				t.Fatal(err)
			}
		}
		j.Close()
		checkCutRun(t, open(), 9*perStep)
	})
}

// checkCutRun replays a run that was cut after n entries, then records after it.
func checkCutRun(t *testing.T, j journal.Journal, n int) {
	t.Helper()
	h := start(t, j, harness.Config{Mode: harness.Replay})
	var err error
	done := 0
	for err == nil && done < 10*n {
		if err = program(h, 1, 5, 0); err == nil {
			done++
		}
	}
	if !errors.Is(err, harness.ErrPastEnd) || done != n/perStep {
		t.Errorf("replay went %d steps and ended with %v; want %d steps and ErrPastEnd", done, err, n/perStep)
	}
	h.Close()

	h = start(t, j, harness.Config{Mode: harness.Record})
	if err := h.DeviceCmd("again", nil); err != nil {
		t.Fatal(err)
	}
	snap, err := h.Snapshot(t.Context())
	if err != nil || len(snap) != 1 || snap[0].Number != uint64(n)+1 {
		t.Errorf("Snapshot = %v, %v; want one entry with number %d", snap, err, n+1)
	}
	h.Close()
	runs, err := harness.Runs(t.Context(), j)
	if err != nil || len(runs) != 2 || runs[0].Closed || !runs[1].Closed || runs[0].Last != uint64(n) || runs[1].First != uint64(n)+1 {
		t.Errorf("Runs = %+v, %v; want one cut at %d and a closed one", runs, err, n)
	}
}

// killAfter runs the child until it has said that many steps, kills it, and
// returns how many it said in all.
func killAfter(t *testing.T, place string, steps int) int {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childPlace+"="+place)
	var words bytes.Buffer
	cmd.Stderr = &words
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if said, err = strconv.Atoi(strings.TrimSpace(lines.Text())); err != nil {
			t.Fatal(err)
		}
		if said == steps {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd.Wait()
	if said < steps {
		t.Fatalf("child ended after %d of %d steps: %s", said, steps, words.String())
	}
	return said
}

// A second recorder on an id shuts the first one out, whose next record says so
// and by whom, and is not in the journal.
func TestSecondRecorderFencesTheFirst(t *testing.T) {
	onEach(t, func(t *testing.T, open func() journal.Journal, _ string) {
		a := start(t, open(), harness.Config{Mode: harness.Record, Name: "first"})
		if err := a.DeviceCmd("one", nil); err != nil {
			t.Fatal(err)
		}
		b := start(t, open(), harness.Config{Mode: harness.Record, Name: "second"})
		err := a.DeviceCmd("two", nil)
		if !errors.Is(err, journal.ErrFenced) || !strings.Contains(err.Error(), "second/") {
			t.Errorf("record after being fenced = %v, want ErrFenced by second", err)
		}
		if err := b.DeviceCmd("three", nil); err != nil {
			t.Fatal(err)
		}
		if err := a.DeviceCmd("four", nil); !errors.Is(err, journal.ErrFenced) {
			t.Errorf("later record after being fenced = %v, want ErrFenced", err)
		}
		page, err := b.Load(t.Context(), 1, 0)
		if got := names(page.Entries); err != nil || !slices.Equal(got, []string{"one", "three"}) {
			t.Errorf("Load = %q, %v; want one, three", got, err)
		}
		checkDense(t, page.Entries, 1)
	})
}

func names(entries []harness.Entry) []string {
	var s []string
	for _, e := range entries {
		s = append(s, e.Name)
	}
	return s
}

// A machine's journal is refused and not fenced.
func TestMachineJournalIsRefused(t *testing.T) {
	j := memjournal.New()
	if _, err := j.Fence(t.Context(), 1, "node"); err != nil {
		t.Fatal(err)
	}
	c := journal.Tracker{}
	for e := range j.Follow(t.Context(), 0) {
		c.Take(e, nil)
		break
	}
	w := journal.NewWriter(j, c.Cursor, journal.WriterConfig{})
	b := w.NewBuilder()
	b.Add(&journal.Record{Kind: journal.KindEpochStart, Data: []byte(`{"node":"n1"}`)})
	if err := w.Append(t.Context(), b, journal.Digest{}); err != nil {
		t.Fatal(err)
	}
	for _, m := range []harness.Mode{harness.Record, harness.Replay} {
		if _, err := harness.New(t.Context(), j, harness.Config{Mode: m}); !errors.Is(err, harness.ErrForeign) {
			t.Errorf("New(%v) on a machine's journal = %v, want ErrForeign", m, err)
		}
	}
	if end, _ := j.End(t.Context()); end.Epoch != 1 {
		t.Errorf("open epoch is %d, want 1: it was fenced", end.Epoch)
	}
}

// Off returns what the caller brings and records nothing.
func TestOff(t *testing.T) {
	j := memjournal.New()
	h := start(t, j, harness.Config{})
	seed, err := h.RNGSeed("x", 5)
	if seed != 5 || err != nil {
		t.Errorf("RNGSeed = %d, %v; want 5", seed, err)
	}
	if err := program(h, 3, 1, 0); err != nil {
		t.Error(err)
	}
	if end, _ := j.End(t.Context()); end.Pos != 0 {
		t.Errorf("the journal has %d entries, want none", end.Pos)
	}
	h.Close()
	if err := h.DeviceCmd("x", nil); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("call after Close = %v, want ErrClosed", err)
	}
}

// A change of mode is recorded; to replay it closes the writer, and what was
// recorded is what is compared. The record of the change says that all up to it
// was recorded, so a call more than that is a difference, as after Close: it was
// ErrPastEnd once, which Finish and Close passed over.
func TestSetMode(t *testing.T) {
	j := memjournal.New()
	h := start(t, j, harness.Config{Mode: harness.Record})
	if err := program(h, 2, 42, 0); err != nil {
		t.Fatal(err)
	}
	if err := h.SetMode(t.Context(), harness.Replay); err != nil {
		t.Fatal(err)
	}
	end, _ := j.End(t.Context())
	if err := program(h, 2, 1, 0); err != nil {
		t.Errorf("replay = %v", err)
	}
	if err := h.Finish(t.Context()); err != nil {
		t.Errorf("Finish = %v", err)
	}
	var more *harness.Difference
	if err := h.DeviceCmd("more", nil); !errors.As(err, &more) || more.Number != 2*perStep+1 || more.Expected != nil {
		t.Errorf("call past what was recorded = %v, want a difference at record %d", err, 2*perStep+1)
	}
	if err := h.Finish(t.Context()); !errors.Is(err, more) {
		t.Errorf("Finish after it = %v, want the difference", err)
	}
	if runs, err := harness.Runs(t.Context(), j); err != nil || len(runs) != 1 || !runs[0].Closed {
		t.Errorf("Runs = %+v, %v; want one that ended in order", runs, err)
	}
	if now, _ := j.End(t.Context()); now.Pos != end.Pos {
		t.Errorf("replay moved the journal's end from %d to %d", end.Pos, now.Pos)
	}
	for _, m := range []harness.Mode{harness.Record, harness.Off, harness.Off} {
		if err := h.SetMode(t.Context(), m); err != nil || h.Mode() != m {
			t.Fatalf("SetMode(%v) = %v, now %v", m, err, h.Mode())
		}
	}
	want := []string{"record>replay", "replay>record", "record>off"}
	if got := changes(t, j); !slices.Equal(got, want) {
		t.Errorf("changes recorded = %q, want %q", got, want)
	}
}

// After a change that failed, calls do not pass as if the mode were Off: they fail
// with its error until another change succeeds.
func TestFailedChangeOfMode(t *testing.T) {
	inner := memjournal.New()
	faulty := journaltest.NewFaulty(t, inner, 1)
	h := start(t, faulty, harness.Config{})
	unreachable := fmt.Errorf("unreachable: %w", journal.ErrClosed) // as of the harness itself after Close
	faulty.Plan(journaltest.OpEnd, 1, journaltest.Fault{Kind: journaltest.Refuse, Err: unreachable})
	failed := h.SetMode(t.Context(), harness.Record)
	if !errors.Is(failed, unreachable) || h.Mode() != harness.Off {
		t.Fatalf("SetMode = %v, now %v; want it refused", failed, h.Mode())
	}
	_, seedErr := h.RNGSeed("x", 1)
	_, sizeErr := h.Actor("a").BatchSize("x", 1)
	for call, err := range map[string]error{
		"DeviceCmd": h.DeviceCmd("x", nil), "RNGSeed": seedErr, "BatchSize": sizeErr,
		"Flush": h.Flush(t.Context()), "Finish": h.Finish(t.Context()),
	} {
		if !errors.Is(err, unreachable) {
			t.Errorf("%s after the failed change = %v, want its error", call, err)
		}
	}
	if err := h.SetMode(t.Context(), harness.Off); err != nil {
		t.Fatal(err)
	}
	if err := h.DeviceCmd("x", nil); err != nil {
		t.Errorf("DeviceCmd when off = %v", err)
	}
	if err := h.SetMode(t.Context(), harness.Replay); !errors.Is(err, harness.ErrNothing) {
		t.Errorf("SetMode(Replay) of nothing = %v, want ErrNothing", err)
	}
	if err := h.SetMode(t.Context(), harness.Record); err != nil {
		t.Fatal(err)
	}
	if err := h.DeviceCmd("recorded", nil); err != nil {
		t.Fatal(err)
	}
	// Another recorder takes over, so that leaving Record fails.
	start(t, inner.Handle(), harness.Config{Mode: harness.Record})
	if err := h.SetMode(t.Context(), harness.Off); !errors.Is(err, journal.ErrFenced) {
		t.Errorf("SetMode(Off) of a fenced recorder = %v, want ErrFenced", err)
	}
	if err := h.DeviceCmd("x", nil); !errors.Is(err, journal.ErrFenced) {
		t.Errorf("DeviceCmd after it = %v, want ErrFenced", err)
	}
	if err := h.Close(); !errors.Is(err, journal.ErrFenced) {
		t.Errorf("Close after it = %v, want ErrFenced", err)
	}
}

// A snapshot has what this harness recorded, whoever else recorded before, after
// and between.
func TestSnapshotIsItsOwn(t *testing.T) {
	j := memjournal.New()
	h1 := start(t, j, harness.Config{Mode: harness.Record})
	h1.DeviceCmd("a", nil)
	h2 := start(t, j.Handle(), harness.Config{Mode: harness.Record})
	h2.DeviceCmd("b", nil)
	snapshot := func(h *harness.Harness, want ...string) {
		t.Helper()
		snap, err := h.Snapshot(t.Context())
		if got := names(snap); err != nil || !slices.Equal(got, want) {
			t.Errorf("Snapshot = %q, %v; want %q", got, err, want)
		}
	}
	snapshot(h1, "a")
	snapshot(h2, "b")
	h1.SetMode(t.Context(), harness.Off) // fails: it was fenced
	if err := h1.SetMode(t.Context(), harness.Record); err != nil {
		t.Fatal(err)
	}
	h1.DeviceCmd("c", nil)
	snapshot(h1, "a", "c")
}

// changes returns the records of KindMode.
func changes(t *testing.T, j journal.Journal) []string {
	t.Helper()
	var all []string
	r := journal.NewReader(j, journal.ReaderConfig{})
	defer r.Close()
	end, err := journal.SampleEnd(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	for it := (journal.Item{}); r.Cursor().Pos < end.Pos; {
		if err := r.Next(t.Context(), &it); err != nil {
			t.Fatal(err)
		}
		if it.Verdict != journal.Live {
			continue
		}
		records, err := it.Batch.Records(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range records {
			if rec.Kind == journal.KindMode {
				all = append(all, change(t, rec.Data))
			}
		}
	}
	return all
}

// Inputs are answered by path, whatever the interleaving was.
func TestInputsAreReturnedByPath(t *testing.T) {
	j := memjournal.New()
	h := start(t, j, harness.Config{Mode: harness.Record})
	for i := range uint64(4) {
		h.RNGSeed("a", 10+i)
		h.RNGSeed("b", 20+i)
		h.BatchSize("a", 30+int(i))
	}
	h.Close()
	h = start(t, j, harness.Config{Mode: harness.Replay})
	for i := range uint64(4) {
		if got, err := h.RNGSeed("b", 0); got != 20+i || err != nil {
			t.Errorf("RNGSeed(b) = %d, %v; want %d", got, err, 20+i)
		}
	}
	for i := range uint64(4) {
		if got, err := h.RNGSeed("a", 0); got != 10+i || err != nil {
			t.Errorf("RNGSeed(a) = %d, %v; want %d", got, err, 10+i)
		}
		if got, err := h.BatchSize("a", 0); got != 30+int(i) || err != nil {
			t.Errorf("BatchSize(a) = %d, %v; want %d", got, err, 30+i)
		}
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

func TestValueOf(t *testing.T) {
	type choice struct {
		Rate  float64
		Names []string
	}
	fresh := choice{Rate: 0.1, Names: []string{"x"}}
	j := memjournal.New()
	h := start(t, j, harness.Config{Mode: harness.Record})
	if got, err := harness.ValueOf(h, "choice", fresh); err != nil || got.Rate != fresh.Rate {
		t.Errorf("ValueOf in record = %v, %v", got, err)
	}
	h.Close()
	h = start(t, j, harness.Config{Mode: harness.Replay})
	if got, err := harness.ValueOf(h.Actor(""), "choice", choice{}); err != nil || got.Rate != 0.1 || got.Names[0] != "x" {
		t.Errorf("ValueOf in replay = %v, %v; want %v", got, err, fresh)
	}
}

// A batch size that makes no sense is refused, and so is one whose record is damaged.
func TestBatchSizeIsNotNegative(t *testing.T) {
	h := start(t, nil, harness.Config{Mode: harness.Record})
	if _, err := h.BatchSize("x", -1); err == nil {
		t.Error("BatchSize(-1) was recorded")
	}
	if n, err := h.BatchSize("x", 0); n != 0 || err != nil {
		t.Errorf("BatchSize(0) = %d, %v", n, err)
	}
}

// An actor's commands carry its path, and its inputs are below it.
func TestActorPaths(t *testing.T) {
	h := start(t, nil, harness.Config{Mode: harness.Record})
	w := h.Actor("worker").Actor("3")
	for range 2 { // the second time from the actor's memory of names
		w.DeviceCmd("copy: in", []byte("x"))
		w.RNGSeed("dropout", 1)
		w.Output("sum", nil)
		w.BatchSize("", 8)
	}
	h.KernelCmd("a: b", nil)
	snap, err := h.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range snap {
		got = append(got, e.Path+"|"+e.Name)
	}
	once := []string{"worker/3|copy: in", "worker/3/dropout|", "worker/3|sum", "worker/3|"}
	if want := slices.Concat(once, once, []string{"|a: b"}); !slices.Equal(got, want) {
		t.Errorf("paths and names = %q, want %q", got, want)
	}
	if err := h.Actor("a: b").DeviceCmd("x", nil); err == nil {
		t.Error("a path with the separator was recorded")
	}
}

// Load pages, says when the maximum cut it short, and where to go on.
func TestLoadPages(t *testing.T) {
	j := memjournal.New()
	h := start(t, j, harness.Config{Mode: harness.Record, Async: true})
	for range 10 {
		h.DeviceCmd("x", nil)
	}
	tests := []struct {
		name  string
		from  uint64
		limit int
		first uint64
		count int
		cut   bool
		next  uint64
	}{
		{name: "all", count: 10, first: 1, next: 11},
		{name: "from the middle", from: 7, first: 7, count: 4, next: 11},
		{name: "cut", from: 3, limit: 4, first: 3, count: 4, cut: true, next: 7},
		{name: "exactly the rest", from: 7, limit: 4, first: 7, count: 4, next: 11},
		{name: "past the end", from: 12, limit: 4, next: 12},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := h.Load(t.Context(), tt.from, tt.limit)
			if err != nil || len(p.Entries) != tt.count || p.Cut != tt.cut || p.Next != tt.next {
				t.Fatalf("Load(%d, %d) = %d entries, cut %v, next %d, %v; want %d, %v, %d",
					tt.from, tt.limit, len(p.Entries), p.Cut, p.Next, err, tt.count, tt.cut, tt.next)
			}
			checkDense(t, p.Entries, tt.first)
		})
	}
	if _, err := h.Load(t.Context(), 1, -1); err == nil {
		t.Error("Load with a negative maximum succeeded")
	}
}

func TestLoadWithoutAJournalSaysSo(t *testing.T) {
	h := start(t, nil, harness.Config{Mode: harness.Record})
	h.DeviceCmd("x", nil)
	if _, err := h.Load(t.Context(), 1, 0); !errors.Is(err, harness.ErrNotPersistent) {
		t.Errorf("Load = %v, want ErrNotPersistent", err)
	}
	if snap, err := h.Snapshot(t.Context()); len(snap) != 1 || err != nil {
		t.Errorf("Snapshot = %v, %v; want one entry", snap, err)
	}
	if _, err := harness.New(t.Context(), nil, harness.Config{Mode: harness.Replay}); !errors.Is(err, harness.ErrNotPersistent) {
		t.Errorf("New(Replay) without a journal = %v, want ErrNotPersistent", err)
	}
}

// Entries have the time since the start of their run and an absolute one, across
// changes of mode.
func TestTimes(t *testing.T) {
	j := memjournal.New()
	h := start(t, j, harness.Config{Mode: harness.Record})
	h.DeviceCmd("a", nil)
	h.SetMode(t.Context(), harness.Off)
	h.SetMode(t.Context(), harness.Record)
	h.DeviceCmd("b", nil)
	runs, err := harness.Runs(t.Context(), j)
	if err != nil || len(runs) != 2 || runs[0].Start.Start != runs[1].Start.Start {
		t.Fatalf("Runs = %+v, %v; want two tenures of one start", runs, err)
	}
	snap, err := h.Snapshot(t.Context())
	if err != nil || len(snap) != 2 {
		t.Fatalf("Snapshot = %v, %v", snap, err)
	}
	for _, e := range snap {
		if want := e.Time.UTC().Sub(runs[0].Start.Start.UTC()).Microseconds(); e.At.Microseconds() != want || e.At < 0 {
			t.Errorf("record %d is %v after the start, want %d µs", e.Number, e.At, want)
		}
	}
	if snap[1].At < snap[0].At {
		t.Errorf("At went from %v to %v", snap[0].At, snap[1].At)
	}
}

// A pin that differs refuses the replay and says which key; another run's pin in
// the same journal is checked as well.
func TestPin(t *testing.T) {
	j := memjournal.New()
	h := start(t, j, harness.Config{Mode: harness.Record, Pin: map[string]string{"driver": "1", "amd64": "v1"}})
	h.DeviceCmd("x", nil)
	h.Close()
	for _, pin := range []map[string]string{nil, {"driver": "1"}, {"other": "z"}} {
		h := start(t, j, harness.Config{Mode: harness.Replay, Pin: pin})
		if err := h.DeviceCmd("x", nil); err != nil {
			t.Errorf("replay with pin %v = %v", pin, err)
		}
	}
	_, err := harness.New(t.Context(), j, harness.Config{Mode: harness.Replay, Pin: map[string]string{"amd64": "v3", "driver": "1"}})
	var pin *harness.PinError
	if !errors.As(err, &pin) || pin.Key != "amd64" || pin.Recorded != "v1" || pin.Present != "v3" {
		t.Errorf("replay with another pin = %v, want a PinError about amd64", err)
	}
}

// A run of a build whose floating point may differ is refused when asked for.
func TestSameNumerics(t *testing.T) {
	j := memjournal.New()
	h := start(t, j, harness.Config{Mode: harness.Record})
	h.DeviceCmd("x", nil)
	h.Close()
	start(t, j, harness.Config{Mode: harness.Replay, SameNumerics: true})
	env := journal.ThisEnvironment()
	env.Level = "v9"
	data, err := json.Marshal(harness.Start{Harness: "other build", Environment: env})
	if err != nil {
		t.Fatal(err)
	}
	appendRaw(t, j, &journal.Record{Kind: journal.KindEpochStart, Data: data})
	h = start(t, j, harness.Config{Mode: harness.Replay, SameNumerics: true})
	h.DeviceCmd("x", nil)
	var pin *harness.PinError
	if err := h.DeviceCmd("y", nil); !errors.As(err, &pin) || !strings.Contains(pin.Recorded, "v9") {
		t.Errorf("replay into a run of another build = %v, want a PinError", err)
	}
	h = start(t, j, harness.Config{Mode: harness.Replay})
	h.DeviceCmd("x", nil)
	if err := h.Finish(t.Context()); err != nil {
		t.Errorf("replay that does not ask = %v", err)
	}
}

func TestConfigFaultsAreReportedTogether(t *testing.T) {
	_, err := harness.New(t.Context(), nil, harness.Config{
		Mode: 9, Name: strings.Repeat("x", 250), Linger: -1, Part: harness.Range{From: 5, To: 3},
	})
	if err == nil {
		t.Fatal("New succeeded")
	}
	for _, part := range []string{"mode 9", "250 bytes", "linger", "from 5 to 3"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not speak of %q", err, part)
		}
	}
}

func change(t *testing.T, data []byte) string {
	t.Helper()
	var c harness.Change
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	return c.From + ">" + c.To
}
