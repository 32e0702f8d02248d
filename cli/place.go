package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"understudy.dev/journal"
)

// A place is where in a journal a command begins or ends: --from, --to, --at.
type place struct {
	seq  journal.Seq
	time journal.Time // used if seq is 0
	end  bool         // the tail
}

// parsePlace understands a Seq, a negative number from the end, a time, a
// duration before now such as -15m, and "tail".
func (e *Env) parsePlace(s string, end journal.End) (place, error) {
	if s == "tail" {
		return place{seq: end.Seq, end: true}, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		if n < 0 {
			back := journal.Seq(-n)
			if back > end.Seq {
				return place{seq: 1}, nil
			}
			return place{seq: end.Seq - back + 1}, nil
		}
		return place{seq: journal.Seq(n)}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return place{time: journal.TimeOf(t)}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && strings.HasPrefix(s, "-") {
		return place{time: journal.TimeOf(e.Now().Add(d))}, nil
	}
	return place{}, usagef("%q is no place in a journal: want a seq, -N from the end, a time like 2026-11-22T10:31:00Z, -15m, or tail", s)
}

// A stretch is a part of a journal.
type stretch struct {
	from, to place
	count    uint64 // at most; 0 means no limit
	follow   bool
}

// spanFlags are the flags that choose a part of a journal.
type spanFlags struct {
	from, to string
	count    uint64
	follow   bool
}

func (e *Env) stretchOf(f spanFlags, end journal.End) (stretch, error) {
	sp := stretch{count: f.count, follow: f.follow}
	var err error
	if f.from != "" {
		if sp.from, err = e.parsePlace(f.from, end); err != nil {
			return sp, fmt.Errorf("--from: %w", err)
		}
	}
	if f.to != "" {
		if f.follow {
			return sp, usagef("--follow has no end: leave --to out")
		}
		if sp.to, err = e.parsePlace(f.to, end); err != nil {
			return sp, fmt.Errorf("--to: %w", err)
		}
	}
	return sp, nil
}

func (p place) zero() bool { return p.seq == 0 && p.time == 0 && !p.end }

// before reports whether a record lies before the place.
func (p place) before(seq journal.Seq, t journal.Time) bool {
	if p.seq != 0 {
		return seq < p.seq
	}
	return t < p.time
}

// after reports whether a record lies after the place.
func (p place) after(seq journal.Seq, t journal.Time) bool {
	switch {
	case p.zero():
		return false
	case p.seq != 0 || p.end:
		return seq > p.seq
	}
	return t > p.time
}

// reached reports whether nothing of the stretch lies behind seq, so that what
// does need not be read.
func (sp *stretch) reached(seq journal.Seq) bool { return sp.to.seq != 0 && seq >= sp.to.seq }

// items calls f with each entry of the stretch, verified, until f returns false. It
// begins at a batch at or before the stretch's start, so that what lies before is
// not read, and ends with the journal's end as sampled; a stretch that follows ends
// by being interrupted, which is not an error to be told.
func (e *Env) items(ctx context.Context, j journal.Journal, sp stretch, end journal.End, f func(it *journal.Item) (bool, error)) error {
	from, err := journal.Locate(ctx, j, journal.Target{Seq: sp.from.seq, Time: sp.from.time})
	if err != nil {
		return fmt.Errorf("find where to begin: %w", err)
	}
	r := journal.NewReader(j, journal.ReaderConfig{From: from, Source: journal.Describe(j).Location})
	defer r.Close()
	var it journal.Item
	for sp.follow || r.Cursor().Pos < end.Pos {
		if err := r.Next(ctx, &it); err != nil {
			if sp.follow && ctx.Err() != nil {
				return quietly(exitInterrupted)
			}
			return err
		}
		if it.Verdict == journal.Heartbeat {
			continue
		}
		if more, err := f(&it); err != nil || !more {
			return err
		}
	}
	return nil
}
