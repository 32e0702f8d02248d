package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"understudy.dev/engines/exchange/flow"
	"understudy.dev/engines/exchange/reference"
)

// A run is a command line with a directory of its own for temporary data.
type run struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	temp           string
}

func newRun(t *testing.T, args ...string) *run {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := &run{cmd: exec.Command(binary, args...), temp: t.TempDir()}
	r.cmd.Env = append(os.Environ(), "TMPDIR="+r.temp)
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	return r
}

// code runs the command to its end and returns the exit code.
func (r *run) code(t *testing.T) int {
	t.Helper()
	err := r.cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return r.cmd.ProcessState.ExitCode()
}

func (r *run) left(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(r.temp)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// seeds returns the seeds to try: three, or as many as UNDERSTUDY_DEMO_SEEDS says.
func seeds(t *testing.T) []uint64 {
	n := 3
	if s := os.Getenv("UNDERSTUDY_DEMO_SEEDS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatalf("UNDERSTUDY_DEMO_SEEDS: %v", err)
		}
	}
	list := make([]uint64, n)
	for i := range list {
		list[i] = rand.Uint64N(1_000_000)
	}
	return list
}

// Whichever operation the kill hits, the fills of the recorded day are exactly
// those that the exchange published.
func TestDemoOrders(t *testing.T) {
	orders, want := recordedDay(t)
	for _, seed := range seeds(t) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			fills := filepath.Join(t.TempDir(), "fills.csv")
			r := newRun(t, "demo", "--orders", orders, "--fills", fills, "--seed", strconv.FormatUint(seed, 10), "--json", "--quiet")
			code := r.code(t)
			var result struct {
				Passed     bool
				Operations int
				Acked      int `json:"acknowledged"`
				KillAfter  int `json:"kill_after"`
			}
			if err := json.Unmarshal(r.stdout.Bytes(), &result); err != nil {
				t.Fatalf("exit code %d, standard output %q: %v\n%s", code, r.stdout.String(), err, r.stderr.String())
			}
			if code != 0 || !result.Passed || result.Acked != result.Operations {
				t.Errorf("exit code %d, %s\n%s", code, r.stdout.String(), r.stderr.String())
			}
			got, err := os.ReadFile(fills)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("killed after %d: %d bytes of fills differ from the %d wanted", result.KillAfter, len(got), len(want))
			}
			if left := r.left(t); left != nil {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// recordedDay returns a file of operations and the fills that they must lead to:
// NASDAQ's, or where that is absent generated ones with a reference book's fills.
func recordedDay(t *testing.T) (orders string, fills []byte) {
	t.Helper()
	dir := os.Getenv("UNDERSTUDY_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	orders = filepath.Join(dir, "orderflow", "lobster_GOOG_10.ops.csv.zst")
	if _, err := os.Stat(orders); err != nil {
		t.Logf("no recorded day, generated flow instead: %v", err)
		return generatedDay(t)
	}
	return orders, readZstd(t, filepath.Join(dir, "orderflow", "lobster_GOOG_10.trades.csv.zst"))
}

func generatedDay(t *testing.T) (orders string, fills []byte) {
	t.Helper()
	ops, fills := []byte(flow.Header+"\n"), []byte(flow.FillsHeader+"\n")
	var book reference.Book
	for _, op := range flow.Generate(11, 60_000) {
		reply, err := book.Apply(op.Typed())
		if err != nil {
			t.Fatal(err)
		}
		ops, fills = flow.AppendOp(ops, op), flow.AppendFills(fills, op.N, reply.Fills)
	}
	orders = filepath.Join(t.TempDir(), "generated.ops.csv")
	if err := os.WriteFile(orders, ops, 0o600); err != nil {
		t.Fatal(err)
	}
	return orders, fills
}

func readZstd(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Wrong usage is told before anything is started.
func TestDemoUsage(t *testing.T) {
	garbled := filepath.Join(t.TempDir(), "garbled.csv")
	text := flow.Header + "\n1,1,N,1,B,100,5\n2,2,N,2,B,1OO,5\n"
	if err := os.WriteFile(garbled, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"a garbled line", []string{"--orders", garbled}, garbled + `: line 3: price "1OO"`},
		{"no such file", []string{"--orders", garbled + "x"}, "no such file"},
		{"a kill after the last operation", []string{"--rate", "10", "--duration", "1s", "--kill-after", "11"}, "--kill-after 11: want 1 to 10"},
		{"a kill before the first operation", []string{"--kill-after", "0"}, "--kill-after 0: want 1 or more"},
		{"a negative rate", []string{"--rate", "-1"}, "must not be negative"},
		{"no operations", []string{"--rate", "0"}, "makes 0 operations"},
		{"a duration without a rate", []string{"--orders", garbled, "--duration", "1s"}, "needs --rate"},
		{"a folder in place of the fills", []string{"--fills", filepath.Dir(garbled)}, "--fills " + filepath.Dir(garbled) + ": "},
		{"no folder for the fills", []string{"--fills", garbled + ".d/f.csv"}, "--fills"},
		{"an argument", []string{"now"}, "unknown command"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRun(t, append([]string{"demo"}, tt.args...)...)
			if got, want := r.code(t), 2; got != want {
				t.Errorf("exit code %d, want %d", got, want)
			}
			if got := r.stderr.String(); !strings.Contains(got, tt.want) {
				t.Errorf("standard error %q, want %q in it", got, tt.want)
			}
			if left := r.left(t); left != nil || r.stdout.Len() > 0 {
				t.Errorf("started something: left %v, printed %q", left, r.stdout.String())
			}
		})
	}
}

// What a person sees: each step of the story, and what was verified.
func TestDemoTimeline(t *testing.T) {
	r := newRun(t, "demo", "--rate", "2000", "--duration", "1s", "--kill-after", "1000", "--seed", "7", "--keep")
	if got, want := r.code(t), 0; got != want {
		t.Fatalf("exit code %d, want %d\n%s%s", got, want, r.stdout.String(), r.stderr.String())
	}
	rest := r.stdout.String()
	for _, want := range []string{
		"2,000 operations, 2,000 commands/s, seed 7", "journal ", "a  ", "primary, epoch 1", "b  ", "standby, following",
		"load ", "acknowledged", "kill -9 ", "after operation 1,000", "promote ", "-> 200, epoch 2 at seq ", "fence ",
		"clients ", "sent again with the same ids", "stop ", "2,000 acknowledged", "verified ", "2,000 / 2,000",
		"verified ", "verified ", "verified ", "unavailable for clients", "demo passed. data kept in " + r.temp,
	} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("%q is missing, or not in its place:\n%s", want, r.stdout.String())
		}
		rest = after
	}
	if left := r.left(t); len(left) != 1 {
		t.Errorf("kept %v, want one directory", left)
	}
	_, hint, found := strings.Cut(rest, "try: understudy ")
	if !found {
		t.Fatalf("no hint after %q", rest)
	}
	next := newRun(t, strings.Fields(strings.ReplaceAll(hint, "'", ""))...)
	if got, want := next.code(t), 0; got != want {
		t.Errorf("understudy %s: exit code %d, want %d\n%s", hint, got, want, next.stderr.String())
	}
}
