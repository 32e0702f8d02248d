package trace

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"understudy.dev/harness"
	"understudy.dev/journal"
)

// A Model is a device of which only the bookkeeping is real: streams take commands
// in order and memory is allocated before it is freed. It is a harness.Sink for
// the trace of one device, for one goroutine. It remembers every address that it saw,
// so its memory is in proportion to the distinct ones.
type Model struct {
	report  Report
	time    time.Duration
	streams map[int64]*queue
	live    map[place]Allocation
	freed   map[place]int // line of the last free
	counted map[pool]int  // allocations without address
}

// A queue is where a stream stands.
type queue struct {
	order uint64
	start time.Duration
}

// A pool is a supply of memory whose addresses are told apart. The caching
// allocator cuts up what the runtime allocated, so the two are not mixed.
type pool struct {
	name         string // "device", "host" or the allocator's name
	device, kind int
}

func (p pool) String() string { return fmt.Sprintf("%s %d.%d", p.name, p.kind, p.device) }

type place struct {
	pool pool
	addr uint64
}

// An Allocation is memory as a trace knows it.
type Allocation struct {
	Pool  string // such as "caching_allocator 1.0": supply, device type, device
	Addr  uint64 // opaque
	Bytes int64
	Line  int // of the trace
}

// A Report is what a Model has seen so far.
type Report struct {
	Commands  int
	Ops       map[Op]int
	Streams   map[int64]uint64 // commands on each
	Unmatched []Allocation     // frees without an earlier allocation, in order
	Live      []Allocation     // allocated and not freed, by line
	LiveBytes int64            // of Live
	PeakBytes int64            // the most that Live ever held
	Counted   map[string]int   // live allocations without address, by pool
	Lost      map[string]int   // frees without address when none of their pool was live
}

// NewModel returns a model of an idle device.
func NewModel() *Model {
	return &Model{
		report:  Report{Ops: make(map[Op]int), Lost: make(map[string]int)},
		streams: make(map[int64]*queue), live: make(map[place]Allocation), freed: make(map[place]int),
		counted: make(map[pool]int),
	}
}

// A Fault is a command that no device could have been given.
type Fault struct {
	Number uint64      // the harness's number of the record
	Seq    journal.Seq // the record's
	Line   int         // of the trace
	Reason string
}

func (f *Fault) Error() string {
	return fmt.Sprintf("trace: record %d, seq %d, line %d of the trace: %s", f.Number, f.Seq, f.Line, f.Reason)
}

// Apply takes in a device or kernel record and ignores other kinds. It returns a
// *Fault if time runs backwards, a stream's commands are not in order, or memory is
// allocated that is live, or freed with another size or twice.
func (m *Model) Apply(ctx context.Context, e *harness.Entry) error {
	if e.Kind != journal.KindDevice && e.Kind != journal.KindKernel {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := Decode(e.Data)
	if err != nil {
		return fmt.Errorf("trace: record %d, seq %d: %w", e.Number, e.Seq, err)
	}
	if reason := m.take(c); reason != "" {
		return &Fault{Number: e.Number, Seq: e.Seq, Line: c.Line, Reason: reason}
	}
	return nil
}

// take returns why the command is impossible, or "".
func (m *Model) take(c *Command) string {
	if c.Time < m.time {
		return fmt.Sprintf("time %v is before %v of the command before", c.Time, m.time)
	}
	if reason := m.enqueue(c); reason != "" {
		return reason
	}
	var reason string
	switch c.Op {
	case OpAlloc, OpHostAlloc:
		reason = m.alloc(c)
	case OpFree:
		reason = m.free(c)
	}
	if reason == "" {
		m.time = c.Time
		m.report.Commands++
		m.report.Ops[c.Op]++
	}
	return reason
}

// enqueue checks that a command is the next one of its stream and did not start
// before the one ahead of it.
func (m *Model) enqueue(c *Command) string {
	if c.Stream == nil {
		return ""
	}
	q := m.streams[*c.Stream]
	if q == nil {
		q = new(queue)
		m.streams[*c.Stream] = q
	}
	if c.Order != q.order+1 {
		return fmt.Sprintf("stream %d: command %d comes after command %d", *c.Stream, c.Order, q.order)
	}
	if c.Start != 0 && c.Start < q.start {
		return fmt.Sprintf("stream %d: command %d started at %v, the one ahead of it at %v", *c.Stream, c.Order, c.Start, q.start)
	}
	q.order, q.start = c.Order, max(q.start, c.Start)
	return ""
}

func (m *Model) alloc(c *Command) string {
	p := poolOf(c)
	if c.Addr == nil {
		m.counted[p]++
		return ""
	}
	at := place{p, *c.Addr}
	if a, ok := m.live[at]; ok {
		return fmt.Sprintf("allocates %#x, which is live since line %d", *c.Addr, a.Line)
	}
	m.live[at] = Allocation{p.String(), *c.Addr, c.Bytes, c.Line}
	m.report.LiveBytes += c.Bytes
	m.report.PeakBytes = max(m.report.PeakBytes, m.report.LiveBytes)
	return ""
}

func (m *Model) free(c *Command) string {
	p := poolOf(c)
	if c.Addr == nil {
		if m.counted[p] == 0 {
			m.report.Lost[p.String()]++
			return ""
		}
		m.counted[p]--
		return ""
	}
	at := place{p, *c.Addr}
	a, ok := m.live[at]
	if !ok {
		if line, again := m.freed[at]; again {
			return fmt.Sprintf("frees %#x, which line %d freed and nothing allocated since", *c.Addr, line)
		}
		if at.addr != 0 { // freeing a null pointer is allowed, any number of times
			m.freed[at] = c.Line
		}
		m.report.Unmatched = append(m.report.Unmatched, Allocation{p.String(), *c.Addr, c.Bytes, c.Line})
		return ""
	}
	if c.Bytes != 0 && c.Bytes != a.Bytes {
		return fmt.Sprintf("frees %d bytes at %#x, line %d allocated %d", c.Bytes, *c.Addr, a.Line, a.Bytes)
	}
	delete(m.live, at)
	m.freed[at] = c.Line
	m.report.LiveBytes -= a.Bytes
	return ""
}

func poolOf(c *Command) pool {
	p := pool{"device", c.Device, c.DeviceType}
	switch {
	case c.API == allocatorAPI:
		p.name = allocatorAPI
	case c.Op == OpHostAlloc || hostFree(c.API):
		p.name = "host"
	}
	return p
}

func hostFree(api string) bool { return api == "cudaFreeHost" || api == "cuMemFreeHost" }

// Report returns what was seen so far.
func (m *Model) Report() Report {
	r := m.report
	r.Ops, r.Lost = maps.Clone(r.Ops), maps.Clone(r.Lost)
	r.Unmatched = slices.Clone(r.Unmatched)
	r.Streams = make(map[int64]uint64, len(m.streams))
	for id, q := range m.streams {
		r.Streams[id] = q.order
	}
	r.Live = slices.SortedFunc(maps.Values(m.live), func(a, b Allocation) int { return cmp.Compare(a.Line, b.Line) })
	r.Counted = make(map[string]int)
	for p, n := range m.counted {
		if n > 0 {
			r.Counted[p.String()] = n
		}
	}
	return r
}
