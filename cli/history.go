package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"understudy.dev/admin"
	"understudy.dev/journal"
	"understudy.dev/journal/journalurl"
	"understudy.dev/machine"
)

// A history is a journal opened to be driven through a fresh machine.
type history struct {
	journal journal.Journal
	reader  *journal.Reader
	replica *machine.Replica
	end     journal.End // when it was opened
}

// openHistory opens the journal of the flags for reading.
func (e *Env) openHistory(ctx context.Context) (*history, error) {
	j, err := e.openJournal(ctx, 30*time.Second, journalurl.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	h := &history{journal: j}
	if h.end, err = journal.SampleEnd(ctx, j); err == nil {
		h.replica, err = machine.NewReplica(e.App.Machine)
	}
	if err != nil {
		j.Close()
		return nil, err
	}
	h.reader = journal.NewReader(j, journal.ReaderConfig{Source: journal.Describe(j).Location, OnRetry: e.sayRetry})
	return h, nil
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
