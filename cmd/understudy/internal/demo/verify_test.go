package demo

import (
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"understudy.dev/admin"
	"understudy.dev/client"
	"understudy.dev/cmd/understudy/internal/group"
	"understudy.dev/engines/exchange"
	"understudy.dev/engines/exchange/flow"
	"understudy.dev/engines/exchange/reference"
	"understudy.dev/journal"
	"understudy.dev/machine"
)

// honest returns a load, the history and the status that belong together:
// everything verifies.
func honest(t *testing.T) (*load, *history, *admin.NodeStatus) {
	t.Helper()
	replica, err := machine.NewReplica(exchange.Definition())
	if err != nil {
		t.Fatal(err)
	}
	ops := flow.Generate(6, 500)
	l := newLoad(&Config{}, ops, 1, nil)
	h := &history{replica: replica, byKey: make(map[key][]int), bySeq: make(map[journal.Seq]key)}
	var book reference.Book
	for i, op := range ops {
		answer, err := book.Apply(op.Typed())
		if err != nil {
			t.Fatal(err)
		}
		reply := exchange.AppendReply(nil, answer)
		seq := journal.Seq(3 + i)
		l.told[i] = told{client.Answer{Seq: seq, Reply: reply}, time.Unix(int64(i), 0)}
		name, version, data := op.Command()
		h.note(&journal.Record{Seq: seq, Client: 2, Request: uint64(i + 1), Name: name, Version: version, Data: data}, &machine.Outcome{Reply: reply})
	}
	d := replica.Digest()
	return l, h, &admin.NodeStatus{Node: "b", AppliedSeq: d.Seq, StateHash: d.Hash.String()}
}

// Each kind of damage is found by the check about it, and by no demo passed.
func TestVerify(t *testing.T) {
	const answered, once, digest, fills = 0, 1, 2, 3
	tests := []struct {
		name   string
		damage func(l *load, h *history, b *admin.NodeStatus)
		want   []int // the checks that fail
	}{
		{"nothing", func(*load, *history, *admin.NodeStatus) {}, nil},
		{"a command never answered", func(l *load, _ *history, _ *admin.NodeStatus) { l.told[9] = told{} }, []int{answered, once, fills}},
		{"a command unknown", func(l *load, _ *history, _ *admin.NodeStatus) {
			l.told[9].Verdict, l.told[9].Err = client.Unknown, client.ErrUnknown
		}, []int{answered, once}},
		{"an acknowledged command lost", func(l *load, h *history, _ *admin.NodeStatus) { delete(h.bySeq, l.told[9].Seq) }, []int{once}},
		{"carried out twice", func(l *load, h *history, _ *admin.NodeStatus) {
			d := h.deeds[9]
			d.seq = 900
			h.byKey[d.key] = append(h.byKey[d.key], len(h.deeds))
			h.deeds = append(h.deeds, d)
		}, []int{once}},
		{"carried out though never acknowledged", func(_ *load, h *history, _ *admin.NodeStatus) {
			h.deeds = append(h.deeds, deed{key: key{2, 900}, seq: 900})
		}, []int{once}},
		{"another command in its place", func(_ *load, h *history, _ *admin.NodeStatus) { h.deeds[9].data = []byte("other") }, []int{once}},
		{"the client told otherwise", func(_ *load, h *history, _ *admin.NodeStatus) { h.deeds[9].reply = []byte("other") }, []int{once}},
		{"a retry told as new", func(l *load, h *history, _ *admin.NodeStatus) {
			l.told[9].Seq = 900
			h.bySeq[900] = h.deeds[9].key
		}, []int{once}},
		{"out of order", func(l *load, h *history, _ *admin.NodeStatus) {
			i, j := h.deeds[9], h.deeds[10]
			h.deeds[9], h.deeds[10] = j, i
			h.byKey[i.key], h.byKey[j.key] = []int{10}, []int{9}
		}, []int{once}},
		{"the standby at another state", func(_ *load, _ *history, b *admin.NodeStatus) { b.StateHash = "00" }, []int{digest}},
		{"the standby at another place", func(_ *load, _ *history, b *admin.NodeStatus) { b.AppliedSeq++ }, []int{digest}},
		{"a fill more, everywhere", func(l *load, h *history, _ *admin.NodeStatus) {
			reply := exchange.AppendReply(nil, exchange.Reply{Fills: []exchange.Fill{{Maker: 1, Price: 2, Qty: 3}}})
			l.told[9].Reply, h.deeds[9].reply = reply, reply
		}, []int{fills}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, h, b := honest(t)
			tt.damage(l, h, b)
			var got []int
			checks := l.verify(h, b)
			for i, c := range checks {
				if !c.OK {
					got = append(got, i)
				}
				if c.Detail == "" {
					t.Errorf("%s: no detail", c.Name)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("failed checks %v, want %v: %+v", got, tt.want, checks)
			}
			if err := finish(t, l, checks); errors.Is(err, ErrFailed) != (tt.want != nil) {
				t.Errorf("the demo ends with %v", err)
			}
		})
	}
}

// finish ends a demo with these checks.
func finish(t *testing.T, l *load, checks []Check) error {
	t.Helper()
	cfg := &Config{Quiet: true, Stdout: io.Discard, Stderr: io.Discard}
	s := &show{timeline: newTimeline(cfg), cfg: cfg, load: l, group: &group.Group{Dir: t.TempDir()}}
	s.result.Checks = checks
	return s.finish(nil)
}

// The gap is between the last answer of the old tenure and the first of the new,
// whatever lies between.
func TestGap(t *testing.T) {
	l, _, _ := honest(t)
	l.told[100].at = l.told[100].at.Add(time.Hour) // a late answer of the new primary
	if got, ok := l.gap(53); !ok || got != 2*time.Second {
		t.Errorf("gap(53) = %v, %v; want 2s: seq 52 was answered at 49 s, seq 54 at 51 s", got, ok)
	}
	if got, ok := l.gap(1000); ok {
		t.Errorf("gap(1000) = %v, want none: the new primary answered nothing", got)
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 151690: "151,690", 1234567: "1,234,567"} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%d) = %q, want %q", n, got, want)
		}
	}
}
