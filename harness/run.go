package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"understudy.dev/journal"
)

// A Start is the data of the record that opens a harness's tenure, as JSON.
type Start struct {
	Harness     string              `json:"harness"` // name of the one who records
	Start       journal.Time        `json:"start"`   // of the run, which may have had tenures before this one
	After       uint64              `json:"after"`   // the highest number found
	Environment journal.Environment `json:"environment"`
	Pin         map[string]string   `json:"pin,omitempty"` // Config.Pin
}

// A Change is the data of a record of KindMode, as JSON: a change of mode.
type Change struct {
	From  string `json:"from"`
	To    string `json:"to"`              // a Mode's word, or at the end of a run "closed", or "cut" if it was aborted
	After uint64 `json:"after"`           // the highest number so far
	Cause string `json:"cause,omitempty"` // of "cut": why
}

// The To of the change that ends a run.
const (
	closed = "closed" // Close
	cut    = "cut"    // Abort; readers that do not know the word take the run as not closed
)

// orderly reports whether everything that the program did up to the change was
// to be recorded, so that whoever replays it does the same and no more.
func (c *Change) orderly() bool {
	return c.To == closed || c.To == Off.String() || c.To == Replay.String()
}

// maxCause bounds the words of a cause in bytes: they must never keep the end of a
// run from being recorded.
const maxCause = 1000

// aborted returns the change that ends a run for a cause.
func aborted(cause error) Change {
	if cause == nil {
		return Change{To: cut, Cause: "no cause was given"}
	}
	words := strings.ToValidUTF8(cause.Error(), "�")
	if len(words) > maxCause {
		words = strings.ToValidUTF8(words[:maxCause], "") + "…"
	}
	return Change{To: cut, Cause: words}
}

func parseStart(data []byte) (Start, error) {
	var s Start
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("epoch start: %w: %w", ErrUndecodable, err)
	}
	if s.Harness == "" {
		return s, fmt.Errorf("epoch start of a machine: %w", ErrForeign)
	}
	return s, nil
}

func parseChange(data []byte) (Change, error) {
	var c Change
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("change of mode: %w: %w", ErrUndecodable, err)
	}
	return c, nil
}

// mustJSON encodes values that always can be.
func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return bytes.Clone(data)
}

// A PinError says that a run was recorded in another environment than the one
// that replays it.
type PinError struct {
	Run      journal.Epoch
	Key      string
	Recorded string
	Present  string
}

func (e *PinError) Error() string {
	return fmt.Sprintf("harness: run %d was recorded with %s %q, here it is %q", e.Run, e.Key, e.Recorded, e.Present)
}

// checkPin compares the keys that both sides pin, in order.
func checkPin(run journal.Epoch, recorded, present map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(present)) {
		if was, ok := recorded[key]; ok && was != present[key] {
			return &PinError{Run: run, Key: key, Recorded: was, Present: present[key]}
		}
	}
	return nil
}

// checkNumerics refuses an environment whose floating point may differ.
func checkNumerics(run journal.Epoch, recorded journal.Environment) error {
	present := journal.ThisEnvironment()
	if recorded.Numeric(present) == "" {
		return nil
	}
	return &PinError{Run: run, Key: "floating point of", Recorded: numerics(recorded), Present: numerics(present)}
}

func numerics(e journal.Environment) string {
	return strings.TrimSuffix(e.Go+" "+e.Arch+" "+e.Level, " ")
}
