package memjournal

import (
	"bytes"
	"fmt"
	"slices"
	"sync"

	"understudy.dev/journal"
)

// A store holds the entries that handles share.
type store struct {
	mu      sync.Mutex
	entries [][]byte // private copies, never changed; entries[i] is at trimmed+1+i
	fences  []opened // those that opened an epoch; positions and epochs increase
	changed chan struct{}
	dec     journal.Decoder
	sampled journal.End // without When; First is the last position that was trimmed
}

// opened is a fence and where it lies.
type opened struct {
	journal.Fence
	pos journal.Position
}

// A view is what the store holds after a position.
type view struct {
	entries [][]byte
	first   journal.Position // of entries[0]
	end     journal.Position
	changed <-chan struct{} // closed when there is more; nil if entries is not empty
}

func (s *store) append(epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
	if len(batch) > MaxBatch {
		return 0, fmt.Errorf("batch of %d bytes, at most %d: %w", len(batch), MaxBatch, journal.ErrTooLarge)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var b journal.Batch
	if err := s.dec.Batch(batch, &b); err != nil {
		return 0, err
	}
	if b.Epoch != epoch {
		return 0, fmt.Errorf("batch is stamped with epoch %d: %w", b.Epoch, journal.ErrMalformed)
	}
	open := s.openAt(prev)
	switch {
	case open.Epoch > epoch, open.Epoch == epoch && open.Owner != b.Owner:
		return 0, fmt.Errorf("epoch %d was opened by %q at %d: %w", open.Epoch, open.Owner, open.pos, journal.ErrFenced)
	case prev != s.sampled.Pos:
		return 0, fmt.Errorf("the end is %d: %w", s.sampled.Pos, journal.ErrConflict)
	case open.Epoch < epoch:
		return 0, journal.ErrEpoch
	}
	pos := s.addLocked(batch)
	s.sampleLocked(&b)
	return pos, nil
}

func (s *store) fence(epoch journal.Epoch, owner string) (journal.Position, error) {
	if err := journal.CheckFence(epoch, owner); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	open := s.openAt(s.sampled.Pos)
	switch {
	case open.Epoch == epoch && open.Owner == owner:
		return open.pos, nil
	case open.Epoch >= epoch:
		return 0, fmt.Errorf("epoch %d was opened by %q at %d: %w", open.Epoch, open.Owner, open.pos, journal.ErrFenced)
	}
	pos := s.addLocked(journal.AppendFence(nil, epoch, owner))
	s.openLocked(journal.Fence{Epoch: epoch, Owner: owner}, pos)
	return pos, nil
}

func (s *store) put(data []byte) journal.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.putLocked(data)
}

func (s *store) putLocked(data []byte) journal.Position {
	pos := s.addLocked(data)
	open := s.openAt(pos)
	var b journal.Batch
	if f, err := journal.DecodeFence(data); err == nil && f.Epoch > open.Epoch {
		s.openLocked(f, pos)
	} else if s.dec.Batch(data, &b) == nil && b.Epoch == open.Epoch && b.Owner == open.Owner {
		s.sampleLocked(&b)
	}
	return pos
}

// openAt returns the largest fence at or before pos, or the zero one.
func (s *store) openAt(pos journal.Position) opened {
	for _, f := range slices.Backward(s.fences) {
		if f.pos <= pos {
			return f
		}
	}
	return opened{}
}

// addLocked stores a copy of data at the end and wakes the followers.
func (s *store) addLocked(data []byte) journal.Position {
	s.entries = append(s.entries, bytes.Clone(data))
	s.sampled.Pos++
	s.sampled.Bytes += int64(len(data))
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
	return s.sampled.Pos
}

// openLocked keeps in mind that the fence at pos opened an epoch.
func (s *store) openLocked(f journal.Fence, pos journal.Position) {
	s.fences = append(s.fences, opened{Fence: f, pos: pos})
	s.sampled.Epoch = f.Epoch
}

// sampleLocked moves the sample over a live batch.
func (s *store) sampleLocked(b *journal.Batch) {
	s.sampled.Seq = b.Last()
	if b.Count > 0 {
		s.sampled.Time = b.End
	}
}

// after returns what lies after pos, or fails with ErrTrimmed.
func (s *store) after(pos journal.Position) (view, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	trimmed := s.sampled.First
	if pos < trimmed {
		return view{}, fmt.Errorf("entries through %d are gone: %w", trimmed, journal.ErrTrimmed)
	}
	if pos < s.sampled.Pos {
		return view{entries: s.entries[pos-trimmed:], first: pos + 1, end: s.sampled.Pos}, nil
	}
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return view{end: s.sampled.Pos, changed: s.changed}, nil
}

func (s *store) sample() journal.End {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sampled
}

// trim forgets entries but not fences: those are all that Append and Fence need.
func (s *store) trim(through journal.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	through = min(through, s.sampled.Pos)
	if through <= s.sampled.First {
		return
	}
	s.entries = slices.Clone(s.entries[through-s.sampled.First:])
	s.sampled.First = through
}
