package filejournal_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy.dev/internal/crashfs"
	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
)

func count(t *testing.T, disk *crashfs.FS, prefix, suffix string) (n int) {
	t.Helper()
	names, err := disk.List("j")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, prefix) && strings.HasSuffix(name, suffix) {
			n++
		}
	}
	return n
}

// Segments are recycled without being cleared, and nothing old is ever read as
// new: not live, and not after a power loss at any point.
func TestRecycledSegments(t *testing.T) {
	s := &story{disk: crashfs.New()}
	j, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := s.fence(t.Context(), j, 1, "a"); err != nil {
		t.Fatal(err)
	}
	recycled := 0
	for i := range 60 {
		if i%12 == 0 { // the newest fence is always kept
			if err := s.fence(t.Context(), j, journal.Epoch(i+2), "a"); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.append(t.Context(), j, 900); err != nil {
			t.Fatal(err)
		}
		if i%5 == 4 {
			s.trim = s.track.Cursor.Pos
			if err := j.Trim(t.Context(), s.trim); err != nil {
				t.Fatal(err)
			}
			recycled += count(t, s.disk, "spare-", "")
		}
		for _, kind := range crashfs.Kinds {
			if err := s.check(t.Context(), s.disk.Crash(kind, uint64(i))); err != nil {
				t.Fatalf("append %d, %v: %v", i, kind, err)
			}
		}
	}
	if recycled == 0 {
		t.Error("no segment was recycled")
	}
}

// A follower of trimmed entries is told so, even in the midst of reading.
func TestTrimUnderAFollower(t *testing.T) {
	j := openAt(t, t.TempDir(), filejournal.Config{SegmentBytes: tiny, Foreground: true})
	p := journaltest.NewPen("a")
	if err := p.Fence(t.Context(), j, 1); err != nil {
		t.Fatal(err)
	}
	for range 40 {
		if err := p.Append(t.Context(), j, journaltest.Records(1, 900)...); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Fence(t.Context(), j, 2); err != nil {
		t.Fatal(err)
	}
	read := 0
	for e, err := range j.Follow(t.Context(), 0) {
		if errors.Is(err, journal.ErrTrimmed) {
			if read == 0 || read >= 40 {
				t.Errorf("trimmed after %d entries", read)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if want := p.Entries()[read]; string(e.Data) != string(want.Data) {
			t.Fatalf("entry %d is not what was written", read)
		}
		if read++; read == 3 {
			if err := j.Trim(t.Context(), p.Cursor().Pos); err != nil {
				t.Fatal(err)
			}
			for range 10 {
				if err := p.Append(t.Context(), j, journaltest.Records(1, 900)...); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	t.Error("read over the trimmed entries")
}

// Locate finds a place before each record and each time, near it, with a cursor
// that reading goes on from with every check, whether segments have an index or
// not.
func TestLocate(t *testing.T) {
	dir := t.TempDir()
	cfg := filejournal.Config{SegmentBytes: 512 << 10, Foreground: true}
	j := openAt(t, dir, cfg)
	fill(t, j)
	last, err := j.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	near := func(j journal.Journal) {
		t.Helper()
		for seq := journal.Seq(1); seq <= last.Seq; seq += 13 {
			c := checkLocate(t, j, journal.Target{Seq: seq})
			if seq-c.Seq > 30 {
				t.Errorf("located seq %d for %d: too far", c.Seq, seq)
			}
		}
		for at := journal.Time(1); at <= last.Time; at += 17 {
			checkLocate(t, j, journal.Target{Time: at})
		}
	}
	near(j)
	near(openAt(t, dir, filejournal.Config{ReadOnly: true}))
	indexes, err := filepath.Glob(filepath.Join(dir, "*.udx"))
	if err != nil || len(indexes) == 0 {
		t.Fatalf("indexes: %v, %v", indexes, err)
	}
	for i, path := range indexes {
		if err := os.Truncate(path, int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	near(j)
}

// Opening from a cursor in the middle finds the same chain as reading from the
// start.
func TestLocateChain(t *testing.T) {
	j := openAt(t, t.TempDir(), filejournal.Config{SegmentBytes: 128 << 10, Foreground: true})
	p := fill(t, j)
	var from journal.Tracker
	var b journal.Batch
	cursors := map[journal.Position]journal.Cursor{0: {}}
	for _, e := range p.Entries() {
		if _, _, err := from.Take(e, &b); err != nil {
			t.Fatal(err)
		}
		cursors[e.Pos] = from.Cursor
	}
	for seq := journal.Seq(1); seq <= from.Cursor.Seq; seq++ {
		c, err := j.Locate(t.Context(), journal.Target{Seq: seq})
		if err != nil {
			t.Fatal(err)
		}
		if want := cursors[c.Pos]; c != want {
			t.Fatalf("located %+v for seq %d, want %+v", c, seq, want)
		}
	}
}

// A fence takes the right to write from a handle that holds it and does not let
// go. What that handle writes late is in a file of its own: it is not read, and
// the file is not recycled.
func TestFenceTakesOver(t *testing.T) {
	sizes := map[string]int{
		"before the entry": 200, "after the entry": 200, "before its sync": 200, // these fit the segment
		"before its segment": 3900, "after its segment": 3900, "before its anchor": 3900,
	}
	for at, sizeBytes := range sizes {
		t.Run(at, func(t *testing.T) {
			disk := newStalling()
			s := &story{disk: disk.FS}
			cfg := tinyConfig
			cfg.Patience = time.Millisecond
			cfg.FS = disk
			a, err := filejournal.Open("j", cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if err := errors.Join(s.fence(t.Context(), a, 1, "a"), s.append(t.Context(), a, 100)); err != nil {
				t.Fatal(err)
			}
			pos, batch := s.track.Cursor.Pos, s.batch(1, "a", sizeBytes)
			disk.stall(at)
			late := make(chan error, 1)
			go func() {
				_, err := a.Append(t.Context(), 1, pos, batch)
				late <- err
			}()
			<-disk.stalled

			cfg.FS = disk.FS
			b, err := filejournal.Open("j", cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if err := errors.Join(s.fence(t.Context(), b, 2, "b"), s.append(t.Context(), b, 100)); err != nil {
				t.Fatal(err)
			}
			close(disk.goOn)
			if err := <-late; journal.OutcomeOf(err) != journal.Unknown {
				t.Errorf("the late append: %v, want an unknown outcome", err)
			}
			if _, err := a.Append(t.Context(), 1, s.track.Cursor.Pos, s.batch(1, "a", 10)); !errors.Is(err, journal.ErrFenced) {
				t.Errorf("another append: %v, want %v", err, journal.ErrFenced)
			}
			for _, j := range []journal.Journal{a, b} {
				got, err := drain(t.Context(), j, 0)
				if err = errors.Join(err, same(got, s.acked)); err != nil {
					t.Error(err)
				}
			}
			if err := s.fence(t.Context(), b, 3, "b"); err != nil {
				t.Fatal(err)
			}
			for range 12 {
				if err := s.append(t.Context(), b, 900); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.fence(t.Context(), b, 4, "b"); err != nil {
				t.Fatal(err)
			}
			s.trim = pos // the segments of the first generation only
			if err := b.Trim(t.Context(), s.acked[3].Pos); err != nil {
				t.Fatal(err)
			}
			if n := count(t, disk.FS, "spare-", ""); n != 0 {
				t.Errorf("%d segments were recycled", n)
			}
			for _, kind := range crashfs.Kinds {
				s.trim = s.acked[3].Pos
				if err := s.check(t.Context(), disk.FS.Crash(kind, 1)); err != nil {
					t.Errorf("%v: %v", kind, err)
				}
			}
		})
	}
}

// A lock that is held by something that is no journal at all does not keep a
// fence out. The segments of the generation after are read as any others are, by
// the reader in Python too.
func TestFenceWhileTheLockIsHeld(t *testing.T) {
	dir := t.TempDir()
	j := openAt(t, dir, filejournal.Config{SegmentBytes: tiny, Foreground: true, Patience: time.Millisecond})
	w := &fixtureWriter{t: t, j: j}
	for epoch := range journal.Epoch(3) {
		w.fence(epoch+1, "a")
		for i := range 20 {
			w.append(i)
		}
		f, err := filejournal.OS().Open(filepath.Join(dir, fmt.Sprintf("lock-%d", epoch)), os.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if ok, err := f.TryLock(); !ok {
			t.Fatalf("lock: %v, %v", ok, err)
		}
	}
	w.fence(4, "a")
	if names, err := filepath.Glob(filepath.Join(dir, "*-3.udj")); err != nil || len(names) == 0 {
		t.Errorf("no segment of generation 3: %v", err)
	}
	want := linesOf(t, j)
	if len(want) != 90 {
		t.Errorf("%d records, want 90", len(want))
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		return
	}
	out, err := exec.Command(python, "../../docs/read_journal.py", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	sameLines(t, "python", readLines(t, out), want)
}

// stalling is a file system in which one handle's write or sync stalls, as in a
// process that was stopped there.
type stalling struct {
	*crashfs.FS
	at      string
	writes  int
	stalled chan struct{}
	goOn    chan struct{}
}

func newStalling() *stalling {
	return &stalling{FS: crashfs.New(), stalled: make(chan struct{}), goOn: make(chan struct{})}
}

// stall lets the next append stall.
func (s *stalling) stall(at string) { s.at, s.writes = at, 0 }

func (s *stalling) here(at string) {
	if s.at == at {
		s.at = ""
		close(s.stalled)
		<-s.goOn
	}
}

func (s *stalling) Open(name string, flag int) (filejournal.File, error) {
	f, err := s.FS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	return &stallingFile{File: f, fs: s, state: strings.HasSuffix(name, "journal.state")}, nil
}

func (s *stalling) Rename(from, to string) error {
	segment := strings.HasSuffix(to, ".udj")
	if segment {
		s.here("before its segment")
	}
	err := s.FS.Rename(from, to)
	if segment {
		s.here("after its segment")
	}
	return err
}

type stallingFile struct {
	filejournal.File
	fs    *stalling
	state bool
}

func (f *stallingFile) WriteAt(p []byte, off int64) (int, error) {
	if f.state {
		f.fs.here("before its anchor")
		return f.File.WriteAt(p, off)
	}
	f.fs.writes++
	if f.fs.writes == 2 { // the mark is the first
		f.fs.here("before the entry")
	}
	n, err := f.File.WriteAt(p, off)
	if f.fs.writes == 2 {
		f.fs.here("after the entry")
	}
	return n, err
}

func (f *stallingFile) Datasync() error {
	f.fs.here("before its sync")
	return f.File.Datasync()
}

// A follower that has read all that was trimmed, and nothing more, goes on.
func TestTrimUpToAFollower(t *testing.T) {
	j := openAt(t, t.TempDir(), filejournal.Config{SegmentBytes: small, Foreground: true})
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	for range 4 {
		must(t, p.Append(t.Context(), j, journaltest.Records(1, 2000)...))
	}
	follow, stop := newPull(t, j, 0)
	defer stop()
	border := p.Cursor().Pos
	follow(border)
	must(t, p.Append(t.Context(), j, journaltest.Records(1, 5000)...)) // does not fit
	must(t, p.Fence(t.Context(), j, 2))                                // the newest fence is always kept
	must(t, j.Trim(t.Context(), p.Cursor().Pos))
	if end, err := j.End(t.Context()); err != nil || end.First != border {
		t.Fatalf("trimmed through %d, %v, want %d", end.First, err, border)
	}
	follow(p.Cursor().Pos)
}

// A segment is begun although the last batch was trimmed and only the fence after
// it is left.
func TestRollAfterTrim(t *testing.T) {
	dir := t.TempDir()
	j := openAt(t, dir, filejournal.Config{SegmentBytes: small, Foreground: true, Patience: time.Millisecond})
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	must(t, p.Append(t.Context(), j, journaltest.Records(1, 100)...))
	lock, err := filejournal.OS().Open(filepath.Join(dir, "lock-0"), os.O_RDWR)
	must(t, err)
	defer lock.Close()
	if ok, err := lock.TryLock(); !ok {
		t.Fatalf("lock: %v, %v", ok, err)
	}
	before := p.Cursor().Pos
	must(t, p.Fence(t.Context(), j, 2)) // takes over, and so begins a segment
	must(t, j.Trim(t.Context(), p.Cursor().Pos))
	if end, err := j.End(t.Context()); err != nil || end.First != before {
		t.Fatalf("trimmed through %d, %v, want %d", end.First, err, before)
	}
	must(t, p.Append(t.Context(), j, journaltest.Records(1, small)...))
	got, err := drain(t.Context(), j, before)
	must(t, err)
	must(t, same(got, p.Entries()[2:]))
}

// noSpares is a file system on which no spare can be put in place.
type noSpares struct{ *crashfs.FS }

func (n noSpares) Rename(from, to string) error {
	if strings.HasPrefix(filepath.Base(to), "spare-") {
		return syscall.EIO
	}
	return n.FS.Rename(from, to)
}

// A spare that cannot be put in place is no reason to stop, and does not stay.
func TestSpareThatFails(t *testing.T) {
	disk := crashfs.New()
	j := openAt(t, "j", filejournal.Config{SegmentBytes: small, FS: noSpares{disk}})
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	for range 20 {
		must(t, p.Append(t.Context(), j, journaltest.Records(1, 2000)...))
	}
	must(t, j.Close())
	if n := count(t, disk, "tmp-", ""); n != 0 {
		t.Errorf("%d temporary files are left", n)
	}
}

// A trim through the end keeps the segment with the newest fence, and what lies
// behind it, so that a reader from the start of what is left meets the fence.
func TestTrimKeepsTheNewestFence(t *testing.T) {
	s := &story{disk: crashfs.New()}
	j, err := s.open()
	must(t, err)
	defer j.Close()
	for epoch := range journal.Epoch(2) {
		must(t, s.fence(t.Context(), j, epoch+1, "a"))
		for range 8 {
			must(t, s.append(t.Context(), j, 1500))
		}
	}
	fence := s.track.Cursor.Fence
	must(t, j.Trim(t.Context(), s.track.Cursor.Pos))
	end, err := j.End(t.Context())
	must(t, err)
	if end.First == 0 || end.First >= fence {
		t.Fatalf("trimmed through %d, the newest fence is at %d", end.First, fence)
	}
	got, err := drain(t.Context(), j, end.First)
	must(t, err)
	if !slices.ContainsFunc(got, func(e journal.Entry) bool { return e.Pos == fence }) {
		t.Errorf("the fence at %d is not among the %d entries that are left", fence, len(got))
	}
}

// Segments tells what a trim can drop: up to where one starts, and nothing of the one
// before a place within it.
func TestSegmentsAreWhatTrimDrops(t *testing.T) {
	j := openAt(t, t.TempDir(), filejournal.Config{SegmentBytes: small})
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	for range 60 {
		must(t, p.Append(t.Context(), j, journaltest.Records(1, 900)...))
	}
	must(t, p.Fence(t.Context(), j, 2))
	starts, err := journal.Segments(j)
	must(t, err)
	if len(starts) < 4 || starts[0] != 0 || !slices.IsSorted(starts) {
		t.Fatalf("segments start after %v, want several from 0 on", starts)
	}
	for _, step := range []struct{ through, want journal.Position }{
		{starts[2] - 1, starts[1]}, {starts[2], starts[2]}, {starts[3] + 1, starts[3]},
	} {
		must(t, j.Trim(t.Context(), step.through))
		end, err := j.End(t.Context())
		must(t, err)
		left, err := journal.Segments(j)
		must(t, err)
		if end.First != step.want || left[0] != step.want {
			t.Errorf("trimmed through %d: begins after %d, segments %v, want %d", step.through, end.First, left, step.want)
		}
	}
	if _, err := journal.Segments(memjournal.New()); !errors.Is(err, journal.ErrUnsupported) {
		t.Errorf("segments of a journal in memory: %v, want %v", err, journal.ErrUnsupported)
	}
}
