package harness

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"understudy.dev/journal"
)

// errMoved: this recorder ended because the mode changed; look at the state again.
var errMoved = errors.New("harness: mode changed")

// ErrName: a name or path is not UTF-8. What shows records, such as the JSON of a
// sink, could not show it as it is. Nothing was recorded.
var ErrName error = badName{}

type badName struct{}

func (badName) Error() string { return "harness: name or path is not UTF-8" }

// Unwrap returns what journal.OutcomeOf knows as certainly not done.
func (badName) Unwrap() error { return journal.ErrUnsupported }

// A LostError says which numbers were recorded and are not in the journal: or, if
// Outcome is journal.Unknown, may not be.
type LostError struct {
	From, To uint64
	Outcome  journal.Outcome
	Err      error // why
}

func (e *LostError) Error() string {
	which, are := fmt.Sprintf("records %d to %d", e.From, e.To), "are"
	if e.From == e.To {
		which, are = fmt.Sprintf("record %d", e.From), "is"
	}
	if e.Outcome == journal.Unknown {
		are = "may be"
	}
	return fmt.Sprintf("harness: %s %s lost: %v", which, are, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// lingerBytes is how much gathers before an asynchronous append does not wait for
// more: enough to spread the cost of hashing and of one append thin.
const lingerBytes = 64 << 10

// A recorder appends entries in one tenure. While one append is in flight the
// next batch gathers. One goroutine, run, appends; callers add.
type recorder struct {
	w       *journal.Writer
	async   bool
	linger  time.Duration // how long an asynchronous entry waits for company
	timeout time.Duration // of one append
	base    time.Time     // local clock when the tenure began
	zero    journal.Time  // the journal's time then
	kick    chan struct{} // there is something to append now
	timer   *time.Timer   // kicks when the linger is over
	stopped chan struct{} // run has ended

	mu      sync.Mutex
	turned  *sync.Cond // a group was finished
	open    *group     // gathers
	spare   *group     // nil while it is in flight
	next    uint64     // the next entry's number
	err     error      // final: nothing can be recorded any more
	lost    *LostError // what ended it, if records are lost of which not each caller heard for certain
	leaving bool       // no more entries
	stop    bool       // run ends when nothing is open
}

// A group is one batch on its way.
type group struct {
	b      *journal.Builder
	first  uint64  // number of its first entry, or of the next one if it has none
	urgent bool    // somebody waits for it
	result *result // for those who wait; nil if nobody does
}

// A result is what became of a group; err is set before done is closed.
type result struct {
	done chan struct{}
	err  error
}

// newRecorder starts to record in t. Entries get times from now on, later than
// what the journal holds: a clock that is behind it runs on from there.
func newRecorder(t *tenure, cfg *Config) *recorder {
	r := &recorder{
		w: t.w, async: cfg.Async, linger: cfg.Linger, timeout: cfg.Timeout, base: time.Now(),
		kick: make(chan struct{}, 1), stopped: make(chan struct{}), next: t.last + 1,
	}
	r.zero = max(journal.TimeOf(r.base), t.w.Cursor().Time+1)
	r.turned = sync.NewCond(&r.mu)
	r.open, r.spare = &group{b: t.w.NewBuilder()}, &group{b: t.w.NewBuilder()}
	r.timer = time.AfterFunc(cfg.Linger, r.wake)
	r.timer.Stop()
	go r.run()
	return r
}

func (r *recorder) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// record adds one entry. Synchronous recorders return when it is stored.
func (r *recorder) record(kind journal.Kind, version uint32, name string, data []byte) error {
	if !utf8.ValidString(name) {
		return ErrName
	}
	r.mu.Lock()
	err := r.addLocked(kind, version, name, data, true)
	if err != nil || r.async {
		r.mu.Unlock()
		return err
	}
	res := r.waitLocked(r.open)
	r.mu.Unlock()
	<-res.done
	return res.err
}

// note adds a record that is not an entry and waits until it is stored.
func (r *recorder) note(kind journal.Kind, name string, data []byte) error {
	r.mu.Lock()
	if err := r.addLocked(kind, versionPlain, name, data, false); err != nil {
		r.mu.Unlock()
		return err
	}
	res := r.waitLocked(r.open)
	r.mu.Unlock()
	<-res.done
	return res.err
}

// addLocked adds a record to the open group, waiting for room. An entry takes the
// next number if, and only if, it was added.
func (r *recorder) addLocked(kind journal.Kind, version uint32, name string, data []byte, entry bool) error {
	for {
		switch {
		case r.err != nil:
			return r.err
		case r.leaving && entry:
			return errMoved
		}
		if r.open.b.Fits(name, data) {
			break
		}
		if r.open.b.Count() == 0 {
			return fmt.Errorf("data of %d bytes, at most %d: %w", len(data), r.open.b.MaxData(name), journal.ErrTooLarge)
		}
		r.open.urgent = true
		r.wake()
		r.turned.Wait()
	}
	number := uint64(0)
	if entry {
		number = r.next
	}
	g := r.open
	before := g.b.Bytes()
	rec := journal.Record{
		Time: r.zero + journal.Time(time.Since(r.base)), Kind: kind, Name: name, Version: version,
		Request: number, Low: number, Data: data,
	}
	if err := g.b.Add(&rec); err != nil {
		return err
	}
	if g.b.Count() == 1 {
		g.first = r.next
		if r.async {
			r.timer.Reset(r.linger)
		} else {
			r.wake()
		}
	}
	if entry {
		r.next++
	}
	if r.async && before < lingerBytes && g.b.Bytes() >= lingerBytes {
		r.wake()
	}
	return nil
}

// waitLocked makes g urgent and returns where its result will be.
func (r *recorder) waitLocked(g *group) *result {
	if g.result == nil {
		g.result = &result{done: make(chan struct{})}
	}
	g.urgent = true
	r.wake()
	return g.result
}

// flush waits until everything recorded before is stored.
func (r *recorder) flush(ctx context.Context) error {
	r.mu.Lock()
	var res *result
	err := r.err
	switch {
	case r.lost != nil:
		err = r.lost
	case err != nil:
	case r.open.b.Count() > 0 || r.spare == nil:
		// What is in flight is done before what is open; if nothing is open, the
		// result of an empty group comes after it all the same.
		res = r.waitLocked(r.open)
	}
	r.mu.Unlock()
	if res == nil {
		return err
	}
	select {
	case <-res.done:
		return res.err
	case <-ctx.Done():
		return fmt.Errorf("flush: %w", context.Cause(ctx))
	}
}

// run appends group after group until it is stopped.
func (r *recorder) run() {
	defer close(r.stopped)
	defer r.timer.Stop()
	for range r.kick {
		r.mu.Lock()
		for due := r.open.b.Count() > 0 || r.open.urgent; due; due = r.dueLocked() {
			g := r.open
			r.open, r.spare = r.spare, nil
			r.mu.Unlock()
			err := r.append(g)
			r.mu.Lock()
			r.finishLocked(g, err)
		}
		stop := r.stop
		r.mu.Unlock()
		if stop {
			return
		}
	}
}

// dueLocked reports whether the open group should not wait any longer.
func (r *recorder) dueLocked() bool {
	g := r.open
	return g.urgent || g.b.Count() > 0 && !r.async || g.b.Bytes() >= lingerBytes
}

// append stores g; an empty group needs nothing.
func (r *recorder) append(g *group) error {
	if g.b.Count() == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.timeout)
	defer cancel()
	return r.w.Append(ctx, g.b, journal.Digest{})
}

// finishLocked answers those who wait for g and makes it the spare one. After a
// failure what gathered meanwhile fails too, since its numbers follow: so no
// number is burnt.
func (r *recorder) finishLocked(g *group, err error) {
	if err == nil {
		r.answerLocked(g, nil)
	} else {
		r.failLocked(g, err)
	}
	r.spare = g
	r.turned.Broadcast()
}

func (r *recorder) answerLocked(g *group, err error) {
	if g.result != nil {
		g.result.err = err
		close(g.result.done)
	}
	g.result, g.urgent = nil, false
	g.b.Reset()
}

func (r *recorder) failLocked(g *group, err error) {
	goesOn := !r.async && (errors.Is(err, journal.ErrFull) || errors.Is(err, journal.ErrTooLarge)) && !errors.Is(err, journal.ErrUnknown)
	after := err
	switch last := r.next - 1; {
	case goesOn:
		r.next = g.first
	case r.async && last >= g.first:
		r.lost = &LostError{From: g.first, To: last, Outcome: journal.OutcomeOf(err), Err: err}
		r.err = r.lost
		err, after = r.lost, r.lost
	default:
		after = notTried(err)
		r.err = after
		if r.open.b.Count() > 0 {
			last = r.open.first - 1
		}
		if journal.OutcomeOf(err) == journal.Unknown && last >= g.first {
			r.lost = &LostError{From: g.first, To: last, Outcome: journal.Unknown, Err: err}
			err = r.lost
		}
	}
	r.answerLocked(g, err)
	r.answerLocked(r.open, after)
}

// notTried turns the error that ended a recorder into the one for records that
// came after it: those are certainly not stored, whatever became of its own.
func notTried(err error) error {
	if journal.OutcomeOf(err) == journal.Unknown {
		return fmt.Errorf("%w: an earlier record's outcome is unknown: %v", journal.ErrClosed, err)
	}
	return err
}

// leave ends the recorder with a record of the change. Adding fails with errMoved
// from now on. What is lost is said by the error; the recorder has ended anyway.
func (r *recorder) leave(change Change) error {
	r.mu.Lock()
	r.leaving = true
	r.mu.Unlock()
	err := r.flush(context.Background())
	if err == nil {
		change.From, change.After = Record.String(), r.last()
		err = r.note(journal.KindMode, "", mustJSON(change))
	}
	r.mu.Lock()
	r.stop = true
	r.mu.Unlock()
	r.wake()
	<-r.stopped
	return err
}

// last returns the highest number given.
func (r *recorder) last() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next - 1
}
