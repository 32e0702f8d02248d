// Package machine is the contract with the user's deterministic code, and the
// one function that ever applies a command to it.
//
// # The contract
//
// A [Machine] is a state and three methods. Apply must depend on nothing but the
// state, the command and the [Context]: no clock, no randomness of its own, no map
// order, no goroutine, no environment. Then the same records give the same
// replies and the same state on every node, live or replayed.
//
// A [Definition] names the machine, the commands it knows and the limits of its
// sessions. All of it is part of the machine: nodes that share a journal must
// share the definition.
//
// # Replica
//
// A [Replica] is the machine with its sessions, digest and position. Its method
// ApplyBatch is the only code that calls Apply: live on the primary, on the
// standby, in offline replay and in verification alike.
//
// # What this package does not do
//
// It does not read or write a journal, and it knows no network.
package machine

import (
	"io"
)

// A Machine is the user's deterministic code. One goroutine at a time calls it.
type Machine interface {
	// Apply carries out one command. An error is a rejection: an answer like any
	// other, recorded in the digest and remembered for retries. The machine must
	// have changed nothing then, or always the same.
	//
	// Apply must not keep cmd.Data or ctx after it returns. A panic stops the node
	// with the Seq.
	Apply(ctx *Context, cmd Command) (reply []byte, err error)

	// Snapshot writes the whole state. The same state gives the same bytes.
	Snapshot(w io.Writer) error

	// Restore replaces the state by one that Snapshot wrote. After an error the
	// machine is unusable.
	Restore(r io.Reader) error
}

// A Command asks the machine for something. Its name and version are among
// those of the Definition.
type Command struct {
	Name    string
	Version uint32
	Data    []byte // read-only, valid during Apply
}

// A CommandType is a command that a machine knows, in the versions from Min to Max.
type CommandType struct {
	Name     string
	Min, Max uint32 // 0, 0 means version 0 only
}

// A Definition is what a machine is. It is part of the history: change Version
// when any of it, or what Apply decides, changes.
type Definition struct {
	Name     string         // such as "exchange"; in the journal's environment pin
	Version  uint32         // of the logic
	New      func() Machine // an empty state
	Commands []CommandType  // all that Apply knows; others are refused before they are sequenced
	Window   int            // replies a session keeps; default 1024
	Sessions int            // sessions kept, the least recently used goes first; default 4096
}

// Defaults of a Definition. A client of this project keeps at most 1,024
// commands in flight.
const (
	DefaultWindow   = 1024
	DefaultSessions = 4096
)
