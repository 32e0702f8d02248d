package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
)

// journalExported is what export prints with --json.
type journalExported struct {
	From  string `json:"from"`
	File  string `json:"file"`
	First uint64 `json:"from_seq"` // the oldest record left
	Seq   uint64 `json:"end_seq"`
	Epoch uint64 `json:"epoch"`
	Chain string `json:"chain"`
}

func (e *Env) journalExportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "export FILE", Short: "Write the journal to one compressed file that --journal reads everywhere",
		Long: "Writes one compressed file, whose name ends in .udj, checking every entry on the way. --journal file:FILE reads it,\n" +
			"read-only: the thing to attach to a bug report. Of a pruned journal it holds what is left.",
		Example: "  " + e.App.Name + " journal export orders.udj --journal file:understudy-data",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !isArchive(args[0]) {
				return WithHint(usagef("%s is no name of an archive, which ends in %s: by that --journal knows it", args[0], archiveSuffix),
					"%s journal export %s%s", e.App.Name, shellWord(args[0]), archiveSuffix)
			}
			return e.withJournal(cmd.Context(), readOnly, func(j journal.Journal, end journal.End) error {
				return e.export(cmd.Context(), j, end, args[0])
			})
		},
	}
}

// archiveSuffix is how the name of an exported archive ends.
const archiveSuffix = ".udj"

func isArchive(path string) bool { return strings.HasSuffix(path, archiveSuffix) }

func (e *Env) export(ctx context.Context, j journal.Journal, end journal.End, path string) error {
	oldest, err := oldestSeq(ctx, j, end)
	if err != nil {
		return err
	}
	e.warnRecovered(j)
	bar := e.newProgress("export", uint64(end.Seq))
	c, err := filejournal.ExportFile(ctx, path, j, filejournal.ExportConfig{Progress: func(c journal.Cursor) { bar.at(uint64(c.Seq)) }})
	bar.end()
	if err != nil {
		return err
	}
	e.did = true
	out := journalExported{
		From: journal.Describe(j).Location, File: path, First: uint64(oldest), Seq: uint64(c.Seq), Epoch: uint64(c.Epoch), Chain: c.Chain.String(),
	}
	if e.Global.JSON {
		return json.NewEncoder(e.Stdout).Encode(out)
	}
	fmt.Fprintf(e.Stdout, "exported  %s, epoch %d, chain %s   %s -> %s\n", recordsOf(out.First, out.Seq), out.Epoch, c.Chain.Short(), out.From, path)
	return nil
}
