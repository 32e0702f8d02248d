package filejournal_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/journaltest"
)

// What a dead process had not finished is removed by the next one that writes, and
// nobody else's: a process may be killed again and again without filling the disk.
func TestUnfinishedFilesOfTheDead(t *testing.T) {
	dir := t.TempDir()
	must(t, openAt(t, dir, filejournal.Config{}).Close())
	dead, alive := filepath.Join(dir, "tmp-dead"), filepath.Join(dir, "tmp-alive")
	must(t, os.WriteFile(dead, make([]byte, 1<<10), 0o600))
	f, err := os.Create(alive)
	must(t, err)
	defer f.Close()
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	there := func(what, path string, want bool) {
		t.Helper()
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %s is there: %v, want %v", what, filepath.Base(path), err == nil, want)
		}
	}
	reader, err := filejournal.Open(dir, filejournal.Config{ReadOnly: true})
	must(t, err)
	must(t, reader.Close())
	there("opened for reading", dead, true)
	must(t, openAt(t, dir, filejournal.Config{}).Close())
	there("opened for writing", dead, false)
	there("opened for writing", alive, true)
}

// A process that prepares a segment keeps its file although others open the
// journal meanwhile, and no lock stays on what became a segment.
func TestFilesInTheMakingStay(t *testing.T) {
	dir := t.TempDir()
	j := openAt(t, dir, filejournal.Config{SegmentBytes: small})
	stop, swept := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				swept <- nil
				return
			default:
			}
			k, err := filejournal.Open(dir, filejournal.Config{SegmentBytes: small})
			if err == nil {
				err = k.Close()
			}
			if err != nil {
				swept <- err
				return
			}
		}
	}()
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	for range 1500 {
		must(t, p.Append(t.Context(), j, journaltest.Records(1, 900)...))
	}
	close(stop)
	must(t, <-swept)
	segments, err := filepath.Glob(filepath.Join(dir, "*.udj"))
	must(t, err)
	if len(segments) < 8 {
		t.Fatalf("%d segments, want many", len(segments))
	}
	f, err := os.Open(segments[len(segments)-1])
	must(t, err)
	defer f.Close()
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
}
