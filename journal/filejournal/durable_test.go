package filejournal_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"understudy.dev/internal/crashfs"
	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
)

// tripping is a disk on which a roll does not get past a call.
type tripping struct {
	*crashfs.FS
	at string // "folder" or "anchor"
}

func (d *tripping) SyncDir(dir string) error {
	if d.at == "folder" {
		return syscall.EIO
	}
	return d.FS.SyncDir(dir)
}

func (d *tripping) Open(name string, flag int) (filejournal.File, error) {
	f, err := d.FS.Open(name, flag)
	if err == nil && filepath.Base(name) == "journal.state" {
		return trippingFile{f, d}, nil
	}
	return f, err
}

type trippingFile struct {
	filejournal.File
	disk *tripping
}

func (f trippingFile) WriteAt(p []byte, off int64) (int, error) {
	if f.disk.at == "anchor" {
		return 0, syscall.EIO
	}
	return f.File.WriteAt(p, off)
}

// rollFails returns the story of a writer that began a second segment and came no
// further than a call.
func rollFails(t *testing.T, at string) *story {
	t.Helper()
	disk := &tripping{FS: crashfs.New()}
	s := &story{disk: disk.FS}
	j, err := filejournal.Open("j", filejournal.Config{SegmentBytes: tiny, Foreground: true, FS: disk})
	must(t, err)
	must(t, errors.Join(s.fence(t.Context(), j, 1, "a"), s.append(t.Context(), j, 1000)))
	disk.at = at
	if err := s.append(t.Context(), j, 3500); !errors.Is(err, journal.ErrBroken) {
		t.Fatalf("a roll that fails: %v", err)
	}
	must(t, j.Close())
	if n := len(segmentsOf(t, s.disk)); n != 2 {
		t.Fatalf("%d segments, want 2", n)
	}
	return s
}

// A segment whose name was not made durable by who began it is durable before the
// anchor says that it must be there.
func TestSegmentIsDurableBeforeItsAnchor(t *testing.T) {
	s := rollFails(t, "folder")
	must(t, s.disk.Corrupt("j/journal.state", func(b []byte) []byte { clear(b[:4096]); return b })) // as if the machine had been restarted
	j, err := s.open()
	must(t, err)
	must(t, j.Close())
	must(t, s.check(t.Context(), s.disk.Crash(crashfs.None, 0)))
}

// A segment that a writer began and did not announce is put away for good before
// the journal goes on elsewhere: if it came back after a power loss, the journal
// would end where it starts.
func TestPutAwayForGood(t *testing.T) {
	s := rollFails(t, "anchor")
	j, err := s.open()
	must(t, err)
	defer j.Close()
	must(t, s.append(t.Context(), j, 10)) // into the segment before
	must(t, s.append(t.Context(), j, 10))
	if n := len(segmentsOf(t, s.disk)); n != 1 {
		t.Fatalf("%d segments, want 1", n)
	}
	must(t, s.check(t.Context(), s.disk.Crash(crashfs.None, 0)))
}

// An archive that ExportFile has written is there after a power loss, and at no
// moment is one there that is not whole.
func TestExportIsDurable(t *testing.T) {
	j := memjournal.New()
	journaltest.Write(t, j, 30)
	var want bytes.Buffer
	_, err := filejournal.Export(t.Context(), &want, j, filejournal.ExportConfig{})
	must(t, err)
	for n := 1; ; n++ {
		disk := crashfs.New()
		must(t, errors.Join(disk.Mkdir("j"), disk.SyncDir(".")))
		done := len(disk.Calls())
		disk.StopAt(n)
		_, err := filejournal.ExportTo(t.Context(), disk, "j/x", j, filejournal.ExportConfig{})
		for _, kind := range crashfs.Kinds {
			for seed := range seeds(kind) {
				after := disk.Crash(kind, seed)
				f, openErr := after.Open("j/x", os.O_RDONLY)
				if openErr == nil {
					f.Close()
				}
				if openErr != nil && err == nil || openErr == nil && !bytes.Equal(content(t, after, "x"), want.Bytes()) {
					t.Errorf("stopped at call %d, %v with seed %d: exported %v, opened %v, not whole", n, kind, seed, err, openErr)
				}
			}
		}
		if err == nil {
			if n <= 5 {
				t.Fatalf("%d calls: %q", n, disk.Calls()[done:])
			}
			return
		}
	}
}
