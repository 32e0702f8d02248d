package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"understudy.dev/journal"
	"understudy.dev/journal/journalurl"
)

// journalVerified is what journal verify prints with --json.
type journalVerified struct {
	Result   string   `json:"result"` // sound, damaged, interrupted or stopped
	Journal  string   `json:"journal"`
	Entries  uint64   `json:"entries"`
	First    uint64   `json:"from_seq"` // the oldest record left; what was before it is pruned
	Records  uint64   `json:"records"`
	Fences   uint64   `json:"fences"`
	Dead     uint64   `json:"dead_batches"`
	Void     uint64   `json:"void_fences"`
	Digests  uint64   `json:"stated_digests"` // their values are not checked
	Seq      uint64   `json:"end_seq"`
	Position uint64   `json:"end_position"`
	Epoch    uint64   `json:"epoch"`
	Chain    string   `json:"chain"`
	LeftOut  int64    `json:"left_out_bytes"` // behind the end; they may have been acknowledged
	Notes    []string `json:"notes"`          // of what recoveries left out or set aside
	Seconds  float64  `json:"seconds"`
	Error    string   `json:"error,omitempty"`
}

func (e *Env) journalVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "verify", Short: "Check gaps, epochs, checksums and the chain of a journal; needs no machine",
		Long: "Reads the whole journal and checks every checksum, the chain, the numbering, the epochs, each record's form, and that\n" +
			"outcome digests are stated of the ends of earlier batches, one for each. Whether a digest is right needs the machine:\n" +
			"\"" + e.App.Name + " verify\" replays the journal and compares them. Exit 6 and the place if anything is damaged. The torn\n" +
			"end that a loss of power leaves is no damage: it is said, and that it may have been acknowledged, and the exit code is 0.",
		Example: "  " + e.App.Name + " journal verify --journal file:understudy-data",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opened := false
			err := e.withJournal(cmd.Context(), readOnly, func(j journal.Journal, end journal.End) error {
				opened = true
				return e.journalVerify(cmd.Context(), j, end)
			})
			if err != nil && !opened {
				return e.unopenedJournal(cmd.Context(), err)
			}
			return err
		},
	}
}

func (e *Env) journalVerify(ctx context.Context, j journal.Journal, end journal.End) error {
	began := time.Now()
	oldest, err := oldestSeq(ctx, j, end)
	if err != nil {
		return err
	}
	v := journalVerified{Result: "sound", Journal: journal.Describe(j).Location, First: uint64(oldest), Notes: tailNotes(j)}
	if r, ok := recoveredTail(j); ok {
		v.LeftOut = r.CutBytes
	}
	bar := e.newProgress("verify", uint64(end.Seq))
	var records []journal.Record
	var last journal.Cursor
	digests := statedDigests{unknown: oldest - 1}
	err = e.items(ctx, j, stretch{}, end, func(it *journal.Item) (bool, error) {
		switch it.Verdict {
		case journal.Live:
			var err error
			if records, err = it.Batch.Records(records[:0]); err != nil {
				return false, &journal.CorruptError{Source: v.Journal, Pos: it.Pos, Seq: it.Batch.First - 1, Offset: -1, Err: err}
			}
			if err := digests.take(&it.Batch); err != nil {
				return false, &journal.CorruptError{Source: v.Journal, Pos: it.Pos, Seq: it.Batch.First - 1, Offset: -1, Err: err}
			}
			v.Records += uint64(len(records))
			bar.at(v.Records)
		case journal.Dead:
			v.Dead++
		case journal.Opened:
			v.Fences++
		case journal.Void:
			v.Void++
		}
		v.Entries++
		last = it.Cursor
		return true, nil
	})
	bar.end()
	v.Seconds = time.Since(began).Seconds()
	v.Digests = digests.count
	v.Seq, v.Position, v.Epoch, v.Chain = uint64(last.Seq), uint64(last.Pos), uint64(last.Epoch), last.Chain.String()
	if err != nil {
		v.Result, v.Error = verifiedTo(ctx, err), err.Error()
	}
	if e.Global.JSON {
		if jerr := json.NewEncoder(e.Stdout).Encode(v); jerr != nil {
			return jerr
		}
		return err
	}
	rate := float64(v.Records) / v.Seconds
	epochs := counted(v.Fences, "epoch")
	if end.First > 0 { // what opened it may be gone
		epochs = fmt.Sprintf("open epoch %d", v.Epoch)
	}
	fmt.Fprintf(e.Stdout, "%s   %s, %s   %.2fs   %s/s   good up to position %d\n",
		recordsOf(v.First, v.Seq), grouped(v.Entries)+" entries", epochs, v.Seconds, grouped(uint64(rate)), v.Position)
	if v.First > 1 {
		fmt.Fprintf(e.Stdout, "pruned    records 1..%s are gone, and were not checked\n", grouped(v.First-1))
	}
	if v.Digests > 0 {
		fmt.Fprintf(e.Stdout, "stated    %s, whose values only a machine can check: %s verify\n", counted(v.Digests, "digest"), e.App.Name)
	}
	if v.Dead+v.Void > 0 {
		fmt.Fprintf(e.Stdout, "warning   %d dead batches and %d void fences, which every reader passes over\n", v.Dead, v.Void)
	}
	for _, n := range v.Notes {
		fmt.Fprintf(e.Stdout, "note      %s\n", n)
	}
	if err != nil {
		fmt.Fprintf(e.Stdout, "%-9s stopped after seq %s of %s\n", v.Result, grouped(v.Seq), grouped(uint64(end.Seq)))
		return err
	}
	fmt.Fprintf(e.Stdout, "sound     %schain %s\n", v.soundTo(), last.Chain.Short())
	return nil
}

// soundTo says how far a journal is sound where that is not all that lies in it:
// what was left out may have been acknowledged, and "sound" alone would hide it.
func (v *journalVerified) soundTo() string {
	if v.LeftOut == 0 {
		return ""
	}
	return fmt.Sprintf("up to seq %s; %s behind it left out, which may have been acknowledged   ", grouped(v.Seq), counted(int(v.LeftOut), "byte"))
}

// verifiedTo is the word for an error that ended journal verify: whatever is not
// damage says nothing about what lies behind.
func verifiedTo(ctx context.Context, err error) string {
	if exitCode(ctx, err) == exitInterrupted {
		return resultInterrupted
	}
	if r := resultOf(err); r == resultDamaged {
		return r
	}
	return resultStopped
}

// unopenedJournal is for a journal that could not be opened: if opening it found
// damage, that is the result of journal verify.
func (e *Env) unopenedJournal(ctx context.Context, err error) error {
	v := journalVerified{Result: verifiedTo(ctx, err), Journal: journalurl.Redact(e.Global.Journal), Notes: []string{}, Error: err.Error()}
	if v.Result != resultDamaged || !e.Global.JSON {
		return err
	}
	if jerr := json.NewEncoder(e.Stdout).Encode(v); jerr != nil {
		return jerr
	}
	return err
}
