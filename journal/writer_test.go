package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
)

// A desk is a Writer in epoch 1 over a journal with faults.
type desk struct {
	*journal.Writer
	store  *memjournal.Journal // underneath
	faulty *journaltest.Faulty
	build  *journal.Builder
}

func newDesk(t testing.TB, seed uint64) *desk {
	t.Helper()
	d := &desk{store: memjournal.New()}
	d.faulty = journaltest.NewFaulty(t, d.store.Handle(), seed)
	t.Cleanup(func() { d.faulty.Close() })
	p := journaltest.NewPen("a/1")
	if err := p.Fence(t.Context(), d.store, 1); err != nil {
		t.Fatal(err)
	}
	d.Writer = journal.NewWriter(d.faulty, p.Cursor(), journal.WriterConfig{})
	d.build = d.NewBuilder()
	return d
}

// write appends one record with the given text.
func (d *desk) write(ctx context.Context, text string) error {
	d.build.Reset()
	if err := d.build.Add(&journal.Record{Kind: journal.KindCommand, Name: "write", Data: []byte(text)}); err != nil {
		return err
	}
	return d.Append(ctx, d.build, journal.Digest{})
}

// texts reads the live records of a journal through a Reader.
func texts(t testing.TB, j journal.Journal) []string {
	t.Helper()
	end, err := journal.SampleEnd(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	r := journal.NewReader(j, journal.ReaderConfig{})
	defer r.Close()
	var it journal.Item
	var all []string
	for r.Cursor().Pos < end.Pos {
		if err := r.Next(t.Context(), &it); err != nil {
			t.Fatal(err)
		}
		if it.Verdict != journal.Live {
			continue
		}
		records, err := it.Batch.Records(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range records {
			if rec.Seq != journal.Seq(len(all)+1) {
				t.Fatalf("seq %d after %d", rec.Seq, len(all))
			}
			all = append(all, string(rec.Data))
		}
	}
	return all
}

// RULES 2, 14: what one append comes to when things go wrong. Before it "one" was
// written; after it "three" is, where the tenure goes on.
func TestWriterOutcomes(t *testing.T) {
	other := func(epoch journal.Epoch, owner string) func(*desk) {
		return func(d *desk) { d.store.Put(journal.AppendFence(nil, epoch, owner)) }
	}
	dead := func(d *desk) {
		c := d.Cursor()
		c.Epoch, c.Owner = c.Epoch-1, "ghost"
		d.store.Put(journaltest.Batch(c, journaltest.Records(2, 8)...))
	}
	all := func(list ...func(*desk)) func(*desk) {
		return func(d *desk) {
			for _, f := range list {
				f(d)
			}
		}
	}
	tests := []struct {
		name  string
		open  journal.Epoch // the epoch of the Writer; 0 is 1
		fault journaltest.Fault
		first func(*desk) // before the append
		want  error       // nil is done
		texts []string
	}{
		{name: "nothing wrong", texts: []string{"one", "two", "three"}},
		{name: "the answer is lost", fault: journaltest.Fault{Kind: journaltest.LoseAck}, texts: []string{"one", "two", "three"}},
		{name: "it vanishes", fault: journaltest.Fault{Kind: journaltest.Vanish}, texts: []string{"one", "two", "three"}},
		{name: "it lands later than its repetition", fault: journaltest.Fault{Kind: journaltest.Delay}, texts: []string{"one", "two", "three"}},
		{name: "a conflict with nothing there", fault: journaltest.Fault{Kind: journaltest.Vanish, Err: journal.ErrConflict}, texts: []string{"one", "two", "three"}},
		{name: "full", fault: journaltest.Fault{Kind: journaltest.Refuse}, want: journal.ErrFull, texts: []string{"one", "three"}},
		{name: "too large", fault: journaltest.Fault{Kind: journaltest.Refuse, Err: journal.ErrTooLarge}, want: journal.ErrTooLarge, texts: []string{"one", "three"}},
		{name: "read-only is final", fault: journaltest.Fault{Kind: journaltest.Refuse, Err: journal.ErrReadOnly}, want: journal.ErrReadOnly, texts: []string{"one"}},
		{name: "broken is final", fault: journaltest.Fault{Kind: journaltest.LoseAck, Err: journal.ErrBroken}, want: journal.ErrBroken, texts: []string{"one", "two"}},
		{name: "a fence came before", first: other(2, "b/1"), want: journal.ErrFenced, texts: []string{"one"}},
		{name: "a fence came before, the append vanishes", first: other(2, "b/1"), fault: journaltest.Fault{Kind: journaltest.Vanish}, want: journal.ErrFenced, texts: []string{"one"}},
		{name: "a void fence came before", first: other(1, "b/1"), texts: []string{"one", "two", "three"}},
		{name: "a dead batch came before", open: 2, first: dead, texts: []string{"one", "two", "three"}},
		{name: "dead batches and void fences", open: 2, first: all(dead, other(1, "c/1"), dead, other(2, "c/1")), texts: []string{"one", "two", "three"}},
		{
			name: "dead batches, and the append vanishes", open: 2, first: all(dead, dead),
			fault: journaltest.Fault{Kind: journaltest.Vanish}, texts: []string{"one", "two", "three"},
		},
		{
			name: "dead batches, and the answer is lost", open: 2, first: all(dead, dead),
			fault: journaltest.Fault{Kind: journaltest.LoseAck}, texts: []string{"one", "two", "three"},
		},
		{name: "a dead batch, then a larger fence", open: 2, first: all(dead, other(3, "b/1")), want: journal.ErrFenced, texts: []string{"one"}},
		{
			name: "another writer with the same owner", want: journal.ErrWriter, texts: []string{"one", "theirs"},
			first: func(d *desk) {
				d.store.Put(journaltest.Batch(d.Cursor(), journal.Record{Kind: journal.KindCommand, Data: []byte("theirs")}))
			},
		},
		{
			name: "another writer in the same epoch", want: journal.ErrWriter, texts: nil,
			first: func(d *desk) {
				c := d.Cursor()
				c.Owner = "b/1"
				d.store.Put(journaltest.Batch(c, journaltest.Records(1, 8)...))
			},
		},
		{name: "a foreign message", want: journal.ErrForeign, first: func(d *desk) { d.store.Put([]byte("hello")) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t, 1)
				d.faulty.Hold = time.Second
				if tt.open == 2 {
					p := journaltest.NewPen("a/1")
					if err := errors.Join(p.Take(journal.Entry{Pos: 1, Data: journal.AppendFence(nil, 1, "a/1")}), p.Fence(t.Context(), d.store, 2)); err != nil {
						t.Fatal(err)
					}
					d.Writer = journal.NewWriter(d.faulty, p.Cursor(), journal.WriterConfig{})
					d.build = d.NewBuilder()
				}
				if err := d.write(t.Context(), "one"); err != nil {
					t.Fatal(err)
				}
				if tt.first != nil {
					tt.first(d)
				}
				if tt.fault.Kind != 0 {
					d.faulty.Plan(journaltest.OpAppend, 1, tt.fault)
				}
				err := d.write(t.Context(), "two")
				if tt.want == nil && err != nil || !errors.Is(err, tt.want) {
					t.Fatalf("err = %v, want %v", err, tt.want)
				}
				wantOutcome(t, err, slices.Contains(tt.texts, "two"))
				time.Sleep(2 * time.Second) // what was held back is tried now
				goesOn := tt.want == nil || errors.Is(tt.want, journal.ErrFull) || errors.Is(tt.want, journal.ErrTooLarge)
				if err := d.write(t.Context(), "three"); (err == nil) != goesOn {
					t.Errorf("after it: err = %v, goes on %v", err, goesOn)
				}
				if tt.texts == nil {
					return // nobody reads past it
				}
				if got := texts(t, d.store); !slices.Equal(got, tt.texts) {
					t.Errorf("the journal has %q, want %q", got, tt.texts)
				}
			})
		})
	}
}

// wantOutcome checks that an error does not lie about what is in the journal.
func wantOutcome(t *testing.T, err error, there bool) {
	t.Helper()
	switch got := journal.OutcomeOf(err); {
	case got == journal.Done && !there, got == journal.NotDone && there:
		t.Errorf("%v says %v, in the journal: %v", err, got, there)
	}
}

// RULES 2: what cannot be resolved by the deadline is unknown, whatever it was, and
// never "not done".
func TestWriterGivesUpUnknown(t *testing.T) {
	for _, kind := range []journaltest.FaultKind{journaltest.Stall, journaltest.Vanish, journaltest.Delay, journaltest.LoseAck} {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(t, 1)
				d.faulty.Hold = time.Minute
				d.faulty.Rate(journaltest.OpAppend, 1, journaltest.Fault{Kind: kind})
				d.faulty.Rate(journaltest.OpFollow, 1, journaltest.Fault{Kind: journaltest.Refuse})
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				err := d.write(ctx, "one")
				if !errors.Is(err, journal.ErrUnknown) || journal.OutcomeOf(err) != journal.Unknown {
					t.Errorf("err = %v", err)
				}
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the cause is missing: %v", err)
				}
				d.faulty.Heal()
				if err := d.write(t.Context(), "two"); !errors.Is(err, journal.ErrClosed) {
					t.Errorf("after it: %v, want %v", err, journal.ErrClosed)
				}
			})
		})
	}
}

// Full while an attempt before is unknown: nobody may say that it is not stored.
func TestWriterFullAfterUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, 1)
		d.faulty.Hold = time.Second
		d.faulty.Plan(journaltest.OpAppend, 1, journaltest.Fault{Kind: journaltest.Delay})
		d.faulty.Plan(journaltest.OpAppend, 2, journaltest.Fault{Kind: journaltest.Refuse})
		err := d.write(t.Context(), "one")
		if journal.OutcomeOf(err) != journal.Unknown || !errors.Is(err, journal.ErrFull) {
			t.Errorf("err = %v", err)
		}
		time.Sleep(2 * time.Second)
		if got := texts(t, d.store); len(got) != 1 {
			t.Errorf("the journal has %q: the delayed write landed", got)
		}
	})
}

// RULES 21: a journal that ends below the Writer's cursor for long is lost, not a
// conflict to be retried for ever.
func TestWriterOfALostJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, 1)
		if err := d.write(t.Context(), "one"); err != nil {
			t.Fatal(err)
		}
		other := memjournal.New()
		if _, err := other.Fence(t.Context(), 1, "a/1"); err != nil {
			t.Fatal(err)
		}
		w := journal.NewWriter(other, d.Cursor(), journal.WriterConfig{})
		b := w.NewBuilder()
		began := time.Now()
		if err := w.Append(t.Context(), b, journal.Digest{}); !errors.Is(err, journal.ErrLost) {
			t.Errorf("err = %v", err)
		}
		if took := time.Since(began); took < 10*time.Second || took > 15*time.Second {
			t.Errorf("it took %v to believe it", took)
		}
	})
}

// refusing refuses every append and shows what follows show.
type refusing struct{ scripted }

func (r *refusing) Append(context.Context, journal.Epoch, journal.Position, []byte) (journal.Position, error) {
	return 0, journal.ErrConflict
}

// RULES 21: a journal that refuses appends, ends where the Writer believes, and
// does not hold what the Writer read there, is lost; one that holds it is not.
func TestWriterWhoseEntryIsGone(t *testing.T) {
	list, others := written(t, 5), written(t, 5)
	others[5].Data = append([]byte{}, others[4].Data...)
	end := list[5].Pos
	tests := []struct {
		name string
		show []journal.Entry
		err  error // of the journal
		lost bool
	}{
		{name: "another lies there", show: others, lost: true},
		{name: "nothing lies there", show: nil, lost: true},
		{name: "it lies there", show: list, lost: false},
		{name: "it cannot be read", err: errBroken, lost: false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &refusing{scripted{follows: []func(context.Context, journal.Position, func(journal.Entry, error) bool){entries(tt.show, end, tt.err)}}}
				w := journal.NewWriter(j, at(t, list, 6), journal.WriterConfig{})
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				began := time.Now()
				err := w.Append(ctx, w.NewBuilder(), journal.Digest{})
				if got := errors.Is(err, journal.ErrLost); got != tt.lost {
					t.Errorf("after %v: %v, lost %v, want %v", time.Since(began), err, got, tt.lost)
				}
				if took := time.Since(began); tt.lost && took < 10*time.Second {
					t.Errorf("believed after %v", took)
				}
				if !tt.lost && journal.OutcomeOf(err) != journal.NotDone {
					t.Errorf("err = %v, which does not say that nothing was stored", err)
				}
			})
		})
	}
}

// A backend that has found out by itself is believed at once.
func TestWriterOfAJournalThatSaysItIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := written(t, 5)
		j := &refusing{scripted{follows: []func(context.Context, journal.Position, func(journal.Entry, error) bool){entries(nil, 0, journal.ErrLost)}}}
		w := journal.NewWriter(j, at(t, list, 6), journal.WriterConfig{})
		began := time.Now()
		if err := w.Append(t.Context(), w.NewBuilder(), journal.Digest{}); !errors.Is(err, journal.ErrLost) {
			t.Errorf("err = %v, want %v", err, journal.ErrLost)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// RULES 2: faults at random. What Append called done is in the journal exactly
// once and in order; what it called not done is never there; after an unknown one
// reading tells.
func TestWriterUnderRandomFaults(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed+1), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { writeAtRandom(t, seed+1) })
		})
	}
}

func writeAtRandom(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 3))
	d := newDesk(t, seed)
	d.faulty.Hold = time.Duration(1+rng.IntN(50)) * time.Millisecond
	for _, kind := range []journaltest.FaultKind{journaltest.LoseAck, journaltest.Vanish, journaltest.Delay, journaltest.Refuse} {
		d.faulty.Rate(journaltest.OpAppend, 0.1, journaltest.Fault{Kind: kind})
	}
	d.faulty.Rate(journaltest.OpAppend, 0.05, journaltest.Fault{Kind: journaltest.Vanish, Err: journal.ErrConflict})
	d.faulty.Rate(journaltest.OpFollow, 0.2, journaltest.Fault{Kind: journaltest.Break, After: rng.IntN(3)})
	d.faulty.Rate(journaltest.OpFollow, 0.1, journaltest.Fault{Kind: journaltest.Stall, After: rng.IntN(3)})
	var done, unknown []string
	notDone := make(map[string]bool)
	fenceAt := rng.IntN(60)
	for i := range 60 {
		if rng.IntN(5) == 0 {
			d.store.Put(journal.AppendFence(nil, 1, "ghost")) // void
		}
		if i == fenceAt && seed%2 == 0 {
			d.store.Put(journal.AppendFence(nil, 2, "b/1"))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(20+rng.IntN(2000))*time.Millisecond)
		text := fmt.Sprint(i)
		err := d.write(ctx, text)
		cancel()
		switch journal.OutcomeOf(err) {
		case journal.Done:
			done = append(done, text)
		case journal.NotDone:
			notDone[text] = true
		case journal.Unknown:
			unknown = append(unknown, text)
		}
	}
	time.Sleep(time.Minute)
	got := texts(t, d.store)
	for _, text := range got {
		if notDone[text] {
			t.Errorf("%q was called not done and is there", text)
		}
	}
	if len(unknown) > 1 {
		t.Errorf("%d unknown: the tenure went on after the first", len(unknown))
	}
	got = slices.DeleteFunc(got, func(text string) bool { return slices.Contains(unknown, text) })
	if !slices.Equal(got, done) {
		t.Errorf("the journal has %q, called done were %q", got, done)
	}
}

// Records are later than everything before them, also in builders filled by turns.
func TestWriterStampsIncrease(t *testing.T) {
	d := newDesk(t, 1)
	a, b := d.NewBuilder(), d.NewBuilder()
	var last journal.Time
	for i := range 10 {
		at := [...]*journal.Builder{a, b}[i%2]
		rec := journal.Record{Kind: journal.KindCommand, Time: 5}
		if err := at.Add(&rec); err != nil || rec.Time <= last {
			t.Fatalf("time %d after %d (%v)", rec.Time, last, err)
		}
		last = rec.Time
	}
}

// A batch appended by a Writer is what a Builder sealed: readers see its bytes.
func TestWriterLargeBatch(t *testing.T) {
	d := newDesk(t, 1)
	want := bytes.Repeat([]byte("x"), d.build.MaxData("write"))
	if err := d.write(t.Context(), string(want)); err != nil {
		t.Fatal(err)
	}
	if err := d.write(t.Context(), "behind it"); err != nil {
		t.Fatal(err)
	}
	if got := texts(t, d.store); len(got) != 2 || got[0] != string(want) {
		t.Errorf("%d texts", len(got))
	}
}

func BenchmarkWriter(b *testing.B) {
	for _, n := range []int{1, 512} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d := newDesk(b, 1)
			records := journaltest.Records(n, 64)
			for b.Loop() {
				d.build.Reset()
				for i := range records {
					records[i].Time = 0
					if err := d.build.Add(&records[i]); err != nil {
						b.Fatal(err)
					}
				}
				if err := d.Append(b.Context(), d.build, journal.Digest{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
