package filejournal_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy.dev/internal/crashfs"
	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/journaltest"
)

// A story is a life of a journal: it is made, fenced, appended to over several
// segments, trimmed, fenced by another handle, appended to and closed. It ends
// at the first write whose outcome is unknown.
type story struct {
	disk  *crashfs.FS
	dir   string // of the journal; "" is j
	track journal.Tracker
	acked []journal.Entry // in order
	tried []byte          // the write whose outcome is unknown
	trim  journal.Position
	owner string
}

// tiny segments hold one block of entries.
const tiny = 8 << 10

var tinyConfig = filejournal.Config{SegmentBytes: tiny, Foreground: true}

func (s *story) open() (*filejournal.Journal, error) { return s.openWith(tinyConfig) }

func (s *story) openWith(cfg filejournal.Config) (*filejournal.Journal, error) {
	cfg.FS = s.disk
	return filejournal.Open(cmp.Or(s.dir, "j"), cfg)
}

// A plot is what happens in a story.
type plot = func(s *story, ctx context.Context) error

// plots are those that are interrupted at each of their system calls.
var plots = map[string]plot{
	"two writers":          (*story).run,
	"recycled segments":    (*story).recycle,
	"spares made early":    (*story).makeSpares,
	"the right taken over": (*story).takeOver,
	"new folders":          (*story).nested,
	"a folder found":       (*story).found,
	"the journal's found":  (*story).foundWhole,
}

func (s *story) run(ctx context.Context) error {
	a, err := s.open()
	if err != nil {
		return err
	}
	defer a.Close()
	if err := s.fence(ctx, a, 1, "a"); err != nil {
		return err
	}
	for i := range 9 {
		if err := s.append(ctx, a, 700+200*i); err != nil {
			return err
		}
	}
	s.trim = s.acked[5].Pos
	if err := a.Trim(ctx, s.trim); err != nil {
		return err
	}
	b, err := s.open()
	if err != nil {
		return err
	}
	defer b.Close()
	if err := s.fence(ctx, b, 2, "b"); err != nil {
		return err
	}
	if _, err := a.Append(ctx, 1, s.track.Cursor.Pos, s.batch(1, "a", 100)); !errors.Is(err, journal.ErrFenced) {
		return fmt.Errorf("append of the fenced writer: %w", err)
	}
	for i := range 7 {
		if err := s.append(ctx, b, 100+900*i); err != nil {
			return err
		}
	}
	s.trim = s.track.Cursor.Pos
	return b.Trim(ctx, s.trim)
}

// recycle trims a segment before each one that it begins, which takes it.
func (s *story) recycle(ctx context.Context) error {
	a, err := s.open()
	if err != nil {
		return err
	}
	defer a.Close()
	return s.terms(ctx, a)
}

// makeSpares is a story whose segments are prepared in the background. The order
// of its calls is not fixed; that of those which matter to each other is.
func (s *story) makeSpares(ctx context.Context) error {
	a, err := s.openWith(filejournal.Config{SegmentBytes: tiny})
	if err != nil {
		return err
	}
	defer a.Close()
	return s.terms(ctx, a)
}

// terms fences, appends over some segments and trims, again and again. What is
// trimmed ends with the fence before.
func (s *story) terms(ctx context.Context, j *filejournal.Journal) error {
	for epoch := range journal.Epoch(3) {
		if err := s.fence(ctx, j, epoch+1, "a"); err != nil {
			return err
		}
		for i := range 4 {
			if err := s.append(ctx, j, 1200+300*i); err != nil {
				return err
			}
		}
		s.trim = s.track.Cursor.Pos
		if err := j.Trim(ctx, s.trim); err != nil {
			return err
		}
	}
	return nil
}

// takeOver has every fence find the right to write in other hands, which do not
// let go, so that it begins a generation of its own.
func (s *story) takeOver(ctx context.Context) error {
	cfg := tinyConfig
	cfg.Patience = time.Nanosecond
	a, err := s.openWith(cfg)
	if err != nil {
		return err
	}
	defer a.Close()
	for generation := range 3 {
		if err := s.fence(ctx, a, journal.Epoch(generation+1), "a"); err != nil {
			return err
		}
		for i := range 3 {
			if err := s.append(ctx, a, 700+900*i); err != nil {
				return err
			}
		}
		s.trim = s.track.Cursor.Pos
		if err := a.Trim(ctx, s.trim); err != nil {
			return err
		}
		f, err := s.disk.Open(fmt.Sprintf("j/lock-%d", generation), os.O_RDWR)
		if err != nil {
			return err
		}
		if ok, err := f.TryLock(); !ok {
			return fmt.Errorf("lock of generation %d is held: %w", generation, err)
		}
	}
	return nil
}

// nested makes the journal in folders that are all new.
func (s *story) nested(ctx context.Context) error {
	s.dir = "n/a/b/c"
	a, err := s.open()
	if err != nil {
		return err
	}
	defer a.Close()
	if err := s.fence(ctx, a, 1, "a"); err != nil {
		return err
	}
	return s.append(ctx, a, 100)
}

// found makes the journal in a folder that a process made before it died, and
// whose name it had not come to sync.
func (s *story) found(ctx context.Context) error {
	if err := errors.Join(s.disk.Mkdir("n"), s.disk.SyncDir("."), s.disk.Mkdir("n/a")); err != nil {
		return err
	}
	return s.nested(ctx)
}

// foundWhole does in one that only lacks the journal.
func (s *story) foundWhole(ctx context.Context) error {
	err := errors.Join(s.disk.Mkdir("n"), s.disk.SyncDir("."), s.disk.Mkdir("n/a"), s.disk.SyncDir("n"))
	err = errors.Join(err, s.disk.Mkdir("n/a/b"), s.disk.SyncDir("n/a"), s.disk.Mkdir("n/a/b/c"))
	if err != nil {
		return err
	}
	return s.nested(ctx)
}

func (s *story) fence(ctx context.Context, j journal.Journal, epoch journal.Epoch, owner string) error {
	s.owner = owner
	pos, err := j.Fence(ctx, epoch, owner)
	return s.note(pos, journal.AppendFence(nil, epoch, owner), err)
}

func (s *story) append(ctx context.Context, j journal.Journal, sizeBytes int) error {
	c := s.track.Cursor
	batch := s.batch(c.Epoch, s.owner, sizeBytes)
	pos, err := j.Append(ctx, c.Epoch, c.Pos, batch)
	return s.note(pos, batch, err)
}

func (s *story) batch(epoch journal.Epoch, owner string, sizeBytes int) []byte {
	c := s.track.Cursor
	c.Epoch, c.Owner = epoch, owner
	return journaltest.Batch(c, journaltest.Records(1, sizeBytes)...)
}

func (s *story) note(pos journal.Position, data []byte, err error) error {
	if journal.OutcomeOf(err) == journal.Unknown {
		s.tried = data
	}
	if err != nil {
		return err
	}
	e := journal.Entry{Pos: pos, Data: data}
	s.acked = append(s.acked, e)
	var b journal.Batch
	_, _, err = s.track.Take(e, &b)
	return err
}

// check opens what is left on a disk and holds it against the story: all that
// was acknowledged and not trimmed is there in order, and after it at most the
// write that was under way. Then it appends and reads again.
func (s *story) check(ctx context.Context, disk *crashfs.FS) error {
	after := &story{disk: disk, dir: s.dir}
	j, err := after.open()
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if _, err := j.End(ctx); err != nil {
		return fmt.Errorf("after the first open: %w", err)
	}
	if err := j.Close(); err != nil {
		return err
	}
	if j, err = after.open(); err != nil {
		return fmt.Errorf("open again: %w", err)
	}
	defer j.Close()
	end, err := j.End(ctx)
	if err != nil {
		return err
	}
	if end.First > s.trim {
		return fmt.Errorf("trimmed through %d, asked for %d", end.First, s.trim)
	}
	got, err := drain(ctx, j, end.First)
	if err != nil {
		return err
	}
	want := s.acked
	for len(want) > 0 && want[0].Pos <= end.First {
		want = want[1:]
	}
	if len(got) == len(want)+1 && s.tried != nil {
		last := got[len(want)]
		if !bytes.Equal(last.Data, s.tried) {
			return fmt.Errorf("the entry at %d was neither acknowledged nor tried", last.Pos)
		}
		want = append(want[:len(want):len(want)], last)
	}
	if err := same(got, want); err != nil {
		return err
	}
	return s.goOn(ctx, j, got)
}

// goOn opens the next epoch, appends, and reads all of it with the chain.
func (s *story) goOn(ctx context.Context, j *filejournal.Journal, entries []journal.Entry) error {
	n := &story{owner: "c"}
	start, err := j.Locate(ctx, journal.Target{Seq: 1})
	if err != nil {
		return fmt.Errorf("locate the start: %w", err)
	}
	n.track.Cursor = start
	var b journal.Batch
	for _, e := range entries {
		if _, _, err := n.track.Take(e, &b); err != nil {
			return fmt.Errorf("take in what was found: %w", err)
		}
	}
	if err := n.fence(ctx, j, n.track.Cursor.Epoch+1, "c"); err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	for i := range 3 {
		if err := n.append(ctx, j, 10+2000*i); err != nil {
			return fmt.Errorf("append: %w", err)
		}
	}
	got, err := drain(ctx, j, start.Pos)
	if err != nil {
		return err
	}
	return same(got, append(entries, n.acked...))
}

// drain reads what lies after a position, up to the first heartbeat.
func drain(ctx context.Context, j journal.Journal, after journal.Position) ([]journal.Entry, error) {
	var all []journal.Entry
	for e, err := range j.Follow(ctx, after) {
		if err != nil || len(e.Data) == 0 {
			return all, err
		}
		all = append(all, journal.Entry{Pos: e.Pos, Data: bytes.Clone(e.Data)})
	}
	return all, ctx.Err()
}

func same(got, want []journal.Entry) error {
	for i := range min(len(got), len(want)) {
		if got[i].Pos != want[i].Pos || !bytes.Equal(got[i].Data, want[i].Data) {
			return fmt.Errorf("entry %d is at %d with %d bytes, want %d with %d", i, got[i].Pos, len(got[i].Data), want[i].Pos, len(want[i].Data))
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d entries, want %d", len(got), len(want))
	}
	return nil
}

// calls returns the system calls of a plot in which nothing goes wrong.
func calls(t *testing.T, p plot) []string {
	t.Helper()
	s := &story{disk: crashfs.New()}
	if err := p(s, t.Context()); err != nil {
		t.Fatal(err)
	}
	return s.disk.Calls()
}

// The plots come to what they are about.
func TestPlots(t *testing.T) {
	done := make(map[string][]string)
	for name, p := range plots {
		done[name] = calls(t, p)
	}
	tests := []struct {
		plot, call string // a call of it
	}{
		{"two writers", `syncdir j`},
		{"recycled segments", `rename spare-.*`},
		{"recycled segments", `remove \d{20}\.udj`},
		{"spares made early", `rename spare-.*`},
		{"the right taken over", `rename \d{20}-2\.udj`},
		{"the right taken over", `remove \d{20}\.udj`},
	}
	for _, tt := range tests {
		if !slices.ContainsFunc(done[tt.plot], regexp.MustCompile("^"+tt.call+"$").MatchString) {
			t.Errorf("%s: no call %q", tt.plot, tt.call)
		}
	}
	taken := 0
	for i, call := range done["recycled segments"] {
		// A spare is renamed, opened and measured; a new file is created.
		if strings.HasPrefix(call, "rename tmp-") && strings.HasPrefix(done["recycled segments"][i+1], "open tmp-") {
			taken++
		}
	}
	if taken == 0 {
		t.Error("recycled segments: no spare was taken")
	}
}

// The machine stops, or the process is killed, before each system call of
// append, rotation, trim, fence, recovery and close. Nothing acknowledged is lost.
func TestCrashAtEachSystemCall(t *testing.T) {
	for name, p := range plots {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := calls(t, p)
			for n := range all {
				s := &story{disk: crashfs.New()}
				s.disk.StopAt(n + 1)
				if err := p(s, t.Context()); err == nil && n < len(all)-8 && name != "spares made early" {
					t.Fatalf("call %d (%s): the story went on after the machine had stopped", n+1, all[n])
				}
				for _, kind := range crashfs.Kinds {
					for seed := range seeds(kind) {
						if err := s.check(t.Context(), s.disk.Crash(kind, seed)); err != nil {
							t.Errorf("stopped at call %d of %d (%s), %v with seed %d, %d acknowledged: %v", n+1, len(all), all[n], kind, seed, len(s.acked), err)
						}
					}
				}
			}
		})
	}
}

// seeds returns how many disks of a kind are worth looking at.
func seeds(kind crashfs.Kind) uint64 {
	if kind == crashfs.Mix || kind == crashfs.Torn {
		return 4
	}
	return 1
}

// Each system call fails in turn, in several ways. The handle is dead after it,
// or said that nothing was written; then what was acknowledged is there, whether
// the process is started again or the machine.
func TestFailAtEachSystemCall(t *testing.T) {
	faults := map[string]crashfs.Fault{
		"error":             {Err: syscall.EIO},
		"error after all":   {Err: syscall.EIO, Late: true},
		"short write":       {Err: syscall.EIO, Short: 30},
		"full":              {Err: syscall.ENOSPC},
		"full, short write": {Err: syscall.ENOSPC, Short: 30},
	}
	for name, p := range plots {
		for kindOfFault, fault := range faults {
			t.Run(name+", "+kindOfFault, func(t *testing.T) {
				t.Parallel()
				all := calls(t, p)
				for n := range all {
					s := &story{disk: crashfs.New()}
					s.disk.FailAt(n+1, fault)
					err := p(s, t.Context())
					for _, kind := range crashfs.Kinds {
						if err := s.check(t.Context(), s.disk.Crash(kind, uint64(n))); err != nil {
							t.Errorf("failed at call %d of %d (%s), %v, %d acknowledged: %v", n+1, len(all), all[n], kind, len(s.acked), err)
						}
					}
					if errors.Is(err, journal.ErrFull) && !errors.Is(fault.Err, syscall.ENOSPC) {
						t.Errorf("failed at call %d of %d (%s): %v", n+1, len(all), all[n], err)
					}
				}
			})
		}
	}
}

// After the first failed write or sync a handle writes no more, and another one
// does (RULES 4).
func TestFirstFailureIsFinal(t *testing.T) {
	for _, op := range []string{"write", "datasync"} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, late %v", op, late), func(t *testing.T) {
				s := &story{disk: crashfs.New()}
				j, err := s.open()
				if err != nil {
					t.Fatal(err)
				}
				defer j.Close()
				if err := errors.Join(s.fence(t.Context(), j, 1, "a"), s.append(t.Context(), j, 100)); err != nil {
					t.Fatal(err)
				}
				n := map[string]int{"write": 3, "datasync": 4}[op] // lock, mark, entry, sync
				s.disk.FailAt(n, crashfs.Fault{Err: syscall.EIO, Late: late})
				err = s.append(t.Context(), j, 100)
				if !errors.Is(err, journal.ErrBroken) || !errors.Is(err, syscall.EIO) {
					t.Fatalf("append with a failed %s: %v, want %v with its cause", op, err, journal.ErrBroken)
				}
				for range 3 {
					if _, err := j.Append(t.Context(), 1, s.track.Cursor.Pos, s.batch(1, "a", 10)); !errors.Is(err, journal.ErrBroken) {
						t.Errorf("append after that: %v, want %v", err, journal.ErrBroken)
					}
					if _, err := j.Fence(t.Context(), 2, "a"); !errors.Is(err, journal.ErrBroken) {
						t.Errorf("fence after that: %v, want %v", err, journal.ErrBroken)
					}
				}
				if err := s.check(t.Context(), s.disk); err != nil {
					t.Errorf("another handle: %v", err)
				}
			})
		}
	}
}

// A full disk that took nothing leaves the handle alive.
func TestFullDisk(t *testing.T) {
	s := &story{disk: crashfs.New()}
	j, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := s.fence(t.Context(), j, 1, "a"); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 12; n++ {
		s.disk.FailAt(n, crashfs.Fault{Err: syscall.ENOSPC})
		pos := s.track.Cursor.Pos
		_, err := j.Append(t.Context(), 1, pos, s.batch(1, "a", 3900)) // needs a new segment
		if errors.Is(err, journal.ErrBroken) {
			return // the header, the anchor or the sync: something was written
		}
		if err != nil && !errors.Is(err, journal.ErrFull) && !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("full at call %d: %v, want %v", n, err, journal.ErrFull)
		}
		if err == nil {
			t.Fatalf("full at call %d: stored", n)
		}
		if got, err := drain(t.Context(), j, pos); err != nil || len(got) != 0 {
			t.Fatalf("full at call %d: %d entries, %v", n, len(got), err)
		}
	}
}

// An entry whose sync failed may lie in memory and not on the disk, and a later
// sync does not bring it there, since the system takes its pages for clean. A
// handle that keeps it writes it again before anyone reads it: after a power loss
// what was read is still there.
func TestKeptTailIsDurable(t *testing.T) {
	for _, stateLost := range []bool{false, true} {
		t.Run(fmt.Sprintf("state lost %v", stateLost), func(t *testing.T) {
			s := &story{disk: crashfs.New()}
			j, err := s.open()
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(s.fence(t.Context(), j, 1, "a"), s.append(t.Context(), j, 100)); err != nil {
				t.Fatal(err)
			}
			s.disk.FailAt(4, crashfs.Fault{Err: syscall.EIO}) // lock, mark, entry, sync
			if err := s.append(t.Context(), j, 1000); !errors.Is(err, journal.ErrBroken) {
				t.Fatal(err)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			if stateLost {
				if err := s.disk.Corrupt("j/journal.state", func(b []byte) []byte { clear(b[:4096]); return b }); err != nil {
					t.Fatal(err)
				}
			}
			after := &story{disk: s.disk}
			k, err := after.open()
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			if !k.Recovered().Kept {
				t.Errorf("the tail was not kept: %+v", k.Recovered())
			}
			read, err := drain(t.Context(), k, 0)
			if err != nil {
				t.Fatal(err)
			}
			left := &story{disk: s.disk.Crash(crashfs.None, 0)}
			l, err := left.open()
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			got, err := drain(t.Context(), l, 0)
			if err = errors.Join(err, same(got, read)); err != nil || len(read) != 3 {
				t.Errorf("%d entries were read, and after a power loss: %v", len(read), err)
			}
		})
	}
}

// A full disk that took a part of an entry, or of its mark, ends the handle: what
// it wrote is there.
func TestFullDiskThatTookSomething(t *testing.T) {
	for n, what := range map[int]string{2: "mark", 3: "entry"} { // the lock is the first
		s := &story{disk: crashfs.New()}
		j, err := s.open()
		must(t, err)
		defer j.Close()
		must(t, s.fence(t.Context(), j, 1, "a"))
		s.disk.FailAt(n, crashfs.Fault{Err: syscall.ENOSPC, Short: 9})
		err = s.append(t.Context(), j, 100)
		if !errors.Is(err, journal.ErrBroken) || errors.Is(err, journal.ErrFull) {
			t.Errorf("9 bytes of the %s written: %v, want %v", what, err, journal.ErrBroken)
		}
		if err := s.append(t.Context(), j, 100); !errors.Is(err, journal.ErrBroken) {
			t.Errorf("append after that: %v, want %v", err, journal.ErrBroken)
		}
	}
}
