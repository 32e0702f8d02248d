package client

import (
	"fmt"
	"math/bits"
	"time"

	"understudy.dev/machine"
	"understudy.dev/node"
)

// A request is a command from its submission to its answer.
type request struct {
	id       uint64 // tells one use of this struct from the next
	name     string
	version  uint32
	data     []byte // a copy of the caller's
	done     func(Answer)
	deadline time.Time // zero if there is none

	number   uint64 // in the session; 0 until it is sent the first time
	copies   int    // times it was sent
	sent     bool   // a copy is under way on this connection
	doubt    bool   // what became of an earlier copy is not known
	retry    bool   // waits for the end of a hold
	answered bool   // the caller has its answer, the session not
	refused  bool   // ordered sessions: its number will never be filled
}

// A completion is an answer to hand out when no lock is held.
type completion struct {
	done   func(Answer)
	answer Answer
}

// A pipeline decides what is sent next and what an answer means. It does no I/O
// and reads no clock; its owner guards it by a lock.
//
// Commands wait in pending without a number. A number is given when a command is
// first sent, so one that was never sent leaves no hole. From then on it is in
// the ring until it is resolved: base is the oldest in it, low the lowest number
// that the session must still answer, next the number to be given next.
//
// # When a command is unknown
//
// A copy that the node answers is resolved. A copy whose connection was lost is
// in doubt: it may have been carried out. Sending the command again with the
// same session and number resolves it, since the session answers an old copy
// with the old reply. Only when that is impossible, since the session is gone or
// the caller does not wait, doubt becomes the answer "unknown".
type pipeline struct {
	ordered bool
	limit   uint64 // configured window
	session uint64 // 0: none is open
	lost    bool   // the session is gone; open another when inflight is 0

	pending []*request // not yet numbered; from head on
	head    int
	ring    []*request // numbered, by number modulo length
	base    uint64
	low     uint64
	next    uint64

	// Of the connection.
	cursor     uint64 // every number below was considered for sending
	window     uint64 // numbers from low that may be sent
	maxCommand int    // bytes
	inflight   uint64 // copies under way, the opening of a session included
	opening    bool   // the opening of a session is under way
	held       bool   // commands to retry wait

	out      []completion
	free     []*request
	lastID   uint64
	retried  uint64
	repeated uint64
	sessions uint64
}

func newPipeline(isOrdered bool, window int) *pipeline {
	size := 1 << bits.Len(uint(window-1))
	return &pipeline{ordered: isOrdered, limit: uint64(window), ring: make([]*request, size), base: 1, low: 1, next: 1, cursor: 1}
}

// add puts a command behind the others. It copies data.
func (p *pipeline) add(name string, version uint32, data []byte, deadline time.Time, done func(Answer)) *request {
	r := p.fresh()
	r.name, r.version, r.deadline, r.done = name, version, deadline, done
	r.data = append(r.data, data...)
	p.pending = append(p.pending, r)
	return r
}

func (p *pipeline) fresh() *request {
	p.lastID++
	if n := len(p.free); n > 0 {
		r := p.free[n-1]
		p.free = p.free[:n-1]
		r.id = p.lastID
		return r
	}
	return &request{id: p.lastID}
}

// maxKept is the largest buffer that is kept for the next command.
const maxKept = 16 << 10

func (p *pipeline) recycle(r *request) {
	data := r.data[:0]
	if cap(data) > maxKept {
		data = nil
	}
	*r = request{data: data}
	p.free = append(p.free, r)
}

// attach starts a connection that allows so many commands of so many bytes.
func (p *pipeline) attach(window uint32, maxCommand uint32) {
	p.window = min(p.limit, uint64(window))
	p.maxCommand = int(maxCommand)
	p.cursor = p.base
}

// detach ends the connection: whatever was under way is in doubt.
func (p *pipeline) detach() {
	for n := p.base; n < p.next; n++ {
		r := p.at(n)
		if r == nil {
			continue
		}
		if r.sent {
			r.sent, r.doubt = false, true
		}
		r.retry = false
		if r.answered && !p.ordered {
			p.remove(r)
		}
	}
	p.window, p.inflight, p.opening, p.held = 0, 0, false, false
	p.renew()
}

func (p *pipeline) at(number uint64) *request {
	if number < p.base || number >= p.next {
		return nil
	}
	return p.ring[number&uint64(len(p.ring)-1)]
}

// wantsSession reports whether the opening of a session is to be sent.
func (p *pipeline) wantsSession() bool {
	return p.session == 0 && !p.opening && !p.held && p.window > 0
}

// hasWork reports whether something may be sent now.
func (p *pipeline) hasWork() bool {
	return p.cursor < p.next || p.head < len(p.pending) || p.wantsSession()
}

func (p *pipeline) openingSent() {
	p.opening = true
	p.inflight++
}

// nextToSend returns the command to send now, or nil. The caller sends it and
// calls markSent before it asks again.
func (p *pipeline) nextToSend() *request {
	if p.session == 0 || p.lost {
		return nil
	}
	for p.inflight < p.window {
		r, more := p.candidate()
		if !more {
			return nil
		}
		if r == nil {
			continue
		}
		if len(r.data) > p.maxCommand {
			p.refuse(r, fmt.Appendf(nil, "command of %d bytes, this node takes at most %d", len(r.data), p.maxCommand))
			if p.renew(); p.session == 0 {
				return nil
			}
			continue
		}
		if r.number == 0 {
			p.number(r)
		}
		return r
	}
	return nil
}

// candidate looks at one command and says whether there may be others after it.
// In an ordered session nothing passes a command that has to wait.
func (p *pipeline) candidate() (r *request, more bool) {
	if p.cursor < p.next {
		r := p.at(p.cursor)
		switch {
		case p.cursor >= p.low+p.window:
			return nil, false
		case r == nil || r.sent || r.answered && !p.ordered:
			p.cursor++
			return nil, true
		case r.refused:
			return nil, false
		case r.retry && p.held && p.ordered:
			return nil, false
		case r.retry && p.held:
			p.cursor++
			return nil, true
		}
		return r, true
	}
	if p.head == len(p.pending) || p.next >= p.low+p.window || p.next >= p.base+uint64(len(p.ring)) {
		return nil, false
	}
	return p.pending[p.head], true
}

func (p *pipeline) number(r *request) {
	p.popPending()
	r.number = p.next
	p.ring[r.number&uint64(len(p.ring)-1)] = r
	p.next++
}

func (p *pipeline) popPending() {
	p.pending[p.head] = nil
	p.head++
	if p.head == len(p.pending) {
		p.pending, p.head = p.pending[:0], 0
	} else if p.head > 1024 && p.head > len(p.pending)/2 {
		p.pending = append(p.pending[:0], p.pending[p.head:]...)
		p.head = 0
	}
}

func (p *pipeline) markSent(r *request) {
	r.sent, r.retry = true, false
	r.copies++
	if r.copies == 2 {
		p.retried++
	}
	p.inflight++
	p.cursor = r.number + 1
}

// An event is what a result means beyond its own command.
type event uint8

const (
	nothing    event = iota
	progress         // a command was answered, or a session opened
	wait             // hold: something is to be sent again, but not at once
	leave            // this node is not the primary
	mustRefuse       // the node refuses to open a session
	stray            // nothing was asked under this number
)

// result takes the node's answer to one copy.
func (p *pipeline) result(res *result) event {
	if res.number == 0 && p.opening {
		return p.opened(res)
	}
	r := p.at(res.number)
	if r == nil || !r.sent {
		return stray
	}
	r.sent = false
	p.inflight--
	ev := p.resolve(r, res)
	p.renew()
	return ev
}

func (p *pipeline) opened(res *result) event {
	p.opening = false
	p.inflight--
	switch {
	case res.status == node.Done && res.code == machine.OK && res.seq != 0:
		p.session = uint64(res.seq)
		p.sessions++
		return progress
	case res.status == node.NotPrimary:
		return leave
	case res.status == node.Refused || res.status == node.Done:
		p.held = true
		return mustRefuse
	}
	p.held = true // an opening that may have been done leaves a session that nobody uses
	return wait
}

func (p *pipeline) resolve(r *request, res *result) event {
	switch res.status {
	case node.Done:
		return p.outcome(r, res)
	case node.Refused:
		p.refuse(r, res.body)
		return progress
	case node.NotPrimary:
		return leave
	case node.Unknown:
		r.doubt = true
	}
	return p.hold(r)
}

// outcome takes the answer of the session.
func (p *pipeline) outcome(r *request, res *result) event {
	switch res.code {
	case machine.OK, machine.Rejected:
		a := Answer{Verdict: Done, Seq: res.seq, Repeated: res.repeated, Reply: res.body}
		if res.code == machine.Rejected {
			a.Verdict = Rejected
		}
		if res.repeated && !r.answered {
			p.repeated++
		}
		p.finish(r, a)
		return progress
	case machine.Forgotten:
		p.finish(r, unknown(errForgotten))
		return progress
	case machine.NoSession:
		p.lost = true
		return nothing
	case machine.Hole:
		if p.ordered && r.number != p.low {
			p.cursor = min(p.cursor, r.number) // the one before it is sent again first
			return nothing
		}
	case machine.Beyond:
		if !p.held {
			p.window = max(1, p.window/2) // the machine's window is smaller than the server's
		}
	}
	return p.hold(r)
}

// hold marks a command to be sent again after a while.
func (p *pipeline) hold(r *request) event {
	if r.answered && !p.ordered {
		p.remove(r)
		return nothing
	}
	r.retry, p.held = true, true
	p.cursor = min(p.cursor, r.number)
	return wait
}

// release ends a hold.
func (p *pipeline) release() {
	p.held = false
	p.cursor = p.base
}

// refuse answers a command that will not be accepted. If an earlier copy is in
// doubt then that, and not the refusal of this one, decides.
//
// An ordered session cannot go on without the number, if it was given: the
// command stays in the ring until all before it are resolved, then renew opens
// another session.
func (p *pipeline) refuse(r *request, words []byte) {
	a := refused(words)
	if r.doubt {
		a = unknown(a.Err)
	}
	if r.number == 0 {
		p.popPending()
		p.answer(r, a)
		p.recycle(r)
		return
	}
	if !p.ordered {
		p.finish(r, a)
		return
	}
	p.answer(r, a)
	r.refused = true
}

// renew gives up a session that is gone or cannot go on, when nothing of it is
// under way any more. What is certainly not done goes back to pending, in its
// order, and is sent again in the next session; what is in doubt is unknown: the
// next session could not tell that it was carried out, and would do it again.
func (p *pipeline) renew() {
	if p.inflight > 0 || p.session == 0 {
		return
	}
	first := p.at(p.base)
	stuck := p.ordered && first != nil && first.refused
	if !p.lost && !stuck {
		return
	}
	// An ordered session carries out nothing after a number that it never got.
	certain := stuck && !first.doubt
	cause := errExpired
	if stuck {
		cause = errNumbering
	}
	var again []*request
	for n := p.base; n < p.next; n++ {
		r := p.at(n)
		switch {
		case r == nil:
		case r.answered:
			p.drop(r)
		case r.doubt && !certain:
			p.answer(r, unknown(cause))
			p.drop(r)
		default:
			p.ring[n&uint64(len(p.ring)-1)] = nil
			r.number, r.doubt, r.retry = 0, false, false
			again = append(again, r)
		}
	}
	p.pending, p.head = append(again, p.pending[p.head:]...), 0
	p.base, p.low, p.next, p.cursor = 1, 1, 1, 1
	p.session, p.lost = 0, false
}

func (p *pipeline) answer(r *request, a Answer) {
	if r.answered {
		return
	}
	r.answered = true
	p.out = append(p.out, completion{r.done, a})
	r.done = nil
}

// finish answers a numbered command and takes it out of the ring.
func (p *pipeline) finish(r *request, a Answer) {
	p.answer(r, a)
	p.remove(r)
}

func (p *pipeline) drop(r *request) {
	p.ring[r.number&uint64(len(p.ring)-1)] = nil
	p.recycle(r)
}

func (p *pipeline) remove(r *request) {
	p.drop(r)
	p.advance()
}

// advance moves base and low over what is resolved. An ordered session waits for
// commands that nobody else waits for, since it takes no number twice and none
// too early.
func (p *pipeline) advance() {
	for p.base < p.next && p.at(p.base) == nil {
		p.base++
	}
	p.low = max(p.low, p.base)
	for p.low < p.next {
		r := p.at(p.low)
		if r != nil && (p.ordered || !r.answered) {
			break
		}
		p.low++
	}
}

// abandon answers a command whose caller does not wait any longer with what is
// certain about it, unless it is answered already.
func (p *pipeline) abandon(r *request, id uint64, cause error) {
	if r.id != id || id == 0 || r.answered {
		return
	}
	if r.number == 0 {
		p.withdraw(r, cause)
		return
	}
	if !r.sent && !r.doubt && !p.ordered {
		p.finish(r, notDone(cause))
		return
	}
	p.answer(r, unknown(cause))
	if !r.sent && !p.ordered {
		p.remove(r)
		return
	}
	p.advance()
}

// withdraw takes a command out of pending.
func (p *pipeline) withdraw(r *request, cause error) {
	for i := p.head; i < len(p.pending); i++ {
		if p.pending[i] == r {
			p.pending = append(p.pending[:i], p.pending[i+1:]...)
			break
		}
	}
	p.answer(r, notDone(cause))
	p.recycle(r)
}

// expire abandons what has passed its deadline. Deadlines grow with the order of
// submission, so it looks at the oldest only.
func (p *pipeline) expire(now time.Time) {
	late := func(r *request) bool { return !r.deadline.IsZero() && !now.Before(r.deadline) }
	for p.head < len(p.pending) && late(p.pending[p.head]) {
		r := p.pending[p.head]
		p.popPending()
		p.answer(r, notDone(errDeadline))
		p.recycle(r)
	}
	for n := p.base; n < p.next; n++ {
		r := p.at(n)
		if r == nil || r.answered {
			continue
		}
		if !late(r) {
			return
		}
		p.abandon(r, r.id, errDeadline)
	}
}

// close answers everything that is left.
func (p *pipeline) close() {
	for n := p.base; n < p.next; n++ {
		if r := p.at(n); r != nil && (r.sent || r.doubt) {
			p.answer(r, unknown(ErrClosed))
		} else if r != nil {
			p.answer(r, notDone(ErrClosed))
		}
	}
	for _, r := range p.pending[p.head:] {
		p.answer(r, notDone(ErrClosed))
	}
	p.pending, p.head = nil, 0
	p.session = 0
}

// take returns the answers to hand out.
func (p *pipeline) take(into []completion) []completion {
	into = append(into[:0], p.out...)
	clear(p.out)
	p.out = p.out[:0]
	return into
}
