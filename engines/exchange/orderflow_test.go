package exchange_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"understudy.dev/engines/exchange"
	"understudy.dev/engines/exchange/flow"
	"understudy.dev/engines/exchange/reference"
)

// bookDepth is how many levels of each side a checkpoint shows.
const bookDepth = 10

// A day is order flow with what it must lead to.
type day struct {
	ops   []flow.Op
	fills string         // as a file of fills
	depth map[int]string // by operation: the lines of its checkpoint
}

// Every fill and every published depth of a trading day is reproduced.
func TestOrderflow(t *testing.T) {
	want := recordedDay(t)
	got := play(newDriven(), want.ops, func(n int) bool { _, ok := want.depth[n]; return ok })
	if at, g, w := firstDifference(got.fills, want.fills); at > 0 {
		t.Errorf("fills differ at line %d: got %q, want %q", at, g, w)
	}
	for n := range want.ops {
		if got.depth[n+1] != want.depth[n+1] {
			t.Fatalf("depth after operation %d:\n%s\nwant\n%s", n+1, got.depth[n+1], want.depth[n+1])
		}
	}
	t.Logf("%d operations, %d fills, %d checkpoints", len(want.ops), strings.Count(want.fills, "\n")-1, len(want.depth))
}

// recordedDay returns NASDAQ's, or a generated one with the reference book's answers.
func recordedDay(t *testing.T) day {
	path, ok := dataFile(t, "orderflow/lobster_GOOG_10.ops.csv.zst")
	if !ok {
		return generatedDay(21, 30_000)
	}
	dir := filepath.Dir(path)
	d := day{
		ops:   readOps(t, path),
		fills: string(readZstd(t, filepath.Join(dir, "lobster_GOOG_10.trades.csv.zst"))),
		depth: make(map[int]string),
	}
	book := bytes.NewReader(readZstd(t, filepath.Join(dir, "lobster_GOOG_10.book.csv.zst")))
	lines := bufio.NewScanner(book)
	for lines.Scan() {
		number, rest, _ := strings.Cut(lines.Text(), ",")
		if n, err := strconv.Atoi(number); err == nil { // all but the header
			d.depth[n] += rest + "\n"
		}
	}
	if got, want := len(d.depth), 293; got != want {
		t.Fatalf("%d checkpoints, want %d", got, want)
	}
	return d
}

func generatedDay(seed uint64, n int) day {
	return play(new(reference.Book), flow.Generate(seed, n), func(n int) bool { return n%500 == 0 })
}

// play applies the operations and notes what they lead to.
func play(e engine, ops []flow.Op, checkpoint func(n int) bool) day {
	d := day{ops: ops, depth: make(map[int]string)}
	fills := []byte(flow.FillsHeader + "\n")
	for _, op := range ops {
		reply, err := e.Apply(op.Typed())
		if err != nil {
			fills = fmt.Appendf(fills, "operation %d is refused: %v\n", op.N, err)
		}
		fills = flow.AppendFills(fills, op.N, reply.Fills)
		if n := int(op.N); checkpoint(n) {
			d.depth[n] = depthLines(e)
		}
	}
	d.fills = string(fills)
	return d
}

func depthLines(e engine) string {
	var b strings.Builder
	for _, s := range []exchange.Side{exchange.Sell, exchange.Buy} {
		for i, l := range e.Depth(s, bookDepth) {
			fmt.Fprintf(&b, "%c,%d,%d,%d\n", "?BS"[s], i, l.Price, l.Qty)
		}
	}
	return b.String()
}

// The generated flow has fills, refusals of none, and the reference agrees: it is what
// stands in where the recorded day is absent.
func TestGeneratedFlow(t *testing.T) {
	for seed := range uint64(3) {
		want := generatedDay(seed, 10_000)
		got := play(newDriven(), want.ops, func(n int) bool { return n%500 == 0 })
		if at, g, w := firstDifference(got.fills, want.fills); at > 0 {
			t.Errorf("seed %d: fills differ at line %d: got %q, want %q", seed, at, g, w)
		}
		for n, w := range want.depth {
			if got.depth[n] != w {
				t.Errorf("seed %d: depth after operation %d:\n%s\nwant\n%s", seed, n, got.depth[n], w)
			}
		}
		if fills := strings.Count(want.fills, "\n"); fills < 500 || strings.Contains(want.fills, "refused") {
			t.Errorf("seed %d: %d lines of fills and refusals, want 500 fills or more and no refusal", seed, fills)
		}
	}
}

// firstDifference returns the first line (from 1) at which two texts differ, or 0.
func firstDifference(got, want string) (line int, gotLine, wantLine string) {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		var a, b string
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			return i + 1, a, b
		}
	}
	return 0, "", ""
}

func readOps(t testing.TB, path string) []flow.Op {
	t.Helper()
	r, err := flow.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var ops []flow.Op
	for {
		op, err := r.Next()
		if errors.Is(err, io.EOF) {
			return ops
		}
		if err != nil {
			t.Fatal(err)
		}
		ops = append(ops, op)
	}
}

func readZstd(t testing.TB, path string) []byte {
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
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
	return data
}
