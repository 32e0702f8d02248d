package node

import (
	"understudy.dev/journal"
	"understudy.dev/machine"
)

// A Request is a command on its way into the journal.
type Request struct {
	Kind    journal.Kind // KindCommand, or KindSession to open a session
	Name    string       // the command's type; of a session "ordered" or ""
	Version uint32
	Client  uint64 // session, or 0: then a retry is a new command
	Number  uint64 // the client's number of this command, from 1
	Low     uint64 // the client's lowest unanswered number
	Data    []byte // unchanged until the result is there
}

// Status is what is certain about a request.
type Status uint8

// The statuses. The numbers are part of the client protocol.
const (
	Done       Status = 0 // in the journal and applied; Outcome says how it went
	Refused    Status = 1 // not done, and the same request will be refused again
	NotDone    Status = 2 // certainly not done; it may be sent again
	NotPrimary Status = 3 // certainly not done: this node is not the primary; Primary says who is, if known
	Unknown    Status = 4 // it may be done, or may yet be; send it again with the same session and number
)

// String returns the status's word.
func (s Status) String() string {
	return [...]string{"done", "refused", "not done", "not primary", "unknown"}[s]
}

// A Result is the one answer to a request.
type Result struct {
	Status  Status
	Outcome machine.Outcome // of Done
	Err     error           // why, of the others
	Primary string          // client address of the primary, of NotPrimary; "" if not known
}
