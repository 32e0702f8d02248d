package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"understudy.dev/admin"
	"understudy.dev/journal"
	"understudy.dev/replay"
)

// replayFlags are the flags of replay.
type replayFlags struct {
	to    uint64
	speed speed
	sinkFlags
}

func (e *Env) replayCommand() *cobra.Command {
	var f replayFlags
	c := &cobra.Command{
		Use: "replay", GroupID: groupReplay,
		Short: "Drive a fresh machine through the journal",
		Long: "Drives a fresh machine through every live record of the journal, in order, by the code that a node runs; it writes\n" +
			"nothing. It prints how far it came and the digest over all outcomes.\n\n" +
			"With --sink it sends the records of any journal, a machine's or a harness's, to a program instead, each\n" +
			"acknowledged within --timeout before the next; docs/HARNESS.md describes the two protocols. Exit code 3 says that\n" +
			"the sink may have the last record or not.",
		Example: "  " + e.App.Name + " replay --to 100 --speed 10x\n" +
			"  " + e.App.Name + " replay --sink print --json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.sinkFlags.check(); err != nil {
				return err
			}
			if f.sink != "" {
				return e.replaySink(cmd.Context(), f.sinkFlags, f.to, f.speed)
			}
			return e.replay(cmd.Context(), f)
		},
	}
	f.sinkFlags.add(c)
	c.Flags().Uint64Var(&f.to, "to", 0, "stop after record `SEQ` (default the end that the journal has now)")
	c.Flags().Var(&f.speed, "speed", "max, or a multiple of the recorded pace such as 1x")
	return c
}

// replayResult is what replay prints.
type replayResult struct {
	FromSeq       journal.Seq   `json:"from_seq"`
	ToSeq         journal.Seq   `json:"to_seq"`
	Records       uint64        `json:"records"`
	Epoch         journal.Epoch `json:"epoch"`
	LastTime      admin.Time    `json:"last_time"`
	Digest        string        `json:"digest"`
	AtBatchEnd    bool          `json:"digest_at_batch_end"`
	Compared      uint64        `json:"digests_compared"`
	Seconds       float64       `json:"seconds"`
	RecordsPerSec float64       `json:"records_per_second"`
}

// A player is the sink of replay: the machine, at a pace.
type player struct {
	*history
	ctx   context.Context // ends the waiting
	pace  pacer
	bar   *progressBar
	whole bool // the last batch was applied to its end
}

// Apply implements replay.Sink.
func (p *player) Apply(_ context.Context, b *journal.Batch, records []journal.Record) error {
	if err := p.pace.wait(p.ctx, b.Time); err != nil {
		return err
	}
	if _, err := p.replica.ApplyBatch(b, records); err != nil {
		return err
	}
	p.bar.at(uint64(p.replica.Seq()))
	if n := len(records); n > 0 {
		p.whole = records[n-1].Time == b.End
	}
	return nil
}

func (e *Env) replay(ctx context.Context, f replayFlags) error {
	h, err := e.openHistory(ctx)
	if err != nil {
		return err
	}
	defer h.close()
	total := uint64(h.end.Seq)
	if f.to != 0 {
		total = f.to
	}
	p := &player{history: h, ctx: ctx, pace: pacer{speed: f.speed}, bar: e.newProgress("replay", total), whole: true}
	began := time.Now()
	fo := replay.NewFollower(h.reader, p, nil)
	err = h.runTo(ctx, fo, journal.Seq(f.to))
	p.bar.end()
	switch {
	case errors.Is(err, replay.ErrEnd):
		return usagef("--to %d: %v", f.to, err)
	case err != nil && harnessWrote(ctx, h.journal):
		return WithHint(usagef("stopped after seq %d: a harness recorded this journal, no machine can replay it", h.replica.Seq()),
			"--sink print shows it; %s journal verify checks it", e.App.Name)
	case err != nil:
		return e.foreign(fmt.Errorf("stopped after seq %d: %w", h.replica.Seq(), err))
	}
	return e.printReplay(p, fo.Cursor().Epoch, time.Since(began).Seconds())
}

func (e *Env) printReplay(p *player, epoch journal.Epoch, seconds float64) error {
	to := p.replica.Seq()
	r := replayResult{
		FromSeq: min(to, 1), ToSeq: to, Records: uint64(to), Epoch: epoch, Digest: p.replica.Digest().Hash.String(),
		AtBatchEnd: p.whole, Compared: p.replica.Compared().Equal, Seconds: seconds, RecordsPerSec: float64(to) / seconds,
	}
	if t := p.replica.Time(); t != 0 {
		r.LastTime = admin.At(t.UTC())
	}
	if e.Global.JSON {
		return json.NewEncoder(e.Stdout).Encode(r)
	}
	fmt.Fprintf(e.Stdout, "%s   %s   %s   %s\n", recordsTo(to), shortSeconds(seconds), perSecond(r.RecordsPerSec), counted(r.Compared, "stated digest")+" agree")
	if to > 0 {
		fmt.Fprintf(e.Stdout, "replayed to seq %s   epoch %d   %s\n", grouped(to), epoch, p.replica.Time())
	}
	fmt.Fprintf(e.Stdout, "digest %s", r.Digest)
	if !p.whole {
		fmt.Fprint(e.Stdout, "   inside a batch: compare it with replays to the same seq only")
	}
	fmt.Fprintln(e.Stdout)
	return nil
}
