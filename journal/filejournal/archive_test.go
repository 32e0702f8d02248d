package filejournal_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
)

// export returns an archive of j, opened.
func export(t *testing.T, j journal.Journal) *filejournal.Archive {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.udj")
	if _, err := filejournal.ExportFile(t.Context(), path, j, filejournal.ExportConfig{}); err != nil {
		t.Fatal(err)
	}
	a, err := filejournal.OpenArchive(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// fill writes entries of two epochs, three megabytes of them.
func fill(t *testing.T, j journal.Journal) *journaltest.Pen {
	t.Helper()
	p := journaltest.NewPen("a")
	for epoch := range journal.Epoch(2) {
		if err := p.Fence(t.Context(), j, epoch+1); err != nil {
			t.Fatal(err)
		}
		for i := range 150 {
			if err := p.Append(t.Context(), j, journaltest.Records(i%4, 7000)...); err != nil {
				t.Fatal(err)
			}
		}
	}
	return p
}

// An archive holds the journal's entries at their positions, whatever the
// backend, and can be followed and located into as the journal itself.
func TestArchiveHoldsTheJournal(t *testing.T) {
	for name, j := range map[string]journal.Journal{
		"memory": memjournal.New(),
		"file":   openAt(t, t.TempDir(), filejournal.Config{SegmentBytes: 256 << 10}),
	} {
		t.Run(name, func(t *testing.T) {
			all := fill(t, j).Entries()
			a := export(t, j)
			for i := range len(all) + 1 {
				after := journal.Position(0)
				if i > 0 {
					after = all[i-1].Pos
				}
				if i%37 > 1 && i < len(all)-1 {
					continue
				}
				got, err := drain(t.Context(), a, after)
				if err = errors.Join(err, same(got, all[i:])); err != nil {
					t.Fatalf("follow after entry %d: %v", i, err)
				}
			}
			want, err := journal.SampleEnd(t.Context(), j)
			if err != nil {
				t.Fatal(err)
			}
			got, err := a.End(t.Context())
			if err != nil || got.Pos != want.Pos || got.Seq != want.Seq || got.Epoch != want.Epoch || got.Time != want.Time {
				t.Errorf("End = %+v, %v, want %+v", got, err, want)
			}
			for seq := journal.Seq(1); seq <= want.Seq; seq += 20 {
				checkLocate(t, a, journal.Target{Seq: seq})
			}
			if _, err := a.Append(t.Context(), 9, want.Pos, nil); !errors.Is(err, journal.ErrReadOnly) {
				t.Errorf("Append = %v, want %v", err, journal.ErrReadOnly)
			}
			if _, err := a.Fence(t.Context(), 9, "x"); !errors.Is(err, journal.ErrReadOnly) {
				t.Errorf("Fence = %v, want %v", err, journal.ErrReadOnly)
			}
		})
	}
}

// checkLocate reads on from a located cursor, with the chain, and must meet the
// target.
func checkLocate(t *testing.T, j journal.Journal, target journal.Target) journal.Cursor {
	t.Helper()
	c, err := journal.Locate(t.Context(), j, target)
	if err != nil {
		t.Fatalf("Locate(%+v): %v", target, err)
	}
	r := journal.NewReader(j, journal.ReaderConfig{From: c})
	defer r.Close()
	for {
		var it journal.Item
		if err := r.Next(t.Context(), &it); err != nil {
			t.Fatalf("read from %+v, located for %+v: %v", c, target, err)
		}
		if it.Verdict != journal.Live || it.Batch.Count == 0 {
			if it.Verdict == journal.Heartbeat {
				t.Fatalf("located %+v for %+v: not found behind it", c, target)
			}
			continue
		}
		found := it.Batch.Last() >= target.Seq && it.Batch.End >= target.Time
		if found && (it.Batch.First <= target.Seq || target.Seq == 0 && c.Time < target.Time) {
			return c
		}
		if found {
			t.Fatalf("located %+v for %+v: it lies before", c, target)
		}
	}
}

// Every byte of a small archive is covered: a changed or a missing one is found,
// when it is opened or when it is read.
func TestArchiveDamage(t *testing.T) {
	j := memjournal.New()
	journaltest.Write(t, j, 3)
	var buf bytes.Buffer
	if _, err := filejournal.Export(t.Context(), &buf, j, filejournal.ExportConfig{}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.udj")
	read := func(data []byte) error {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := filejournal.OpenArchive(path)
		if err != nil {
			return err
		}
		defer a.Close()
		_, err = drain(t.Context(), a, 0)
		return err
	}
	if err := read(buf.Bytes()); err != nil {
		t.Fatal(err)
	}
	var corrupt *journal.CorruptError
	for i := range buf.Len() {
		data := bytes.Clone(buf.Bytes())
		data[i] ^= 1 << (i % 8)
		if err := read(data); !errors.As(err, &corrupt) {
			t.Errorf("byte %d of %d changed: %v", i, len(data), err)
		}
		if err := read(buf.Bytes()[:i]); !errors.As(err, &corrupt) {
			t.Errorf("cut to %d of %d bytes: %v", i, len(data), err)
		}
	}
}

// A file that does not begin as an archive does is foreign, an empty one too, as a
// segment would be; one that was cut short is damaged.
func TestArchiveVerdicts(t *testing.T) {
	var buf bytes.Buffer
	_, err := filejournal.Export(t.Context(), &buf, memjournal.New(), filejournal.ExportConfig{})
	must(t, err)
	for content, want := range map[string]error{
		"": journal.ErrForeign, "hello": journal.ErrForeign, strings.Repeat("hello\n", 1000): journal.ErrForeign,
		buf.String()[:7]: journal.ErrForeign, buf.String()[:8]: filejournal.ErrDamaged, buf.String()[:600]: filejournal.ErrDamaged,
	} {
		path := filepath.Join(t.TempDir(), "x.udj")
		write(t, path, []byte(content))
		a, err := filejournal.OpenArchive(path)
		var c *journal.CorruptError
		if !errors.Is(err, want) || !errors.As(err, &c) || c.Source != path {
			t.Errorf("%d bytes, %.8q: %v, want %v", len(content), content, err, want)
		}
		if err == nil {
			must(t, a.Close())
		}
	}
}

// An export that fails leaves no file, and none replaces one.
func TestExportLeavesNothingHalf(t *testing.T) {
	j := memjournal.New()
	journaltest.Write(t, j, 3)
	j.Put([]byte("damage"))
	dir := t.TempDir()
	path := filepath.Join(dir, "x.udj")
	if _, err := filejournal.ExportFile(t.Context(), path, j, filejournal.ExportConfig{}); !errors.Is(err, journal.ErrForeign) {
		t.Errorf("export of a damaged journal: %v, want %v", err, journal.ErrForeign)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := filejournal.ExportFile(ctx, path, j, filejournal.ExportConfig{}); !errors.Is(err, context.Canceled) {
		t.Errorf("export with an ended context: %v", err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("files left: %v, %v", names, err)
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := filejournal.ExportFile(t.Context(), path, memjournal.New(), filejournal.ExportConfig{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("export over a file: %v, want %v", err, os.ErrExist)
	}
}

func write(tb testing.TB, path string, data []byte) {
	tb.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		tb.Fatal(err)
	}
}
