package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"understudy.dev/journal"
)

// PlayerState is what a Player does.
type PlayerState uint8

// The states.
const (
	Ready    PlayerState = iota // not started
	Playing                     // entries go to the sink
	Paused                      // waiting for Resume or Step
	Finished                    // everything was acknowledged
	Stopped                     // ended by an error or by its context
)

// String returns the state's word.
func (s PlayerState) String() string {
	return [...]string{"ready", "playing", "paused", "finished", "stopped"}[s]
}

// Progress is how far a replay has come: one consistent value.
type Progress struct {
	State     PlayerState
	Number    uint64        // the last entry that the sink acknowledged; 0 before the first
	Time      journal.Time  // when it was recorded
	Records   uint64        // acknowledged
	Passed    uint64        // not shown by a viewer's filter
	Remaining int64         // records to come at most; -1 if not known
	Active    time.Duration // since the start, without pauses
	Rate      float64       // records per second of Active
	Left      time.Duration // at this rate, or at the recorded pace; -1 if not known
}

// A Player replays a journal into a sink, one entry at a time, each acknowledged
// before the next. Run does the work; the other methods may be called from any
// goroutine at any time.
type Player struct {
	j      journal.Journal
	sink   Sink
	filter *Filter // nil but for viewing
	opts   ReplayOptions

	mu      sync.Mutex
	changed chan struct{} // closed when a waiting replay should look again; nil if none waits
	paused  bool
	steps   int       // entries that may pass while paused
	busy    uint64    // the entry that the sink has now; 0 if none
	holding bool      // stands still: paused with no steps left
	since   time.Time // when it last began to move or to hold
	active  time.Duration
	shift   time.Duration // pauses that the schedule has not taken in yet
	now     Progress      // without Active, Rate, Left
	end     journal.End   // sample of the end; Pos 0 if not known
	seq     journal.Seq   // of the last entry acknowledged or passed
}

// NewPlayer makes a Player of the entries of j.
func NewPlayer(j journal.Journal, sink Sink, opts ReplayOptions) (*Player, error) {
	if err := opts.check(); err != nil {
		return nil, fmt.Errorf("harness: replay: %w", err)
	}
	return &Player{j: j, sink: sink, opts: opts, paused: opts.Stepwise}, nil
}

// NewViewer makes a Player that shows only what filter selects. It is for
// looking: a sink that builds state from entries must see all of them.
func NewViewer(j journal.Journal, sink Sink, filter Filter, opts ReplayOptions) (*Player, error) {
	p, err := NewPlayer(j, sink, opts)
	if err == nil {
		p.filter = &filter
	}
	return p, err
}

// Replay sends what this harness's journal holds to a sink, and returns when all
// of it is acknowledged. See Player for control while it runs.
func (h *Harness) Replay(ctx context.Context, sink Sink, opts ReplayOptions) error {
	p, err := h.Player(ctx, sink, opts)
	if err != nil {
		return err
	}
	return p.Run(ctx)
}

// Player makes a Player of this harness's journal, after what is pending was
// stored.
func (h *Harness) Player(ctx context.Context, sink Sink, opts ReplayOptions) (*Player, error) {
	if err := h.Flush(ctx); err != nil {
		return nil, fmt.Errorf("harness: replay: %w", err)
	}
	return NewPlayer(h.j, sink, opts)
}

// Run replays. It returns nil when the last entry of the part was acknowledged, a
// *SinkError if the sink failed or did not answer (ErrSinkTimeout), and the cause
// of ctx if that ended. A sink that neither answers nor heeds its context is left
// behind; a Player runs once.
func (p *Player) Run(ctx context.Context) error {
	if err := p.start(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- p.play(ctx) }()
	err := p.watch(done, cancel)
	p.settle(err)
	return err
}

func (p *Player) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now.State != Ready {
		return errors.New("harness: replay: this player has run before")
	}
	p.now.State, p.since, p.holding = Playing, time.Now(), p.paused && p.steps == 0
	return nil
}

// settle records how it ended.
func (p *Player) settle(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moveLocked(false)
	p.active += time.Since(p.since)
	p.since = time.Time{}
	p.now.State = Finished
	if err != nil {
		p.now.State = Stopped
	}
}

// watch waits for play and looks now and then whether the sink still has the same
// entry. A deadline kept this way costs nothing per entry.
func (p *Player) watch(done <-chan error, cancel context.CancelCauseFunc) error {
	limit := p.opts.SinkTimeout
	if limit < 0 {
		return <-done
	}
	every := max(limit/watches, 1)
	tick := time.NewTicker(every)
	defer tick.Stop()
	var number uint64
	var held time.Duration
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
		}
		n := p.atSink()
		if n == 0 || n != number {
			number, held = n, 0
			continue
		}
		if held += every; held < limit {
			continue
		}
		err := &SinkError{Number: n, Err: fmt.Errorf("%w within %v", ErrSinkTimeout, limit)}
		cancel(err)
		select { // a sink that heeds its context ends now
		case <-done: //nolint:errcheck // it comes too late
		case <-tick.C:
		}
		return err
	}
}

// watches is how often the sink is looked at in one SinkTimeout.
const watches = 4

func (p *Player) atSink() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.busy
}

// play reads and applies until the end of the part.
func (p *Player) play(ctx context.Context) error {
	s, err := p.open(ctx)
	if err != nil {
		return fmt.Errorf("harness: replay: %w", err)
	}
	defer s.close()
	sched := schedule{pace: p.opts.Pace, maxGap: p.opts.MaxGap}
	for {
		e, err := s.next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			if s.last < p.opts.Part.From {
				return fmt.Errorf("harness: replay: from record %d: the last one is %d: %w", p.opts.Part.From, s.last, ErrPastEnd)
			}
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("harness: replay: %w", err)
		case p.opts.Part.beyond(e.Number):
			return nil
		case e.Number < p.opts.Part.From:
			continue
		case p.filter != nil && !p.filter.Match(e):
			p.pass(e)
			continue
		}
		if err := p.gate(ctx, e, &sched); err != nil {
			return err
		}
		if err := p.sink.Apply(ctx, e); err != nil {
			p.free()
			if cause := context.Cause(ctx); cause != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, cause)) {
				return cause
			}
			return &SinkError{Number: e.Number, Err: err}
		}
		p.acknowledged(e)
	}
}

// open starts to read and keeps the sample of the end for the progress.
func (p *Player) open(ctx context.Context) (*scanner, error) {
	scan := newScanner
	if p.opts.Foreign {
		scan = newAnyScanner
	}
	s, err := scan(ctx, p.j)
	if err == nil {
		p.mu.Lock()
		p.end = s.sample
		p.mu.Unlock()
	}
	return s, err
}

// gate waits until e may go and hands it to the sink in the books.
func (p *Player) gate(ctx context.Context, e *Entry, sched *schedule) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.paused && sched.pace == 0 { // the usual case, and the one that must cost little
		p.busy = e.Number
		return nil
	}
	due := sched.due(e.Time)
	for {
		due += p.shift
		sched.at, p.shift = due, 0
		var timer <-chan time.Time
		switch wait := time.Until(sched.base.Add(due)); {
		case p.paused && p.steps > 0:
			p.steps--
			p.busy = e.Number
			sched.at = time.Since(sched.base) // what follows a step is due from now on
			return nil
		case p.paused:
			p.moveLocked(true)
		case sched.pace == 0 || wait <= 0:
			p.busy = e.Number
			return nil
		default:
			t := time.NewTimer(wait)
			defer t.Stop()
			timer = t.C
		}
		changed := make(chan struct{})
		p.changed = changed
		p.mu.Unlock()
		select {
		case <-timer:
		case <-changed:
		case <-ctx.Done():
		}
		p.mu.Lock()
		p.changed = nil
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// acknowledged books e.
func (p *Player) acknowledged(e *Entry) {
	p.mu.Lock()
	p.busy = 0
	p.now.Number, p.now.Time, p.seq = e.Number, e.Time, e.Seq
	p.now.Records++
	p.mu.Unlock()
}

func (p *Player) pass(e *Entry) {
	p.mu.Lock()
	p.seq = e.Seq
	p.now.Passed++
	p.mu.Unlock()
}

// free says that the sink has nothing any more.
func (p *Player) free() {
	p.mu.Lock()
	p.busy = 0
	p.mu.Unlock()
}

// moveLocked changes between moving and holding, and keeps the time.
func (p *Player) moveLocked(hold bool) {
	if p.holding == hold || p.since.IsZero() {
		return
	}
	d := time.Since(p.since)
	if hold {
		p.active += d
	} else {
		p.shift += d
	}
	p.holding, p.since = hold, time.Now()
}

// wakeLocked makes a waiting replay look again.
func (p *Player) wakeLocked() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// Pause stops before the next entry. The sink keeps the one it has.
func (p *Player) Pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = true
	p.wakeLocked()
}

// Resume goes on after a Pause or from stepwise to the chosen pace. The time that
// passed while it was paused does not count.
func (p *Player) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused, p.steps = false, 0
	p.moveLocked(false)
	p.wakeLocked()
}

// Step lets n more entries through while paused, at once. It pauses a replay that
// is not.
func (p *Player) Step(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.paused {
		p.paused, p.steps = true, 0
	}
	p.steps += max(n, 0)
	if p.steps > 0 {
		p.moveLocked(false)
	}
	p.wakeLocked()
}

// Progress returns the present value.
func (p *Player) Progress() Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.now
	v.Active = p.active
	if !p.holding && !p.since.IsZero() {
		v.Active += time.Since(p.since)
	}
	if v.State == Playing && p.holding {
		v.State = Paused
	}
	if v.Active > 0 {
		v.Rate = float64(v.Records) / v.Active.Seconds()
	}
	v.Remaining, v.Left = p.remainingLocked(&v)
	return v
}

// remainingLocked estimates what is to come, from above: the journal also holds a
// few records that are no entries.
func (p *Player) remainingLocked(v *Progress) (records int64, left time.Duration) {
	switch to := p.opts.Part.To; {
	case v.State == Finished:
		return 0, 0
	case p.end.Pos == 0:
		return -1, -1
	default:
		records = int64(p.end.Seq) - int64(p.seq)
		if to != 0 && v.Number > 0 {
			records = min(records, int64(to)-int64(v.Number))
		}
		records = max(records, 0)
	}
	switch {
	case p.opts.Pace > 0 && v.Time > 0 && p.opts.Part.To == 0 && p.opts.MaxGap == 0:
		left = time.Duration(float64(p.end.Time-v.Time) / p.opts.Pace)
	case v.Rate > 0:
		left = time.Duration(float64(records) / v.Rate * float64(time.Second))
	default:
		left = -1
	}
	return records, left
}

// A schedule turns recorded times into times to wait for.
type schedule struct {
	pace   float64
	maxGap time.Duration
	base   time.Time     // when the first entry was due
	last   journal.Time  // the last entry's recorded time
	at     time.Duration // when it was due, after base
}

// due returns when an entry is due, after base.
func (s *schedule) due(t journal.Time) time.Duration {
	if s.base.IsZero() {
		s.base, s.last = time.Now(), t
		return 0
	}
	if s.pace == 0 {
		return s.at
	}
	gap := time.Duration(t - s.last)
	if s.maxGap > 0 {
		gap = min(gap, s.maxGap)
	}
	s.last = t
	return s.at + time.Duration(float64(gap)/s.pace)
}
