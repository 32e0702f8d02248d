package cli

import "github.com/spf13/cobra"

func (e *Env) journalCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "journal", GroupID: groupJournal,
		Short:   "Run, read, check and copy journals",
		Example: "  " + e.App.Name + " journal serve --dir understudy-data",
	}
	c.AddCommand(e.journalServeCommand())
	return c
}
