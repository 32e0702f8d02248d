package cli

import (
	"context"
	"errors"
	"fmt"

	"understudy.dev/harness"
	"understudy.dev/journal"
)

// useID makes --journal the journal of a persistence id beside it; "" leaves it.
func (e *Env) useID(id string) error {
	if id == "" {
		return nil
	}
	u, err := harness.JournalURL(e.Global.Journal, id)
	if err != nil {
		return usagef("--id %s: %v", inOneLine(id), err)
	}
	e.Global.Journal = u
	return nil
}

// notHarness makes an error about a machine's journal one of usage.
func (e *Env) notHarness(err error) error {
	if !errors.Is(err, harness.ErrForeign) {
		return err
	}
	return WithHint(usagef("%w", err), "this is for the journals of harnesses; of a machine's, %s verify and %s journal cat tell", e.App.Name, e.App.Name)
}

// harnessWrote reports whether the first record of j is one of a harness.
func harnessWrote(ctx context.Context, j journal.Journal) bool {
	for _, err := range harness.Read(ctx, j, harness.Range{To: 1}) {
		return err == nil
	}
	return false
}

// rangeOf checks a part of the numbers.
func rangeOf(from, to uint64) (harness.Range, error) {
	if to != 0 && to < from {
		return harness.Range{}, usagef("from %d to %d is nothing", from, to)
	}
	return harness.Range{From: from, To: to}, nil
}

// parseKinds parses the words of --kind.
func parseKinds(words []string) ([]journal.Kind, error) {
	var kinds []journal.Kind
	for _, s := range words {
		k, err := journal.ParseKind(s)
		if err != nil {
			return nil, usagef("--kind: %v", err)
		}
		kinds = append(kinds, k)
	}
	return kinds, nil
}

// pathWord is how an actor's path is shown; the program itself is "-".
func pathWord(path string) string {
	if path == "" {
		return "-"
	}
	return fmt.Sprintf("%q", path)
}
