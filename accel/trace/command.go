// Package trace brings what a real job asked of its GPU into a journal, and replays
// it against a model of a device.
//
// # Formats
//
// [Read] takes PyTorch profiler traces (Kineto's JSON in Chrome's trace format) and
// normalised ones, a JSON object a line; either may be compressed with gzip or zstd.
// A trace that is damaged names its line.
//
// # What a trace can tell
//
// Commands with their times, kernels, grids, streams and sizes; no contents, seeds
// or batch sizes. Real traces begin and end in mid-job, so a [Model] reports the first
// free of an address whose allocation it never saw, and what is live at the end, and
// fails for neither. Addresses are opaque: equal or not equal. An allocation without an
// address is only counted.
//
// # Order
//
// Commands come in the order in which their calls began. On a stream they come as the
// device ran them, where a Kineto trace tells that and the calls leave it open: of two
// threads that are in a call at once, the one that called first may be served last,
// and a command that ran in the trace may have been called before it. A normalised
// trace tells no starts; its lines are the order.
//
// # What this package does not do
//
// It executes nothing and keeps no durations: what happened on the device after a
// command was given is another story.
package trace

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"understudy.dev/accel"
	"understudy.dev/journal"
)

// Op says what a command asks for; the words are those of the normalised format.
type Op string

// The ops.
const (
	OpAlloc       Op = "alloc"
	OpFree        Op = "free"
	OpHostAlloc   Op = "host_alloc"
	OpCopy        Op = "copy"
	OpMemset      Op = "memset"
	OpLaunch      Op = "launch"
	OpGraphLaunch Op = "graph_launch"
	OpSync        Op = "sync"
	OpEvent       Op = "event"
	OpStream      Op = "stream"
	OpQuery       Op = "query"
	OpOther       Op = "other"
)

func (o Op) known() bool {
	switch o {
	case OpAlloc, OpFree, OpHostAlloc, OpCopy, OpMemset, OpLaunch, OpGraphLaunch, OpSync, OpEvent, OpStream, OpQuery, OpOther:
		return true
	}
	return false
}

// A Command is one thing asked of the device. Its JSON is a record's payload.
type Command struct {
	Op          Op            `json:"cmd"`
	API         string        `json:"api,omitempty"` // the driver's, runtime's or allocator's call; "" if only its effect was seen
	Time        time.Duration `json:"ts_ns"`         // since the trace's first command
	Stream      *int64        `json:"stream,omitempty"`
	Order       uint64        `json:"order,omitempty"` // number of the command on its stream, from 1
	Start       time.Duration `json:"start_ns,omitempty"`
	Kernel      string        `json:"kernel,omitempty"`
	Grid        []uint32      `json:"grid,omitempty"`  // x, y, z
	Block       []uint32      `json:"block,omitempty"` // x, y, z
	Shared      int64         `json:"shmem,omitempty"` // bytes
	Kind        string        `json:"kind,omitempty"`  // of a copy or memset, as the profiler says it
	Bytes       int64         `json:"bytes,omitempty"`
	Addr        *uint64       `json:"addr,omitempty"` // opaque
	Device      int           `json:"device,omitempty"`
	DeviceType  int           `json:"device_type,omitempty"` // PyTorch's: 0 CPU, 1 CUDA
	Thread      int64         `json:"tid,omitempty"`
	Correlation uint64        `json:"corr,omitempty"` // joins a call and what it started
	Line        int           `json:"line"`           // in the trace
}

// check finds what a command of either format cannot be.
func (c *Command) check() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(!c.Op.known(), "unknown cmd %q", c.Op)
	fault(c.Bytes < 0, "%d bytes", c.Bytes)
	fault(c.Shared < 0, "%d bytes of shared memory", c.Shared)
	fault(c.Grid != nil && len(c.Grid) != 3, "grid %v", c.Grid)
	fault(c.Block != nil && len(c.Block) != 3, "block %v", c.Block)
	return errors.Join(faults...)
}

// Record returns the command as a record's kind, name and payload. A kernel's name
// that is too long for a record is cut and ends in a digest of the whole; the
// payload has all of it.
func (c *Command) Record() (kind journal.Kind, name string, payload []byte) {
	kind, name = journal.KindDevice, string(c.Op)
	if c.Op == OpLaunch && c.Kernel != "" {
		kind, name = journal.KindKernel, shorten(c.Kernel)
	}
	payload, err := json.Marshal(c)
	if err != nil {
		panic("trace: " + err.Error()) // strings and numbers always encode
	}
	return kind, name, payload
}

// maxName leaves room in a record's name for an actor's path.
const maxName = journal.MaxName / 2

func shorten(name string) string {
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	cut := maxName - 20
	for !utf8.RuneStart(name[cut]) {
		cut--
	}
	return fmt.Sprintf("%s…%x", name[:cut], sum[:8])
}

// ErrForeign: a record is not one of a trace.
var ErrForeign = errors.New("not a command of a trace")

// Decode is the inverse of Record. What Record did not make gets ErrForeign.
func Decode(payload []byte) (*Command, error) {
	c := new(Command)
	err := strict(payload, c)
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	return c, nil
}

// Import records the commands of a trace, in order, and returns how many it
// recorded. It stops at the first error.
func Import(commands iter.Seq2[Command, error], to accel.Harness) (n int, err error) {
	for c, err := range commands {
		if err != nil {
			return n, err
		}
		record := to.DeviceCmd
		kind, name, payload := c.Record()
		if kind == journal.KindKernel {
			record = to.KernelCmd
		}
		if err := record(name, payload); err != nil {
			return n, fmt.Errorf("import line %d: %w", c.Line, err)
		}
		n++
	}
	return n, nil
}

// strict decodes one JSON value without unknown fields and with nothing after it.
func strict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return inWords(err)
	}
	if d.More() {
		return errors.New("something follows the object")
	}
	return nil
}

// inWords says what is wrong with a value in the words of the format rather than of
// the types that it is decoded into.
func inWords(err error) error {
	var kind *json.UnmarshalTypeError
	if !errors.As(err, &kind) {
		return truncated(err)
	}
	value := "a " + kind.Value
	if strings.ContainsAny(kind.Value[:1], "ao") { // array, object
		value = "an " + kind.Value
	}
	if kind.Field == "" {
		return fmt.Errorf("%s where an object belongs", value)
	}
	return fmt.Errorf("%q is %s, want %s", kind.Field, value, wanted(kind.Type))
}

// wanted is the kind of value that a Go type takes.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		if t == reflect.TypeFor[json.Number]() {
			return "a number"
		}
		return "a string"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		return "a whole number, not negative and of at most " + strconv.Itoa(t.Bits()) + " bits"
	}
	return "a whole number"
}

// nanoseconds reads a decimal number of microseconds, exactly to the nanosecond:
// a float64 has too few digits for a clock that counts from 1970.
func nanoseconds(n json.Number) (int64, error) {
	whole, fraction, _ := strings.Cut(n.String(), ".")
	if fraction = (fraction + "000")[:3]; strings.ContainsAny(n.String(), "eE") || whole == "" {
		return 0, fmt.Errorf("time %q is not a decimal number", n)
	}
	ns, err := strconv.ParseInt(whole+fraction, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("time %s is more than 292 years", n)
	case err != nil:
		return 0, fmt.Errorf("time %q is not a decimal number", n)
	}
	return ns, nil
}
