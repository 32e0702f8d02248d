package cli

import (
	"path/filepath"
	"testing"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
)

// Dead batches and void fences, which no reader applies, are counted and told: by verify
// and by ls.
func TestVerifyCountsWhatIsPassedOver(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	j := small(t, dir)
	p := write(t, j, 2)
	fenced := p.Cursor()
	imp := j.(journal.Importer)
	entry := func(data []byte) {
		t.Helper()
		pos, err := imp.Import(t.Context(), p.Cursor().Pos, data)
		if err == nil {
			err = p.Take(journal.Entry{Pos: pos, Data: data})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	entry(journal.AppendFence(nil, 2, "b"))
	for range 3 { // of a primary that had appends in flight when it was fenced
		entry(journaltest.Batch(fenced, journaltest.Records(2, 8)...))
		c := p.Cursor()
		fenced.Pos = c.Pos
	}
	for range 2 { // the fences of who came second
		entry(journal.AppendFence(nil, 2, "c"))
	}
	entry(journaltest.Batch(p.Cursor(), journaltest.Records(1, 8)...))
	j.Close()
	r := run(t.Context(), fileURL(dir), "journal", "verify")
	r.want(t, 0, "records 1..3   10 entries, 2 epochs", "warning   3 dead batches and 2 void fences")
	var v journalVerified
	run(t.Context(), fileURL(dir), "journal", "verify", "--json").decode(t, &v)
	if v.Dead != 3 || v.Void != 2 || v.Fences != 2 || v.Records != 3 || v.Entries != 10 {
		t.Errorf("it counts %+v", v)
	}
	run(t.Context(), fileURL(dir), "journal", "ls").want(t, 0, "dead   3..4", "void   epoch 2 by c")
}
