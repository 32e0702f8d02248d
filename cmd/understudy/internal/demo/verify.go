package demo

import (
	"bytes"
	"context"
	"fmt"

	"understudy.dev/admin"
	"understudy.dev/client"
	"understudy.dev/engines/exchange"
	"understudy.dev/engines/exchange/flow"
	"understudy.dev/engines/exchange/reference"
	"understudy.dev/journal"
	"understudy.dev/journal/journalurl"
	"understudy.dev/machine"
	"understudy.dev/replay"
)

// A Check is one thing that was verified, or was not.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"` // what was counted or measured; of a failure, the first difference
}

func (c *Check) fail(format string, args ...any) {
	if c.OK {
		c.OK, c.Detail = false, fmt.Sprintf(format, args...)
	}
}

// A key is what tells one command from all others.
type key struct{ session, number uint64 }

// A deed is a command that was carried out.
type deed struct {
	key
	seq     journal.Seq
	name    string
	version uint32
	data    []byte
	code    machine.Code
	reply   []byte
}

// A history is what a fresh replay of the journal finds.
type history struct {
	replica *machine.Replica
	deeds   []deed
	byKey   map[key][]int       // deeds of a command: one, if all is well
	bySeq   map[journal.Seq]key // every command in the journal
	repeats int                 // retries that were answered from the session
}

// readHistory replays the journal at url up to and including Seq to.
func readHistory(ctx context.Context, url string, to journal.Seq) (*history, error) {
	replica, err := machine.NewReplica(exchange.Definition())
	if err != nil {
		return nil, err
	}
	j, err := journalurl.Open(ctx, url, journalurl.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer j.Close()
	h := &history{replica: replica, byKey: make(map[key][]int), bySeq: make(map[journal.Seq]key)}
	f := replay.NewFollower(journal.NewReader(j, journal.ReaderConfig{Source: url}), replay.SinkFunc(h.apply), nil)
	defer f.Close()
	if err := f.RunTo(ctx, j, to); err != nil {
		return nil, fmt.Errorf("replay the journal: %w", err)
	}
	return h, nil
}

// apply is the sink of the replay.
func (h *history) apply(_ context.Context, b *journal.Batch, records []journal.Record) error {
	outcomes, err := h.replica.ApplyBatch(b, records)
	if err != nil {
		return err
	}
	for i := range records {
		if records[i].Kind == journal.KindCommand {
			h.note(&records[i], &outcomes[i])
		}
	}
	return nil
}

func (h *history) note(r *journal.Record, o *machine.Outcome) {
	k := key{r.Client, r.Request}
	h.bySeq[r.Seq] = k
	switch {
	case o.Repeated:
		h.repeats++
	case o.Code.Applied():
		h.byKey[k] = append(h.byKey[k], len(h.deeds))
		h.deeds = append(h.deeds, deed{k, r.Seq, r.Name, r.Version, bytes.Clone(r.Data), o.Code, o.Reply})
	}
}

// verify holds what clients were told against the journal, the promoted node and
// an engine that nobody interrupted.
func (l *load) verify(h *history, b *admin.NodeStatus) []Check {
	return []Check{l.checkAnswers(), l.checkOnce(h), checkDigest(h, b), l.checkFills()}
}

// checkAnswers asks that every operation was answered, and none by "unknown".
func (l *load) checkAnswers() Check {
	c := Check{Name: "every command was answered", OK: true, Detail: ratio(len(l.ops), len(l.ops))}
	for i := range l.told {
		if t := &l.told[i]; !t.acknowledged() {
			c.fail("operation %d: %v, %v", l.ops[i].N, t.Verdict, t.Err)
		}
	}
	return c
}

// checkOnce asks that every acknowledged command is in the journal, was carried
// out once, with the answer that the client was told, and in the order of
// submission; and that nothing else was carried out.
func (l *load) checkOnce(h *history) Check {
	c := Check{Name: "every acknowledged command is in the journal, once", OK: true}
	count, last := 0, -1
	for i := range l.told {
		t := &l.told[i]
		if !t.acknowledged() {
			continue
		}
		k, known := h.bySeq[t.Seq]
		at := h.byKey[k]
		switch {
		case !known:
			c.fail("operation %d was acknowledged at seq %d, where no command is", l.ops[i].N, t.Seq)
			continue
		case len(at) != 1:
			c.fail("operation %d, command %d of session %d, was carried out %d times", l.ops[i].N, k.number, k.session, len(at))
			continue
		}
		d := &h.deeds[at[0]]
		if why := l.differs(i, d); why != "" {
			c.fail("operation %d at seq %d: %s", l.ops[i].N, d.seq, why)
			continue
		}
		if at[0] <= last {
			c.fail("operation %d was carried out before the one before it", l.ops[i].N)
		}
		last = at[0]
		count++
	}
	if count != len(h.deeds) {
		c.fail("%s commands were carried out, %s were acknowledged", grouped(len(h.deeds)), grouped(count))
	}
	if c.OK {
		c.Detail = ratio(count, len(h.deeds))
		if h.repeats > 0 {
			c.Detail += fmt.Sprintf(" (and %s retries, recognised)", grouped(h.repeats))
		}
	}
	return c
}

// differs compares what was carried out with what was asked and told.
func (l *load) differs(i int, d *deed) string {
	t := &l.told[i]
	name, version, data := l.ops[i].Command()
	switch {
	case d.name != name || d.version != version || !bytes.Equal(d.data, data):
		return "the journal holds another command"
	case (d.code == machine.OK) != (t.Verdict == client.Done) || !bytes.Equal(d.reply, t.Reply):
		return "the client was told another answer"
	case !t.Repeated && t.Seq != d.seq:
		return fmt.Sprintf("it was acknowledged at seq %d as new", t.Seq)
	}
	return ""
}

func ratio(n, of int) string { return grouped(n) + " / " + grouped(of) }

// checkDigest asks that a fresh replay ends with the outcome digest of b.
func checkDigest(h *history, b *admin.NodeStatus) Check {
	got := h.replica.Digest()
	c := Check{
		Name: fmt.Sprintf("a fresh replay reaches %s's outcome digest", b.Node), OK: true,
		Detail: fmt.Sprintf("%s at seq %s", got.Hash.Short(), grouped(uint64(got.Seq))),
	}
	if got.Seq != b.AppliedSeq || got.Hash.String() != b.StateHash {
		c.fail("at seq %d the replay has %s, at seq %d %s has %s", got.Seq, got.Hash, b.AppliedSeq, b.Node, b.StateHash)
	}
	return c
}

// checkFills plays the operations into a reference book and asks for equal
// answers.
func (l *load) checkFills() Check {
	c := Check{Name: "fills equal those of an uninterrupted reference book", OK: true}
	var book reference.Book
	fills := 0
	for i := range l.ops {
		reply, err := book.Apply(l.ops[i].Typed())
		want := exchange.AppendReply(nil, reply)
		if err != nil {
			want = []byte(err.Error())
		}
		t := &l.told[i]
		if !bytes.Equal(t.Reply, want) || (t.Verdict == client.Rejected) != (err != nil) {
			c.fail("operation %d was answered %s, want %s", l.ops[i].N, words(t), describe(reply, err))
		}
		fills += len(reply.Fills)
	}
	if c.OK {
		c.Detail = grouped(fills) + " fills"
	}
	return c
}

// words tells an answer to people.
func words(t *told) string {
	if t.Verdict != client.Done {
		return fmt.Sprintf("%v: %s %v", t.Verdict, t.Reply, t.Err)
	}
	reply, err := exchange.ParseReply(t.Reply)
	if err != nil {
		return fmt.Sprintf("%q", t.Reply)
	}
	return describe(reply, nil)
}

func describe(r exchange.Reply, err error) string {
	if err != nil {
		return "rejected: " + err.Error()
	}
	return fmt.Sprintf("rests %d, cancelled %d, fills %v", r.Rests, r.Cancelled, r.Fills)
}

// fills returns the fills that were answered, as a file.
func (l *load) fills() ([]byte, error) {
	out := []byte(flow.FillsHeader + "\n")
	for i := range l.told {
		if l.told[i].Verdict != client.Done || !l.told[i].acknowledged() {
			continue
		}
		reply, err := exchange.ParseReply(l.told[i].Reply)
		if err != nil {
			return nil, fmt.Errorf("read answer to operation %d: %w", l.ops[i].N, err)
		}
		out = flow.AppendFills(out, l.ops[i].N, reply.Fills)
	}
	return out, nil
}
