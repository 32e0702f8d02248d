package admin

import "slices"

// A CheckID names a check before a promotion.
type CheckID string

// The checks.
const (
	CheckRole       CheckID = "role"       // this node is a standby that can be promoted
	CheckJournal    CheckID = "journal"    // reachable
	CheckCapability CheckID = "capability" // it has a fence
	CheckGap        CheckID = "gap"        // no record is missing
	CheckHash       CheckID = "hash"       // digests agree
	CheckBuild      CheckID = "build"      // this logic version may go on with the history
	CheckTail       CheckID = "tail"       // it did not move backwards
	CheckLag        CheckID = "lag"        // not too much to drain
	CheckPrimary    CheckID = "primary"    // the old primary does not answer
	CheckDurability CheckID = "durability" // an acknowledgement survives the loss of power
	CheckOther      CheckID = "other"      // no other standby is further on
	CheckDisk       CheckID = "disk"
	CheckClock      CheckID = "clock"
)

// CheckIDs lists the checks in the order in which they are shown.
func CheckIDs() []CheckID {
	return []CheckID{
		CheckRole, CheckJournal, CheckCapability, CheckGap, CheckHash, CheckBuild, CheckTail,
		CheckLag, CheckPrimary, CheckDurability, CheckOther, CheckDisk, CheckClock,
	}
}

// AcceptableIDs lists the checks whose warning an operator may accept.
func AcceptableIDs() []CheckID {
	return []CheckID{CheckHash, CheckLag, CheckPrimary, CheckDurability, CheckDisk, CheckClock}
}

// A Verdict is what a check found.
type Verdict string

// The verdicts.
const (
	VerdictOK   Verdict = "ok"
	VerdictInfo Verdict = "info" // worth knowing; refuses nothing
	VerdictWarn Verdict = "warn" // refuses, unless accepted
	VerdictFail Verdict = "fail" // refuses
)

// A Check is one check's result.
type Check struct {
	ID         CheckID  `json:"id"`
	Verdict    Verdict  `json:"verdict"`
	Acceptable bool     `json:"acceptable"` // set by the server: a warning of a check that may be accepted
	Detail     string   `json:"detail"`
	Measured   *float64 `json:"measured"` // nil if it is no number or unknown
	Limit      *float64 `json:"limit"`
	Unit       string   `json:"unit,omitempty"` // of both
}

// Checks is what GET /admin/checks answers.
type Checks struct {
	For    string    `json:"for"` // promote
	Group  string    `json:"group"`
	Node   string    `json:"node"`
	OK     bool      `json:"ok"` // a promotion that accepts nothing would not be refused
	Refuse []CheckID `json:"refused_by"`
	Checks []Check   `json:"checks"`
	At     Time      `json:"at"`
}

// Refused returns the checks that forbid a promotion which accepts the named ones.
func Refused(checks []Check, accept []CheckID) []CheckID {
	refused := []CheckID{}
	for _, c := range checks {
		if c.Verdict == VerdictFail || c.Verdict == VerdictWarn && !(c.acceptable() && slices.Contains(accept, c.ID)) {
			refused = append(refused, c.ID)
		}
	}
	return refused
}

func (c Check) acceptable() bool {
	return c.Verdict == VerdictWarn && slices.Contains(AcceptableIDs(), c.ID)
}

// marked returns a copy of checks, never nil, with Acceptable set.
func marked(checks []Check) []Check {
	out := append([]Check{}, checks...)
	for i := range out {
		out[i].Acceptable = out[i].acceptable()
	}
	return out
}
