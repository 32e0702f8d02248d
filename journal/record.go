package journal

import (
	"fmt"
	"strconv"
	"time"
)

// Time is a record's time in nanoseconds since 1970, UTC. Along a journal it
// increases strictly, whoever writes; it is never compared with a local clock.
type Time int64

// TimeOf converts a wall clock reading.
func TimeOf(t time.Time) Time { return Time(t.UnixNano()) }

// UTC returns the time as a time.Time.
func (t Time) UTC() time.Time { return time.Unix(0, int64(t)).UTC() }

// String returns the time in RFC 3339 with nanoseconds.
func (t Time) String() string { return t.UTC().Format(time.RFC3339Nano) }

// Kind says what a record is.
type Kind uint8

// The kinds. Their numbers are part of the format and never reused.
const (
	KindCommand    Kind = 1  // a command for the machine
	KindEpochStart Kind = 2  // the first record of a tenure: environment pin and who promoted (JSON)
	KindSession    Kind = 3  // opens a client session whose id is this record's Seq
	KindCheckpoint Kind = 4  // a digest to compare with
	KindDevice     Kind = 16 // harness: a device command
	KindKernel     Kind = 17 // harness: a kernel command
	KindSeed       Kind = 18 // harness: an RNG seed of an actor
	KindBatchSize  Kind = 19 // harness: a batch size of an actor
	KindValue      Kind = 20 // harness: any other input of the world
	KindOutput     Kind = 21 // harness: something the program produced
	KindMode       Kind = 22 // harness: a recorded change of mode
)

var kindNames = map[Kind]string{
	KindCommand: "command", KindEpochStart: "epoch-start", KindSession: "session", KindCheckpoint: "checkpoint",
	KindDevice: "device", KindKernel: "kernel", KindSeed: "seed", KindBatchSize: "batch-size",
	KindValue: "value", KindOutput: "output", KindMode: "mode",
}

// String returns the kind's name, or "kind-N" for one this version does not know.
func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return "kind-" + strconv.Itoa(int(k))
}

// ParseKind is the inverse of String.
func ParseKind(s string) (Kind, error) {
	for k, name := range kindNames {
		if name == s {
			return k, nil
		}
	}
	var n uint8
	if _, err := fmt.Sscanf(s, "kind-%d", &n); err == nil {
		return Kind(n), nil
	}
	return 0, fmt.Errorf("unknown kind %q", s)
}

// A Record is one thing that happened.
type Record struct {
	Seq     Seq    // from 1, dense over live records; set by the reader from the batch
	Epoch   Epoch  // the tenure that wrote it; set by the reader from the batch
	Time    Time   // strictly increasing along the journal
	Kind    Kind   // what it is
	Name    string // the command's type, the device command's name, the kernel's kind, the actor's path
	Version uint32 // of the data's schema
	Client  uint64 // session id; 0 if none
	Request uint64 // the client's number of this command; Client and Request are the idempotency key
	Low     uint64 // the client's lowest unanswered request; at most Request
	Data    []byte // opaque; read-only
}

// MaxName is the length limit of a record's name in bytes.
const MaxName = 1024
