package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"understudy.dev/accel"
	"understudy.dev/admin"
	"understudy.dev/harness"
	"understudy.dev/harness/sinks"
	"understudy.dev/journal"
	"understudy.dev/journal/journalurl"
)

// diffFlags are the flags of diff.
type diffFlags struct {
	strict bool
	a, b   numbers
	ahead  uint // records held while a path is looked for
}

func (e *Env) diffCommand() *cobra.Command {
	var f diffFlags
	c := &cobra.Command{
		Use: "diff A B", GroupID: groupReplay,
		Short: "Compare two runs that a harness recorded and name the first difference",
		Long: "Compares two runs that a harness recorded, values included and times not, and names the first difference: the\n" +
			"number, the path, what A has, what B has, and the last ten records before it that agreed. A and B are journal URLs,\n" +
			"or persistence ids whose journals lie beside --journal. Of long data it shows where they part. Exit codes: 0 equal;\n" +
			"1 nothing to compare, or not to its end; 5 different.",
		Example: "  " + e.App.Name + " diff run1 run2 --journal file:understudy-data\n" +
			"  " + e.App.Name + " diff file:runs/first file:runs/second --strict",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return e.diff(cmd.Context(), args[0], args[1], f) },
	}
	c.Flags().BoolVar(&f.strict, "strict", false, "compare the total order, not path by path")
	c.Flags().Var(&f.a, "a", "only these numbers of A: FROM..TO, FROM.. or ..TO")
	c.Flags().Var(&f.b, "b", "only these numbers of B")
	c.Flags().UintVar(&f.ahead, "max-ahead", harness.DefaultMaxAhead, "hold at most this `NUMBER` of records in memory while paths drift apart")
	return c
}

// numbers is a part of a run. It is a flag.
type numbers harness.Range

// String implements pflag.Value.
func (n *numbers) String() string {
	if *n == (numbers{}) {
		return ""
	}
	s := fmt.Sprint(n.From) + ".."
	if n.To != 0 {
		s += fmt.Sprint(n.To)
	}
	return s
}

// Set implements pflag.Value.
func (n *numbers) Set(text string) error {
	from, to, ok := strings.Cut(text, "..")
	if !ok {
		return usagef("want FROM..TO, FROM.. or ..TO")
	}
	var err error
	parse := func(s string) uint64 {
		if s == "" {
			return 0
		}
		v, perr := strconv.ParseUint(s, 10, 64)
		err = errors.Join(err, perr)
		return v
	}
	r := harness.Range{From: parse(from), To: parse(to)}
	if err != nil {
		return usagef("want FROM..TO, FROM.. or ..TO with numbers")
	}
	if r, err = rangeOf(r.From, r.To); err != nil {
		return err
	}
	*n = numbers(r)
	return nil
}

// Type implements pflag.Value.
func (*numbers) Type() string { return "FROM..TO" }

// diffResult is what diff prints.
type diffResult struct {
	Result   string          `json:"result"` // equal or different
	A        string          `json:"a"`
	B        string          `json:"b"`
	Strict   bool            `json:"strict"`
	Number   uint64          `json:"number"`   // of the first difference; 0 if equal
	Path     string          `json:"path"`     // the actor
	Expected *sinks.Message  `json:"expected"` // in A; null: nothing more
	Got      *sinks.Message  `json:"got"`      // in B; null: nothing
	Missing  uint64          `json:"missing"`
	Before   []sinks.Message `json:"before"` // the last that agreed, the oldest first
	Data     *dataResult     `json:"data"`
	Device   *deviceResult   `json:"device"`
}

// deviceResult says what a difference means on the device.
type deviceResult struct {
	Name     string `json:"name"`
	What     string `json:"what"`
	Element  *int64 `json:"element"`
	Recorded string `json:"recorded"`
	Got      string `json:"got"`
}

// dataResult says where the data of two records part.
type dataResult struct {
	Offset        int    `json:"offset"` // of the first byte that differs, from 0; the length of the shorter if that is the beginning of the longer
	ExpectedBytes int    `json:"expected_bytes"`
	GotBytes      int    `json:"got_bytes"`
	From          int    `json:"from"` // where what is shown begins
	Expected      []byte `json:"expected"`
	Got           []byte `json:"got"`
}

// shownAround is how many bytes are shown before the one that differs, and as many
// from it on.
const shownAround = 16

// dataOf returns where two records part in their data, or nil if they do not.
func dataOf(want, got *harness.Entry) *dataResult {
	if want == nil || got == nil || bytes.Equal(want.Data, got.Data) {
		return nil
	}
	at := 0
	for at < min(len(want.Data), len(got.Data)) && want.Data[at] == got.Data[at] {
		at++
	}
	from := max(0, at-shownAround)
	window := func(data []byte) []byte { return data[from:min(len(data), at+shownAround)] }
	return &dataResult{
		Offset: at, ExpectedBytes: len(want.Data), GotBytes: len(got.Data), From: from,
		Expected: window(want.Data), Got: window(got.Data),
	}
}

const resultDifferent = "different"

func (e *Env) diff(ctx context.Context, a, b string, f diffFlags) error {
	ja, ua, err := e.openRun(ctx, a)
	if err != nil {
		return err
	}
	defer ja.Close()
	jb, ub, err := e.openRun(ctx, b)
	if err != nil {
		return err
	}
	defer jb.Close()
	if f.ahead == 0 || f.ahead > math.MaxInt {
		return usagef("--max-ahead %d: want 1 to %d", f.ahead, math.MaxInt)
	}
	d, err := harness.Diff(ctx, ja, jb, harness.DiffOptions{A: harness.Range(f.a), B: harness.Range(f.b), Strict: f.strict, MaxAhead: int(f.ahead)})
	if err != nil {
		return e.notCompared(err, ua, ub)
	}
	r := diffResult{Result: resultEqual, A: ua, B: ub, Strict: f.strict, Before: []sinks.Message{}}
	r.take(d)
	if err := e.printDiff(&r, d); err != nil || d == nil {
		return err
	}
	return quietly(exitDiverged)
}

// notCompared adds to an error of a comparison what to do next.
func (e *Env) notCompared(err error, a, b string) error {
	switch {
	case errors.Is(err, harness.ErrNothing):
		return WithHint(WithCode(admin.ExitNotDone, fmt.Errorf("%s and %s have no record to compare: %w", a, b, err)),
			"%s capture ls --journal URL tells which records there are", e.App.Name)
	case errors.Is(err, harness.ErrTooFarApart):
		return WithHint(WithCode(admin.ExitNotDone, err),
			"--strict compares in the total order and holds nothing, --a and --b compare parts, --max-ahead allows more memory")
	}
	return e.notHarness(err)
}

// openRun opens the journal of A or B and returns its URL, without secrets.
func (e *Env) openRun(ctx context.Context, arg string) (journal.Journal, string, error) {
	u := arg
	if !isJournalURL(arg) {
		var err error
		if u, err = harness.JournalURL(e.Global.Journal, arg); err != nil {
			return nil, "", usagef("%s: %v", inOneLine(arg), err)
		}
	}
	if strings.HasPrefix(u, "mem:") {
		return nil, "", usagef("journal %s is new and empty in each process: name one that is kept with --journal, as file:DIR", u)
	}
	j, err := openWithin(ctx, 4*e.Global.Timeout, u, readOnly)
	return j, journalurl.Redact(u), err
}

// isJournalURL reports whether an argument is a URL and not a persistence id, which
// may have a colon in it too: it is one if an id could be derived from it, if it is an
// archive, or if it has :// in it, whatever the scheme.
func isJournalURL(arg string) bool {
	_, err := harness.JournalURL(arg, "id")
	return err == nil || strings.Contains(arg, "://") || strings.HasPrefix(arg, "file:") || strings.HasPrefix(arg, "mem:")
}

// take fills in a difference.
func (r *diffResult) take(d *harness.Difference) {
	if d == nil {
		return
	}
	r.Result, r.Number, r.Path, r.Missing = resultDifferent, d.Number, d.Path, d.Missing
	r.Expected, r.Got, r.Data = messageOf(d.Expected), messageOf(d.Got), dataOf(d.Expected, d.Got)
	for i := range d.Before {
		r.Before = append(r.Before, sinks.MessageOf(&d.Before[i]))
	}
	if x := accel.Explain(d); x != nil {
		r.Device = &deviceResult{Name: x.Name, What: x.What, Recorded: x.Want, Got: x.Got}
		if x.Element >= 0 {
			r.Device.Element = &x.Element
		}
	}
}

func messageOf(en *harness.Entry) *sinks.Message {
	if en == nil {
		return nil
	}
	m := sinks.MessageOf(en)
	return &m
}

func (e *Env) printDiff(r *diffResult, d *harness.Difference) error {
	if e.Global.JSON {
		return json.NewEncoder(e.Stdout).Encode(r)
	}
	var b strings.Builder
	if d == nil {
		how := "on every path"
		if r.Strict {
			how = "in the total order"
		}
		fmt.Fprintf(&b, "equal       %s and %s, %s\n", r.A, r.B, how)
	} else {
		fmt.Fprintf(&b, "different   record %d, path %s\n", d.Number, pathWord(d.Path))
		for i := range d.Before {
			fmt.Fprintf(&b, "agreed      %s\n", entryLine(&d.Before[i]))
		}
		fmt.Fprintf(&b, "expected    %s\ngot         %s\n", entryLine(d.Expected), entryLine(d.Got))
		if d.Missing > 1 {
			fmt.Fprintf(&b, "missing     %s on this path\n", counted(d.Missing, "record"))
		}
		if x := r.Data; x != nil && max(x.ExpectedBytes, x.GotBytes) > shownWhole {
			b.WriteString(x.words())
		}
		if x := r.Device; x != nil {
			fmt.Fprintf(&b, "on device   %s\n", x.words())
		}
	}
	_, err := fmt.Fprint(e.Stdout, b.String())
	return err
}

// shownWhole is the data in bytes that the line of a record shows from its beginning
// (harness.Entry.What).
const shownWhole = 32

func (x *dataResult) words() string {
	at := fmt.Sprintf("byte %d", x.Offset)
	if x.Offset == min(x.ExpectedBytes, x.GotBytes) {
		at = fmt.Sprintf("the end of the shorter, after %d bytes", x.Offset)
	}
	return fmt.Sprintf("data part   at %s; from byte %d on:\n  expected  %s\n  got       %s\n", at, x.From, windowWords(x.Expected), windowWords(x.Got))
}

// windowWords shows some bytes as text if they are printable, or in hexadecimal.
func windowWords(b []byte) string {
	if len(b) == 0 {
		return "nothing more"
	}
	for _, c := range b {
		if c < ' ' || c > '~' {
			return fmt.Sprintf("%x", b)
		}
	}
	return strconv.Quote(string(b))
}

func (x *deviceResult) words() string {
	s := x.Name + ", " + x.What
	if x.Element != nil {
		s += fmt.Sprintf(", element %d", *x.Element)
	}
	return s + ": recorded " + x.Recorded + ", got " + x.Got
}

// entryLine is an entry of a difference in one line.
func entryLine(en *harness.Entry) string {
	if en == nil {
		return "nothing"
	}
	return fmt.Sprintf("%d %s %s", en.Number, pathWord(en.Path), entryWords(en))
}
