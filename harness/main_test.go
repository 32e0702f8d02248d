package harness_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"understudy.dev/harness"
	"understudy.dev/internal/natsserver"
	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/memjournal"
	"understudy.dev/journal/natsjournal"
	"understudy.dev/journal/sqlitejournal"
)

// childPlace names a journal for a child process that records until it is killed.
const childPlace = "HARNESS_TEST_CHILD"

func TestMain(m *testing.M) {
	if place := os.Getenv(childPlace); place != "" {
		recordUntilKilled(place)
	}
	goleak.VerifyTestMain(m)
}

// A backend opens journals for the tests that must hold on every backend.
type backend struct {
	name string
	// fresh returns a function that opens a handle on one new journal, as another
	// process would, each time it is called; the handle is closed with the test.
	// place is for a child process; "" if it cannot reach it.
	fresh func(t testing.TB) (open func() journal.Journal, place string)
}

var backends = []backend{
	{name: "memory", fresh: func(testing.TB) (func() journal.Journal, string) {
		first := memjournal.New()
		return func() journal.Journal { return first.Handle() }, ""
	}},
	{name: "file", fresh: func(t testing.TB) (func() journal.Journal, string) {
		place := "file:" + t.TempDir() + "/journal"
		return func() journal.Journal { return opened(t, place) }, place
	}},
	{name: "sqlite", fresh: func(t testing.TB) (func() journal.Journal, string) {
		place := "sqlite:" + t.TempDir() + "/runs.db"
		return func() journal.Journal { return opened(t, place) }, place
	}},
	{name: "nats", fresh: func(t testing.TB) (func() journal.Journal, string) {
		if testing.Short() {
			t.Skip("starts a server")
		}
		srv, err := natsserver.Start(t.Context(), natsserver.Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			srv.Shutdown()
			srv.WaitForShutdown()
		})
		place := srv.ClientURL()
		return func() journal.Journal { return opened(t, place) }, place
	}},
}

// openPlace opens the journal at a place as a child process is told it.
func openPlace(place string) (journal.Journal, error) {
	if dir, ok := strings.CutPrefix(place, "file:"); ok {
		return filejournal.Open(dir, filejournal.Config{})
	}
	if path, ok := strings.CutPrefix(place, "sqlite:"); ok {
		return sqlitejournal.Open(context.Background(), path, sqlitejournal.Config{Name: "run", Create: true})
	}
	return natsjournal.Open(context.Background(), natsjournal.Config{URL: place, Stream: "RUNS", Create: true})
}

func opened(t testing.TB, place string) journal.Journal {
	t.Helper()
	j, err := openPlace(place)
	if err != nil {
		t.Fatalf("open %s: %v", place, err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

// onEach runs a test on every backend. It closes what open returned.
func onEach(t *testing.T, test func(t *testing.T, open func() journal.Journal, place string)) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			open, place := b.fresh(t)
			test(t, open, place)
		})
	}
}

// start makes a harness that is closed with the test if it was not before.
func start(t testing.TB, j journal.Journal, cfg harness.Config) *harness.Harness {
	t.Helper()
	h, err := harness.New(t.Context(), j, cfg)
	if err != nil {
		t.Fatalf("New(%v) = %v", cfg.Mode, err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// program is what the tests record: it depends on nothing but its inputs, which
// it draws through r. fresh is what the world brings this time. It stops at the
// first error. changed plants another command at that step; 0 plants none.
func program(r harness.Recorder, steps int, fresh uint64, changed int) error {
	for i := range steps {
		seed, err := r.RNGSeed("shuffle", fresh+uint64(i))
		if err != nil {
			return err
		}
		size, err := r.BatchSize("loader", int(fresh%7)+i)
		if err != nil {
			return err
		}
		clock, err := r.Value("clock", fmt.Appendf(nil, "%d", fresh*uint64(i)))
		if err != nil {
			return err
		}
		if err := r.DeviceCmd("alloc", fmt.Appendf(nil, "%d", size)); err != nil {
			return err
		}
		kernel := "saxpy"
		if changed == i+1 {
			kernel = "sgemm"
		}
		if err := r.KernelCmd(kernel, clock); err != nil {
			return err
		}
		if err := r.Output("loss", fmt.Appendf(nil, "%x", seed*uint64(size))); err != nil {
			return err
		}
	}
	return nil
}

// perStep is how many entries a step of program records.
const perStep = 6

// recordUntilKilled is the child: it records program step after step and says on
// its standard output which step is stored.
func recordUntilKilled(place string) {
	err := func() error {
		j, err := openPlace(place)
		if err != nil {
			return err
		}
		h, err := harness.New(context.Background(), j, harness.Config{Mode: harness.Record, Name: "child"})
		if err != nil {
			return err
		}
		for i := 1; ; i++ {
			if err := program(h, 1, 42, 0); err != nil {
				return err
			}
			fmt.Println(i)
		}
	}()
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
