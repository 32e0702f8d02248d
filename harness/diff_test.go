package harness_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"understudy.dev/harness"
)

// Diff names the first place where two recorded runs part, per path.
func TestDiff(t *testing.T) {
	base := func(r harness.Recorder) { program(r, 10, 1, 0) }
	tests := []struct {
		name     string
		opts     harness.DiffOptions
		a, b     func(r harness.Recorder) // nil is base
		number   uint64                   // 0 is no difference
		path     string
		expected string
		got      string
	}{
		{name: "the same"},
		{
			name: "another kernel", b: func(r harness.Recorder) { program(r, 10, 1, 4) },
			number: 3*perStep + 5, expected: `kernel "saxpy" "3" (1 bytes)`, got: `kernel "sgemm" "3" (1 bytes)`,
		},
		{
			name: "one seed", a: func(r harness.Recorder) { r.RNGSeed("x", 1); r.RNGSeed("x", 2) }, b: func(r harness.Recorder) { r.RNGSeed("x", 1); r.RNGSeed("x", 3) },
			number: 2, path: "x", expected: "seed 2", got: "seed 3",
		},
		{
			name: "one batch size", a: func(r harness.Recorder) { r.BatchSize("x", 32) }, b: func(r harness.Recorder) { r.BatchSize("x", 16) },
			number: 1, path: "x", expected: "batch size 32", got: "batch size 16",
		},
		{
			name: "one flipped bit", a: func(r harness.Recorder) { r.Output("w", []byte{1, 2}) }, b: func(r harness.Recorder) { r.Output("w", []byte{1, 3}) },
			number: 1, expected: `output "w" 0102 (2 bytes)`, got: `output "w" 0103 (2 bytes)`,
		},
		{name: "the second is shorter", b: func(r harness.Recorder) { program(r, 9, 1, 0) }, number: 9*perStep + 1, path: "shuffle", expected: "seed 10"},
		{name: "the second is longer", a: func(r harness.Recorder) { program(r, 9, 1, 0) }, number: 9*perStep + 1, path: "shuffle", got: "seed 10"},
		{
			name: "paths in another order",
			a:    func(r harness.Recorder) { r.RNGSeed("x", 1); r.RNGSeed("y", 2); r.DeviceCmd("z", nil) },
			b:    func(r harness.Recorder) { r.DeviceCmd("z", nil); r.RNGSeed("y", 2); r.RNGSeed("x", 1) },
		},
		{
			name: "paths in another order, strictly", opts: harness.DiffOptions{Strict: true},
			a:      func(r harness.Recorder) { r.RNGSeed("x", 1); r.RNGSeed("y", 2) },
			b:      func(r harness.Recorder) { r.RNGSeed("y", 2); r.RNGSeed("x", 1) },
			number: 1, path: "x", expected: "seed 1", got: "seed 2",
		},
		{
			name:   "the first of two, met second",
			a:      func(r harness.Recorder) { r.RNGSeed("x", 1); r.RNGSeed("y", 2) },
			b:      func(r harness.Recorder) { r.RNGSeed("y", 3); fill(r, 50); r.RNGSeed("x", 9) },
			number: 1, path: "x", expected: "seed 1", got: "seed 9",
		},
		{
			name: "only parts", opts: harness.DiffOptions{A: harness.Range{From: 2, To: 3}, B: harness.Range{From: 1, To: 2}},
			a: func(r harness.Recorder) { fill(r, 1); r.RNGSeed("x", 1); r.RNGSeed("x", 2); fill(r, 3) },
			b: func(r harness.Recorder) { r.RNGSeed("x", 1); r.RNGSeed("x", 2); r.RNGSeed("x", 3) },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.a == nil {
				tt.a = base
			}
			if tt.b == nil {
				tt.b = base
			}
			d, err := harness.Diff(t.Context(), recorded(t, tt.a), recorded(t, tt.b), tt.opts)
			switch {
			case err != nil:
				t.Fatal(err)
			case tt.number == 0 && d != nil:
				t.Errorf("Diff = %v, want none", d)
			case tt.number == 0:
			case d == nil:
				t.Errorf("Diff found nothing, want a difference at %d", tt.number)
			case d.Number != tt.number || d.Path != tt.path || what(d.Expected) != tt.expected || what(d.Got) != tt.got:
				t.Errorf("Diff = %v; want at %d on %q: %s, %s", d, tt.number, tt.path, tt.expected, tt.got)
			}
		})
	}
}

func fill(r harness.Recorder, n int) {
	for i := range n {
		r.DeviceCmd("fill", fmt.Append(nil, i))
	}
}

// Two runs of the same concurrent program do not differ, however they interleaved.
func TestDiffOfInterleavings(t *testing.T) {
	run := func(r harness.Recorder) {
		h := r.(*harness.Harness)
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() { program(h.Actor(fmt.Sprint(i)), 50, 3, 0) })
		}
		all.Wait()
	}
	d, err := harness.Diff(t.Context(), recorded(t, run), recorded(t, run), harness.DiffOptions{})
	if d != nil || err != nil {
		t.Errorf("Diff = %v, %v; want none", d, err)
	}
}

// What was compared, and what was dropped with a difference on its path, makes room.
func TestDiffMakesRoom(t *testing.T) {
	seeds := func(r harness.Recorder, path string, value uint64, n int) {
		for range n {
			r.RNGSeed(path, value)
		}
	}
	long := recorded(t, func(r harness.Recorder) { fill(r, 200) })
	if d, err := harness.Diff(t.Context(), long, long, harness.DiffOptions{MaxAhead: 5}); d != nil || err != nil {
		t.Errorf("Diff of the same = %v, %v; want none", d, err)
	}
	// They part on x, when nine seeds of the second run are waiting there, and w is
	// open until late: the rest needs room for w and y, which is 22.
	a := recorded(t, func(r harness.Recorder) { seeds(r, "w", 0, 10); seeds(r, "x", 1, 40); seeds(r, "y", 0, 12) })
	b := recorded(t, func(r harness.Recorder) { seeds(r, "x", 2, 60); seeds(r, "w", 0, 10); seeds(r, "y", 0, 12) })
	d, err := harness.Diff(t.Context(), a, b, harness.DiffOptions{MaxAhead: 25})
	if err != nil || d == nil || d.Number != 11 || d.Path != "x" {
		t.Errorf("Diff = %v, %v; want a difference at record 11 on x", d, err)
	}
}

// Of two differences with one number, what the first run recorded comes first.
func TestDiffPrefersTheFirstRun(t *testing.T) {
	a := recorded(t, func(r harness.Recorder) { fill(r, 1); r.RNGSeed("y", 1) })
	b := recorded(t, func(r harness.Recorder) { fill(r, 1); r.RNGSeed("z", 1) })
	for range 40 { // paths are met in any order
		d, err := harness.Diff(t.Context(), a, b, harness.DiffOptions{})
		if err != nil || d == nil || d.Number != 2 || d.Path != "y" || d.Expected == nil {
			t.Fatalf("Diff = %v, %v; want what only the first recorded, at record 2 on y", d, err)
		}
	}
}

// What Diff holds in memory is bounded.
func TestDiffIsBounded(t *testing.T) {
	a := recorded(t, func(r harness.Recorder) { fill(r, 100); r.RNGSeed("x", 1) })
	b := recorded(t, func(r harness.Recorder) {
		for range 100 {
			r.RNGSeed("x", 1)
		}
	})
	if _, err := harness.Diff(t.Context(), a, b, harness.DiffOptions{MaxAhead: 50}); !errors.Is(err, harness.ErrTooFarApart) {
		t.Errorf("Diff = %v, want ErrTooFarApart", err)
	}
}
