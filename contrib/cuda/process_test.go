package cuda

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"understudy.dev/accel"
	"understudy.dev/accel/cpu"
	"understudy.dev/harness"
	"understudy.dev/journal/filejournal"
)

// childJournal tells the test binary that it is to record into that folder until it
// is killed.
const childJournal = "CUDA_TEST_RECORD_TO"

// A process that records what it does on the device is killed; what it recorded
// replays bit for bit on the CPU. Here Open finds the library by its own name, as
// it would NVIDIA's: the dynamic linker reads where to look when a process starts.
func TestKilledRunReplays(t *testing.T) {
	s := newStandIn(t)
	dir := filepath.Join(t.TempDir(), "journal")
	recordUntilKilled(t, dir, filepath.Dir(s.path))

	j, err := filejournal.Open(dir, filejournal.Config{})
	must(t, err)
	defer j.Close()
	accept := make(map[string]string)
	for _, field := range []string{"device", "driver", "library"} {
		accept[field] = "kernels of the same identity"
	}
	sink, err := accel.NewReplayer(cpu.New(), accel.ReplayConfig{Accept: accept})
	must(t, err)
	player, err := harness.NewPlayer(j, sink, harness.ReplayOptions{})
	must(t, err)
	if err := player.Run(t.Context()); err != nil {
		t.Errorf("replay = %v", err)
	}
	if got, want := sink.Report().Commands, uint64(commandsOfStep(t)); uint64(got) < want {
		t.Errorf("%d commands were replayed, %d were recorded before the kill", got, want)
	}

	refused, err := accel.NewReplayer(cpu.New(), accel.ReplayConfig{})
	must(t, err)
	player, err = harness.NewPlayer(j, refused, harness.ReplayOptions{})
	must(t, err)
	var pin *accel.PinError
	if err := player.Run(t.Context()); !errors.As(err, &pin) || pin.Field != "device" || pin.Recorded != "Stand-in A sm_90" {
		t.Errorf("replay = %v, want a refusal that names the stand-in", err)
	}
}

// recordUntilKilled runs a child and kills it when its first step is stored, in the
// middle of whatever it does then.
func recordUntilKilled(t *testing.T, dir, libraries string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), childJournal+"="+dir, "LD_LIBRARY_PATH="+libraries)
	var words bytes.Buffer
	cmd.Stderr = &words
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	stored := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Fprintln(&words, lines.Text())
		if strings.Contains(lines.Text(), "a step is stored") {
			stored = true
			must(t, cmd.Process.Kill())
		}
	}
	if err := cmd.Wait(); !stored || err == nil {
		t.Fatalf("the child ended by itself: %v\n%s", err, words.Bytes())
	}
}

// TestChild is the process that is killed.
func TestChild(t *testing.T) {
	dir := os.Getenv(childJournal)
	if dir == "" {
		t.Skip("only as a child of another test")
	}
	load(t, "libcuda.so.1")
	dev, err := Open(0)
	must(t, err)
	j, err := filejournal.Open(dir, filejournal.Config{})
	must(t, err)
	h, err := harness.New(t.Context(), j, harness.Config{Mode: harness.Record, Pin: dev.Environment().Pin()})
	must(t, err)
	rec, err := accel.NewRecorder(dev, h, accel.Config{})
	must(t, err)
	step(t, rec)
	must(t, h.Flush(t.Context()))
	fmt.Println("a step is stored")
	for {
		step(t, rec)
	}
}

// commandsOfStep counts what one step records.
func commandsOfStep(t *testing.T) int {
	t.Helper()
	var h tape
	rec, err := accel.NewRecorder(cpu.New(), &h, accel.Config{})
	must(t, err)
	step(t, rec)
	return len(h) - 1 // the environment is no command
}
