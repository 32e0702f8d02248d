package demo

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"understudy.dev/client"
	"understudy.dev/engines/exchange/flow"
	"understudy.dev/journal"
)

// A load is the operations and what clients were told about them.
type load struct {
	cfg     *Config
	ops     []flow.Op
	client  *client.Client
	killAt  int           // operations
	hit     chan struct{} // closed when so many were submitted
	settled chan struct{} // closed when all that waited at the kill are answered
	ended   chan struct{} // closed when all are answered
	failed  chan struct{} // closed when fault is set
	began   time.Time

	mu       sync.Mutex
	told     []told
	sent     int
	answered int
	bound    int                     // operations submitted before the kill; 0 until then
	left     int                     // of these, those without an answer
	fault    error                   // the first operation that was not carried out
	latency  *hdrhistogram.Histogram // microseconds, of answers before the kill
}

// told is what the client was told about one operation.
type told struct {
	client.Answer
	at time.Time // zero: nothing yet
}

func newLoad(cfg *Config, ops []flow.Op, killAt int, c *client.Client) *load {
	return &load{
		cfg: cfg, ops: ops, client: c, killAt: killAt, told: make([]told, len(ops)),
		hit: make(chan struct{}), settled: make(chan struct{}), ended: make(chan struct{}), failed: make(chan struct{}),
		latency: hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3),
	}
}

// run submits the operations, each when it is due or as soon as the client's
// window has room. It returns when all are submitted, or when the first one was
// not carried out.
func (l *load) run(ctx context.Context) error {
	l.began = time.Now()
	for i := range l.ops {
		due := l.began.Add(l.cfg.due(i))
		if err := sleepUntil(ctx, due); err != nil {
			return err
		}
		select {
		case <-l.failed:
			return nil
		default:
		}
		if l.cfg.Rate == 0 {
			due = time.Now()
		}
		l.mu.Lock()
		l.sent++
		l.mu.Unlock()
		name, version, data := l.ops[i].Command()
		if err := l.client.Go(name, version, data, func(a client.Answer) { l.take(i, due, a) }); err != nil {
			return fmt.Errorf("submit operation %d: %w", l.ops[i].N, err)
		}
		if i+1 == l.killAt {
			close(l.hit)
		}
	}
	return nil
}

// sleepUntil returns at once for a time that has passed.
func sleepUntil(ctx context.Context, due time.Time) error {
	d := time.Until(due)
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// take notes the answer to operation i, which was due at a time.
func (l *load) take(i int, due time.Time, a client.Answer) {
	a.Reply = slices.Clone(a.Reply)
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told[i] = told{a, now}
	if l.fault == nil && !l.told[i].acknowledged() {
		l.fault = fmt.Errorf("operation %d was answered %v: %w", l.ops[i].N, a.Verdict, a.Err)
		close(l.failed)
	}
	l.answered++
	if l.answered == len(l.ops) {
		close(l.ended)
	}
	if l.bound == 0 {
		l.latency.RecordValue(now.Sub(due).Microseconds()) //nolint:errcheck // beyond a minute the client has given up
	}
	if i < l.bound {
		l.left--
		if l.left == 0 {
			close(l.settled)
		}
	}
}

// await waits for one of the load's channels. It fails when an operation was not
// carried out.
func (l *load) await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-l.failed:
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.fault
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// figures are the counts of one moment.
type figures struct {
	sent, answered int
}

func (l *load) figures() figures {
	l.mu.Lock()
	defer l.mu.Unlock()
	return figures{l.sent, l.answered}
}

// killed marks the moment of the kill and returns what was so at it.
func (l *load) killed() (f figures, p50, p99 time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bound, l.left = l.sent, l.sent-l.answered
	if l.left == 0 {
		close(l.settled)
	}
	quantile := func(q float64) time.Duration {
		return time.Duration(l.latency.ValueAtQuantile(q)) * time.Microsecond
	}
	return figures{l.sent, l.answered}, quantile(50), quantile(99)
}

// gap returns the time between the last answer of the old primary and the first
// of the new one, whose tenure starts at a Seq. It is false if one of them gave
// none.
func (l *load) gap(start journal.Seq) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var last, first time.Time
	for i := range l.told {
		switch t := &l.told[i]; {
		case t.Seq == 0:
		case t.Seq < start && t.at.After(last):
			last = t.at
		case t.Seq > start && (first.IsZero() || t.at.Before(first)):
			first = t.at
		}
	}
	return first.Sub(last), !last.IsZero() && !first.IsZero()
}

// acknowledged reports whether the operation was carried out, as far as the
// client was told.
func (t *told) acknowledged() bool {
	return !t.at.IsZero() && (t.Verdict == client.Done || t.Verdict == client.Rejected)
}
