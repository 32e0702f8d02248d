package harness_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"understudy.dev/harness"
	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/memjournal"
)

func benchDeviceCmd(b *testing.B, j journal.Journal, cfg harness.Config, actor bool) {
	h := start(b, j, cfg)
	var r harness.Recorder = h
	if actor {
		r = h.Actor("gpu0")
	}
	payload := []byte("grid 128 block 256")
	b.ReportAllocs()
	for b.Loop() {
		if err := r.DeviceCmd("launch", payload); err != nil {
			b.Fatal(err)
		}
	}
	if err := h.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
}

// One device command: at most 2 ns off, 150 ns and no allocation asynchronously
// over memory, 1 µs amortised over a file.
func BenchmarkDeviceCmd(b *testing.B) {
	async := harness.Config{Mode: harness.Record, Async: true}
	b.Run("off", func(b *testing.B) {
		h := start(b, memjournal.New(), harness.Config{})
		payload := []byte("grid 128 block 256")
		for b.Loop() {
			if err := h.DeviceCmd("launch", payload); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("memory async", func(b *testing.B) { benchDeviceCmd(b, memjournal.New(), async, false) })
	b.Run("memory async actor", func(b *testing.B) { benchDeviceCmd(b, memjournal.New(), async, true) })
	b.Run("memory sync", func(b *testing.B) { benchDeviceCmd(b, memjournal.New(), harness.Config{Mode: harness.Record}, false) })
	b.Run("file async", func(b *testing.B) { benchDeviceCmd(b, file(b), async, false) })
	b.Run("file sync", func(b *testing.B) { benchDeviceCmd(b, file(b), harness.Config{Mode: harness.Record}, false) })
	b.Run("file sync 64 callers", func(b *testing.B) {
		h := start(b, file(b), harness.Config{Mode: harness.Record})
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := h.DeviceCmd("launch", nil); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

func file(b *testing.B) journal.Journal {
	b.Helper()
	j, err := filejournal.Open(b.TempDir()+"/journal", filejournal.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { j.Close() })
	return j
}

// benchRecords is how much the reading benchmarks read.
const benchRecords = 1_000_000

// million is recorded once for the benchmarks that read it.
var million = sync.OnceValue(func() *memjournal.Journal {
	j := memjournal.New()
	h, err := harness.New(context.Background(), j, harness.Config{Mode: harness.Record, Async: true})
	if err != nil {
		panic(err)
	}
	payload := []byte("grid 128 block 256")
	for range benchRecords {
		if err := h.DeviceCmd("launch", payload); err != nil {
			panic(err)
		}
	}
	if err := h.Close(); err != nil {
		panic(err)
	}
	return j
})

// Replaying 1,000,000 records into a function sink takes at most twice what
// reading them takes. Both in turns, so that a machine that is busy for a while
// slows both: replay/read is the aim's ratio, replay/journal the one against the
// Reader and the decoding of every record alone.
func BenchmarkReplayMillion(b *testing.B) {
	j := million()
	passes := []struct {
		name string
		pass func() uint64
		took time.Duration
	}{
		{name: "journal", pass: func() uint64 { return readJournal(b, j) }},
		{name: "read", pass: func() uint64 { return readMillion(b, j) }},
		{name: "replay", pass: func() uint64 { return replayMillion(b, j) }},
	}
	rounds := 0
	for b.Loop() {
		for i := range passes {
			began := time.Now()
			if got := passes[i].pass(); got != benchRecords {
				b.Fatalf("%s: %d records, want %d", passes[i].name, got, benchRecords)
			}
			passes[i].took += time.Since(began)
		}
		rounds++
	}
	for _, p := range passes {
		b.ReportMetric(float64(p.took.Nanoseconds())/float64(rounds)/benchRecords, p.name+"-ns/record")
	}
	replay := passes[2].took.Seconds()
	b.ReportMetric(replay/passes[0].took.Seconds(), "replay/journal")
	b.ReportMetric(replay/passes[1].took.Seconds(), "replay/read")
}

func readMillion(b *testing.B, j journal.Journal) (n uint64) {
	for _, err := range harness.Read(b.Context(), j, harness.Range{}) {
		if err != nil {
			b.Fatal(err)
		}
		n++
	}
	return n
}

func replayMillion(b *testing.B, j journal.Journal) (n uint64) {
	p := player(b, j, harness.SinkFunc(func(context.Context, *harness.Entry) error {
		n++
		return nil
	}), harness.ReplayOptions{})
	if err := p.Run(b.Context()); err != nil {
		b.Fatal(err)
	}
	return n
}

// readJournal decodes every live record and counts the entries.
func readJournal(b *testing.B, j journal.Journal) (n uint64) {
	end, err := journal.SampleEnd(b.Context(), j)
	if err != nil {
		b.Fatal(err)
	}
	r := journal.NewReader(j, journal.ReaderConfig{})
	defer r.Close()
	var records []journal.Record
	for it := (journal.Item{}); r.Cursor().Pos < end.Pos; {
		if err := r.Next(b.Context(), &it); err != nil {
			b.Fatal(err)
		}
		if it.Verdict != journal.Live {
			continue
		}
		if records, err = it.Batch.Records(records[:0]); err != nil {
			b.Fatal(err)
		}
		for i := range records {
			if records[i].Request != 0 {
				n++
			}
		}
	}
	return n
}
