package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"understudy.dev/admin"
)

// Where no node serves, submit says what the nodes are: a halted one is no standby.
func TestSubmitSaysWhatTheNodesAre(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		err := json.NewEncoder(w).Encode(admin.Status{Nodes: []admin.NodeStatus{
			{Node: "a", State: admin.Halted, Reachable: true, Client: "127.0.0.1:1"},
			{Node: "b", State: admin.Following, Reachable: true, Client: "127.0.0.1:2"},
		}})
		if err != nil {
			t.Error(err)
		}
	}))
	defer srv.Close()
	run(t.Context(), "mem:x", "submit", "--wait", "50ms", "--admin", srv.URL, "put", "1").want(t, 1, "no node serves: a is halted, b is following\n", "hint: understudy status")
}
