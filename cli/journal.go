package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"understudy.dev/journal"
	"understudy.dev/journal/journalurl"
)

func (e *Env) journalCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "journal", GroupID: groupJournal,
		Short:   "Run, read, check and copy journals",
		Example: "  " + e.App.Name + " journal info --journal file:understudy-data",
		RunE:    onlyGroups,
	}
	c.AddCommand(
		e.journalServeCommand(), e.journalInfoCommand(), e.journalLsCommand(), e.journalCatCommand(), e.journalGetCommand(),
		e.journalVerifyCommand(), e.journalCopyCommand(), e.journalExportCommand(), e.journalImportCommand(), e.journalPruneCommand(),
	)
	return c
}

// withJournal opens the journal of the flags, read-only where the backend can,
// and samples its end.
func (e *Env) withJournal(ctx context.Context, o journalurl.Options, f func(j journal.Journal, end journal.End) error) error {
	j, err := e.openJournal(ctx, 4*e.Global.Timeout, o)
	if err != nil {
		return err
	}
	defer j.Close()
	sctx, cancel := context.WithTimeout(ctx, e.Global.Timeout)
	defer cancel()
	end, err := journal.SampleEnd(sctx, j)
	if err != nil {
		return fmt.Errorf("find the end of %s: %w", journal.Describe(j).Location, err)
	}
	return f(j, end)
}

// readOnly is how commands that only look open a journal.
var readOnly = journalurl.Options{ReadOnly: true}

func stamp(t journal.Time) string {
	if t == 0 {
		return "-"
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// onlyGroups is the RunE of a command that does nothing but hold others.
func onlyGroups(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	return usagef("unknown command %q", args[0])
}
