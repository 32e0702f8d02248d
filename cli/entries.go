package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"understudy.dev/harness"
	"understudy.dev/journal"
)

// useID makes --journal the journal of a persistence id beside it; "" leaves it.
func (e *Env) useID(id string) error {
	if id == "" {
		return nil
	}
	u, err := harness.JournalURL(e.Global.Journal, id)
	if err != nil {
		return usagef("--id %s: %v", id, err)
	}
	e.Global.Journal = u
	return nil
}

// notHarness makes an error about a machine's journal one of usage.
func (e *Env) notHarness(err error) error {
	if !errors.Is(err, harness.ErrForeign) {
		return err
	}
	return WithHint(usagef("%w", err), "this is for the journals of harnesses; of a machine's, %s verify and %s journal cat tell", e.App.Name, e.App.Name)
}

// entriesOf yields what a sink gets of a journal, whoever wrote it: the entries of
// a harness by their numbers, or the records of a machine by their seqs.
func (e *Env) entriesOf(ctx context.Context, j journal.Journal, end journal.End, part harness.Range) iter.Seq2[harness.Entry, error] {
	for _, err := range harness.Read(ctx, j, harness.Range{To: 1}) {
		if errors.Is(err, harness.ErrForeign) {
			return e.machineEntries(ctx, j, end, part)
		}
	}
	return harness.Read(ctx, j, part)
}

// machineEntries yields every live record of a machine's journal as an entry whose
// number is its seq and whose run is its tenure. It reads from the start, also of
// a part, so that all of it is verified and the start of each tenure is known.
func (e *Env) machineEntries(ctx context.Context, j journal.Journal, end journal.End, part harness.Range) iter.Seq2[harness.Entry, error] {
	return func(yield func(harness.Entry, error) bool) {
		var records []journal.Record
		var start journal.Time
		err := e.items(ctx, j, stretch{}, end, func(it *journal.Item) (bool, error) {
			if it.Verdict != journal.Live || it.Batch.Count == 0 {
				return true, nil
			}
			var err error
			if records, err = it.Batch.Records(records[:0]); err != nil {
				return false, &journal.CorruptError{Source: journal.Describe(j).Location, Pos: it.Pos, Seq: it.Batch.First - 1, Offset: -1, Err: err}
			}
			for i := range records {
				r := &records[i]
				if start == 0 || r.Kind == journal.KindEpochStart {
					start = r.Time
				}
				n := uint64(r.Seq)
				switch {
				case n < part.From:
					continue
				case part.To != 0 && n > part.To, !yield(entryOf(r, start), nil):
					return false, nil
				}
			}
			return true, nil
		})
		if err != nil {
			yield(harness.Entry{}, err)
		}
	}
}

func entryOf(r *journal.Record, start journal.Time) harness.Entry {
	return harness.Entry{
		Number: uint64(r.Seq), Seq: r.Seq, Time: r.Time, At: time.Duration(r.Time - start).Truncate(time.Microsecond),
		Run: r.Epoch, Kind: r.Kind, Name: r.Name, Data: bytes.Clone(r.Data), // a sink may keep it
	}
}

// rangeOf checks a part of the numbers.
func rangeOf(from, to uint64) (harness.Range, error) {
	if to != 0 && to < from {
		return harness.Range{}, usagef("from %d to %d is nothing", from, to)
	}
	return harness.Range{From: from, To: to}, nil
}

// parseKinds parses the words of --kind.
func parseKinds(words []string) ([]journal.Kind, error) {
	var kinds []journal.Kind
	for _, s := range words {
		k, err := journal.ParseKind(s)
		if err != nil {
			return nil, usagef("--kind: %v", err)
		}
		kinds = append(kinds, k)
	}
	return kinds, nil
}

// pathWord is how an actor's path is shown; the program itself is "-".
func pathWord(path string) string {
	if path == "" {
		return "-"
	}
	return fmt.Sprintf("%q", path)
}
