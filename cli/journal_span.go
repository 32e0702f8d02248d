package cli

import (
	"context"
	"fmt"

	"understudy.dev/admin"
	"understudy.dev/journal"
)

// oldestSeq returns the first record that a journal still has: 1 unless it was
// pruned.
func oldestSeq(ctx context.Context, j journal.Journal, end journal.End) (journal.Seq, error) {
	if end.First == 0 {
		return 1, nil
	}
	c, err := journal.Locate(ctx, j, journal.Target{Seq: 1})
	if err != nil {
		return 0, fmt.Errorf("find the oldest record: %w", err)
	}
	return c.Seq + 1, nil
}

// pruned is the error about a record that is gone.
func pruned(seq, oldest journal.Seq) error {
	return WithHint(WithCode(admin.ExitNotDone, fmt.Errorf("record %d was pruned: the oldest left is %d", seq, oldest)),
		"an export or a copy that was made before the pruning has it")
}

// warnPruned says on the standard error that a stretch begins before what a
// journal still has.
func (e *Env) warnPruned(ctx context.Context, j journal.Journal, sp stretch, end journal.End) error {
	oldest, err := oldestSeq(ctx, j, end)
	if err != nil {
		return err
	}
	if oldest > 1 && sp.from.time == 0 && sp.from.seq < oldest {
		e.progressf("warning: the records before %d were pruned\n", oldest)
	}
	return nil
}

// recordsOf is "records 1..N", for people.
func recordsOf[N ~uint64](first, last N) string {
	if last < first {
		return "no records"
	}
	return fmt.Sprintf("records %s..%s", grouped(first), grouped(last))
}
