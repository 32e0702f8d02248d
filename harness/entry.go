package harness

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"understudy.dev/journal"
)

// An Entry is one thing that a program recorded.
type Entry struct {
	Number uint64        // from 1, dense over the entries of one persistence id
	Seq    journal.Seq   // the journal's own number of the record
	Time   journal.Time  // when it was recorded, absolute
	At     time.Duration // since the start of its run, in whole microseconds
	Run    journal.Epoch // the tenure that recorded it
	Kind   journal.Kind
	Path   string // the actor; "" is the program itself
	Name   string // the device command, the kernel's kind or the output; "" for seeds, batch sizes and values
	Data   []byte // read-only

	// Version is of a machine's command: see ReplayOptions.Foreign. What a harness
	// recorded has none.
	Version uint32
}

// Records of the harness. A record's Name is the actor's path for seeds, batch
// sizes and values (version 0), and the command's name for the rest: alone
// (version 0), or after the actor's path and a separator (version 1).
const (
	versionPlain  = 0
	versionScoped = 1
	separator     = ": "
)

// Data of seeds and batch sizes: 8 bytes, little endian; a batch size is signed
// and never negative.
const numberSize = 8

// ErrForeign: the journal holds records that no harness wrote, such as the
// commands of a machine.
var ErrForeign = errors.New("harness: not a harness's journal")

// ErrUndecodable: a record of the journal is not what its kind says.
var ErrUndecodable = errors.New("harness: undecodable record")

// A RecordError names the entry that could not be read. Err is the reason: it
// matches ErrUndecodable, or is a *journal.CorruptError if the whole batch from
// this number on is damaged.
type RecordError struct {
	Number uint64
	Err    error
}

func (e *RecordError) Error() string {
	return fmt.Sprintf("harness: read record %d: %v", e.Number, e.Err)
}

func (e *RecordError) Unwrap() error { return e.Err }

// numbered reports whether records of this kind are entries. The others are the
// harness's own: the start of a tenure and changes of mode.
func numbered(k journal.Kind) bool {
	switch k {
	case journal.KindDevice, journal.KindKernel, journal.KindSeed, journal.KindBatchSize, journal.KindValue, journal.KindOutput:
		return true
	}
	return false
}

// input reports whether entries of this kind come from the world: replay answers
// with their data. The data of the others is compared.
func input(k journal.Kind) bool {
	return k == journal.KindSeed || k == journal.KindBatchSize || k == journal.KindValue
}

// decode fills the path, name and data of e from r, which is of a numbered kind.
func (e *Entry) decode(r *journal.Record) error {
	e.Path, e.Name, e.Data = "", r.Name, r.Data
	switch {
	case input(r.Kind):
		e.Path, e.Name = r.Name, ""
		if r.Version != versionPlain {
			return fmt.Errorf("%w: %v of version %d", ErrUndecodable, r.Kind, r.Version)
		}
		return checkInput(r)
	case r.Version == versionScoped:
		i := strings.Index(r.Name, separator)
		if i < 0 {
			return fmt.Errorf("%w: name %s has no path", ErrUndecodable, showName(r.Name))
		}
		e.Path, e.Name = r.Name[:i], r.Name[i+len(separator):]
	case r.Version != versionPlain:
		return fmt.Errorf("%w: %v of version %d", ErrUndecodable, r.Kind, r.Version)
	}
	return nil
}

func checkInput(r *journal.Record) error {
	if r.Kind == journal.KindValue {
		return nil
	}
	if len(r.Data) != numberSize {
		return fmt.Errorf("%w: %v of %d bytes, want %d", ErrUndecodable, r.Kind, len(r.Data), numberSize)
	}
	if n := int64(binary.LittleEndian.Uint64(r.Data)); r.Kind == journal.KindBatchSize && (n < 0 || int64(int(n)) != n) {
		return fmt.Errorf("%w: batch size %d does not fit", ErrUndecodable, n)
	}
	return nil
}

// Seed returns the seed of an entry of KindSeed.
func (e *Entry) Seed() uint64 { return binary.LittleEndian.Uint64(e.Data) }

// BatchSize returns the size of an entry of KindBatchSize.
func (e *Entry) BatchSize() int { return int(binary.LittleEndian.Uint64(e.Data)) }

// shownBytes is how much data a description shows.
const shownBytes = 32

// What describes what was recorded, without number and path: such as
// `seed 42` or `kernel "saxpy" 0a0b (2 bytes)`.
func (e *Entry) What() string {
	switch {
	case e.Kind == journal.KindSeed && len(e.Data) == numberSize:
		return "seed " + strconv.FormatUint(e.Seed(), 10)
	case e.Kind == journal.KindBatchSize && len(e.Data) == numberSize:
		return "batch size " + strconv.Itoa(e.BatchSize())
	}
	s := e.Kind.String()
	if !input(e.Kind) {
		s += " " + showName(e.Name)
	}
	return s + " " + showData(e.Data)
}

// String describes the entry in one line.
func (e *Entry) String() string {
	return fmt.Sprintf("%d %s %s", e.Number, showPath(e.Path), e.What())
}

func showPath(path string) string {
	if path == "" {
		return "-"
	}
	return showName(path)
}

// shownName is how much of a name is shown, in bytes: more than a name that can be
// recorded has, so only one that was too large is cut.
const shownName = 1024

// showName quotes a name, or the beginning of one that is out of bounds.
func showName(name string) string {
	if len(name) <= shownName {
		return strconv.Quote(name)
	}
	return fmt.Sprintf("%q… (%d bytes)", name[:64], len(name))
}

// showData shows short printable data as text and other data in hexadecimal.
func showData(data []byte) string {
	shown, more := data, ""
	if len(data) > shownBytes {
		shown, more = data[:shownBytes], "…"
	}
	if printable(shown) && len(shown) > 0 {
		return fmt.Sprintf("%q%s (%d bytes)", shown, more, len(data))
	}
	return strings.TrimPrefix(fmt.Sprintf("%x%s (%d bytes)", shown, more, len(data)), " ")
}

func printable(data []byte) bool {
	for _, c := range data {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
