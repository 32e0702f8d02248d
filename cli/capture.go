package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"understudy.dev/accel/trace"
	"understudy.dev/admin"
	"understudy.dev/harness"
	"understudy.dev/journal"
	"understudy.dev/journal/journalurl"
)

func (e *Env) captureCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "capture", GroupID: groupJournal,
		Short:   "Import accelerator traces, check them, list recorded runs",
		Example: "  " + e.App.Name + " capture ls --id job1 --journal file:understudy-data",
		RunE:    onlyGroups,
	}
	c.AddCommand(e.captureImportCommand(), e.captureCheckCommand(), e.captureLsCommand())
	return c
}

func (e *Env) captureImportCommand() *cobra.Command {
	var id string
	c := &cobra.Command{
		Use: "import FILE", Short: "Record the commands of a trace under a persistence id",
		Long: "Records the commands of a trace in the journal of a persistence id, which must be empty: of a PyTorch profiler\n" +
			"trace (Kineto JSON) or of one JSON object a line, plain, gzip or zstd. The trace is read to its end first; of a\n" +
			"damaged or empty one nothing is recorded, and the line is named. An import that fails or is interrupted is noted\n" +
			"as cut short. Exit codes: 0 recorded; 1 not all of it; 6 the trace is damaged.",
		Example: "  " + e.App.Name + " capture import trace.json.gz --id job1 --journal file:understudy-data",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return e.captureImport(cmd.Context(), args[0], id) },
	}
	c.Flags().StringVar(&id, "id", "", "persistence `ID`: its journal lies beside --journal")
	if err := c.MarkFlagRequired("id"); err != nil {
		panic(err) // the flag is there
	}
	return c
}

// captureImported is what capture import prints.
type captureImported struct {
	File     string     `json:"file"`
	Journal  string     `json:"journal"`
	Commands int        `json:"commands"`
	Ops      []opsCount `json:"ops"`
	Seconds  float64    `json:"seconds"`
}

// opsCount is how many commands of one kind there are.
type opsCount struct {
	Op       string `json:"op"`
	Commands int    `json:"commands"`
}

func (e *Env) captureImport(ctx context.Context, file, id string) error {
	if err := e.useKept(id); err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return usagef("open trace: %v", err)
	}
	defer f.Close()
	began := time.Now()
	ops, err := traceOps(ctx, f)
	if err != nil {
		return WithHint(badTrace(file, err), "nothing was recorded")
	}
	if len(ops) == 0 {
		return WithHint(WithCode(admin.ExitNotDone, fmt.Errorf("%s: no command of a device in it", file)), "nothing was recorded; is it the trace of a job that used the GPU?")
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return usagef("read %s a second time: %v", file, err)
	}
	return e.withJournal(ctx, journalurl.Options{Create: true}, func(j journal.Journal, end journal.End) error {
		if end.Seq != 0 {
			return WithHint(WithCode(admin.ExitNotDone, fmt.Errorf("journal %s is not empty: %s", journalurl.Redact(e.Global.Journal), counted(uint64(end.Seq), "record"))), "name another --id")
		}
		n, err := e.record(ctx, j, f, filepath.Base(file), ops)
		if err != nil {
			return WithHint(fmt.Errorf("import %s: %w", file, err), "%s", e.leftBehind(j))
		}
		return e.printImported(captureImported{
			File: file, Journal: journalurl.Redact(e.Global.Journal), Commands: n, Ops: sortedOps(ops), Seconds: time.Since(began).Seconds(),
		})
	})
}

// leftBehind is the hint of an import that failed: what of the trace is in the journal.
// The first record is the harness's own.
func (e *Env) leftBehind(j journal.Journal) string {
	ctx, cancel := context.WithTimeout(context.Background(), e.Global.Timeout) // also after an interruption
	defer cancel()
	end, err := journal.SampleEnd(ctx, j)
	switch {
	case err != nil:
		return "the journal may have a part of the trace: capture check tells; import it again under another --id"
	case end.Seq == 0:
		return "nothing was recorded"
	case end.Seq == 1:
		return "no command was recorded, but the start of the import: import it again under another --id"
	}
	return "the journal has a part of the trace: import it again under another --id"
}

// useKept makes --journal the journal of a persistence id, which must outlive this
// process.
func (e *Env) useKept(id string) error {
	if err := e.useID(id); err != nil {
		return err
	}
	if strings.HasPrefix(e.Global.Journal, "mem:") {
		return usagef("journal %s is gone when this command ends: name one that is kept with --journal, as file:DIR", e.Global.Journal)
	}
	return nil
}

// badTrace gives a trace's own fault its exit code.
func badTrace(file string, err error) error {
	err = fmt.Errorf("%s: %w", file, err)
	var line *trace.LineError
	if errors.As(err, &line) {
		return WithCode(exitDamage, err)
	}
	return err
}

// traceOps reads a trace to its end and counts its commands.
func traceOps(ctx context.Context, r io.Reader) (map[trace.Op]int, error) {
	ops := make(map[trace.Op]int)
	for c, err := range until(ctx, trace.Read(&interruptible{ctx, r})) {
		if err != nil {
			return nil, err
		}
		ops[c.Op]++
	}
	return ops, nil
}

// interruptible ends a reader with ctx: of a Kineto trace much is read before there
// is a first command.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (i *interruptible) Read(p []byte) (int, error) {
	if i.ctx.Err() != nil {
		return 0, context.Cause(i.ctx)
	}
	return i.r.Read(p)
}

// until ends a sequence with the cause of ctx when that ended: then the sequence's own
// error is no fault of what it reads.
func until(ctx context.Context, seq iter.Seq2[trace.Command, error]) iter.Seq2[trace.Command, error] {
	return func(yield func(trace.Command, error) bool) {
		for c, err := range seq {
			if ctx.Err() != nil {
				yield(trace.Command{}, context.Cause(ctx))
				return
			}
			if !yield(c, err) {
				return
			}
		}
	}
}

// pinCommands is the key under which the start of an import says how many commands
// the trace has: capture check compares it with how many there are.
const pinCommands = "commands"

// record records a trace that was found whole. Its appends are asynchronous:
// Close returns when all of them are as durable as the journal declares. What fails
// or is interrupted is noted as cut short.
func (e *Env) record(ctx context.Context, j journal.Journal, r io.Reader, name string, ops map[trace.Op]int) (int, error) {
	total := 0
	for _, n := range ops {
		total += n
	}
	h, err := harness.New(ctx, j, harness.Config{
		Mode: harness.Record, Name: "capture", Async: true,
		Pin: map[string]string{"trace": name, pinCommands: strconv.Itoa(total)},
	})
	if err != nil {
		return 0, err
	}
	n, err := e.importTo(ctx, h, r, uint64(total))
	if err == nil && n != total {
		err = fmt.Errorf("%s of it were counted and %d recorded: the file changed meanwhile", counted(total, "command"), n)
	}
	if err == nil {
		return n, h.Close()
	}
	var lost *harness.LostError
	if aborted := h.Abort(err); aborted != nil && !errors.As(err, &lost) { // which is told by every call
		err = errors.Join(err, aborted)
	}
	return n, err
}

// importTo gives the commands of a trace to a harness and shows the progress.
func (e *Env) importTo(ctx context.Context, h *harness.Harness, r io.Reader, total uint64) (int, error) {
	bar := e.newProgress("import", total)
	defer bar.end()
	done := uint64(0)
	return trace.Import(func(yield func(trace.Command, error) bool) {
		for c, err := range until(ctx, trace.Read(&interruptible{ctx, r})) {
			if !yield(c, err) {
				return
			}
			done++
			bar.at(done)
		}
	}, h)
}

func (e *Env) printImported(r captureImported) error {
	e.did = true
	if e.Global.JSON {
		return json.NewEncoder(e.Stdout).Encode(r)
	}
	fmt.Fprintf(e.Stdout, "imported   %s of %s   %s\n", counted(r.Commands, "command"), r.File, shortSeconds(r.Seconds))
	fmt.Fprintf(e.Stdout, "journal    %s\n", r.Journal)
	_, err := fmt.Fprintf(e.Stdout, "commands   %s\n", opsWords(r.Ops))
	return err
}
