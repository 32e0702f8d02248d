package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"understudy.dev/journal"
)

// journalInfo is what journal info prints with --json.
type journalInfo struct {
	Journal  string   `json:"journal"`
	Backend  string   `json:"backend"`
	Survives string   `json:"survives"`
	Fence    bool     `json:"fence"`
	ReadOnly bool     `json:"read_only"`
	Notes    []string `json:"notes"`
	Position uint64   `json:"end_position"`
	Seq      uint64   `json:"end_seq"`
	Epoch    uint64   `json:"epoch"`
	Time     *string  `json:"end_time"`
	Bytes    *int64   `json:"bytes"`
	Trimmed  uint64   `json:"trimmed_through"`
	First    uint64   `json:"first_seq"` // the oldest record left
}

func (e *Env) journalInfoCommand() *cobra.Command {
	return &cobra.Command{
		Use: "info", Short: "Show what a journal is, where it ends and what an acknowledgement survives",
		Example: "  " + e.App.Name + " journal info --journal file:understudy-data --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.withJournal(cmd.Context(), readOnly, func(j journal.Journal, end journal.End) error { return e.printInfo(cmd.Context(), j, end) })
		},
	}
}

func (e *Env) printInfo(ctx context.Context, j journal.Journal, end journal.End) error {
	oldest, err := oldestSeq(ctx, j, end)
	if err != nil {
		return err
	}
	caps := journal.Describe(j)
	in := journalInfo{
		Journal: caps.Location, Backend: caps.Backend, Survives: caps.Survives.String(), Fence: caps.Fence, ReadOnly: caps.ReadOnly,
		Notes: append(append([]string{}, caps.Notes...), cutNotes(caps)...), Position: uint64(end.Pos), Seq: uint64(end.Seq), Epoch: uint64(end.Epoch), Trimmed: uint64(end.First), First: uint64(oldest),
	}
	if end.Time != 0 {
		s := end.Time.String()
		in.Time = &s
	}
	if end.Bytes >= 0 {
		in.Bytes = &end.Bytes
	}
	if e.Global.JSON {
		return json.NewEncoder(e.Stdout).Encode(in)
	}
	fmt.Fprintf(e.Stdout, "journal   %s   %s\n", in.Journal, in.Backend)
	fmt.Fprintf(e.Stdout, "end       seq %s at position %d, epoch %d, %s\n", grouped(in.Seq), in.Position, in.Epoch, stamp(end.Time))
	if in.Bytes != nil {
		fmt.Fprintf(e.Stdout, "size      %s bytes\n", grouped(uint64(*in.Bytes)))
	}
	if end.First != 0 {
		fmt.Fprintf(e.Stdout, "trimmed   through position %d: the oldest record left is %s\n", end.First, grouped(in.First))
	}
	fmt.Fprintf(e.Stdout, "an acknowledged record survives the loss of: %s\n", in.Survives)
	for _, n := range in.Notes {
		fmt.Fprintf(e.Stdout, "note      %s\n", n)
	}
	return nil
}
