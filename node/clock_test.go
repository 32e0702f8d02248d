package node_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/memjournal"
	"understudy.dev/node"
)

// stampedAt returns a store with one record of an old primary, stamped so far ahead.
func stampedAt(t *testing.T, ahead time.Duration) *memjournal.Journal {
	t.Helper()
	store := memjournal.New()
	if _, err := store.Fence(t.Context(), 1, "old/1"); err != nil {
		t.Fatal(err)
	}
	r := journal.NewReader(store, journal.ReaderConfig{})
	defer r.Close()
	var it journal.Item
	if err := r.Next(t.Context(), &it); err != nil {
		t.Fatal(err)
	}
	w := journal.NewWriter(store, it.Cursor, journal.WriterConfig{})
	b := w.NewBuilder()
	cmd := put(1)
	if err := b.Add(&journal.Record{Kind: cmd.Kind, Name: cmd.Name, Data: cmd.Data, Time: journal.TimeOf(time.Now().Add(ahead))}); err != nil {
		t.Fatal(err)
	}
	if err := w.Append(t.Context(), b, journal.Digest{}); err != nil {
		t.Fatal(err)
	}
	return store
}

// RULES 19: a log whose newest record is ahead of the clock is a warning of a
// promotion, refuses nothing, and is in its report; times go on increasing.
func TestLogAheadOfTheClock(t *testing.T) {
	tests := []struct {
		name  string
		ahead time.Duration
		warns bool
	}{
		{"behind", -time.Hour, false},
		{"as far as clocks differ", time.Second, false},
		{"an hour ahead", time.Hour, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := stampedAt(t, tt.ahead)
				a := join(t, store.Handle(), "a", nil)
				warned := func(list []node.Check) bool {
					return slices.ContainsFunc(list, func(c node.Check) bool { return c.ID == "clock" && c.Verdict == node.Warn })
				}
				if got := warned(a.Checks(t.Context())); got != tt.warns {
					t.Errorf("checks warn: %v, want %v", got, tt.warns)
				}
				if got := warned(a.lead(t).Checks); got != tt.warns {
					t.Errorf("the report warns: %v, want %v", got, tt.warns)
				}
				before := a.Progress().Time
				a.submit(t, put(2), node.Done)
				if after := a.Progress().Time; after <= before || tt.warns && after > before+10 {
					t.Errorf("time went from %v to %v", before, after)
				}
			})
		})
	}
}
