package machine_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"understudy.dev/journal"
	"understudy.dev/machine"
)

// A notebook remembers what it was told, in order.
type notebook struct {
	notes  []string
	random func(*machine.Context) // told of each note
}

var errEmpty = errors.New("nothing to note")

func (n *notebook) Apply(ctx *machine.Context, c machine.Command) ([]byte, error) {
	if c.Name == "panic" {
		panic("told to")
	}
	if len(c.Data) == 0 {
		return nil, errEmpty
	}
	if n.random != nil {
		n.random(ctx)
	}
	if c.Name == "count" { // allocates nothing
		return c.Data, nil
	}
	n.notes = append(n.notes, string(c.Data))
	return binary.BigEndian.AppendUint32(nil, uint32(len(n.notes))), nil
}

func (n *notebook) Snapshot(w io.Writer) error { return json.NewEncoder(w).Encode(n.notes) }
func (n *notebook) Restore(r io.Reader) error  { return json.NewDecoder(r).Decode(&n.notes) }

func definition(n *notebook) machine.Definition {
	return machine.Definition{
		Name: "notebook", Version: 2, New: func() machine.Machine { return n }, Window: 8, Sessions: 3,
		Commands: []machine.CommandType{{Name: "note", Max: 1}, {Name: "count"}, {Name: "panic"}},
	}
}

// A desk is a replica and a notebook, and numbers what they are given.
type desk struct {
	*machine.Replica
	book *notebook
}

func newDesk(t testing.TB, change ...func(*machine.Definition)) *desk {
	t.Helper()
	d := &desk{book: &notebook{}}
	def := definition(d.book)
	for _, f := range change {
		f(&def)
	}
	var err error
	if d.Replica, err = machine.NewReplica(def); err != nil {
		t.Fatal(err)
	}
	return d
}

// batch numbers records as the next batch of epoch 1.
func (d *desk) batch(digest journal.Digest, records []journal.Record) (*journal.Batch, []journal.Record) {
	out := make([]journal.Record, len(records))
	for i, r := range records {
		r.Seq, r.Epoch = d.Seq()+1+journal.Seq(i), 1
		if r.Time == 0 {
			r.Time = journal.Time(r.Seq) * 1000
		}
		out[i] = r
	}
	return &journal.Batch{First: d.Seq() + 1, Count: len(out), Epoch: 1, Digest: digest}, out
}

// apply applies records as one batch and ends the test on an error.
func (d *desk) apply(t testing.TB, records ...journal.Record) []machine.Outcome {
	t.Helper()
	out, err := d.ApplyBatch(d.batch(journal.Digest{}, records))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func note(text string) journal.Record {
	return journal.Record{Kind: journal.KindCommand, Name: "note", Data: []byte(text)}
}

// asked is a note of a session.
func asked(session journal.Seq, number, low uint64, text string) journal.Record {
	r := note(text)
	r.Client, r.Request, r.Low = uint64(session), number, low
	return r
}

func open(kind string) journal.Record { return journal.Record{Kind: journal.KindSession, Name: kind} }

func epochStart(t testing.TB, tenure machine.Tenure) journal.Record {
	t.Helper()
	data, err := json.Marshal(tenure)
	if err != nil {
		t.Fatal(err)
	}
	return journal.Record{Kind: journal.KindEpochStart, Name: tenure.Machine, Data: data}
}

// RULES 37: the same batches give the same digest, whoever applies them; any other
// outcome gives another one.
func TestDigest(t *testing.T) {
	history := func(d *desk, last string) {
		d.apply(t, epochStart(t, machine.Tenure{Machine: "notebook"}), open(""))
		d.apply(t, asked(2, 1, 1, "a"), asked(2, 1, 1, "a"), note(""))
		d.apply(t)
		d.apply(t, note(last))
	}
	a, b, c := newDesk(t), newDesk(t), newDesk(t)
	history(a, "z")
	history(b, "z")
	history(c, "")
	if a.Digest() != b.Digest() || a.Digest().Seq != 6 {
		t.Errorf("digests %v and %v of the same history", a.Digest(), b.Digest())
	}
	if a.Digest().Hash == c.Digest().Hash {
		t.Error("another answer has the same digest")
	}
}

// The digest goes over batches: the same records in other batches have another
// one. Copies keep the bytes of batches, so this never differs between nodes.
func TestDigestBelongsToBatches(t *testing.T) {
	a, b := newDesk(t), newDesk(t)
	a.apply(t, note("x"), note("y"))
	b.apply(t, note("x"))
	b.apply(t, note("y"))
	if a.Digest().Seq != b.Digest().Seq || a.Digest().Hash == b.Digest().Hash {
		t.Errorf("digests %v and %v", a.Digest(), b.Digest())
	}
}

// RULES 37, 38: a digest is compared at its own Seq only. One that differs stops
// the replica before it applies anything of the batch that states it.
func TestDivergence(t *testing.T) {
	d := newDesk(t)
	d.apply(t, note("a"))
	first := d.Digest()
	d.apply(t, note("b"), note("c"))
	if _, err := d.ApplyBatch(d.batch(first, []journal.Record{note("d")})); err != nil {
		t.Fatalf("an older digest that agrees: %v", err)
	}
	if c := d.Compared(); c.Agreed != 1 || c.Equal != 1 || c.Blind != 0 {
		t.Errorf("compared: %+v", c)
	}
	// Seq 2 is in the middle of a batch here: there is nothing to compare.
	if _, err := d.ApplyBatch(d.batch(journal.Digest{Seq: 2, Hash: journal.Hash{1}}, []journal.Record{note("e")})); err != nil {
		t.Fatalf("a digest that cannot be compared: %v", err)
	}
	if c := d.Compared(); c.Equal != 1 || c.Blind != 1 {
		t.Errorf("compared: %+v", c)
	}
	wrong := d.Digest()
	wrong.Hash[0]++
	_, err := d.ApplyBatch(d.batch(wrong, []journal.Record{note("f")}))
	var diverged *machine.DivergedError
	if !errors.As(err, &diverged) || diverged.Seq != 5 || diverged.Want != wrong.Hash || diverged.Got != d.Digest().Hash {
		t.Fatalf("err = %v", err)
	}
	wantStopped(t, d, err, 5, 5)
}

// Only so many batch ends are remembered; a digest from before them is not
// comparable, which is not equal.
func TestOldDigestIsBlind(t *testing.T) {
	d := newDesk(t)
	d.apply(t, note("a"))
	first := d.Digest()
	for range 64 {
		d.apply(t, note("b"))
	}
	first.Hash[0]++
	if _, err := d.ApplyBatch(d.batch(first, nil)); err != nil {
		t.Fatal(err)
	}
	if c := d.Compared(); c.Equal != 0 || c.Blind != 1 {
		t.Errorf("compared: %+v", c)
	}
}

// wantStopped checks that a replica keeps its state and applies nothing more.
func wantStopped(t *testing.T, d *desk, cause error, seq journal.Seq, notes int) {
	t.Helper()
	digest := d.Digest()
	_, err := d.ApplyBatch(d.batch(journal.Digest{}, []journal.Record{note("more")}))
	if !errors.Is(err, cause) || d.Err() == nil {
		t.Errorf("applying on: err = %v, want %v", err, cause)
	}
	if d.Seq() != seq || len(d.book.notes) != notes || d.Digest() != digest {
		t.Errorf("it stands at seq %d with %d notes, want %d and %d", d.Seq(), len(d.book.notes), seq, notes)
	}
}

// RULES 36: a panic names its Seq and stops; nothing skips it.
func TestPanicStops(t *testing.T) {
	d := newDesk(t)
	d.apply(t, note("a"))
	_, err := d.ApplyBatch(d.batch(journal.Digest{}, []journal.Record{note("b"), {Kind: journal.KindCommand, Name: "panic", Data: []byte{1}}, note("c")}))
	var p *machine.PanicError
	if !errors.As(err, &p) || p.Seq != 3 || p.Name != "panic" || p.Value != "told to" || !strings.Contains(string(p.Stack), "Apply") {
		t.Fatalf("err = %v", err)
	}
	wantStopped(t, d, err, 1, 2) // in the middle of the batch: for inspection
}

// RULES 3, 24: a batch with anything that cannot be applied is not applied at all.
func TestBatchIsAdmittedWhole(t *testing.T) {
	tests := []struct {
		name string
		last journal.Record
		want string
	}{
		{"unknown command", journal.Record{Kind: journal.KindCommand, Name: "fly"}, `"fly" is not one of`},
		{"no name", journal.Record{Kind: journal.KindCommand}, `"" is not one of`},
		{"newer version of a command", journal.Record{Kind: journal.KindCommand, Name: "note", Version: 2}, "version 2"},
		{"newer version of the machine", epochStart(t, machine.Tenure{Machine: "notebook", Version: 3}), "needs version 3"},
		{"another machine", epochStart(t, machine.Tenure{Machine: "diary"}), `machine "diary"`},
		{"a tenure that is no JSON", journal.Record{Kind: journal.KindEpochStart, Data: []byte("{")}, "parse epoch start"},
		{"a record of a harness", journal.Record{Kind: journal.KindDevice, Name: "note"}, "kind device"},
		{"a kind from the future", journal.Record{Kind: 99, Name: "note"}, "kind-99"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t)
			d.apply(t, note("a"))
			_, err := d.ApplyBatch(d.batch(journal.Digest{}, []journal.Record{open(""), note("b"), tt.last}))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "seq 4") {
				t.Fatalf("err = %v, want one at seq 4 with %q", err, tt.want)
			}
			wantStopped(t, d, err, 1, 1)
		})
	}
	t.Run("no name right behind a session", func(t *testing.T) {
		d := newDesk(t)
		if _, err := d.ApplyBatch(d.batch(journal.Digest{}, []journal.Record{open(""), {Kind: journal.KindCommand}})); !errors.Is(err, machine.ErrUnknownCommand) {
			t.Errorf("err = %v", err)
		}
	})
}

// RULES 20: a batch that does not follow is not applied.
func TestGapStops(t *testing.T) {
	for _, first := range []journal.Seq{1, 3} {
		d := newDesk(t)
		d.apply(t, note("a"))
		b, records := d.batch(journal.Digest{}, []journal.Record{note("b")})
		b.First = first
		if _, err := d.ApplyBatch(b, records); err == nil {
			t.Errorf("a batch from seq %d was applied after seq 1", first)
		}
	}
}

// RULES 33: randomness and ids come from the log: the same in every replay, also
// in one that enters at another batch border, and different for each record.
func TestRandomnessAndIDs(t *testing.T) {
	draw := func(batches [][]journal.Record, seed uint64) (drawn []string) {
		d := newDesk(t)
		d.book.random = func(c *machine.Context) {
			drawn = append(drawn, fmt.Sprint(c.Seq(), c.Time(), c.Rand().Uint64(), c.Rand().Uint64(), c.ID(), c.ID()))
		}
		d.apply(t, epochStart(t, machine.Tenure{Machine: "notebook", Seed: [2]uint64{seed, 2}}))
		for _, b := range batches {
			d.apply(t, b...)
		}
		return drawn
	}
	x, y, z := note("x"), note("y"), note("z")
	one := draw([][]journal.Record{{x, y, z}}, 1)
	three := draw([][]journal.Record{{x}, {y}, {z}}, 1)
	other := draw([][]journal.Record{{x, y, z}}, 9)
	seen := make(map[string]bool)
	for i := range one {
		if one[i] != three[i] {
			t.Errorf("record %d drew %s, replayed in other batches %s", i, one[i], three[i])
		}
		if one[i] == other[i] {
			t.Errorf("record %d drew the same under another tenure's seed", i)
		}
		for _, v := range strings.Fields(one[i])[2:] {
			if seen[v] {
				t.Errorf("%s was drawn twice", v)
			}
			seen[v] = true
		}
	}
}

// The replies of one batch stay valid when the next ones are applied.
func TestRepliesStay(t *testing.T) {
	d := newDesk(t)
	var replies [][]byte
	for range 50 {
		for _, o := range d.apply(t, note("a"), note("b"), note("")) {
			replies = append(replies, o.Reply)
		}
	}
	for i, r := range replies {
		want := []byte(errEmpty.Error())
		if i%3 < 2 {
			want = binary.BigEndian.AppendUint32(nil, uint32(i/3*2+i%3+1))
		}
		if string(r) != string(want) {
			t.Fatalf("reply %d became %q, want %q", i, r, want)
		}
	}
}

// All faults of a definition are reported together.
func TestDefinitionFaults(t *testing.T) {
	_, err := machine.NewReplica(machine.Definition{
		Window: -1, Sessions: -1,
		Commands: []machine.CommandType{{Name: ""}, {Name: "a"}, {Name: "a"}, {Name: "b", Min: 2, Max: 1}},
	})
	for _, want := range []string{"no name", "no New", "window of -1", "at most -1", `name ""`, `"a" twice`, "versions 2 to 1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q in it", err, want)
		}
	}
}

// The commands of sessions cost no allocation of their own in the long run.
func TestNoAllocationPerCommand(t *testing.T) {
	d := newDesk(t)
	d.apply(t, open(""))
	const n = 256
	records := make([]journal.Record, n)
	data := []byte("0123456789")
	number := uint64(0)
	round := func() {
		b := journal.Batch{First: d.Seq() + 1, Count: n}
		for i := range records {
			number++
			records[i] = journal.Record{
				Seq: b.First + journal.Seq(i), Time: journal.Time(b.First) + journal.Time(i),
				Kind: journal.KindCommand, Name: "count", Client: 1, Request: number, Low: number, Data: data,
			}
		}
		if _, err := d.ApplyBatch(&b, records); err != nil {
			t.Fatal(err)
		}
	}
	round()
	if got := testing.AllocsPerRun(50, round); got > 4 {
		t.Errorf("%v allocations for a batch of %d", got, n)
	}
}

func BenchmarkApplyBatch(b *testing.B) {
	for _, n := range []int{1, 64, 512} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d := newDesk(b)
			d.apply(b, open(""))
			records := make([]journal.Record, n)
			data := []byte("0123456789")
			number := uint64(0)
			for b.Loop() {
				batch := journal.Batch{First: d.Seq() + 1, Count: n}
				for i := range records {
					number++
					records[i] = journal.Record{
						Seq: batch.First + journal.Seq(i), Time: journal.Time(batch.First) + journal.Time(i),
						Kind: journal.KindCommand, Name: "count", Client: 1, Request: number, Low: number, Data: data,
					}
				}
				if _, err := d.ApplyBatch(&batch, records); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
