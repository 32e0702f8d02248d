package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"understudy.dev/admin"
	"understudy.dev/harness"
	"understudy.dev/harness/sinks"
	"understudy.dev/journal"
	"understudy.dev/journal/journalurl"
)

// sinkFlags are the flags of replay with --sink.
type sinkFlags struct {
	sink         string
	id           string
	from         uint64
	step         bool
	kinds, names []string
}

func (f *sinkFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.sink, "sink", "", "send the records to a `SINK` instead of the machine: print, exec:COMMAND or http://HOST/…")
	c.Flags().StringVar(&f.id, "id", "", "with --sink: a harness's persistence `ID`, whose journal lies beside --journal")
	c.Flags().Uint64Var(&f.from, "from", 0, "with --sink: the first `RECORD`; of a harness its number, of a machine its seq")
	c.Flags().BoolVar(&f.step, "step", false, "with --sink: wait for Enter before each record; q ends")
	c.Flags().StringSliceVar(&f.kinds, "kind", nil, "with --sink print: show only these kinds")
	c.Flags().StringSliceVar(&f.names, "name", nil, "with --sink print: show only these names")
}

// check refuses what does not go together.
func (f *sinkFlags) check() error {
	if f.sink == "" && (f.id != "" || f.from != 0 || f.step || f.kinds != nil || f.names != nil) {
		return usagef("--id, --from, --step, --kind and --name need --sink: a machine is replayed whole, from the start")
	}
	if f.sink != "" && f.sink != sinkPrint && (f.kinds != nil || f.names != nil) {
		return usagef("--kind and --name are for looking, with --sink print: a sink that builds state must get every record")
	}
	return nil
}

const sinkPrint = "print"

// sinkResult is what replay --sink prints at its end.
type sinkResult struct {
	Sink          string  `json:"sink"`
	Journal       string  `json:"journal"`
	From          uint64  `json:"from"` // the first acknowledged; 0 if there was none
	To            uint64  `json:"to"`   // the last
	Records       uint64  `json:"records"`
	NotShown      uint64  `json:"not_shown"`
	Complete      bool    `json:"complete"`
	Seconds       float64 `json:"seconds"`
	RecordsPerSec float64 `json:"records_per_second"`
	Error         string  `json:"error,omitempty"`
}

// A feed is the sink that a harness.Player drives: it asks before each entry where
// that is wanted, gives the entry to the sink that was named, and keeps the result.
// That sink heeds its context, so a deadline needs nobody who watches.
type feed struct {
	sink    harness.Sink
	timeout time.Duration // of one record; 0 means none
	steps   *stepper      // nil goes on by itself
	bar     *progressBar
	before  uint64 // records before the part
	at      uint64 // the record that the sink has or may have; 0 if none
	result  sinkResult
}

func (e *Env) replaySink(ctx context.Context, f sinkFlags, to uint64, sp speed) error {
	part, err := rangeOf(f.from, to)
	if err != nil {
		return err
	}
	kinds, err := parseKinds(f.kinds)
	if err != nil {
		return err
	}
	if err := e.useID(f.id); err != nil {
		return err
	}
	return e.withJournal(ctx, readOnly, func(j journal.Journal, end journal.End) error {
		sink, closeSink, err := e.openSink(f)
		if err != nil {
			return err
		}
		fd := &feed{
			sink: sink, timeout: e.Global.Timeout, bar: e.sinkBar(f, part, end), before: max(part.From, 1) - 1,
			result: sinkResult{Sink: shownSink(f.sink), Journal: journalurl.Redact(e.Global.Journal)},
		}
		if f.step {
			fd.steps = newStepper(ctx, e.Stdin, e.Stderr)
		}
		if f.sink == sinkPrint {
			fd.timeout = 0 // who reads the output may take their time
		}
		began := time.Now()
		p, err := harness.NewViewer(j, fd, harness.Filter{Kinds: kinds, Names: f.names}, harness.ReplayOptions{
			Part: part, Foreign: true, Pace: float64(sp), SinkTimeout: -1, // the feed has its own
		})
		if err == nil {
			err = p.Run(ctx)
			fd.result.NotShown = p.Progress().Passed
		}
		err = fd.finish(part, err, closeSink)
		return errors.Join(e.printFeed(fd, err, time.Since(began)), fd.coded(ctx, err))
	})
}

// finish ends the sink and returns why the replay is not complete, given how it
// went.
func (fd *feed) finish(part harness.Range, err error, closeSink func() error) error {
	fd.bar.end()
	r := &fd.result
	switch {
	case errors.Is(err, errOver):
		err = nil
	case errors.Is(err, harness.ErrPastEnd) && part.From > 1:
		err = WithCode(1, fmt.Errorf("there is no record %d", part.From))
	case err == nil || errors.Is(err, harness.ErrPastEnd):
		r.Complete, err = true, nil
	}
	if cerr := closeSink(); err == nil && cerr != nil {
		err = fmt.Errorf("after record %d: %w", r.To, cerr)
	}
	if err != nil {
		err = flat{err}
	}
	return err
}

// openSink makes the sink that --sink names and a function that ends it.
func (e *Env) openSink(f sinkFlags) (harness.Sink, func() error, error) {
	target, isHTTP := strings.CutPrefix(f.sink, "http:")
	if strings.HasPrefix(target, "//") || !isHTTP {
		target = f.sink // http://… is a URL itself; http:URL has one
	}
	command, isExec := strings.CutPrefix(f.sink, "exec:")
	switch {
	case f.sink == sinkPrint:
		return e.printSink(), func() error { return nil }, nil
	case isExec && strings.TrimSpace(command) != "":
		s, err := sinks.NewExec([]string{"sh", "-c", command}, sinks.ExecConfig{Stderr: e.Stderr, Grace: e.Global.Timeout})
		if err != nil {
			return nil, nil, err
		}
		return s, s.Close, nil
	case isHTTP, strings.HasPrefix(f.sink, "https:"):
		s, err := sinks.NewHTTP(target, sinks.HTTPConfig{})
		if err != nil { // whose words have the URL as it is
			return nil, nil, usagef("--sink %s: want http://HOST/… or https://HOST/…", shownSink(f.sink))
		}
		return s, s.Close, nil
	}
	return nil, nil, usagef("--sink %s: want print, exec:COMMAND, http://HOST/… or https://HOST/…", shownSink(f.sink))
}

// shownSink is --sink without the password of a URL. What cannot be read as one is
// shown up to its colon only.
func shownSink(sink string) string {
	if strings.HasPrefix(sink, "exec:") {
		return sink
	}
	prefix, target := "", sink
	if rest, ok := strings.CutPrefix(sink, "http:"); ok && !strings.HasPrefix(rest, "//") {
		prefix, target = "http:", rest
	}
	u, err := url.Parse(target)
	switch {
	case err != nil, strings.Contains(u.Opaque, "@"):
		scheme, _, _ := strings.Cut(target, ":")
		return prefix + scheme + ":…"
	case u.User == nil:
		return sink
	}
	return prefix + u.Redacted()
}

// printSink writes an entry as a line for people, or as the line that an exec sink
// gets. Each is written before it is acknowledged: what is in a buffer nobody has.
func (e *Env) printSink() harness.SinkFunc {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	return func(_ context.Context, en *harness.Entry) error {
		line.Reset()
		if e.Global.JSON {
			if err := encoder.Encode(sinks.MessageOf(en)); err != nil {
				return err
			}
		} else {
			fmt.Fprintf(&line, "%d %s %s %s\n", en.Number, en.Time, pathWord(en.Path), entryWords(en))
		}
		if _, err := e.Stdout.Write(line.Bytes()); err != nil {
			return harness.NotTaken(err) // a part of a line is no record
		}
		return nil
	}
}

// sinkBar returns the progress of a replay, which would be in the way of records
// on a terminal and of questions.
func (e *Env) sinkBar(f sinkFlags, part harness.Range, end journal.End) *progressBar {
	last := uint64(end.Seq)
	if part.To != 0 {
		last = min(last, part.To)
	}
	bar := e.newProgress("replay", last-min(last, max(part.From, 1)-1))
	if f.step || f.sink == sinkPrint && isTerminal(e.Stdout) {
		bar.w = nil
	}
	return bar
}

// Apply implements harness.Sink.
func (fd *feed) Apply(ctx context.Context, en *harness.Entry) error {
	if fd.steps != nil {
		if err := fd.steps.wait(ctx, en); err != nil {
			return err
		}
	}
	fd.at = en.Number
	if err := fd.hand(ctx, en); err != nil {
		return err
	}
	fd.at = 0
	r := &fd.result
	if r.Records == 0 {
		r.From = en.Number
	}
	r.Records++
	r.To = en.Number
	fd.bar.at(en.Number - fd.before)
	return nil
}

// hand gives one entry to the sink and waits for the answer.
func (fd *feed) hand(ctx context.Context, en *harness.Entry) error {
	if fd.timeout == 0 {
		return fd.sink.Apply(ctx, en)
	}
	late := fmt.Errorf("%w within %v", harness.ErrSinkTimeout, fd.timeout)
	actx, cancel := context.WithTimeoutCause(ctx, fd.timeout, late)
	defer cancel()
	err := fd.sink.Apply(actx, en)
	if err != nil && errors.Is(context.Cause(actx), late) {
		return late
	}
	return err
}

// coded gives an error of the sink its exit code: a sink that certainly did not take
// the record gets it again; of one that did not answer properly, nobody knows. A line
// that could not be printed is not taken, whatever of it came out.
func (fd *feed) coded(ctx context.Context, err error) error {
	switch {
	case fd.at == 0:
		return err
	case ctx.Err() != nil:
		return WithHint(WithCode(exitInterrupted, err), maybeTaken, fd.at, fd.at)
	case journal.OutcomeOf(err) == journal.NotDone:
		return WithHint(WithCode(admin.ExitNotDone, err), "the sink has the records before %d: the same command with --from %d goes on", fd.at, fd.at)
	}
	return WithHint(WithCode(admin.ExitUnknown, err), maybeTaken, fd.at, fd.at)
}

const maybeTaken = "the sink has the records before %d and may have that one: --from %d sends it again"

// flat is an error in one line: what a server or a child says may have line breaks and
// other things in it that a terminal heeds.
type flat struct{ error }

func (f flat) Error() string {
	return strings.Join(strings.FieldsFunc(f.error.Error(), unicode.IsControl), " ")
}

func (f flat) Unwrap() error { return f.error }

// printFeed prints the result: on the standard error where the records are on the
// standard output as words.
func (e *Env) printFeed(fd *feed, err error, took time.Duration) error {
	r := &fd.result
	r.Seconds = took.Seconds()
	r.RecordsPerSec = float64(r.Records) / r.Seconds
	if err != nil {
		r.Error = err.Error()
	}
	if e.Global.JSON {
		return json.NewEncoder(e.Stdout).Encode(r)
	}
	out := e.Stdout
	if r.Sink == sinkPrint {
		if out = e.Stderr; e.Global.Quiet {
			out = io.Discard
		}
	}
	what := "no records"
	if r.Records > 0 {
		what = fmt.Sprintf("%s, %s..%s", counted(r.Records, "record"), grouped(r.From), grouped(r.To))
	}
	if r.NotShown > 0 {
		what += fmt.Sprintf("   %s not shown", grouped(r.NotShown))
	}
	if !r.Complete {
		what += "   stopped before the end"
	}
	_, werr := fmt.Fprintf(out, "acknowledged   %s   %s   %s\n", what, short(took), perSecond(r.RecordsPerSec))
	return werr
}

// A stepper asks before each record.
type stepper struct {
	w     io.Writer
	lines <-chan string // closed at the end of the input
}

// errOver: whoever steps has seen enough.
var errOver = errors.New("told to end")

// newStepper reads answers from in. The goroutine that waits for a line cannot be
// interrupted and ends with the process.
func newStepper(ctx context.Context, in io.Reader, w io.Writer) *stepper {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for {
			line, err := readLine(in)
			if err != nil {
				return
			}
			select {
			case lines <- strings.TrimSpace(line):
			case <-ctx.Done():
				return
			}
		}
	}()
	return &stepper{w: w, lines: lines}
}

// wait returns when en may go, or errOver.
func (s *stepper) wait(ctx context.Context, en *harness.Entry) error {
	fmt.Fprintf(s.w, "next is record %d: Enter sends it, q ends\n", en.Number)
	select {
	case line, ok := <-s.lines:
		if !ok || line == "q" {
			return errOver
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
