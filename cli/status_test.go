package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"understudy.dev/admin"
	"understudy.dev/journal"
)

// A status of rows that could mislead says how they are meant.
func TestStatusExplainsItsRows(t *testing.T) {
	row := func(name string, state admin.State, epoch journal.Epoch) admin.NodeStatus {
		return admin.NodeStatus{Node: name, State: state, Role: admin.Primary, Epoch: epoch, Reachable: true, Admin: "http://" + name}
	}
	tests := []struct {
		name  string
		group string // of the flags
		rows  []admin.NodeStatus
		want  []string
	}{
		{"one primary", "orders", []admin.NodeStatus{row("a", admin.Serving, 2), row("b", admin.Following, 2)}, nil},
		{
			"one that was shut out", "default",
			[]admin.NodeStatus{row("a", admin.Serving, 1), row("b", admin.Serving, 2)},
			[]string{"  warn  a still takes itself for the primary of epoch 1; epoch 2 has shut it out, so it can answer nobody"},
		},
		{"another group", "sales", []admin.NodeStatus{row("a", admin.Serving, 2)}, []string{"  warn  these are nodes of group orders, not of sales"}},
		{
			"one name twice", "orders",
			[]admin.NodeStatus{row("a", admin.Serving, 2), row("a", admin.Following, 2)},
			[]string{"  warn  2 processes have the name a, at http://a, http://a: start each with a --node of its own"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			e := &Env{App: App{Name: "understudy"}, Stdout: &out, Now: time.Now, Global: Global{Group: tt.group}}
			if err := e.printStatus(t.Context(), admin.Status{Group: "orders", Epoch: 1, Nodes: tt.rows}); err != nil {
				t.Fatal(err)
			}
			var got []string
			for line := range strings.Lines(out.String()) {
				if strings.HasPrefix(line, "  warn") {
					got = append(got, strings.TrimRight(line, "\n"))
				}
			}
			if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
				t.Errorf("warnings %q, want %q", got, tt.want)
			}
		})
	}
}

// A row of a node that does not answer leaves the columns of the others in line.
func TestUnreachableRowKeepsTheColumns(t *testing.T) {
	var out bytes.Buffer
	e := &Env{App: App{Name: "understudy"}, Stdout: &out, Now: time.Now, Global: Global{Group: "orders"}}
	err := e.printStatus(t.Context(), admin.Status{Group: "orders", Epoch: 1, Journal: admin.JournalStatus{Up: true}, Nodes: []admin.NodeStatus{
		{Node: "a-long-name", State: admin.Serving, Role: admin.Primary, Reachable: true},
		{Node: "gone?"},
		{Node: "c", State: admin.Following, Role: admin.Standby, Reachable: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")[3:]
	at := strings.Index(lines[0], "state")
	if strings.Index(lines[1], "serving") != at || strings.Index(lines[3], "following") != at {
		t.Errorf("the column state is out of line:\n%s", out.String())
	}
	if want := "  gone?        ? unreachable from here, never seen"; lines[2] != want {
		t.Errorf("row %q, want %q", lines[2], want)
	}
}
