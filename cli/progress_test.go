package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// Progress says what is done, of how much, and how long the rest will take.
func TestProgressLine(t *testing.T) {
	began := time.Now().Add(-10 * time.Second)
	for _, tt := range []struct {
		total, done uint64
		want        []string
		without     string
	}{
		{0, 5_000, []string{"verify 5,000 records  ", "/s"}, "█"},
		{20_000, 5_000, []string{"verify ██████░░░░░░░░░░░░░░░░░░  25%  5,000 of 20,000 records  ", "/s", "s to go"}, ""},
		{20_000, 20_000, []string{"████████████████████████ 100%", "20,000 of 20,000 records"}, "to go"},
		{5, 7, []string{"100%"}, "░"},
	} {
		got := (&progressBar{label: "verify", total: tt.total, began: began}).line(tt.done)
		for _, want := range tt.want {
			if !strings.Contains(got, want) {
				t.Errorf("%d of %d: %q, want it to have %q", tt.done, tt.total, got, want)
			}
		}
		if tt.without != "" && strings.Contains(got, tt.without) {
			t.Errorf("%d of %d: %q has %q", tt.done, tt.total, got, tt.without)
		}
	}
}

// Off a terminal a line comes every ten seconds, and none with --quiet.
func TestProgressIsPrinted(t *testing.T) {
	var out bytes.Buffer
	p := &progressBar{w: &out, label: "copy", total: 8, began: time.Now().Add(-time.Minute), shown: time.Now().Add(-9 * time.Second)}
	p.at(1)
	if out.Len() > 0 {
		t.Errorf("after 9 s it prints %q", &out)
	}
	p.shown = p.shown.Add(-2 * time.Second)
	p.at(2)
	p.at(3)
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "2 of 8 records") {
		t.Errorf("it prints %q", got)
	}
	p.terminal = true
	p.shown = p.shown.Add(-time.Second)
	p.at(4)
	p.end()
	if got := out.String(); !strings.HasSuffix(got, "\x1b[K\r\x1b[K") || !strings.Contains(got, "\r") || !strings.Contains(got, "4 of 8 records") {
		t.Errorf("on a terminal it prints %q", got)
	}
	quiet := (&Env{Global: Global{Quiet: true}, Stderr: &out}).newProgress("copy", 8)
	quiet.shown, out = quiet.shown.Add(-time.Hour), bytes.Buffer{}
	if quiet.at(5); out.Len() > 0 {
		t.Errorf("quiet, it prints %q", &out)
	}
}
