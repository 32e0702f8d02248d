package journaltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"understudy.dev/journal"
	"understudy.dev/journal/memjournal"
)

// altered is memjournal with some methods replaced.
type altered struct {
	*memjournal.Journal
	shared   *shared
	first    bool // not reopened
	onAppend func(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error)
	onFence  func(ctx context.Context, epoch journal.Epoch, owner string) (journal.Position, error)
	onFollow func(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error]
	onEnd    func(journal.End) journal.End
	onImport func(ctx context.Context, prev journal.Position, entry []byte) (journal.Position, error)
	onTrim   func(ctx context.Context, through journal.Position) error
	onClose  func() error
	onTell   func(journal.Capabilities) journal.Capabilities
}

// shared is what the handles of one broken journal have in common.
type shared struct {
	mu   sync.Mutex
	n    int
	kept map[journal.Position][]byte
}

func (s *shared) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	return s.n
}

func (a *altered) Append(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
	if a.onAppend == nil {
		return a.Journal.Append(ctx, epoch, prev, batch)
	}
	return a.onAppend(ctx, epoch, prev, batch)
}

func (a *altered) Fence(ctx context.Context, epoch journal.Epoch, owner string) (journal.Position, error) {
	if a.onFence == nil {
		return a.Journal.Fence(ctx, epoch, owner)
	}
	return a.onFence(ctx, epoch, owner)
}

func (a *altered) Follow(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
	if a.onFollow == nil {
		return a.Journal.Follow(ctx, after)
	}
	return a.onFollow(ctx, after)
}

func (a *altered) End(ctx context.Context) (journal.End, error) {
	end, err := a.Journal.End(ctx)
	if a.onEnd != nil {
		end = a.onEnd(end)
	}
	return end, err
}

func (a *altered) Trim(ctx context.Context, through journal.Position) error {
	if a.onTrim == nil {
		return a.Journal.Trim(ctx, through)
	}
	return a.onTrim(ctx, through)
}

func (a *altered) Import(ctx context.Context, prev journal.Position, entry []byte) (journal.Position, error) {
	if a.onImport == nil {
		return a.Journal.Import(ctx, prev, entry)
	}
	return a.onImport(ctx, prev, entry)
}

func (a *altered) Close() error {
	if a.onClose == nil {
		return a.Journal.Close()
	}
	return a.onClose()
}

func (a *altered) Describe() journal.Capabilities {
	c := a.Journal.Describe()
	if a.onTell != nil {
		c = a.onTell(c)
	}
	return c
}

// end returns where the journal really ends.
func (a *altered) end() journal.Position {
	h := a.Handle()
	defer h.Close()
	end, _ := h.End(context.Background())
	return end.Pos
}

// putIf puts what was refused with one of errs and acknowledges it.
func (a *altered) putIf(errs ...error) {
	a.onAppend = func(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
		pos, err := a.Journal.Append(ctx, epoch, prev, batch)
		for _, e := range errs {
			if errors.Is(err, e) {
				return a.Put(batch), nil
			}
		}
		return pos, err
	}
}

// mapEntries changes what Follow yields; keep says whether to yield it.
func (a *altered) mapEntries(change func(e journal.Entry) (_ journal.Entry, keep bool)) {
	a.onFollow = func(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
		return func(yield func(journal.Entry, error) bool) {
			for e, err := range a.Journal.Follow(ctx, after) {
				if err == nil {
					var keep bool
					if e, keep = change(e); !keep {
						continue
					}
				}
				if !yield(e, err) {
					return
				}
			}
		}
	}
}

// brokenJournals are journals that break the contract, with the scenarios that
// must notice.
var brokenJournals = []struct {
	name   string
	caught []string
	breaks func(a *altered)
}{
	{"ignores a conflict", []string{
		"append elsewhere", "append to what is no longer empty", "append from before the fence", "concurrent appends",
		"fence through a busy writer", "random operations",
	}, func(a *altered) { a.putIf(journal.ErrConflict) }},
	{"accepts a stale epoch with the right prev", []string{
		"stale epoch, same handle", "stale epoch, another handle", "stale epoch, reopened handle", "random operations",
	}, func(a *altered) { a.putIf(journal.ErrFenced) }},
	{"forgets fences on another handle", []string{"stale epoch, another handle", "stale epoch, reopened handle"}, func(a *altered) {
		if !a.first {
			a.putIf(journal.ErrFenced)
		}
	}},
	{"trusts the owner of a batch", []string{"another owner's append", "random operations"}, func(a *altered) {
		a.onAppend = func(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
			pos, err := a.Journal.Append(ctx, epoch, prev, batch)
			if end, _ := a.Journal.End(ctx); errors.Is(err, journal.ErrFenced) && end.Epoch == epoch {
				return a.Put(batch), nil
			}
			return pos, err
		}
	}},
	{"acknowledges appends that it loses", []string{"append after the end", "follow many entries"}, func(a *altered) {
		a.onAppend = func(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
			if a.shared.count()%7 == 0 {
				return prev + 1, nil
			}
			return a.Journal.Append(ctx, epoch, prev, batch)
		}
	}},
	{"keeps the caller's batch", []string{"batch is not kept"}, func(a *altered) {
		a.onAppend = func(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
			pos, err := a.Journal.Append(ctx, epoch, prev, batch)
			if err == nil {
				a.shared.kept[pos] = batch
			}
			return pos, err
		}
		a.mapEntries(func(e journal.Entry) (journal.Entry, bool) {
			if kept := a.shared.kept[e.Pos]; kept != nil && !isHeartbeat(e) {
				e.Data = kept
			}
			return e, true
		})
	}},
	{"changes the caller's batch", []string{"batch is not kept"}, func(a *altered) {
		a.onAppend = func(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
			pos, err := a.Journal.Append(ctx, epoch, prev, batch)
			batch[len(batch)-1]++
			return pos, err
		}
	}},
	{"imports anything", []string{"import of what is no entry"}, func(a *altered) {
		a.onImport = func(_ context.Context, _ journal.Position, entry []byte) (journal.Position, error) {
			return a.Put(entry), nil
		}
	}},
	{"stores what it refuses to import", []string{"import of what is no entry"}, func(a *altered) {
		a.onImport = func(ctx context.Context, prev journal.Position, entry []byte) (journal.Position, error) {
			pos, err := a.Journal.Import(ctx, prev, entry)
			if err != nil && len(entry) > 0 {
				a.Put(entry)
			}
			return pos, err
		}
	}},
	{"does not say that what it refused to import is not there", []string{"import of what is no entry"}, func(a *altered) {
		a.onImport = func(ctx context.Context, prev journal.Position, entry []byte) (journal.Position, error) {
			pos, err := a.Journal.Import(ctx, prev, entry)
			if err != nil {
				err = errors.New("it did not work")
			}
			return pos, err
		}
	}},
	{"imports nothing that is dead", []string{"import of what others refuse"}, func(a *altered) {
		a.onImport = func(ctx context.Context, prev journal.Position, entry []byte) (journal.Position, error) {
			if end, err := a.Journal.End(ctx); err != nil || end.Epoch > 1 {
				return 0, journal.ErrFenced
			}
			return a.Journal.Import(ctx, prev, entry)
		}
	}},
	{"takes batches of any size", []string{"too large"}, func(a *altered) {
		a.onTell = func(c journal.Capabilities) journal.Capabilities { c.MaxBatch = 1000; return c }
	}},
	{"promises a larger batch than it takes", []string{"too large"}, func(a *altered) {
		a.onTell = func(c journal.Capabilities) journal.Capabilities { c.MaxBatch = 2 * memjournal.MaxBatch; return c }
	}},
	{"writes after its context ended and says it did not", []string{"append with an ended context"}, func(a *altered) {
		a.onAppend = func(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
			if ctx.Err() != nil {
				a.Put(batch)
				return 0, journal.ErrFull
			}
			return a.Journal.Append(ctx, epoch, prev, batch)
		}
	}},
	{"writes twice after its context ended", []string{"append with an ended context"}, func(a *altered) {
		a.onAppend = func(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
			if ctx.Err() != nil {
				a.Put(batch)
				a.Put(batch)
			}
			return a.Journal.Append(ctx, epoch, prev, batch)
		}
	}},
	{"loses the last entry when reopened", []string{"acknowledged entries survive a reopening", "entries stay"}, func(a *altered) {
		if lost := a.end(); !a.first {
			a.mapEntries(func(e journal.Entry) (journal.Entry, bool) { return e, isHeartbeat(e) || e.Pos != lost })
		}
	}},
	{"acknowledges a fence that it did not write", []string{
		"fence is stored at the end", "concurrent fences of one epoch", "concurrent fences of many epochs",
	}, func(a *altered) {
		a.onFence = func(_ context.Context, epoch journal.Epoch, owner string) (journal.Position, error) {
			if a.shared.count() > 1 {
				return a.end() + 1, nil
			}
			return a.Put(journal.AppendFence(nil, epoch, owner)), nil
		}
	}},
	{"returns the end before the fence", []string{"fence is stored at the end", "random operations"}, func(a *altered) {
		a.onFence = func(ctx context.Context, epoch journal.Epoch, owner string) (journal.Position, error) {
			pos, err := a.Journal.Fence(ctx, epoch, owner)
			return max(pos, 1) - 1, err
		}
	}},
	{"fences only if it knows the end", []string{"fence needs no knowledge of the end", "fence through a busy writer"}, func(a *altered) {
		known := a.first
		a.onFence = func(ctx context.Context, epoch journal.Epoch, owner string) (journal.Position, error) {
			if !known {
				return 0, journal.ErrConflict
			}
			return a.Journal.Fence(ctx, epoch, owner)
		}
		a.mapEntries(func(e journal.Entry) (journal.Entry, bool) { known = true; return e, true })
	}},
	{"opens an epoch for two owners", []string{"one owner per epoch", "concurrent fences of one epoch", "random operations"}, func(a *altered) {
		a.onFence = func(ctx context.Context, epoch journal.Epoch, owner string) (journal.Position, error) {
			pos, err := a.Journal.Fence(ctx, epoch, owner)
			if end, _ := a.Journal.End(ctx); errors.Is(err, journal.ErrFenced) && end.Epoch == epoch {
				return end.Pos, nil
			}
			return pos, err
		}
	}},
	{"writes a second fence for another owner and refuses it", []string{"one owner per epoch", "concurrent fences of one epoch"}, func(a *altered) {
		a.onFence = func(ctx context.Context, epoch journal.Epoch, owner string) (journal.Position, error) {
			pos, err := a.Journal.Fence(ctx, epoch, owner)
			if errors.Is(err, journal.ErrFenced) {
				a.Put(journal.AppendFence(nil, epoch, owner))
			}
			return pos, err
		}
	}},
	{"takes a smaller epoch", []string{"smaller epoch", "random operations"}, func(a *altered) {
		a.onFence = func(ctx context.Context, epoch journal.Epoch, owner string) (journal.Position, error) {
			pos, err := a.Journal.Fence(ctx, epoch, owner)
			if end, _ := a.Journal.End(ctx); errors.Is(err, journal.ErrFenced) && end.Epoch > epoch {
				return a.Put(journal.AppendFence(nil, epoch, owner)), nil
			}
			return pos, err
		}
	}},
	{"fences again for the same owner", []string{"same owner fences again"}, func(a *altered) {
		a.onFence = func(ctx context.Context, epoch journal.Epoch, owner string) (journal.Position, error) {
			if end, _ := a.Journal.End(ctx); end.Epoch == epoch {
				return a.Put(journal.AppendFence(nil, epoch, owner)), nil
			}
			return a.Journal.Fence(ctx, epoch, owner)
		}
	}},
	{"cannot be asked for a fence again", []string{"same owner fences again", "fence with an ended context", "work side by side"}, func(a *altered) {
		a.onFence = func(ctx context.Context, epoch journal.Epoch, owner string) (journal.Position, error) {
			live := context.WithoutCancel(ctx)
			if end, _ := a.Journal.End(live); end.Epoch == epoch {
				return 0, journal.ErrFenced
			}
			pos, err := a.Journal.Fence(live, epoch, owner)
			return pos, errors.Join(err, ctx.Err())
		}
	}},
	{"takes epoch 0", []string{"impossible fence"}, func(a *altered) {
		a.onFence = func(ctx context.Context, epoch journal.Epoch, owner string) (journal.Position, error) {
			return a.Journal.Fence(ctx, max(epoch, 1), owner)
		}
	}},
	{"says fenced where it is a conflict", []string{"append from before the fence"}, func(a *altered) {
		a.onAppend = func(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
			if end, err := a.Journal.End(ctx); err == nil && end.Epoch > epoch {
				return 0, journal.ErrFenced
			}
			return a.Journal.Append(ctx, epoch, prev, batch)
		}
	}},
	{"follow skips an entry", []string{"follow from each position", "follow many entries", "follow live"}, func(a *altered) {
		a.mapEntries(func(e journal.Entry) (journal.Entry, bool) { return e, isHeartbeat(e) || e.Pos != 4 })
	}},
	{"follow repeats an entry", []string{"follow from each position", "follow many entries", "follow live", "several follow at once", "random operations"}, func(a *altered) {
		a.onFollow = func(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
			return func(yield func(journal.Entry, error) bool) {
				for e, err := range a.Journal.Follow(ctx, after) {
					if !yield(e, err) || e.Pos == 3 && !isHeartbeat(e) && !yield(e, err) {
						return
					}
				}
			}
		}
	}},
	{"follow starts over", []string{"follow from each position"}, func(a *altered) {
		a.onFollow = func(ctx context.Context, _ journal.Position) iter.Seq2[journal.Entry, error] {
			return a.Journal.Follow(ctx, 0)
		}
	}},
	{"follow ends instead of waiting", []string{"follow live", "several follow at once", "heartbeats while idle"}, func(a *altered) {
		a.onFollow = func(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
			return func(yield func(journal.Entry, error) bool) {
				for e, err := range a.Journal.Follow(ctx, after) {
					if !yield(e, err) || isHeartbeat(e) {
						return
					}
				}
			}
		}
	}},
	{"follow gives no heartbeat while idle", []string{"heartbeats while idle"}, func(a *altered) {
		a.onFollow = func(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
			beats := 0
			return func(yield func(journal.Entry, error) bool) {
				for e, err := range a.Journal.Follow(ctx, after) {
					if isHeartbeat(e) {
						beats++
					}
					if (beats <= 1 || !isHeartbeat(e)) && !yield(e, err) {
						return
					}
				}
			}
		}
	}},
	{"follow gives the first heartbeat late", []string{"first heartbeat at once"}, func(a *altered) {
		a.onFollow = func(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
			return func(yield func(journal.Entry, error) bool) {
				first := true
				for e, err := range a.Journal.Follow(ctx, after) {
					if first && isHeartbeat(e) {
						first = false
						continue
					}
					if !yield(e, err) {
						return
					}
				}
			}
		}
	}},
	{"heartbeats have no position", []string{"heartbeat says where", "follow from each position"}, func(a *altered) {
		a.mapEntries(func(e journal.Entry) (journal.Entry, bool) {
			if isHeartbeat(e) {
				e.Pos = 0
			}
			return e, true
		})
	}},
	{"heartbeats name the position that was asked for", []string{"follow from beyond the end"}, func(a *altered) {
		a.onFollow = func(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
			return func(yield func(journal.Entry, error) bool) {
				for e, err := range a.Journal.Follow(ctx, after) {
					e.Pos = max(e.Pos, after)
					if !yield(e, err) {
						return
					}
				}
			}
		}
	}},
	{"follow from beyond the end fails", []string{"follow from beyond the end"}, func(a *altered) {
		a.onFollow = func(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
			if after > a.end() {
				return func(yield func(journal.Entry, error) bool) { yield(journal.Entry{}, journal.ErrLost) }
			}
			return a.Journal.Follow(ctx, after)
		}
	}},
	{"follow reports the end of its context", []string{"follow ends with its context"}, func(a *altered) {
		a.onFollow = func(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
			return func(yield func(journal.Entry, error) bool) {
				for e, err := range a.Journal.Follow(ctx, after) {
					if !yield(e, err) {
						return
					}
				}
				if ctx.Err() != nil {
					yield(journal.Entry{}, ctx.Err())
				}
			}
		}
	}},
	{"follow does not heed its context", []string{"follow ends with its context"}, func(a *altered) {
		a.onFollow = func(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
			return a.Journal.Follow(context.WithoutCancel(ctx), after)
		}
	}},
	{"follow goes on after close", []string{"follow ends on close", "calls after close"}, func(a *altered) {
		other := a.Handle()
		a.onFollow = other.Follow
	}},
	{"follow that is left early blocks the next", []string{"follow is left early"}, func(a *altered) {
		a.onFollow = func(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
			return func(yield func(journal.Entry, error) bool) {
				if a.shared.n > 0 {
					yield(journal.Entry{}, errors.New("busy"))
					return
				}
				a.shared.n++
				for e, err := range a.Journal.Follow(ctx, after) {
					if !yield(e, err) {
						return
					}
				}
				a.shared.n--
			}
		}
	}},
	{"two follows share a buffer", []string{"entries stay while held"}, func(a *altered) {
		var buf []byte
		a.mapEntries(func(e journal.Entry) (journal.Entry, bool) {
			if !isHeartbeat(e) {
				buf = append(buf[:0], e.Data...)
				e.Data = buf
			}
			return e, true
		})
	}},
	{"second close fails", []string{"close twice"}, func(a *altered) {
		a.onClose = func() error {
			if a.shared.count() > 1 {
				return journal.ErrClosed
			}
			return a.Journal.Close()
		}
	}},
	{"close does nothing", []string{"calls after close", "follow ends on close", "close while a writer appends"}, func(a *altered) {
		a.onClose = func() error { return nil }
	}},
	{"close removes the entries", []string{"entries stay"}, func(a *altered) {
		a.onClose = func() error {
			_ = a.Journal.Trim(context.Background(), a.end()) // fails when it is closed already
			return a.Journal.Close()
		}
	}},
	{"says closed and writes", []string{"close while a writer appends"}, func(a *altered) {
		a.onAppend = func(ctx context.Context, epoch journal.Epoch, prev journal.Position, batch []byte) (journal.Position, error) {
			pos, err := a.Journal.Append(ctx, epoch, prev, batch)
			if errors.Is(err, journal.ErrClosed) {
				a.Put(batch)
			}
			return pos, err
		}
	}},
	{"end of an empty journal is invented", []string{"end of an empty journal"}, func(a *altered) {
		a.onEnd = func(e journal.End) journal.End { e.Epoch = max(e.Epoch, 1); return e }
	}},
	{"end forgets the seq at a barrier", []string{"end is sampled"}, func(a *altered) {
		a.onEnd = func(e journal.End) journal.End {
			if e.Pos%3 == 2 {
				e.Seq = 0
			}
			return e
		}
	}},
	{"says that it cannot fence", []string{"capabilities"}, func(a *altered) {
		a.onTell = func(c journal.Capabilities) journal.Capabilities { c.Fence = false; return c }
	}},
	{"trims one entry more", []string{"follow after a trim"}, func(a *altered) {
		a.onTrim = func(ctx context.Context, through journal.Position) error { return a.Journal.Trim(ctx, through+1) }
	}},
	{"follows silently from what is left", []string{"follow after a trim"}, func(a *altered) {
		a.onFollow = func(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
			end, _ := a.Journal.End(ctx)
			return a.Journal.Follow(ctx, max(after, end.First))
		}
	}},
	{"trim removes the newest fence", []string{"trim keeps the newest fence"}, func(a *altered) {
		a.onTrim = func(ctx context.Context, through journal.Position) error {
			a.shared.count()
			return a.Journal.Trim(ctx, through)
		}
		a.onFence = func(ctx context.Context, epoch journal.Epoch, owner string) (journal.Position, error) {
			pos, err := a.Journal.Fence(ctx, epoch, owner)
			if errors.Is(err, journal.ErrFenced) && a.shared.n > 0 {
				return a.Put(journal.AppendFence(nil, epoch, owner)), nil
			}
			return pos, err
		}
	}},
}

// brokenConfig opens journals that breaks has altered.
func brokenConfig(breaks func(*altered)) Config {
	open := func(tb testing.TB, j *memjournal.Journal, s *shared, first bool) journal.Journal {
		tb.Cleanup(func() { j.Close() })
		a := &altered{Journal: j, shared: s, first: first}
		breaks(a)
		return a
	}
	return Config{
		Open: func(tb testing.TB) journal.Journal {
			return open(tb, memjournal.New(), &shared{kept: make(map[journal.Position][]byte)}, true)
		},
		Reopen: func(tb testing.TB, j journal.Journal) journal.Journal {
			a := j.(*altered)
			return open(tb, a.Handle(), a.shared, false)
		},
		Bubble: true,
		Seed:   1,
	}
}

// find returns the scenario with a name.
func find(t *testing.T, name string) scenario {
	t.Helper()
	all := scenarios()
	i := slices.IndexFunc(all, func(c scenario) bool { return c.name == name })
	if i < 0 {
		t.Fatalf("no scenario is called %q", name)
	}
	return all[i]
}

func TestBrokenJournalsAreCaught(t *testing.T) {
	for _, b := range brokenJournals {
		for _, name := range b.caught {
			t.Run(b.name+"/"+name, func(t *testing.T) {
				c := find(t, name)
				synctest.Test(t, func(t *testing.T) {
					err := c.try(t, brokenConfig(b.breaks))
					if err == nil || errors.Is(err, errSkip) {
						t.Fatalf("a journal that %s passed %q: %v", b.name, name, err)
					}
					t.Log(err)
				})
			})
		}
	}
}

func TestEachScenarioCatchesOne(t *testing.T) {
	caught := make(map[string]bool)
	for _, b := range brokenJournals {
		for _, name := range b.caught {
			caught[name] = true
		}
	}
	seen := make(map[string]bool)
	for _, c := range scenarios() {
		if !caught[c.name] {
			t.Errorf("no broken journal shows that %q can fail", c.name)
		}
		if seen[c.name] {
			t.Errorf("two scenarios are called %q", c.name)
		}
		seen[c.name] = true
	}
}

func TestUnalteredJournalPasses(t *testing.T) {
	Run(t, brokenConfig(func(*altered) {}))
}

func TestClausesAreQuoted(t *testing.T) {
	contract := comments(t, "../journal.go") + comments(t, "../errors.go") + comments(t, "../fence.go")
	for _, c := range scenarios() {
		if !strings.Contains(contract, c.clause) {
			t.Errorf("%s: %q is not in the comments of package journal", c.name, c.clause)
		}
	}
}

func TestDifferenceIsShownByAShortScript(t *testing.T) {
	c := find(t, "random operations")
	breaks := func(a *altered) { a.putIf(journal.ErrConflict) }
	for seed := uint64(1); seed <= 5; seed++ {
		synctest.Test(t, func(t *testing.T) {
			cfg := brokenConfig(breaks)
			cfg.Seed = seed
			err := c.try(t, cfg)
			if err == nil {
				t.Fatalf("seed %d: no difference", seed)
			}
			// A fence, perhaps a second one to be ahead of, and an append elsewhere.
			if steps := strings.Count(err.Error(), "\n  handle "); steps > 3 || !strings.Contains(err.Error(), fmt.Sprintf("seed %d,", seed)) {
				t.Errorf("script of %d steps, want at most 3, and the seed %d:\n%v", steps, seed, err)
			}
		})
	}
}

func TestSizedBatch(t *testing.T) {
	c := journal.Cursor{Epoch: 1, Owner: "a"}
	for _, size := range []int{300, 1000, 1 << 14, 1<<20 - 1, 1 << 20, 1<<20 + 1} {
		if got := len(sized(c, size)); got != size {
			t.Errorf("sized(%d): %d bytes", size, got)
		}
	}
	if a, b := Batch(c, Records(1, 8)...), Batch(c, Records(1, 8)...); !bytes.Equal(a, b) {
		t.Error("the same records after the same cursor gave different bytes")
	}
}
