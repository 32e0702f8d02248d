package filejournal_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"understudy.dev/internal/crashfs"
	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/journaltest"
)

var update = flag.Bool("update", false, "write testdata/v1 anew; only before the version is released")

// fixture is a journal that version 1 wrote; no later version may fail to read
// it. It was closed cleanly, and its first segment was trimmed.
const fixture = "testdata/v1"

// writeFixture writes a journal like the one in testdata.
func writeFixture(t *testing.T, dir string) {
	t.Helper()
	j, err := filejournal.Open(dir, filejournal.Config{SegmentBytes: tiny, Foreground: true})
	if err != nil {
		t.Fatal(err)
	}
	s := &fixtureWriter{t: t, j: j}
	s.fence(1, "alpha/1")
	for i := range 30 {
		s.append(i)
	}
	s.fence(2, "beta/2")
	for i := range 30 {
		s.append(i)
	}
	if err := j.Trim(t.Context(), 5000); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// forget removes what is of the machine that wrote a journal, as if it had been
// copied from another: the mapped block, locks and spares.
func forget(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "journal.state")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(b[:4096])
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"lock*", "spare-*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

type fixtureWriter struct {
	t     *testing.T
	j     *filejournal.Journal
	track journal.Tracker
}

func (w *fixtureWriter) fence(epoch journal.Epoch, owner string) {
	pos, err := w.j.Fence(w.t.Context(), epoch, owner)
	w.take(pos, journal.AppendFence(nil, epoch, owner), err)
}

func (w *fixtureWriter) append(i int) {
	c := w.track.Cursor
	b := journal.NewBuilder(c.Owner, 1<<20, c.Time)
	for k := range i % 4 { // none makes a barrier
		r := journal.Record{
			Time: journal.Time(1_700_000_000_000_000_000 + int64(c.Seq)*1_000_003 + int64(k)), Kind: journal.Kind(1 + i%4),
			Name: fmt.Sprintf("order.%d", k), Version: uint32(i), Client: uint64(i * 1000), Request: uint64(i + 5), Low: uint64(i),
			Data: bytes.Repeat([]byte{byte(i), byte(k)}, i*2),
		}
		if err := b.Add(&r); err != nil {
			w.t.Fatal(err)
		}
	}
	data := b.Seal(c.Seq+1, c.Epoch, journal.Digest{Seq: c.Seq}, c.Chain)
	pos, err := w.j.Append(w.t.Context(), c.Epoch, c.Pos, data)
	w.take(pos, data, err)
}

func (w *fixtureWriter) take(pos journal.Position, data []byte, err error) {
	w.t.Helper()
	var b journal.Batch
	if err == nil {
		_, _, err = w.track.Take(journal.Entry{Pos: pos, Data: data}, &b)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// line is a record as docs/read_journal.py prints it.
type line struct {
	Seq     journal.Seq   `json:"seq"`
	Kind    string        `json:"kind"`
	Name    string        `json:"name"`
	Version uint32        `json:"version"`
	Time    journal.Time  `json:"time"`
	Client  uint64        `json:"client"`
	Request uint64        `json:"request"`
	Low     uint64        `json:"low"`
	Data    string        `json:"data"`
	Epoch   journal.Epoch `json:"epoch"`
}

// linesOf reads all live records of a journal, with every check.
func linesOf(t *testing.T, j journal.Journal) (lines []line) {
	t.Helper()
	end, err := journal.SampleEnd(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	from := journal.Cursor{}
	if end.First > 0 {
		if from, err = journal.Locate(t.Context(), j, journal.Target{Seq: 1}); err != nil {
			t.Fatal(err)
		}
	}
	r := journal.NewReader(j, journal.ReaderConfig{From: from})
	defer r.Close()
	for r.Cursor().Pos < end.Pos {
		var it journal.Item
		if err := r.Next(t.Context(), &it); err != nil {
			t.Fatal(err)
		}
		if it.Verdict != journal.Live {
			continue
		}
		records, err := it.Batch.Records(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			lines = append(lines, line{
				Seq: r.Seq, Kind: r.Kind.String(), Name: r.Name, Version: r.Version, Time: r.Time, Client: r.Client,
				Request: r.Request, Low: r.Low, Data: hex.EncodeToString(r.Data), Epoch: r.Epoch,
			})
		}
	}
	return lines
}

// This version reads what version 1 wrote: the folder, and the archive of it.
func TestReadsVersion1(t *testing.T) {
	if *update {
		if err := errors.Join(os.RemoveAll(fixture), os.MkdirAll(fixture, 0o755)); err != nil {
			t.Fatal(err)
		}
		writeFixture(t, filepath.Join(fixture, "journal"))
		forget(t, filepath.Join(fixture, "journal"))
		j := openAt(t, filepath.Join(fixture, "journal"), filejournal.Config{ReadOnly: true})
		if _, err := filejournal.ExportFile(t.Context(), filepath.Join(fixture, "archive.udj"), j, filejournal.ExportConfig{}); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		for _, l := range linesOf(t, j) {
			if err := json.NewEncoder(&out).Encode(l); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(fixture, "records.jsonl"), out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := readLines(t, fixtureLines(t))
	if len(want) < 50 {
		t.Fatalf("%d records in the fixture", len(want))
	}
	j := openAt(t, filepath.Join(fixture, "journal"), filejournal.Config{ReadOnly: true})
	sameLines(t, "folder", linesOf(t, j), want)
	a, err := filejournal.OpenArchive(filepath.Join(fixture, "archive.udj"))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	sameLines(t, "archive", linesOf(t, a), want)

	// It can also be written on.
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(fixture, "journal"))); err != nil {
		t.Fatal(err)
	}
	w := openAt(t, dir, filejournal.Config{})
	if _, err := w.Fence(t.Context(), 3, "gamma/3"); err != nil {
		t.Fatal(err)
	}
	sameLines(t, "folder with another fence", linesOf(t, w), want)
}

func fixtureLines(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(fixture, "records.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readLines(t *testing.T, b []byte) (lines []line) {
	t.Helper()
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		var l line
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return lines
}

func sameLines(t *testing.T, what string, got, want []line) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("%s: record %d is %+v, want %+v", what, i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d records, want %d", what, len(got), len(want))
	}
}

// The reader in Python, written from docs/FORMAT.md, reads the same records: of
// the fixture, of a new journal, and of one with recycled segments.
func TestPythonReader(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	read := func(dir string) ([]byte, error) {
		return exec.Command(python, "../../docs/read_journal.py", dir).Output()
	}
	out, err := read(filepath.Join(fixture, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	sameLines(t, "fixture", readLines(t, out), readLines(t, fixtureLines(t)))

	dir := t.TempDir()
	writeFixture(t, dir)
	j := openAt(t, dir, filejournal.Config{ReadOnly: true})
	if out, err = read(dir); err != nil {
		t.Fatal(err)
	}
	sameLines(t, "new journal", readLines(t, out), linesOf(t, j))

	never := t.TempDir() // a batch of an epoch that was never opened
	w := openAt(t, never, filejournal.Config{Foreground: true})
	c := journal.Cursor{Epoch: 1, Owner: "a"}
	c.Pos, err = w.Fence(t.Context(), 1, "a")
	must(t, err)
	c.Chain = journal.Hash(sha256.Sum256(append(make([]byte, 32), journal.AppendFence(nil, 1, "a")...)))
	if _, err := read(never); err != nil {
		t.Fatal(err)
	}
	c.Epoch = 2
	_, err = w.Import(t.Context(), c.Pos, journaltest.Batch(c, journaltest.Records(1, 10)...))
	must(t, err)
	if out, err := read(never); err == nil {
		t.Errorf("a batch of an epoch that was never opened was passed over: %d bytes", len(out))
	}

	still := t.TempDir() // a batch whose time is that of the record before it
	w = openAt(t, still, filejournal.Config{Foreground: true})
	p := journaltest.NewPen("a")
	must(t, errors.Join(p.Fence(t.Context(), w, 1), p.Append(t.Context(), w, journaltest.Records(1, 10)...)))
	c = p.Cursor()
	c.Time--
	_, err = w.Import(t.Context(), c.Pos, journaltest.Batch(c, journaltest.Records(1, 10)...))
	must(t, err)
	if out, err := read(still); err == nil {
		t.Errorf("a batch with the time of the record before it was passed over: %d bytes", len(out))
	}

	segments, err := filepath.Glob(filepath.Join(dir, "*.udj"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	b[4200] ^= 1
	if err := os.WriteFile(segments[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := read(dir); err == nil {
		t.Errorf("a damaged journal was read: %d bytes", len(out))
	}
}

// What FORMAT.md draws as zero in the block that a segment starts with is zero,
// also after appends wrote marks into it.
func TestHeaderIsZeroWhereDrawn(t *testing.T) {
	s := &story{disk: crashfs.New()}
	j, err := s.open()
	must(t, err)
	must(t, s.fence(t.Context(), j, 1, "a"))
	for range 5 {
		must(t, s.append(t.Context(), j, 100))
	}
	must(t, j.Close())
	b := content(t, s.disk, segmentsOf(t, s.disk)[0])
	if binary.LittleEndian.Uint64(b[512:]) == 0 || binary.LittleEndian.Uint64(b[1024:]) == 0 {
		t.Fatal("a mark was not written")
	}
	for _, zero := range [][2]int{{408, 512}, {512 + 12, 1024}, {1024 + 12, 4096}} {
		if n := len(bytes.Trim(b[zero[0]:zero[1]], "\x00")); n != 0 {
			t.Errorf("bytes %d to %d are not zero: %x", zero[0], zero[1], b[zero[0]:zero[0]+8])
		}
	}
}

// What the reader in Python says about a folder that is not as it was written is
// what this package says: it ends where the journal ends, and misses nothing.
func TestPythonReaderVerdicts(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	base, other := t.TempDir(), t.TempDir()
	s := writeSmall(t, base)
	writeSmall(t, other)
	segments := filesIn(t, base, "*.udj")
	newest := filepath.Base(segments[len(segments)-1])
	last := s.Entries()[len(s.Entries())-1]
	before := s.Entries()[len(s.Entries())-2]
	var start journal.Position
	if _, err := fmt.Sscanf(newest, "%d.udj", &start); err != nil || before.Pos <= start {
		t.Fatalf("the last entry but one is at %d, the segment starts at %d, %v", before.Pos, start, err)
	}
	at := 4096 + int(before.Pos-start) // of the last entry's frame
	unmarked := func(b []byte) { clear(b[512:2048]) }
	change := func(name string, f func(b []byte)) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, name)
			b, err := os.ReadFile(path)
			must(t, err)
			f(b)
			write(t, path, b)
		}
	}
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, name))) }
	}
	tests := []struct {
		name string
		do   func(*testing.T, string)
		want string // "" means that all is read but what was cut
		cut  int    // records
	}{
		{"untouched", func(*testing.T, string) {}, "", 0},
		{"a torn entry behind the mark", change(newest, func(b []byte) { unmarked(b); b[at+60] ^= 1 }), "", 1},
		{"a torn frame behind the mark", change(newest, func(b []byte) { unmarked(b); b[at+3] ^= 1 }), "", 1},
		{"a torn entry before the mark", change(newest, func(b []byte) { b[at+60] ^= 1 }), "bad entry after position", 0},
		{"a torn frame before the mark", change(newest, func(b []byte) { b[at+3] ^= 1 }), "bad entry after position", 0},
		{"a torn entry before a frame", change(newest, func(b []byte) { unmarked(b); b[4096+60] ^= 1 }), "bad entry after position", 0},
		{"the first segment removed", remove(filepath.Base(segments[0])), "is missing", 0},
		{"a middle segment removed", remove(filepath.Base(segments[1])), "bad entry after position", 0},
		{"the newest segment removed", remove(newest), "is missing", 0},
		{"all segments removed", func(t *testing.T, dir string) {
			for _, path := range filesIn(t, dir, "*.udj") {
				must(t, os.Remove(path))
			}
		}, "is missing", 0},
		{"the state removed", remove("journal.state"), "missing", 0},
		{"the first segment of another journal", func(t *testing.T, dir string) {
			b, err := os.ReadFile(filepath.Join(other, filepath.Base(segments[0])))
			must(t, err)
			write(t, filepath.Join(dir, filepath.Base(segments[0])), b)
		}, "of another journal", 0},
		{"all segments of another journal", func(t *testing.T, dir string) {
			for _, path := range segments {
				b, err := os.ReadFile(filepath.Join(other, filepath.Base(path)))
				must(t, err)
				write(t, filepath.Join(dir, filepath.Base(path)), b)
			}
		}, "of another journal", 0},
		{"a segment cut short", func(t *testing.T, dir string) {
			must(t, os.Truncate(filepath.Join(dir, newest), int64(at)))
		}, "cut short", 0},
		{"an empty segment", func(t *testing.T, dir string) {
			must(t, os.Truncate(filepath.Join(dir, newest), 0))
		}, "not a segment", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.CopyFS(dir, os.DirFS(base)))
			forget(t, dir)
			tt.do(t, dir)
			var said bytes.Buffer
			cmd := exec.Command(python, "../../docs/read_journal.py", dir)
			cmd.Stderr = &said
			out, err := cmd.Output()
			if (err == nil) != (tt.want == "") || !strings.Contains(said.String(), tt.want) {
				t.Fatalf("%v: %q, want %q", err, said.String(), tt.want)
			}
			j, err := filejournal.Open(dir, filejournal.Config{ReadOnly: true})
			if (err == nil) != (tt.want == "") {
				t.Fatalf("this package says %v", err)
			}
			if err != nil {
				return
			}
			defer j.Close()
			sameLines(t, tt.name, readLines(t, out), linesOf(t, j))
			if got, want := len(readLines(t, out)), int(s.Cursor().Seq)-tt.cut; got != want {
				t.Errorf("%d records, want %d", got, want)
			}
		})
	}
	if last.Pos != s.Cursor().Pos {
		t.Fatal("the last entry is not at the end")
	}
}

// writeSmall writes a journal of some segments whose last has several entries.
func writeSmall(t *testing.T, dir string) *journaltest.Pen {
	t.Helper()
	j, err := filejournal.Open(dir, tinyConfig)
	must(t, err)
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	for range 22 {
		must(t, p.Append(t.Context(), j, journaltest.Records(1, 500)...))
	}
	must(t, j.Close())
	return p
}
