package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"understudy.dev/journal"
	"understudy.dev/machine"
	"understudy.dev/replay"
)

func (e *Env) verifyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "verify", GroupID: groupReplay,
		Short: "Replay the whole journal into a fresh machine and check everything that it states",
		Long: "Replays the whole journal into a fresh machine and checks every checksum, the chain, the sequence, the epochs and\n" +
			"the digests that the journal states. It stops at the first fault and says where. Exit codes: 0 equal; 5 the machine\n" +
			"decided otherwise than the one that wrote the journal; 6 the journal is damaged.",
		Example: "  " + e.App.Name + " verify --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return e.verify(cmd.Context()) },
	}
}

// The results of verify.
const (
	resultEqual       = "equal"
	resultDiverged    = "diverged"
	resultDamaged     = "damaged"
	resultInterrupted = "interrupted"
	resultStopped     = "stopped" // the machine does not know a record, or panicked
)

// verifyResult is what verify prints.
type verifyResult struct {
	Result        string           `json:"result"`
	FromSeq       journal.Seq      `json:"from_seq"`
	ToSeq         journal.Seq      `json:"to_seq"`
	TailSeq       *journal.Seq     `json:"tail_seq"` // nil if it is not known
	Position      journal.Position `json:"position"`
	Records       uint64           `json:"records"`
	Batches       uint64           `json:"batches"`
	Epoch         journal.Epoch    `json:"epoch"`
	Epochs        uint64           `json:"epochs"`
	DeadBatches   uint64           `json:"dead_batches"`
	DeadRecords   uint64           `json:"dead_records"`
	VoidFences    uint64           `json:"void_fences"`
	Compared      uint64           `json:"checkpoints_compared"`
	NotCompared   uint64           `json:"checkpoints_not_compared"`
	AgreedSeq     journal.Seq      `json:"agreed_seq"`
	Digest        string           `json:"digest"`
	Seconds       float64          `json:"seconds"`
	RecordsPerSec float64          `json:"records_per_second"`
	Error         string           `json:"error,omitempty"`
}

// A verification is one run of the command.
type verification struct {
	*history
	follower *replay.Follower
	result   verifyResult
}

func (e *Env) verify(ctx context.Context) error {
	h, err := e.openHistory(ctx)
	if err != nil {
		return e.unopened(err)
	}
	defer h.close()
	bar := e.newProgress("verify", uint64(h.end.Seq))
	v := &verification{history: h}
	v.follower = replay.NewFollower(h.reader, replay.SinkFunc(func(_ context.Context, b *journal.Batch, records []journal.Record) error {
		_, err := h.replica.ApplyBatch(b, records)
		bar.at(uint64(h.replica.Seq()))
		return err
	}), nil)
	began := time.Now()
	err = v.run(ctx)
	bar.end()
	v.finish(err, time.Since(began).Seconds())
	if perr := e.printVerify(v, err); perr != nil {
		return perr
	}
	if err != nil && ctx.Err() != nil {
		return WithCode(exitInterrupted, errors.New("interrupted: what came after was not verified"))
	}
	if v.result.Result == resultStopped && harnessWrote(ctx, h.journal) {
		return WithHint(usagef("stopped after seq %d: a harness recorded this journal, no machine can replay it", h.replica.Seq()),
			"%s journal verify checks it; replay --sink print shows it", e.App.Name)
	}
	return e.foreign(err)
}

// unopened is for a journal that could not be opened; of one whose damage was
// found by opening it, that is the result.
func (e *Env) unopened(err error) error {
	if r := (verifyResult{Result: resultOf(err), Error: err.Error()}); r.Result == resultDamaged && e.Global.JSON {
		if jerr := json.NewEncoder(e.Stdout).Encode(r); jerr != nil {
			return jerr
		}
	}
	return err
}

// run takes in everything up to the end that the journal had when it was opened.
func (v *verification) run(ctx context.Context) error {
	r := &v.result
	for v.follower.Cursor().Pos < v.end.Pos {
		it, err := v.follower.Step(ctx)
		if err != nil {
			return err
		}
		switch it.Verdict {
		case journal.Live:
			r.Batches++
		case journal.Dead:
			r.DeadBatches++
			r.DeadRecords += uint64(it.Batch.Count)
		case journal.Opened:
			r.Epochs++
		case journal.Void:
			r.VoidFences++
		}
	}
	return v.damage
}

// finish fills in the result.
func (v *verification) finish(err error, seconds float64) {
	r, c, compared := &v.result, v.follower.Cursor(), v.replica.Compared()
	r.Result = resultOf(err)
	if err != nil {
		r.Error = err.Error()
	}
	r.ToSeq, r.Position, r.Epoch = v.replica.Seq(), c.Pos, c.Epoch
	if v.damage == nil {
		r.TailSeq = &v.end.Seq
	}
	r.FromSeq, r.Records = min(r.ToSeq, 1), uint64(r.ToSeq)
	r.Compared, r.NotCompared, r.AgreedSeq = compared.Equal, compared.Blind, compared.Agreed
	r.Digest = v.replica.Digest().Hash.String()
	r.Seconds, r.RecordsPerSec = seconds, float64(r.Records)/seconds
}

// resultOf is the word for how verify ended.
func resultOf(err error) string {
	var corrupt *journal.CorruptError
	var diverged *machine.DivergedError
	switch {
	case err == nil:
		return resultEqual
	case errors.As(err, &diverged):
		return resultDiverged
	case errors.As(err, &corrupt), errors.Is(err, journal.ErrLost):
		return resultDamaged
	case errors.Is(err, context.Canceled):
		return resultInterrupted
	}
	return resultStopped
}

func (e *Env) printVerify(v *verification, err error) error {
	r := &v.result
	if e.Global.JSON {
		return json.NewEncoder(e.Stdout).Encode(r)
	}
	w := e.Stdout
	fmt.Fprintf(w, "%s   %s   %s   %s agree", recordsTo(r.ToSeq), shortSeconds(r.Seconds), perSecond(r.RecordsPerSec), counted(r.Compared, "stated digest"))
	if r.NotCompared > 0 {
		fmt.Fprintf(w, ", %s not comparable", grouped(r.NotCompared))
	}
	fmt.Fprintf(w, "\n%s   %s   open epoch %d   position %s\n", counted(r.Batches, "batch"), counted(r.Epochs, "epoch"), r.Epoch, grouped(r.Position))
	if r.DeadBatches+r.VoidFences > 0 {
		fmt.Fprintf(w, "warn   passed over: %s of fenced primaries (%s, never answered), %s\n",
			counted(r.DeadBatches, "dead batch"), counted(r.DeadRecords, "record"), counted(r.VoidFences, "void fence"))
	}
	if err != nil {
		fmt.Fprintf(w, "%s   stopped after seq %s", r.Result, grouped(r.ToSeq))
		if r.TailSeq != nil {
			fmt.Fprintf(w, " of %s", grouped(*r.TailSeq))
		}
		fmt.Fprintln(w)
		return nil
	}
	fmt.Fprintf(w, "equal   checksums, chain, sequence, epochs and stated digests hold; digest %s\n", shortHash(r.Digest))
	if r.AgreedSeq < r.ToSeq {
		fmt.Fprintf(w, "        after seq %s the journal states no digest yet\n", grouped(r.AgreedSeq))
	}
	return nil
}
