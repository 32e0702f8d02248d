package journaltest

import (
	"bytes"
	"context"
	"fmt"

	"understudy.dev/journal"
)

var importScenarios = []scenario{
	{
		name:   "import of what others refuse",
		clause: "An Importer can store an entry of another journal as it is: dead batches and void fences too, which Append and Fence refuse.",
		check:  importDead,
	},
	{
		name:   "import of what is no entry",
		clause: "What is no entry gives an error matching ErrNoEntry, and nothing was written.",
		check:  importNoEntry,
	},
}

func importer(j journal.Journal) (journal.Importer, error) {
	imp, ok := j.(journal.Importer)
	if !ok {
		return nil, fmt.Errorf("the journal cannot import: %w", errSkip)
	}
	return imp, nil
}

func importDead(ctx context.Context, s *scene) error {
	imp, err := importer(s.j)
	if err != nil {
		return err
	}
	p := NewPen("a")
	if err := p.fill(ctx, s.j, 2); err != nil {
		return err
	}
	dead := Batch(as(p.Cursor(), 1, "a"), Records(1, 8)...)
	if err := p.Fence(ctx, s.j, 5); err != nil {
		return err
	}
	for _, data := range [][]byte{dead, journal.AppendFence(nil, 2, "late")} {
		pos, err := imp.Import(ctx, p.Cursor().Pos, data)
		if err != nil {
			return fmt.Errorf("import of %s: %w", describe(journal.Entry{Data: data}), err)
		}
		if err := p.Take(journal.Entry{Pos: pos, Data: data}); err != nil {
			return err
		}
	}
	return wantEntries(ctx, s.j, 0, p.Entries())
}

// importNoEntry imports into an empty journal and after entries, and then checks
// that the journal can be read, opened and written as before.
func importNoEntry(ctx context.Context, s *scene) error {
	imp, err := importer(s.j)
	if err != nil {
		return err
	}
	p := NewPen("a")
	for _, fill := range []bool{false, true} {
		if fill {
			if err := p.fill(ctx, s.j, 3); err != nil {
				return err
			}
		}
		for what, data := range noEntries() {
			_, err := imp.Import(ctx, p.Cursor().Pos, data)
			if err := wantError("import of "+what, err, journal.ErrNoEntry); err != nil {
				return err
			}
		}
		if err := wantEntries(ctx, s.j, 0, p.Entries()); err != nil {
			return err
		}
	}
	if s.cfg.Reopen != nil {
		if err := wantEntries(ctx, s.cfg.Reopen(s.tb, s.j), 0, p.Entries()); err != nil {
			return err
		}
	}
	return p.Append(ctx, s.j, Records(1, 8)...)
}

func noEntries() map[string][]byte {
	batch := Batch(journal.Cursor{Epoch: 1, Owner: "a"}, Records(1, 8)...)
	fence := journal.AppendFence(nil, 7, "a")
	flipped := bytes.Clone(batch)
	flipped[len(flipped)-1] ^= 1
	return map[string][]byte{
		"nil":                              nil,
		"garbage":                          []byte("garbage"),
		"a batch cut short":                batch[:len(batch)-1],
		"a batch with a flipped bit":       flipped,
		"a batch with a byte behind it":    append(bytes.Clone(batch), 0),
		"a fence cut short":                fence[:20],
		"the beginning of a batch's magic": batch[:4],
	}
}
