package trace

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A LineError says where a trace is damaged.
type LineError struct {
	Line int // from 1, after decompression
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("trace: line %d: %v", e.Line, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

// ErrTooLarge: a trace that would take too much memory, such as a small compressed
// file that unpacks to gigabytes.
var ErrTooLarge = errors.New("too large")

// bounds of a trace, so that a hostile one takes no more memory than they say.
type bounds struct {
	value   int   // bytes of a line, or of an event
	kept    int64 // bytes of what is kept of a Kineto trace until it is in order
	streams int   // streams of the device
}

// usual: a command must fit a record, which is smaller than a value here. What is
// kept suffices for about a million events of the device; real traces of a few
// steps of training have tens of thousands.
var usual = bounds{value: 1 << 20, kept: 1 << 30, streams: 1 << 20}

// ErrFormat: the input is neither kind of trace.
var ErrFormat = errors.New("neither a Kineto trace nor lines of commands")

// Read yields the commands of a trace in the order they were given, each with its
// number on its stream. An error ends the sequence; a *LineError if a line is to
// blame. A Kineto trace is read whole before the first command, since it is not in
// order; a normalised one is streamed. A line or an event of more than 1 MiB, or a
// Kineto trace with more than fits into 1 GiB, is ErrTooLarge.
func Read(r io.Reader) iter.Seq2[Command, error] { return usual.read(r) }

func (max bounds) read(r io.Reader) iter.Seq2[Command, error] {
	return func(yield func(Command, error) bool) {
		plain, closeIt, err := decompress(r)
		if err != nil {
			yield(Command{}, fmt.Errorf("trace: %w", err))
			return
		}
		defer closeIt()
		head, err := plain.Peek(peekBytes)
		if err != nil && !errors.Is(err, io.EOF) { // a bufio.Reader tells it only once
			yield(Command{}, &LineError{1 + bytes.Count(head, []byte("\n")), err})
			return
		}
		order := orders{}
		for c, err := range readerOf(head)(plain, max) {
			if err != nil {
				yield(Command{}, err)
				return
			}
			if order.number(&c); len(order) > max.streams {
				yield(Command{}, &LineError{c.Line, fmt.Errorf("%w: commands on more than %d streams", ErrTooLarge, max.streams)})
				return
			}
			if !yield(c, nil) {
				return
			}
		}
	}
}

// peekBytes is how much is looked at to tell the format: a Kineto trace names its
// schema in the first lines.
const peekBytes = 4 << 10

// marks of a Kineto trace.
var marks = []string{"traceEvents", "schemaVersion", "deviceProperties"}

// readerOf tells the format by the keys of the first object, and not by what lies
// deeper in it: an event of a Kineto trace may have arguments of any name.
func readerOf(head []byte) func(*bufio.Reader, bounds) iter.Seq2[Command, error] {
	isLine := false
	for key := range topKeys(head) {
		if slices.Contains(marks, key) {
			return readKineto
		}
		isLine = isLine || key == "cmd"
	}
	if isLine {
		return readLines
	}
	// Damage, or a value longer than the head, hides the keys. A line has no object in
	// it, so what looks like both is a Kineto trace; so is an array of events.
	for _, mark := range append([]string{"ph"}, marks...) {
		if bytes.Contains(head, []byte(strconv.Quote(mark))) {
			return readKineto
		}
	}
	if first, _, _ := bytes.Cut(bytes.TrimLeft(head, " \t\r\n"), []byte("\n")); bytes.Contains(first, []byte(`"cmd"`)) {
		return readLines
	}
	return func(*bufio.Reader, bounds) iter.Seq2[Command, error] {
		return func(yield func(Command, error) bool) { yield(Command{}, &LineError{1, ErrFormat}) }
	}
}

// topKeys yields the keys of the object that head begins with, as far as they can be
// read.
func topKeys(head []byte) iter.Seq[string] {
	return func(yield func(string) bool) {
		d := json.NewDecoder(bytes.NewReader(head))
		if open, err := d.Token(); err != nil || open != json.Delim('{') {
			return
		}
		for d.More() {
			key, err := d.Token()
			name, isKey := key.(string)
			if err != nil || !isKey || !yield(name) || skip(d) != nil {
				return
			}
		}
	}
}

// decompress looks at the magic numbers.
func decompress(r io.Reader) (*bufio.Reader, func(), error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	magic, err := buffered.Peek(4)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, nil, err
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, nil, err
		}
		return bufio.NewReaderSize(z, 64<<10), func() {}, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, err
		}
		return bufio.NewReaderSize(z, 64<<10), z.Close, nil
	}
	return buffered, func() {}, nil
}

// orders numbers the commands of each stream.
type orders map[int64]uint64

func (o orders) number(c *Command) {
	if c.Stream != nil {
		o[*c.Stream]++
		c.Order = o[*c.Stream]
	}
}

// A line is a command as the normalised format spells it.
type line struct {
	Cmd        Op          `json:"cmd"`
	API        string      `json:"api"`
	TS         json.Number `json:"ts_us"`
	Stream     *int64      `json:"stream"`
	Kernel     string      `json:"kernel"`
	Grid       []uint32    `json:"grid"`
	Block      []uint32    `json:"block"`
	Shared     int64       `json:"shmem"`
	Kind       string      `json:"kind"`
	Bytes      int64       `json:"bytes"`
	Addr       *uint64     `json:"addr"`
	Device     int         `json:"device"`
	DeviceType int         `json:"device_type"`
	Thread     int64       `json:"tid"`
	Corr       uint64      `json:"corr"`
}

// readLines reads the normalised format. A last line without its newline is
// complete if it decodes.
func readLines(r *bufio.Reader, max bounds) iter.Seq2[Command, error] {
	return func(yield func(Command, error) bool) {
		for n := 1; ; n++ {
			text, err := readLine(r, max.value)
			if err != nil && !errors.Is(err, io.EOF) { // too long, or damaged where it is compressed
				yield(Command{}, &LineError{n, err})
				return
			}
			if len(bytes.TrimSpace(text)) > 0 {
				c, bad := parseLine(text, n)
				if bad != nil {
					yield(Command{}, &LineError{n, bad})
					return
				}
				if !yield(c, nil) {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
}

// readLine reads up to the end of a line, or to the end of r.
func readLine(r *bufio.Reader, max int) (line []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > max {
			return nil, fmt.Errorf("%w of more than %d bytes", errLong, max)
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

func parseLine(text []byte, n int) (Command, error) {
	var l line
	if err := strict(text, &l); err != nil {
		return Command{}, err
	}
	ns, err := nanoseconds(l.TS)
	if err != nil {
		return Command{}, err
	}
	c := Command{
		Op: l.Cmd, API: l.API, Time: time.Duration(ns), Stream: l.Stream, Kernel: l.Kernel, Grid: l.Grid, Block: l.Block,
		Shared: l.Shared, Kind: l.Kind, Bytes: l.Bytes, Addr: l.Addr, Device: l.Device, DeviceType: l.DeviceType,
		Thread: l.Thread, Correlation: l.Corr, Line: n,
	}
	return c, c.check()
}
