package filejournal_test

import (
	"runtime"
	"testing"

	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/journaltest"
)

// A journal of 1 GB is read in less than 64 MB of memory (RULES 41), which is used
// again and again: fresh memory would take most of the time.
func TestReadingIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 1 GB")
	}
	j := openAt(t, t.TempDir(), filejournal.Config{})
	if _, err := j.Fence(t.Context(), 1, "a"); err != nil {
		t.Fatal(err)
	}
	at, err := readTo(t.Context(), j, 1)
	if err != nil {
		t.Fatal(err)
	}
	w := journal.NewWriter(j, at.Cursor, journal.WriterConfig{})
	b := w.NewBuilder()
	rec := journaltest.Records(1, 2048)[0]
	for w.Cursor().Pos < 1<<30 {
		b.Reset()
		for range 400 {
			if err := b.Add(&rec); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Append(t.Context(), b, journal.Digest{}); err != nil {
			t.Fatal(err)
		}
	}
	r := journal.NewReader(j, journal.ReaderConfig{})
	defer r.Close()
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	peak, allocated, batches := uint64(0), uint64(0), 0
	for r.Cursor().Pos < w.Cursor().Pos {
		var it journal.Item
		if err := r.Next(t.Context(), &it); err != nil {
			t.Fatal(err)
		}
		if batches++; batches%16 == 0 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapInuse+m.StackInuse)
			allocated = m.TotalAlloc - before.TotalAlloc
		}
	}
	if peak > 64<<20 {
		t.Errorf("%d MiB in use while reading %d MiB", peak>>20, w.Cursor().Pos>>20)
	}
	if allocated > 64<<20 {
		t.Errorf("%d MiB allocated while reading %d MiB", allocated>>20, w.Cursor().Pos>>20)
	}
	t.Logf("at most %d MiB in use, %d MiB allocated", peak>>20, allocated>>20)
}

// A follower does not keep the memory of a huge entry once it has gone on.
func TestHugeEntryIsLetGo(t *testing.T) {
	dir := t.TempDir()
	write := func() {
		j := openAt(t, dir, filejournal.Config{Foreground: true})
		p := journaltest.NewPen("a")
		must(t, p.Fence(t.Context(), j, 1))
		must(t, p.Append(t.Context(), j, journaltest.Records(1, 12<<20)...))
		must(t, p.Append(t.Context(), j, journaltest.Records(1, 10)...))
		must(t, j.Close())
	}
	write()
	inUse := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := inUse()
	j := openAt(t, dir, filejournal.Config{Foreground: true})
	if kept := int64(inUse()) - int64(before); kept > 4<<20 {
		t.Errorf("an open journal keeps %d MiB", kept>>20)
	}
	for e, err := range j.Follow(t.Context(), 0) {
		must(t, err)
		if len(e.Data) > 0 {
			continue
		}
		if kept := int64(inUse()) - int64(before); kept > 4<<20 {
			t.Errorf("an idle follower keeps %d MiB", kept>>20)
		}
		return
	}
}
