package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"understudy.dev/admin"
	"understudy.dev/journal"
	"understudy.dev/journal/journalurl"
)

// journalCopied is what copy and import print with --json.
type journalCopied struct {
	From    string `json:"from"`
	To      string `json:"to"`
	Entries uint64 `json:"entries"`
	Already uint64 `json:"already_there"`
	Seq     uint64 `json:"end_seq"`
	Chain   string `json:"chain"`
}

func (e *Env) journalCopyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "copy URL", Short: "Copy the journal to another backend, byte for byte, and prove it by the chain",
		Long: "Copies every entry of --journal to the journal at URL, which is made if it is missing, and proves the copy by the\n" +
			"chain. A copy that was interrupted goes on where it stopped. Nobody may lead the copy meanwhile.",
		Example: "  " + e.App.Name + " journal copy file:copy-data --journal file:understudy-data",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.copyJournal(cmd.Context(), e.Global.Journal, args[0])
		},
	}
}

func (e *Env) journalImportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "import FILE", Short: "Copy an exported archive into the journal, and prove it by the chain",
		Example: "  " + e.App.Name + " journal import orders.udj --journal file:copy-data",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.copyJournal(cmd.Context(), "file:"+args[0], e.Global.Journal)
		},
	}
}

// copyJournal copies the journal at one URL to another.
func (e *Env) copyJournal(ctx context.Context, from, to string) error {
	src, err := journalurl.Open(ctx, from, readOnly)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := journalurl.Open(ctx, to, journalurl.Options{Create: true})
	if err != nil {
		return err
	}
	defer dst.Close()
	end, err := journal.SampleEnd(ctx, src)
	if err != nil {
		return fmt.Errorf("find the end of %s: %w", journal.Describe(src).Location, err)
	}
	bar := e.newProgress("copy", uint64(end.Seq))
	c, err := journal.Copy(ctx, dst, src, func(c journal.Cursor) { bar.at(uint64(c.Seq)) })
	bar.end()
	if err != nil {
		return WithHint(err, "what was copied is kept: the same command goes on from seq %d", c.Source.Seq)
	}
	out := journalCopied{
		From: journal.Describe(src).Location, To: journal.Describe(dst).Location, Entries: c.Entries, Already: c.Already,
		Seq: uint64(c.Dest.Seq), Chain: c.Dest.Chain.String(),
	}
	if e.Global.JSON {
		return json.NewEncoder(e.Stdout).Encode(out)
	}
	fmt.Fprintf(e.Stdout, "copied    %d entries, %d were there already   %s -> %s\n", out.Entries, out.Already, out.From, out.To)
	fmt.Fprintf(e.Stdout, "proved    records 1..%s, chain %s in both\n", grouped(out.Seq), c.Dest.Chain.Short())
	return nil
}

// journalPruned is what prune prints with --json.
type journalPruned struct {
	Journal string `json:"journal"`
	Pruned  bool   `json:"pruned"`
	Through uint64 `json:"through_position"`
	Before  uint64 `json:"before_seq"`
	Trimmed uint64 `json:"trimmed_through"` // what is gone, by now
}

func (e *Env) journalPruneCommand() *cobra.Command {
	var before string
	var yes bool
	c := &cobra.Command{
		Use: "prune", Short: "Drop the oldest entries, for good",
		Long: "Drops the entries whose records all lie before --before, as far as the backend can: a file journal drops whole\n" +
			"segments. The newest fence is kept. Without --yes it only says what it would drop, and exits with 1.\n\n" +
			"A node that has not applied what is dropped, one that starts anew among them, cannot read the journal from its start any\n" +
			"more and halts: export the journal first, and prune only what no node will need.",
		Example: "  " + e.App.Name + " journal prune --journal file:understudy-data --before -1000",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.withJournal(cmd.Context(), journalurl.Options{ReadOnly: !yes}, func(j journal.Journal, end journal.End) error {
				return e.prune(cmd, j, end, before, yes)
			})
		},
	}
	c.Flags().StringVar(&before, "before", "", "`PLACE` from which everything is kept")
	c.Flags().BoolVar(&yes, "yes", false, "really drop")
	c.MarkFlagRequired("before") //nolint:errcheck // the flag is there
	return c
}

func (e *Env) prune(cmd *cobra.Command, j journal.Journal, end journal.End, before string, yes bool) error {
	ctx := cmd.Context()
	at, err := e.parsePlace(before, end)
	if err != nil {
		return fmt.Errorf("--before: %w", err)
	}
	out := journalPruned{Journal: journal.Describe(j).Location, Pruned: yes}
	err = e.items(ctx, j, stretch{}, end, func(it *journal.Item) (bool, error) {
		if it.Verdict == journal.Live && !at.before(it.Cursor.Seq, it.Cursor.Time) {
			return false, nil
		}
		out.Through, out.Before = uint64(it.Pos), uint64(it.Cursor.Seq)+1
		return true, nil
	})
	if err != nil {
		return err
	}
	if yes && out.Through > 0 {
		if err := journal.Trim(ctx, j, journal.Position(out.Through)); err != nil {
			return err
		}
		if end, err = journal.SampleEnd(ctx, j); err != nil {
			return fmt.Errorf("find what is left: %w", err)
		}
	}
	out.Trimmed = uint64(end.First)
	switch {
	case e.Global.JSON:
		if err := json.NewEncoder(e.Stdout).Encode(out); err != nil {
			return err
		}
	case !yes && out.Before <= 1:
		fmt.Fprintf(e.Stdout, "would drop nothing of %s: no record lies before %s\n", out.Journal, before)
	case !yes:
		fmt.Fprintf(e.Stdout, "would drop records before seq %d, through position %d of %s, as far as the backend can\n", out.Before, out.Through, out.Journal)
	case out.Trimmed == 0:
		fmt.Fprintf(e.Stdout, "dropped nothing: %s cannot drop so little\n", out.Journal)
	default:
		fmt.Fprintf(e.Stdout, "dropped everything through position %d of %s; asked for was position %d\n", out.Trimmed, out.Journal, out.Through)
	}
	switch {
	case !yes && out.Before <= 1:
		return WithCode(admin.ExitNotDone, errors.New("nothing changed"))
	case !yes:
		return WithHint(WithCode(admin.ExitNotDone, errors.New("nothing changed")), "%s --yes drops them", again(cmd))
	}
	return nil
}
