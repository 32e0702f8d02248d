package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"

	"understudy.dev/accel"
	"understudy.dev/accel/cpu"
	"understudy.dev/harness"
	"understudy.dev/journal"
	"understudy.dev/journal/journalurl"
	"understudy.dev/journal/memjournal"
)

// The exit codes.
const (
	exitDone       = 0
	exitFailed     = 1
	exitUsage      = 2
	exitDifference = 5
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the flags.
type options struct {
	journal, id, svg string
	mode             harness.Mode
	plant            plant
	epochs, points   int
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("trainer", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: trainer [flags]\ntrains on two spirals; records the run, or replays the last one")
		flags.PrintDefaults()
		fmt.Fprintln(stderr, "example: trainer --mode record && trainer --mode replay --plant bit --svg loss.svg")
	}
	mode := flags.String("mode", "record", "off, record or replay")
	flags.StringVar(&o.journal, "journal", "file:trainer-data", "URL that the journals of all ids share")
	flags.StringVar(&o.id, "id", "trainer", "persistence id of the run")
	flags.StringVar(&o.svg, "svg", "", "write a picture of the losses to `FILE`; a replay then goes on after a difference")
	flags.IntVar(&o.epochs, "epochs", 60, "passes over the data; in a replay as many as were recorded")
	flags.IntVar(&o.points, "points", 400, "points in the data; in a replay as many as were recorded")
	flags.StringVar(&o.plant.kind, "plant", "", "make a difference in a replay: seed, batch or bit")
	flags.IntVar(&o.plant.epoch, "plant-epoch", 2, "the epoch to make it in")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.mode, err = harness.ParseMode(*mode); err == nil {
		err = o.check(flags.Args())
	}
	if err != nil {
		fmt.Fprintf(stderr, "trainer: %v\n", err)
	}
	return o, err
}

func (o *options) check(rest []string) error {
	faults := []error{o.plant.check(o.epochs)}
	if len(rest) > 0 {
		faults = append(faults, fmt.Errorf("unexpected %q", rest))
	}
	if o.epochs < 1 || o.points < 2 {
		faults = append(faults, fmt.Errorf("%d epochs of %d points", o.epochs, o.points))
	}
	if o.plant.kind != plantNone && o.mode != harness.Replay {
		faults = append(faults, fmt.Errorf("--plant goes with --mode replay"))
	}
	return errors.Join(faults...)
}

// run is the program without its process.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitDone
	}
	if err != nil {
		return exitUsage
	}
	drawn, err := o.run(ctx, stdout)
	var difference *harness.Difference
	switch {
	case errors.As(err, &difference):
		fmt.Fprint(stderr, difference.Report())
		if drawn != nil {
			fmt.Fprintf(stderr, "trainer: %v\n", drawn)
		}
		return exitDifference
	case err != nil || drawn != nil:
		fmt.Fprintf(stderr, "trainer: %v\n", errors.Join(err, drawn))
		return exitFailed
	}
	return exitDone
}

// open opens the journal of the run; one in memory if nothing is recorded.
func (o *options) open(ctx context.Context) (journal.Journal, error) {
	if o.mode == harness.Off {
		return memjournal.New(), nil
	}
	url, err := harness.JournalURL(o.journal, o.id)
	if err != nil {
		return nil, err
	}
	return journalurl.Open(ctx, url, journalurl.Options{Create: o.mode == harness.Record, ReadOnly: o.mode == harness.Replay})
}

// run opens the journal, trains, and draws. A difference is returned as an error;
// drawn is why there is no picture, which is not the run's fault.
func (o *options) run(ctx context.Context, out io.Writer) (drawn, err error) {
	j, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	dev := cpu.New()
	cfg := harness.Config{Mode: o.mode, Name: "trainer", Async: true, Pin: dev.Environment().Pin()}
	if o.mode == harness.Replay {
		if cfg.Part, err = lastRun(ctx, j); err != nil {
			return nil, err
		}
	}
	h, err := harness.New(ctx, j, cfg)
	if err != nil {
		return nil, err
	}
	c := &chart{}
	if o.mode == harness.Replay && o.svg != "" {
		if c.recorded, err = recordedLosses(ctx, j, cfg.Part); err != nil {
			return nil, errors.Join(err, h.Close())
		}
	}
	err = o.train(ctx, h, dev, c, out)
	if ended := end(h, err); err == nil {
		err = ended
	}
	if o.svg != "" {
		drawn = os.WriteFile(o.svg, c.svg(), 0o644)
	}
	return drawn, err
}

// end ends the run as it went: one that stopped for an error or an interrupt is
// not whole, and its replay must not take it as that. An end of the program that
// is not recorded is a difference, too.
func end(h *harness.Harness, err error) error {
	if err != nil {
		return h.Abort(err)
	}
	return h.Close()
}

// lastRun returns the numbers of the newest run that recorded anything.
func lastRun(ctx context.Context, j journal.Journal) (harness.Range, error) {
	runs, err := harness.Runs(ctx, j)
	if err != nil {
		return harness.Range{}, err
	}
	for i := len(runs) - 1; i >= 0; i-- {
		if r := runs[i]; r.First <= r.Last && r.First > 0 {
			return harness.Range{From: r.First, To: r.Last}, nil
		}
	}
	return harness.Range{}, errors.New("replay: nothing is recorded under this id")
}

// recordedLosses returns what was recorded as output, step by step.
func recordedLosses(ctx context.Context, j journal.Journal, part harness.Range) ([]float32, error) {
	var losses []float32
	for e, err := range harness.Read(ctx, j, part) {
		if err != nil {
			return nil, err
		}
		if e.Kind == journal.KindOutput && e.Name == "loss" && len(e.Data) == 4 {
			losses = append(losses, float(e.Data))
		}
	}
	return losses, nil
}

// keep is the size of outputs that are recorded with their contents: the losses, the
// logits of a batch and the biases. All others have digests.
const keep = 4 * maxBatch * classes

// train does the run and says how it ended.
func (o *options) train(ctx context.Context, h *harness.Harness, dev accel.Device, c *chart, out io.Writer) error {
	w := &witness{Recorder: h}
	if o.svg != "" && o.mode == harness.Replay {
		w.leave = func() error {
			c.parted, c.reason = len(c.replayed), reasonOf(w.found)
			return h.SetMode(ctx, harness.Off)
		}
	}
	recorder, err := accel.NewRecorder(dev, w, accel.Config{Keep: keep})
	if err != nil {
		return err
	}
	t := &trainer{
		world: w, dev: recorder, raw: dev, plant: o.plant, epochs: o.epochs, count: o.points, out: out,
		flush:  func() error { return h.Flush(ctx) },
		onStep: c.add,
	}
	_, err = t.train()
	var difference *harness.Difference
	switch {
	case w.found != nil:
		difference = w.found
	case errors.Is(err, harness.ErrPastEnd):
		fmt.Fprintf(out, "replayed to the end of the record, which was cut short: %v\n", err)
		return nil
	case !errors.As(err, &difference):
		return err
	}
	fmt.Fprintf(out, "parts from the record at %s\n", reasonOf(difference))
	return difference
}

// reasonOf says on one line where two runs part, in the device's words if it was a
// command to it.
func reasonOf(d *harness.Difference) string {
	if e := accel.Explain(d); e != nil {
		return e.Error()
	}
	return d.Error()
}

// add is told of each loss of this run.
func (c *chart) add(v float32) {
	if !math.IsNaN(float64(v)) {
		c.replayed = append(c.replayed, v)
	}
}
