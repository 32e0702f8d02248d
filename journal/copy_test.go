package journal_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
)

// history returns a journal with two tenures, a dead batch and a void fence.
func history(t *testing.T) *memjournal.Journal {
	t.Helper()
	j := memjournal.New()
	a := journaltest.NewPen("a/1")
	if err := errors.Join(a.Fence(t.Context(), j, 1), a.Append(t.Context(), j, journaltest.Records(3, 10)...)); err != nil {
		t.Fatal(err)
	}
	dead := journaltest.Batch(a.Cursor(), journaltest.Records(2, 10)...)
	b := journaltest.NewPen("b/2")
	for _, e := range a.Entries() {
		if err := b.Take(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Fence(t.Context(), j, 2); err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{dead, journal.AppendFence(nil, 1, "c/3")} {
		if err := b.Take(journal.Entry{Pos: j.Put(data), Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Append(t.Context(), j, journaltest.Records(4, 10)...); err != nil {
		t.Fatal(err)
	}
	return j
}

// A copy has the same bytes, dead batches and void fences included, and goes on
// where it was interrupted.
func TestCopy(t *testing.T) {
	src, dst := history(t), memjournal.New()
	flaky := journaltest.NewFaulty(t, src, 0)
	flaky.Plan(journaltest.OpFollow, 1, journaltest.Fault{Kind: journaltest.Break, Err: journal.ErrClosed, After: 3})
	first, err := journal.Copy(t.Context(), dst, flaky, nil)
	if !errors.Is(err, journal.ErrClosed) || first.Entries != 3 {
		t.Fatalf("interrupted copy = %+v, %v; want 3 entries and ErrClosed", first, err)
	}
	got, err := journal.Copy(t.Context(), dst, src, nil)
	if err != nil || got.Already != 3 || got.Entries != 3 || got.Dest.Chain != got.Source.Chain {
		t.Fatalf("Copy = %+v, %v; want 3 already there and 3 copied", got, err)
	}
	again, err := journal.Copy(t.Context(), dst, src, nil)
	if err != nil || again.Entries != 0 || again.Already != 6 {
		t.Errorf("copy of a copy = %+v, %v; want nothing to do", again, err)
	}
}

// A destination with another history is left alone.
func TestCopyRefusesAnotherHistory(t *testing.T) {
	src, dst := history(t), memjournal.New()
	p := journaltest.NewPen("x/9")
	if err := p.Fence(t.Context(), dst, 1); err != nil {
		t.Fatal(err)
	}
	if got, err := journal.Copy(t.Context(), dst, src, nil); !errors.Is(err, journal.ErrDiffer) || got.Entries != 0 {
		t.Errorf("Copy = %+v, %v; want ErrDiffer and nothing written", got, err)
	}
}

// altering is a destination that stores another entry in place of one.
type altering struct {
	*memjournal.Journal
	from, to []byte
}

func (a *altering) Import(ctx context.Context, prev journal.Position, entry []byte) (journal.Position, error) {
	if bytes.Equal(entry, a.from) {
		entry = a.to
	}
	return a.Journal.Import(ctx, prev, entry)
}

// A copy that reads back with every check, to the same Seq, and is not the same, is
// not called one: the chain tells.
func TestCopyIsProvedByTheChain(t *testing.T) {
	src := memjournal.New()
	p := journaltest.NewPen("a/1")
	if err := errors.Join(p.Fence(t.Context(), src, 1), p.Append(t.Context(), src, journaltest.Records(3, 10)...)); err != nil {
		t.Fatal(err)
	}
	other := journaltest.Batch(p.Cursor(), journaltest.Records(2, 11)...)
	if err := p.Append(t.Context(), src, journaltest.Records(2, 10)...); err != nil {
		t.Fatal(err)
	}
	last := p.Entries()[len(p.Entries())-1].Data
	dst := &altering{memjournal.New(), last, other}
	got, err := journal.Copy(t.Context(), dst, src, nil)
	if !errors.Is(err, journal.ErrDiffer) || got.Dest.Seq != got.Source.Seq || got.Entries != 3 {
		t.Errorf("Copy = %+v, %v; want 3 entries to the same seq and ErrDiffer", got, err)
	}
}
