package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// line is a command line of this binary for a hint. It asks the nodes that this
// run asked: the flags that name them are repeated if they were given.
func (e *Env) line(words string) string {
	return e.App.Name + " " + words + flagWords(e.flags, func(name string) bool { return slices.Contains(asking, name) })
}

// lineTo is a command line for a hint that asks the node at url.
func (e *Env) lineTo(url, words string) string {
	return e.App.Name + " " + words + " --admin " + shellWord(url) + flagWords(e.flags, func(name string) bool { return name == "token-file" })
}

// asking are the flags that say which nodes are asked.
var asking = []string{"admin", "group", "token-file"}

// again is this run's command line for a hint, without the flags of these names.
func again(cmd *cobra.Command, without ...string) string {
	return cmd.CommandPath() + flagWords(cmd.Flags(), func(name string) bool { return !slices.Contains(without, name) })
}

// flagWords writes the flags that were given and are wanted, each after a space.
func flagWords(flags *pflag.FlagSet, wanted func(name string) bool) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Changed || !wanted(f.Name) {
			return
		}
		b.WriteString(" --" + f.Name)
		switch v := f.Value.(type) {
		case pflag.SliceValue:
			b.WriteString(" " + shellWord(strings.Join(v.GetSlice(), ",")))
		default:
			if f.NoOptDefVal == "" {
				b.WriteString(" " + shellWord(f.Value.String()))
			} else if f.Value.String() != f.NoOptDefVal {
				b.WriteString("=" + shellWord(f.Value.String()))
			}
		}
	})
	return b.String()
}

// shellWord quotes a word for a shell if it must be.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_./:@,=+-", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
