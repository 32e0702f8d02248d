package node_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
	"understudy.dev/node"
)

// RULES 21: where the journal ends cannot be read, the checks about the tail say
// that it is unknown; nothing is shown as fine, and no sample as old as the world.
func TestChecksOfAnUnreadableTailAreUnknown(t *testing.T) {
	for _, once := range []bool{true, false} {
		t.Run(map[bool]string{true: "it was read before", false: "it was never read"}[once], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := journaltest.NewFaulty(t, memjournal.New(), 1)
				if !once {
					f.Rate(journaltest.OpEnd, 1, journaltest.Fault{Kind: journaltest.Vanish})
				}
				b := join(t, f, "b", nil)
				time.Sleep(time.Second)
				f.Rate(journaltest.OpEnd, 1, journaltest.Fault{Kind: journaltest.Vanish})
				for _, c := range b.Checks(t.Context()) {
					switch c.ID {
					case "journal":
						if c.Verdict != node.Fail {
							t.Errorf("journal: %v", c.Verdict)
						}
					case "tail", "lag":
						if c.Verdict != node.Fail || !strings.HasPrefix(c.Detail, "unknown: ") {
							t.Errorf("%s: %v, %s; want it to fail as unknown", c.ID, c.Verdict, c.Detail)
						}
					}
				}
				f.Heal()
				for _, c := range b.Checks(t.Context()) {
					if c.Verdict != node.OK {
						t.Errorf("%s after the journal was back: %v, %s", c.ID, c.Verdict, c.Detail)
					}
				}
			})
		})
	}
}
