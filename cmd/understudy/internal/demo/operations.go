package demo

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"time"

	"understudy.dev/engines/exchange/flow"
)

// A UsageError is a fault of what the demo was asked for. Nothing was started.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

func usagef(format string, args ...any) error {
	return &UsageError{fmt.Errorf(format, args...)}
}

// operations returns what is to be submitted: the file's, or generated ones.
func (c *Config) operations() ([]flow.Op, error) {
	if c.Rate < 0 || math.IsNaN(c.Rate) || c.Duration < 0 {
		return nil, usagef("--rate and --duration must not be negative")
	}
	n := int(min(c.Rate*c.Duration.Seconds(), 1<<30))
	if c.Orders == "" {
		if n < 2 {
			return nil, usagef("--rate %v for --duration %v makes %d operations, want 2 or more", c.Rate, c.Duration, n)
		}
		return flow.Generate(c.Seed, n), nil
	}
	if c.Duration > 0 && c.Rate == 0 {
		return nil, usagef("--duration with --orders needs --rate: it takes so many operations of the file")
	}
	ops, err := readOperations(c.Orders)
	switch {
	case err != nil:
		return nil, &UsageError{err}
	case len(ops) < 2:
		return nil, usagef("%s holds %d operations, want 2 or more", c.Orders, len(ops))
	case c.Duration > 0:
		ops = ops[:min(max(n, 2), len(ops))]
	}
	return ops, nil
}

func readOperations(path string) ([]flow.Op, error) {
	r, err := flow.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var ops []flow.Op
	for {
		op, err := r.Next()
		if errors.Is(err, io.EOF) {
			return ops, nil
		}
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
}

// killAt returns after how many of n operations the primary is killed: any of
// them but the last, unless it was told.
func (c *Config) killAt(n int) (int, error) {
	if c.KillAfter < 0 || c.KillAfter > n {
		return 0, usagef("--kill-after %d: want 1 to %d, the number of operations", c.KillAfter, n)
	}
	if c.KillAfter > 0 {
		return c.KillAfter, nil
	}
	return 1 + rand.New(rand.NewPCG(c.Seed, 0x4111)).IntN(n-1), nil
}

// due returns when operation i is submitted, after the start; zero means as soon
// as possible.
func (c *Config) due(i int) time.Duration {
	if c.Rate == 0 {
		return 0
	}
	return time.Duration(float64(i) / c.Rate * float64(time.Second))
}
