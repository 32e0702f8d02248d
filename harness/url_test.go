package harness_test

import (
	"errors"
	"strings"
	"testing"

	"understudy.dev/harness"
	"understudy.dev/journal/journalurl"
)

func TestJournalURL(t *testing.T) {
	tests := []struct {
		base, id string
		want     string // "" is an error
	}{
		{"mem:", "run", "mem:run"},
		{"file:///var/runs", "run-1", "file:///var/runs/run-1"},
		{"file:///var/runs/", "a/b.c", "file:///var/runs/a_2Fb_2Ec"},
		{"file:runs", "x", "file:runs/x"},
		{"file:///", "x", "file:///x"},
		{"sqlite:///var/runs.db", "a/b", "sqlite:///var/runs.db?journal=a_2Fb"},
		{"sqlite:runs.db?journal=old", "a.b", "sqlite:runs.db?journal=old_a_2Eb"},
		{"embedded:///dir?stream=S", "x", "embedded:///dir/x?stream=S"},
		{"nats://h1:4222,h2:4222/RUNS", "a_b", "nats://h1:4222,h2:4222/RUNS_a_5Fb"},
		{"nats://u:p@h/RUNS?replicas=3", "x", "nats://u:p@h/RUNS_x?replicas=3"},
		{"tls://h/RUNS", "x", "tls://h/RUNS_x"},
		{"nats+context://prod/RUNS", "x", "nats+context://prod/RUNS_x"},
		{"file:///runs.udj", "x", ""},
		{"file:", "x", ""},
		{"sqlite:", "x", ""},
		{"sqlite:///?journal=a", "x", ""},
		{"sqlite:x.db?journal=%zz", "x", ""},
		{"nats://h", "x", ""},
		{"nats://h/", "x", ""},
		{"ftp://h/x", "x", ""},
		{"/var/runs", "x", ""},
		{"mem:", "", ""},
		{"mem:", "../x", ""},
		{"mem:", "a b", ""},
		{"mem:", "ä", ""},
		{"mem:", strings.Repeat("x", harness.MaxID+1), ""},
	}
	for _, tt := range tests {
		got, err := harness.JournalURL(tt.base, tt.id)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("JournalURL(%q, %q) = %q, %v; want %q", tt.base, tt.id, got, err, tt.want)
		}
	}
}

// A URL is derived only where package journalurl opens it, and a refusal lists the
// same schemes; no password is shown.
func TestSchemesAreThoseThatOpen(t *testing.T) {
	_, err := journalurl.Open(t.Context(), "kafka:x", journalurl.Options{})
	_, there, _ := strings.Cut(err.Error(), "there are ")
	for scheme := range strings.SplitSeq(there, ", ") {
		if _, err := harness.JournalURL(scheme+"://h/dir", "x"); err != nil {
			t.Errorf("JournalURL of %s: %v", scheme, err)
		}
	}
	for _, scheme := range []string{"kafka", "postgres", "postgresql", "redis", "rediss"} {
		_, err := harness.JournalURL(scheme+"://u:secret@h/db?journal=runs", "x")
		if err == nil || !strings.HasSuffix(err.Error(), "; there are "+there) || strings.Contains(err.Error(), "secret") {
			t.Errorf("JournalURL of %s = %v, want a refusal that lists %s, without the password", scheme, err, there)
		}
	}
}

// Different ids have different journals, in names that every backend takes.
func TestIDsStayApart(t *testing.T) {
	seen := make(map[string]string)
	for _, id := range []string{"a", "A", "a_", "a.", "a/", "a:", "a@", "a-", "a_2E", "a.2E", "a_5F2E", "a.b", "a/b", "a_b", "a5Fb"} {
		got, err := harness.JournalURL("nats://h/S", id)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q share %s", id, other, got)
		}
		seen[got] = id
	}
	if err := harness.CheckID("/x"); !errors.Is(err, harness.ErrID) {
		t.Errorf("CheckID(/x) = %v, want ErrID", err)
	}
}
