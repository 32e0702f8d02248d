package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

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
			"chain. A copy that was interrupted keeps what it has, exits with 3, and goes on where it stopped. Nobody may lead the copy meanwhile. A pruned journal cannot\n" +
			"be copied: export it.",
		Example: "  " + e.App.Name + " journal copy file:copy-data --journal file:understudy-data",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if file, ok := strings.CutPrefix(args[0], "file:"); ok && isArchive(file) {
				return WithHint(usagef("%s is an archive: it is written once, and nothing is copied into it", args[0]),
					"%s journal export %s", e.App.Name, shellWord(strings.TrimPrefix(file, "//"))+flagWords(cmd.Flags(), func(name string) bool { return name == "journal" }))
			}
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
			if !isArchive(args[0]) {
				return WithHint(usagef("%s is no name of an archive, which ends in %s", args[0], archiveSuffix),
					"if it is one, rename it to %s%s; a folder is copied with \"%s journal copy URL --journal file:FOLDER\"", args[0], archiveSuffix, e.App.Name)
			}
			return e.copyJournal(cmd.Context(), "file:"+(&url.URL{Path: args[0]}).EscapedPath(), e.Global.Journal)
		},
	}
}

// copyJournal copies the journal at one URL to another.
func (e *Env) copyJournal(ctx context.Context, from, to string) error {
	src, err := openWithin(ctx, 4*e.Global.Timeout, from, readOnly)
	if err != nil {
		return err
	}
	defer src.Close()
	e.warnRecovered(src)
	end, err := journal.SampleEnd(ctx, src)
	if err != nil {
		return fmt.Errorf("find the end of %s: %w", journal.Describe(src).Location, err)
	}
	if end.First > 0 {
		return e.notWhole(ctx, from, src, end)
	}
	dst, err := openWithin(ctx, 4*e.Global.Timeout, to, journalurl.Options{Create: true})
	if err != nil {
		return err
	}
	defer dst.Close()
	e.warnRecovered(dst)
	had, err := journal.SampleEnd(ctx, dst)
	if err != nil {
		return fmt.Errorf("find the end of %s: %w", journal.Describe(dst).Location, err)
	}
	if had.First > 0 {
		return WithHint(WithCode(admin.ExitNotDone, fmt.Errorf("%s was pruned, so it cannot be compared with the source", journal.Describe(dst).Location)),
			"copy to a journal that is new")
	}
	bar := e.newProgress("copy", uint64(end.Seq))
	c, err := journal.Copy(ctx, dst, src, func(c journal.Cursor) { bar.at(uint64(c.Seq)) })
	bar.end()
	if err != nil {
		return halfCopied(ctx, c, err)
	}
	e.did = c.Entries > 0
	out := journalCopied{
		From: journal.Describe(src).Location, To: journal.Describe(dst).Location, Entries: c.Entries, Already: c.Already,
		Seq: uint64(c.Dest.Seq), Chain: c.Dest.Chain.String(),
	}
	if e.Global.JSON {
		return json.NewEncoder(e.Stdout).Encode(out)
	}
	fmt.Fprintf(e.Stdout, "copied    %d entries, %d were there already   %s -> %s\n", out.Entries, out.Already, out.From, out.To)
	fmt.Fprintf(e.Stdout, "proved    %s, chain %s in both\n", recordsOf(1, out.Seq), c.Dest.Chain.Short())
	return nil
}

// halfCopied is the error of a copy that did not come to its end. What it copied
// stays, so where that is something the exit code is not the one for nothing.
func halfCopied(ctx context.Context, c journal.Copied, err error) error {
	done, code := err, admin.ExitUnknown
	switch {
	case c.Entries > 0:
		done = fmt.Errorf("stopped after seq %d, and what was copied up to there is kept: %w", c.Source.Seq, err)
	case journal.OutcomeOf(err) == journal.Unknown && !errors.Is(err, journal.ErrDiffer):
		done = fmt.Errorf("stopped after seq %d, and the entry behind it may be copied or not: %w", c.Source.Seq, err)
	default:
		code = admin.ExitNotDone
	}
	coded := WithCode(code, done)
	var corrupt *journal.CorruptError
	switch {
	case errors.As(err, &corrupt), errors.Is(err, journal.ErrLost):
		if c.Entries+c.Already == 0 {
			return err
		}
		return WithHint(err, "up to seq %d it is copied; what lies behind cannot be: go on with another copy of the same history, if there is one", c.Source.Seq)
	case errors.Is(err, journal.ErrDiffer):
		return WithHint(coded, "it holds another history: copy to a journal that is new, or to one that an earlier copy of this one left")
	case errors.Is(err, journal.ErrConflict), errors.Is(err, journal.ErrFenced):
		return WithHint(coded, "somebody else writes to the copy: copy to a journal that nobody leads")
	case interrupted(ctx, err):
		coded = done // the code of an interrupt
	}
	if c.Entries+c.Already == 0 {
		return coded
	}
	return WithHint(coded, "the same command goes on from seq %d", c.Source.Seq)
}

// notWhole is the error about a source whose beginning is gone: a copy is proved
// from the first entry on.
func (e *Env) notWhole(ctx context.Context, from string, src journal.Journal, end journal.End) error {
	oldest, err := oldestSeq(ctx, src, end)
	if err != nil {
		return err
	}
	caps := journal.Describe(src)
	err = WithCode(admin.ExitNotDone, fmt.Errorf("%s was pruned: it begins at seq %d, and only a whole journal can be copied", caps.Location, oldest))
	if caps.Backend == "archive" {
		return WithHint(err, "read it where it is with --journal %s, or copy the file itself", shellWord(journalurl.Redact(from)))
	}
	return WithHint(err, "export keeps where it begins: %s journal export pruned%s --journal %s", e.App.Name, archiveSuffix, shellWord(journalurl.Redact(from)))
}
