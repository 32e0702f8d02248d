package accel

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// An Environment is what the bits of a device's results may depend on.
type Environment struct {
	Device  string            // the model, such as "cpu" or "NVIDIA H200"
	Driver  string            // what runs the kernels, with its version
	Library string            // where the kernels come from, with their text's digest if compiled elsewhere
	Kernels map[string]string // identity of each kernel's definition, by name
	Host    string            // toolchain and architecture: told, never compared, not recorded
}

// A PinError says that a device is not the recorded one. Nothing was executed.
type PinError struct {
	Field          string // "device", "driver", "library" or "kernel NAME"
	Recorded, Here string
}

func (e *PinError) Error() string {
	return fmt.Sprintf("accel: the record was made with %s %q, this is %q", e.Field, e.Recorded, e.Here)
}

// Check compares what was recorded with here and returns a *PinError for the first
// field that differs and is not accepted. accept holds a reason by field. Kernels
// that only one side has are no difference until they are launched.
func (e Environment) Check(here Environment, accept map[string]string) error {
	recorded, present := e.Pin(), here.Pin()
	for _, field := range slices.Sorted(maps.Keys(recorded)) {
		was, is := recorded[field], present[field]
		_, both := present[field]
		if both && was != is && strings.TrimSpace(accept[field]) == "" {
			return &PinError{field, was, is}
		}
	}
	return nil
}

// Pin returns the compared fields by name, for a harness to pin from its start:
// then a program that replays itself is refused before it did anything.
func (e Environment) Pin() map[string]string {
	pin := map[string]string{"device": e.Device, "driver": e.Driver, "library": e.Library}
	for name, id := range e.Kernels {
		pin["kernel "+name] = id
	}
	return pin
}

// Identities returns the identity of each kernel of a catalogue.
func Identities(catalogue map[string]*Kernel) map[string]string {
	ids := make(map[string]string, len(catalogue))
	for name, k := range catalogue {
		ids[name] = k.Identity()
	}
	return ids
}
