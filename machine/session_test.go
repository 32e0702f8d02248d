package machine_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"understudy.dev/journal"
	"understudy.dev/machine"
)

// RULES 25: what a session answers. Each test opens a session (seq 1) and asks in
// one order; window 8, at most 3 sessions.
func TestSession(t *testing.T) {
	type ask struct {
		number, low uint64
		text        string
		want        machine.Code
		repeated    bool
	}
	tests := []struct {
		name    string
		kind    string
		asks    []ask
		applied int
	}{
		{"in order", "", []ask{{1, 1, "a", machine.OK, false}, {2, 2, "b", machine.OK, false}}, 2},
		{"a retry gets the first answer", "", []ask{{1, 1, "a", machine.OK, false}, {1, 1, "a", machine.OK, true}, {1, 1, "other text", machine.OK, true}}, 1},
		{"a rejection is remembered like any answer", "", []ask{{1, 1, "", machine.Rejected, false}, {1, 1, "now valid", machine.Rejected, true}}, 0},
		{"the window in any order", "", []ask{{8, 1, "h", machine.OK, false}, {3, 1, "c", machine.OK, false}, {1, 1, "a", machine.OK, false}, {3, 1, "c", machine.OK, true}}, 3},
		{"beyond the window", "", []ask{{9, 1, "i", machine.Beyond, false}, {9, 2, "i", machine.OK, false}}, 1},
		{"forgotten below the lowest unanswered", "", []ask{{1, 1, "a", machine.OK, false}, {2, 2, "b", machine.OK, false}, {1, 1, "a", machine.Forgotten, false}}, 2},
		{"never asked, but said to be answered", "", []ask{{5, 5, "e", machine.OK, false}, {2, 2, "b", machine.Forgotten, false}}, 1},
		{"the lowest number never falls", "", []ask{{5, 5, "e", machine.OK, false}, {12, 1, "l", machine.OK, false}, {13, 1, "m", machine.Beyond, false}}, 2},
		{"ordered: a hole is not filled over", "ordered", []ask{{1, 1, "a", machine.OK, false}, {3, 1, "c", machine.Hole, false}, {2, 1, "b", machine.OK, false}, {3, 1, "c", machine.OK, false}}, 3},
		{"ordered: retries", "ordered", []ask{{1, 1, "a", machine.OK, false}, {2, 1, "b", machine.OK, false}, {1, 1, "a", machine.OK, true}, {3, 3, "c", machine.OK, false}, {2, 1, "b", machine.Forgotten, false}}, 3},
		{"request 0", "", []ask{{0, 0, "x", machine.Forgotten, false}}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t)
			d.apply(t, open(tt.kind))
			first := make(map[uint64]string)
			for i, a := range tt.asks {
				got := d.apply(t, asked(1, a.number, a.low, a.text))[0]
				if got.Code != a.want || got.Repeated != a.repeated {
					t.Errorf("ask %d, request %d low %d: %v repeated %v, want %v, %v", i+1, a.number, a.low, got.Code, got.Repeated, a.want, a.repeated)
				}
				if a.repeated && string(got.Reply) != first[a.number] {
					t.Errorf("ask %d: reply %q, the first one was %q", i+1, got.Reply, first[a.number])
				}
				if got.Code.Applied() && !a.repeated {
					first[a.number] = string(got.Reply)
				}
			}
			if got := len(d.book.notes); got != tt.applied {
				t.Errorf("applied %d times, want %d", got, tt.applied)
			}
		})
	}
}

// RULES 25: an expired session is answered so and never executed; the least
// recently used goes first; a number that was never a session is not one.
func TestSessionsExpire(t *testing.T) {
	d := newDesk(t)
	d.apply(t, open(""), open(""), open("")) // 1, 2, 3
	d.apply(t, asked(1, 1, 1, "a"))          // 1 was used last, 2 longest ago
	d.apply(t, open(""))                     // 5
	if got := d.Sessions(); got != 3 {
		t.Errorf("%d sessions", got)
	}
	for _, tt := range []struct {
		session journal.Seq
		want    machine.Code
	}{{1, machine.OK}, {2, machine.NoSession}, {3, machine.OK}, {5, machine.OK}, {4, machine.NoSession}, {99, machine.NoSession}} {
		if got := d.apply(t, asked(tt.session, 2, 1, "x"))[0].Code; got != tt.want {
			t.Errorf("session %d: %v, want %v", tt.session, got, tt.want)
		}
	}
	if got := len(d.book.notes); got != 4 {
		t.Errorf("%d notes, want 4", got)
	}
	// A retry renews a session as well.
	d.apply(t, asked(1, 2, 1, "x"))
	d.apply(t, open(""))
	if got := d.apply(t, asked(1, 2, 1, "x"))[0]; got.Code != machine.OK || !got.Repeated {
		t.Errorf("the renewed session: %+v", got)
	}
}

// A session's memory of answers grows to the window and keeps all of them.
func TestSessionGrows(t *testing.T) {
	d := newDesk(t, func(def *machine.Definition) { def.Window = 1000 })
	d.apply(t, open(""))
	const low = 7
	for n := uint64(low + 999); n >= low; n-- {
		d.apply(t, asked(1, n, low, fmt.Sprint(n)))
	}
	for n := uint64(low); n < low+1000; n++ {
		got := d.apply(t, asked(1, n, low, "again"))[0]
		if want := low + 1000 - n; !got.Repeated || len(got.Reply) != 4 || uint64(got.Reply[2])<<8+uint64(got.Reply[3]) != want {
			t.Fatalf("request %d: %+v, want reply %d", n, got, want)
		}
	}
	if got := len(d.book.notes); got != 1000 {
		t.Errorf("%d notes", got)
	}
}

// A modelSession is what a session is, without any care for memory: all requests
// carried out, with their answers.
type modelSession struct {
	id      journal.Seq
	ordered bool
	low     uint64
	done    map[uint64]machine.Outcome
}

// RULES 25: the session layer against a naive model, in any order of sessions,
// numbers and batches. What an outcome says is carried out is carried out once.
func TestSessionsAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		window := rapid.IntRange(1, 20).Draw(rt, "window")
		limit := rapid.IntRange(1, 4).Draw(rt, "sessions")
		d := newDesk(t, func(def *machine.Definition) { def.Window, def.Sessions = window, limit })
		var model []*modelSession // least recently used first
		var notes int
		for range rapid.IntRange(1, 30).Draw(rt, "batches") {
			var records []journal.Record
			var want []machine.Outcome
			for i := range rapid.IntRange(1, 12).Draw(rt, "records") {
				seq := d.Seq() + 1 + journal.Seq(i)
				if rapid.IntRange(0, 9).Draw(rt, "what") == 0 {
					ordered := rapid.Bool().Draw(rt, "ordered")
					records = append(records, open(map[bool]string{true: "ordered"}[ordered]))
					want = append(want, machine.Outcome{})
					model = append(model, &modelSession{id: seq, ordered: ordered, low: 1, done: make(map[uint64]machine.Outcome)})
					if len(model) > limit {
						model = model[1:]
					}
					continue
				}
				session := journal.Seq(rapid.Uint64Range(1, uint64(seq)).Draw(rt, "session"))
				if len(model) > 0 && rapid.IntRange(0, 5).Draw(rt, "known") > 0 {
					session = rapid.SampledFrom(model).Draw(rt, "of").id
				}
				at := slices.IndexFunc(model, func(s *modelSession) bool { return s.id == session })
				base := uint64(1)
				if at >= 0 {
					base = model[at].low
				}
				number := base + rapid.Uint64Range(0, uint64(window)+2).Draw(rt, "number")
				if number > 3 && rapid.IntRange(0, 9).Draw(rt, "old") == 0 {
					number -= 3
				}
				low := rapid.Uint64Range(max(1, min(base, number)-1), min(number, base+2)+1).Draw(rt, "low")
				low = min(low, number)
				text := rapid.SampledFrom([]string{"", "x"}).Draw(rt, "text")
				records = append(records, asked(session, number, low, text))
				var out machine.Outcome
				if at < 0 {
					out.Code = machine.NoSession
				} else {
					s := model[at]
					model = append(slices.Delete(model, at, at+1), s)
					out = s.ask(number, low, uint64(window), text, &notes)
				}
				want = append(want, out)
			}
			first := d.Seq() + 1
			got := d.apply(t, records...)
			for i := range got {
				want[i].Seq = first + journal.Seq(i)
				if got[i].Seq != want[i].Seq || got[i].Code != want[i].Code || got[i].Repeated != want[i].Repeated || string(got[i].Reply) != string(want[i].Reply) {
					rt.Fatalf("record %d %+v:\n got %+v\nwant %+v", want[i].Seq, records[i], got[i], want[i])
				}
			}
		}
		if len(d.book.notes) != notes {
			rt.Fatalf("%d notes, want %d", len(d.book.notes), notes)
		}
		if d.Sessions() != len(model) {
			rt.Fatalf("%d sessions, want %d", d.Sessions(), len(model))
		}
	})
}

// ask is the rule in words: below low it is forgotten, too far above it beyond;
// answered before it is repeated; a hole in an ordered session is refused.
func (s *modelSession) ask(number, low, window uint64, text string, notes *int) machine.Outcome {
	s.low = max(s.low, low)
	if number < s.low {
		return machine.Outcome{Code: machine.Forgotten}
	}
	if number >= s.low+window {
		return machine.Outcome{Code: machine.Beyond}
	}
	if out, ok := s.done[number]; ok {
		out.Repeated = true
		return out
	}
	if s.ordered {
		highest := uint64(0)
		for n := range s.done {
			highest = max(highest, n)
		}
		if number != highest+1 {
			return machine.Outcome{Code: machine.Hole}
		}
	}
	out := machine.Outcome{Code: machine.Rejected, Reply: []byte(errEmpty.Error())}
	if text != "" {
		*notes++
		out = machine.Outcome{Code: machine.OK, Reply: []byte{byte(*notes >> 24), byte(*notes >> 16), byte(*notes >> 8), byte(*notes)}}
	}
	s.done[number] = out
	return out
}
