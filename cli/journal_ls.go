package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"understudy.dev/journal"
)

// journalEntry is a line of journal ls with --json.
type journalEntry struct {
	Position uint64  `json:"position"`
	What     string  `json:"what"` // live, dead, opened, void
	Epoch    uint64  `json:"epoch"`
	Owner    string  `json:"owner"`
	First    *uint64 `json:"first_seq"` // of a batch with records
	Last     *uint64 `json:"last_seq"`
	Records  int     `json:"records"`
	Bytes    int     `json:"bytes"`
	Time     *string `json:"time"` // of the first record
}

func (e *Env) journalLsCommand() *cobra.Command {
	var f spanFlags
	c := &cobra.Command{
		Use: "ls", Short: "List entries: batches and fences",
		Example: "  " + e.App.Name + " journal ls --journal file:understudy-data --from -100",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.withJournal(cmd.Context(), readOnly, func(j journal.Journal, end journal.End) error {
				return e.journalLs(cmd.Context(), j, end, f)
			})
		},
	}
	e.addSpanFlags(c, &f)
	return c
}

func (e *Env) addSpanFlags(c *cobra.Command, f *spanFlags) {
	c.Flags().StringVar(&f.from, "from", "", "first `PLACE`: a seq, -N from the end, a time, -15m")
	c.Flags().StringVar(&f.to, "to", "", "last `PLACE`")
	c.Flags().Uint64Var(&f.count, "count", 0, "at most so many; 0 means all")
	c.Flags().BoolVarP(&f.follow, "follow", "f", false, "wait for more")
}

func (e *Env) journalLs(ctx context.Context, j journal.Journal, end journal.End, f spanFlags) error {
	sp, err := e.stretchIn(j, f, end)
	if err != nil {
		return err
	}
	if err := e.warnPruned(ctx, j, sp, end); err != nil {
		return err
	}
	l := lister{Env: e, stretch: sp}
	if err := e.items(ctx, j, sp, end, l.take); err != nil {
		return err
	}
	_, err = l.printHeld()
	return err
}

// A lister prints the entries of a stretch.
type lister struct {
	*Env
	stretch
	printed uint64

	// Fences have no time of their own. Of a stretch that ends at a time, those
	// before its first batch belong to it only if that batch does.
	held  []journalEntry
	batch bool // there was one
}

func (l *lister) take(it *journal.Item) (bool, error) {
	b := &it.Batch
	if it.Verdict != journal.Live {
		switch {
		case l.from.before(it.Cursor.Seq, it.Cursor.Time):
			return true, nil
		case l.to.time != 0 && !l.batch:
			l.held = append(l.held, entryOf(it))
			return true, nil
		}
		return l.print(entryOf(it))
	}
	if b.Count > 0 && l.from.before(b.Last(), b.End) || b.Count == 0 && l.from.before(b.First, it.Cursor.Time) {
		return true, nil
	}
	if l.batch = true; l.to.after(b.First, b.Time) {
		l.held = nil
		return false, nil
	}
	if more, err := l.printHeld(); err != nil || !more {
		return false, err
	}
	return l.print(entryOf(it))
}

// printHeld prints what was held back.
func (l *lister) printHeld() (more bool, err error) {
	held := l.held
	l.held = nil
	for _, out := range held {
		if more, err := l.print(out); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// print prints an entry, and reports whether more may follow.
func (l *lister) print(out journalEntry) (more bool, err error) {
	l.printed++
	return l.count == 0 || l.printed < l.count, l.printEntry(out)
}

func entryOf(it *journal.Item) journalEntry {
	out := journalEntry{
		Position: uint64(it.Pos), What: it.Verdict.String(), Epoch: uint64(it.Fence.Epoch), Owner: it.Fence.Owner, Bytes: len(it.Bytes()),
	}
	if b := &it.Batch; it.Verdict == journal.Live || it.Verdict == journal.Dead {
		out.Epoch, out.Owner, out.Records = uint64(b.Epoch), b.Owner, b.Count
		if b.Count > 0 {
			first, last, at := uint64(b.First), uint64(b.Last()), b.Time.String()
			out.First, out.Last, out.Time = &first, &last, &at
		}
	}
	return out
}

func (e *Env) printEntry(out journalEntry) error {
	if e.Global.JSON {
		return json.NewEncoder(e.Stdout).Encode(out)
	}
	what := fmt.Sprintf("%-6s epoch %d by %s", out.What, out.Epoch, plainOrQuoted(out.Owner))
	switch {
	case out.First != nil:
		what = fmt.Sprintf("%-6s %d..%d   %s", out.What, *out.First, *out.Last, *out.Time)
	case out.What == journal.Live.String():
		what = "barrier"
	}
	_, err := fmt.Fprintf(e.Stdout, "%12d  %8d bytes  %s\n", out.Position, out.Bytes, what)
	return err
}
