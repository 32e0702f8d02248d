package client

import (
	"errors"
	"fmt"

	"understudy.dev/journal"
)

// Verdict is the truth about a command.
type Verdict uint8

// The verdicts.
const (
	Done     Verdict = iota // carried out, once; Reply is the machine's
	Rejected                // carried out, once; the machine's answer was an error and Reply is its text
	Refused                 // certainly not done, and the same command will be refused again
	NotDone                 // certainly not done, and it will not be; it may be submitted again
	Unknown                 // it may be done, or may yet be
)

// String returns the verdict's words.
func (v Verdict) String() string {
	return [...]string{"done", "rejected", "refused", "not done", "unknown"}[v]
}

// An Answer is the one answer to a command.
type Answer struct {
	Verdict  Verdict
	Seq      journal.Seq // of Done and Rejected: the record of the attempt that was answered
	Repeated bool        // of Done and Rejected: an earlier attempt had carried it out
	Reply    []byte      // of Done and Rejected; read-only
	Err      error       // of the others: matches ErrRefused, ErrNotDone or ErrUnknown
}

// Test for these with errors.Is.
var (
	// ErrRefused: not done; the same command will be refused again.
	ErrRefused = errors.New("client: refused")

	// ErrNotDone: certainly not done.
	ErrNotDone = errors.New("client: not done")

	// ErrUnknown: the command may be done, or may yet be.
	ErrUnknown = errors.New("client: outcome unknown")

	// ErrClosed: the client is closed.
	ErrClosed = errors.New("client: closed")

	// ErrMachine: the node runs another machine than the client expects.
	ErrMachine = errors.New("client: another machine")

	// ErrVersion: client and node have no version of the protocol in common.
	ErrVersion = errors.New("client: another version of the protocol")
)

func refused(words []byte) Answer {
	return Answer{Verdict: Refused, Err: fmt.Errorf("%w: %s", ErrRefused, words)}
}

func notDone(cause error) Answer {
	return Answer{Verdict: NotDone, Err: fmt.Errorf("%w: %w", ErrNotDone, cause)}
}

func unknown(cause error) Answer {
	return Answer{Verdict: Unknown, Err: fmt.Errorf("%w: %w", ErrUnknown, cause)}
}

// Why an answer is what it is.
var (
	errDeadline  = errors.New("no answer in time")
	errExpired   = errors.New("the session expired before the command was answered")
	errForgotten = errors.New("its answer was dropped by the session")
	errNumbering = errors.New("the session cannot reach this command any more")
)
