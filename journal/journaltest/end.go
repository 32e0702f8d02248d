package journaltest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"understudy.dev/journal"
)

var endScenarios = []scenario{
	{
		name:   "end of an empty journal",
		clause: "An empty journal has the zero End but for When.",
		check: func(ctx context.Context, s *scene) error {
			end, err := sampleEnd(ctx, s.j)
			if err != nil {
				return err
			}
			if end.When.IsZero() {
				return errors.New("When is zero")
			}
			if end.Bytes == -1 {
				end.Bytes = 0
			}
			if end.When = (time.Time{}); end != (journal.End{}) {
				return fmt.Errorf("end is %+v, want the zero one", end)
			}
			return nil
		},
	},
	{
		name:   "end is sampled",
		clause: "An End is a sample of where a journal ended",
		check:  endSampled,
	},
	{
		name:   "capabilities",
		clause: "Capabilities is a backend's own declaration.",
		check: func(_ context.Context, s *scene) error {
			c := journal.Describe(s.j)
			switch {
			case c.Backend == "":
				return errors.New("no name of the backend")
			case c.ReadOnly:
				return errors.New("the journal is read-only; this suite writes")
			case !c.Fence:
				return errors.New("no fence, yet it passes for one that shuts writers out")
			case c.MaxBatch < 0:
				return fmt.Errorf("MaxBatch is %d", c.MaxBatch)
			}
			return nil
		},
	},
}

// sampleEnd samples j's end, or fails with errSkip if j cannot tell.
func sampleEnd(ctx context.Context, j journal.Journal) (journal.End, error) {
	end, err := journal.SampleEnd(ctx, j)
	if errors.Is(err, journal.ErrUnsupported) {
		return end, fmt.Errorf("the end cannot be sampled: %w", errSkip)
	}
	if err != nil {
		return end, fmt.Errorf("sample end: %w", err)
	}
	return end, nil
}

// endSampled compares samples with what was written, on all handles. A sample
// may be old, so it asks until the answer is right or its time is up.
func endSampled(ctx context.Context, s *scene) error {
	p := NewPen("a")
	if _, err := sampleEnd(ctx, s.j); err != nil {
		return err
	}
	handles := s.handles(2)
	bytes := int64(0)
	for i := range 6 {
		if i%3 == 0 {
			if err := p.Fence(ctx, s.j, journal.Epoch(i+1)); err != nil {
				return err
			}
		} else if err := p.Append(ctx, s.j, Records((i%3-1)*2, 8)...); err != nil { // a barrier, then two records
			return err
		}
		for k, j := range handles {
			end, err := endAt(ctx, j, p.Cursor())
			if err != nil {
				return fmt.Errorf("handle %d after %s: %w", k+1, describe(p.Entries()[i]), err)
			}
			if end.Bytes != -1 && end.Bytes < bytes {
				return fmt.Errorf("handle %d: %d bytes, they were %d before", k+1, end.Bytes, bytes)
			}
			bytes = end.Bytes
		}
	}
	return nil
}

// endAt samples until the sample agrees with c.
func endAt(ctx context.Context, j journal.Journal, c journal.Cursor) (journal.End, error) {
	for {
		end, err := sampleEnd(ctx, j)
		if err != nil {
			return end, err
		}
		if end.Pos == c.Pos && end.Seq == c.Seq && end.Epoch == c.Epoch && end.Time == c.Time && end.First == 0 && !end.When.IsZero() {
			return end, nil
		}
		select {
		case <-ctx.Done():
			return end, fmt.Errorf("end is %+v, want position %d, seq %d, epoch %d, time %d, nothing trimmed", end, c.Pos, c.Seq, c.Epoch, c.Time)
		case <-time.After(time.Millisecond):
		}
	}
}
