package cli

import (
	"context"

	"understudy.dev/admin"
)

// adminClient returns a client of the nodes that the flags name.
func (e *Env) adminClient() (*admin.Client, error) {
	token, err := e.token()
	if err != nil {
		return nil, err
	}
	return &admin.Client{BaseURLs: e.Global.Admin, Token: token}, nil
}

// ask calls f with a client and the limit of one request.
func (e *Env) ask(ctx context.Context, f func(ctx context.Context, c *admin.Client) error) error {
	c, err := e.adminClient()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, e.Global.Timeout)
	defer cancel()
	return f(ctx, c)
}

// status asks the nodes for their status.
func (e *Env) status(ctx context.Context) (s admin.Status, err error) {
	err = e.ask(ctx, func(ctx context.Context, c *admin.Client) error {
		s, err = c.Status(ctx)
		return err
	})
	return s, err
}
