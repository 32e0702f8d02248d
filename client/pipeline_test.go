package client

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"understudy.dev/journal"
	"understudy.dev/machine"
	"understudy.dev/node"
)

// A wire carries copies between a pipeline and the model of a group, without a
// network or a clock: a seed decides what arrives, what is answered and when a
// connection is lost. Copies of a lost connection may still arrive, as those do
// that a node had already read.
type wire struct {
	g     *group
	p     *pipeline
	rng   *rand.Rand
	up    []node.Request // on the way to the node
	down  []result       // on the way back
	stray []node.Request // read by the node, on a connection that is gone
	alive bool

	strict bool // this node refuses commands called nonsense; others may carry them out
}

func (w *wire) send(t *testing.T) {
	if w.p.wantsSession() && w.rng.IntN(2) == 0 {
		name := ""
		if w.p.ordered {
			name = ordered
		}
		w.p.openingSent()
		w.up = append(w.up, node.Request{Kind: journal.KindSession, Name: name})
	}
	for w.rng.IntN(8) != 0 {
		r := w.p.nextToSend()
		if r == nil {
			return
		}
		w.up = append(w.up, node.Request{
			Kind: journal.KindCommand, Name: r.name, Client: w.p.session, Number: r.number, Low: w.p.low, Data: append([]byte(nil), r.data...),
		})
		if r.number-w.p.low >= w.p.window || w.p.inflight >= w.p.window {
			t.Fatalf("number %d sent with %d under way, lowest %d, window %d", r.number, w.p.inflight, w.p.low, w.p.window)
		}
		w.p.markSent(r)
	}
}

// arrive lets the node take one copy. wells is how well it is, in percent.
func (w *wire) arrive(well int) {
	if len(w.up) == 0 {
		return
	}
	r := w.up[0]
	w.up = w.up[1:]
	switch {
	case w.strict && r.Name == "nonsense":
		w.answer(r, node.Result{Status: node.Refused})
	case w.rng.IntN(100) < well:
		w.answer(r, node.Result{Outcome: w.g.apply(&r)})
	case w.rng.IntN(3) == 0:
		w.g.apply(&r)
		w.answer(r, node.Result{Status: node.Unknown})
	case w.rng.IntN(2) == 0:
		w.answer(r, node.Result{Status: node.Unknown})
	default:
		w.answer(r, node.Result{Status: node.NotDone})
	}
}

// answer puts a result anywhere among those on the way: a node answers in any order.
func (w *wire) answer(r node.Request, res node.Result) {
	out := result{number: r.Number, status: res.Status, seq: res.Outcome.Seq, code: res.Outcome.Code, repeated: res.Outcome.Repeated, body: res.Outcome.Reply}
	at := 0
	if len(w.down) > 0 {
		at = w.rng.IntN(len(w.down) + 1)
	}
	w.down = append(w.down[:at], append([]result{out}, w.down[at:]...)...)
}

func (w *wire) receive(t *testing.T) {
	if len(w.down) == 0 {
		return
	}
	res := w.down[0]
	w.down = w.down[1:]
	if ev := w.p.result(&res); ev == stray {
		t.Fatalf("result %+v was not asked for", res)
	}
}

// cut loses the connection. Some of what the node had read is still to be taken.
func (w *wire) cut() {
	read := w.rng.IntN(len(w.up) + 1)
	for _, r := range w.up[:read] {
		if !w.strict || r.Name != "nonsense" {
			w.stray = append(w.stray, r)
		}
	}
	w.up, w.down, w.alive = nil, nil, false
	w.p.detach()
}

// otherNode may make another node the primary. Then what the old one had read is
// in the journal before the new one answers, or never.
func (w *wire) otherNode() {
	if w.rng.IntN(2) == 0 {
		return
	}
	for n := w.rng.IntN(len(w.stray) + 1); n > 0; n-- {
		w.takeStray()
	}
	w.stray = nil
	w.strict = !w.strict
}

// takeStray lets the node take the oldest copy of lost connections.
func (w *wire) takeStray() {
	if len(w.stray) > 0 {
		w.g.apply(&w.stray[0])
		w.stray = w.stray[1:]
	}
}

// Whatever is lost, late or refused, a command is carried out at most once, its
// one answer is true, and an ordered session keeps its order.
func TestPipelineAgainstModel(t *testing.T) {
	seeds := uint64(3000)
	if testing.Short() {
		seeds = 300
	}
	for seed := range seeds {
		for _, inOrder := range []bool{false, true} {
			if !t.Run(fmt.Sprintf("seed %d ordered %v", seed, inOrder), func(t *testing.T) { playPipeline(t, seed, inOrder) }) {
				return
			}
		}
	}
}

func playPipeline(t *testing.T, seed uint64, inOrder bool) {
	const commands = 60
	rng := rand.New(rand.NewPCG(seed, 5))
	g := newGroup()
	g.window = uint64(4 + rng.IntN(16))
	window := 1 + rng.IntN(16)
	w := &wire{g: g, p: newPipeline(inOrder, window), rng: rng}
	l := newLedger()
	l.open.Add(commands)
	given := uint64(0)
	type open struct {
		r  *request
		id uint64
	}
	var requests []open
	expiry, cancels, refusals := rng.IntN(3) == 0, rng.IntN(2) == 0, rng.IntN(2) == 0
	for step := 0; ; step++ {
		if step > 200000 {
			t.Fatalf("no end: %+v", w.p)
		}
		calm := step > 3000 // then nothing goes wrong any more
		switch op := rng.IntN(100); {
		case op < 15 && given < commands && len(w.p.pending)-w.p.head < window:
			given++
			id := given
			name := "put"
			if refusals && rng.IntN(10) == 0 {
				name = "nonsense"
			}
			r := w.p.add(name, 0, binary.LittleEndian.AppendUint64(nil, id), time.Time{}, func(a Answer) {
				l.answers[id] = append(l.answers[id], a)
				l.open.Done()
			})
			requests = append(requests, open{r, r.id})
		case op < 40:
			if !w.alive {
				w.alive = true
				w.otherNode()
				w.p.attach(uint32(1+rng.IntN(20)), 1<<20)
			}
			w.send(t)
		case op < 60:
			w.arrive(map[bool]int{false: 90, true: 100}[calm])
		case op < 80:
			w.receive(t)
		case op < 85:
			w.p.release()
		case op < 90:
			w.takeStray()
		case op < 92 && !calm && w.alive:
			w.cut()
		case op == 93 && !calm && expiry && rng.IntN(4) == 0:
			clear(g.sessions)
		case op == 94 && cancels && len(requests) > 0:
			o := requests[rng.IntN(len(requests))]
			w.p.abandon(o.r, o.id, errDeadline)
		}
		for _, c := range w.p.take(nil) {
			c.done(c.answer)
		}
		if given == commands && len(l.answers) == commands {
			break
		}
	}
	for len(w.stray) > 0 {
		w.takeStray()
	}
	l.lateUnknown = refusals // nodes that disagree: see the package comment
	verdicts := l.check(t, g.log, inOrder)
	if !cancels && !refusals && !expiry && verdicts[Done] != commands {
		t.Errorf("verdicts = %v, want all done", verdicts)
	}
}

// A pipeline that sent numbers 1 to n on one connection.
func sentPipeline(inOrder bool, n int) (*pipeline, *ledger) {
	p, l := newPipeline(inOrder, 16), newLedger()
	for i := range uint64(n) {
		p.add("put", 0, id(i+1), time.Time{}, func(a Answer) { l.answers[i+1] = append(l.answers[i+1], a) })
	}
	p.attach(16, 1<<20)
	p.openingSent()
	p.result(&result{seq: 100})
	drainPipeline(p)
	return p, l
}

// drainPipeline sends what can be sent and returns the numbers.
func drainPipeline(p *pipeline) (numbers []uint64) {
	for r := p.nextToSend(); r != nil; r = p.nextToSend() {
		numbers = append(numbers, r.number)
		p.markSent(r)
	}
	return numbers
}

func handOut(p *pipeline) {
	for _, c := range p.take(nil) {
		c.done(c.answer)
	}
}

// Results that leave a command unanswered lead to its being sent again, in order.
func TestWhatIsSentAgain(t *testing.T) {
	done := func(n uint64) result { return result{number: n} }
	code := func(n uint64, c machine.Code) result { return result{number: n, code: c} }
	status := func(n uint64, s node.Status) result { return result{number: n, status: s} }
	tests := []struct {
		name    string
		ordered bool
		results []result
		held    string // sent again while the hold lasts
		after   string // and after it
	}{
		{name: "all done", results: []result{done(1), done(2), done(3)}, held: "[]", after: "[]"},
		{name: "not done", results: []result{status(2, node.NotDone)}, held: "[]", after: "[2]"},
		{name: "unknown", results: []result{status(2, node.Unknown), done(1)}, held: "[]", after: "[2]"},
		{name: "a hole behind one not done", ordered: true, results: []result{status(1, node.NotDone), code(2, machine.Hole), code(3, machine.Hole)}, held: "[]", after: "[1 2 3]"},
		{name: "a hole alone waits", ordered: true, results: []result{code(1, machine.Hole)}, held: "[]", after: "[1]"},
		{name: "holes behind a late answer", ordered: true, results: []result{code(3, machine.Hole), code(2, machine.Hole)}, held: "[2 3]", after: "[]"},
		{name: "beyond the window", results: []result{code(3, machine.Beyond), done(1), done(2)}, held: "[]", after: "[3]"},
		{name: "another session for what met none", results: []result{code(1, machine.NoSession), code(3, machine.NoSession), code(2, machine.NoSession)}, held: "[]", after: "[]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := sentPipeline(tt.ordered, 3)
			for _, r := range tt.results {
				p.result(&r)
			}
			if got := fmt.Sprint(drainPipeline(p)); got != tt.held {
				t.Errorf("sent during the hold = %v, want %v", got, tt.held)
			}
			p.release()
			if got := fmt.Sprint(drainPipeline(p)); got != tt.after {
				t.Errorf("sent after the hold = %v, want %v", got, tt.after)
			}
		})
	}
}

// A second result for the same copy is not in the protocol.
func TestResultThatWasNotAsked(t *testing.T) {
	p, _ := sentPipeline(true, 2)
	for _, r := range []result{{number: 2, status: node.NotDone}, {number: 1}} {
		if ev := p.result(&r); ev == stray {
			t.Errorf("first result of %d is stray", r.number)
		}
		if ev := p.result(&r); ev != stray {
			t.Errorf("second result of %d = event %d, want stray", r.number, ev)
		}
	}
	if ev := p.result(&result{number: 3}); ev != stray {
		t.Errorf("result of a number that was never given = event %d, want stray", ev)
	}
}

// What answers mean when the session is gone.
func TestVerdictsWithoutSession(t *testing.T) {
	gone := func(n uint64) result { return result{number: n, code: machine.NoSession} }
	tests := []struct {
		name    string
		before  func(p *pipeline) // on the first connection, with 1 and 2 under way
		results []result          // on the second one
		want    string            // verdicts of 1 and 2; "again" if sent in the next session
	}{
		{name: "answered on this connection only", before: func(p *pipeline) {
			p.result(&result{number: 1, status: node.NotDone})
			p.result(&result{number: 2, status: node.NotDone})
		}, results: []result{gone(1), gone(2)}, want: "again again"},
		{name: "one copy lost", before: func(p *pipeline) { p.result(&result{number: 2, status: node.NotDone}) }, results: []result{gone(1), gone(2)}, want: "unknown again"},
		{name: "unknown before", before: func(p *pipeline) {
			p.result(&result{number: 1, status: node.NotDone})
			p.result(&result{number: 2, status: node.Unknown})
		}, results: []result{gone(1), gone(2)}, want: "again unknown"},
		{name: "carried out before", results: []result{{number: 1, repeated: true}, gone(2)}, want: "done unknown"},
		{name: "forgotten", results: []result{{number: 1, code: machine.Forgotten}, {number: 2}}, want: "unknown done"},
		{name: "refused, a copy lost", results: []result{{number: 1, status: node.Refused}, {number: 2}}, want: "unknown done"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, l := sentPipeline(false, 2)
			if tt.before != nil {
				tt.before(p)
			}
			p.detach()
			p.attach(16, 1<<20)
			drainPipeline(p)
			for _, r := range tt.results {
				p.result(&r)
			}
			handOut(p)
			got := ""
			for n := range uint64(2) {
				if n > 0 {
					got += " "
				}
				if a := l.answers[n+1]; len(a) == 1 {
					got += a[0].Verdict.String()
				} else {
					got += "again"
				}
			}
			if got != tt.want {
				t.Errorf("verdicts = %s, want %s", got, tt.want)
			}
		})
	}
}
