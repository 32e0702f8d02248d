package cli

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"understudy.dev/admin"
	"understudy.dev/node"
)

// A node warns once of each other process that bears its name.
func TestNodeWarnsOfItsNamesakes(t *testing.T) {
	at := func(hour int) admin.Time { return admin.At(time.Date(2026, 11, 22, hour, 0, 0, 0, time.UTC)) }
	row := func(name string, hour int) admin.NodeStatus {
		return admin.NodeStatus{Node: name, StartedAt: at(hour), Reachable: true, Admin: "http://h:" + name}
	}
	gone := row("a", 5)
	gone.Reachable = false
	tests := []struct {
		name    string
		primary string
		rows    []admin.NodeStatus
		fault   error
		asked   []string // nil: nobody
		warns   int
	}{
		{name: "itself and another", primary: "http://own", rows: []admin.NodeStatus{row("a", 1), row("b", 2)}, asked: []string{"http://peer"}},
		{name: "a primary of its name", primary: "http://other", rows: []admin.NodeStatus{row("a", 2)}, asked: []string{"http://other", "http://peer"}, warns: 1},
		{name: "two of its name", rows: []admin.NodeStatus{row("a", 2), row("a", 3)}, asked: []string{"http://peer"}, warns: 2},
		{name: "one that is gone", rows: []admin.NodeStatus{gone}, asked: []string{"http://peer"}},
		{name: "nobody answers", fault: errors.New("refused"), asked: []string{"http://peer"}},
		{name: "a socket of another machine", primary: "unix:///run/a.sock", asked: []string{"http://peer"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			var asked []string
			s := namesakes{
				overview: func() node.Overview { return node.Overview{Node: "a"} },
				started:  at(1), own: "http://own", peers: []string{"http://peer", "http://own"},
				ask: func(_ context.Context, urls []string) ([]admin.NodeStatus, error) {
					asked = urls
					return tt.rows, tt.fault
				},
				log: slog.New(slog.NewTextHandler(&log, nil)),
			}
			s.look(t.Context(), tt.primary)
			s.look(t.Context(), tt.primary)
			if !slices.Equal(asked, tt.asked) {
				t.Errorf("asked %v, want %v", asked, tt.asked)
			}
			if got := strings.Count(log.String(), "event=node.name_taken"); got != tt.warns {
				t.Errorf("%d warnings, want %d: %s", got, tt.warns, log.String())
			}
		})
	}
}
