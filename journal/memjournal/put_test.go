package memjournal_test

import (
	"errors"
	"testing"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
)

func TestPutTakesWhatAppendRefuses(t *testing.T) {
	j := memjournal.New()
	defer j.Close()
	entries := journaltest.Write(t, j, 2)
	end, err := j.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := journal.Cursor{Pos: end.Pos, Seq: end.Seq, Time: end.Time, Epoch: 1, Owner: "writer"}
	for name, put := range map[string][]byte{
		"foreign bytes": []byte("hello"),
		"a void fence":  journal.AppendFence(nil, 1, "other"),
		"a dead batch":  journaltest.Batch(journal.Cursor{Epoch: 1, Owner: "other"}, journaltest.Records(1, 8)...),
	} {
		if pos := j.Put(put); pos <= entries[len(entries)-1].Pos {
			t.Errorf("%s: put at %d", name, pos)
		}
	}
	after, err := j.End(t.Context())
	if err != nil || after.Pos != end.Pos+3 || after.Seq != end.Seq || after.Epoch != end.Epoch || after.Time != end.Time {
		t.Errorf("end after three entries that are not live: %+v, %v, want position %d and else %+v", after, err, end.Pos+3, end)
	}
	j.Put(journal.AppendFence(nil, 2, "other"))
	if _, err := j.Append(t.Context(), 1, after.Pos+1, journaltest.Batch(c)); !errors.Is(err, journal.ErrFenced) {
		t.Errorf("append after a larger fence was put: got %v, want %v", err, journal.ErrFenced)
	}
}

func TestCallersMistakesWriteNothing(t *testing.T) {
	j := memjournal.New()
	defer j.Close()
	pos := journaltest.Write(t, j, 0)[0].Pos
	right := journal.Cursor{Epoch: 1, Owner: "writer"}
	damaged := journaltest.Batch(right)
	damaged[4]++
	for _, c := range []struct {
		name  string
		epoch journal.Epoch
		batch []byte
		want  error
	}{
		{"not a batch", 1, []byte("hello"), journal.ErrForeign},
		{"a fence", 1, journal.AppendFence(nil, 1, "writer"), journal.ErrForeign},
		{"a damaged batch", 1, damaged, journal.ErrChecksum},
		{"a batch of another epoch", 1, journaltest.Batch(journal.Cursor{Epoch: 2, Owner: "writer"}), journal.ErrMalformed},
		{"an epoch that was never opened", 2, journaltest.Batch(journal.Cursor{Epoch: 2, Owner: "writer"}), journal.ErrEpoch},
	} {
		if _, err := j.Append(t.Context(), c.epoch, pos, c.batch); !errors.Is(err, c.want) {
			t.Errorf("append %s: got %v, want %v", c.name, err, c.want)
		}
	}
	if end, err := j.End(t.Context()); err != nil || end.Pos != pos {
		t.Errorf("the end is %d (%v), want %d", end.Pos, err, pos)
	}
}
