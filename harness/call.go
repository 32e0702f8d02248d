package harness

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"understudy.dev/journal"
)

// A Recorder is what a program calls. A *Harness records for the program itself,
// an *Actor for one of its paths. In Record an error says that the call was not
// recorded, or that this is unknown (journal.OutcomeOf); in Replay that the
// program differs from the record (*Difference) or has come to its end
// (ErrPastEnd). Data is copied. Names and paths are UTF-8: in Record others are
// refused with ErrName.
type Recorder interface {
	// DeviceCmd records a command to a device.
	DeviceCmd(name string, payload []byte) error

	// KernelCmd records the launch of a kernel of some kind.
	KernelCmd(kind string, payload []byte) error

	// RNGSeed records fresh as the seed of an actor and returns it; in Replay it
	// returns the seed that was recorded at this point for this path.
	RNGSeed(path string, fresh uint64) (uint64, error)

	// BatchSize does the same for a batch size, which is not negative.
	BatchSize(path string, fresh int) (int, error)

	// Value does the same for any other input of the world. See ValueOf.
	Value(path string, fresh []byte) ([]byte, error)

	// Output records what the program produced, or its digest; in Replay it is
	// compared.
	Output(name string, data []byte) error
}

var (
	_ Recorder = (*Harness)(nil)
	_ Recorder = (*Actor)(nil)
)

// DeviceCmd implements Recorder.
func (h *Harness) DeviceCmd(name string, payload []byte) error {
	if h.state.Load() == nil {
		return nil
	}
	return h.root.did(journal.KindDevice, name, payload)
}

// KernelCmd implements Recorder.
func (h *Harness) KernelCmd(kind string, payload []byte) error {
	if h.state.Load() == nil {
		return nil
	}
	return h.root.did(journal.KindKernel, kind, payload)
}

// Output implements Recorder.
func (h *Harness) Output(name string, data []byte) error {
	if h.state.Load() == nil {
		return nil
	}
	return h.root.did(journal.KindOutput, name, data)
}

// RNGSeed implements Recorder.
func (h *Harness) RNGSeed(path string, fresh uint64) (uint64, error) {
	return h.root.RNGSeed(path, fresh)
}

// BatchSize implements Recorder.
func (h *Harness) BatchSize(path string, fresh int) (int, error) {
	return h.root.BatchSize(path, fresh)
}

// Value implements Recorder.
func (h *Harness) Value(path string, fresh []byte) ([]byte, error) {
	return h.root.Value(path, fresh)
}

// Actor returns a recorder for one path of the program, such as a goroutine whose
// calls come in an order of their own. Its commands and outputs are on path, its
// inputs on path/… ; see Actor.Actor for a part of it. A path with ": " in it
// makes every call fail.
func (h *Harness) Actor(path string) *Actor { return h.root.Actor(path) }

// An Actor records for one path. Its methods may be called concurrently, but then
// their order is the record's.
type Actor struct {
	h    *Harness
	path string // "" is the program itself
	err  error  // why nothing can be recorded on it

	mu       sync.Mutex
	commands map[string]string // path, separator and name, by name
	inputs   map[string]string // path/name, by name
}

// Actor returns a recorder for path/sub.
func (a *Actor) Actor(sub string) *Actor {
	path := join(a.path, sub)
	s := &Actor{h: a.h, path: path, err: a.err}
	if strings.Contains(path, separator) {
		s.err = fmt.Errorf("harness: path %s: %q is not allowed in it", showName(path), separator)
	}
	return s
}

func join(path, sub string) string {
	if path == "" || sub == "" {
		return path + sub
	}
	return path + "/" + sub
}

// DeviceCmd implements Recorder.
func (a *Actor) DeviceCmd(name string, payload []byte) error {
	if a.h.state.Load() == nil {
		return nil
	}
	return a.did(journal.KindDevice, name, payload)
}

// KernelCmd implements Recorder.
func (a *Actor) KernelCmd(kind string, payload []byte) error {
	if a.h.state.Load() == nil {
		return nil
	}
	return a.did(journal.KindKernel, kind, payload)
}

// Output implements Recorder.
func (a *Actor) Output(name string, data []byte) error {
	if a.h.state.Load() == nil {
		return nil
	}
	return a.did(journal.KindOutput, name, data)
}

// RNGSeed implements Recorder.
func (a *Actor) RNGSeed(path string, fresh uint64) (uint64, error) {
	if a.h.state.Load() == nil {
		return fresh, nil
	}
	return a.number(journal.KindSeed, path, fresh)
}

// BatchSize implements Recorder.
func (a *Actor) BatchSize(path string, fresh int) (int, error) {
	if a.h.state.Load() == nil {
		return fresh, nil
	}
	if fresh < 0 && a.h.Mode() == Record {
		return fresh, fmt.Errorf("harness: batch size %d of %s", fresh, showPath(join(a.path, path)))
	}
	n, err := a.number(journal.KindBatchSize, path, uint64(fresh))
	return int(n), err
}

// Value implements Recorder.
func (a *Actor) Value(path string, fresh []byte) ([]byte, error) {
	if a.h.state.Load() == nil {
		return fresh, nil
	}
	return a.input(journal.KindValue, path, fresh)
}

// number records an input of 8 bytes.
func (a *Actor) number(kind journal.Kind, path string, fresh uint64) (uint64, error) {
	var buf [numberSize]byte
	binary.LittleEndian.PutUint64(buf[:], fresh)
	data, err := a.input(kind, path, buf[:])
	if err != nil {
		return fresh, err
	}
	return binary.LittleEndian.Uint64(data), nil
}

// did records or compares a command or an output.
func (a *Actor) did(kind journal.Kind, name string, data []byte) error {
	if a.err != nil {
		return a.err
	}
	for {
		s := a.h.state.Load()
		var err error
		switch {
		case s == nil:
			return nil
		case s.rec != nil:
			full, version := name, uint32(versionPlain)
			if a.path != "" {
				full, version = a.scoped(&a.commands, name, a.command), versionScoped
			}
			err = s.rec.record(kind, version, full, data)
		case s.cmp != nil:
			_, err = s.cmp.compare(kind, a.path, name, data)
		default:
			err = s.err
		}
		if err == nil {
			return nil
		}
		if err = a.settle(err, kind, a.path, name); err != nil {
			return err
		}
	}
}

// input records fresh and returns it, or returns what was recorded.
func (a *Actor) input(kind journal.Kind, sub string, fresh []byte) ([]byte, error) {
	if a.err != nil {
		return fresh, a.err
	}
	path := sub
	if a.path != "" {
		path = a.scoped(&a.inputs, sub, a.below)
	}
	for {
		s := a.h.state.Load()
		data := fresh
		var err error
		switch {
		case s == nil:
			return fresh, nil
		case s.rec != nil:
			err = s.rec.record(kind, versionPlain, path, fresh)
		case s.cmp != nil:
			data, err = s.cmp.compare(kind, path, "", fresh)
		default:
			err = s.err
		}
		if err == nil {
			return data, nil
		}
		if err = a.settle(err, kind, path, ""); err != nil {
			return fresh, err
		}
	}
}

// settle returns nil if the call should look at the state again, since the mode
// changed under it; otherwise the error for the caller.
func (a *Actor) settle(err error, kind journal.Kind, path, name string) error {
	var diff *Difference
	switch {
	case errors.Is(err, errMoved):
		a.h.moving.Lock() // until the change is over
		a.h.moving.Unlock()
		return nil
	case errors.As(err, &diff) || errors.Is(err, ErrPastEnd):
		return err
	}
	return fmt.Errorf("harness: %v %s on %s: %w", kind, showName(name), showPath(path), err)
}

// maxScoped bounds an actor's memory when names are all different.
const maxScoped = 4096

func (a *Actor) command(name string) string { return a.path + separator + name }
func (a *Actor) below(sub string) string    { return join(a.path, sub) }

// scoped returns what of makes of a name, without allocating for one that it has
// met.
func (a *Actor) scoped(known *map[string]string, name string, of func(string) string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s, ok := (*known)[name]; ok {
		return s
	}
	if *known == nil || len(*known) >= maxScoped {
		*known = make(map[string]string)
	}
	s := of(name)
	(*known)[strings.Clone(name)] = s
	return s
}

// ValueOf records fresh, encoded as JSON, as an input on path and returns it; in
// Replay it returns what was recorded at this point for this path. In Record it
// returns what Replay will: fresh after encoding and decoding.
func ValueOf[T any](r Recorder, path string, fresh T) (T, error) {
	data, err := json.Marshal(fresh)
	if err != nil {
		return fresh, fmt.Errorf("harness: encode value on %s: %w", showPath(path), err)
	}
	if data, err = r.Value(path, data); err != nil {
		return fresh, err
	}
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		return fresh, fmt.Errorf("harness: decode value on %s: %w", showPath(path), err)
	}
	return v, nil
}
