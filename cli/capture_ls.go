package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"understudy.dev/admin"
	"understudy.dev/harness"
	"understudy.dev/journal"
)

func (e *Env) captureLsCommand() *cobra.Command {
	var id string
	c := &cobra.Command{
		Use: "ls", Short: "List the runs of a harness: what each recorded, its seeds and batch sizes",
		Example: "  " + e.App.Name + " capture ls --id job1 --journal file:understudy-data",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return e.captureLs(cmd.Context(), id) },
	}
	c.Flags().StringVar(&id, "id", "", "persistence `ID`: its journal lies beside --journal")
	return c
}

// captureRun is a line of capture ls: one tenure of a recorder.
type captureRun struct {
	Run        uint64        `json:"run"` // its epoch
	By         string        `json:"by"`
	Start      admin.Time    `json:"start"`
	First      uint64        `json:"first"` // its first number; 0 if it recorded nothing
	Last       uint64        `json:"last"`
	Closed     bool          `json:"closed"`
	Cut        string        `json:"cut,omitempty"` // why it was cut short, if its program could tell
	Device     uint64        `json:"device"`
	Kernel     uint64        `json:"kernel"`
	Seed       uint64        `json:"seed"`
	BatchSize  uint64        `json:"batch_size"`
	Value      uint64        `json:"value"`
	Output     uint64        `json:"output"`
	Seeds      []recordInput `json:"seeds"`       // the first shownInputs
	BatchSizes []recordInput `json:"batch_sizes"` // the first shownInputs
}

// recordInput is a seed or a batch size; a string, since JSON's numbers end at 2^53.
type recordInput struct {
	Record uint64 `json:"record"`
	Path   string `json:"path"`
	Value  string `json:"value"`
}

// shownInputs bounds the seeds and batch sizes that are listed of a run.
const shownInputs = 20

func (e *Env) captureLs(ctx context.Context, id string) error {
	if err := e.useID(id); err != nil {
		return err
	}
	return e.withJournal(ctx, readOnly, func(j journal.Journal, _ journal.End) error {
		runs, err := captureRuns(ctx, j)
		if err != nil {
			return e.notHarness(err)
		}
		for _, r := range runs {
			if err := e.printRun(&r); err != nil {
				return err
			}
		}
		return nil
	})
}

func captureRuns(ctx context.Context, j journal.Journal) ([]captureRun, error) {
	tenures, err := harness.Runs(ctx, j)
	if err != nil {
		return nil, err
	}
	runs := make([]captureRun, len(tenures))
	byEpoch := make(map[journal.Epoch]*captureRun, len(tenures))
	for i, t := range tenures {
		runs[i] = captureRun{
			Run: uint64(t.Epoch), By: t.Start.Harness, Start: admin.At(t.Start.Start.UTC()), Closed: t.Closed, Cut: t.Cut,
			Seeds: []recordInput{}, BatchSizes: []recordInput{},
		}
		if t.Last >= t.First {
			runs[i].First, runs[i].Last = t.First, t.Last
		}
		byEpoch[t.Epoch] = &runs[i]
	}
	last := lastOf(tenures)
	if last == 0 {
		return runs, nil
	}
	// What was recorded after the runs were listed would not agree with the list.
	for en, err := range harness.Read(ctx, j, harness.Range{To: last}) {
		if err != nil {
			return nil, err
		}
		byEpoch[en.Run].count(&en)
	}
	return runs, nil
}

func (r *captureRun) count(en *harness.Entry) {
	switch en.Kind {
	case journal.KindDevice:
		r.Device++
	case journal.KindKernel:
		r.Kernel++
	case journal.KindValue:
		r.Value++
	case journal.KindOutput:
		r.Output++
	case journal.KindSeed:
		r.Seed++
		r.Seeds = appendInput(r.Seeds, en, fmt.Sprint(en.Seed()))
	case journal.KindBatchSize:
		r.BatchSize++
		r.BatchSizes = appendInput(r.BatchSizes, en, fmt.Sprint(en.BatchSize()))
	}
}

func appendInput(list []recordInput, en *harness.Entry, value string) []recordInput {
	if len(list) == shownInputs {
		return list
	}
	return append(list, recordInput{en.Number, en.Path, value})
}

func (e *Env) printRun(r *captureRun) error {
	if e.Global.JSON {
		return json.NewEncoder(e.Stdout).Encode(r)
	}
	what := "nothing recorded"
	if r.Last > 0 {
		what = fmt.Sprintf("records %s..%s", grouped(r.First), grouped(r.Last))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "run %d   %s   by %s   %s   %s\n", r.Run, r.Start.UTC().Format("2006-01-02T15:04:05.000Z"), r.By, what, howItEnded(r.Closed, r.Cut))
	fmt.Fprintf(&b, "  device %s, kernel %s, seed %s, batch-size %s, value %s, output %s\n",
		grouped(r.Device), grouped(r.Kernel), grouped(r.Seed), grouped(r.BatchSize), grouped(r.Value), grouped(r.Output))
	writeInputs(&b, "seed", r.Seeds, r.Seed)
	writeInputs(&b, "batch size", r.BatchSizes, r.BatchSize)
	_, err := fmt.Fprint(e.Stdout, b.String())
	return err
}

func writeInputs(b *strings.Builder, what string, list []recordInput, total uint64) {
	for _, in := range list {
		fmt.Fprintf(b, "  record %d   %s %s   %s\n", in.Record, what, in.Value, pathWord(in.Path))
	}
	if more := total - uint64(len(list)); more > 0 {
		fmt.Fprintf(b, "  and %s more of %s\n", grouped(more), what)
	}
}
