package admin

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A condition is one thing that a health endpoint looks at. It holds if its fault
// is empty.
type condition struct {
	name  string
	fault string
}

// A limits says how far behind a standby may be. Below 0 is no limit.
type limits struct {
	records int64
	lag     time.Duration
}

// live looks at the node's loop alone: restarting helps against nothing else.
func live(s *Snapshot, now time.Time, stuckAfter time.Duration) []condition {
	c := condition{name: "loop"}
	if !s.BusySince.IsZero() && now.Sub(s.BusySince) > stuckAfter {
		c.fault = fmt.Sprintf("stuck for %v (limit %v)", now.Sub(s.BusySince).Truncate(time.Second), stuckAfter)
	}
	return []condition{c}
}

// readyStates are those of a node that does its part. Traffic goes by /primary,
// never by readiness, so a standby is ready: rollouts count ready nodes.
var readyStates = []State{Following, Promoting, Serving, SteppingDown, Paused}

// ready looks at what a node needs to do its part.
func ready(s *Snapshot, l limits) []condition {
	c := []condition{inState(s, readyStates...), journalUp(s)}
	if s.Node.State == Following {
		c = append(c, withinLag(s, l))
	}
	return c
}

// primary looks at what a primary needs to take commands.
func primary(s *Snapshot) []condition { return []condition{inState(s, Serving), journalUp(s)} }

// standby looks at what a standby needs to be of use to readers.
func standby(s *Snapshot, l limits) []condition {
	return []condition{inState(s, Following), journalUp(s), withinLag(s, l)}
}

func inState(s *Snapshot, want ...State) condition {
	c := condition{name: "state"}
	if !slices.Contains(want, s.Node.State) {
		c.fault = string(s.Node.State)
		if c.fault == "" {
			c.fault = "unknown"
		}
		if behind := s.Node.Lag.Records; s.Node.State == Replaying && behind != nil {
			c.fault += fmt.Sprintf(", %d records behind", *behind)
		}
	}
	return c
}

func journalUp(s *Snapshot) condition {
	c := condition{name: "journal"}
	if s.Journal.Up {
		return c
	}
	c.fault = "unreachable"
	if s.Node.State == Serving {
		c.fault = "no appends possible"
	}
	if s.Journal.Error != "" {
		c.fault += ": " + strings.ReplaceAll(s.Journal.Error, "\n", "; ") // one condition is one line
	}
	return c
}

// withinLag holds only if the lag is known where there is a limit: unknown is
// never zero.
func withinLag(s *Snapshot, l limits) condition {
	c := condition{name: "lag"}
	lag := s.Node.Lag
	switch {
	case l.records >= 0 && lag.Records == nil:
		c.fault = fmt.Sprintf("unknown (limit %d records)", l.records)
	case l.records >= 0 && *lag.Records > uint64(l.records):
		c.fault = fmt.Sprintf("%d records behind (limit %d)", *lag.Records, l.records)
	case l.lag >= 0 && lag.Seconds == nil:
		c.fault = fmt.Sprintf("unknown (limit %v)", l.lag)
	case l.lag >= 0 && *lag.Seconds > l.lag.Seconds():
		c.fault = fmt.Sprintf("%.3fs behind (limit %v)", *lag.Seconds, l.lag)
	}
	return c
}
