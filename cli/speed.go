package cli

import (
	"context"
	"strconv"
	"strings"
	"time"

	"understudy.dev/journal"
)

// speed is how fast records are replayed: times the pace at which they were
// written; 0 is as fast as possible. It is a flag.
type speed float64

// String implements pflag.Value.
func (s *speed) String() string {
	if *s == 0 {
		return "max"
	}
	return strconv.FormatFloat(float64(*s), 'g', -1, 64) + "x"
}

// Set implements pflag.Value.
func (s *speed) Set(text string) error {
	if text == "max" {
		*s = 0
		return nil
	}
	number, ok := strings.CutSuffix(text, "x")
	v, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(v > 0 && v < 1e9) {
		return usagef("want max, 1x, or another number of times such as 0.5x or 10x")
	}
	*s = speed(v)
	return nil
}

// Type implements pflag.Value.
func (*speed) Type() string { return "SPEED" }

// A pacer waits so that records come at a multiple of the pace at which they were
// written.
type pacer struct {
	speed speed
	began time.Time
	first journal.Time
}

// wait returns when it is the turn of a record written at t, or ctx ended.
func (p *pacer) wait(ctx context.Context, t journal.Time) error {
	if p.speed == 0 || t == 0 {
		return ctx.Err()
	}
	if p.first == 0 {
		p.began, p.first = time.Now(), t
	}
	due := p.began.Add(time.Duration(float64(t-p.first) / float64(p.speed)))
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
