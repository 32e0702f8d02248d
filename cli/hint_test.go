package cli

import (
	"io"
	"testing"
	"time"
)

// A hint repeats what was given, so that it can be run as it is.
func TestHintsRepeatWhatWasGiven(t *testing.T) {
	tests := []struct {
		name  string
		args  []string
		line  string
		again string
	}{
		{"nothing", nil, "understudy who", "understudy promote"},
		{
			"nodes",
			[]string{"--admin", "http://h:1", "--admin", "http://h:2", "--group", "orders", "--json"},
			"understudy who --admin http://h:1,http://h:2 --group orders", "understudy promote --admin http://h:1,http://h:2 --group orders --json",
		},
		{"a reason", []string{"--reason", "it's down"}, "understudy who", `understudy promote --reason 'it'\''s down'`},
		{"what is left out", []string{"--dry-run", "--accept", "lag", "--expect-epoch", "7"}, "understudy who", "understudy promote --expect-epoch 7"},
		{"short", []string{"-y", "-q"}, "understudy who", "understudy promote --quiet --yes"},
		{"switched off", []string{"--json=false"}, "understudy who", "understudy promote --json=false"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := &Env{
				App:    App{Name: "understudy", Machine: blobs()},
				Stdout: io.Discard, Stderr: io.Discard, Getenv: func(string) string { return "" }, Now: time.Now,
			}
			c, rest, err := e.root().Find(append([]string{"promote"}, tt.args...))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.ParseFlags(rest); err != nil {
				t.Fatal(err)
			}
			if got := e.line("who"); got != tt.line {
				t.Errorf("line(who) = %s, want %s", got, tt.line)
			}
			if got := again(c, "dry-run", "accept"); got != tt.again {
				t.Errorf("again = %s, want %s", got, tt.again)
			}
		})
	}
}
