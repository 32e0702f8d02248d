package replay

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"understudy.dev/journal"
)

// Progress is how far a follower has come: one consistent value.
type Progress struct {
	Replayed    uint64           // commands and other records applied since the start
	Batches     uint64           // batches with records applied since the start
	Cursor      journal.Position // the last entry taken in
	Seq         journal.Seq      // the last record applied
	Time        journal.Time     // its time
	Digest      journal.Digest   // of the outcomes up to it; zero without MeterConfig.Digest
	Epoch       journal.Epoch    // the open epoch
	Owner       string           // who holds it
	Fence       journal.Position // where it was opened
	Dead        uint64           // dead batches passed over
	DeadRecords uint64           // records in them
	Void        uint64           // void fences passed over
	Heard       time.Time        // when the backend last gave a sign of life; zero if never

	Tail      journal.End // a sample of where the journal ends
	TailKnown bool        // false until the tail has been read once
	TailErr   error       // why the last attempt to read it failed; nil if it did not
	CaughtUp  bool        // the cursor met the tail and has not fallen behind since
	Rate      float64     // records applied per second, over the last second or so; 0 until known
}

// A Lag is how far the cursor is behind the tail sample. Without a sample, with an
// old one, or when the journal could not be read the last time, it is unknown,
// which is not zero.
type Lag struct {
	Known   bool
	Records uint64
	Bytes   int64         // -1 if the backend cannot tell
	Time    time.Duration // log time of the tail less that of the cursor
	Age     time.Duration // of the tail sample
}

// staleTail is the age beyond which a sample of the tail says nothing any more:
// twenty times the time between two.
const staleTail = 5 * time.Second

// Lag computes the lag as of now.
func (p *Progress) Lag(now time.Time) Lag {
	age := now.Sub(p.Tail.When)
	if !p.TailKnown || p.TailErr != nil || age > staleTail {
		return Lag{Bytes: -1}
	}
	l := Lag{Known: true, Bytes: -1, Age: age}
	if p.Cursor >= p.Tail.Pos {
		l.Bytes = 0
		return l
	}
	if p.Tail.Seq > p.Seq {
		l.Records = uint64(p.Tail.Seq - p.Seq)
	}
	if p.Tail.Time > p.Time && p.Time > 0 {
		l.Time = time.Duration(p.Tail.Time - p.Time)
	}
	return l
}

// A MeterConfig says how a Meter samples and when it speaks.
type MeterConfig struct {
	Journal journal.Journal // whose end is sampled
	Logger  *slog.Logger    // nil discards

	// Digest, if not nil, returns the outcome digest of what was applied. It is
	// asked by those who apply, each time the cursor moves, and must not block.
	Digest func() journal.Digest

	// Every is the time between two samples of the tail. Default 250 ms.
	Every time.Duration

	// LogEvery is the time between two progress lines while behind. Default 10 s.
	LogEvery time.Duration

	// BehindRecords and BehindTime are the lag beyond which a follower that was
	// caught up has fallen behind; below it nothing is said, so that a busy
	// journal does not flap. Defaults 10,000 records and 1 s of log time. The time
	// counts only if a tail was not reached by the next sample: the first record
	// after a quiet hour is an hour later than the cursor.
	BehindRecords uint64
	BehindTime    time.Duration
}

// A Meter keeps the Progress of a node through all its roles. Its methods may be
// called from any goroutine.
type Meter struct {
	cfg MeterConfig
	now atomic.Pointer[Progress]

	mu     sync.Mutex // of those who change it
	missed bool       // the tail before the present one was not reached in time
}

// NewMeter returns a meter at the start of a journal.
func NewMeter(cfg MeterConfig) *Meter {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Every == 0 {
		cfg.Every = 250 * time.Millisecond
	}
	if cfg.LogEvery == 0 {
		cfg.LogEvery = 10 * time.Second
	}
	if cfg.BehindRecords == 0 {
		cfg.BehindRecords = 10_000
	}
	if cfg.BehindTime == 0 {
		cfg.BehindTime = time.Second
	}
	m := &Meter{cfg: cfg}
	m.now.Store(&Progress{})
	return m
}

// Progress returns the present value.
func (m *Meter) Progress() Progress { return *m.now.Load() }

// change replaces the value by a changed copy and logs what changed.
func (m *Meter) change(f func(p *Progress)) {
	m.mu.Lock()
	p := *m.now.Load()
	was := p.CaughtUp
	f(&p)
	p.CaughtUp = m.caughtUp(&p)
	m.now.Store(&p)
	m.mu.Unlock()
	if p.CaughtUp != was {
		m.say(&p)
	}
}

// caughtUp decides with hysteresis: it takes meeting the tail to be caught up,
// and a lag worth speaking of to fall behind.
func (m *Meter) caughtUp(p *Progress) bool {
	switch {
	case !p.TailKnown:
		return false
	case p.Cursor >= p.Tail.Pos:
		return true
	}
	lag := p.Lag(p.Tail.When)
	late := m.missed && lag.Time > m.cfg.BehindTime
	return p.CaughtUp && lag.Records <= m.cfg.BehindRecords && !late
}

// took accounts for an item that a follower took.
func (m *Meter) took(it *journal.Item) {
	m.change(func(p *Progress) {
		p.Heard = time.Now()
		if it.Verdict == journal.Heartbeat {
			return
		}
		m.at(p, it.Cursor)
		if it.Verdict == journal.Live {
			p.applied(it.Batch.Count)
		}
		p.skipped(it.Verdict, it.Batch.Count)
	})
}

// Skip accounts for a dead batch of so many records, or a void fence, that the node
// itself read over while appending. It may be called from any goroutine.
func (m *Meter) Skip(v journal.Verdict, records int) {
	m.change(func(p *Progress) { p.skipped(v, records) })
}

// skipped counts what changes nothing.
func (p *Progress) skipped(v journal.Verdict, records int) {
	switch v {
	case journal.Dead:
		p.Dead++
		p.DeadRecords += uint64(records)
	case journal.Void:
		p.Void++
	}
}

// Advance accounts for a batch of n records that the node itself appended and
// applied, or with n of 0 for entries that it read while appending: cursor and
// tail move together.
func (m *Meter) Advance(c journal.Cursor, n int) {
	m.change(func(p *Progress) {
		m.at(p, c)
		p.applied(n)
		p.Heard = time.Now()
		if p.Tail.Pos <= c.Pos {
			p.Tail = journal.End{Pos: c.Pos, Seq: c.Seq, Epoch: c.Epoch, Time: c.Time, Bytes: p.Tail.Bytes, First: p.Tail.First, When: p.Heard}
			p.TailKnown = true
		}
	})
}

// applied counts a batch of n records.
func (p *Progress) applied(n int) {
	p.Replayed += uint64(n)
	if n > 0 {
		p.Batches++
	}
}

func (m *Meter) at(p *Progress, c journal.Cursor) {
	p.Cursor, p.Seq, p.Time, p.Epoch, p.Owner, p.Fence = c.Pos, c.Seq, c.Time, c.Epoch, c.Owner, c.Fence
	if m.cfg.Digest != nil {
		p.Digest = m.cfg.Digest()
	}
}

// Sample reads the tail once.
func (m *Meter) Sample(ctx context.Context) (journal.End, error) {
	end, err := journal.SampleEnd(ctx, m.cfg.Journal)
	m.change(func(p *Progress) {
		p.TailErr = err
		if err == nil {
			m.missed = p.TailKnown && p.Cursor < p.Tail.Pos
			p.Tail, p.TailKnown, p.Heard = end, true, time.Now()
		}
	})
	return end, err
}

// Run samples the tail until ctx ends, and logs a line every LogEvery while the
// follower is behind.
func (m *Meter) Run(ctx context.Context) {
	tick := time.NewTicker(m.cfg.Every)
	defer tick.Stop()
	spoke := time.Now()
	var rate rateMeter
	for {
		m.change(func(p *Progress) { p.Rate = rate.next(time.Now(), p.Replayed) })
		sctx, cancel := context.WithTimeout(ctx, 4*m.cfg.Every)
		m.Sample(sctx) //nolint:errcheck // kept in Progress.TailErr
		cancel()
		if p := m.now.Load(); !p.CaughtUp && time.Since(spoke) >= m.cfg.LogEvery {
			spoke = time.Now()
			m.log("standby.progress", "standby is behind", p)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// A rateMeter smooths a counter's growth over about a second.
type rateMeter struct {
	at    time.Time
	count uint64
	rate  float64
}

func (r *rateMeter) next(now time.Time, count uint64) float64 {
	if dt := now.Sub(r.at).Seconds(); !r.at.IsZero() && dt > 0 {
		weight := min(dt, 1)
		r.rate += weight * (float64(count-r.count)/dt - r.rate)
		if r.rate < 1e-3 {
			r.rate = 0
		}
	}
	r.at, r.count = now, count
	return r.rate
}

func (m *Meter) say(p *Progress) {
	if p.CaughtUp {
		m.log("standby.caught_up", "standby has caught up", p)
	} else {
		m.log("standby.fell_behind", "standby fell behind", p)
	}
}

func (m *Meter) log(event, message string, p *Progress) {
	lag := p.Lag(time.Now())
	attrs := []any{"event", event, "epoch", p.Epoch, "seq", p.Seq, "replayed", p.Replayed}
	if lag.Known {
		attrs = append(attrs, "tail", p.Tail.Seq, "lag_records", lag.Records, "lag_seconds", lag.Time.Seconds())
	}
	m.cfg.Logger.Info(message, attrs...)
}
