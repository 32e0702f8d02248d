package node_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
	"understudy.dev/machine"
	"understudy.dev/node"
)

// replaceable is a journal that turns into another one, as a stream that was
// deleted and made again under the same name.
type replaceable struct {
	journal.Journal
	other atomic.Pointer[memjournal.Journal]
}

func (r *replaceable) replace(j *memjournal.Journal) {
	r.other.Store(j)
}

func (r *replaceable) now() journal.Journal {
	if j := r.other.Load(); j != nil {
		return j
	}
	return r.Journal
}

func (r *replaceable) Append(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
	pos, err := r.now().Append(ctx, epoch, prev, batch)
	if errors.Is(err, journal.ErrEpoch) { // a real store checks prev only
		return 0, journal.ErrConflict
	}
	return pos, err
}

func (r *replaceable) Fence(ctx context.Context, epoch journal.Epoch, owner string) (journal.Position, error) {
	return r.now().Fence(ctx, epoch, owner)
}

func (r *replaceable) End(ctx context.Context) (journal.End, error) {
	return journal.SampleEnd(ctx, r.now())
}
func (r *replaceable) Describe() journal.Capabilities { return journal.Describe(r.Journal) }

func (r *replaceable) Follow(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		began := r.now()
		for e, err := range began.Follow(ctx, after) {
			if r.now() != began {
				yield(journal.Entry{}, errors.New("connection lost"))
				return
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// wantHalted checks that a node halted with its state kept, and refuses to be
// promoted with the reason named.
func wantHalted(t *testing.T, m *member, want node.State, is func(error) bool) node.Overview {
	t.Helper()
	until(t, "it has halted", m.is(want))
	o := m.Overview()
	if !is(o.Err) {
		t.Errorf("halted by %v", o.Err)
	}
	end, _ := m.Promote(t.Context(), node.PromoteRequest{})
	_, err := m.Promote(t.Context(), node.PromoteRequest{})
	if p := wantFailure(t, err, node.CannotGoOn); !is(p) {
		t.Errorf("%v, %+v", err, end)
	}
	if len(failing(m.Checks(t.Context()))) == 0 {
		t.Error("all checks pass")
	}
	if err := m.Read(t.Context(), func(machine.Machine) {}); !errors.Is(err, node.ErrNotPrimary) {
		t.Errorf("read: %v", err)
	}
	m.submit(t, put(1), node.NotPrimary)
	if err := m.stop(); !is(err) {
		t.Errorf("run: %v", err)
	}
	return o
}

// RULES 24, 36, 38: what stops a follower stops it with its place, keeps its
// state, and makes it not promotable.
func TestFollowerHalts(t *testing.T) {
	corrupt := func(want error) func(error) bool {
		return func(err error) bool {
			var c *journal.CorruptError
			return errors.As(err, &c) && errors.Is(err, want) && c.Pos == 5 && c.Seq == 3
		}
	}
	tests := []struct {
		name string
		do   func(t *testing.T, a *member, store *memjournal.Journal)
		want node.State
		is   func(error) bool
		seq  journal.Seq // kept
	}{
		{
			name: "a panic", want: node.Halted, seq: 3,
			do: func(t *testing.T, a *member, _ *memjournal.Journal) { a.submit(t, command("panic"), node.Unknown) },
			is: func(err error) bool {
				var p *machine.PanicError
				return errors.As(err, &p) && p.Seq == 4 && p.Name == "panic"
			},
		},
		{
			name: "a foreign message", want: node.Halted, seq: 3, is: corrupt(journal.ErrForeign),
			do: func(_ *testing.T, _ *member, store *memjournal.Journal) { store.Put([]byte("hello")) },
		},
		{
			name: "a batch of an epoch never opened", want: node.Halted, seq: 3, is: corrupt(journal.ErrEpoch),
			do: func(_ *testing.T, _ *member, store *memjournal.Journal) {
				store.Put(journaltest.Batch(journal.Cursor{Epoch: 9, Owner: "x", Seq: 3}))
			},
		},
		{
			name: "a batch by another writer", want: node.Halted, seq: 3, is: corrupt(journal.ErrWriter),
			do: func(_ *testing.T, _ *member, store *memjournal.Journal) {
				store.Put(journaltest.Batch(journal.Cursor{Epoch: 1, Owner: "x", Seq: 3}))
			},
		},
		{
			name: "outcomes that differ", want: node.Diverged, seq: 4,
			do: func(t *testing.T, a *member, _ *memjournal.Journal) {
				a.submit(t, command("salt"), node.Done)
				time.Sleep(time.Second)
				a.submit(t, put(3), node.Done)
			},
			is: func(err error) bool {
				var d *machine.DivergedError
				return errors.As(err, &d) && d.Seq == 4
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memjournal.New()
				a := join(t, store.Handle(), "a", nil)
				b := join(t, store.Handle(), "b", &tally{salt: 1})
				a.lead(t)
				a.submit(t, put(1), node.Done)
				a.submit(t, put(2), node.Done)
				tt.do(t, a, store)
				if o := wantHalted(t, b, tt.want, tt.is); o.Progress.Seq != tt.seq {
					t.Errorf("progress stands at seq %d, want %d", o.Progress.Seq, tt.seq)
				}
				if got := len(b.machine.ids); got != 2 {
					t.Errorf("the machine has %d ids, want 2", got)
				}
			})
		})
	}
}

// RULES 21: a journal that is another one, or ends before the cursor for long, is
// lost; RULES 23: it is never read from the start instead.
func TestFollowerOfALostJournalHalts(t *testing.T) {
	for _, longer := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			store := memjournal.New()
			j := &replaceable{Journal: store}
			a := join(t, store.Handle(), "a", nil)
			b := join(t, j, "b", nil)
			a.lead(t)
			a.submit(t, put(1), node.Done)
			time.Sleep(time.Second)
			other := memjournal.New()
			if longer {
				journaltest.Write(t, other, 10)
			}
			j.replace(other)
			time.Sleep(30 * time.Second)
			wantHalted(t, b, node.Halted, func(err error) bool { return errors.Is(err, journal.ErrLost) })
		})
	}
}

// A machine that fails at the very moment a promotion interrupts it must not be
// promoted: the old primary would be fenced for nobody.
func TestFailedMachineIsNeverPromoted(t *testing.T) {
	for range 30 {
		synctest.Test(t, func(t *testing.T) {
			store := memjournal.New()
			p := journaltest.NewPen("writer")
			if err := errors.Join(
				p.Fence(t.Context(), store, 1),
				p.Append(t.Context(), store, journal.Record{Kind: journal.KindCommand, Name: "block"}, journal.Record{Kind: journal.KindCommand, Name: "panic"}),
			); err != nil {
				t.Fatal(err)
			}
			m := &tally{block: make(chan struct{}), began: make(chan journal.Seq, 1)}
			b := join(t, store, "b", m)
			<-m.began
			result := make(chan error, 1)
			go func() { _, err := b.Promote(t.Context(), node.PromoteRequest{}); result <- err }()
			synctest.Wait() // the promotion has interrupted the follower, in the middle of the batch
			close(m.block)
			wantFailure(t, <-result, node.CannotGoOn)
			if end, _ := store.End(t.Context()); end.Epoch != 1 {
				t.Fatalf("it opened epoch %d", end.Epoch)
			}
		})
	}
}

// A panic on the primary leaves nobody without an answer, also not the batch that
// was in flight behind it.
func TestPanicAnswersWhatIsBehindIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &hooked{Journal: memjournal.New()}
		a := join(t, j, "a", nil)
		a.lead(t)
		release := make(chan struct{})
		j.beforeAppend = func() { <-release }
		panics := a.later(command("panic"))
		synctest.Wait() // its append is under way
		var behind []<-chan node.Result
		for id := range uint64(1500) { // enough to be sent ahead
			behind = append(behind, a.later(put(id)))
		}
		close(release)
		if res := now(t, panics); res.Status != node.Unknown || !strings.Contains(res.Err.Error(), "seq 2") {
			t.Errorf("the panic: %v (%v)", res.Status, res.Err)
		}
		for id, c := range behind {
			if res := now(t, c); res.Status == node.Done || res.Err == nil {
				t.Fatalf("request %d behind it: %v (%v)", id, res.Status, res.Err)
			}
		}
		wantHalted(t, a, node.Halted, func(err error) bool { return errors.As(err, new(*machine.PanicError)) })
	})
}

// purged is a journal that finds out, from some moment on, that it lost entries.
type purged struct {
	*memjournal.Journal
	lost atomic.Bool
}

func (p *purged) found() error {
	if p.lost.Load() {
		return fmt.Errorf("the stream was purged: %w", journal.ErrLost)
	}
	return nil
}

func (p *purged) End(ctx context.Context) (journal.End, error) {
	if err := p.found(); err != nil {
		return journal.End{}, err
	}
	return p.Journal.End(ctx)
}

func (p *purged) Append(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
	if err := p.found(); err != nil {
		return 0, err
	}
	return p.Journal.Append(ctx, epoch, prev, batch)
}

// A primary that has nothing to do halts all the same when a look at the tail finds
// that the journal lost entries.
func TestIdlePrimaryFindsLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &purged{Journal: memjournal.New()}
		a := join(t, j, "a", nil)
		a.lead(t)
		a.submit(t, put(1), node.Done)
		j.lost.Store(true)
		time.Sleep(2 * time.Second)
		wantHalted(t, a, node.Halted, func(err error) bool { return errors.Is(err, journal.ErrLost) })
	})
}
