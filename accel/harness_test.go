package accel_test

import (
	"errors"
	"testing"

	"understudy.dev/accel"
	"understudy.dev/accel/cpu"
	"understudy.dev/harness"
	"understudy.dev/journal/memjournal"
)

// Recorded through a harness, a run is replayed by a player into a Replayer, and by
// the program itself.
func TestThroughHarness(t *testing.T) {
	j := memjournal.New()
	t.Cleanup(func() { j.Close() })
	open := func(mode harness.Mode, dev accel.Device) (*harness.Harness, *accel.Recorder) {
		t.Helper()
		h, err := harness.New(t.Context(), j, harness.Config{Mode: mode, Pin: dev.Environment().Pin()})
		if err != nil {
			t.Fatal(err)
		}
		r, err := accel.NewRecorder(dev, h, accel.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return h, r
	}
	h, dev := open(harness.Record, cpu.New())
	job(t, dev, 7, func() {})
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}

	sink, err := accel.NewReplayer(cpu.New(), accel.ReplayConfig{})
	if err != nil {
		t.Fatal(err)
	}
	player, err := harness.NewPlayer(j, sink, harness.ReplayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := player.Run(t.Context()); err != nil || sink.Report().Commands != jobCommands {
		t.Errorf("Run = %v after %+v, want %d commands", err, sink.Report(), jobCommands)
	}

	h, dev = open(harness.Replay, cpu.New())
	job(t, dev, 7, func() {})
	if err := h.Close(); err != nil {
		t.Errorf("the same job again: %v", err)
	}

	_, dev = open(harness.Replay, cpu.New())
	for range 4 {
		if _, err := dev.Alloc(4 * 64); err != nil {
			var d *harness.Difference
			if !errors.As(err, &d) {
				t.Fatal(err)
			}
			// The fourth buffer of the job has one word.
			if e := accel.Explain(d); e == nil || e.Number != 5 || e.What != "bytes" || e.Want != "4" || e.Got != "256" {
				t.Errorf("Explain = %v, want record 5, bytes, recorded 4, got 256", e)
			}
			return
		}
	}
	t.Error("another size was not noticed")
}

func TestHarnessRefusesAnotherDevice(t *testing.T) {
	j := memjournal.New()
	t.Cleanup(func() { j.Close() })
	env := cpu.New().Environment()
	h, err := harness.New(t.Context(), j, harness.Config{Mode: harness.Record, Pin: env.Pin()})
	if err == nil {
		_, err = accel.NewRecorder(cpu.New(), h, accel.Config{})
	}
	if err = errors.Join(err, h.Close()); err != nil {
		t.Fatal(err)
	}
	env.Driver = "another"
	_, err = harness.New(t.Context(), j, harness.Config{Mode: harness.Replay, Pin: env.Pin()})
	var pin *harness.PinError
	if !errors.As(err, &pin) {
		t.Errorf("New = %v, want a refusal", err)
	}
}
