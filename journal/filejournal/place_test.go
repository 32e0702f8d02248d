package filejournal_test

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"understudy.dev/internal/crashfs"
	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/journaltest"
)

// replacements are what must not be done to a journal that is open.
var replacements = map[string]func(t *testing.T, dir string){
	"folder moved away": func(t *testing.T, dir string) {
		must(t, os.Rename(dir, dir+".old"))
	},
	"another journal in its place": func(t *testing.T, dir string) {
		must(t, os.Rename(dir, dir+".old"))
		openAt(t, dir, filejournal.Config{})
	},
	"a copy in its place": func(t *testing.T, dir string) {
		must(t, os.CopyFS(dir+".copy", os.DirFS(dir)))
		must(t, os.Rename(dir, dir+".old"))
		must(t, os.Rename(dir+".copy", dir))
	},
	"newest segment deleted": func(t *testing.T, dir string) {
		must(t, os.Remove(newestSegment(t, dir)))
	},
	"newest segment replaced by a copy": func(t *testing.T, dir string) {
		path := newestSegment(t, dir)
		b, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path+".copy", b, 0o600))
		must(t, os.Rename(path+".copy", path))
	},
	"state deleted": func(t *testing.T, dir string) {
		must(t, os.Remove(filepath.Join(dir, "journal.state")))
	},
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newestSegment(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.udj"))
	if err != nil || len(names) == 0 {
		t.Fatalf("segments: %v, %v", names, err)
	}
	return slices.Max(names)
}

// soon is long enough for anything that is noticed within a second.
const soon = 20 * time.Second

// calls on a journal that is in use until one fails.
var usesUntilError = map[string]func(ctx context.Context, j *filejournal.Journal, p *journaltest.Pen) error{
	"append": func(ctx context.Context, j *filejournal.Journal, p *journaltest.Pen) error {
		for ctx.Err() == nil {
			if err := p.Append(ctx, j, journaltest.Records(1, 10)...); err != nil {
				return err
			}
		}
		return ctx.Err()
	},
	"fence": func(ctx context.Context, j *filejournal.Journal, p *journaltest.Pen) error {
		for ctx.Err() == nil {
			if err := p.Fence(ctx, j, p.Cursor().Epoch+1); err != nil {
				return err
			}
		}
		return ctx.Err()
	},
	"the same fence again": func(ctx context.Context, j *filejournal.Journal, p *journaltest.Pen) error {
		for ctx.Err() == nil {
			if _, err := j.Fence(ctx, 1, "a"); err != nil {
				return err
			}
		}
		return ctx.Err()
	},
	"append that needs a segment": func(ctx context.Context, j *filejournal.Journal, p *journaltest.Pen) error {
		return p.Append(ctx, j, journaltest.Records(1, 2*small)...)
	},
	"trim": func(ctx context.Context, j *filejournal.Journal, p *journaltest.Pen) error {
		return j.Trim(ctx, p.Cursor().Pos)
	},
	"end": func(ctx context.Context, j *filejournal.Journal, _ *journaltest.Pen) error {
		_, err := j.End(ctx)
		return err
	},
}

// newInUse returns a journal of several segments and its writer, which has just
// appended.
func newInUse(t *testing.T, dir string, fsys filejournal.FS) (*filejournal.Journal, *journaltest.Pen) {
	t.Helper()
	j := openAt(t, dir, filejournal.Config{SegmentBytes: small, Foreground: true, FS: fsys})
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	for range 10 {
		must(t, p.Append(t.Context(), j, journaltest.Records(1, 3000)...))
	}
	return j, p
}

// A handle whose files were replaced or deleted stops to acknowledge, for good,
// and says which file it is; what lies in their place is not changed.
func TestReplacedUnderAWriter(t *testing.T) {
	for what, replace := range replacements {
		for use, untilError := range usesUntilError {
			t.Run(what+", "+use, func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "j")
				j, p := newInUse(t, dir, nil)
				replace(t, dir)
				before := treeOf(t, dir)
				ctx, cancel := context.WithTimeout(t.Context(), soon)
				defer cancel()
				err := untilError(ctx, j, p)
				if !errors.Is(err, journal.ErrLost) || !errors.Is(err, journal.ErrBroken) {
					t.Fatalf("%s = %v, want %v and %v", use, err, journal.ErrLost, journal.ErrBroken)
				}
				if err := p.Append(t.Context(), j, journaltest.Records(1, 1)...); !errors.Is(err, journal.ErrBroken) || !errors.Is(err, journal.ErrLost) {
					t.Errorf("append after that: %v, want the same", err)
				}
				if after := treeOf(t, dir); !slices.Equal(before, after) {
					t.Errorf("files now %v, before %v", after, before)
				}
			})
		}
	}
}

func treeOf(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// A handle that has not written yet notices it too.
func TestReplacedBeforeTheFirstWrite(t *testing.T) {
	for what, replace := range replacements {
		for use, untilError := range usesUntilError {
			t.Run(what+", "+use, func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "j")
				_, p := newInUse(t, dir, nil)
				j := openAt(t, dir, filejournal.Config{SegmentBytes: small, Foreground: true})
				replace(t, dir)
				ctx, cancel := context.WithTimeout(t.Context(), soon)
				defer cancel()
				if err := untilError(ctx, j, p); !errors.Is(err, journal.ErrLost) {
					t.Fatalf("%s = %v, want %v", use, err, journal.ErrLost)
				}
			})
		}
	}
}

// An idle follower notices it, of a handle that writes and of one that only
// reads, whether it has read the newest segment or began at the end.
func TestReplacedUnderAFollower(t *testing.T) {
	for what, replace := range replacements {
		for _, readOnly := range []bool{false, true} {
			for _, fromEnd := range []bool{false, true} {
				name := what + map[bool]string{true: ", read-only"}[readOnly] + map[bool]string{true: ", from the end"}[fromEnd]
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					dir := filepath.Join(t.TempDir(), "j")
					_, p := newInUse(t, dir, nil)
					j := openAt(t, dir, filejournal.Config{ReadOnly: readOnly, Foreground: true})
					after := journal.Position(0)
					if fromEnd {
						after = p.Cursor().Pos
					}
					ctx, cancel := context.WithTimeout(t.Context(), soon)
					defer cancel()
					idle := false
					for e, err := range j.Follow(ctx, after) {
						if err != nil {
							if !errors.Is(err, journal.ErrLost) {
								t.Errorf("follow ended with %v, want %v", err, journal.ErrLost)
							}
							return
						}
						if len(e.Data) == 0 && !idle {
							idle = true
							replace(t, dir)
						}
					}
					t.Error("went on")
				})
			}
		}
	}
}

// A follower in the midst of what is there notices that the rest is not, and does
// not take it for something that passes.
func TestMovedUnderABusyFollower(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	j, _ := newInUse(t, dir, nil)
	read := 0
	for _, err := range j.Follow(t.Context(), 0) {
		if err != nil {
			if !errors.Is(err, journal.ErrLost) {
				t.Errorf("follow ended with %v, want %v", err, journal.ErrLost)
			}
			return
		}
		if read++; read == 2 {
			must(t, os.Rename(dir, dir+".old"))
		}
	}
	t.Error("went on")
}

// A writer that appends without a pause, within one segment, notices it too.
func TestReplacedUnderABusyWriter(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	j := openAt(t, dir, filejournal.Config{SegmentBytes: 64 << 20})
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	must(t, os.Rename(dir, dir+".old"))
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if err := usesUntilError["append"](ctx, j, p); !errors.Is(err, journal.ErrLost) || !errors.Is(err, journal.ErrBroken) {
		t.Fatalf("append = %v, want %v and %v", err, journal.ErrLost, journal.ErrBroken)
	}
}

// What is acknowledged was looked for at most 100 ms before, however long the
// append took.
func TestReplacedDuringAnAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newStalling()
		s := &story{disk: disk.FS}
		cfg := tinyConfig
		cfg.FS = disk
		j, err := filejournal.Open("j", cfg)
		must(t, err)
		defer j.Close()
		must(t, s.fence(t.Context(), j, 1, "a"))
		disk.stall("before its sync")
		acked := make(chan error)
		go func() {
			_, err := j.Append(t.Context(), 1, s.track.Cursor.Pos, s.batch(1, "a", 100))
			acked <- err
		}()
		<-disk.stalled
		must(t, disk.Remove("j/journal.state"))
		time.Sleep(100 * time.Millisecond)
		close(disk.goOn)
		if err := <-acked; !errors.Is(err, journal.ErrLost) || journal.OutcomeOf(err) != journal.Unknown {
			t.Errorf("append = %v, want %v, its outcome unknown", err, journal.ErrLost)
		}
	})
}

// A handle that is behind says that the folder is gone, not that it cannot be read.
func TestMovedUnderAHandleThatIsBehind(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	j, p := newInUse(t, dir, nil)
	behind := openAt(t, dir, filejournal.Config{SegmentBytes: small, Foreground: true})
	for range 10 {
		must(t, p.Append(t.Context(), j, journaltest.Records(1, 3000)...))
	}
	if _, err := behind.Fence(t.Context(), 1, "a"); err != nil { // looks, and reads what there is
		t.Fatal(err)
	}
	for range 10 {
		must(t, p.Append(t.Context(), j, journaltest.Records(1, 3000)...))
	}
	must(t, os.Rename(dir, dir+".old"))
	if err := p.Append(t.Context(), behind, journaltest.Records(1, 10)...); !errors.Is(err, journal.ErrLost) {
		t.Errorf("append = %v, want %v", err, journal.ErrLost)
	}
}

// A lock that was deleted excludes nobody.
func TestLockDeletedUnderAWriter(t *testing.T) {
	dir := t.TempDir()
	j, p := newInUse(t, dir, nil)
	must(t, os.Remove(filepath.Join(dir, "lock-0")))
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if err := usesUntilError["append"](ctx, j, p); !errors.Is(err, journal.ErrLost) {
		t.Errorf("append = %v, want %v", err, journal.ErrLost)
	}
}

// On a file system in memory it is the same.
func TestReplacedInMemory(t *testing.T) {
	for _, name := range []string{"state", "segment"} {
		for use, untilError := range usesUntilError {
			t.Run(name+", "+use, func(t *testing.T) {
				disk := crashfs.New()
				j, p := newInUse(t, "j", disk)
				path := "j/journal.state"
				if name == "segment" {
					path = filepath.Join("j", slices.Max(segmentsOf(t, disk)))
				}
				must(t, disk.Remove(path))
				ctx, cancel := context.WithTimeout(t.Context(), soon)
				defer cancel()
				if err := untilError(ctx, j, p); !errors.Is(err, journal.ErrLost) || !errors.Is(err, journal.ErrBroken) {
					t.Fatalf("%s = %v, want %v and %v", use, err, journal.ErrLost, journal.ErrBroken)
				}
			})
		}
	}
}

// What another handle rolls and trims is not lost: not to one that wrote the
// segment, nor to its follower.
func TestTrimmedIsNotLost(t *testing.T) {
	dir := t.TempDir()
	a, p := newInUse(t, dir, nil)
	b := openAt(t, dir, filejournal.Config{SegmentBytes: small, Foreground: true})
	follow, stop := newPull(t, a, p.Cursor().Prev)
	defer stop()
	follow(p.Cursor().Pos)
	for epoch := journal.Epoch(2); epoch < 20; epoch += 2 {
		must(t, p.Fence(t.Context(), b, epoch))
		for range 10 {
			must(t, p.Append(t.Context(), b, journaltest.Records(1, 3000)...))
		}
		must(t, p.Fence(t.Context(), b, epoch+1)) // the newest fence is always kept
		follow(p.Cursor().Pos)
		must(t, b.Trim(t.Context(), p.Cursor().Pos))
		if _, err := a.End(t.Context()); err != nil {
			t.Fatal(err)
		}
		must(t, p.Append(t.Context(), a, journaltest.Records(1, 10)...))
		follow(p.Cursor().Pos)
	}
}

// newPull follows j and returns a function that pulls until it has seen the entry
// at a position.
func newPull(t *testing.T, j journal.Journal, after journal.Position) (through func(journal.Position), stop func()) {
	next, stop := iter.Pull2(j.Follow(t.Context(), after))
	at := after
	return func(want journal.Position) {
		t.Helper()
		for at < want {
			e, err, ok := next()
			if err != nil || !ok {
				t.Fatalf("follow ended after %d: %v", at, err)
			}
			if len(e.Data) > 0 {
				at = e.Pos
			}
		}
	}, stop
}
