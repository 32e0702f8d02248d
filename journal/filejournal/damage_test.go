package filejournal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy.dev/internal/crashfs"
	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/journaltest"
)

// A verdict is what Open says about a journal: an error and what it matches, or
// what was cut.
type verdict string

const (
	fine    verdict = "nothing found"
	cut     verdict = "the last entry is cut and set aside"
	damaged verdict = "damaged"
	lost    verdict = "lost"
	missing verdict = "missing file"
	foreign verdict = "foreign file"
	newer   verdict = "newer format"
)

// judge opens the journal on a disk.
func judge(disk *crashfs.FS, cfg filejournal.Config) (verdict, *journal.CorruptError, error) {
	cfg.FS = disk
	j, err := filejournal.Open("j", cfg)
	if err != nil {
		var c *journal.CorruptError
		errors.As(err, &c)
		for v, sentinel := range map[verdict]error{
			damaged: filejournal.ErrDamaged, lost: journal.ErrLost, missing: filejournal.ErrMissing,
			foreign: journal.ErrForeign, newer: journal.ErrVersion,
		} {
			if errors.Is(err, sentinel) {
				return v, c, err
			}
		}
		return "", c, err
	}
	defer j.Close()
	if j.Recovered().CutBytes > 0 {
		return cut, nil, nil
	}
	return fine, nil, nil
}

// damagedJournal is a journal of 80 entries whose disk can be damaged.
type damagedJournal struct {
	entries []journal.Entry // all; each starts where the one before ends
	disks   map[string]*crashfs.FS
	path    string
	size    int64
	header  int64
}

const checked = 64 // entries at the end whose every byte is changed

func newDamagedJournal(t *testing.T) *damagedJournal {
	t.Helper()
	disk := crashfs.New()
	j, err := filejournal.Open("j", filejournal.Config{FS: disk, SegmentBytes: 20 << 10, Foreground: true})
	if err != nil {
		t.Fatal(err)
	}
	p := journaltest.NewPen("a")
	if err := p.Fence(t.Context(), j, 1); err != nil {
		t.Fatal(err)
	}
	for i := range 79 {
		if err := p.Append(t.Context(), j, journaltest.Records(1, i%30)...); err != nil {
			t.Fatal(err)
		}
	}
	d := &damagedJournal{entries: p.Entries(), path: filepath.Join("j", fmt.Sprintf("%020d.udj", 0)), size: 20 << 10, header: 4096}
	d.disks = map[string]*crashfs.FS{"killed": disk.Crash(crashfs.Kill, 0), "power lost": disk.Crash(crashfs.None, 0)}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	d.disks["closed, then power lost"] = disk.Crash(crashfs.None, 0)
	return d
}

// start returns where in the file entry i starts.
func (d *damagedJournal) start(i int) int64 { return d.header + int64(d.entries[i-1].Pos) }

// Every byte of the last 64 entries is damaged in every way, after each end that
// a writer can come to. What was acknowledged is never silently gone (RULES 5
// and 6). After a power loss the mark proves all but the last acknowledged entry.
func TestEachByteDamaged(t *testing.T) {
	d := newDamagedJournal(t)
	ways := map[string]func(b []byte, at int64) []byte{
		"truncated": func(b []byte, at int64) []byte { return b[:at] },
		"zero from": func(b []byte, at int64) []byte { clear(b[at:]); return b },
		"zero byte": func(b []byte, at int64) []byte { b[at] = 0; return b },
		"flip bit":  func(b []byte, at int64) []byte { b[at] ^= 1 << (at % 8); return b },
	}
	step := int64(1)
	if testing.Short() {
		step = 13
	}
	for ended, disk := range d.disks {
		t.Run(ended, func(t *testing.T) {
			t.Parallel()
			for i := len(d.entries) - checked; i < len(d.entries); i++ {
				for at := d.start(i); at < d.header+int64(d.entries[i].Pos); at += step {
					for way, change := range ways {
						d.check(t, disk, ended, way, change, i, at)
					}
				}
			}
		})
	}
}

func (d *damagedJournal) check(t *testing.T, from *crashfs.FS, ended, way string, change func([]byte, int64) []byte, i int, at int64) {
	disk := from.Crash(crashfs.Kill, 0)
	same, framed := false, true
	if err := disk.Corrupt(d.path, func(b []byte) []byte {
		old := bytes.Clone(b)
		b = change(b, at)
		same = bytes.Equal(b, old)
		for way == "zero from" && !same && bytes.Equal(old[:d.header+int64(d.entries[i].Pos)], b[:d.header+int64(d.entries[i].Pos)]) {
			i++ // the rest of the entry was zero anyway: the next one is the first to change
		}
		if way != "truncated" {
			framed = bytes.Equal(old[d.start(i):][:16], b[d.start(i):][:16]) // what was zeroed may have been zero
		}
		return b
	}); err != nil {
		t.Error(err)
		return
	}
	want := damaged
	last := i == len(d.entries)-1 && ended == "power lost"
	atStart := way == "zero from" && at <= d.start(i)
	switch {
	case same:
		want = fine
	case way == "truncated":
	case last && atStart:
		want = fine // RULES 6: nothing can be known about it
	case last:
		want = cut
	case atStart:
		want = lost
	}
	got, place, err := judge(disk, filejournal.Config{ReadOnly: at%2 == 0})
	if got != want {
		t.Errorf("entry %d, byte %d, %s: %q (%v), want %q", i, at-d.start(i), way, got, err, want)
		return
	}
	if err == nil {
		return
	}
	offset := d.start(i)
	if way == "truncated" {
		offset = at
	}
	pos, after := d.entries[i].Pos, false // what the entry's frame states, if it is good
	if way == "truncated" {
		pos, after = 0, true // where the segment starts
	} else if !framed {
		pos, after = d.entries[i-1].Pos, true
	}
	if place == nil || place.Pos != pos || place.After != after {
		t.Errorf("entry %d, byte %d, %s: place %+v, want position %d, after it %v", i, at-d.start(i), way, place, pos, after)
	}
	if place == nil || place.Source != d.path || place.Offset != offset || way != "truncated" && place.Seq != journal.Seq(i-1) {
		t.Errorf("entry %d, byte %d, %s: place %+v, want offset %d of %s after seq %d", i, at-d.start(i), way, place, offset, d.path, i-1)
	}
}

// Wherever the machine stops while something is set aside, and again after it:
// what was cut is in the segment or, whole, in a file. Once it was set aside, it is
// not cut again.
func TestCutIsNeverGone(t *testing.T) {
	d := newDamagedJournal(t)
	last := len(d.entries) - 1
	from, to := d.start(last), d.header+int64(d.entries[last].Pos)
	var torn []byte
	must(t, d.disks["power lost"].Corrupt(d.path, func(b []byte) []byte {
		b[from+40] ^= 1
		torn = bytes.Clone(b[from:to])
		return b
	}))
	for n := 1; ; n++ {
		disk := d.disks["power lost"].Crash(crashfs.None, 0)
		disk.StopAt(n)
		j, err := filejournal.Open("j", filejournal.Config{FS: disk, Foreground: true})
		if err == nil {
			must(t, j.Close())
		}
		after := disk.Crash(crashfs.None, 0)
		aside := 0
		names, listErr := after.List("j")
		must(t, listErr)
		for _, name := range names {
			if strings.HasPrefix(name, "cut-") && bytes.Equal(content(t, after, name), torn) {
				aside++
			}
		}
		if here := bytes.Equal(content(t, after, filepath.Base(d.path))[from:to], torn); !here && aside == 0 {
			t.Errorf("stopped at call %d (%s): what was cut is gone", n, disk.Calls()[n-1])
		}
		if err != nil {
			continue
		}
		if got, _, err := judge(after, filejournal.Config{}); got != fine || aside != 1 {
			t.Errorf("opened again: %q (%v), %d set aside", got, err, aside)
		}
		return
	}
}

// What is cut is set aside, whole, and cut once.
func TestCutIsSetAside(t *testing.T) {
	d := newDamagedJournal(t)
	disk := d.disks["power lost"]
	last := len(d.entries) - 1
	var torn []byte
	if err := disk.Corrupt(d.path, func(b []byte) []byte {
		b[d.start(last)+40] ^= 1
		torn = bytes.Clone(b[d.start(last) : d.header+int64(d.entries[last].Pos)])
		return b
	}); err != nil {
		t.Fatal(err)
	}
	for _, readOnly := range []bool{true, false, false} {
		j, err := filejournal.Open("j", filejournal.Config{FS: disk, ReadOnly: readOnly})
		if err != nil {
			t.Fatal(err)
		}
		r := j.Recovered()
		got, err := drain(t.Context(), j, 0)
		if err = errors.Join(err, same(got, d.entries[:last]), j.Close()); err != nil {
			t.Fatal(err)
		}
		names, err := disk.List("j")
		if err != nil {
			t.Fatal(err)
		}
		aside := 0
		for _, name := range names {
			if strings.HasPrefix(name, "cut-") {
				aside++
			}
		}
		switch {
		case readOnly:
			if r.CutBytes != int64(len(torn)) || r.CutFile != "" || aside != 0 {
				t.Errorf("read-only: %+v, %d files set aside", r, aside)
			}
		case r.CutFile != "":
			if r.CutSource != d.path || r.CutOffset != d.start(last) || aside != 1 {
				t.Errorf("%+v, %d files set aside", r, aside)
			}
			if got := content(t, disk, r.CutFile); !bytes.Equal(got, torn) {
				t.Errorf("set aside %d bytes that differ from the %d that were cut", len(got), len(torn))
			}
		case aside != 1 || r.CutBytes != 0:
			t.Errorf("opened again: %+v, %d files set aside", r, aside)
		}
	}
}

func content(t *testing.T, disk *crashfs.FS, name string) []byte {
	t.Helper()
	f, err := disk.Open(filepath.Join("j", name), os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// Five kinds of trouble have five names, with the file they are in.
func TestVerdicts(t *testing.T) {
	base := crashfs.New()
	s := &story{disk: base}
	j, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.fence(t.Context(), j, 1, "a"); err != nil {
		t.Fatal(err)
	}
	for range 12 {
		if err := s.append(t.Context(), j, 1200); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := base.List("j")
	if err != nil {
		t.Fatal(err)
	}
	var segments []string
	for _, name := range names {
		if strings.HasSuffix(name, ".udj") {
			segments = append(segments, name)
		}
	}
	if len(segments) < 4 {
		t.Fatalf("%d segments, want at least 4", len(segments))
	}
	foe := &story{disk: crashfs.New()} // its first segment has the same name
	k, err := foe.open()
	must(t, err)
	must(t, foe.fence(t.Context(), k, 1, "a"))
	must(t, k.Close())
	newest := segments[len(segments)-1]
	remove := func(name string) func(*crashfs.FS) error {
		return func(d *crashfs.FS) error { return d.Remove(filepath.Join("j", name)) }
	}
	change := func(name string, f func([]byte) []byte) func(*crashfs.FS) error {
		return func(d *crashfs.FS) error { return d.Corrupt(filepath.Join("j", name), f) }
	}
	tests := []struct {
		name string
		do   func(*crashfs.FS) error
		want verdict
		file string
		at   int64 // byte in it
		word string
	}{
		{"untouched", func(*crashfs.FS) error { return nil }, fine, "", 0, ""},
		{"first segment removed", remove(segments[0]), missing, segments[0], 0, "missing segment after position "},
		{"middle segment removed", remove(segments[1]), missing, segments[1], 0, "missing segment after position "},
		{"newest segment removed", remove(newest), missing, newest, 0, "missing segment after position "},
		{"all segments removed", func(d *crashfs.FS) error {
			for _, name := range segments {
				if err := remove(name)(d); err != nil {
					return err
				}
			}
			return nil
		}, missing, segments[0], 0, "missing segment after position 0 "},
		{"state removed", remove("journal.state"), missing, "journal.state", 0, "missing state file "},
		{"a file that is no segment", change(newest, func(b []byte) []byte { copy(b, "#!/bin/sh\n"); return b }), foreign, newest, 0, "bad segment after position "},
		{"a short file that is no segment", change(newest, func([]byte) []byte { return []byte("hello") }), foreign, newest, 0, "bad segment after position "},
		{"an empty file", change(newest, func([]byte) []byte { return nil }), damaged, newest, 0, "bad segment after position "},
		{"a file of some bytes of a segment", change(newest, func(b []byte) []byte { return b[:5] }), damaged, newest, 5, "bad segment after position "},
		{"a segment under another's name", change(segments[1], func([]byte) []byte { return content(t, base, segments[2]) }), foreign, segments[1], 40, "bad segment after position "},
		{"a segment of another journal", change(segments[0], func([]byte) []byte { return content(t, foe.disk, segments[0]) }), foreign, segments[0], 16, "bad segment after position 0 "},
		{"a segment of another journal in the midst", change(segments[2], func([]byte) []byte { return content(t, foe.disk, segments[0]) }), foreign, segments[2], 16, "bad segment after position "},
		{"a segment of a later version", change(newest, func(b []byte) []byte { return reseal(b, 12, 2) }), newer, newest, 0, "bad segment after position "},
		{"a state of a later version", change("journal.state", func(b []byte) []byte { return laterState(b) }), newer, "journal.state", 4096, "bad state file "},
		{"a header with a flipped bit", change(newest, func(b []byte) []byte { b[99] ^= 4; return b }), damaged, newest, 0, "bad segment after position "},
		{"a sealed segment cut short", change(segments[1], func(b []byte) []byte { return b[:5000] }), damaged, segments[1], 5000, "bad segment after position "},
		{"both anchors damaged", change("journal.state", func(b []byte) []byte { b[4096+50] ^= 1; b[4608+50] ^= 1; return b }), damaged, "journal.state", 4096, "bad state file "},
		{"one anchor damaged", change("journal.state", func(b []byte) []byte { b[4096+50] ^= 1; return b }), fine, "", 0, ""},
		{"the mapped block is garbage", change("journal.state", func(b []byte) []byte {
			for i := range 4096 {
				b[i] = 0xa5
			}
			return b
		}), fine, "", 0, ""},
	}
	for _, tt := range tests {
		for _, kind := range []crashfs.Kind{crashfs.Kill, crashfs.None} {
			for _, readOnly := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, %v, read-only %v", tt.name, kind, readOnly), func(t *testing.T) {
					disk := base.Crash(kind, 0)
					if err := tt.do(disk); err != nil {
						t.Fatal(err)
					}
					got, place, err := judge(disk, filejournal.Config{ReadOnly: readOnly})
					if got != tt.want {
						t.Fatalf("%q (%v), want %q", got, err, tt.want)
					}
					if tt.file != "" && (place == nil || filepath.Base(place.Source) != tt.file) {
						t.Errorf("place %+v, want file %s", place, tt.file)
					}
					if tt.file == "" || place == nil {
						return
					}
					if seq := s.seqBefore(tt.file); place.Seq != seq || place.Offset != tt.at || !strings.Contains(err.Error(), "journal: "+tt.word) {
						t.Errorf("%v: %+v, want seq %d, byte %d, %q", err, place, seq, tt.at, tt.word)
					}
				})
			}
		}
	}
}

// seqBefore returns the last Seq before a segment; each entry but the first is a
// batch of one record.
func (s *story) seqBefore(segment string) (seq journal.Seq) {
	var start journal.Position
	if _, err := fmt.Sscanf(segment, "%d.udj", &start); err != nil || start == 0 {
		return 0
	}
	for _, e := range s.acked[1:] {
		if e.Pos <= start {
			seq++
		}
	}
	return seq
}

func segmentsOf(t *testing.T, disk *crashfs.FS) (segments []string) {
	t.Helper()
	names, err := disk.List("j")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".udj") {
			segments = append(segments, name)
		}
	}
	return segments
}

// reseal sets a byte of a segment header and its checksum to match.
func reseal(b []byte, at int, v byte) []byte {
	b[at] = v
	binary.LittleEndian.PutUint32(b[8:], crc32c(append(bytes.Clone(b[16:32]), b[12:512]...)))
	return b
}

// laterState makes both anchors those of version 2.
func laterState(b []byte) []byte {
	for _, at := range []int{4096, 4608} { // those of generation 0
		a := b[at : at+64]
		a[12] = 2
		binary.LittleEndian.PutUint32(a[8:], crc32c(append(make([]byte, 16), a[12:64]...)))
	}
	return b
}

// If the marks are damaged too, a later frame still proves that an entry was
// durable.
func TestDamageBeforeAFrame(t *testing.T) {
	d := newDamagedJournal(t)
	for _, i := range []int{10, 40, len(d.entries) - 2} {
		disk := d.disks["power lost"].Crash(crashfs.Kill, 0)
		if err := disk.Corrupt(d.path, func(b []byte) []byte {
			clear(b[512:2048])
			b[d.start(i)+50] ^= 1
			return b
		}); err != nil {
			t.Fatal(err)
		}
		if got, _, err := judge(disk, filejournal.Config{}); got != damaged {
			t.Errorf("entry %d: %q (%v), want %q", i, got, err, damaged)
		}
	}
}

// A journal.state that was put back while the machine ran states an end that lies
// before what the segments prove: a promotion would write over what was
// acknowledged since.
func TestOlderStatePutBack(t *testing.T) {
	for sizeBytes, entries := range map[int]int{0: 12, 10: 25, 900: 25} { // within a segment, and over two and several
		for _, saved := range []int{0, 1, 5} { // entries in the journal then
			s := &story{disk: crashfs.New()}
			j, err := s.open()
			must(t, err)
			var old []byte
			must(t, s.fence(t.Context(), j, 1, "a"))
			for i := range entries {
				if i+1 == saved {
					old = content(t, s.disk, "journal.state")
				}
				must(t, s.append(t.Context(), j, sizeBytes))
			}
			must(t, j.Close())
			if saved == 0 { // as it was made, and attached to once
				empty := &story{disk: crashfs.New()}
				k, err := empty.open()
				must(t, err)
				must(t, k.Close())
				old = content(t, empty.disk, "journal.state")
				copy(old[4096:], content(t, s.disk, "journal.state")[4096:]) // the journal's id
			}
			for _, readOnly := range []bool{true, false} {
				t.Run(fmt.Sprintf("%d bytes each, put back from entry %d, read-only %v", sizeBytes, saved, readOnly), func(t *testing.T) {
					disk := s.disk.Crash(crashfs.Kill, 0)
					must(t, disk.Corrupt("j/journal.state", func([]byte) []byte { return bytes.Clone(old) }))
					got, place, err := judge(disk, filejournal.Config{ReadOnly: readOnly})
					if got != damaged || place == nil || place.Source != "j/journal.state" {
						t.Errorf("%q (%v), want %q in journal.state", got, err, damaged)
					}

					// With the mapped block cleared, as after a restart, all is found.
					must(t, disk.Corrupt("j/journal.state", func(b []byte) []byte { clear(b[:4096]); return b }))
					after := &story{disk: disk}
					k, err := after.open()
					must(t, err)
					defer k.Close()
					all, err := drain(t.Context(), k, 0)
					must(t, err)
					must(t, same(all, s.acked))
				})
			}
		}
	}
}

// A handle that is opened while another one appends and begins segments finds
// nothing wrong: the end that it compares with is read after what it compares.
func TestOpenWhileAppending(t *testing.T) {
	dir := t.TempDir()
	j := openAt(t, dir, filejournal.Config{SegmentBytes: tiny, Foreground: true})
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 400 && err == nil; i++ {
			err = p.Append(t.Context(), j, journaltest.Records(1, i%900)...)
		}
		done <- err
	}()
	for {
		k, err := filejournal.Open(dir, filejournal.Config{ReadOnly: true})
		must(t, err)
		must(t, k.Close())
		select {
		case err := <-done:
			must(t, err)
			return
		default:
		}
	}
}

// A Reader says of damage in a sealed segment which file and byte it is in, and
// after which record, wherever in an entry it lies.
func TestDamageInASealedSegment(t *testing.T) {
	base := crashfs.New()
	s := &story{disk: base}
	j, err := s.open()
	must(t, err)
	must(t, s.fence(t.Context(), j, 1, "a"))
	for range 12 {
		must(t, s.append(t.Context(), j, 1200))
	}
	must(t, j.Close())
	segments := segmentsOf(t, base)
	const i = 4 // after the fence and records 1 to 3; in the second segment
	var start journal.Position
	if _, err := fmt.Sscanf(segments[1], "%d.udj", &start); err != nil || s.acked[i-1].Pos < start {
		t.Fatalf("entry %d starts at %d, the segment at %d, %v", i, s.acked[i-1].Pos, start, err)
	}
	offset := int64(4096 + s.acked[i-1].Pos - start)
	tests := map[string]int64{"frame": 5, "checksum": 16 + 4, "batch header": 16 + 40, "data": 16 + 300}
	for name, at := range tests {
		for _, skip := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, chain skipped %v", name, skip), func(t *testing.T) {
				disk := base.Crash(crashfs.Kill, 0)
				path := filepath.Join("j", segments[1])
				must(t, disk.Corrupt(path, func(b []byte) []byte { b[offset+at] ^= 1; return b }))
				after := &story{disk: disk}
				j, err := after.open()
				must(t, err)
				defer j.Close()
				r := journal.NewReader(j, journal.ReaderConfig{Source: "file:///j", SkipChain: skip})
				defer r.Close()
				var it journal.Item
				for err = nil; err == nil; {
					err = r.Next(t.Context(), &it)
				}
				place, pos := "at", s.acked[i].Pos
				if name == "frame" {
					place, pos = "after", s.acked[i-1].Pos // its own is not known
				}
				want := fmt.Sprintf("corrupt entry %s position %d of %s, byte %d, after seq %d: ", place, pos, path, offset, i-1)
				var c *journal.CorruptError
				if !errors.As(err, &c) || c.Pos != pos || c.Source != path || c.Offset != offset || c.Seq != i-1 || !strings.Contains(err.Error(), want) {
					t.Errorf("%+v: %v, want %q", c, err, want)
				}
			})
		}
	}
}

// An anchor that a writer writes late, after the right to write was taken over,
// counts less than those of the generations after, whatever its number: what they
// say about the end holds.
func TestLateAnchor(t *testing.T) {
	s := &story{disk: crashfs.New()}
	must(t, s.takeOver(t.Context()))
	segments := segmentsOf(t, s.disk)
	newest := segments[len(segments)-1]
	for _, number := range []uint64{90, 91} { // one for each of its two places
		disk := s.disk.Crash(crashfs.None, 0)
		must(t, disk.Corrupt("j/journal.state", func(b []byte) []byte {
			a := b[4096+number%2*512:][:64] // of generation 0
			copy(a, b[4096+2*1024:][:64])
			if string(a[:8]) != "UDJSTAT1" {
				t.Fatal("no anchor of generation 2")
			}
			le := binary.LittleEndian
			le.PutUint64(a[32:], number)
			clear(a[48:64]) // the newest segment starts at 0, generation 0
			le.PutUint32(a[8:], crc32c(append(make([]byte, 16), a[12:]...)))
			return b
		}))
		if got, _, err := judge(disk.Crash(crashfs.Kill, 0), filejournal.Config{ReadOnly: true}); got != fine {
			t.Errorf("anchor %d: %q (%v), want %q", number, got, err, fine)
		}
		must(t, disk.Remove(filepath.Join("j", newest)))
		if got, _, err := judge(disk, filejournal.Config{ReadOnly: true}); got != missing {
			t.Errorf("anchor %d, newest segment removed: %q (%v), want %q", number, got, err, missing)
		}
	}
}
