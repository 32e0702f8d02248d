package natsjournal

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go"

	"understudy.dev/journal"
)

// newDeaf returns a follower at a position that has no server: it hears what the
// test says and tells what it yields.
func newDeaf(t *testing.T, at journal.Position) (*follower, func() []string) {
	var yielded []string
	f := &follower{
		Journal: &Journal{cfg: Config{Stream: "TEST"}},
		ctx:     t.Context(), inbox: "_INBOX.test", at: at,
		yield: func(e journal.Entry, err error) bool {
			word := "entry "
			if len(e.Data) == 0 {
				word = "heartbeat "
			}
			yielded = append(yielded, word+strconv.Itoa(int(e.Pos)))
			return err == nil
		},
	}
	return f, func() []string {
		got := yielded
		yielded = nil
		return got
	}
}

func republished(pos journal.Position) *nats.Msg {
	return &nats.Msg{Data: []byte("x"), Header: nats.Header{"Nats-Stream": {"TEST"}, "Nats-Sequence": {fmt.Sprint(pos)}}}
}

// An answer that the stream ends at last, to a question asked at asked.
func answer(asked, last journal.Position) *nats.Msg {
	return &nats.Msg{
		Subject: fmt.Sprintf("_INBOX.test.%d", asked),
		Data:    fmt.Appendf(nil, `{"created":"2026-11-22T00:00:00Z","state":{"last_seq":%d}}`, last),
	}
}

// What was read back from the past and is then heard live is not yielded twice.
func TestTookOnce(t *testing.T) {
	f, yielded := newDeaf(t, 5)
	for _, pos := range []journal.Position{3, 5, 6, 6, 4, 7, 1} {
		if err := f.took(republished(pos)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := yielded(), []string{"entry 6", "entry 7"}; !slices.Equal(got, want) {
		t.Errorf("yielded %q, want %q", got, want)
	}
}

func TestTookForeign(t *testing.T) {
	f, yielded := newDeaf(t, 5)
	other, numberless := republished(6), republished(6)
	other.Header.Set("Nats-Stream", "OTHER")
	numberless.Header.Set("Nats-Sequence", "six")
	for _, m := range []*nats.Msg{other, numberless, {Data: []byte("x")}} {
		if err := f.took(m); err != nil {
			t.Fatal(err)
		}
	}
	if got := yielded(); len(got) > 0 {
		t.Errorf("yielded %q, want nothing", got)
	}
}

// A heartbeat says where the stream ends. That it ends before what was yielded is
// believed only of an answer that is not older, and when it is said twice.
func TestLooked(t *testing.T) {
	type heard struct{ asked, last journal.Position }
	tests := []struct {
		name  string
		moved bool
		heard []heard
		want  []string
	}{
		{"at the end", true, []heard{{5, 5}, {5, 5}}, []string{"heartbeat 5", "heartbeat 5"}},
		{"answer from before the last entries", true, []heard{{3, 3}, {3, 3}, {4, 4}}, nil},
		{"asked before, answered after", true, []heard{{3, 5}}, []string{"heartbeat 5"}},
		{"ends below, said once", true, []heard{{5, 4}, {5, 5}}, []string{"heartbeat 5"}},
		{"ends below, said twice", true, []heard{{5, 4}, {5, 4}}, []string{"heartbeat 4"}},
		{"began beyond the end", false, []heard{{5, 2}, {5, 2}}, []string{"heartbeat 2", "heartbeat 2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, yielded := newDeaf(t, 5)
			f.moved = tt.moved
			for _, h := range tt.heard {
				f.unanswered = 3
				if err := f.looked(answer(h.asked, h.last)); err != nil {
					t.Fatal(err)
				}
				if f.unanswered != 0 {
					t.Errorf("unanswered = %d after an answer, want 0", f.unanswered)
				}
			}
			if got := yielded(); !slices.Equal(got, tt.want) {
				t.Errorf("yielded %q, want %q", got, tt.want)
			}
		})
	}
}

// No responders, and a cluster without a leader, are no answer.
func TestLookedAtNobody(t *testing.T) {
	for name, m := range map[string]*nats.Msg{
		"no responders": {Header: nats.Header{"Status": {"503"}}},
		"no leader":     {Data: []byte(`{"error":{"code":503,"err_code":10008,"description":"temporarily unavailable"}}`)},
	} {
		f, yielded := newDeaf(t, 5)
		f.unanswered = 3
		if err := f.looked(m); err != nil || f.unanswered != 3 || len(yielded()) > 0 {
			t.Errorf("%s: err = %v, unanswered = %d; want nothing to have happened", name, err, f.unanswered)
		}
	}
	f, _ := newDeaf(t, 5)
	if err := f.looked(&nats.Msg{Data: []byte(`{"error":{"code":404,"err_code":10059,"description":"stream not found"}}`)}); err == nil {
		t.Error("stream is gone: err = nil, want an error")
	}
}
