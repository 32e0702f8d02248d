package filejournal_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/journaltest"
)

// benchBytes is the size of a command.
const benchBytes = 128

// BenchmarkAppend appends batches of so many commands, one after the other, and
// beside it writes and syncs 4 KiB into a file of the same folder that was
// written before: what one submitter pays to the disk whatever the format.
func BenchmarkAppend(b *testing.B) {
	b.Run("bare 4 KiB", func(b *testing.B) {
		f, err := os.OpenFile(filepath.Join(b.TempDir(), "bare"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		const size = 64 << 20
		if _, err := f.WriteAt(make([]byte, size), 0); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		block, off := make([]byte, 4096), int64(0)
		var took []time.Duration
		for b.Loop() {
			start := time.Now()
			if _, err := f.WriteAt(block, off); err != nil {
				b.Fatal(err)
			}
			if err := unix.Fdatasync(int(f.Fd())); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(start))
			off = (off + 4096) % size
		}
		reportLatency(b, took)
	})
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
