package filejournal_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/journaltest"
)

// benchBytes is the size of a command.
const benchBytes = 128

// BenchmarkOneSubmitter appends one command at a time and, in turn with that,
// writes and syncs 4 KiB in a file of the same folder that was written before:
// what one submitter pays to the disk whatever the format.
func BenchmarkOneSubmitter(b *testing.B) {
	const size = 64 << 20
	dir := b.TempDir()
	f, err := filejournal.OS().Open(filepath.Join(dir, "bare"), os.O_RDWR|os.O_CREATE)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, size), 0); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	w := newPen(b, openAt(b, filepath.Join(dir, "j"), filejournal.Config{}))
	block, off := make([]byte, 4096), int64(0)
	var bare, ours []time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := f.WriteAt(block, off); err != nil {
			b.Fatal(err)
		}
		if err := f.Datasync(); err != nil {
			b.Fatal(err)
		}
		middle := time.Now()
		w.append(b, 1)
		bare, ours = append(bare, middle.Sub(start)), append(ours, time.Since(middle))
		off = (off + 4096) % size
	}
	slices.Sort(bare)
	reportLatency(b, ours)
	b.ReportMetric(float64(bare[len(bare)/2].Nanoseconds()), "bare-p50-ns")
	b.ReportMetric(float64(ours[len(ours)/2])/float64(bare[len(bare)/2]), "times-bare")
}

// BenchmarkAppend appends batches of so many commands, one after the other.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("%d records", n), func(b *testing.B) {
			j := openAt(b, b.TempDir(), filejournal.Config{})
			w := newPen(b, j)
			took := make([]time.Duration, 0, 1<<20)
			b.ReportAllocs()
			for b.Loop() {
				start := time.Now()
				w.append(b, n)
				took = append(took, time.Since(start))
			}
			b.ReportMetric(float64(n)*float64(len(took))/b.Elapsed().Seconds(), "records/s")
			reportLatency(b, took)
		})
	}
}

func reportLatency(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
}

// A pen appends batches of equal commands. Unlike a journal.Writer it computes
// no chain: batches are stated to follow nothing.
type pen struct {
	j     journal.Journal
	ctx   context.Context
	b     *journal.Builder
	rec   journal.Record
	pos   journal.Position
	first journal.Seq
}

func newPen(tb testing.TB, j journal.Journal) *pen {
	p := &pen{j: j, ctx: context.Background(), b: journal.NewBuilder("bench", filejournal.MaxBatch, 0), first: 1}
	p.rec = journaltest.Records(1, benchBytes)[0]
	var err error
	if p.pos, err = j.Fence(p.ctx, 1, "bench"); err != nil {
		tb.Fatal(err)
	}
	return p
}

func (p *pen) append(tb testing.TB, n int) {
	p.b.Reset()
	for range n {
		p.rec.Request++
		p.rec.Time = 0
		if err := p.b.Add(&p.rec); err != nil {
			tb.Fatal(err)
		}
	}
	pos, err := p.j.Append(p.ctx, 1, p.pos, p.b.Seal(p.first, 1, journal.Digest{}, journal.Hash{}))
	if err != nil {
		tb.Fatal(err)
	}
	p.pos, p.first = pos, p.first+journal.Seq(n)
}

// benchJournal returns a journal of about 64 MiB in batches of 512 commands.
func benchJournal(b *testing.B) (j *filejournal.Journal, records int, size int64) {
	b.Helper()
	j = openAt(b, b.TempDir(), filejournal.Config{})
	if _, err := j.Fence(b.Context(), 1, "bench"); err != nil {
		b.Fatal(err)
	}
	at, err := readTo(b.Context(), j, 1)
	if err != nil {
		b.Fatal(err)
	}
	w := journal.NewWriter(j, at.Cursor, journal.WriterConfig{})
	bl := w.NewBuilder()
	rec := journaltest.Records(1, benchBytes)[0]
	for records < 400_000 {
		bl.Reset()
		for range 512 {
			rec.Request, rec.Time = rec.Request+1, 0
			if err := bl.Add(&rec); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Append(b.Context(), bl, journal.Digest{}); err != nil {
			b.Fatal(err)
		}
		records += 512
	}
	return j, records, int64(w.Cursor().Pos)
}

// BenchmarkRead reads a journal back: with the checksums alone, with the chain
// too, and beside it hashes as many bytes in pieces as large.
func BenchmarkRead(b *testing.B) {
	for _, skipChain := range []bool{true, false} {
		name := map[bool]string{true: "checksum", false: "checksum and chain"}[skipChain]
		b.Run(name, func(b *testing.B) {
			j, n, size := benchJournal(b)
			var records []journal.Record
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				r := journal.NewReader(j, journal.ReaderConfig{SkipChain: skipChain})
				for seen := 0; seen < n; {
					var it journal.Item
					if err := r.Next(b.Context(), &it); err != nil {
						b.Fatal(err)
					}
					if it.Verdict != journal.Live {
						continue
					}
					var err error
					if records, err = it.Batch.Records(records[:0]); err != nil {
						b.Fatal(err)
					}
					seen += len(records)
				}
				r.Close()
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
	b.Run("chain hash alone", func(b *testing.B) {
		piece := make([]byte, 512*(benchBytes+20))
		const size = 64 << 20
		b.SetBytes(size)
		for b.Loop() {
			h := sha256.New()
			var link []byte
			for n := 0; n < size; n += len(piece) {
				h.Reset()
				h.Write(link)
				h.Write(piece)
				link = h.Sum(link[:0])
			}
		}
	})
}
