package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"understudy.dev/admin"
	"understudy.dev/journal"
	"understudy.dev/journal/journalurl"
)

// journalPruned is what prune prints with --json.
type journalPruned struct {
	Journal string `json:"journal"`
	Pruned  bool   `json:"pruned"`           // something was dropped
	Through uint64 `json:"through_position"` // what is dropped, or would be; 0: nothing
	Before  uint64 `json:"before_seq"`       // the first record that is kept
	Trimmed uint64 `json:"trimmed_through"`  // what is gone, by now
	Left    int    `json:"leftover_files"`   // of an earlier prune that was interrupted: as "pruned" says
	Kept    string `json:"kept,omitempty"`   // why not all that was asked for is dropped
}

func (e *Env) journalPruneCommand() *cobra.Command {
	var before string
	var yes bool
	c := &cobra.Command{
		Use: "prune", Short: "Drop the oldest entries, for good",
		Long: "Drops the entries whose records all lie before --before, as far as the backend can. A file journal drops whole segment\n" +
			"files, and keeps the one with the newest fence and all behind it: of a tenure that never ended only what lies before it.\n" +
			"Other journals keep their newest record. Without --yes it only says what it would drop. Where nothing is dropped it exits with 1,\n" +
			"where it may be dropped in part with 3: the same command ends what was interrupted.\n\n" +
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

// A pruning is what can be dropped of a journal.
type pruning struct {
	asked journal.Position // the last that lies before the place
	drops journal.Position // the last that the backend will drop; 0: nothing
	first journal.Seq      // kept then
	left  int              // files that an earlier prune left, which go as well
	kept  string           // why drops is less than asked; "" if it is not
	hint  string           // how more could be dropped
}

func (e *Env) prune(cmd *cobra.Command, j journal.Journal, end journal.End, before string, yes bool) error {
	ctx := cmd.Context()
	at, err := e.parsePlace(before, end)
	if err != nil {
		return fmt.Errorf("--before: %w", err)
	}
	if of := journal.Describe(j); of.Backend == "archive" {
		return WithHint(WithCode(admin.ExitNotDone, fmt.Errorf("%s is an archive, of which nothing can be dropped: %w", of.Location, journal.ErrReadOnly)),
			"prune the journal and export it again")
	}
	p, err := e.pruningOf(ctx, j, end, at)
	if err != nil {
		return err
	}
	if p.drops == 0 && p.kept == "" {
		p.kept = "no record lies before " + before
	}
	left, err := leftBehind(j, end.First)
	if err != nil {
		return err
	}
	p.left = left
	dropped := false
	if yes {
		if dropped, err = e.drop(ctx, j, &end, &p); err != nil {
			return err
		}
		e.did = dropped
	}
	if err := e.printPruned(j, end, &p, dropped, yes); err != nil || dropped {
		return err
	}
	nothing := WithCode(admin.ExitNotDone, errors.New(nothingChanged(j)))
	switch {
	case p.drops > 0 || p.left > 0:
		return WithHint(nothing, "%s --yes drops them", again(cmd))
	case p.hint != "":
		return WithHint(nothing, "%s", p.hint)
	}
	return nothing
}

// drop drops what p says, or if that is nothing what an earlier prune left, and says
// whether that changed anything. It takes p and end to what is true then.
func (e *Env) drop(ctx context.Context, j journal.Journal, end *journal.End, p *pruning) (bool, error) {
	if p.drops == 0 && p.left == 0 {
		return false, nil
	}
	through := p.asked
	if p.drops == 0 {
		through = end.First // no more than what is gone already
	}
	if err := journal.Trim(ctx, j, through); err != nil {
		return false, halfPruned(ctx, err)
	}
	was, left := end.First, p.left
	var err error
	if *end, err = journal.SampleEnd(ctx, j); err != nil {
		return false, halfPruned(ctx, fmt.Errorf("find what is left: %w", err))
	}
	if p.first, err = oldestSeq(ctx, j, *end); err != nil {
		return false, halfPruned(ctx, err)
	}
	if p.left, err = leftBehind(j, end.First); err != nil {
		return false, halfPruned(ctx, err)
	}
	p.drops, p.left = 0, left-p.left
	if end.First > was {
		p.drops = end.First
	}
	return p.drops > 0 || p.left > 0, nil
}

// halfPruned is an error that ended a prune which may have dropped entries already.
func halfPruned(ctx context.Context, err error) error {
	if journal.OutcomeOf(err) == journal.NotDone {
		return err
	}
	if interrupted(ctx, err) {
		return WithHint(err, "what was to be dropped may be gone, in part or all of it: the same command ends it")
	}
	return WithHint(WithCode(admin.ExitUnknown, fmt.Errorf("what was to be dropped may be gone, in part or all of it: %w", err)),
		"the same command goes on, and journal info says where the journal begins")
}

// leftBehind returns how many segments before first an earlier prune left, which was
// interrupted after it had said that they are gone.
func leftBehind(j journal.Journal, first journal.Position) (int, error) {
	starts, err := journal.Segments(j)
	if errors.Is(err, journal.ErrUnsupported) {
		return 0, nil
	}
	n := 0
	for _, s := range starts {
		if s < first {
			n++
		}
	}
	return n, err
}

// nothingChanged says that nothing was dropped, and no more than that if opening the
// journal changed it.
func nothingChanged(j journal.Journal) string {
	if r, ok := recoveredTail(j); ok && r.CutFile != "" {
		return "nothing was dropped; opening the journal set its torn end aside, as any writer would have"
	}
	return "nothing changed"
}

// printPruned says what was dropped, or would be.
func (e *Env) printPruned(j journal.Journal, end journal.End, p *pruning, dropped, yes bool) error {
	out := journalPruned{
		Journal: journal.Describe(j).Location, Pruned: dropped, Through: uint64(p.drops), Before: uint64(p.first),
		Trimmed: uint64(end.First), Left: p.left, Kept: p.kept,
	}
	if e.Global.JSON {
		return json.NewEncoder(e.Stdout).Encode(out)
	}
	did := "would drop"
	if yes {
		did = "dropped"
	}
	var lines []string
	if p.left > 0 {
		lines = append(lines, fmt.Sprintf("%s %s that an earlier prune of %s left", did, counted(p.left, "file"), out.Journal))
	}
	switch {
	case p.drops > 0:
		lines = append(lines, fmt.Sprintf("%s records before seq %d, through position %d of %s", did, p.first, p.drops, out.Journal))
		if p.kept != "" {
			lines = append(lines, "kept more than asked for: "+p.kept)
		}
	case p.left > 0:
		lines = append(lines, "no more than that: "+p.kept)
	default:
		lines = append(lines, fmt.Sprintf("%s nothing of %s: %s", did, out.Journal, p.kept))
	}
	_, err := fmt.Fprintln(e.Stdout, strings.Join(lines, "\n"))
	return err
}

// pruningOf finds out what a journal drops if it is asked for all before a place.
func (e *Env) pruningOf(ctx context.Context, j journal.Journal, end journal.End, at place) (p pruning, err error) {
	oldest, err := oldestSeq(ctx, j, end)
	if err != nil {
		return p, err
	}
	p.first = oldest
	files, segmented, err := segmentsBehind(j, end.First)
	if err != nil {
		return p, err
	}
	var last, beforeRecords journal.Cursor // before the place; and without the newest batch there
	next := map[journal.Position]journal.Seq{}
	err = e.items(ctx, j, stretch{}, end, func(it *journal.Item) (bool, error) {
		if it.Verdict == journal.Live && !at.before(it.Cursor.Seq, it.Cursor.Time) {
			return false, nil
		}
		if it.Verdict == journal.Live && it.Batch.Count > 0 {
			beforeRecords = last
		}
		last = it.Cursor
		if slices.Contains(files, it.Pos) {
			next[it.Pos] = it.Cursor.Seq + 1
		}
		return true, nil
	})
	p.asked = last.Pos
	switch {
	case err != nil || last.Seq < oldest:
		return p, err
	case segmented:
		p.ofFiles(files, next, last, end)
	case last.Seq >= end.Seq:
		p.kept = "the newest record is always kept"
		if beforeRecords.Seq >= oldest {
			p.drops, p.first = beforeRecords.Pos, beforeRecords.Seq+1
		}
	default:
		p.drops, p.first = last.Pos, last.Seq+1
	}
	return p, nil
}

// ofFiles finds out which segment files go, of those that start at files.
func (p *pruning) ofFiles(files []journal.Position, next map[journal.Position]journal.Seq, last journal.Cursor, end journal.End) {
	fenced := last.Epoch == end.Epoch // the open fence lies before the place
	keep := last.Pos
	if fenced {
		keep = min(keep, last.Fence-1)
	}
	var over journal.Position // the end of the first file that stays
	for _, f := range files {
		if over = f; f > keep {
			break
		}
		p.drops, p.first, over = f, next[f], 0
	}
	switch {
	case p.drops == last.Pos:
	case over == 0:
		p.kept = "only whole segment files are dropped, and that place lies in the newest"
	case fenced:
		p.kept = fmt.Sprintf("the newest fence, at position %d, and all behind it are always kept", last.Fence)
		p.hint = fmt.Sprintf("what epoch %d wrote can be dropped once a later epoch is open: promote a standby, or start the primary anew", last.Epoch)
	default:
		p.kept = "only whole segment files are dropped, and the next one reaches beyond that place"
		p.hint = "choose a later --before"
	}
}

// segmentsBehind returns where the segments of j start, behind a position; false if
// it has none.
func segmentsBehind(j journal.Journal, pos journal.Position) ([]journal.Position, bool, error) {
	starts, err := journal.Segments(j)
	if errors.Is(err, journal.ErrUnsupported) {
		return nil, false, nil
	}
	return slices.DeleteFunc(starts, func(p journal.Position) bool { return p <= pos }), true, err
}
