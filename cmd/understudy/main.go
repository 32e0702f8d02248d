// Command understudy journals every command of a machine before it is answered,
// replays the journal bit for bit, and keeps a standby that takes over without
// losing one answered command. Its machine is the exchange.
package main

import (
	"github.com/spf13/cobra"

	"understudy.dev/cli"
	"understudy.dev/engines/exchange"
)

func main() {
	cli.Main(cli.App{
		Name: "understudy", Machine: exchange.Definition(), Commands: commands,
		Encode: encodeOrder, Show: showOrder, Decode: decodeReply, Example: orderExample,
	})
}

// commands are those that only this binary has.
func commands(e *cli.Env) []*cobra.Command {
	return []*cobra.Command{demoCommand(e)}
}
