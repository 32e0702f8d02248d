package cli

import (
	"fmt"
	"slices"

	"understudy.dev/journal"
)

// statedDigests checks what can be known of the outcome digests that batches state
// without the machine: which records they belong to, and that one record has one
// digest. Whether a digest is right only a machine can tell.
type statedDigests struct {
	count   uint64
	last    journal.Digest
	ends    []journal.Seq // the last record of each batch from last.Seq on, in order
	unknown journal.Seq   // up to it ends are not known: pruned, or too many to remember
}

// maxEnds bounds the batch ends that are remembered, so 16 MiB. A primary states
// digests that are some batches old; a harness states none.
const maxEnds = 1 << 20

// take takes in the next live batch. The error is one that a CorruptError holds.
func (s *statedDigests) take(b *journal.Batch) error {
	if d := b.Digest; d.Seq != 0 {
		at, known := slices.BinarySearch(s.ends, d.Seq)
		switch {
		case d.Seq < s.last.Seq:
			return fmt.Errorf("%w: states a digest of seq %d after one of seq %d", journal.ErrMalformed, d.Seq, s.last.Seq)
		case d.Seq == s.last.Seq && d.Hash != s.last.Hash:
			return fmt.Errorf("%w: states digest %s of seq %d, an earlier batch %s", journal.ErrMalformed, d.Hash.Short(), d.Seq, s.last.Hash.Short())
		case d.Seq >= b.First:
			return fmt.Errorf("%w: states a digest of seq %d, which is not before it", journal.ErrMalformed, d.Seq)
		case d.Seq > s.unknown && !known:
			return fmt.Errorf("%w: states a digest of seq %d, which is not the last of an earlier batch", journal.ErrMalformed, d.Seq)
		}
		s.count++
		s.last = d
		s.ends = s.ends[at:]
	}
	if b.Count == 0 {
		return nil
	}
	if len(s.ends) == maxEnds {
		forget := maxEnds / 2
		s.unknown = s.ends[forget-1]
		s.ends = slices.Clone(s.ends[forget:])
	}
	s.ends = append(s.ends, b.Last())
	return nil
}
