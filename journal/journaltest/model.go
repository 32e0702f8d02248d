package journaltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"understudy.dev/journal"
	"understudy.dev/journal/memjournal"
)

var modelScenarios = []scenario{{
	name:   "random operations",
	clause: "A Journal stores entries in order.",
	check:  compareWithModel,
}}

// A step is one operation of a script. Everything in it is relative to the
// journal as it is then, so that a script means something with any of its steps
// left out.
type step struct {
	op      string // "append", "fence", "follow" or "reopen"
	handle  int
	behind  int    // append: entries between prev and the end; -1 names one beyond. follow: the same for the position.
	stale   int    // append: how far the epoch is below the open one. fence: the same; negative is above
	owner   string // append, fence
	records int    // append
}

func (st step) String() string {
	s := fmt.Sprintf("handle %d: %s", st.handle, st.op)
	switch st.op {
	case "append":
		s += fmt.Sprintf(" %d records as %q, %d entries behind the end, epoch %+d", st.records, st.owner, st.behind, -st.stale)
	case "fence":
		s += fmt.Sprintf(" as %q, epoch %+d", st.owner, -st.stale)
	case "follow":
		s += fmt.Sprintf(" from %d entries behind the end", st.behind)
	}
	return s
}

const modelHandles = 3

// randomSteps makes a script in which most appends are right and a few wrong.
func randomSteps(rng *rand.Rand, n int) []step {
	steps := make([]step, n)
	for i := range steps {
		st := step{handle: rng.IntN(modelHandles), owner: string('a' + rune(rng.IntN(2)))}
		switch k := rng.IntN(20); {
		case k < 12:
			st.op, st.records = "append", rng.IntN(4)
			if rng.IntN(4) == 0 {
				st.behind = rng.IntN(5) - 1
			}
			if rng.IntN(4) == 0 {
				st.stale = rng.IntN(3)
			}
		case k < 16:
			st.op, st.stale = "fence", []int{-2, -1, -1, 0, 0, 1}[rng.IntN(6)]
		case k < 19:
			st.op, st.behind = "follow", rng.IntN(8)-1
		default:
			st.op = "reopen"
		}
		steps[i] = st
	}
	return steps
}

// compareWithModel runs the same random script on memjournal and on the journal
// under test. The first difference is shown with the shortest script found that
// still makes one.
func compareWithModel(ctx context.Context, s *scene) error {
	steps := randomSteps(rand.New(rand.NewPCG(s.cfg.Seed, 0)), s.cfg.Steps)
	diff := s.difference(ctx, s.j, steps)
	if diff == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("seed %d, steps %d: %w", s.cfg.Seed, s.cfg.Steps, diff.err)
	}
	steps, diff = s.shorten(ctx, steps[:diff.at+1], diff)
	lines := make([]string, len(steps))
	for i, st := range steps {
		lines[i] = "  " + st.String()
	}
	return fmt.Errorf("seed %d, steps %d: %w; the shortest script found:\n%s", s.cfg.Seed, s.cfg.Steps, diff.err, strings.Join(lines, "\n"))
}

// maxTries bounds how often shorten opens a journal.
const maxTries = 300

// shorten leaves out what the difference does not need: steps, in pieces that
// become smaller, each also with the last step one entry nearer to the end.
func (s *scene) shorten(ctx context.Context, steps []step, diff *difference) ([]step, *difference) {
	tries := 0
	try := func(shorter []step) bool {
		if tries++; tries > maxTries || ctx.Err() != nil {
			return false
		}
		d := s.difference(ctx, s.cfg.Open(s.tb), shorter)
		if d != nil && ctx.Err() == nil {
			steps, diff = shorter[:d.at+1], d
			return true
		}
		return false
	}
	for size := len(steps) / 2; size > 0; {
		removed := false
		for at := 0; at+size < len(steps); {
			shorter := slices.Concat(steps[:at], steps[at+size:])
			if try(shorter) || try(nearer(shorter)) {
				removed = true
			} else {
				at += size
			}
		}
		if !removed || size > 1 {
			size /= 2
		}
	}
	return steps, diff
}

// nearer returns steps with the last one an entry nearer to the end.
func nearer(steps []step) []step {
	steps = slices.Clone(steps)
	if last := &steps[len(steps)-1]; last.behind > 1 {
		last.behind--
	}
	return steps
}

// A difference is where two journals part.
type difference struct {
	at  int // index of the step
	err error
}

// difference runs steps on an empty journal and on memjournal, and returns nil
// if both do the same.
func (s *scene) difference(ctx context.Context, j journal.Journal, steps []step) *difference {
	model := memjournal.New()
	want := newWorld(model, func() (journal.Journal, error) { return model.Handle(), nil })
	got := newWorld(j, func() (journal.Journal, error) {
		if s.cfg.Reopen == nil {
			return j, nil
		}
		return s.cfg.Reopen(s.tb, j), nil
	})
	got.keep = s.cfg.Reopen == nil
	for i, st := range steps {
		did, err := got.do(ctx, st)
		if err != nil {
			return &difference{at: i, err: fmt.Errorf("%v: %w", st, err)}
		}
		should, err := want.do(ctx, st)
		if err != nil {
			return &difference{at: i, err: fmt.Errorf("model: %v: %w", st, err)}
		}
		if did != should {
			return &difference{at: i, err: fmt.Errorf("%v: got %s, want %s", st, did, should)}
		}
	}
	return nil
}

// A world is a journal, its handles, and what each of them has read.
type world struct {
	open    func() (journal.Journal, error)
	keep    bool // handles cannot be reopened
	handles [modelHandles]journal.Journal
	read    [modelHandles]*Pen
}

func newWorld(j journal.Journal, open func() (journal.Journal, error)) *world {
	w := &world{open: open}
	w.handles[0], w.read[0] = j, NewPen("")
	return w
}

// do performs one step and says what came of it in words that do not depend on
// the backend's positions. An error means that no step may end so.
func (w *world) do(ctx context.Context, st step) (string, error) {
	h := st.handle
	if st.op == "reopen" {
		return "reopened", w.reopen(h)
	}
	if w.handles[h] == nil {
		if err := w.reopen(h); err != nil {
			return "", err
		}
	}
	if err := w.catchUp(ctx, h); err != nil {
		return "", err
	}
	switch st.op {
	case "append":
		return w.append(ctx, st)
	case "fence":
		return w.fence(ctx, st)
	default:
		return w.follow(ctx, st)
	}
}

// reopen replaces handle h by a new one that has read nothing. The first one
// stays open: the others are made from it.
func (w *world) reopen(h int) error {
	if w.handles[h] != nil && h != 0 && !w.keep {
		if err := w.handles[h].Close(); err != nil {
			return fmt.Errorf("close: %w", err)
		}
	}
	if h != 0 || w.handles[h] == nil {
		j, err := w.open()
		if err != nil {
			return err
		}
		w.handles[h] = j
	}
	w.read[h] = NewPen("")
	return nil
}

// catchUp reads what handle h has not read, as the caller of Append has to.
func (w *world) catchUp(ctx context.Context, h int) error {
	entries, err := drain(ctx, w.handles[h], w.read[h].Cursor().Pos)
	for _, e := range entries {
		if err == nil {
			err = w.read[h].Take(e)
		}
	}
	return err
}

// at returns the position that lies behind entries before the end.
func (p *Pen) at(behind int) (journal.Position, bool) {
	switch i := len(p.entries) - 1 - behind; {
	case behind < 0:
		return p.Cursor().Pos + 1, true
	case i == -1:
		return 0, true
	case i < -1:
		return 0, false
	default:
		return p.entries[i].Pos, true
	}
}

const impossible = "nothing, it is impossible here"

func (w *world) append(ctx context.Context, st step) (string, error) {
	p := w.read[st.handle]
	c := p.Cursor()
	prev, ok := p.at(st.behind)
	if !ok || journal.Epoch(st.stale) >= c.Epoch {
		return impossible, nil
	}
	epoch := c.Epoch - journal.Epoch(st.stale)
	batch := Batch(as(c, epoch, st.owner), Records(st.records, 16)...)
	pos, err := w.handles[st.handle].Append(ctx, epoch, prev, batch)
	word, err := outcome(err)
	if st.behind != 0 && (st.owner != c.Owner || st.behind < 0) && (word == "fenced" || word == "conflict") {
		word = "refused" // both are true, and the contract does not say which comes first
	}
	return w.check(ctx, st.handle, word, pos, batch, err)
}

func (w *world) fence(ctx context.Context, st step) (string, error) {
	p := w.read[st.handle]
	epoch := int(p.Cursor().Epoch) - st.stale
	if epoch < 1 {
		return impossible, nil
	}
	pos, err := w.handles[st.handle].Fence(ctx, journal.Epoch(epoch), st.owner)
	word, err := outcome(err)
	return w.check(ctx, st.handle, word, pos, journal.AppendFence(nil, journal.Epoch(epoch), st.owner), err)
}

func (w *world) follow(ctx context.Context, st step) (string, error) {
	p := w.read[st.handle]
	after, ok := p.at(st.behind)
	if !ok {
		return impossible, nil
	}
	got, err := drain(ctx, w.handles[st.handle], after)
	if err != nil {
		return "", err
	}
	var words []string
	for _, e := range got {
		i := slices.IndexFunc(p.entries, func(o journal.Entry) bool { return o.Pos == e.Pos && bytes.Equal(o.Data, e.Data) })
		words = append(words, fmt.Sprint(i+1))
	}
	return "entries " + strings.Join(words, " "), nil
}

// outcome names what a write said. An outcome that is unknown on a journal
// without faults is an error.
func outcome(err error) (string, error) {
	switch {
	case err == nil:
		return "done", nil
	case errors.Is(err, journal.ErrFenced):
		return "fenced", nil
	case errors.Is(err, journal.ErrConflict):
		return "conflict", nil
	}
	return "", err
}

// check reads on after a write and tells where the write lies and how many
// entries there are now.
func (w *world) check(ctx context.Context, h int, word string, pos journal.Position, data []byte, err error) (string, error) {
	if err != nil {
		return "", err
	}
	if err := w.catchUp(ctx, h); err != nil {
		return "", err
	}
	entries := w.read[h].entries
	if word == "done" {
		i := slices.IndexFunc(entries, func(e journal.Entry) bool { return e.Pos == pos && bytes.Equal(e.Data, data) })
		word = fmt.Sprintf("done as entry %d", i+1)
	}
	return fmt.Sprintf("%s, %d entries", word, len(entries)), nil
}
