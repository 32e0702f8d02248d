package cli

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// The example of each command's help is a command line that it takes.
func TestHelpExamplesAreUnderstood(t *testing.T) {
	e := &Env{
		App:    App{Name: "understudy", Machine: blobs()},
		Stdout: io.Discard, Stderr: io.Discard, Getenv: func(string) string { return "" }, Now: time.Now,
	}
	commands := 0
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		commands++
		if c.Example == "" {
			t.Errorf("%s: its help has no example", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			if err := understood(e.root(), line); err != nil {
				t.Errorf("%s: example %q: %v", c.CommandPath(), strings.TrimSpace(line), err)
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(e.root())
	if commands < 10 {
		t.Errorf("looked at %d commands, want all of them", commands)
	}
}

// understood parses a command line of a shell without running it.
func understood(root *cobra.Command, line string) error {
	line, _, _ = strings.Cut(line, " < ")
	var words []string
	for i, part := range strings.Split(strings.ReplaceAll(line, "'", `"`), `"`) {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	c, rest, err := root.Find(words[1:])
	if err != nil {
		return err
	}
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	if err := c.ValidateFlagGroups(); err != nil {
		return err
	}
	return c.ValidateArgs(c.Flags().Args())
}
