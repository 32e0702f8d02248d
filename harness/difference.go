package harness

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"understudy.dev/journal"
)

// ErrPastEnd: the program did more than the compared part of the record says,
// and the record does not claim to be whole: the run was cut short, by a kill or
// by Config.Part. What was compared agreed.
var ErrPastEnd = errors.New("harness: past the end of the record")

// LastTen is how many entries a Difference shows before the place.
const LastTen = 10

// A Difference is the first place where a program, or a second run, parts from
// the record.
type Difference struct {
	Number   uint64  // of what was expected; if that is nil, the number after the last one recorded
	Path     string  // the actor
	Expected *Entry  // what was recorded; nil if nothing more was
	Got      *Entry  // what came instead; nil if nothing did. Its Number is 0 unless it was recorded too
	Missing  uint64  // of a program that ended early: how many entries it did not do, this one included
	Before   []Entry // the last ten that agreed before it, the oldest first: on this path, or in all if the order is strict
}

// Error describes the difference in one line.
func (d *Difference) Error() string {
	s := fmt.Sprintf("harness: difference at record %d, path %s: ", d.Number, showPath(d.Path))
	switch {
	case d.Got == nil:
		s += "expected " + d.expected() + ", got nothing"
	case d.Expected == nil:
		s += "expected nothing more, got " + d.got()
	default:
		s += "expected " + d.expected() + ", got " + d.got()
	}
	if d.Missing > 1 {
		s += fmt.Sprintf("; %d records were not done", d.Missing)
	}
	return s
}

// expected and got show the paths too if they differ, as they do in strict order.
func (d *Difference) expected() string { return d.show(d.Expected, d.Got) }
func (d *Difference) got() string      { return d.show(d.Got, d.Expected) }

func (d *Difference) show(e, other *Entry) string {
	s := e.What()
	if other != nil {
		if at := firstByte(e.Data, other.Data); at >= shownBytes {
			s += fmt.Sprintf(" that differs from byte %d on", at)
		}
		if e.Path != other.Path {
			s += " on path " + showPath(e.Path)
		}
	}
	return s
}

// firstByte returns where a and b part, or -1.
func firstByte(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	if len(a) == len(b) {
		return -1
	}
	return n
}

// Report describes the difference with what came before it, a line each.
func (d *Difference) Report() string {
	var b strings.Builder
	fmt.Fprintln(&b, strings.TrimPrefix(d.Error(), "harness: "))
	for i := range d.Before {
		fmt.Fprintf(&b, "  agreed    %s\n", &d.Before[i])
	}
	if d.Expected != nil {
		fmt.Fprintf(&b, "  expected  %s\n", d.Expected)
	}
	if d.Got != nil {
		got := *d.Got
		if got.Number == 0 {
			got.Number = d.Number // a program's call has none of its own
		}
		fmt.Fprintf(&b, "  got       %s\n", &got)
	}
	return b.String()
}

// agrees reports whether what came is what was recorded. Inputs of the world are
// asked for by kind and path; if values is set, what they were must agree too, as
// between two recorded runs.
func agrees(want, got *Entry, values bool) bool {
	return want.Kind == got.Kind && want.Name == got.Name && want.Path == got.Path &&
		(input(want.Kind) && !values || bytes.Equal(want.Data, got.Data))
}

// A recent keeps the last ten entries that agreed.
type recent struct {
	entries [LastTen]Entry
	count   int
}

// add keeps e, whose Data is the caller's to give away.
func (r *recent) add(e *Entry) {
	r.entries[r.count%LastTen] = *e
	r.count++
}

// last returns them, the oldest first.
func (r *recent) last() []Entry {
	n := min(r.count, LastTen)
	out := make([]Entry, 0, n)
	for i := r.count - n; i < r.count; i++ {
		out = append(out, r.entries[i%LastTen])
	}
	return out
}

// own returns a copy of e whose data does not hold on to a whole batch.
func own(e *Entry) Entry {
	c := *e
	c.Data = bytes.Clone(e.Data)
	return c
}

// called makes an entry of a call.
func called(kind journal.Kind, path, name string, data []byte) *Entry {
	return &Entry{Kind: kind, Path: path, Name: name, Data: bytes.Clone(data)}
}
