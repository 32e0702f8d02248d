package journaltest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"understudy.dev/journal"
)

const (
	benchRecordBytes = 128
	benchFollow      = 1 << 16 // records that are read back
)

// Bench measures a backend as all backends are measured: appends of batches of
// 1, 64 and 1024 records of 128 bytes, one after the other, and following
// 65,536 records from the start. It reports records/s, and for appends the
// median and the 99th percentile of one call. Building batches is not counted,
// and neither chain nor checksum is checked.
func Bench(b *testing.B, open func(tb testing.TB) journal.Journal) {
	for _, n := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("append/%d", n), func(b *testing.B) { benchAppend(b, open(b), n) })
	}
	b.Run("follow", func(b *testing.B) { benchFollowing(b, open(b)) })
}

// A press makes batches of the same records as fast as it can and appends them.
type press struct {
	journal.Journal
	builder *journal.Builder
	records []journal.Record
	pos     journal.Position
	seq     journal.Seq
}

// newPress opens epoch 1 of j.
func newPress(ctx context.Context, j journal.Journal, n int) (*press, error) {
	const owner = "bench"
	pos, err := j.Fence(ctx, 1, owner)
	if err != nil {
		return nil, fmt.Errorf("fence: %w", err)
	}
	builder := journal.NewBuilder(owner, math.MaxInt32, 0)
	return &press{Journal: j, builder: builder, records: Records(n, benchRecordBytes), pos: pos, seq: 1}, nil
}

// append appends one batch and returns how long the journal took.
func (p *press) append(ctx context.Context) (time.Duration, error) {
	p.builder.Reset()
	for _, r := range p.records {
		if err := p.builder.Add(&r); err != nil {
			return 0, err
		}
	}
	batch := p.builder.Seal(p.seq, 1, journal.Digest{}, journal.Hash{})
	start := time.Now()
	pos, err := p.Append(ctx, 1, p.pos, batch)
	took := time.Since(start)
	if err != nil {
		return took, fmt.Errorf("append after %d: %w", p.pos, err)
	}
	p.pos, p.seq = pos, p.seq+journal.Seq(len(p.records))
	return took, nil
}

func benchAppend(b *testing.B, j journal.Journal, n int) {
	b.ReportAllocs()
	p, err := newPress(b.Context(), j, n)
	if err != nil {
		b.Fatal(err)
	}
	var total time.Duration
	var each []time.Duration
	for b.Loop() {
		took, err := p.append(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		total += took
		each = append(each, took)
	}
	slices.Sort(each)
	b.ReportMetric(float64(len(each)*n)/total.Seconds(), "records/s")
	b.ReportMetric(float64(percentile(each, 50)), "p50-ns")
	b.ReportMetric(float64(percentile(each, 99)), "p99-ns")
}

// percentile returns the smallest of sorted that p percent are not above.
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[(len(sorted)*p+99)/100-1]
}

func benchFollowing(b *testing.B, j journal.Journal) {
	const perBatch = 64
	b.ReportAllocs()
	p, err := newPress(b.Context(), j, perBatch)
	for i := 0; i < benchFollow/perBatch && err == nil; i++ {
		_, err = p.append(b.Context())
	}
	if err != nil {
		b.Fatal(err)
	}
	rounds := 0
	for b.Loop() {
		for e, err := range j.Follow(b.Context(), 0) {
			if err != nil {
				b.Fatal(err)
			}
			if e.Pos >= p.pos {
				break
			}
		}
		rounds++
	}
	b.ReportMetric(float64(rounds*benchFollow)/b.Elapsed().Seconds(), "records/s")
}
