package sinks

import (
	"encoding/json"
	"strconv"

	"understudy.dev/harness"
	"understudy.dev/journal"
)

// A Message is an entry as JSON. A path or name that is not UTF-8, as old records
// may have, is shown with U+FFFD for each byte that is not.
type Message struct {
	Number uint64 `json:"number"`         // from 1, dense
	Seq    uint64 `json:"seq"`            // the journal's own number
	Time   string `json:"time"`           // RFC 3339 with nanoseconds, UTC
	Micros int64  `json:"micros"`         // since the start of the run
	Run    uint64 `json:"run"`            // epoch of the tenure that recorded it
	Kind   string `json:"kind"`           // device, kernel, seed, batch-size, value or output
	Path   string `json:"path,omitempty"` // the actor
	Name   string `json:"name,omitempty"` // the device command, kernel or output
	Data   []byte `json:"data,omitempty"` // base64

	Version uint32 `json:"version,omitempty"` // of a machine's command

	Seed      string `json:"seed,omitempty"`       // of a seed, in decimal: JSON's numbers end at 2^53
	BatchSize *int   `json:"batch_size,omitempty"` // of a batch size
}

// MessageOf returns e as a message that shares its data.
func MessageOf(e *harness.Entry) Message {
	m := Message{
		Number: e.Number, Seq: uint64(e.Seq), Time: e.Time.String(), Micros: e.At.Microseconds(), Run: uint64(e.Run),
		Kind: e.Kind.String(), Path: e.Path, Name: e.Name, Data: e.Data,
		Version: e.Version,
	}
	switch e.Kind {
	case journal.KindSeed:
		m.Seed = strconv.FormatUint(e.Seed(), 10)
	case journal.KindBatchSize:
		n := e.BatchSize()
		m.BatchSize = &n
	}
	return m
}

// encode returns e as one line. A Message can always be encoded.
func encode(e *harness.Entry) []byte {
	line, err := json.Marshal(MessageOf(e))
	if err != nil {
		panic(err)
	}
	return append(line, '\n')
}
