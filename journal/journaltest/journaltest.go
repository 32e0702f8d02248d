// Package journaltest checks that a backend keeps the contract of
// journal.Journal, and helps to test what is built on journals.
//
//   - [Run] is the conformance suite: a backend's test is one call to it.
//   - [Bench] holds the benchmarks that all backends share.
//   - [Faulty] wraps a journal and refuses, loses, delays or stalls calls.
//   - [Pen], [Batch] and [Write] fill journals without a journal.Writer.
//
// # What the suite cannot check
//
// Whether an acknowledgement survives a crash of the machine, what happens when
// the store is full, broken or damaged, and that only durable entries are
// followed: each backend tests those with its own faults.
package journaltest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"understudy.dev/journal"
)

// Config says how to make the journals that Run checks.
type Config struct {
	// Open returns a handle on a new, empty journal. It is called at least once
	// for each case and may be called many times by one. It registers its
	// cleanup with tb and ends the test if it cannot open one. Required.
	Open func(tb testing.TB) journal.Journal

	// Reopen returns another handle on the entries of j, as another process
	// would have while j is open, or a restarted one after j was closed. It
	// registers its cleanup with tb. If nil, the cases about it are skipped.
	Reopen func(tb testing.TB, j journal.Journal) journal.Journal

	// Bubble runs each case in a bubble of testing/synctest, where time is not
	// real: for backends that wait on channels and timers only. How soon a
	// heartbeat comes and a Follow ends is then checked too; otherwise only
	// that it does.
	Bubble bool

	// Wait is how long a case waits for what must happen. 0 means 30 s, enough
	// for a loaded machine; it passes in full only when a case fails.
	Wait time.Duration

	// Steps is the length of the random comparison with memjournal. 0 means 150.
	Steps int

	// Seed makes the random comparison repeatable. 0 means a new one, printed.
	Seed uint64
}

const (
	defaultWait  = 30 * time.Second
	defaultSteps = 150
)

// Run checks that the journals made by cfg.Open keep the contract of
// journal.Journal and of the optional abilities they have. A failure quotes the
// broken clause.
func Run(t *testing.T, cfg Config) {
	for _, c := range scenarios() {
		t.Run(c.name, func(t *testing.T) {
			if cfg.Bubble {
				synctest.Test(t, func(t *testing.T) { c.run(t, cfg) })
			} else {
				c.run(t, cfg)
			}
		})
	}
}

// A scenario checks one clause of the contract. It returns an error rather than
// calling tb.Fatal so that this package's own test can hold it against journals
// that are broken on purpose.
type scenario struct {
	name   string
	clause string // quoted from the comments in package journal
	check  func(context.Context, *scene) error
}

func scenarios() []scenario {
	return slices.Concat(appendScenarios, fenceScenarios, followScenarios, closeScenarios, endScenarios, trimScenarios, importScenarios, modelScenarios)
}

func (c scenario) run(tb testing.TB, cfg Config) {
	tb.Helper()
	err := c.try(tb, cfg)
	switch {
	case errors.Is(err, errSkip):
		tb.Skip(err)
	case err != nil:
		tb.Errorf("%v\ncontract: %s", err, c.clause)
	}
}

// try runs the scenario on a new journal and returns what was wrong.
func (c scenario) try(tb testing.TB, cfg Config) error {
	if cfg.Wait == 0 {
		cfg.Wait = defaultWait
	}
	if cfg.Steps == 0 {
		cfg.Steps = defaultSteps
	}
	if cfg.Seed == 0 {
		cfg.Seed = rand.Uint64()
	}
	ctx, stop := context.WithTimeout(tb.Context(), cfg.Wait)
	defer stop()
	return c.check(ctx, &scene{tb: tb, cfg: cfg, j: cfg.Open(tb)})
}

// errSkip is returned by a scenario that does not apply to a journal.
var errSkip = errors.New("does not apply")

// A scene is what a scenario plays on.
type scene struct {
	tb  testing.TB
	cfg Config
	j   journal.Journal // empty at first
}

// another returns another handle on the entries of s.j, or errSkip.
func (s *scene) another() (journal.Journal, error) {
	if s.cfg.Reopen == nil {
		return nil, fmt.Errorf("no other handle can be opened: %w", errSkip)
	}
	return s.cfg.Reopen(s.tb, s.j), nil
}

// handles returns s.j and n-1 others, or n times s.j if there are no others.
func (s *scene) handles(n int) []journal.Journal {
	all := []journal.Journal{s.j}
	for len(all) < n {
		h, err := s.another()
		if err != nil {
			h = s.j
		}
		all = append(all, h)
	}
	return all
}

// wantError checks that a refused call failed with want, and so that nobody
// doubts that it wrote nothing.
func wantError(call string, err, want error) error {
	if !errors.Is(err, want) {
		return fmt.Errorf("%s: err = %v, want %v", call, err, want)
	}
	if got := journal.OutcomeOf(err); got != journal.NotDone {
		return fmt.Errorf("%s: outcome of %q is %v, want %v", call, err, got, journal.NotDone)
	}
	return nil
}
