package accel_test

import (
	"errors"
	"strings"
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

// A program that replays itself elsewhere goes on if only the host differs, and is
// otherwise refused in words, also if its harness pins nothing.
func TestReplayOfItselfElsewhere(t *testing.T) {
	tests := []struct {
		name   string
		change func(*accel.Environment)
		want   string
	}{
		{name: "another host", change: func(e *accel.Environment) { e.Host = "go1.26.9 windows/arm64" }},
		{name: "another driver", change: func(e *accel.Environment) { e.Driver = "535.1" }, want: `environment, driver: recorded "understudy.dev/accel/cpu 1", got "535.1"`},
		{name: "another sgemm", change: func(e *accel.Environment) { e.Kernels["sgemm"] = "x" }, want: `environment, kernel sgemm: recorded "`},
		{name: "a kernel more", change: func(e *accel.Environment) { e.Kernels["swish"] = "x" }, want: `environment, kernel swish: recorded none, got "x"`},
		{name: "a kernel less", change: func(e *accel.Environment) { delete(e.Kernels, "sgemm") }, want: `environment, kernel sgemm: recorded "`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := memjournal.New()
			t.Cleanup(func() { j.Close() })
			run := func(mode harness.Mode, env accel.Environment) error {
				h, err := harness.New(t.Context(), j, harness.Config{Mode: mode})
				if err != nil {
					t.Fatal(err)
				}
				r, err := accel.NewRecorder(elsewhere{cpu.New(), env}, h, accel.Config{})
				if err != nil {
					return errors.Join(err, h.Close())
				}
				job(t, r, 7, func() {})
				return h.Close()
			}
			env := cpu.New().Environment()
			env.Host = "go1.26.8 linux/amd64"
			if err := run(harness.Record, env); err != nil {
				t.Fatal(err)
			}
			tt.change(&env)
			err := run(harness.Replay, env)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var here *accel.Difference
			var d *harness.Difference
			if !errors.As(err, &here) || here.Number != 1 || !strings.Contains(err.Error(), tt.want) || !errors.As(err, &d) || accel.Explain(d) == nil {
				t.Errorf("replay = %v, want record 1: %s", err, tt.want)
			}
		})
	}
}

// An environment that was recorded with its host differs in words too.
func TestHostIsNamedWhereOneWasRecorded(t *testing.T) {
	env := cpu.New().Environment()
	with := (&accel.Command{Op: accel.OpEnvironment, Env: env}).AppendTo(nil)
	env.Host = ""
	without := (&accel.Command{Op: accel.OpEnvironment, Env: env}).AppendTo(nil)
	var d *accel.Difference
	if err := accel.Compare("environment", with, without); !errors.As(err, &d) || d.What != "host" || d.Got != `""` {
		t.Errorf("Compare = %v, want the host", err)
	}
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
