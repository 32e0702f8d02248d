package client_test

import (
	"context"
	"fmt"
	"net"
	"strings"

	"understudy.dev/client"
	"understudy.dev/journal"
	"understudy.dev/node"
)

// A shouter stands for a node: it answers every command in capitals.
type shouter struct{}

func (shouter) SubmitAsync(r node.Request, done func(node.Result)) {
	var res node.Result
	res.Outcome.Seq = 1
	res.Outcome.Reply = []byte(strings.ToUpper(string(r.Data)))
	done(res)
}

func (shouter) Leader() (primary bool, addr string, epoch journal.Epoch) { return true, "", 1 }

func Example() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- client.Serve(ctx, ln, shouter{}, client.ServerConfig{Machine: "shouter"}) }()

	c, err := client.Dial(ctx, client.Config{Addrs: []string{ln.Addr().String()}, Machine: "shouter"})
	if err != nil {
		fmt.Println(err)
		return
	}
	answer, err := c.Submit(ctx, "shout", 0, []byte("curtain up"))
	fmt.Println(answer.Verdict, string(answer.Reply), err)

	c.Close()
	cancel()
	fmt.Println(<-served)
	// Output:
	// done CURTAIN UP <nil>
	// <nil>
}
