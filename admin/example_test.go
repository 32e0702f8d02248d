package admin_test

import (
	"context"
	"fmt"

	"understudy.dev/admin"
)

// node is the smallest that can be served: a standby that promotes at once.
type node struct{}

func (node) Snapshot() admin.Snapshot {
	return admin.Snapshot{
		Group: "orders", Epoch: 7, Journal: admin.JournalStatus{URL: "mem:", Up: true},
		Node: admin.NodeStatus{Node: "b", Role: admin.Standby, State: admin.Following, Epoch: 7, AppliedSeq: 41},
	}
}

func (node) Checks(context.Context) ([]admin.Check, error) {
	return []admin.Check{{ID: admin.CheckPrimary, Verdict: admin.VerdictWarn, Detail: "a still answers"}}, nil
}

func (n node) Promote(ctx context.Context, req admin.PromoteRequest) (admin.Report, error) {
	checks, err := n.Checks(ctx)
	if err != nil {
		return admin.Report{}, err
	}
	if refused := admin.Refused(checks, req.Accept); len(refused) > 0 {
		return admin.Report{}, &admin.Problem{Type: admin.ChecksFailed, RefusedBy: refused, Checks: checks}
	}
	return admin.Report{Group: "orders", Node: "b", FromEpoch: 7, Epoch: 8, Checks: checks}, nil
}

// A node is served on loopback, asked how it is, and promoted.
func Example() {
	ctx := context.Background()
	server, err := admin.Start(admin.Config{Admin: "127.0.0.1:0", Public: "127.0.0.1:0"}, node{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close(ctx)

	client := &admin.Client{BaseURLs: []string{server.AdminURL()}}
	defer client.Close()
	status, err := client.Status(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	b := status.Nodes[0]
	fmt.Println(b.Node, b.Role, b.State, "lag known:", b.Lag.Records != nil)

	_, err = client.Promote(ctx, admin.PromoteRequest{})
	fmt.Println(err, "exit code", admin.ExitCode(err))

	report, err := client.Promote(ctx, admin.PromoteRequest{Accept: []admin.CheckID{admin.CheckPrimary}})
	fmt.Println("epoch", report.Epoch, "exit code", admin.ExitCode(err))
	// Output:
	// b standby following lag known: false
	// checks-failed: primary exit code 4
	// epoch 8 exit code 0
}
