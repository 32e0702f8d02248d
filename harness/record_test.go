package harness_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"understudy.dev/harness"
	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
)

// quick resolves unknown appends without long pauses.
var quick = journal.WriterConfig{LookFor: time.Millisecond, MinBackoff: time.Microsecond, MaxBackoff: time.Millisecond}

// A failed write is an error to the one who recorded and burns no number.
func TestFailedWriteBurnsNoNumber(t *testing.T) {
	faulty := journaltest.NewFaulty(t, memjournal.New(), 1)
	h := start(t, faulty, harness.Config{Mode: harness.Record})
	h.DeviceCmd("one", nil)
	faulty.Plan(journaltest.OpAppend, 1, journaltest.Fault{Kind: journaltest.Refuse})
	if err := h.DeviceCmd("lost", nil); !errors.Is(err, journal.ErrFull) {
		t.Fatalf("record in a full journal = %v, want ErrFull", err)
	}
	if err := h.DeviceCmd("two", nil); err != nil {
		t.Fatal(err)
	}
	if err := h.DeviceCmd("big", make([]byte, 2<<20)); !errors.Is(err, journal.ErrTooLarge) {
		t.Errorf("record of 2 MiB = %v, want ErrTooLarge", err)
	}
	if err := h.DeviceCmd(strings.Repeat("n", 2000), nil); !errors.Is(err, journal.ErrTooLarge) {
		t.Errorf("record with a name of 2000 bytes = %v, want ErrTooLarge", err)
	}
	if err := h.DeviceCmd("three", nil); err != nil {
		t.Fatal(err)
	}
	snap, err := h.Snapshot(t.Context())
	if got := strings.Join(names(snap), " "); err != nil || got != "one two three" {
		t.Errorf("Snapshot = %s, %v; want one two three", got, err)
	}
	checkDense(t, snap, 1)
}

// Records that gathered behind a failed append fail with it, and the numbers go
// on where the last stored one was.
func TestFailureVoidsWhatGatheredBehindIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &gated{Journal: memjournal.New(), open: make(chan error)}
		h, err := harness.New(t.Context(), gate, harness.Config{Mode: harness.Record})
		if err != nil {
			t.Fatal(err)
		}
		gate.shut(true)
		errs := make(chan error, 3)
		go func() { errs <- h.DeviceCmd("a", nil) }()
		synctest.Wait() // a is at the journal
		go func() { errs <- h.DeviceCmd("b", nil) }()
		go func() { errs <- h.DeviceCmd("c", nil) }()
		synctest.Wait() // b and c have gathered
		gate.open <- journal.ErrFull
		for range 3 {
			if err := <-errs; !errors.Is(err, journal.ErrFull) {
				t.Errorf("record = %v, want ErrFull", err)
			}
		}
		gate.shut(false)
		if err := h.DeviceCmd("d", nil); err != nil {
			t.Fatal(err)
		}
		snap, err := h.Snapshot(t.Context())
		if err != nil || len(snap) != 1 || snap[0].Number != 1 || snap[0].Name != "d" {
			t.Errorf("Snapshot = %v, %v; want d with number 1", snap, err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
}

// gated is a journal whose appends wait, while it is shut, for the error to
// return; nil lets them through.
type gated struct {
	journal.Journal
	open chan error
	mu   sync.Mutex
	wait bool
	n    int
}

func (g *gated) shut(wait bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wait = wait
}

func (g *gated) Append(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
	g.mu.Lock()
	wait := g.wait
	g.n++
	g.mu.Unlock()
	if wait {
		if err := <-g.open; err != nil {
			return 0, err
		}
	}
	return g.Journal.Append(ctx, epoch, prev, batch)
}

func (g *gated) appends() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}

// Concurrent callers share an append.
func TestConcurrentCallersShareAnAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &gated{Journal: memjournal.New(), open: make(chan error)}
		h, err := harness.New(t.Context(), gate, harness.Config{Mode: harness.Record})
		if err != nil {
			t.Fatal(err)
		}
		gate.shut(true)
		before := gate.appends()
		var all sync.WaitGroup
		call := func() {
			if err := h.DeviceCmd("x", nil); err != nil {
				t.Error(err)
			}
		}
		all.Go(call)
		synctest.Wait()
		for range 100 {
			all.Go(call)
		}
		synctest.Wait()
		gate.open <- nil
		gate.open <- nil
		all.Wait()
		if got := gate.appends() - before; got != 2 {
			t.Errorf("101 records took %d appends, want 2", got)
		}
		gate.shut(false)
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A synchronous call does not return before its record is stored.
func TestCallReturnsWhenStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &gated{Journal: memjournal.New(), open: make(chan error)}
		h, err := harness.New(t.Context(), gate, harness.Config{Mode: harness.Record})
		if err != nil {
			t.Fatal(err)
		}
		gate.shut(true)
		returned := make(chan error, 1)
		go func() { _, err := h.RNGSeed("x", 1); returned <- err }()
		synctest.Wait()
		select {
		case err := <-returned:
			t.Errorf("RNGSeed returned %v before its record was stored", err)
		default:
		}
		gate.open <- nil
		if err := <-returned; err != nil {
			t.Error(err)
		}
		gate.shut(false)
		h.Close()
	})
}

// An acknowledgement that was lost is found again; one that cannot be resolved is
// unknown to its caller, and later calls certainly did nothing.
func TestUnknownOutcome(t *testing.T) {
	inner := memjournal.New()
	faulty := journaltest.NewFaulty(t, inner, 1)
	h := start(t, faulty, harness.Config{Mode: harness.Record, Writer: quick, Timeout: 50 * time.Millisecond})
	faulty.Plan(journaltest.OpAppend, 1, journaltest.Fault{Kind: journaltest.LoseAck})
	if err := h.DeviceCmd("found", nil); err != nil {
		t.Errorf("record whose acknowledgement was lost = %v", err)
	}
	faulty.Rate(journaltest.OpAppend, 1, journaltest.Fault{Kind: journaltest.Vanish})
	mayBeLost := func(what string, err error) {
		t.Helper()
		var lost *harness.LostError
		if journal.OutcomeOf(err) != journal.Unknown || !errors.As(err, &lost) || lost.From != 2 || lost.To != 2 {
			t.Errorf("%s = %v, want an unknown outcome of record 2", what, err)
		}
	}
	mayBeLost("record that vanished", h.DeviceCmd("gone", nil))
	faulty.Heal()
	if err := h.DeviceCmd("after", nil); journal.OutcomeOf(err) != journal.NotDone {
		t.Errorf("record after an unknown outcome = %v, want certainly not done", err)
	}
	mayBeLost("Flush", h.Flush(t.Context()))
	mayBeLost("Close", h.Close())
	again := start(t, inner.Handle(), harness.Config{Mode: harness.Record})
	if err := again.DeviceCmd("again", nil); err != nil {
		t.Fatal(err)
	}
	page, err := again.Load(t.Context(), 1, 0)
	if got := strings.Join(names(page.Entries), " "); err != nil || got != "found again" {
		t.Errorf("Load = %s, %v; want found again", got, err)
	}
}

// The first failure of an asynchronous recorder is returned by all that comes
// after it, with the numbers that are lost.
func TestAsyncErrorIsSticky(t *testing.T) {
	faulty := journaltest.NewFaulty(t, memjournal.New(), 1)
	h := start(t, faulty, harness.Config{Mode: harness.Record, Async: true, Linger: time.Hour})
	for i := range 4 {
		if err := h.DeviceCmd(fmt.Sprint("stored ", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	faulty.Plan(journaltest.OpAppend, 1, journaltest.Fault{Kind: journaltest.Refuse})
	for range 3 {
		if err := h.DeviceCmd("lost", nil); err != nil {
			t.Fatalf("queueing = %v", err)
		}
	}
	var lost *harness.LostError
	isLost := func(what string, err error) {
		t.Helper()
		if !errors.As(err, &lost) || lost.From != 5 || lost.To != 7 || lost.Outcome != journal.NotDone || !errors.Is(err, journal.ErrFull) {
			t.Errorf("%s = %v, want records 5 to 7 are lost", what, err)
		}
	}
	isLost("Flush", h.Flush(t.Context()))
	isLost("DeviceCmd", h.DeviceCmd("later", nil))
	_, err := h.RNGSeed("x", 1)
	isLost("RNGSeed", err)
	isLost("Flush again", h.Flush(t.Context()))
	isLost("Close", h.Close())
}

// Close stores what is pending, or says which numbers may be lost.
func TestCloseFlushesOrSaysWhatIsLost(t *testing.T) {
	inner := memjournal.New()
	faulty := journaltest.NewFaulty(t, inner, 1)
	h := start(t, faulty, harness.Config{Mode: harness.Record, Async: true, Linger: time.Hour})
	h.DeviceCmd("pending", nil)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if p, err := harness.Load(t.Context(), inner, 1, 0); err != nil || len(p.Entries) != 1 {
		t.Errorf("Load after Close = %v, %v; want what was pending", p.Entries, err)
	}
	h = start(t, faulty, harness.Config{Mode: harness.Record, Async: true, Linger: time.Hour, Writer: quick, Timeout: 30 * time.Millisecond})
	h.DeviceCmd("two", nil)
	h.DeviceCmd("three", nil)
	faulty.Rate(journaltest.OpAppend, 1, journaltest.Fault{Kind: journaltest.Vanish})
	err := h.Close()
	var lost *harness.LostError
	if !errors.As(err, &lost) || lost.From != 2 || lost.To != 3 || lost.Outcome != journal.Unknown {
		t.Errorf("Close = %v, want records 2 to 3 may be lost", err)
	}
	if err := h.Close(); err != nil {
		t.Errorf("second Close = %v, want nil", err)
	}
}

// What is queued is stored after the linger without anybody asking.
func TestAsyncLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := memjournal.New()
		h, err := harness.New(t.Context(), j, harness.Config{Mode: harness.Record, Async: true, Linger: 10 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		before, _ := j.End(t.Context())
		for range 3 {
			h.DeviceCmd("x", nil)
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		if now, _ := j.End(t.Context()); now.Pos != before.Pos {
			t.Error("appended before the linger was over")
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if now, _ := j.End(t.Context()); now.Pos != before.Pos+1 || now.Seq != before.Seq+3 {
			t.Errorf("after the linger: %d entries with %d records more, want 1 with 3", now.Pos-before.Pos, now.Seq-before.Seq)
		}
		h.Close()
	})
}

// More than a batch holds waits for room instead of failing.
func TestAsyncBackpressure(t *testing.T) {
	j := memjournal.New()
	h := start(t, j, harness.Config{Mode: harness.Record, Async: true})
	data := make([]byte, 300<<10)
	for range 40 {
		if err := h.DeviceCmd("copy", data); err != nil {
			t.Fatal(err)
		}
	}
	snap, err := h.Snapshot(t.Context())
	if err != nil || len(snap) != 40 {
		t.Errorf("Snapshot = %d entries, %v; want 40", len(snap), err)
	}
	checkDense(t, snap, 1)
}

// Goroutines that change the mode, close and record at the same time neither
// deadlock nor lose what was acknowledged.
func TestConcurrentModeChanges(t *testing.T) {
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprint("async ", async), func(t *testing.T) {
			j := memjournal.New()
			h := start(t, j, harness.Config{Mode: harness.Record, Async: async})
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for range 200 {
						if err := h.DeviceCmd("x", nil); err != nil {
							t.Errorf("DeviceCmd = %v", err)
							return
						}
					}
				})
			}
			for range 20 {
				for _, m := range []harness.Mode{harness.Off, harness.Record} {
					if err := h.SetMode(t.Context(), m); err != nil {
						t.Errorf("SetMode(%v) = %v", m, err)
					}
				}
			}
			all.Wait()
			snap, err := h.Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			checkDense(t, snap, 1)
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A record that cannot be read names its number, and what was loaded stays.
func TestDamage(t *testing.T) {
	tests := []struct {
		name   string
		record journal.Record
	}{
		{name: "short seed", record: journal.Record{Kind: journal.KindSeed, Request: 4, Data: []byte{1}}},
		{name: "negative batch size", record: journal.Record{Kind: journal.KindBatchSize, Request: 4, Data: []byte("\xff\xff\xff\xff\xff\xff\xff\xff")}},
		{name: "unknown kind", record: journal.Record{Kind: 99, Request: 4}},
		{name: "newer version", record: journal.Record{Kind: journal.KindDevice, Version: 7, Request: 4}},
		{name: "hole in the numbers", record: journal.Record{Kind: journal.KindDevice, Request: 6}},
		{name: "no path", record: journal.Record{Kind: journal.KindDevice, Version: 1, Name: "x", Request: 4}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := memjournal.New()
			h := start(t, j, harness.Config{Mode: harness.Record})
			for range 3 {
				h.DeviceCmd("good", nil)
			}
			before, err := h.Load(t.Context(), 1, 0)
			if err != nil {
				t.Fatal(err)
			}
			h.Close()
			appendRaw(t, j, &tt.record)
			p, err := harness.Load(t.Context(), j, 1, 0)
			var bad *harness.RecordError
			if !errors.As(err, &bad) || bad.Number != 4 || !errors.Is(err, harness.ErrUndecodable) {
				t.Errorf("Load = %v, want an undecodable record 4", err)
			}
			if len(p.Entries) != 3 || p.Next != 4 {
				t.Errorf("Load returned %d entries and next %d, want the 3 before the damage and 4", len(p.Entries), p.Next)
			}
			checkDense(t, before.Entries, 1)
		})
	}
}

// A damaged batch names the first number that is lost with it.
func TestDamagedBatchNamesItsNumber(t *testing.T) {
	j := memjournal.New()
	h := start(t, j, harness.Config{Mode: harness.Record})
	for range 3 {
		h.DeviceCmd("good", nil)
	}
	h.Close()
	j.Put([]byte("UDB1 but nothing sensible"))
	_, err := harness.Load(t.Context(), j, 1, 0)
	var bad *harness.RecordError
	var corrupt *journal.CorruptError
	if !errors.As(err, &bad) || bad.Number != 4 || !errors.As(err, &corrupt) {
		t.Errorf("Load = %v, want record 4 and a CorruptError", err)
	}
}

// A file journal that is damaged where opening reads it is not opened, and the
// error has the place and the last good seq.
func TestDamagedFileIsNotOpened(t *testing.T) {
	dir := t.TempDir() + "/journal"
	j := opened(t, "file:"+dir)
	h := start(t, j, harness.Config{Mode: harness.Record})
	tenSteps(h)
	if err := errors.Join(h.Close(), j.Close()); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(dir + "/*.udj")
	if err != nil || len(segments) != 1 {
		t.Fatalf("segments %q, %v; want one", segments, err)
	}
	data, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, []byte("step")) // the first entry; others follow
	data[at] ^= 1
	if err := os.WriteFile(segments[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	var corrupt *journal.CorruptError
	if j, err := openPlace("file:" + dir); !errors.As(err, &corrupt) || corrupt.Pos == 0 || corrupt.Seq != 1 || corrupt.Offset < 0 {
		t.Errorf("open = %v, %v; want a CorruptError with position and byte, after seq 1", j, err)
	}
}

// appendRaw appends a record in a new epoch, as other software could.
func appendRaw(t *testing.T, j journal.Journal, rec *journal.Record) {
	t.Helper()
	end, err := journal.SampleEnd(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	fence, err := j.Fence(t.Context(), end.Epoch+1, "other")
	if err != nil {
		t.Fatal(err)
	}
	r := journal.NewReader(j, journal.ReaderConfig{})
	defer r.Close()
	for it := (journal.Item{}); r.Cursor().Pos < fence; {
		if err := r.Next(t.Context(), &it); err != nil {
			t.Fatal(err)
		}
	}
	w := journal.NewWriter(j, r.Cursor(), journal.WriterConfig{})
	b := w.NewBuilder()
	if err := b.Add(rec); err != nil {
		t.Fatal(err)
	}
	if err := w.Append(t.Context(), b, journal.Digest{}); err != nil {
		t.Fatal(err)
	}
}

// A fence whose outcome is unknown is asked for again.
func TestFenceIsAskedForAgain(t *testing.T) {
	faulty := journaltest.NewFaulty(t, memjournal.New(), 1)
	faulty.Plan(journaltest.OpFence, 1, journaltest.Fault{Kind: journaltest.LoseAck})
	h := start(t, faulty, harness.Config{Mode: harness.Record})
	if err := h.DeviceCmd("x", nil); err != nil {
		t.Error(err)
	}
}
