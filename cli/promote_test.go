package cli

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"understudy.dev/admin"
	"understudy.dev/journal"
	"understudy.dev/node"
)

// A check that warns is shown as a warning, also where it refuses nothing.
func TestWarningsAreShownAsWarnings(t *testing.T) {
	checks := checksOf([]node.Check{
		{ID: "role", Verdict: node.OK, Detail: "standby"},
		{ID: "lag", Verdict: node.Fail, Acceptable: true, Detail: "far behind"},
		{ID: "clock", Verdict: node.Warn, Detail: "the log is ahead"},
	})
	if got := admin.Refused(checks, []admin.CheckID{admin.CheckLag}); len(got) != 0 {
		t.Errorf("refused by %v, want nothing", got)
	}
	var out bytes.Buffer
	printChecks(&out, checks)
	want := "  ok      role        standby\n" +
		"  warn    lag         far behind\n" +
		"  warn    clock       the log is ahead\n\n"
	if got := out.String(); got != want {
		t.Errorf("shown as\n%s\nwant\n%s", got, want)
	}
}

// promote --yes expects the epoch that was open when it looked, so that of two such
// commands the second does not undo the first; a node that is still replaying does not
// know it.
func TestPromoteExpectsTheEpochThatItSaw(t *testing.T) {
	epoch := func(e journal.Epoch) *journal.Epoch { return &e }
	tests := []struct {
		name  string
		state admin.State
		args  []string
		want  *journal.Epoch
	}{
		{"a standby that is level", admin.Following, []string{"--yes"}, epoch(7)},
		{"one that is replaying", admin.Replaying, []string{"--yes"}, nil},
		{"an epoch that was named", admin.Following, []string{"--yes", "--expect-epoch", "5"}, epoch(5)},
		{"a dry run", admin.Following, []string{"--dry-run"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got *admin.PromoteRequest
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var answer any = admin.Status{Group: "default", Epoch: 7, Nodes: []admin.NodeStatus{
					{Node: "b", Role: admin.Standby, State: tt.state, Reachable: true, Epoch: 7, Admin: "http://" + r.Host},
				}}
				if r.Method == http.MethodPost {
					got = new(admin.PromoteRequest)
					if err := json.NewDecoder(r.Body).Decode(got); err != nil {
						t.Error(err)
					}
					answer = admin.Report{Outcome: admin.Promoted, Would: admin.WouldPromote, Node: "b", FromEpoch: 7, Epoch: 8, Checks: []admin.Check{}}
				}
				w.Header().Set("Content-Type", "application/json")
				if err := json.NewEncoder(w).Encode(answer); err != nil {
					t.Error(err)
				}
			}))
			defer srv.Close()
			run(t.Context(), "mem:x", append([]string{"promote", "--admin", srv.URL}, tt.args...)...).want(t, 0)
			if got == nil {
				t.Fatal("nothing was asked")
			}
			if e := got.Expect.Epoch; (e == nil) != (tt.want == nil) || e != nil && *e != *tt.want {
				t.Errorf("expected epoch %v, want %v", e, tt.want)
			}
		})
	}
}
