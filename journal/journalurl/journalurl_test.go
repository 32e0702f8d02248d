package journalurl_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/journalurl"
)

// A wrong URL says what is wrong with it, and an unknown scheme which there are.
func TestWrongURL(t *testing.T) {
	tests := []struct {
		url  string
		want string // part of the error
	}{
		{"kafka://h/x", "there are mem, file, sqlite, embedded, nats, tls, nats+context"},
		{"orders", `scheme "" is unknown`},
		{"file://host/dir", "file:///absolute/path"},
		{"file:", "names no path"},
		{"file:/tmp/x?sync=always", `does not know "sync"`},
		{"sqlite://host/x.db", "sqlite:///absolute/path"},
		{"sqlite:", "names no path"},
		{"sqlite:x.db?sync=always", `does not know "sync"`},
		{"sqlite:x.db?journal=a/b", "want letters, digits and . _ -"},
		{"sqlite:x.db?journal=", "journal name of 0 bytes"},
		{"sqlite://u:secret@host/x.db", "sqlite:///absolute/path"},
		{"file:/tmp/x?sync=always", `does not know "sync"; it takes no query`},
		{"embedded:x?replicas=3", `does not know "replicas"`},
		{"embedded:x?replicas=3", `does not know "replicas"; it takes stream`},
		{"file:d/new#2", "has a #, which ends the path: write %23 for the sign itself"},
		{"file:d/new#", "write %23"},
		{"file:x.udj#2", "write %23"},
		{"nats://user:secret@host/S#2", "write %23"},
		{"nats://host", "nats://HOST/STREAM"},
		{"nats://host/S?replicas=many", "want a number from 1"},
		{"nats://host/S?sync=sometimes", "want always"},
		{"nats://user:secret@host", "user:xxxxx@host"},
		{"://", "missing protocol scheme"},
	}
	for _, tt := range tests {
		t.Run(tt.url, func(t *testing.T) {
			j, err := journalurl.Open(t.Context(), tt.url, journalurl.Options{Create: true})
			if err == nil {
				j.Close()
			}
			if !errors.Is(err, journalurl.ErrURL) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("Open = %v, want ErrURL with %q and no secret", err, tt.want)
			}
		})
	}
}

// A folder or a database that is missing is made for writers only.
func TestMissingFolder(t *testing.T) {
	for _, scheme := range []string{"file:", "sqlite:", "embedded:"} {
		dir := filepath.Join(t.TempDir(), "journal")
		if _, err := journalurl.Open(t.Context(), scheme+dir, journalurl.Options{}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Open %s without Create = %v, want ErrNotExist", scheme, err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: opening to read made it", scheme)
		}
		j, err := journalurl.Open(t.Context(), scheme+dir, journalurl.Options{Create: true})
		if err != nil {
			t.Fatalf("Open %s with Create = %v", scheme, err)
		}
		j.Close()
	}
}

// A folder and the archive made of it hold the same journal.
func TestFolderAndArchive(t *testing.T) {
	dir := t.TempDir()
	open := func(url string, o journalurl.Options) journal.Journal {
		t.Helper()
		j, err := journalurl.Open(t.Context(), url, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { j.Close() })
		return j
	}
	j := open("file://"+dir+"/j", journalurl.Options{Create: true})
	journaltest.Write(t, j, 20)
	if _, err := filejournal.ExportFile(t.Context(), dir+"/x.udj", j, filejournal.ExportConfig{}); err != nil {
		t.Fatal(err)
	}
	a := open("file://"+dir+"/x.udj", journalurl.Options{ReadOnly: true})
	want, err := journal.SampleEnd(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	got, err := journal.SampleEnd(t.Context(), a)
	if err != nil || got.Seq != want.Seq || got.Epoch != want.Epoch || !journal.Describe(a).ReadOnly {
		t.Errorf("archive ends %+v, %v; want seq %d in epoch %d, read-only", got, err, want.Seq, want.Epoch)
	}
}

// A database holds journals by name; one that is missing is made for writers only,
// and a handle that may only read does not write.
func TestJournalsInADatabase(t *testing.T) {
	url := "sqlite:" + t.TempDir() + "/a%20b.db"
	open := func(query string, o journalurl.Options) journal.Journal {
		t.Helper()
		j, err := journalurl.Open(t.Context(), url+query, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { j.Close() })
		return j
	}
	journaltest.Write(t, open("", journalurl.Options{Create: true}), 3)
	if _, err := journalurl.Open(t.Context(), url+"?journal=b", journalurl.Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open another journal without Create = %v, want ErrNotExist", err)
	}
	journaltest.Write(t, open("?journal=b", journalurl.Options{Create: true}), 5)
	for query, want := range map[string]journal.Position{"": 4, "?journal=main": 4, "?journal=b": 6} {
		j := open(query, journalurl.Options{ReadOnly: true})
		end, err := journal.SampleEnd(t.Context(), j)
		if err != nil || end.Pos != want {
			t.Errorf("%q ends at %d, %v, want %d", query, end.Pos, err, want)
		}
		if _, err := j.Fence(t.Context(), 9, "x"); !errors.Is(err, journal.ErrReadOnly) || !journal.Describe(j).ReadOnly {
			t.Errorf("%q: Fence on a read-only handle = %v, want ErrReadOnly", query, err)
		}
	}
}
