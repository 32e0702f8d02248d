package journal_test

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
)

// A scripted journal answers each Follow by the next of its functions, and the
// last one again and again. It records where it was followed from.
type scripted struct {
	journal.Journal
	follows []func(ctx context.Context, after journal.Position, yield func(journal.Entry, error) bool)
	from    []journal.Position
}

func (s *scripted) Follow(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		f := s.follows[min(len(s.from), len(s.follows)-1)]
		s.from = append(s.from, after)
		f(ctx, after, yield)
	}
}

// entries yields those of list after the position and then waits like a journal
// that ends at end.
func entries(list []journal.Entry, end journal.Position, last error) func(context.Context, journal.Position, func(journal.Entry, error) bool) {
	return func(ctx context.Context, after journal.Position, yield func(journal.Entry, error) bool) {
		for _, e := range list {
			if e.Pos > after && !yield(e, nil) {
				return
			}
		}
		for last == nil {
			if !yield(journal.Entry{Pos: end}, nil) {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(journal.HeartbeatEvery):
			}
		}
		yield(journal.Entry{}, last)
	}
}

var errBroken = errors.New("connection lost")

// read returns the next n items that are not heartbeats.
func read(t testing.TB, r *journal.Reader, n int) []journal.Item {
	t.Helper()
	var all []journal.Item
	for len(all) < n {
		var it journal.Item
		if err := r.Next(t.Context(), &it); err != nil {
			t.Fatalf("item %d: %v", len(all)+1, err)
		}
		if it.Verdict != journal.Heartbeat {
			all = append(all, it)
		}
	}
	return all
}

// fails returns the error that ends r.
func fails(t testing.TB, r *journal.Reader) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for {
		var it journal.Item
		if err := r.Next(ctx, &it); err != nil {
			return err
		}
	}
}

// written is a fence and n batches of one record.
func written(t testing.TB, n int) []journal.Entry {
	t.Helper()
	j := memjournal.New()
	defer j.Close()
	return journaltest.Write(t, j, n)
}

// at returns the cursor after the first n entries.
func at(t testing.TB, list []journal.Entry, n int) journal.Cursor {
	t.Helper()
	var tr journal.Tracker
	var b journal.Batch
	for _, e := range list[:n] {
		if _, _, err := tr.Take(e, &b); err != nil {
			t.Fatal(err)
		}
	}
	return tr.Cursor
}

func newReader(t testing.TB, j journal.Journal, cfg journal.ReaderConfig) *journal.Reader {
	t.Helper()
	r := journal.NewReader(j, cfg)
	t.Cleanup(r.Close)
	return r
}

// RULES 23: following that fails, ends or falls silent is taken up again after the
// cursor, never from the start, and nothing is given twice or left out.
func TestReaderResumes(t *testing.T) {
	for _, kind := range []journaltest.FaultKind{journaltest.Break, journaltest.BreakSilently, journaltest.Stall, journaltest.Refuse} {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memjournal.New()
				want := journaltest.Write(t, store, 40)
				f := journaltest.NewFaulty(t, store, 1)
				for i := range 10 {
					f.Plan(journaltest.OpFollow, i+1, journaltest.Fault{Kind: kind, After: 5})
				}
				var reasons []error
				r := newReader(t, f, journal.ReaderConfig{OnRetry: func(err error, _ int, _ time.Duration) { reasons = append(reasons, err) }})
				for i, it := range read(t, r, len(want)) {
					if it.Pos != want[i].Pos {
						t.Fatalf("item %d is at %d, want %d", i, it.Pos, want[i].Pos)
					}
				}
				r.Close()
				if len(reasons) < 8 {
					t.Errorf("%d retries", len(reasons))
				}
				for _, err := range reasons {
					if got := errors.Is(err, journal.ErrSilent); got != (kind == journaltest.Stall) {
						t.Errorf("retried for %v", err)
					}
				}
			})
		})
	}
}

// The entry at the cursor is asked for again, and no more.
func TestReaderFollowsFromBeforeTheCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := written(t, 5)
		j := &scripted{follows: []func(context.Context, journal.Position, func(journal.Entry, error) bool){
			entries(list[:3], 0, errBroken), entries(list[:3], 0, errBroken), entries(list, list[5].Pos, nil),
		}}
		r := newReader(t, j, journal.ReaderConfig{})
		read(t, r, len(list))
		r.Close()
		if want := []journal.Position{0, 2, 2}; !slices.Equal(j.from, want) {
			t.Errorf("followed from %v, want %v", j.from, want)
		}
	})
}

// RULES 22: an idle journal and a dead connection look different.
func TestReaderTellsIdleFromSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memjournal.New()
		retries := 0
		r := newReader(t, store, journal.ReaderConfig{OnRetry: func(error, int, time.Duration) { retries++ }})
		for range 600 {
			var it journal.Item
			if err := r.Next(t.Context(), &it); err != nil || it.Verdict != journal.Heartbeat {
				t.Fatalf("%v %v", it.Verdict, err)
			}
		}
		if retries != 0 {
			t.Errorf("an idle journal was followed anew %d times", retries)
		}
	})
}

// A caller that takes its time is not the backend's silence.
func TestSlowCallerIsNotSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memjournal.New()
		want := journaltest.Write(t, store, 60)
		retries := 0
		r := newReader(t, store, journal.ReaderConfig{OnRetry: func(error, int, time.Duration) { retries++ }})
		for range want {
			time.Sleep(20 * time.Second)
			read(t, r, 1)
		}
		if retries != 0 {
			t.Errorf("followed anew %d times", retries)
		}
	})
}

// RULES 23: re-delivery is harmless, of entries before, at and after the cursor.
func TestReaderTakesRedeliveryOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := written(t, 5)
		again := slices.Concat(list[:4], list[1:3], list[2:5], list)
		deliver := func(ctx context.Context, _ journal.Position, yield func(journal.Entry, error) bool) {
			entries(again, list[5].Pos, nil)(ctx, 0, yield)
		}
		j := &scripted{follows: []func(context.Context, journal.Position, func(journal.Entry, error) bool){deliver}}
		for _, n := range []int{0, 3} {
			r := newReader(t, j, journal.ReaderConfig{From: at(t, list, n)})
			for i, it := range read(t, r, len(list)-n) {
				if it.Pos != list[n+i].Pos {
					t.Fatalf("from %d: item %d is at %d", n, i, it.Pos)
				}
			}
			var it journal.Item
			if err := r.Next(t.Context(), &it); err != nil || it.Verdict != journal.Heartbeat {
				t.Errorf("then %v %v", it.Verdict, err)
			}
			r.Close()
		}
	})
}

// RULES 21: another entry at the cursor means at once that the journal is another
// one.
func TestReaderOfARecreatedJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := written(t, 5)
		other := memjournal.New()
		p := journaltest.NewPen("someone else")
		if err := p.Fence(t.Context(), other, 1); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if err := p.Append(t.Context(), other, journaltest.Records(1, 32)...); err != nil {
				t.Fatal(err)
			}
		}
		r := newReader(t, other, journal.ReaderConfig{From: at(t, list, 4)})
		began := time.Now()
		if err := fails(t, r); !errors.Is(err, journal.ErrLost) {
			t.Errorf("err = %v", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// RULES 21: a journal that ends below the cursor, or has nothing there, is lost if
// that lasts for LostAfter; for a moment a deposed server may say so.
func TestReaderOfAShorterJournal(t *testing.T) {
	list := written(t, 5)
	last := list[5].Pos
	below := entries(list[:3], list[2].Pos, nil)
	hole := entries(nil, last+3, nil)
	brief := func(show func(context.Context, journal.Position, func(journal.Entry, error) bool), d time.Duration) func(context.Context, journal.Position, func(journal.Entry, error) bool) {
		return func(ctx context.Context, after journal.Position, yield func(journal.Entry, error) bool) {
			ctx, cancel := context.WithTimeout(ctx, d)
			defer cancel()
			show(ctx, after, yield)
		}
	}
	type follow = func(context.Context, journal.Position, func(journal.Entry, error) bool)
	tests := []struct {
		name    string
		follows []follow
		lost    bool
	}{
		{"shorter for good", []follow{below}, true},
		{"empty for good", []follow{entries(nil, 0, nil)}, true},
		{"nothing at the cursor for good", []follow{hole}, true},
		{"shorter for a while", []follow{brief(below, 8*time.Second), entries(list, last, nil)}, false},
		{"nothing at the cursor for a moment", []follow{hole, hole, entries(list, last, nil)}, false},
		{"shorter, whole, shorter", []follow{brief(below, 8*time.Second), brief(entries(list, last, nil), time.Second), brief(below, 8*time.Second), entries(list, last, nil)}, false},
		{"unreadable for long", []follow{entries(nil, 0, errBroken)}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newReader(t, &scripted{follows: tt.follows}, journal.ReaderConfig{From: at(t, list, 6)})
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				began := time.Now()
				var err error
				for err == nil {
					var it journal.Item
					err = r.Next(ctx, &it)
				}
				if got := errors.Is(err, journal.ErrLost); got != tt.lost {
					t.Errorf("after %v: %v, lost %v, want %v", time.Since(began), err, got, tt.lost)
				}
				if took := time.Since(began); tt.lost && took < 10*time.Second {
					t.Errorf("believed after %v", took)
				}
			})
		})
	}
}

// A journal that becomes shorter while it is followed is lost too.
func TestReaderOfAJournalThatShrinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := written(t, 5)
		shrinks := func(ctx context.Context, after journal.Position, yield func(journal.Entry, error) bool) {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			entries(list, list[5].Pos, nil)(ctx, after, yield)
		}
		below := func(ctx context.Context, _ journal.Position, yield func(journal.Entry, error) bool) {
			entries(nil, list[2].Pos, nil)(ctx, 0, yield)
		}
		r := newReader(t, &scripted{follows: []func(context.Context, journal.Position, func(journal.Entry, error) bool){shrinks, below}}, journal.ReaderConfig{})
		read(t, r, len(list))
		if err := fails(t, r); !errors.Is(err, journal.ErrLost) {
			t.Errorf("err = %v", err)
		}
	})
}

// A cursor that says that the entry at it cannot be met is gone on from, with every
// check of what comes after.
func TestReaderFromAnEntryThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := written(t, 5)
		from := at(t, list, 3)
		from.Prev, from.Before = from.Pos, journal.Hash{}
		j := &scripted{follows: []func(context.Context, journal.Position, func(journal.Entry, error) bool){entries(list[3:], list[5].Pos, nil)}}
		read(t, newReader(t, j, journal.ReaderConfig{From: from}), 3)
		if j.from[0] != from.Pos {
			t.Errorf("followed from %d, want %d", j.from[0], from.Pos)
		}
		from.Chain[0]++
		if err := fails(t, newReader(t, j, journal.ReaderConfig{From: from})); !errors.Is(err, journal.ErrChain) {
			t.Errorf("from another chain: err = %v, want %v", err, journal.ErrChain)
		}
	})
}

// What was trimmed is trimmed; but if only the entry at the cursor is gone, what
// comes after it can be followed.
func TestReaderOfATrimmedJournal(t *testing.T) {
	tests := []struct {
		name    string
		from    int // entries that the cursor is after
		through int
		want    error
	}{
		{"from the start", 0, 3, journal.ErrTrimmed},
		{"from before what is left", 2, 4, journal.ErrTrimmed},
		{"the entry at the cursor was the last to go", 4, 4, nil},
		{"the entry before the cursor was", 4, 3, nil},
		{"nothing was trimmed", 4, 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memjournal.New()
				list := journaltest.Write(t, store, 8)
				if err := store.Trim(t.Context(), journal.Position(tt.through)); err != nil {
					t.Fatal(err)
				}
				r := newReader(t, store, journal.ReaderConfig{From: at(t, list, tt.from)})
				if tt.want != nil {
					if err := fails(t, r); !errors.Is(err, tt.want) {
						t.Errorf("err = %v, want %v", err, tt.want)
					}
					return
				}
				for i, it := range read(t, r, len(list)-tt.from) {
					if it.Pos != list[tt.from+i].Pos {
						t.Errorf("item %d is at %d", i, it.Pos)
					}
				}
			})
		})
	}
}

// RULES 5, 20: what cannot be trusted stops the reader, is named with its place,
// and nothing after it is given out.
func TestReaderStopsAtDamage(t *testing.T) {
	tests := []struct {
		name string
		bad  func(c journal.Cursor) []byte // entry 4, after seq 2
		want error
	}{
		{"a foreign message", func(journal.Cursor) []byte { return []byte("hello") }, journal.ErrForeign},
		{"a flipped bit", func(c journal.Cursor) []byte {
			raw := journaltest.Batch(c, journaltest.Records(1, 8)...)
			raw[len(raw)-1] ^= 1
			return raw
		}, journal.ErrChecksum},
		{"a batch cut short", func(c journal.Cursor) []byte {
			raw := journaltest.Batch(c, journaltest.Records(1, 8)...)
			return raw[:len(raw)-1]
		}, journal.ErrShort},
		{"a gap", func(c journal.Cursor) []byte { c.Seq++; return journaltest.Batch(c, journaltest.Records(1, 8)...) }, journal.ErrGap},
		{"a record again", func(c journal.Cursor) []byte { c.Seq--; return journaltest.Batch(c, journaltest.Records(1, 8)...) }, journal.ErrGap},
		{"a broken chain", func(c journal.Cursor) []byte {
			c.Chain[0]++
			return journaltest.Batch(c, journaltest.Records(1, 8)...)
		}, journal.ErrChain},
		{"time that does not increase", func(c journal.Cursor) []byte {
			c.Time--
			return journaltest.Batch(c, journaltest.Records(1, 8)...)
		}, journal.ErrTime},
		{"another writer", func(c journal.Cursor) []byte { c.Owner = "x"; return journaltest.Batch(c) }, journal.ErrWriter},
		{"an epoch that was never opened", func(c journal.Cursor) []byte { c.Epoch++; return journaltest.Batch(c) }, journal.ErrEpoch},
		{"a damaged fence", func(journal.Cursor) []byte { return journal.AppendFence(nil, 2, "b")[:20] }, journal.ErrShort},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memjournal.New()
				list := journaltest.Write(t, store, 2)
				c := at(t, list, 3)
				store.Put(tt.bad(c))
				store.Put(journal.AppendFence(nil, 9, "later"))
				r := newReader(t, store, journal.ReaderConfig{Source: "the store"})
				read(t, r, 3)
				for range 2 { // it stays so
					err := fails(t, r)
					var damage *journal.CorruptError
					if !errors.As(err, &damage) || !errors.Is(err, tt.want) {
						t.Fatalf("err = %v, want %v", err, tt.want)
					}
					if damage.Pos != 4 || damage.Seq != 2 || damage.Source != "the store" {
						t.Errorf("place: %+v", damage)
					}
				}
				if got := r.Cursor(); got != c {
					t.Errorf("the cursor stands at %+v, want %+v", got, c)
				}
			})
		})
	}
}

// RULES 13: a batch of a smaller epoch after a fence is dead: skipped, and said;
// a fence that is not above the open epoch is void. Both are in the chain.
func TestReaderPassesOverDeadAndVoid(t *testing.T) {
	store := memjournal.New()
	list := journaltest.Write(t, store, 2)
	old := at(t, list, 3)
	p := journaltest.NewPen("b/1")
	for _, e := range list {
		if err := p.Take(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Fence(t.Context(), store, 2); err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{
		journaltest.Batch(old, journaltest.Records(3, 8)...),
		journal.AppendFence(nil, 1, "late"),
		journal.AppendFence(nil, 2, "same epoch"),
	} {
		if err := p.Take(journal.Entry{Pos: store.Put(data), Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Append(t.Context(), store, journaltest.Records(1, 8)...); err != nil {
		t.Fatal(err)
	}
	r := newReader(t, store, journal.ReaderConfig{})
	items := read(t, r, 8)
	want := []journal.Verdict{journal.Opened, journal.Live, journal.Live, journal.Opened, journal.Dead, journal.Void, journal.Void, journal.Live}
	for i, it := range items {
		if it.Verdict != want[i] {
			t.Errorf("item %d: %v, want %v", i+1, it.Verdict, want[i])
		}
	}
	if items[4].Batch.Count != 3 || items[5].Fence.Owner != "late" || items[7].Batch.First != 3 {
		t.Errorf("items %+v", items[4:])
	}
	if r.Cursor() != p.Cursor() {
		t.Errorf("cursor %+v, want %+v", r.Cursor(), p.Cursor())
	}
}

// RULES 41: memory is bounded: a reader whose caller is slow reads only so far.
func TestReadAheadIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := written(t, 200)
		yielded := 0
		j := &scripted{follows: []func(context.Context, journal.Position, func(journal.Entry, error) bool){
			func(ctx context.Context, after journal.Position, yield func(journal.Entry, error) bool) {
				entries(list, list[200].Pos, nil)(ctx, after, func(e journal.Entry, err error) bool { yielded++; return yield(e, err) })
			},
		}}
		r := newReader(t, j, journal.ReaderConfig{})
		read(t, r, 1)
		synctest.Wait()
		if yielded > 20 {
			t.Errorf("%d entries were read for a caller that took 1", yielded)
		}
		read(t, r, 200)
	})
}

// A Next whose context ends loses nothing.
func TestNextInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memjournal.New()
		r := newReader(t, store, journal.ReaderConfig{})
		var it journal.Item
		if err := r.Next(t.Context(), &it); err != nil || it.Verdict != journal.Heartbeat {
			t.Fatal(it.Verdict, err)
		}
		p := journaltest.NewPen("a")
		if err := p.Fence(t.Context(), store, 1); err != nil {
			t.Fatal(err)
		}
		got := 0
		why := errors.New("why")
		for i := 0; got < 101; i++ {
			if i < 100 {
				if err := p.Append(t.Context(), store, journaltest.Records(1, 8)...); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			go cancel(why)
			switch err := r.Next(ctx, &it); {
			case err == nil && it.Verdict != journal.Heartbeat:
				got++
				if it.Pos != journal.Position(got) {
					t.Fatalf("item %d is at %d", got, it.Pos)
				}
			case err != nil && !errors.Is(err, why):
				t.Fatal(err)
			}
			cancel(nil)
		}
	})
}

// Wake cuts the pause before the next attempt short.
func TestWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := written(t, 2)
		j := &scripted{follows: []func(context.Context, journal.Position, func(journal.Entry, error) bool){
			entries(nil, 0, errBroken), entries(list, list[2].Pos, nil),
		}}
		r := newReader(t, j, journal.ReaderConfig{MinBackoff: time.Hour, MaxBackoff: time.Hour})
		synctest.Wait()
		began := time.Now()
		r.Wake()
		read(t, r, 3)
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %v", took)
		}
	})
}

// The pauses between attempts double up to their bound, and start over when an
// attempt brought something.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := written(t, 2)
		fails := entries(nil, 0, errBroken)
		j := &scripted{follows: []func(context.Context, journal.Position, func(journal.Entry, error) bool){
			fails, fails, fails, fails, entries(list[:1], 0, errBroken), fails, entries(list, list[2].Pos, nil),
		}}
		var waits []time.Duration
		r := newReader(t, j, journal.ReaderConfig{
			MinBackoff: time.Second, MaxBackoff: 3 * time.Second, OnRetry: func(_ error, _ int, wait time.Duration) { waits = append(waits, wait) },
		})
		read(t, r, 3)
		r.Close()
		if want := []time.Duration{1, 2, 3, 3, 1, 2}; len(waits) != len(want) {
			t.Errorf("waits %v", waits)
		} else {
			for i := range want {
				if waits[i] != want[i]*time.Second {
					t.Errorf("wait %d: %v, want %ds", i+1, waits[i], want[i])
				}
			}
		}
	})
}

// Close ends what the reader began, wherever it is: waiting, handing over, pausing.
func TestReaderClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := memjournal.New()
		journaltest.Write(t, full, 100)
		down := journaltest.NewFaulty(t, memjournal.New(), 1)
		down.Rate(journaltest.OpFollow, 1, journaltest.Fault{Kind: journaltest.Refuse})
		before := runtime.NumGoroutine()
		for _, j := range []journal.Journal{memjournal.New(), full, down} {
			r := journal.NewReader(j, journal.ReaderConfig{})
			synctest.Wait()
			r.Close()
			r.Close()
		}
		synctest.Wait()
		if got := runtime.NumGoroutine(); got > before {
			t.Errorf("%d goroutines are left over", got-before)
		}
	})
}

// A journal that is closed ends the reader.
func TestReaderOfAClosedJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memjournal.New()
		r := newReader(t, store, journal.ReaderConfig{})
		time.AfterFunc(time.Second, func() { store.Close() })
		if err := fails(t, r); !errors.Is(err, journal.ErrClosed) {
			t.Errorf("err = %v", err)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	store := memjournal.New()
	p := journaltest.NewPen("writer")
	if err := p.Fence(b.Context(), store, 1); err != nil {
		b.Fatal(err)
	}
	const batches, each = 1000, 64
	for range batches {
		if err := p.Append(b.Context(), store, journaltest.Records(each, 64)...); err != nil {
			b.Fatal(err)
		}
	}
	var records []journal.Record
	for b.Loop() {
		r := journal.NewReader(store, journal.ReaderConfig{})
		var it journal.Item
		for r.Cursor().Seq < batches*each {
			if err := r.Next(b.Context(), &it); err != nil {
				b.Fatal(err)
			}
			if it.Verdict == journal.Live {
				var err error
				if records, err = it.Batch.Records(records[:0]); err != nil {
					b.Fatal(err)
				}
			}
		}
		r.Close()
	}
	b.ReportMetric(batches*each*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
