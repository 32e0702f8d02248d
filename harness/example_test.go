package harness_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"understudy.dev/harness"
	"understudy.dev/journal/memjournal"
)

// train is a program: it asks for everything random and tells what it does.
func train(r harness.Recorder, fresh uint64) error {
	seed, err := r.RNGSeed("shuffle", fresh)
	if err != nil {
		return err
	}
	size, err := r.BatchSize("loader", 32)
	if err != nil {
		return err
	}
	if err := r.DeviceCmd("alloc", fmt.Appendf(nil, "%d", size)); err != nil {
		return err
	}
	if err := r.KernelCmd("sgemm", nil); err != nil {
		return err
	}
	return r.Output("weights", fmt.Appendf(nil, "%016x", seed*uint64(size)))
}

// A run is recorded, and then done again with the recorded inputs: another seed
// from the world changes nothing.
func Example() {
	ctx := context.Background()
	j := memjournal.New() // or one opened by URL
	h, err := harness.New(ctx, j, harness.Config{Mode: harness.Record})
	if err != nil {
		log.Fatal(err)
	}
	if err := errors.Join(train(h, 7), h.Close()); err != nil {
		log.Fatal(err)
	}

	h, err = harness.New(ctx, j, harness.Config{Mode: harness.Replay})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("replay:", train(h, 1234), h.Close())
	for e, err := range harness.Read(ctx, j, harness.Range{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(&e)
	}
	// Output:
	// replay: <nil> <nil>
	// 1 "shuffle" seed 7
	// 2 "loader" batch size 32
	// 3 - device "alloc" "32" (2 bytes)
	// 4 - kernel "sgemm" (0 bytes)
	// 5 - output "weights" "00000000000000e0" (16 bytes)
}

// Two runs are compared path by path, and the first difference is named.
func ExampleDiff() {
	ctx := context.Background()
	record := func(seed uint64) *memjournal.Journal {
		j := memjournal.New()
		h, err := harness.New(ctx, j, harness.Config{Mode: harness.Record})
		if err != nil {
			log.Fatal(err)
		}
		if err := errors.Join(h.DeviceCmd("alloc", []byte("32")), train(h.Actor("gpu0"), seed), h.Close()); err != nil {
			log.Fatal(err)
		}
		return j
	}
	d, err := harness.Diff(ctx, record(7), record(8), harness.DiffOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(d.Report())
	// Output:
	// difference at record 2, path "gpu0/shuffle": expected seed 7, got seed 8
	//   expected  2 "gpu0/shuffle" seed 7
	//   got       2 "gpu0/shuffle" seed 8
}

// A recorded run is sent to a function, each entry acknowledged before the next.
func ExampleHarness_Replay() {
	ctx := context.Background()
	h, err := harness.New(ctx, nil, harness.Config{Mode: harness.Record})
	if err != nil {
		log.Fatal(err)
	}
	defer h.Close()
	for _, name := range []string{"alloc", "copy in", "launch", "free"} {
		if err := h.DeviceCmd(name, nil); err != nil {
			log.Fatal(err)
		}
	}
	full := errors.New("disk is full")
	err = h.Replay(ctx, harness.SinkFunc(func(_ context.Context, e *harness.Entry) error {
		if e.Number == 3 {
			return full
		}
		fmt.Println(e.Number, e.Name)
		return nil
	}), harness.ReplayOptions{})
	fmt.Println(err)
	// Output:
	// 1 alloc
	// 2 copy in
	// harness: sink at record 3: disk is full
}

// Any input of the world can be recorded as a value of its own type.
func ExampleValueOf() {
	h, err := harness.New(context.Background(), nil, harness.Config{Mode: harness.Record})
	if err != nil {
		log.Fatal(err)
	}
	defer h.Close()
	rate, err := harness.ValueOf(h, "learning rate", 0.1)
	fmt.Println(rate, err)
	// Output: 0.1 <nil>
}

func ExampleJournalURL() {
	fmt.Println(harness.JournalURL("nats://localhost:4222/RUNS", "trainer.2026"))
	// Output: nats://localhost:4222/RUNS_trainer_2E2026 <nil>
}
