package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy.dev/accel/trace"
	"understudy.dev/harness"
	"understudy.dev/journal"
	"understudy.dev/journal/memjournal"
)

// endlessTrace is a Kineto trace without an end, and without a command, during which
// somebody presses Ctrl-C.
type endlessTrace struct {
	begun     bool
	given     int
	interrupt func()
}

func (r *endlessTrace) Read(p []byte) (int, error) {
	if !r.begun {
		r.begun = true
		return copy(p, `{"traceEvents":[`), nil
	}
	if r.given += len(p); r.given > 64<<20 {
		return 0, errors.New("read on after the interruption")
	}
	if r.given > 1<<20 {
		r.interrupt()
	}
	const event = `{"ph":"i","name":"x"},`
	return copy(p, strings.Repeat(event, max(1, len(p)/len(event)))), nil
}

// An interruption ends the reading of a trace also before its first command.
func TestInterruptionEndsTheReadingOfATrace(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := &endlessTrace{interrupt: cancel}
	_, err := traceOps(ctx, r)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("read a trace = %v, want it to be interrupted", err)
	}
	if r.given > 32<<20 {
		t.Errorf("%d bytes were read, of which the interruption came after 1 MiB", r.given)
	}
	if got, want := exitCode(ctx, badTrace("x", err)), exitInterrupted; got != want {
		t.Errorf("exit code %d, want %d", got, want)
	}
}

// commandLines are a trace of n commands.
func commandLines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"cmd":"alloc","bytes":512,"addr":%d,"ts_us":%d}`+"\n", 4096*(i+1), i)
	}
	return b.String()
}

// afterBytes is a reader that does something once n bytes of it are read.
type afterBytes struct {
	io.Reader
	left int
	do   func()
}

func (r *afterBytes) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p[:min(len(p), 100)])
	if r.left -= n; r.left <= 0 {
		r.do()
	}
	return n, err
}

// newEnv returns what a command has when it is called inside a test.
func newEnv(url string) *Env {
	return &Env{
		App: App{Name: "understudy"}, Stdout: io.Discard, Stderr: io.Discard, Getenv: func(string) string { return "" }, Now: time.Now,
		Global: Global{Journal: url, Timeout: 5 * time.Second},
	}
}

// An import that was interrupted is noted as that, and is no whole trace for anybody.
func TestInterruptedImportIsCutShort(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	j := small(t, dir)
	defer j.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	r := &afterBytes{strings.NewReader(commandLines(1000)), 10_000, func() { cancel(errors.New("a signal came")) }}
	n, err := newEnv("").record(ctx, j, r, "big.jsonl", map[trace.Op]int{trace.OpAlloc: 1000})
	if err == nil || err.Error() != "a signal came" || n == 0 || n == 1000 {
		t.Fatalf("record = %d, %v, want it to be interrupted on the way", n, err)
	}
	if got := exitCode(ctx, err); got != exitInterrupted {
		t.Errorf("exit code %d, want %d", got, exitInterrupted)
	}
	if hint := newEnv("").leftBehind(j); !strings.Contains(hint, "has a part of the trace") {
		t.Errorf("hint %q", hint)
	}
	run(t.Context(), fileURL(dir), "capture", "ls").want(t, 0, "cut short: a signal came")
	run(t.Context(), fileURL(dir), "capture", "check").want(t, 1, fmt.Sprintf("part       %d of 1,000 commands", n), "cut short: a signal came")
}

// A trace that changes between the two readings is not imported as if it were whole.
func TestTraceThatChangesWhileImported(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	j := small(t, dir)
	defer j.Close()
	_, err := newEnv("").record(t.Context(), j, strings.NewReader(commandLines(9)), "x", map[trace.Op]int{trace.OpAlloc: 10})
	if err == nil || !strings.Contains(err.Error(), "10 commands of it were counted and 9 recorded") {
		t.Errorf("record = %v", err)
	}
	run(t.Context(), fileURL(dir), "capture", "check").want(t, 1, "9 of 10 commands", "cut short: 10 commands")
}

// filling is a journal that is full after some appends.
type filling struct {
	journal.Journal
	room int
}

func (f *filling) Append(ctx context.Context, epoch journal.Epoch, prev journal.Position, b []byte) (journal.Position, error) {
	if f.room--; f.room < 0 {
		return 0, journal.ErrFull
	}
	return f.Journal.Append(ctx, epoch, prev, b)
}

// End implements journal.Ender.
func (f *filling) End(ctx context.Context) (journal.End, error) {
	return journal.SampleEnd(ctx, f.Journal)
}

// What a full disk leaves behind is what the hint says.
func TestImportIntoAFullJournalSaysWhatIsThere(t *testing.T) {
	for room, want := range map[int]string{
		0: "nothing was recorded", 1: "no command was recorded, but the start", 2: "the journal has a part of the trace",
	} {
		j := &filling{memjournal.New(), room}
		e := newEnv("")
		_, err := e.record(t.Context(), j, strings.NewReader(commandLines(20_000)), "x", map[trace.Op]int{trace.OpAlloc: 20_000})
		if !errors.Is(err, journal.ErrFull) || strings.Count(err.Error(), "full") != 1 {
			t.Errorf("room for %d batches: record = %v, want %v once", room, err, journal.ErrFull)
		}
		if hint := e.leftBehind(j); !strings.HasPrefix(hint, want) {
			t.Errorf("room for %d batches: hint %q, want %q", room, hint, want)
		}
	}
}

// growing is a journal to which somebody records each time that its end is looked at.
type growing struct {
	journal.Journal
	grow func()
}

// End implements journal.Ender.
func (g *growing) End(ctx context.Context) (journal.End, error) {
	end, err := journal.SampleEnd(ctx, g.Journal)
	g.grow()
	return end, err
}

// The list of runs is of one moment, also while somebody records.
func TestRunsOfALiveJournalAgreeWithThemselves(t *testing.T) {
	j := memjournal.New()
	defer j.Close()
	h, err := harness.New(t.Context(), j, harness.Config{Mode: harness.Record})
	if err != nil {
		t.Fatal(err)
	}
	g := &growing{j, func() {
		if err := h.DeviceCmd("step", nil); err != nil {
			t.Fatal(err)
		}
	}}
	for want := range uint64(3) {
		runs, err := captureRuns(t.Context(), g)
		if err != nil || len(runs) != 1 || runs[0].Device != runs[0].Last {
			t.Fatalf("%d: %+v, %v, want as many records as there are numbers", want, runs, err)
		}
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
}

// Words name the first twenty of what there may be thousands of.
func TestListsInWordsAreBounded(t *testing.T) {
	var b strings.Builder
	all := make([]allocation, 22)
	writeAllocations(&b, all[:20])
	if got := strings.Count(b.String(), "line 0"); got != 20 || strings.Contains(b.String(), "more") {
		t.Errorf("%d of 20 allocations shown:\n%s", got, b.String())
	}
	b.Reset()
	writeAllocations(&b, all)
	if got := strings.Count(b.String(), "line 0"); got != 20 || !strings.Contains(b.String(), "and 2 more: --json has all") {
		t.Errorf("%d of 22 allocations shown:\n%s", got, b.String())
	}
	var r captureRun
	for n := range uint64(22) {
		r.count(&harness.Entry{Number: n + 1, Kind: journal.KindSeed, Data: make([]byte, 8)})
	}
	b.Reset()
	writeInputs(&b, "seed", r.Seeds, r.Seed)
	if got := strings.Count(b.String(), "record"); got != 20 || !strings.Contains(b.String(), "and 2 more of seed") {
		t.Errorf("%d of 22 seeds shown:\n%s", got, b.String())
	}
}

// An argument of diff that has :// in it is a URL, and its scheme is what is wrong.
func TestDiffTakesURLs(t *testing.T) {
	for arg, want := range map[string]bool{
		"gopher://x/y": true, "file:runs/a": true, "mem:a": true, "nats://h/S": true, "run1": false, "a:b": false, "job/1": false,
	} {
		if got := isJournalURL(arg); got != want {
			t.Errorf("%s is a URL: %v, want %v", arg, got, want)
		}
	}
	run(t.Context(), "file:"+t.TempDir(), "diff", "gopher://x/y", "run1").want(t, 2, `scheme "gopher" is unknown`)
}

// Of nothing capture check does not say that it holds.
func TestCaptureCheckOfNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	small(t, dir).Close()
	run(t.Context(), fileURL(dir), "capture", "check").want(t, 1, "nothing recorded", "hint: understudy capture import FILE")
}
