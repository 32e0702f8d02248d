package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/cobra"

	"understudy.dev/journal"
	"understudy.dev/journal/journalurl"
	"understudy.dev/machine"
	"understudy.dev/node"
	"understudy.dev/replay"
)

// blob is the machine that bench measures with: it takes any command and answers
// nothing, so that what is measured is the way there and back.
type blob struct{ applied uint64 }

func (b *blob) Apply(*machine.Context, machine.Command) ([]byte, error) {
	b.applied++
	return nil, nil
}
func (b *blob) Snapshot(w io.Writer) error { _, err := fmt.Fprintln(w, b.applied); return err }
func (b *blob) Restore(r io.Reader) error  { _, err := fmt.Fscanln(r, &b.applied); return err }

func blobs() machine.Definition {
	return machine.Definition{
		Name: "bench", Version: 1, New: func() machine.Machine { return &blob{} },
		Commands: []machine.CommandType{{Name: "put"}},
	}
}

// benchFlags are the flags of bench.
type benchFlags struct {
	submitters, outstanding, size int
	duration                      time.Duration
	records                       int
}

// benchResult is what bench prints; times are in microseconds. Its records are
// commands. The quantiles are of a command's way to its answer (append), or of the
// time from one batch applied to the next (follow).
type benchResult struct {
	What         string  `json:"what"`
	Journal      string  `json:"journal"`
	Survives     string  `json:"survives"`
	Submitters   int     `json:"submitters,omitempty"`
	Outstanding  int     `json:"outstanding,omitempty"`
	SizeBytes    int     `json:"size_bytes"`
	Records      uint64  `json:"records"`
	Seconds      float64 `json:"seconds"`
	PerSecond    float64 `json:"records_per_second"`
	P50          float64 `json:"p50_us,omitempty"`
	P99          float64 `json:"p99_us,omitempty"`
	P999         float64 `json:"p999_us,omitempty"`
	RecordsBatch float64 `json:"records_per_batch,omitempty"`
	CPUs         int     `json:"cpus"`
	Go           string  `json:"go"`
}

func (e *Env) benchCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "bench", GroupID: groupMeasure, Short: "Measure the way of a command through the whole node",
		Example: "  " + e.App.Name + " bench append --journal embedded:/tmp/bench --submitters 512",
		RunE:    onlyGroups,
	}
	var f benchFlags
	appendCmd := &cobra.Command{
		Use: "append", Short: "Commands sequenced, appended, applied and answered per second",
		Long: "Runs a primary on a new journal and submits to it: how many commands it sequences, appends, applies and answers per\n" +
			"second. The percentiles are of the time from submitting a command to its answer.",
		Example: "  " + e.App.Name + " bench append --journal file:/tmp/bench --submitters 512 --duration 5s",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return e.benchAppend(cmd.Context(), f) },
	}
	appendCmd.Flags().IntVar(&f.submitters, "submitters", 512, "goroutines that submit")
	appendCmd.Flags().IntVar(&f.outstanding, "outstanding", 1, "commands that each keeps in flight; 1 is a closed loop")
	appendCmd.Flags().IntVar(&f.size, "size", 128, "`BYTES` of a command")
	appendCmd.Flags().DurationVar(&f.duration, "duration", 5*time.Second, "how long to measure, after a second of warming up")
	followCmd := &cobra.Command{
		Use: "follow", Short: "Commands read, checked and applied per second by a standby catching up",
		Long: "Writes commands and lets a standby catch up: how many it reads, checks and applies per second. The percentiles are of\n" +
			"the time from one batch applied to the next, which a command waits for at most behind the one before it. How long\n" +
			"the clients of a primary wait is measured by bench append.",
		Example: "  " + e.App.Name + " bench follow --journal file:/tmp/bench --records 1000000",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return e.benchFollow(cmd.Context(), f) },
	}
	followCmd.Flags().IntVar(&f.records, "records", 2_000_000, "records to write first")
	followCmd.Flags().IntVar(&f.size, "size", 128, "`BYTES` of a command")
	c.AddCommand(appendCmd, followCmd)
	return c
}

// withPrimary runs a primary of the bench machine on the journal of the flags.
func (e *Env) withPrimary(ctx context.Context, f func(ctx context.Context, n *node.Node, j journal.Journal) error) error {
	j, err := e.openJournal(ctx, 30*time.Second, journalurl.Options{Create: true})
	if err != nil {
		return err
	}
	defer j.Close()
	end, err := journal.SampleEnd(ctx, j)
	if err != nil {
		return err
	}
	if end.Pos != 0 {
		return WithHint(fmt.Errorf("the journal %s is not empty: bench writes into a new one only", journal.Describe(j).Location), "name another with --journal")
	}
	n, err := node.New(node.Config{Name: "bench", Journal: j, Machine: blobs()})
	if err != nil {
		return err
	}
	nctx, stop := context.WithCancel(ctx)
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		n.Run(nctx) //nolint:errcheck // what ends it, the submitters are told
	}()
	defer func() { stop(); <-ran }()
	if _, err := n.Promote(ctx, node.PromoteRequest{How: "bootstrap", Actor: "bench"}); err != nil {
		return err
	}
	return f(ctx, n, j)
}

func (e *Env) benchAppend(ctx context.Context, f benchFlags) error {
	if f.submitters < 1 || f.outstanding < 1 || f.size < 0 || f.duration <= 0 {
		return usagef("submitters, outstanding and duration must be positive")
	}
	return e.withPrimary(ctx, func(ctx context.Context, n *node.Node, j journal.Journal) error {
		e.progressf("bench append: %d submitters with %d outstanding, %d bytes, warming up\n", f.submitters, f.outstanding, f.size)
		if _, err := submitFor(ctx, n, f, time.Second); err != nil {
			return err
		}
		before, began := n.Progress(), time.Now()
		hist, err := submitFor(ctx, n, f, f.duration)
		if err != nil {
			return err
		}
		r := e.benchOf("append", j, f)
		r.Submitters, r.Outstanding, r.Seconds = f.submitters, f.outstanding, time.Since(began).Seconds()
		r.Records = uint64(hist.TotalCount())
		r.P50, r.P99, r.P999 = quantile(hist, 50), quantile(hist, 99), quantile(hist, 99.9)
		if after := n.Progress(); after.Batches > before.Batches {
			r.RecordsBatch = float64(r.Records) / float64(after.Batches-before.Batches)
		}
		return e.printBench(r)
	})
}

// benchOf fills in what all results share.
func (e *Env) benchOf(what string, j journal.Journal, f benchFlags) benchResult {
	caps := journal.Describe(j)
	return benchResult{
		What: what, Journal: caps.Location, Survives: caps.Survives.String(), SizeBytes: f.size,
		CPUs: runtime.GOMAXPROCS(0), Go: runtime.Version(),
	}
}

func quantile(h *hdrhistogram.Histogram, q float64) float64 {
	return float64(h.ValueAtQuantile(q)) / 1000
}

// submitFor submits from all submitters for d and returns the latencies in
// nanoseconds.
func submitFor(ctx context.Context, n *node.Node, f benchFlags, d time.Duration) (*hdrhistogram.Histogram, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var mu sync.Mutex
	var failed error
	total := hdrhistogram.New(1000, int64(time.Minute), 3)
	var wg sync.WaitGroup
	for range f.submitters {
		wg.Go(func() {
			s := submitter{node: n, hist: hdrhistogram.New(1000, int64(time.Minute), 3)}
			err := s.run(ctx, f)
			mu.Lock()
			defer mu.Unlock()
			total.Merge(s.hist)
			if err != nil {
				failed = err
			}
		})
	}
	wg.Wait()
	return total, failed
}

// A submitter keeps some commands in flight until its context ends.
type submitter struct {
	node *node.Node
	hist *hdrhistogram.Histogram
}

// arrival is one answer.
type arrival struct {
	slot int
	res  node.Result
}

func (s *submitter) run(ctx context.Context, f benchFlags) error {
	answers := make(chan arrival, f.outstanding)
	data := make([]byte, f.size)
	sent := make([]time.Time, f.outstanding)
	done := make([]func(node.Result), f.outstanding)
	send := func(slot int) {
		sent[slot] = time.Now()
		s.node.SubmitAsync(node.Request{Kind: journal.KindCommand, Name: "put", Data: data}, done[slot])
	}
	for i := range f.outstanding {
		done[i] = func(r node.Result) { answers <- arrival{i, r} }
		send(i)
	}
	for flying := f.outstanding; flying > 0; {
		a := <-answers
		if a.res.Status != node.Done {
			return fmt.Errorf("command %s: %w", a.res.Status, a.res.Err)
		}
		s.hist.RecordValue(int64(time.Since(sent[a.slot]))) //nolint:errcheck // a minute is never reached
		if ctx.Err() == nil {
			send(a.slot)
		} else {
			flying--
		}
	}
	return nil
}

func (e *Env) benchFollow(ctx context.Context, f benchFlags) error {
	if f.records < 1 || f.size < 0 {
		return usagef("records must be positive")
	}
	return e.withPrimary(ctx, func(ctx context.Context, n *node.Node, j journal.Journal) error {
		e.progressf("bench follow: writing %d records of %d bytes\n", f.records, f.size)
		if err := fill(ctx, n, f); err != nil {
			return err
		}
		rep, err := machine.NewReplica(blobs())
		if err != nil {
			return err
		}
		hist := hdrhistogram.New(100, int64(time.Minute), 3)
		commands := uint64(0)
		began := time.Now()
		last := began
		sink := replay.SinkFunc(func(_ context.Context, b *journal.Batch, records []journal.Record) error {
			_, err := rep.ApplyBatch(b, records)
			hist.RecordValue(int64(time.Since(last))) //nolint:errcheck // a minute is never reached
			last, commands = time.Now(), commands+commandsIn(records)
			return err
		})
		fo := replay.NewFollower(journal.NewReader(j, journal.ReaderConfig{}), sink, nil)
		defer fo.Close()
		if err := fo.RunTo(ctx, j, 0); err != nil {
			return err
		}
		r := e.benchOf("follow", j, f)
		r.Records, r.Seconds = commands, time.Since(began).Seconds()
		r.P50, r.P99, r.P999 = quantile(hist, 50), quantile(hist, 99), quantile(hist, 99.9)
		r.RecordsBatch = float64(commands) / float64(hist.TotalCount())
		return e.printBench(r)
	})
}

// commandsIn counts the commands among records.
func commandsIn(records []journal.Record) (n uint64) {
	for i := range records {
		if records[i].Kind == journal.KindCommand {
			n++
		}
	}
	return n
}

// fill writes the records that follow is measured with, in full batches.
func fill(ctx context.Context, n *node.Node, f benchFlags) error {
	data := make([]byte, f.size)
	const window = 16384
	free := make(chan node.Result, window)
	for range window {
		free <- node.Result{}
	}
	done := func(r node.Result) { free <- r }
	for i := range f.records + window {
		r := <-free
		if r.Status != node.Done {
			return fmt.Errorf("command %s: %w", r.Status, r.Err)
		}
		if i < f.records {
			n.SubmitAsync(node.Request{Kind: journal.KindCommand, Name: "put", Data: data}, done)
		}
	}
	return ctx.Err()
}

func (e *Env) printBench(r benchResult) error {
	r.PerSecond = float64(r.Records) / r.Seconds
	if e.Global.JSON {
		return json.NewEncoder(e.Stdout).Encode(r)
	}
	fmt.Fprintf(e.Stdout, "%s   %s   survives %s\n", r.What, r.Journal, r.Survives)
	fmt.Fprintf(e.Stdout, "  %.0f commands/s   %d commands of %d bytes in %.2fs   %d CPUs, %s\n", r.PerSecond, r.Records, r.SizeBytes, r.Seconds, r.CPUs, r.Go)
	of := "from one batch applied to the next"
	if r.Submitters > 0 {
		of = fmt.Sprintf("%d submitters, %d outstanding each", r.Submitters, r.Outstanding)
	}
	_, err := fmt.Fprintf(e.Stdout, "  p50 %.0fµs   p99 %.0fµs   p99.9 %.0fµs   %.1f commands a batch   %s\n", r.P50, r.P99, r.P999, r.RecordsBatch, of)
	return err
}
