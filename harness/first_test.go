package harness_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"understudy.dev/harness"
	"understudy.dev/journal/journalurl"
)

// job is recorded with harness.Record and, run again with harness.Replay, gets
// the same inputs and is told what it does differently.
func job(ctx context.Context, mode harness.Mode, base, id string) error {
	url, err := harness.JournalURL(base, id)
	if err != nil {
		return err
	}
	j, err := journalurl.Open(ctx, url, journalurl.Options{Create: mode == harness.Record, ReadOnly: mode == harness.Replay})
	if err != nil {
		return err
	}
	defer j.Close()
	h, err := harness.New(ctx, j, harness.Config{Mode: mode, Name: "trainer"})
	if err != nil {
		return err
	}
	seed, err1 := h.RNGSeed("shuffle", rand.Uint64()) // journaled, then returned; in Replay the recorded one
	size, err2 := h.BatchSize("loader", 32)
	rate, err3 := harness.ValueOf(h, "rate", 0.1) // any other input of the world
	err4 := h.DeviceCmd("alloc", []byte("64 KiB"))
	err5 := h.KernelCmd("sgemm", fmt.Append(nil, size, rate))
	err6 := h.Output("weights", fmt.Append(nil, seed)) // compared in Replay
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return errors.Join(err, h.Abort(err)) // the run is recorded as cut short, not as whole
	}
	return h.Close()
}

func Example_journalURL() {
	dir, err := os.MkdirTemp("", "runs")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	fmt.Println("record:", job(context.Background(), harness.Record, "file:"+dir, "job1"))
	fmt.Println("replay:", job(context.Background(), harness.Replay, "file:"+dir, "job1"))
	// Output:
	// record: <nil>
	// replay: <nil>
}
