package filejournal_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"understudy.dev/internal/crashfs"
	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/journaltest"
)

// FuzzRecover overwrites what lies behind some point of a journal with anything,
// after a power loss. Opening it never panics. If it opens, what is there starts
// with what was marked as durable, each entry as it was written; and it is so
// again when it is opened a second time.
func FuzzRecover(f *testing.F) {
	disk := crashfs.New()
	cfg := filejournal.Config{SegmentBytes: 12 << 10, Foreground: true}
	cfg.FS = disk
	j, err := filejournal.Open("j", cfg)
	if err != nil {
		f.Fatal(err)
	}
	defer j.Close()
	all := journaltest.Write(f, j, 20)
	base := disk.Crash(crashfs.None, 0)
	path := filepath.Join("j", "00000000000000000000.udj")
	last := all[len(all)-1]
	f.Add(uint16(0), []byte(nil))
	f.Add(uint16(4096), []byte{0})
	f.Add(uint16(4096)+uint16(last.Pos), []byte("behind the end"))
	f.Add(uint16(4096)+uint16(all[18].Pos), bytes.Repeat([]byte{0}, 60))
	f.Add(uint16(4096)+uint16(all[18].Pos)+16, bytes.Repeat([]byte{0xff}, 9))
	f.Add(uint16(4096)+uint16(all[3].Pos), last.Data)
	f.Add(uint16(512), []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	f.Fuzz(func(t *testing.T, at uint16, garbage []byte) {
		disk := base.Crash(crashfs.Kill, 0)
		if err := disk.Corrupt(path, func(b []byte) []byte {
			copy(b[min(int(at), len(b)):], garbage)
			return b
		}); err != nil {
			t.Fatal(err)
		}
		first := opened(t, disk, all)
		if second := opened(t, disk, all); second != first {
			t.Errorf("%d entries, and %d when it was opened again", first, second)
		}
	})
}

// opened opens the journal on a disk, if it can be, and returns how many entries
// it has; -1 if it is damaged.
func opened(t *testing.T, disk *crashfs.FS, all []journal.Entry) int {
	t.Helper()
	j, err := filejournal.Open("j", filejournal.Config{FS: disk, Foreground: true})
	var corrupt *journal.CorruptError
	if errors.As(err, &corrupt) {
		return -1
	}
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	got, err := drain(t.Context(), j, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) < len(all)-1 {
		t.Errorf("%d entries of %d: only the last is not proven", len(got), len(all))
	}
	if err := same(got, all[:min(len(got), len(all))]); err != nil && taken(got) == nil {
		t.Error(err)
	}
	return len(got)
}

// taken takes in entries as a reader does. A whole batch with a good checksum in
// the place of another is for the chain to find.
func taken(entries []journal.Entry) error {
	var track journal.Tracker
	var b journal.Batch
	for _, e := range entries {
		if _, _, err := track.Take(e, &b); err != nil {
			return err
		}
	}
	return nil
}

// FuzzArchive opens anything as an archive and reads it. Nothing panics, and
// what is read decodes.
func FuzzArchive(f *testing.F) {
	j := openAt(f, f.TempDir(), filejournal.Config{})
	journaltest.Write(f, j, 5)
	var buf bytes.Buffer
	if _, err := filejournal.Export(f.Context(), &buf, j, filejournal.ExportConfig{}); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Add(buf.Bytes()[:600])
	f.Add([]byte("UDJARC1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "x.udj")
		write(t, path, data)
		a, err := filejournal.OpenArchive(path)
		if err != nil {
			return
		}
		defer a.Close()
		drain(t.Context(), a, 0)
		if _, err := a.Locate(t.Context(), journal.Target{Seq: 3}); err != nil {
			t.Error(err)
		}
	})
}
