package cli

import (
	"bytes"
	"testing"

	"understudy.dev/admin"
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
