package admin

import (
	"errors"
	"slices"
)

// Exit codes of commands that ask a node (docs/json.md lists them).
const (
	ExitDone    = 0
	ExitNotDone = 1 // certainly nothing changed
	ExitUsage   = 2
	ExitUnknown = 3
	ExitRefused = 4 // by a safety check or an expectation; nothing changed
	ExitFailed  = 8 // fenced, and nobody serves
)

// ExitCode returns the exit code that tells what is certain after err, which a
// Client returned.
func ExitCode(err error) int {
	var p *Problem
	var lost *LostAnswerError
	switch {
	case err == nil:
		return ExitDone
	case errors.As(err, &lost):
		return ExitUnknown
	case errors.As(err, &p):
		return p.exitCode()
	case errors.Is(err, ErrUsage):
		return ExitUsage
	}
	return ExitNotDone
}

func (p *Problem) exitCode() int {
	if p.Type == BadRequest || p.Type == KeyReused {
		return ExitUsage
	}
	switch p.certain() {
	case CertainlyDone:
		return ExitDone
	case CertainlyNotDone:
		return ExitNotDone
	case CertainlyRefused:
		return ExitRefused
	case CertainlyFailed:
		return ExitFailed
	}
	return ExitUnknown
}

// certain returns what is certain after p. Of a type that only a later version
// knows it is what the answer says.
func (p *Problem) certain() Certainty {
	if slices.Contains(ProblemTypes(), p.Type) {
		_, certainty, _ := p.Type.fact()
		return certainty
	}
	return p.Certainty
}
