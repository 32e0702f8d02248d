package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"understudy.dev/admin"
)

func (e *Env) whoCommand() *cobra.Command {
	return &cobra.Command{
		Use: "who", GroupID: groupLook,
		Short:   "Name the primary and say where it is reached",
		Long:    "Names the primary of the largest epoch among the nodes that answer. It exits with 1 if none serves.",
		Example: "  " + e.App.Name + " who",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return e.who(cmd.Context()) },
	}
}

func (e *Env) who(ctx context.Context) error {
	var n admin.NodeStatus
	err := e.ask(ctx, func(ctx context.Context, c *admin.Client) (err error) {
		n, err = c.Who(ctx)
		return err
	})
	switch {
	case errors.Is(err, admin.ErrNoPrimary):
		return WithHint(errors.New("no node that answered is a primary that serves"), "%s", e.line("status"))
	case err != nil:
		return err
	case e.Global.JSON:
		return json.NewEncoder(e.Stdout).Encode(n)
	}
	fmt.Fprintf(e.Stdout, "%s   epoch %d   clients %s   admin %s\n", n.Node, n.Epoch, n.Client, n.Admin)
	return nil
}
