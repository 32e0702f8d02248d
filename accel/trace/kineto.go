package trace

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An event is one element of traceEvents. What happens on the device (categories
// kernel, gpu_memcpy, gpu_memset) carries the correlation of the call that asked
// for it (cuda_runtime, cuda_driver); allocations by PyTorch's caching allocator
// are instants named [memory].
type event struct {
	Phase    string      `json:"ph"`
	Category string      `json:"cat"`
	Name     string      `json:"name"`
	TS       json.Number `json:"ts"`
	Duration json.Number `json:"dur"`
	Args     struct {
		Correlation *uint64  `json:"correlation"`
		Stream      *int64   `json:"stream"`
		Device      int      `json:"device"`
		Grid        []uint32 `json:"grid"`
		Block       []uint32 `json:"block"`
		Shared      int64    `json:"shared memory"`
		Bytes       int64    `json:"bytes"`
		Allocated   int64    `json:"Bytes"` // negative if freed
		Addr        *uint64  `json:"Addr"`
		DeviceID    int      `json:"Device Id"`
		DeviceType  int      `json:"Device Type"`
	} `json:"args"`
	TID json.RawMessage `json:"tid"` // of some events no number
}

// A kineto gathers commands while events come in any order.
type kineto struct {
	kept     int64 // bytes, from above
	most     int64 // that may be kept
	commands []given
	calls    map[uint64]int // index in commands by correlation
	effects  []*effect      // in the order of the file
}

// A given command was under way on the host until the end of its call.
type given struct {
	Command
	end time.Duration
}

// An effect is an event on the device.
type effect struct {
	event
	line int
}

// readKineto reads a whole trace, joins calls with their effects, and yields the
// commands by time. A kernel whose call is not in the trace becomes a launch of its
// own, without API, at the time it started, or when the next one on its stream was
// called if that is earlier.
func readKineto(r *bufio.Reader, max bounds) iter.Seq2[Command, error] {
	return func(yield func(Command, error) bool) {
		k := &kineto{most: max.kept, calls: make(map[uint64]int)}
		lines := &lineCounter{r: r, max: max.value}
		d := json.NewDecoder(lines)
		lines.taken = d.InputOffset
		err := k.read(d, lines)
		if err == nil {
			err = ended(d)
		}
		if err != nil {
			yield(Command{}, &LineError{lines.line(faultOffset(d, lines, err)), err})
			return
		}
		if err := k.join(); err != nil {
			yield(Command{}, err)
			return
		}
		for i := range k.commands {
			if !yield(k.commands[i].Command, nil) {
				return
			}
		}
	}
}

// errNoEvents: a file that is no trace, or whose events lie where no profiler puts them.
var errNoEvents = fmt.Errorf("%w: no traceEvents at the top level", ErrFormat)

// read finds the array of events: the value of traceEvents, or the whole file.
func (k *kineto) read(d *json.Decoder, lines *lineCounter) error {
	open, err := d.Token()
	if err != nil {
		return truncated(err)
	}
	if open == json.Delim('[') {
		return k.events(d, lines)
	}
	found := false
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return truncated(err)
		}
		if key == "traceEvents" {
			found = true
			err = k.array(d, lines)
		} else {
			err = skip(d)
		}
		if err != nil {
			return truncated(err)
		}
	}
	if _, err = d.Token(); err != nil || found {
		return truncated(err)
	}
	return errNoEvents
}

// array reads the value of traceEvents.
func (k *kineto) array(d *json.Decoder, lines *lineCounter) error {
	switch open, err := d.Token(); {
	case err != nil:
		return err
	case open != json.Delim('['):
		return errors.New("traceEvents is not an array")
	}
	return k.events(d, lines)
}

// maxDepth of what lies beside the events; encoding/json allows values the same.
const maxDepth = 10000

// skip passes over the next value, however long.
func skip(d *json.Decoder) error {
	for depth := 0; ; {
		t, err := d.Token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('['), json.Delim('{'):
			depth++
		case json.Delim(']'), json.Delim('}'):
			depth--
		}
		switch {
		case depth == 0:
			return nil
		case depth > maxDepth:
			return fmt.Errorf("%w: a value of more than %d levels", ErrTooLarge, maxDepth)
		}
	}
}

// ended reads to the end, where damage to what is compressed may show only.
func ended(d *json.Decoder) error {
	switch _, err := d.Token(); {
	case err == nil:
		return errors.New("something follows the trace")
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// truncated gives an early end its name.
func truncated(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (k *kineto) events(d *json.Decoder, lines *lineCounter) error {
	for d.More() {
		// An event of no interest may have other types in its fields, so all are
		// decoded in two steps.
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return err
		}
		if err := k.add(raw, lines.line(d.InputOffset())); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

func (k *kineto) add(raw json.RawMessage, at int) error {
	var head struct {
		Category string `json:"cat"`
		Name     string `json:"name"`
		Phase    string `json:"ph"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return inWords(err)
	}
	memory := head.Name == "[memory]"
	switch head.Category {
	case "cuda_runtime", "cuda_driver", "kernel", "gpu_memcpy", "gpu_memset":
		if head.Phase != "X" {
			return nil // flow arrows and counters
		}
	default:
		if !memory {
			return nil
		}
	}
	var e event
	if err := json.Unmarshal(raw, &e); err != nil {
		return inWords(err)
	}
	if err := k.keep(&e); err != nil {
		return err
	}
	switch {
	case memory:
		return k.memory(e, at)
	case e.Args.Correlation == nil:
		return fmt.Errorf("%s %q has no correlation", e.Category, e.Name)
	case e.Category == "cuda_runtime" || e.Category == "cuda_driver":
		return k.call(e, at)
	}
	e.TID = nil
	k.effects = append(k.effects, &effect{e, at})
	return nil
}

// keptSize is the memory of one event that is kept, in bytes and from above, without
// what is in proportion to its text: an event, a command, their places in maps and
// slices that grow by doubling.
const keptSize = 1 << 10

// keep counts an event in.
func (k *kineto) keep(e *event) error {
	k.kept += keptSize + int64(len(e.Name)+len(e.TS)) + 4*int64(cap(e.Args.Grid)+cap(e.Args.Block))
	if k.kept > k.most {
		return fmt.Errorf("%w: the commands up to here take more than %d MiB of memory", ErrTooLarge, k.most>>20)
	}
	return nil
}

// memory adds what the caching allocator did with device memory.
func (k *kineto) memory(e event, at int) error {
	ns, err := nanoseconds(e.TS)
	if err != nil || e.Args.DeviceType == 0 {
		return err
	}
	c := Command{
		Op: OpAlloc, API: allocatorAPI, Time: time.Duration(ns), Bytes: e.Args.Allocated, Addr: e.Args.Addr,
		Device: e.Args.DeviceID, DeviceType: e.Args.DeviceType, Line: at,
	}
	if c.Bytes < 0 {
		c.Op, c.Bytes = OpFree, -c.Bytes
	}
	k.commands = append(k.commands, given{c, c.Time})
	return c.check()
}

func (k *kineto) call(e event, at int) error {
	ns, err := nanoseconds(e.TS)
	if err != nil {
		return err
	}
	took := int64(0)
	if e.Duration != "" {
		if took, err = nanoseconds(e.Duration); err != nil {
			return err
		}
	}
	corr := *e.Args.Correlation
	c := Command{Op: opOf(e.Name), API: e.Name, Time: time.Duration(ns), Correlation: corr, Line: at}
	if tid, err := strconv.ParseFloat(string(e.TID), 64); err == nil {
		c.Thread = int64(tid)
	}
	if at, again := k.calls[corr]; again && moved(k.commands[at].Op) && !moved(c.Op) {
		// A runtime call may contain a driver call with its correlation: the one that
		// starts something is the one that effects belong to.
	} else {
		k.calls[corr] = len(k.commands)
	}
	k.commands = append(k.commands, given{c, c.Time + time.Duration(took)})
	return nil
}

// moved reports whether commands of this op have an effect on the device.
func moved(op Op) bool {
	return op == OpLaunch || op == OpGraphLaunch || op == OpCopy || op == OpMemset
}

// join gives each call the first thing that it started, adds effects without a call,
// and sorts by time; of one time, by line, and then as the file has them.
func (k *kineto) join() error {
	joined := make(map[uint64]bool)
	for _, e := range k.effects {
		corr := *e.Args.Correlation
		at, called := k.calls[corr]
		switch {
		case called && joined[corr]:
			continue
		case called:
			joined[corr] = true
		default:
			at = len(k.commands)
			k.commands = append(k.commands, given{Command: Command{Op: opOfEffect(e.Category), Correlation: corr, Line: e.line}})
		}
		c := &k.commands[at]
		if err := c.started(&e.event); err != nil {
			return &LineError{e.line, err}
		}
		if !called {
			c.Time, c.end = c.Start, c.Start
		}
	}
	k.callEarlier()
	slices.SortStableFunc(k.commands, func(a, b given) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Line, b.Line))
	})
	k.settle()
	if len(k.commands) > 0 {
		zero := k.commands[0].Time
		for i := range k.commands {
			c := &k.commands[i]
			c.Time -= zero
			if c.Start != 0 {
				c.Start -= zero
			}
		}
	}
	return nil
}

// streams returns the commands of each stream in the order in which they started on
// the device, as indices; without graphs, whose start is not known.
func (k *kineto) streams() map[int64][]int {
	streams := make(map[int64][]int)
	for i := range k.commands {
		if c := &k.commands[i]; c.Stream != nil && c.Start != 0 {
			streams[*c.Stream] = append(streams[*c.Stream], i)
		}
	}
	for _, at := range streams {
		slices.SortStableFunc(at, func(i, j int) int { return cmp.Compare(k.commands[i].Start, k.commands[j].Start) })
	}
	return streams
}

// callEarlier gives a command without a call, which was called at some time before it
// started, a time that is not after the calls of those behind it on its stream.
func (k *kineto) callEarlier() {
	for _, at := range k.streams() {
		for n := len(at) - 2; n >= 0; n-- {
			if c := &k.commands[at[n]]; c.API == "" {
				c.Time = min(c.Time, k.commands[at[n+1]].Time)
			}
		}
	}
}

// settle moves a command behind those of its stream that started before it and were
// called while its own call was under way: two threads were giving commands at once,
// and the call that began first was the last to reach the stream. Its time becomes
// that of the one before it. One whose call was over stays, for a Model to judge.
func (k *kineto) settle() {
	behind := make(map[int][]int) // what is moved behind a command, in order
	moved := make(map[int]bool)
	for _, at := range k.streams() {
		last := 0
		for _, i := range at {
			if i < last && k.commands[last].Time <= k.commands[i].end {
				behind[last], moved[i] = append(behind[last], i), true
			}
			last = max(last, i)
		}
	}
	if len(moved) == 0 {
		return
	}
	settled := make([]given, 0, len(k.commands))
	for i, c := range k.commands {
		if moved[i] {
			continue
		}
		settled = append(settled, c)
		for _, j := range behind[i] {
			late := k.commands[j]
			late.Time = c.Time
			settled = append(settled, late)
		}
	}
	k.commands = settled
}

// started fills in what a command started on the device; of a graph only the
// stream, since its nodes run in an order of their own.
func (c *Command) started(e *event) error {
	c.Stream, c.Device = e.Args.Stream, e.Args.Device
	if c.Op == OpGraphLaunch {
		return nil
	}
	ns, err := nanoseconds(e.TS)
	if err != nil {
		return err
	}
	c.Start = time.Duration(ns)
	c.Bytes, c.Shared, c.Grid, c.Block = e.Args.Bytes, e.Args.Shared, e.Args.Grid, e.Args.Block
	if e.Category == "kernel" {
		c.Kernel = e.Name
	} else {
		c.Kind = e.Name
	}
	return c.check()
}

func opOfEffect(category string) Op {
	return map[string]Op{"kernel": OpLaunch, "gpu_memcpy": OpCopy, "gpu_memset": OpMemset}[category]
}

// allocatorAPI is the name under which PyTorch's caching allocator appears.
const allocatorAPI = "caching_allocator"

// opOf sorts the calls of the CUDA runtime and driver. The first rule that holds
// decides.
func opOf(api string) Op {
	name := strings.TrimPrefix(strings.TrimPrefix(api, "cuda"), "cu")
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(name, p) })
	}
	starts := func(prefixes ...string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
	}
	switch {
	case starts("GraphLaunch"):
		return OpGraphLaunch
	case starts("Launch"):
		return OpLaunch
	case starts("HostAlloc", "MallocHost", "MemHostAlloc", "MemAllocHost"):
		return OpHostAlloc
	case starts("Malloc", "MemAlloc"):
		return OpAlloc
	case starts("Free", "MemFree"):
		return OpFree
	case starts("Memcpy"):
		return OpCopy
	case starts("Memset"):
		return OpMemset
	case has("Synchronize", "WaitEvent"):
		return OpSync
	case starts("Event"):
		return OpEvent
	case has("Stream"):
		return OpStream
	case has("Get", "Query", "Occupancy"):
		return OpQuery
	}
	return OpOther
}

// faultOffset returns where the decoder found a fault. It stands before the value at
// fault, the rest of which is in its buffer; checking that again tells how far it
// was good.
func faultOffset(d *json.Decoder, lines *lineCounter, err error) int64 {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return lines.read
	}
	if errors.Is(err, errLong) {
		rest, _ := io.ReadAll(d.Buffered())
		value := bytes.TrimLeft(rest, ", \t\r\n")
		if len(value) == 0 {
			value = rest // all of it is space
		}
		return d.InputOffset() + int64(len(rest)-len(value)) + 1
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		rest, _ := io.ReadAll(d.Buffered())
		value := bytes.TrimLeft(rest, ", \t\r\n")
		if errors.As(json.Unmarshal(value, new(json.RawMessage)), &syntax) {
			return d.InputOffset() + int64(len(rest)-len(value)) + syntax.Offset
		}
	}
	return d.InputOffset()
}

// A lineCounter remembers where lines end, of what the decoder has not taken yet,
// and bounds that: it is what the decoder must hold to find the end of a value.
type lineCounter struct {
	r     io.Reader
	max   int
	taken func() int64 // bytes that the decoder is done with
	read  int64
	past  int     // lines that end before the first of ends
	ends  []int64 // offsets of newlines
}

// errLong: one value, or the space between two, is longer than may be held.
var errLong = fmt.Errorf("%w: a line or a value", ErrTooLarge)

func (l *lineCounter) Read(p []byte) (int, error) {
	taken := l.taken()
	if l.read-taken > int64(l.max) {
		return 0, fmt.Errorf("%w of more than %d bytes", errLong, l.max)
	}
	done, _ := slices.BinarySearch(l.ends, taken)
	l.past += done
	l.ends = slices.Delete(l.ends, 0, done)
	n, err := l.r.Read(p[:min(len(p), l.max)])
	for i, c := range p[:n] {
		if c == '\n' {
			l.ends = append(l.ends, l.read+int64(i))
		}
	}
	l.read += int64(n)
	return n, err
}

// line returns the number of the line that holds the byte before an offset, which
// the decoder had not taken at the last Read.
func (l *lineCounter) line(offset int64) int {
	n, _ := slices.BinarySearch(l.ends, offset)
	return 1 + l.past + n
}
