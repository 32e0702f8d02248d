package filejournal_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/journaltest"
)

var indexed = filejournal.Config{SegmentBytes: 512 << 10, Foreground: true}

// goOn appends batches of n records with sizeBytes of data each until the journal
// has as many segments.
func goOn(t *testing.T, dir string, p *journaltest.Pen, epoch journal.Epoch, segments, n, sizeBytes int) {
	t.Helper()
	j, err := filejournal.Open(dir, indexed)
	must(t, err)
	must(t, p.Fence(t.Context(), j, epoch))
	for len(filesIn(t, dir, "*.udj")) < segments {
		must(t, p.Append(t.Context(), j, journaltest.Records(n, sizeBytes)...))
	}
	must(t, j.Close())
}

func filesIn(t *testing.T, dir, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	must(t, err)
	return names
}

// sameSize returns how much data one record has that takes as much room as two of
// sizeBytes.
func sameSize(t *testing.T, sizeBytes int) int {
	t.Helper()
	c := journal.Cursor{Epoch: 1, Owner: "a"}
	want := len(journaltest.Batch(c, journaltest.Records(2, sizeBytes)...))
	for one := 2 * sizeBytes; ; one++ {
		switch got := len(journaltest.Batch(c, journaltest.Records(1, one)...)); {
		case got == want:
			return one
		case got > want:
			t.Fatalf("no record is as large as two of %d bytes", sizeBytes)
		}
	}
}

// twoHistories returns folders of one journal that go on apart from the midst of
// the first segment: one with a record in each batch, and one with n records.
func twoHistories(t *testing.T, oneBytes, n, eachBytes int) (string, string) {
	t.Helper()
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	p, q := journaltest.NewPen("a"), journaltest.NewPen("b")
	j, err := filejournal.Open(a, indexed)
	must(t, err)
	must(t, p.Fence(t.Context(), j, 1))
	for range 100 {
		must(t, p.Append(t.Context(), j, journaltest.Records(1, 900)...))
	}
	must(t, j.Close())
	must(t, os.CopyFS(b, os.DirFS(a)))
	for _, e := range p.Entries() {
		must(t, q.Take(e))
	}
	goOn(t, a, p, 2, 4, 1, oneBytes)
	goOn(t, b, q, 2, 4, n, eachBytes)
	return a, b
}

// locatable checks that every Seq is found.
func locatable(t *testing.T, j journal.Journal) {
	t.Helper()
	end, err := journal.SampleEnd(t.Context(), j)
	must(t, err)
	for seq := journal.Seq(1); seq <= end.Seq; seq += 37 {
		checkLocate(t, j, journal.Target{Seq: seq})
	}
	for at := journal.Time(1); at <= end.Time; at += 41 {
		checkLocate(t, j, journal.Target{Time: at})
	}
}

// An index of another history of the journal misleads nobody, and a handle that
// writes replaces it.
func TestIndexOfAnotherHistory(t *testing.T) {
	two := 400
	tests := []struct {
		name                   string
		oneBytes, n, eachBytes int
	}{
		{"batches of another size", 900, 1, 1300},
		{"batches of the same size with more records", sameSize(t, two), 2, two},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := twoHistories(t, tt.oneBytes, tt.n, tt.eachBytes)
			own, put := make(map[string][]byte), 0
			for _, path := range filesIn(t, a, "*.udx") {
				data, err := os.ReadFile(path)
				must(t, err)
				own[path] = data
				other, err := os.ReadFile(filepath.Join(b, filepath.Base(path)))
				if err != nil {
					continue // no segment of the other history starts there
				}
				if put++; bytes.Equal(data, other) {
					t.Fatalf("%s is the same in both", path)
				}
				write(t, path, other)
			}
			if put == 0 || tt.n > 1 && put < 3 {
				t.Fatalf("%d of %d segments have a counterpart", put, len(own))
			}
			locatable(t, openAt(t, a, filejournal.Config{ReadOnly: true}))
			locatable(t, openAt(t, a, indexed))
			for path, want := range own {
				if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s was not made again: %v", filepath.Base(path), err)
				}
			}
		})
	}
}

// Each thing that an index says is held against the segment.
func TestIndexThatIsWrong(t *testing.T) {
	dir := t.TempDir()
	goOn(t, dir, journaltest.NewPen("a"), 1, 3, 1, 900)
	paths := filesIn(t, dir, "*.udx")
	reset := make(map[string][]byte)
	for _, path := range paths {
		b, err := os.ReadFile(path)
		must(t, err)
		reset[path] = b
	}
	fields := map[string]int{"start of the segment": 32, "end": 40, "start of a point": 48, "end of a point": 56, "seq": 64, "time": 72, "fence": 80}
	for field, at := range fields {
		for _, by := range []int64{-1, 1, 1 << 40} {
			t.Run(fmt.Sprintf("%s, by %d", field, by), func(t *testing.T) {
				for _, path := range paths {
					b := bytes.Clone(reset[path])
					for i := at; i < len(b); i += 40 {
						binary.LittleEndian.PutUint64(b[i:], binary.LittleEndian.Uint64(b[i:])+uint64(by))
						if at < 48 {
							break // of the header
						}
					}
					binary.LittleEndian.PutUint32(b[8:], crc32c(append(bytes.Clone(b[16:32]), b[12:]...)))
					write(t, path, b)
				}
				j := openAt(t, dir, filejournal.Config{ReadOnly: true})
				var from journal.Tracker
				var b journal.Batch
				cursors := map[journal.Position]journal.Cursor{0: {}}
				entries, err := drain(t.Context(), j, 0)
				must(t, err)
				for _, e := range entries {
					_, _, err := from.Take(e, &b)
					must(t, err)
					cursors[e.Pos] = from.Cursor
				}
				for seq := journal.Seq(1); seq <= from.Cursor.Seq; seq += 40 {
					c := checkLocate(t, j, journal.Target{Seq: seq})
					if want := cursors[c.Pos]; c != want {
						t.Fatalf("located %+v for seq %d, want %+v", c, seq, want)
					}
				}

				// A handle that writes makes each one again that it meets.
				j = openAt(t, dir, indexed)
				for seq := journal.Seq(1); seq <= from.Cursor.Seq; seq += 100 {
					_, err := j.Locate(t.Context(), journal.Target{Seq: seq})
					must(t, err)
				}
				for _, path := range paths {
					if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, reset[path]) {
						t.Errorf("%s was not made again: %v", filepath.Base(path), err)
					}
				}
			})
		}
	}
}

// The index of a segment that was sealed by a process which died then is made
// again: by the next handle that writes, by the next roll, or by a Locate that
// had to read the segment.
func TestIndexIsMadeAgain(t *testing.T) {
	ways := map[string]func(t *testing.T, dir string, missing string){
		"by opening": func(t *testing.T, dir, missing string) {
			must(t, os.Remove(missing))
			must(t, openAt(t, dir, indexed).Close())
		},
		"by opening, in the background": func(t *testing.T, dir, missing string) {
			must(t, os.Remove(missing))
			defer openAt(t, dir, filejournal.Config{SegmentBytes: indexed.SegmentBytes}).Close()
			for end := time.Now().Add(soon); len(filesIn(t, dir, filepath.Base(missing))) == 0 && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
		},
		"by a roll": func(t *testing.T, dir, missing string) {
			j := openAt(t, dir, indexed)
			must(t, os.Remove(missing))
			_, err := j.Fence(t.Context(), 9, "z")
			must(t, err)
			end, err := j.End(t.Context())
			must(t, err)
			track, err := readTo(t.Context(), j, end.Pos)
			must(t, err)
			for n := len(filesIn(t, dir, "*.udj")); len(filesIn(t, dir, "*.udj")) == n; {
				batch := journaltest.Batch(track.Cursor, journaltest.Records(1, 9000)...)
				pos, err := j.Append(t.Context(), 9, track.Cursor.Pos, batch)
				must(t, err)
				var b journal.Batch
				_, _, err = track.Take(journal.Entry{Pos: pos, Data: batch}, &b)
				must(t, err)
			}
		},
		"by Locate": func(t *testing.T, dir, missing string) {
			j := openAt(t, dir, indexed)
			must(t, os.Remove(missing))
			locatable(t, j)
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			goOn(t, dir, journaltest.NewPen("a"), 1, 4, 1, 900)
			for _, path := range filesIn(t, dir, "*.udx") {
				want, err := os.ReadFile(path)
				must(t, err)
				way(t, dir, path)
				if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %v, %d bytes, want %d", filepath.Base(path), err, len(got), len(want))
				}
			}
			if left := filesIn(t, dir, "tmp-*"); len(left) > 0 {
				t.Errorf("left %q", slices.Sorted(slices.Values(left)))
			}
		})
	}
}
