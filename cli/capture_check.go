package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"understudy.dev/accel/trace"
	"understudy.dev/admin"
	"understudy.dev/harness"
	"understudy.dev/journal"
	"understudy.dev/journal/journalurl"
)

func (e *Env) captureCheckCommand() *cobra.Command {
	var id string
	c := &cobra.Command{
		Use: "check", Short: "Replay an imported trace against a model of its device",
		Long: "Replays an imported trace against a model of its device, which checks the order on every stream, every allocation\n" +
			"and every free, and tells what is allocated at the end. A real trace begins and ends in mid-job: frees of what was\n" +
			"allocated before it, and what lives at its end, are reported and no fault. Of a trace whose import was cut short it\n" +
			"says how far it came. Exit codes: 0 it holds; 1 only a part is recorded; 5 a command that no device could have been\n" +
			"given.",
		Example: "  " + e.App.Name + " capture check --id job1 --journal file:understudy-data --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return e.captureCheck(cmd.Context(), id) },
	}
	c.Flags().StringVar(&id, "id", "", "persistence `ID`: its journal lies beside --journal")
	return c
}

// captureReport is what capture check prints.
type captureReport struct {
	Result    string        `json:"result"` // holds, part or fault
	Journal   string        `json:"journal"`
	Commands  int           `json:"commands"`
	Ops       []opsCount    `json:"ops"`
	Streams   []streamCount `json:"streams"`
	Unmatched []allocation  `json:"unmatched_frees"`
	Live      []allocation  `json:"live"`
	LiveBytes int64         `json:"live_bytes"`
	PeakBytes int64         `json:"peak_bytes"`
	Counted   []poolCount   `json:"live_without_address"`
	Lost      []poolCount   `json:"unmatched_frees_without_address"`
	Part      *capturePart  `json:"part"` // null: the whole trace is recorded
	Fault     *captureFault `json:"fault"`
}

// capturePart says that not all of a trace is recorded.
type capturePart struct {
	Of  *int   `json:"of"` // commands of the trace; null if the import did not say
	Why string `json:"why"`
}

type streamCount struct {
	Stream   int64  `json:"stream"`
	Commands uint64 `json:"commands"`
}

type allocation struct {
	Pool  string `json:"pool"`
	Addr  string `json:"addr"` // hexadecimal: JSON's numbers end at 2^53
	Bytes int64  `json:"bytes"`
	Line  int    `json:"line"`
}

type poolCount struct {
	Pool  string `json:"pool"`
	Count int    `json:"count"`
}

type captureFault struct {
	Record uint64 `json:"record"`
	Seq    uint64 `json:"seq"`
	Line   int    `json:"line"`
	Reason string `json:"reason"`
}

// The results of capture check.
const (
	resultHolds = "holds"
	resultPart  = "part"
	resultFault = "fault"
)

func (e *Env) captureCheck(ctx context.Context, id string) error {
	if err := e.useKept(id); err != nil {
		return err
	}
	return e.withJournal(ctx, readOnly, func(j journal.Journal, _ journal.End) error {
		runs, err := harness.Runs(ctx, j)
		if err != nil {
			return e.notHarness(err)
		}
		model := trace.NewModel()
		err = e.playTrace(ctx, j, lastOf(runs), model)
		var fault *trace.Fault
		if err != nil && !errors.As(err, &fault) {
			return e.notTrace(err)
		}
		report := model.Report()
		if fault == nil && report.Commands == 0 {
			return WithHint(WithCode(admin.ExitNotDone, fmt.Errorf("journal %s: nothing recorded of a trace", journalurl.Redact(e.Global.Journal))),
				"%s capture import FILE --id ID --journal URL", e.App.Name)
		}
		r := reportOf(report, fault, journalurl.Redact(e.Global.Journal))
		if r.Part = partOf(runs); r.Part != nil && fault == nil {
			r.Result = resultPart
		}
		if err := e.printCheck(r); err != nil {
			return err
		}
		return r.err(fault)
	})
}

// err is the error that the report stands for.
func (r *captureReport) err(fault *trace.Fault) error {
	switch {
	case fault != nil:
		return WithCode(exitDiverged, fault)
	case r.Part != nil:
		return WithHint(WithCode(admin.ExitNotDone, fmt.Errorf("journal %s has only a part of the trace, %s: %s", r.Journal, r.count(), r.Part.Why)),
			"if the import is not under way any more, import the trace again under another --id")
	}
	return nil
}

// count is "4 commands", or "4 of 7 commands" of a part.
func (r *captureReport) count() string {
	if r.Part == nil || r.Part.Of == nil || r.Fault != nil {
		return counted(r.Commands, "command")
	}
	return grouped(r.Commands) + " of " + counted(*r.Part.Of, "command")
}

// lastOf is the last number of the runs, so that what is recorded after they were
// listed is not looked at; 0 if they have none.
func lastOf(runs []harness.Run) uint64 {
	if len(runs) == 0 {
		return 0
	}
	return runs[len(runs)-1].Last
}

// partOf says why a journal has only a part of what was to be recorded: a run that did
// not end in order, or other records than the importer counted commands.
func partOf(runs []harness.Run) *capturePart {
	var p capturePart
	total, recorded, told := 0, 0, true
	for i := range runs {
		r := &runs[i]
		n, err := strconv.Atoi(r.Start.Pin[pinCommands])
		total, told = total+n, told && err == nil
		recorded += int(r.Last + 1 - r.First)
		if !r.Closed && p.Why == "" {
			p.Why = howItEnded(r.Closed, r.Cut)
		}
	}
	if told && p.Why == "" && recorded != total {
		p.Why = fmt.Sprintf("%s counted, %d recorded", counted(total, "command"), recorded)
	}
	if p.Why == "" {
		return nil
	}
	if told {
		p.Of = &total
	}
	return &p
}

// howItEnded is what is known about the end of a run, in words.
func howItEnded(closed bool, cut string) string {
	switch {
	case closed:
		return "closed"
	case cut != "":
		return "cut short: " + inOneLine(cut)
	}
	return "not closed: killed, or still running"
}

// inOneLine shows text that may have line breaks or others in it that a terminal heeds.
func inOneLine(s string) string {
	if quoted := strconv.Quote(s); strings.ContainsFunc(s, unicode.IsControl) {
		return quoted
	}
	return s
}

// notTrace makes an error about a journal that is no trace's one of usage.
func (e *Env) notTrace(err error) error {
	if !errors.Is(err, trace.ErrForeign) {
		return e.notHarness(err)
	}
	return WithHint(usagef("%w", err), "this is for what %s capture import recorded; of other runs, %s capture ls and %s diff tell", e.App.Name, e.App.Name, e.App.Name)
}

// playTrace drives a journal up to a record into the model.
func (e *Env) playTrace(ctx context.Context, j journal.Journal, last uint64, model *trace.Model) error {
	if last == 0 {
		return nil
	}
	bar := e.newProgress("check", last)
	defer bar.end()
	p, err := harness.NewPlayer(j, harness.SinkFunc(func(ctx context.Context, en *harness.Entry) error {
		bar.at(en.Number)
		return model.Apply(ctx, en)
	}), harness.ReplayOptions{Part: harness.Range{To: last}})
	if err != nil {
		return err
	}
	if err := p.Run(ctx); !errors.Is(err, harness.ErrPastEnd) { // of a run that was cut short
		return err
	}
	return nil
}

func reportOf(r trace.Report, fault *trace.Fault, location string) captureReport {
	out := captureReport{
		Result: resultHolds, Journal: location, Commands: r.Commands, Ops: sortedOps(r.Ops), Streams: []streamCount{},
		Unmatched: allocations(r.Unmatched), Live: allocations(r.Live), LiveBytes: r.LiveBytes, PeakBytes: r.PeakBytes,
		Counted: pools(r.Counted), Lost: pools(r.Lost),
	}
	for _, id := range slices.Sorted(maps.Keys(r.Streams)) {
		out.Streams = append(out.Streams, streamCount{id, r.Streams[id]})
	}
	if fault != nil {
		out.Result = resultFault
		out.Fault = &captureFault{fault.Number, uint64(fault.Seq), fault.Line, fault.Reason}
	}
	return out
}

func allocations(all []trace.Allocation) []allocation {
	out := make([]allocation, len(all))
	for i, a := range all {
		out[i] = allocation{a.Pool, fmt.Sprintf("%#x", a.Addr), a.Bytes, a.Line}
	}
	return out
}

func pools(counts map[string]int) []poolCount {
	out := []poolCount{}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, poolCount{name, counts[name]})
	}
	return out
}

// sortedOps returns the counts, the largest first.
func sortedOps(ops map[trace.Op]int) []opsCount {
	out := []opsCount{}
	for op, n := range ops {
		out = append(out, opsCount{string(op), n})
	}
	slices.SortFunc(out, func(a, b opsCount) int {
		return cmp.Or(cmp.Compare(b.Commands, a.Commands), cmp.Compare(a.Op, b.Op))
	})
	return out
}

func opsWords(ops []opsCount) string {
	words := make([]string, len(ops))
	for i, o := range ops {
		words[i] = o.Op + " " + grouped(o.Commands)
	}
	return strings.Join(words, ", ")
}

func (e *Env) printCheck(r captureReport) error {
	if e.Global.JSON {
		return json.NewEncoder(e.Stdout).Encode(r)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-10s %s in order on %s\n", r.Result, r.count(), counted(len(r.Streams), "stream"))
	where := "at the end"
	if r.Part != nil {
		where = "where the part ends"
		fmt.Fprintf(&b, "the rest   is not recorded: %s\n", r.Part.Why)
	}
	if r.Fault != nil {
		fmt.Fprintf(&b, "stopped    at record %d, line %d of the trace: %s\n", r.Fault.Record, r.Fault.Line, r.Fault.Reason)
	}
	fmt.Fprintf(&b, "commands   %s\n", opsWords(r.Ops))
	for _, s := range r.Streams {
		fmt.Fprintf(&b, "stream %-3d %s, each after the one before\n", s.Stream, counted(s.Commands, "command"))
	}
	fmt.Fprintf(&b, "unmatched  %s of what was allocated before the trace\n", counted(len(r.Unmatched), "free"))
	writeAllocations(&b, r.Unmatched)
	for _, p := range r.Lost {
		fmt.Fprintf(&b, "           %s: %s without an address\n", p.Pool, counted(p.Count, "free"))
	}
	fmt.Fprintf(&b, "live       %s, %s, %s\n", counted(len(r.Live), "allocation"), sized(uint64(r.LiveBytes)), where)
	writeAllocations(&b, r.Live)
	for _, p := range r.Counted {
		fmt.Fprintf(&b, "           %s: %s without an address\n", p.Pool, counted(p.Count, "allocation"))
	}
	fmt.Fprintf(&b, "peak       %d bytes\n", r.PeakBytes)
	_, err := fmt.Fprint(e.Stdout, b.String())
	return err
}

// shownAllocations is how many of them words name; --json has all.
const shownAllocations = 20

func writeAllocations(b *strings.Builder, all []allocation) {
	for i, a := range all {
		if i == shownAllocations {
			fmt.Fprintf(b, "           and %s more: --json has all\n", grouped(len(all)-i))
			return
		}
		fmt.Fprintf(b, "           line %d   %s   %s   %s\n", a.Line, a.Addr, counted(uint64(a.Bytes), "byte"), a.Pool)
	}
}
