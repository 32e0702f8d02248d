package machine

import "understudy.dev/journal"

// Code says how a record was treated. The numbers are part of the digest and of
// the client protocol, and never reused.
type Code uint8

// The codes.
const (
	OK        Code = 0 // applied; Reply is the machine's
	Rejected  Code = 1 // applied; Reply is the text of the machine's error
	NoSession Code = 2 // the session is unknown or expired; not applied
	Forgotten Code = 3 // below the session's lowest unanswered request: answered before, the reply is gone; not applied again
	Hole      Code = 4 // an ordered session lacks an earlier request; not applied, send that one first
	Beyond    Code = 5 // further than the window above the lowest unanswered request; not applied
)

// String returns the code's word.
func (c Code) String() string {
	return [...]string{"ok", "rejected", "no session", "forgotten", "hole", "beyond the window"}[c]
}

// Applied reports whether the command was carried out, now or by an earlier record.
func (c Code) Applied() bool { return c <= Rejected }

// An Outcome is what one record led to.
type Outcome struct {
	Seq      journal.Seq // of the record that asked
	Code     Code
	Repeated bool   // a retry: Reply is the answer that the first attempt got
	Reply    []byte // read-only
}
