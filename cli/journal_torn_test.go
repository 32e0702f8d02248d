package cli

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy.dev/journal/filejournal"
)

// Who reads a journal whose torn end was left out says so: of an entry that a loss of
// power damaged nobody knows whether it was acknowledged (RULES 6).
func TestTornTailIsToldByReaders(t *testing.T) {
	tests := []struct {
		name string
		tear func(t *testing.T, dir string)
		seq  int // up to which it is sound
	}{
		{"garbage behind the end", torn, 5},
		{"the last byte is damaged", tornEntry, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, dir := t.Context(), filepath.Join(t.TempDir(), "j")
			tt.tear(t, dir)
			url := fileURL(dir)
			const may = "may have been acknowledged"
			var v journalVerified
			r := run(ctx, url, "journal", "verify", "--json")
			r.want(t, 0, `"result":"sound"`, may)
			r.decode(t, &v)
			if v.LeftOut == 0 || v.Seq != uint64(tt.seq) || len(v.Notes) != 1 {
				t.Errorf("verify --json says %+v", v)
			}
			run(ctx, url, "journal", "verify").want(t, 0, fmt.Sprintf("\nsound     up to seq %d; %s behind it left out, which %s   chain ", tt.seq, counted(int(v.LeftOut), "byte"), may), "\nnote      ")
			says := fmt.Sprintf("warning: %d bytes behind the end of %s, ", v.LeftOut, dir)
			for _, args := range [][]string{
				{"journal", "export", filepath.Join(t.TempDir(), "x.udj")},
				{"journal", "copy", fileURL(filepath.Join(t.TempDir(), "copy"))},
				{"verify"},
			} {
				r := run(ctx, url, args...)
				if !strings.Contains(r.stderr, says) || !strings.Contains(r.stderr, may) {
					t.Errorf("%v does not say %q: %+v", args, says, r)
				}
			}
			// Set aside, it is told ever after, and the journal is sound as it is.
			run(ctx, url, "journal", "prune", "--before", "1", "--yes").want(t, 1, "set aside in ")
			r = run(ctx, url, "journal", "verify")
			r.want(t, 0, "\nnote      ", may, "\nsound     chain ")
		})
	}
}

// A journal with nothing behind its end is sound without more words.
func TestWholeJournalIsJustSound(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	j := small(t, dir)
	write(t, j, 5)
	j.Close()
	r := run(t.Context(), fileURL(dir), "journal", "verify")
	r.want(t, 0, "\nsound     chain ")
	if strings.Contains(r.stdout, "note") {
		t.Errorf("it prints %s", r.stdout)
	}
	run(t.Context(), fileURL(dir), "journal", "verify", "--json").want(t, 0, `"left_out_bytes":0,"notes":[],`)
}

// tornEntry makes a folder of five records as a loss of power leaves it that caught
// the last one: its last byte is not what was written, and no mark was left behind it.
func tornEntry(t *testing.T, dir string) {
	t.Helper()
	j, err := filejournal.Open(dir, filejournal.Config{FS: rebooted{filejournal.OS()}, Foreground: true})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	entries := write(t, j, 5).Entries()
	// The files as they lie while the writer is alive: only Close writes the last mark.
	left := dir + ".left"
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(left, fmt.Sprintf("%020d.udj", 0))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := string(entries[len(entries)-1].Data)
	at := strings.Index(string(data), last)
	if at < 0 {
		t.Fatalf("the last entry, %s…, is not in the first segment", hex.EncodeToString([]byte(last[:8])))
	}
	data[at+len(last)-1] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".alive"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(left, dir); err != nil {
		t.Fatal(err)
	}
}
