package filejournal_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"understudy.dev/internal/crashfs"
	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/journaltest"
)

// The contract holds through the fault wrapper too.
func TestConformanceThroughFaulty(t *testing.T) {
	disks := map[journal.Journal]*crashfs.FS{}
	open := func(tb testing.TB, disk *crashfs.FS) journal.Journal {
		j := journaltest.NewFaulty(tb, openAt(tb, "j", filejournal.Config{SegmentBytes: small, FS: disk}), 0)
		disks[j] = disk
		return j
	}
	journaltest.Run(t, journaltest.Config{
		Open:   func(tb testing.TB) journal.Journal { return open(tb, crashfs.New()) },
		Reopen: func(tb testing.TB, j journal.Journal) journal.Journal { return open(tb, disks[j]) },
	})
}

// A Writer over a journal that loses calls and acknowledgements, and lets writes
// land late, stores every record once and in order.
func TestWriterThroughFaults(t *testing.T) {
	j := openAt(t, t.TempDir(), filejournal.Config{SegmentBytes: small})
	f := journaltest.NewFaulty(t, j, 0)
	f.Hold = time.Millisecond
	pos, err := f.Fence(t.Context(), 1, "a")
	if err != nil {
		t.Fatal(err)
	}
	at, err := readTo(t.Context(), j, pos)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []journaltest.FaultKind{journaltest.Vanish, journaltest.LoseAck, journaltest.Delay} {
		f.Rate(journaltest.OpAppend, 0.1, journaltest.Fault{Kind: kind})
	}
	w := journal.NewWriter(f, at.Cursor, journal.WriterConfig{})
	b := w.NewBuilder()
	const batches = 200
	for i := range batches {
		b.Reset()
		r := journal.Record{Kind: journal.KindCommand, Name: "n", Request: uint64(i + 1)}
		if err := b.Add(&r); err != nil {
			t.Fatal(err)
		}
		if err := w.Append(t.Context(), b, journal.Digest{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.Injected()) == 0 {
		t.Error("no fault happened")
	}
	r := journal.NewReader(j, journal.ReaderConfig{})
	defer r.Close()
	for next := uint64(1); next <= batches; {
		var it journal.Item
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
			if rec.Request != next {
				t.Fatalf("record %d has request %d, want %d", rec.Seq, rec.Request, next)
			}
			next++
		}
	}
}

// Nothing is allocated by an append once its buffers have grown.
func TestAppendAllocatesNothing(t *testing.T) {
	j := openAt(t, t.TempDir(), filejournal.Config{})
	p := newPen(t, j)
	p.append(t, 100)
	if got := testing.AllocsPerRun(200, func() { p.append(t, 10) }); got > 0 {
		t.Errorf("%v allocations per append of 10 records", got)
	}
}

// A journal that is not there is not made by looking.
func TestReadOnlyMakesNothing(t *testing.T) {
	disk := crashfs.New()
	if _, err := filejournal.Open("j", filejournal.Config{FS: disk, ReadOnly: true}); err == nil {
		t.Error("opened a journal that does not exist")
	}
	s := &story{disk: disk}
	if err := s.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, kind := range crashfs.Kinds {
		left := disk.Crash(kind, 1)
		before := left.Calls()
		j, err := filejournal.Open("j", filejournal.Config{FS: left, ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		_, err = j.Append(t.Context(), 2, 0, nil)
		_, fenceErr := j.Fence(t.Context(), 9, "x")
		if !errors.Is(err, journal.ErrReadOnly) || !errors.Is(fenceErr, journal.ErrReadOnly) || !errors.Is(j.Trim(t.Context(), 1), journal.ErrReadOnly) {
			t.Errorf("writing to a read-only journal: %v, %v", err, fenceErr)
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		for _, call := range left.Calls()[len(before):] {
			if op, _, _ := strings.Cut(call, " "); !slices.Contains([]string{"list", "open", "size", "map", "read"}, op) {
				t.Errorf("%v: %s", kind, call)
			}
		}
	}
}
