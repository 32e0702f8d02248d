package cli_test

import (
	"fmt"
	"io"
	"strconv"

	"understudy.dev/cli"
	"understudy.dev/machine"
)

// A counter is a machine: a state and three methods.
type counter struct{ sum int64 }

func (c *counter) Apply(_ *machine.Context, cmd machine.Command) ([]byte, error) {
	n, err := strconv.ParseInt(string(cmd.Data), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%q is no number", cmd.Data)
	}
	c.sum += n
	return strconv.AppendInt(nil, c.sum, 10), nil
}

func (c *counter) Snapshot(w io.Writer) error { _, err := fmt.Fprintln(w, c.sum); return err }
func (c *counter) Restore(r io.Reader) error  { _, err := fmt.Fscanln(r, &c.sum); return err }

// The main function of a binary with every command: serve, promote, replay, …
func Example() {
	cli.Main(cli.App{Name: "counter", Machine: machine.Definition{
		Name: "counter", Version: 1,
		New:      func() machine.Machine { return new(counter) },
		Commands: []machine.CommandType{{Name: "add"}},
	}})
}
