package cli

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"understudy.dev/journal"
)

// A place is where in a journal a command begins or ends: --from, --to, --at.
type place struct {
	seq   journal.Seq
	time  journal.Time // used if seq is 0
	end   bool         // the tail
	start bool         // before the first record

	said int64 // the number as it was written, of the tail -1; 0 for a time
	form form
}

// A form is how a place was written; places of one form can be compared without
// knowing what the journal holds.
type form uint8

const (
	notSaid  form = iota
	asSeq         // from the start
	fromTail      // from the end
	asTime
)

// parsePlace understands a Seq, where 0 is before the first, a negative number from
// the end, a time, a duration before now such as -15m, and "tail".
func (e *Env) parsePlace(s string, end journal.End) (place, error) {
	if s == "tail" {
		return place{seq: end.Seq, end: true, said: -1, form: fromTail}, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return placeOf(n, end), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return placeAt(t), nil
	}
	if d, err := time.ParseDuration(s); err == nil && strings.HasPrefix(s, "-") {
		return placeAt(e.Now().Add(d)), nil
	}
	return place{}, usagef("%q is no place in a journal: want a seq, -N from the end, a time like 2026-11-22T10:31:00Z, -15m, or tail", s)
}

// placeOf is the place of a number. Before the first record there is none to name, so
// what lies there is the start.
func placeOf(n int64, end journal.End) place {
	p := place{seq: journal.Seq(max(n, 0)), said: n, form: asSeq}
	if n < 0 {
		p.form = fromTail
		if back := journal.Seq(-n); back <= end.Seq {
			p.seq = end.Seq - back + 1
		}
	}
	p.start = p.seq == 0
	return p
}

// placeAt is the place of a time. No record has the zero Time, which is where 1970
// begins, or one before it; behind 2261 there is no Time.
func placeAt(t time.Time) place {
	p := place{form: asTime}
	switch {
	case t.Unix() < 0 || t.UnixNano() == 0:
		p.start = true
	case t.Year() > 2261:
		p.time = math.MaxInt64
	default:
		p.time = journal.TimeOf(t)
	}
	return p
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
	if sp.from.behind(sp.to) {
		return sp, usagef("--from %s lies behind --to %s", f.from, f.to)
	}
	return sp, nil
}

// stretchIn is the stretch of j that f chooses.
func (e *Env) stretchIn(j journal.Journal, f spanFlags, end journal.End) (stretch, error) {
	sp, err := e.stretchOf(f, end)
	if of := journal.Describe(j); err == nil && f.follow && of.Backend == "archive" {
		err = usagef("%s is an archive, to which nothing is added: leave --follow out", of.Location)
	}
	return sp, err
}

// behind reports whether p was certainly meant to lie behind q: what mixes numbers
// from the start, numbers from the end and times depends on the journal, and is then
// just a stretch that may have nothing in it.
func (p place) behind(q place) bool {
	if p.form != q.form {
		return false
	}
	if p.form == asTime {
		return p.time > q.time
	}
	return p.said > q.said
}

func (p place) zero() bool { return p.form == notSaid }

// before reports whether a record lies before the place.
func (p place) before(seq journal.Seq, t journal.Time) bool {
	switch {
	case p.start:
		return false
	case p.seq != 0:
		return seq < p.seq
	}
	return t < p.time
}

// after reports whether a record lies after the place.
func (p place) after(seq journal.Seq, t journal.Time) bool {
	switch {
	case p.zero():
		return false
	case p.start:
		return true
	case p.seq != 0 || p.end:
		return seq > p.seq
	}
	return t > p.time
}

// reached reports whether nothing of the stretch lies behind seq, so that what
// does need not be read.
func (sp *stretch) reached(seq journal.Seq) bool { return sp.to.seq != 0 && seq >= sp.to.seq }

// empty reports whether nothing can lie in the stretch, whatever the journal holds.
func (sp *stretch) empty() bool {
	return sp.to.start || sp.to.seq != 0 && sp.from.seq > sp.to.seq
}

// items calls f with each entry of the stretch, verified, until f returns false. It
// begins at a batch at or before the stretch's start, so that what lies before is
// not read, and ends with the journal's end as sampled; a stretch that follows ends
// by being interrupted, which is not an error to be told.
func (e *Env) items(ctx context.Context, j journal.Journal, sp stretch, end journal.End, f func(it *journal.Item) (bool, error)) error {
	if sp.empty() {
		return nil
	}
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
