package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"understudy.dev/admin"
	"understudy.dev/client"
	"understudy.dev/cmd/understudy/internal/group"
	"understudy.dev/engines/exchange"
	"understudy.dev/engines/exchange/flow"
	"understudy.dev/journal"
	"understudy.dev/machine"
)

// A Config says what is shown.
type Config struct {
	Binary    string        // that runs journal and nodes: the one of cmd/understudy
	Orders    string        // file of operations; "" generates them from Seed
	Fills     string        // file for the fills that were answered; "" for none
	KillAfter int           // operations; 0: a random one, from Seed
	Rate      float64       // operations per second; 0: as fast as they are answered
	Duration  time.Duration // how long at that rate; 0, with Orders only: all
	Seed      uint64
	Keep      bool // the data, after a demo that passed; otherwise it is kept anyway
	JSON      bool // one document on Stdout
	Quiet     bool // no progress
	Stdout    io.Writer
	Stderr    io.Writer
}

// A Result is what a demo measured.
type Result struct {
	Passed        bool         `json:"passed"`
	Seed          uint64       `json:"seed"`
	Operations    int          `json:"operations"`
	Acknowledged  int          `json:"acknowledged"`
	KillAfter     int          `json:"kill_after"`
	BeforeKill    int          `json:"acknowledged_before_kill"`
	InFlight      int          `json:"in_flight_at_kill"`
	P50MS         float64      `json:"p50_ms"` // until the kill
	P99MS         float64      `json:"p99_ms"`
	PromoteCode   int          `json:"promote_code"` // HTTP status
	Promotion     admin.Report `json:"promotion"`
	Reconnects    uint64       `json:"reconnects"`
	Retried       uint64       `json:"retried"`        // commands sent more than once
	Repeated      uint64       `json:"repeated"`       // of these, those that were in already
	UnavailableMS *float64     `json:"unavailable_ms"` // from the old primary's last answer to the new one's first
	Records       journal.Seq  `json:"records"`        // in the journal
	Checks        []Check      `json:"checks"`
	Fills         string       `json:"fills,omitempty"` // the file written
	Data          string       `json:"data,omitempty"`  // where the data was kept
}

// ErrFailed says that the demo came to its end and a check failed.
var ErrFailed = errors.New("the demo failed: what was promised is not so")

// A show is one run of the demo.
type show struct {
	*timeline
	cfg    *Config
	load   *load
	result Result
	group  *group.Group
	server *group.Server
	a, b   *group.Node
	killed atomic.Bool // a is meant to end
	lag    atomic.Pointer[admin.Lag]
}

// Run shows the demo. Every child has ended when it returns. Its error is a
// *UsageError if nothing was started, and matches ErrFailed if all went through
// and a check failed.
func Run(ctx context.Context, cfg Config) (Result, error) {
	ops, err := cfg.operations()
	if err != nil {
		return Result{}, err
	}
	killAt, err := cfg.killAt(len(ops))
	if err != nil {
		return Result{}, err
	}
	if cfg.Fills != "" {
		if err := writable(cfg.Fills); err != nil {
			return Result{}, usagef("--fills %s: %w", cfg.Fills, err)
		}
	}
	dir, err := group.TempDir()
	if err != nil {
		return Result{}, err
	}
	s := &show{timeline: newTimeline(&cfg), cfg: &cfg, group: &group.Group{Binary: cfg.Binary, Dir: dir}}
	s.result = Result{Seed: cfg.Seed, Operations: len(ops), KillAfter: killAt}
	err = s.run(ctx, ops, killAt)
	s.group.Close()
	if ctx.Err() != nil {
		err = fmt.Errorf("interrupted: %w", ctx.Err())
	}
	err = s.finish(err)
	return s.result, err
}

// writable returns why a file could not be written, and leaves it as it is.
func writable(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		return errors.Join(f.Close(), os.Remove(path))
	}
	info, serr := os.Stat(path)
	if serr != nil {
		return err
	}
	if !info.Mode().IsRegular() && !info.IsDir() {
		return nil // to open a pipe would wait for who reads it
	}
	if f, err = os.OpenFile(path, os.O_WRONLY, 0); err != nil {
		return err
	}
	return f.Close()
}

// run is the demo from the first process to the last check.
func (s *show) run(ctx context.Context, ops []flow.Op, killAt int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.title(len(ops))
	if err := s.raise(ctx, cancel); err != nil {
		return err
	}
	c, err := client.Dial(ctx, client.Config{
		Addrs: []string{s.a.Client, s.b.Client}, Machine: exchange.Name, Ordered: true, Seed: s.cfg.Seed,
	})
	if err != nil {
		return err
	}
	defer c.Close()
	s.load = newLoad(s.cfg, ops, killAt, c)
	submitted := make(chan error, 1)
	go func() { submitted <- s.load.run(ctx) }()
	watched := make(chan struct{})
	wctx, unwatch := context.WithCancel(ctx)
	go func() { defer close(watched); s.watch(wctx) }()
	err = s.failOver(ctx)
	if err == nil {
		err = s.load.await(ctx, s.load.ended)
	}
	unwatch()
	<-watched
	if err != nil {
		cancel(err) // ends the submission
		c.Close()
		<-submitted //nolint:errcheck // err says why it ended
		return err
	}
	if err := <-submitted; err != nil {
		return err
	}
	s.say("stop", "%s acknowledged", grouped(s.acknowledged()))
	stats := c.Stats()
	s.result.Reconnects, s.result.Retried, s.result.Repeated = stats.Reconnects, stats.Retried, stats.Repeated
	return s.verify(ctx)
}

func (s *show) title(n int) {
	what := "generated flow"
	if s.cfg.Orders != "" {
		what = filepath.Base(s.cfg.Orders)
	}
	rate := "as fast as they are answered"
	if s.cfg.Rate > 0 {
		rate = grouped(uint64(s.cfg.Rate)) + " commands/s"
	}
	s.line("understudy demo: exchange, %s, %s operations, %s, seed %d\n", what, grouped(n), rate, s.cfg.Seed)
}

// raise starts the journal and both nodes. A process that ends by itself cancels.
func (s *show) raise(ctx context.Context, cancel context.CancelCauseFunc) error {
	var err error
	if s.server, err = s.group.Journal(); err != nil {
		return err
	}
	s.guard(s.server.Process, cancel)
	s.say("journal", "pid %d   embedded JetStream, sync always", s.server.PID())
	if s.a, err = s.group.Node("a", s.server.URL(), "--bootstrap"); err != nil {
		return err
	}
	s.guard(s.a.Process, cancel)
	within, stop := context.WithTimeout(ctx, readyWithin)
	defer stop()
	st, err := s.a.Await(within, "the primary", group.Serving)
	if err != nil {
		return err
	}
	s.say("a", "pid %d   primary, epoch %d", s.a.PID(), st.Epoch)
	if s.b, err = s.group.Node("b", s.server.URL(), "--peers", s.a.Admin); err != nil {
		return err
	}
	s.guard(s.b.Process, cancel)
	if _, err := s.b.Await(within, "following", group.Following); err != nil {
		return err
	}
	s.say("b", "pid %d   standby, following", s.b.PID())
	return nil
}

// Limits of waiting, far above what two busy cores need.
const (
	readyWithin   = 30 * time.Second
	promoteWithin = 30 * time.Second
	quietWithin   = 30 * time.Second
)

// guard cancels the demo when a process ends that should not.
func (s *show) guard(p *group.Process, cancel context.CancelCauseFunc) {
	go func() {
		<-p.Done()
		if s.a == nil || p != s.a.Process || !s.killed.Load() {
			cancel(p.Err())
		}
	}()
}

// failOver kills the primary in the middle of the load and promotes the standby.
func (s *show) failOver(ctx context.Context) error {
	if err := s.load.await(ctx, s.load.hit); err != nil {
		return err
	}
	s.killed.Store(true)
	f, p50, p99 := s.load.killed()
	s.a.Kill()
	inFlight := min(f.sent-f.answered, machine.DefaultWindow) // one more may wait for room
	s.result.BeforeKill, s.result.InFlight = f.answered, inFlight
	s.result.P50MS, s.result.P99MS = admin.Millis(p50), admin.Millis(p99)
	s.say("load", "%s acknowledged   p50 %s  p99 %s%s", grouped(f.answered), ms(p50), ms(p99), s.behind())
	s.say("kill -9", "%d (a)   the machine dies after operation %s, with %s commands in flight",
		s.a.PID(), grouped(s.load.killAt), grouped(inFlight))
	if err := s.promote(ctx); err != nil {
		return err
	}
	if err := s.load.await(ctx, s.load.settled); err != nil {
		return err
	}
	stats := s.load.client.Stats()
	s.say("clients", "reconnected, %s commands sent again with the same ids: %s were already in, %s new",
		grouped(stats.Retried), grouped(stats.Repeated), grouped(stats.Retried-stats.Repeated))
	return nil
}

// statuses remembers the HTTP status of the last answer.
type statuses struct{ last atomic.Int64 }

func (t *statuses) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		t.last.Store(int64(resp.StatusCode))
	}
	return resp, err
}

func (s *show) promote(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, promoteWithin)
	defer cancel()
	var seen statuses
	c := admin.Client{BaseURLs: []string{s.b.Admin}, HTTP: &http.Client{Transport: &seen}}
	began := time.Now()
	r, err := c.Promote(ctx, admin.PromoteRequest{
		Expect: admin.Expect{Node: "b"}, Actor: "understudy demo", Reason: "a was killed",
	})
	took := time.Since(began)
	s.result.PromoteCode, s.result.Promotion = int(seen.last.Load()), r
	if err != nil {
		return fmt.Errorf("promote b: %w", err)
	}
	p := r.PhasesMS
	s.say("promote", "POST %s/admin/promote -> %d, epoch %d at seq %s, %s", s.b.Admin, s.result.PromoteCode, r.Epoch, grouped(uint64(r.EpochSeq)), ms(took))
	s.line("%s %s records drained; checks %s, fence %s, drain %s, verify %s, open %s\n", indent,
		grouped(r.Drained), millis(p.Checks), millis(p.Fence), millis(p.Drain), millis(p.Verify), millis(p.Open))
	return nil
}

// indent is as wide as the time and the word of an event.
const indent = "                  "

// verify waits until b has nothing more to do, replays the journal and checks.
func (s *show) verify(ctx context.Context) error {
	quiet, err := s.load.quiet(ctx, s.b)
	if err != nil {
		return err
	}
	h, err := readHistory(ctx, s.server.URL(), quiet.AppliedSeq)
	if err != nil {
		return err
	}
	s.result.Checks = s.load.verify(h, &quiet)
	s.result.Acknowledged, s.result.Records = s.acknowledged(), quiet.AppliedSeq
	return s.writeFills()
}

// quiet waits until a primary has nothing more to do, and returns its status then.
func (l *load) quiet(ctx context.Context, n *group.Node) (admin.NodeStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, quietWithin)
	defer cancel()
	last := l.lastSeq()
	return n.Await(ctx, "quiet", func(s *admin.NodeStatus) bool {
		return group.Serving(s) && s.AppliedSeq >= last && s.InflightCommands != nil && *s.InflightCommands == 0
	})
}

func (s *show) writeFills() error {
	if s.cfg.Fills == "" {
		return nil
	}
	fills, err := s.load.fills()
	if err == nil {
		err = os.WriteFile(s.cfg.Fills, fills, 0o644) //nolint:gosec // a file that the user asked for, like a shell's
	}
	if err != nil {
		return fmt.Errorf("write fills: %w", err)
	}
	s.result.Fills = s.cfg.Fills
	return nil
}

// finish prints the end and says whether all of it was as promised.
func (s *show) finish(err error) error {
	r := &s.result
	if err == nil {
		r.Passed = true
		s.line("\n")
		for _, c := range r.Checks {
			word := "verified"
			if !c.OK {
				word, r.Passed = "FAILED", false
			}
			s.line("  %-10s %-54s %s\n", word, c.Name, c.Detail)
		}
		if gap, ok := s.load.gap(r.Promotion.EpochSeq); ok {
			m := admin.Millis(gap)
			r.UnavailableMS = &m
			s.line("  %-65s %s\n", "unavailable for clients", ms(gap))
		}
		if r.Fills != "" {
			s.line("  fills written to %s\n", r.Fills)
		}
		if !r.Passed {
			err = ErrFailed
		}
	}
	return errors.Join(err, s.close(err))
}

// close removes the data, or says where it is.
func (s *show) close(err error) error {
	dir := s.group.Dir
	verdict := "demo passed"
	if err != nil {
		verdict = "demo FAILED"
	}
	interrupted := errors.Is(err, context.Canceled)
	if interrupted || err == nil && !s.cfg.Keep {
		if !interrupted {
			s.line("%s\n", verdict)
		}
		return errors.Join(os.RemoveAll(dir), s.document())
	}
	s.result.Data = dir
	s.line("%s. data kept in %s%s\n", verdict, dir, s.hint())
	return s.document()
}

// hint is a command that looks at the data which was kept: the exchange as the
// old primary left it.
func (s *show) hint() string {
	if s.result.Promotion.EpochSeq == 0 {
		return ""
	}
	return fmt.Sprintf("; try: understudy replay --journal '%s' --to %d", s.server.Kept(), s.result.Promotion.EpochSeq-1)
}

// document prints the result.
func (s *show) document() error {
	if !s.cfg.JSON {
		return nil
	}
	if err := json.NewEncoder(s.cfg.Stdout).Encode(s.result); err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	return nil
}
