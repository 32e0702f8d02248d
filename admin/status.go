package admin

import (
	"bytes"
	"time"

	"understudy.dev/journal"
)

// A Role is what a node is in its group.
type Role string

// The roles. The empty Role is an unknown one and null in JSON.
const (
	Standby Role = "standby"
	Primary Role = "primary"
)

// Roles lists the roles.
func Roles() []Role { return []Role{Standby, Primary} }

// MarshalJSON writes the role's word, or null.
func (r Role) MarshalJSON() ([]byte, error) { return word(string(r)), nil }

// A State is what a node is doing: one set of words for JSON, metrics, logs and
// the command line.
type State string

// The states. The empty State is an unknown one and null in JSON.
const (
	Starting     State = "starting"
	Restoring    State = "restoring"
	Replaying    State = "replaying" // applying what was there before it started
	Following    State = "following"
	Promoting    State = "promoting"
	Serving      State = "serving"
	SteppingDown State = "stepping_down"
	Paused       State = "paused"
	Fenced       State = "fenced"
	Diverged     State = "diverged"
	Halted       State = "halted"
)

// States lists the states in the order of a node's life.
func States() []State {
	return []State{Starting, Restoring, Replaying, Following, Promoting, Serving, SteppingDown, Paused, Fenced, Diverged, Halted}
}

// MarshalJSON writes the state's word, or null.
func (s State) MarshalJSON() ([]byte, error) { return word(string(s)), nil }

// word returns a word without special characters as JSON, the empty one as null.
func word(s string) []byte {
	if s == "" {
		return []byte("null")
	}
	return []byte(`"` + s + `"`)
}

// A Time is RFC 3339 in UTC in JSON. The zero Time is unknown and null.
type Time struct{ time.Time }

// At returns t as a Time.
func At(t time.Time) Time { return Time{t.UTC()} }

// MarshalJSON writes the time, or null.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return t.UTC().MarshalJSON()
}

// UnmarshalJSON is the inverse of MarshalJSON.
func (t *Time) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		*t = Time{}
		return nil
	}
	return t.Time.UnmarshalJSON(b)
}

// A Status is what GET /admin/status answers: a group as one node sees it.
type Status struct {
	Group          string        `json:"group"`
	Epoch          journal.Epoch `json:"epoch"`            // the open one; 0 if none was opened yet
	EpochStartedAt Time          `json:"epoch_started_at"` // EpochStart's record time
	Journal        JournalStatus `json:"journal"`
	Nodes          []NodeStatus  `json:"nodes"` // the node that answers is first
}

// A JournalStatus is the journal as one node sees it.
type JournalStatus struct {
	URL           string       `json:"url"` // without secrets
	Up            bool         `json:"up"`  // the last request succeeded
	FirstSeq      *journal.Seq `json:"first_seq"`
	TailSeq       *journal.Seq `json:"tail_seq"` // a sample, never a safety argument
	TailTime      Time         `json:"tail_time"`
	TailSampledAt Time         `json:"tail_sampled_at"`
	SizeBytes     *int64       `json:"size_bytes"`
	Error         string       `json:"error,omitempty"` // why it is not up
	Capabilities  Capabilities `json:"capabilities"`
}

// Capabilities is what a journal declares.
type Capabilities struct {
	ConditionalAppend bool     `json:"conditional_append"` // a fence shuts older writers out
	DurableAck        bool     `json:"durable_ack"`        // an acknowledgement survives the loss of power
	ReadOnly          bool     `json:"read_only"`
	Survives          []string `json:"survives"` // of process, machine, disk, node
	Notes             []string `json:"notes"`    // what an operator should know
}

// CapabilitiesOf puts what a backend declares into the words of the API.
func CapabilitiesOf(c journal.Capabilities) Capabilities {
	out := Capabilities{
		ConditionalAppend: c.Fence, DurableAck: c.Survives&journal.SurvivesMachine != 0, ReadOnly: c.ReadOnly,
		Survives: []string{}, Notes: append([]string{}, c.Notes...),
	}
	for _, one := range []journal.Survival{journal.SurvivesProcess, journal.SurvivesMachine, journal.SurvivesDisk, journal.SurvivesNode} {
		if c.Survives&one != 0 {
			out.Survives = append(out.Survives, one.String())
		}
	}
	return out
}

// A NodeStatus is one node's row. Of a node that does not answer it is the last
// row seen, with Reachable false and what changes by the second unknown.
type NodeStatus struct {
	Node      string `json:"node"`
	Role      Role   `json:"role"`
	State     State  `json:"state"`
	Reachable bool   `json:"reachable"`
	SeenAt    Time   `json:"seen_at"`         // when this row was true
	Error     string `json:"error,omitempty"` // why it is unreachable, halted or diverged

	Epoch            journal.Epoch    `json:"epoch"` // the open one, as this node knows it
	AppliedSeq       journal.Seq      `json:"applied_seq"`
	AppliedTime      Time             `json:"applied_time"` // of that record
	Cursor           journal.Position `json:"cursor"`
	CommandsReplayed uint64           `json:"commands_replayed"` // since the process started
	RecordsPerSecond *float64         `json:"records_per_second"`
	CaughtUp         *bool            `json:"caught_up"`
	Lag              Lag              `json:"lag"`

	Checkpoint *Checkpoint `json:"checkpoint"` // the last digest compared
	StateHash  string      `json:"state_hash"` // the digest at applied_seq, "" if not computed
	Promotable *bool       `json:"promotable"`
	RefusedBy  []CheckID   `json:"refused_by"` // the checks that forbid a promotion

	Sessions         *int   `json:"sessions"`
	InflightCommands *int   `json:"inflight_commands"`
	Machine          string `json:"machine"`
	LogicVersion     uint32 `json:"logic_version"`
	Build            string `json:"build"`
	StartedAt        Time   `json:"started_at"`
	Admin            string `json:"admin"`  // URL of its admin listener, as reached
	Client           string `json:"client"` // address for clients' commands
}

// Lag is tail minus applied. Each part may be unknown, which is nil and never 0.
type Lag struct {
	Records        *uint64  `json:"records"`
	Bytes          *uint64  `json:"bytes"`
	Seconds        *float64 `json:"seconds"`          // time of the tail's record minus that of the applied one
	CatchUpSeconds *float64 `json:"catch_up_seconds"` // estimate at the present rate
}

// A Checkpoint is a digest that was compared with the journal's.
type Checkpoint struct {
	Seq    journal.Seq `json:"seq"`
	Agrees *bool       `json:"agrees"` // nil if it could not be compared
}

// unreachable returns the row of a node that gave no answer.
func (n NodeStatus) unreachable(url string, why error) NodeStatus {
	n.Reachable, n.Admin, n.Error = false, url, why.Error()
	n.Lag, n.Promotable, n.RecordsPerSecond, n.CaughtUp = Lag{}, nil, nil, nil
	n.Sessions, n.InflightCommands, n.RefusedBy = nil, nil, []CheckID{}
	return n
}
