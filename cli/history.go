package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"understudy.dev/admin"
	"understudy.dev/journal"
	"understudy.dev/journal/journalurl"
	"understudy.dev/machine"
	"understudy.dev/replay"
)

// A history is a journal opened to be driven through a fresh machine.
type history struct {
	journal journal.Journal
	reader  *journal.Reader
	replica *machine.Replica
	end     journal.End // when it was opened
	damage  error       // why only end.Pos is known of it: what lies there is damaged
}

// openHistory opens the journal of the flags for reading.
func (e *Env) openHistory(ctx context.Context) (*history, error) {
	j, err := e.openJournal(ctx, 30*time.Second, journalurl.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	e.warnRecovered(j)
	h := &history{journal: j}
	if h.end, h.damage, err = sampleEnd(ctx, j); err == nil {
		h.replica, err = machine.NewReplica(e.App.Machine)
	}
	if err != nil {
		j.Close()
		return nil, err
	}
	h.reader = journal.NewReader(j, journal.ReaderConfig{Source: journal.Describe(j).Location, OnRetry: e.sayRetry})
	return h, nil
}

// sampleEnd samples the end of a journal that is to be read. Where the sample itself
// met damage, that need not be the first: then the end's position is known and its
// Seq is not, and reading up to there tells what is good.
func sampleEnd(ctx context.Context, j journal.Journal) (end journal.End, damage, err error) {
	end, err = journal.SampleEnd(ctx, j)
	var corrupt *journal.CorruptError
	if errors.As(err, &corrupt) && corrupt.Pos > 0 {
		return journal.End{Pos: corrupt.Pos}, err, nil
	}
	return end, nil, err
}

// runTo drives the machine up to and including Seq to, or to the end if that is 0.
func (h *history) runTo(ctx context.Context, fo *replay.Follower, to journal.Seq) error {
	if h.damage == nil {
		return fo.RunTo(ctx, h.journal, to)
	}
	err := fo.RunTo(ctx, endless{h.journal, h.end.Pos}, to)
	if err == nil && (to == 0 || h.replica.Seq() < to) {
		return h.damage
	}
	return err
}

// endless is a journal whose last Seq is not known.
type endless struct {
	journal.Journal
	pos journal.Position
}

// End implements journal.Ender.
func (e endless) End(context.Context) (journal.End, error) {
	return journal.End{Pos: e.pos, Seq: math.MaxUint64, When: time.Now()}, nil
}

// sayRetry says that reading was interrupted and goes on.
func (e *Env) sayRetry(err error, attempt int, _ time.Duration) {
	if err != nil && attempt > 1 {
		e.progressf("reading the journal again: %v\n", err)
	}
}

func (h *history) close() {
	h.reader.Close()
	h.journal.Close()
}

// foreign makes an error about another machine's journal one of usage.
func (e *Env) foreign(err error) error {
	if !errors.Is(err, machine.ErrUnknownCommand) {
		return err
	}
	return WithHint(WithCode(admin.ExitUsage, err), "this is the binary of machine %s, version %d: use the one that wrote the journal, or a newer one",
		e.App.Machine.Name, e.App.Machine.Version)
}

// recordsTo is "records 1..N", for people.
func recordsTo(to journal.Seq) string {
	if to == 0 {
		return "no records"
	}
	return fmt.Sprintf("records 1..%s", grouped(to))
}
