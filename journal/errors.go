package journal

import (
	"cmp"
	"errors"
	"fmt"
)

// Test for these with errors.Is. Backends wrap them together with their own
// cause, so errors.As still finds that underneath.
var (
	// ErrConflict: the journal does not end where the writer believed. This
	// append wrote nothing; what an earlier attempt did is not said.
	ErrConflict = errors.New("journal: end has moved")

	// ErrFenced: the epoch belongs to another owner, or is over. It is final.
	ErrFenced = errors.New("journal: fenced")

	// ErrTrimmed: the entries are gone; start from a snapshot instead.
	ErrTrimmed = errors.New("journal: entries trimmed")

	// ErrLost: the journal ends before an entry that was read from it, or holds
	// another one there. It lost data or was recreated.
	ErrLost = errors.New("journal: entries that were read are gone")

	// ErrTooLarge: the batch or record is larger than the journal takes.
	ErrTooLarge = errors.New("journal: too large")

	// ErrNoEntry: what was to be imported is neither a batch nor a fence that is
	// whole; nothing was written.
	ErrNoEntry = errors.New("journal: not an entry")

	// ErrReadOnly: the journal takes no appends and no fences.
	ErrReadOnly = errors.New("journal: read-only")

	// ErrFull: the store refused the entry for lack of room; nothing was written.
	ErrFull = errors.New("journal: full")

	// ErrBroken: a write or sync failed and this handle is dead. The failing
	// call's outcome is unknown until the journal has been opened again.
	ErrBroken = errors.New("journal: handle is broken")

	// ErrClosed: the handle was closed before the call; the call wrote nothing.
	ErrClosed = errors.New("journal: closed")

	// ErrSilent: the backend said nothing, not even a heartbeat, for too long.
	ErrSilent = errors.New("journal: no word from the backend")

	// ErrUnsupported: the backend does not have this ability.
	ErrUnsupported = errors.New("journal: not supported by this backend")

	// ErrUnknown: a Writer gave up resolving an append; the batch may be in the
	// journal, or may yet appear, until someone fences or appends after it.
	ErrUnknown = errors.New("journal: outcome unknown")
)

// Outcome is what is certain about a write after its call returned.
type Outcome uint8

// The three outcomes.
const (
	Done    Outcome = iota // stored
	NotDone                // certainly not stored by this call
	Unknown                // may be stored, or may yet be
)

// String returns "done", "not done" or "unknown".
func (o Outcome) String() string { return [...]string{"done", "not done", "unknown"}[o] }

// OutcomeOf tells what err, returned by Append, Fence or a Writer, says about
// the write.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Done
	}
	if errors.Is(err, ErrUnknown) || errors.Is(err, ErrBroken) {
		return Unknown
	}
	for _, certain := range []error{ErrConflict, ErrFenced, ErrTooLarge, ErrNoEntry, ErrReadOnly, ErrFull, ErrClosed, ErrUnsupported} {
		if errors.Is(err, certain) {
			return NotDone
		}
	}
	return Unknown
}

// A CorruptError reports an entry that exists but cannot be trusted, or a file that
// should hold some and does not. Nothing after it may be applied, however healthy it
// looks.
type CorruptError struct {
	What   string   // what is bad, in words; "" means a corrupt entry
	Source string   // file path, stream name or URL; "" if not known at this level
	Pos    Position // the bad entry, or see After; 0 if it has no position yet
	After  bool     // Pos is where the entry before it ends: what states its own position cannot be read
	Seq    Seq      // the last Seq that is good before it; 0 if there is none or it is not known
	Offset int64    // where it starts, in bytes from the start of Source; -1 if it has none
	Err    error    // what was wrong
}

func (e *CorruptError) Error() string {
	s := "journal: " + cmp.Or(e.What, "corrupt entry")
	switch {
	case e.After:
		s += fmt.Sprintf(" after position %d", e.Pos)
	case e.Pos != 0:
		s += fmt.Sprintf(" at position %d", e.Pos)
	}
	if e.Source != "" {
		s += " of " + e.Source
	}
	if e.Offset >= 0 {
		s += fmt.Sprintf(", byte %d", e.Offset)
	}
	if e.Seq != 0 {
		s += fmt.Sprintf(", after seq %d", e.Seq)
	}
	return fmt.Sprintf("%s: %v", s, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// What can be wrong with an entry; found in a CorruptError.
var (
	ErrForeign   = errors.New("neither a batch nor a fence")
	ErrShort     = errors.New("ends early")
	ErrChecksum  = errors.New("wrong checksum")
	ErrVersion   = errors.New("written by a newer version")
	ErrAlgorithm = errors.New("unknown algorithm")
	ErrMalformed = errors.New("malformed")
	ErrChain     = errors.New("broken chain: the batch does not follow what lies before it")
	ErrGap       = errors.New("gap in the sequence")
	ErrEpoch     = errors.New("epoch was never opened")
	ErrWriter    = errors.New("another writer in the same epoch")
	ErrTime      = errors.New("time does not increase")
)
