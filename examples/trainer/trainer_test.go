package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"understudy.dev/accel/cpu"
	"understudy.dev/harness"
	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
)

// small is a run of a few hundred milliseconds.
func small(dir string, more ...string) []string {
	return append([]string{"--journal", "file:" + dir, "--epochs", "4", "--points", "120"}, more...)
}

// invoke runs the program in this process and returns its exit code and output.
func invoke(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), args, &stdout, &stderr)
	t.Logf("trainer %s: %d\n%s%s", strings.Join(args, " "), code, &stdout, &stderr)
	return code, stdout.String()
}

var fullDigest = regexp.MustCompile(`weights ([0-9a-f]{64})`)

// weights returns the digest that a whole run printed.
func weights(t *testing.T, out string) string {
	t.Helper()
	m := fullDigest.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no digest of the weights in %q", out)
	}
	return m[1]
}

func TestReplayTrainsTheSameWeights(t *testing.T) {
	dir := t.TempDir()
	code, recorded := invoke(t, small(dir, "--mode", "record")...)
	code2, replayed := invoke(t, small(dir, "--mode", "replay")...)
	if code != exitDone || code2 != exitDone {
		t.Fatalf("exit codes %d and %d, want 0", code, code2)
	}
	if recorded != replayed {
		t.Errorf("replayed\n%s\nrecorded\n%s", replayed, recorded)
	}
	// Another run draws other seeds; the last one under an id is what is replayed.
	_, again := invoke(t, small(dir, "--mode", "record")...)
	if weights(t, again) == weights(t, recorded) {
		t.Error("two recorded runs have the same weights: nothing was random")
	}
	if _, replayed = invoke(t, small(dir, "--mode", "replay")...); weights(t, replayed) != weights(t, again) {
		t.Error("not the last run was replayed")
	}
}

// What the program does less or more than was recorded is a difference.
func TestAnotherLengthIsADifference(t *testing.T) {
	dir := t.TempDir()
	invoke(t, small(dir, "--mode", "record")...)
	for _, epochs := range []string{"3", "5"} {
		if code, out := invoke(t, small(dir, "--mode", "replay", "--epochs", epochs)...); code != exitDifference {
			t.Errorf("%s epochs instead of 4: exit code %d, want %d: %s", epochs, code, exitDifference, out)
		}
	}
}

// Each plant is found at the first record that it can reach, told from the record.
func TestPlantIsFound(t *testing.T) {
	dir := t.TempDir()
	invoke(t, small(dir, "--mode", "record")...)
	entries := load(t, dir)
	tests := []struct {
		plant string
		after func(e harness.Entry) bool // the second one begins epoch 2
		name  string                     // then the n-th of these differs
		nth   int
		want  string
	}{
		{"seed", func(e harness.Entry) bool { return e.Kind == journal.KindSeed && e.Path == "dropout" }, "seed", 1, "seed, seed: recorded "},
		{"batch", func(e harness.Entry) bool { return e.Kind == journal.KindBatchSize }, "copy-in", 1, "copy-in, input, bytes: recorded "},
		{"bit", func(e harness.Entry) bool { return e.Kind == journal.KindBatchSize }, "bias_add", 3, "bias_add, output 0, x, element 0: recorded "},
	}
	for _, tt := range tests {
		t.Run(tt.plant, func(t *testing.T) {
			number := find(t, entries, tt.after, tt.name, tt.nth)
			picture := filepath.Join(t.TempDir(), "loss.svg")
			code, out := invoke(t, small(dir, "--mode", "replay", "--plant", tt.plant, "--svg", picture)...)
			want := fmt.Sprintf("record %d, ", number)
			if code != exitDifference || !strings.Contains(out, want) || !strings.Contains(out, tt.want) {
				t.Errorf("exit code %d, want %d, %q and %q in the output", code, exitDifference, want, tt.want)
			}
			checkPicture(t, picture, want)
			if code, _ = invoke(t, small(dir, "--mode", "replay", "--plant", tt.plant)...); code != exitDifference {
				t.Errorf("without a picture: exit code %d, want %d", code, exitDifference)
			}
		})
	}
}

// find returns the number of the n-th command of a name after the second mark.
func find(t *testing.T, entries []harness.Entry, mark func(harness.Entry) bool, name string, nth int) uint64 {
	t.Helper()
	marks, met := 0, 0
	for _, e := range entries {
		if mark(e) {
			marks++
		}
		if marks == 2 && e.Name == name {
			if met++; met == nth {
				return e.Number
			}
		}
	}
	t.Fatalf("no command %q number %d in epoch 2", name, nth)
	return 0
}

func load(t *testing.T, dir string) []harness.Entry {
	t.Helper()
	j, err := filejournal.Open(filepath.Join(dir, "trainer"), filejournal.Config{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	page, err := harness.Load(t.Context(), j, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	return page.Entries
}

// checkPicture reads the curves back: they are the same up to where they part, and
// not after.
func checkPicture(t *testing.T, name, reason string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var picture struct {
		Lines []struct {
			ID     string `xml:"id,attr"`
			Points string `xml:"points,attr"`
		} `xml:"polyline"`
		Text []string `xml:"text"`
	}
	if err := xml.Unmarshal(data, &picture); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(picture.Lines) != 2 {
		t.Fatalf("%d curves, want 2", len(picture.Lines))
	}
	recorded, replayed := strings.Fields(picture.Lines[0].Points), strings.Fields(picture.Lines[1].Points)
	step := -1
	for _, text := range picture.Text {
		if strings.Contains(text, reason) {
			fmt.Sscanf(text, "step %d:", &step)
		}
	}
	if step < 1 || step > len(recorded) || !slices.Equal(recorded[:step], replayed[:step]) || slices.Equal(recorded, replayed) {
		t.Errorf("curves of %d and %d steps that part at %d, %s", len(recorded), len(replayed), step, reason)
	}
}

// A run that was killed replays to the end of what was recorded, epoch by epoch.
func TestKilledRunReplays(t *testing.T) {
	program := build(t, "v1")
	for _, scheme := range []string{"file", "embedded"} {
		t.Run(scheme, func(t *testing.T) { killAndReplay(t, program, scheme+":"+t.TempDir()) })
	}
}

func killAndReplay(t *testing.T, program, journal string) {
	args := []string{"--journal", journal, "--epochs", "1000000", "--points", "120"}
	cmd := exec.Command(program, append(args, "--mode", "record")...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	var recorded []string
	for lines.Scan() && len(recorded) < 5 {
		recorded = append(recorded, lines.Text())
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, stdout); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the run ended before it was killed")
	}
	code, out := invoke(t, append(args, "--mode", "replay")...)
	if code != exitDone || !strings.Contains(out, "replayed to the end of the record, which was cut short") {
		t.Errorf("exit code %d, want 0 and the end of the record", code)
	}
	for _, line := range recorded {
		if !strings.Contains(out, line+"\n") {
			t.Errorf("the replay does not say %q", line)
		}
	}
}

// A run that was interrupted replays like one that was killed, although it had the
// time to end its record in order.
func TestInterruptedRunReplays(t *testing.T) {
	dir := t.TempDir()
	args := []string{"--journal", "file:" + dir, "--epochs", "1000000", "--points", "120"}
	ctx, cancel := context.WithCancelCause(t.Context())
	out := &epochs{after: 3, reached: func() { cancel(errors.New("interrupt")) }}
	var stderr bytes.Buffer
	if code := run(ctx, append(args, "--mode", "record"), out, &stderr); code != exitFailed {
		t.Fatalf("exit code %d, want %d: %s", code, exitFailed, &stderr)
	}
	code, replayed := invoke(t, append(args, "--mode", "replay")...)
	if code != exitDone || !strings.Contains(replayed, "replayed to the end of the record, which was cut short") {
		t.Errorf("exit code %d, want 0 and the end of the record", code)
	}
	j, err := filejournal.Open(filepath.Join(dir, "trainer"), filejournal.Config{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	runs, err := harness.Runs(t.Context(), j)
	if err != nil || len(runs) != 1 || runs[0].Closed || !strings.Contains(runs[0].Cut, "interrupt") {
		t.Errorf("Runs = %+v, %v; want one that was cut by an interrupt", runs, err)
	}
}

// epochs is an output that calls reached when so many epochs were said.
type epochs struct {
	said, after int
	reached     func()
}

func (e *epochs) Write(p []byte) (int, error) {
	if e.said += bytes.Count(p, []byte("epoch ")); e.said >= e.after {
		e.reached()
	}
	return len(p), nil
}

// A picture that cannot be written is said, also beside a difference.
func TestPictureThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	invoke(t, small(dir, "--mode", "record")...)
	picture := filepath.Join(dir, "none", "x.svg")
	for plant, want := range map[string]int{"": exitFailed, "seed": exitDifference} {
		var stderr bytes.Buffer
		code := run(t.Context(), small(dir, "--mode", "replay", "--plant", plant, "--svg", picture), io.Discard, &stderr)
		if code != want || !strings.Contains(stderr.String(), picture) {
			t.Errorf("plant %q: exit code %d, %q; want %d and the file's name", plant, code, &stderr, want)
		}
	}
}

// A run recorded by a build that cannot fuse replays on one that can, and back.
func TestReplayAcrossV1AndV3(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skipf("GOAMD64 means nothing on %s", runtime.GOARCH)
	}
	v1, v3 := build(t, "v1"), build(t, "v3")
	if out, err := exec.Command(v3, "-h").CombinedOutput(); err != nil {
		t.Skipf("this processor cannot run GOAMD64=v3: %s", out)
	}
	for _, pair := range [][2]string{{v1, v3}, {v3, v1}} {
		dir := t.TempDir()
		var digests []string
		for i, mode := range []string{"record", "replay"} {
			out, err := exec.Command(pair[i], small(dir, "--mode", mode)...).CombinedOutput()
			if err != nil {
				t.Fatalf("%s in %s: %v\n%s", mode, pair[i], err, out)
			}
			digests = append(digests, weights(t, string(out)))
		}
		if digests[0] != digests[1] {
			t.Errorf("%s recorded weights %s, %s replayed %s", pair[0], digests[0], pair[1], digests[1])
		}
	}
}

func build(t *testing.T, level string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "trainer-"+level)
	cmd := exec.Command("go", "build", "-o", program, ".")
	cmd.Env = append(os.Environ(), "GOAMD64="+level)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return program
}

// A run recorded with other kernels is refused, with the reason.
func TestAnotherKernelIsRefused(t *testing.T) {
	dir := t.TempDir()
	j, err := filejournal.Open(filepath.Join(dir, "trainer"), filejournal.Config{})
	if err != nil {
		t.Fatal(err)
	}
	pin := cpu.New().Environment().Pin()
	pin["kernel sgemm"] = "another order of sums"
	h, err := harness.New(context.Background(), j, harness.Config{Mode: harness.Record, Pin: pin})
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.Value("clock", []byte("1"))
	for _, err := range []error{err, h.Close(), j.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var stderr bytes.Buffer
	code := run(t.Context(), small(dir, "--mode", "replay"), io.Discard, &stderr)
	if code != exitFailed || !strings.Contains(stderr.String(), "kernel sgemm") {
		t.Errorf("exit code %d, %q; want 1 and the kernel that differs", code, &stderr)
	}
}

func TestWrongUsage(t *testing.T) {
	for _, args := range [][]string{
		{"--mode", "rewind"},
		{"--plant", "seed"},
		{"--mode", "replay", "--plant", "doubt"},
		{"--epochs", "0"},
		{"--mode", "replay", "--plant", "bit", "--plant-epoch", "61"},
		{"--mode", "replay", "--plant", "bit", "--plant-epoch", "0"},
		{"--mode", "replay", "--plant", "bit", "--plant-epoch", "-1"},
		{"--mode", "replay", "--plant", "seed", "--epochs", "1"},
		{"more"},
		{"--no-such-flag"},
	} {
		if code, _ := invoke(t, args...); code != exitUsage {
			t.Errorf("trainer %q: exit code %d, want %d", args, code, exitUsage)
		}
	}
	if code, _ := invoke(t, "--journal", "file:"+t.TempDir(), "--mode", "replay"); code != exitFailed {
		t.Errorf("replay of nothing: exit code %d, want %d", code, exitFailed)
	}
}

// The network learns: not by how much, but better than a coin.
func TestNetworkLearns(t *testing.T) {
	_, out := invoke(t, "--mode", "off", "--epochs", "60")
	var right, of int
	for line := range strings.Lines(out) {
		fmt.Sscanf(line, "%d of %d right", &right, &of)
	}
	if of != 400 || right < 260 {
		t.Errorf("%d of %d right, want more than 260 of 400", right, of)
	}
}

func BenchmarkStep(b *testing.B) {
	points, labels := spirals(maxBatch)
	n := newNetwork(cpu.New(), points, labels)
	n.initialize(1)
	index := permutation(64, 1)
	for b.Loop() {
		n.step(index, maxBatch, 0)
	}
	if n.err != nil {
		b.Fatal(n.err)
	}
}
