package node

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"understudy.dev/journal"
)

// openIntake begins to take requests.
func (n *Node) openIntake() {
	n.intake.Store(newIntake(n.cfg.MaxWaiting, n.cfg.MaxWaitingBytes))
	n.publish(Leading)
}

// sendAheadFrom is how many waiting requests make a batch that is worth sending
// before the finished one is applied and answered. With fewer, handing over costs
// more than it gains, and submitters that wait for each answer would fall into two
// halves that take turns: then each batch, and so each sync, serves half of them.
const sendAheadFrom = 1024

// lookForFence is how often an idle primary looks whether it was fenced: as often
// as the tail is sampled.
const lookForFence = 250 * time.Millisecond

// finishWithin bounds how long a primary that is told to stop waits for the
// append in flight.
const finishWithin = 2 * time.Second

// lead admits, sequences, appends, applies and answers until the tenure ends.
//
// One append is in flight at a time; what comes meanwhile gathers and goes out
// as the next batch. Under load the next one is sent before the finished one is
// applied and answered, so that the journal and the machine work at the same time.
func (n *Node) lead(ctx context.Context) State {
	l := newLeader(ctx, n)
	defer l.close()
	look := time.NewTicker(lookForFence)
	defer look.Stop()
	for {
		l.sendNow()
		select {
		case b := <-l.done:
			if next, over := l.finished(b); over {
				return next
			}
			runtime.Gosched() // those who were answered come again before the next batch goes out
		case <-l.in.signal:
		case <-look.C:
			l.barrier = l.barrier || l.outbid() || l.distrusts() || !l.fullAt.IsZero() && time.Since(l.fullAt) >= probeFull
		case p := <-n.promotions:
			l.asked, l.barrier = p, true
		case <-ctx.Done():
			return l.finish()
		}
	}
}

// A bundle is a batch on its way, with those who wait for it.
type bundle struct {
	batch   *journal.Builder
	records []journal.Record
	waits   []waiting // one for each record
	reads   []waiting // proved by this batch
	asked   *promotion
	first   journal.Seq
	digest  journal.Digest

	cursor journal.Cursor // after the append
	err    error
	took   time.Duration
}

func (b *bundle) reset() {
	b.batch.Reset()
	clear(b.records)
	clear(b.waits)
	clear(b.reads)
	b.records, b.waits, b.reads, b.asked = b.records[:0], b.waits[:0], b.reads[:0], nil
}

// leader is the state of one tenure.
type leader struct {
	*Node
	in      *intake
	epoch   journal.Epoch
	rest    []waiting // taken from the intake, not yet in a bundle
	restAt  int
	next    *bundle // to be sent; nil while one is in flight and the other is applied
	idle    *bundle // the other one, unless that is in flight or applied
	flying  *bundle
	barrier bool       // an append is wanted even if there is nothing to write
	asked   *promotion // of this node, which believes that it is the primary: the next append proves it

	jobs, done chan *bundle
	life       context.Context // of the node
	ctx        context.Context // of appends
	stop       context.CancelCauseFunc
	detach     func() bool
	watcher    sync.WaitGroup
	fullAt     time.Time // when an append was refused for lack of room; zero if the last was not
}

func newLeader(ctx context.Context, n *Node) *leader {
	l := &leader{
		Node: n, in: n.intake.Load(), epoch: n.cursor.Epoch,
		next: &bundle{batch: n.writer.NewBuilder()}, idle: &bundle{batch: n.writer.NewBuilder()},
		jobs: make(chan *bundle, 1), done: make(chan *bundle, 1), life: ctx,
	}
	l.ctx, l.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	l.detach = context.AfterFunc(ctx, func() { time.AfterFunc(finishWithin, func() { l.stop(errStopping) }) })
	if n.cfg.AppendWithin > 0 {
		l.watcher.Go(l.watch)
	}
	go l.appendAll()
	return l
}

// errStopping ends what is under way when a tenure is over.
var errStopping = errors.New("the node stops")

// watch ends appends when one has been under way for too long. It looks now and
// then, since a timer for each append would take about as long as a small append.
// It counts its looks and no time: a process that was paused, or whose clock jumped,
// has not given the journal that time. If the append is done at that very moment,
// the next one ends the tenure.
func (l *leader) watch() {
	within := l.cfg.AppendWithin
	every := min(lookForFence, within)
	tick := time.NewTicker(every)
	defer tick.Stop()
	var seen int64
	var waited time.Duration
	for {
		select {
		case <-tick.C:
			since := l.appends.since.Load()
			if waited += every; since == 0 || since != seen {
				seen, waited = since, 0
			}
			if waited >= within {
				l.stop(fmt.Errorf("the journal left an append without an outcome for %v", within))
				return
			}
		case <-l.ctx.Done():
			return
		}
	}
}

// appendAll is the goroutine that has the append in flight that was sent ahead.
func (l *leader) appendAll() {
	defer close(l.done)
	for b := range l.jobs {
		l.append(b)
	}
}

func (l *leader) append(b *bundle) {
	began := time.Now()
	l.appends.begin(began)
	b.err = l.writer.Append(l.ctx, b.batch, b.digest)
	l.appends.end(b.err)
	b.took = time.Since(began)
	b.cursor = l.writer.Cursor()
	l.done <- b
}

// sendNow appends what waits, unless something is in flight or there is nothing.
func (l *leader) sendNow() {
	if l.flying == nil && l.seal() {
		l.append(l.flying)
	}
}

// sendAhead has what waits appended by another goroutine if that is much.
func (l *leader) sendAhead() {
	if l.waiting() >= sendAheadFrom && l.seal() {
		l.jobs <- l.flying
		runtime.Gosched() // the append begins before the finished batch is applied
	}
}

// waiting returns how many wait to be sent.
func (l *leader) waiting() int { return len(l.next.waits) + len(l.rest) - l.restAt + l.in.queued() }

// seal makes what waits the bundle in flight; it returns false if there is
// nothing to send, or the node is told to stop.
func (l *leader) seal() bool {
	b := l.next
	if l.life.Err() != nil || !l.fill(b) && !l.barrier {
		return false
	}
	l.next, l.idle = l.idle, nil
	l.barrier = false
	b.asked, l.asked = l.asked, nil
	b.first = l.writer.Cursor().Seq + 1
	b.digest = l.replica.Digest()
	l.flying = b
	return true
}

// fill moves what waits into b and reports whether there was anything.
func (l *leader) fill(b *bundle) bool {
	now := journal.TimeOf(l.cfg.now())
	for {
		if l.restAt == len(l.rest) {
			l.rest, l.restAt = l.in.take(l.rest), 0
			if len(l.rest) == 0 {
				break
			}
		}
		w := &l.rest[l.restAt]
		if w.read != nil {
			b.reads = append(b.reads, *w)
		} else if !l.add(b, w, now) {
			break
		}
		l.rest[l.restAt] = waiting{}
		l.restAt++
	}
	return len(b.waits)+len(b.reads) > 0
}

// add puts one request into b; it returns false if b is full.
func (l *leader) add(b *bundle, w *waiting, now journal.Time) bool {
	r := &w.req
	b.records = append(b.records, journal.Record{
		Kind: r.Kind, Name: r.Name, Version: r.Version, Client: r.Client, Request: r.Number, Low: r.Low, Data: r.Data, Time: now,
	})
	rec := &b.records[len(b.records)-1]
	if err := b.batch.Add(rec); err != nil {
		b.records = b.records[:len(b.records)-1]
		if b.batch.Count() > 0 {
			return false
		}
		l.in.release(1, len(r.Data))
		l.answer(w, Result{Status: Refused, Err: err}) // too large even alone: the journal takes less than when it was admitted
		return true
	}
	b.waits = append(b.waits, *w)
	return true
}

// finished takes a bundle whose append returned. It returns true and the next
// state if the tenure is over.
func (l *leader) finished(b *bundle) (State, bool) {
	l.flying = nil
	if l.cfg.Observer != nil {
		l.cfg.Observer.Appended(len(b.records), b.batch.Bytes(), b.took, b.err)
	}
	if b.err != nil {
		return l.failed(b)
	}
	l.fullAt = time.Time{}
	l.sendAhead()
	for i := range b.records {
		b.records[i].Seq, b.records[i].Epoch = b.first+journal.Seq(i), l.epoch
	}
	outcomes, err := l.apply(&journal.Batch{First: b.first, Count: len(b.records), Epoch: l.epoch}, b.records, true)
	l.Node.cursor = b.cursor
	if err != nil {
		// It is in the journal, and no node gets past it.
		l.answerAll(b, Result{Status: Unknown, Err: err})
		l.handBack(b.asked)
		return l.Node.stop(err), true
	}
	l.meter.Advance(b.cursor, len(b.records))
	l.publishSame()
	l.release(b)
	for i := range b.waits {
		l.answer(&b.waits[i], Result{Status: Done, Outcome: outcomes[i]})
	}
	for i := range b.reads {
		b.reads[i].read(l.replica.Machine(), nil)
	}
	l.isPrimary(b)
	l.recycle(b)
	if l.flying != nil && l.waiting() >= sendAheadFrom {
		l.fill(l.next) // while the journal works
	}
	return Leading, false
}

// release tells the intake that those who wait for b are about to be answered.
func (l *leader) release(b *bundle) {
	bytes := 0
	for i := range b.waits {
		bytes += len(b.waits[i].req.Data)
	}
	l.in.release(len(b.waits)+len(b.reads), bytes)
}

func (l *leader) recycle(b *bundle) {
	b.reset()
	if l.next == nil {
		l.next = b
	} else {
		l.idle = b
	}
}

// outbid reports whether a larger epoch than this one was seen. It is a sample: the
// append that it leads to decides.
func (l *leader) outbid() bool { return l.meter.Progress().Tail.Epoch > l.epoch }

// failed answers a bundle that was not, or perhaps, appended.
func (l *leader) failed(b *bundle) (State, bool) {
	outcome := journal.OutcomeOf(b.err)
	full := errors.Is(b.err, journal.ErrFull)
	// A store without room for a batch may have taken a fence: a primary that would
	// never find out steps down.
	if outcome == journal.NotDone && (full && !l.outbid() || errors.Is(b.err, journal.ErrTooLarge)) {
		if full {
			l.fullAt = time.Now()
		}
		l.log.Error("batch refused by the journal", "event", "append.refused", "records", len(b.records), "error", b.err)
		l.release(b)
		l.answerAll(b, Result{Status: NotDone, Err: b.err})
		l.isPrimary(b)
		l.recycle(b)
		return Leading, false
	}
	if l.Node.cursor != b.cursor {
		l.meter.Advance(b.cursor, 0)
	}
	l.Node.cursor = b.cursor
	l.handBack(b.asked)
	res := Result{Status: Unknown, Err: b.err}
	if outcome == journal.NotDone {
		res = Result{Status: NotPrimary, Err: b.err}
	}
	l.answerAll(b, res)
	switch {
	case hopeless(b.err):
		return l.Node.stop(fmt.Errorf("append: %w", b.err)), true
	case errors.Is(b.err, journal.ErrFenced):
		l.log.Error("fenced: stepping down", "event", "primary.fenced", "epoch", l.epoch, "by_epoch", b.cursor.Epoch,
			"by_node", b.cursor.Owner, "unanswered", len(b.waits))
	default:
		l.log.Error("the journal does not take or settle appends: stepping down", "event", "primary.gave_up", "epoch", l.epoch,
			"outcome", outcome, "unanswered", len(b.waits), "error", b.err)
	}
	return Following, true
}

// distrusts reports whether the last look at the tail found that the journal lost
// entries or is not the one that was opened: the next append says so for certain.
func (l *leader) distrusts() bool {
	err := l.meter.Progress().TailErr
	return errors.Is(err, journal.ErrLost) || errors.Is(err, journal.ErrBroken)
}

// isPrimary answers a promotion that asked for what this node is already.
func (l *leader) isPrimary(b *bundle) {
	if b.asked != nil {
		b.asked.answer(Report{}, l.refusal(AlreadyPrimary, b.err))
	}
}

// handBack leaves a promotion to the state that follows: this node was not, or no
// longer, what it believed. There is room: one promotion at a time is asked for.
func (l *leader) handBack(p *promotion) {
	if p == nil {
		return
	}
	select {
	case l.promotions <- p:
	default: // its caller gave up and the next one is here
	}
}

// answer gives a request its one answer.
func (n *Node) answer(w *waiting, r Result) {
	if n.cfg.Observer != nil {
		n.observe(w, r)
	}
	w.done(r)
}

// observe is apart from answer, since the result that the Observer sees is on the heap.
func (n *Node) observe(w *waiting, r Result) {
	n.cfg.Observer.Answered(&w.req, &r, time.Since(w.at))
}

func (l *leader) answerAll(b *bundle, r Result) {
	for i := range b.waits {
		l.answer(&b.waits[i], r)
	}
	for i := range b.reads {
		b.reads[i].read(nil, r.Err)
	}
}

// finish ends a tenure because the process stops: what is in flight is waited
// for and answered, what was never sequenced is told so.
func (l *leader) finish() State {
	l.barrier = false
	l.answerRest()
	if l.flying == nil {
		return Leading
	}
	next, _ := l.finished(<-l.done)
	return next
}

// close ends the tenure: the intake takes nothing more, and everybody who waits
// is answered.
func (l *leader) close() {
	l.intake.Store(nil)
	if l.halted == nil {
		l.publish(Following)
	}
	l.answerRest()
	close(l.jobs)
	l.detach()
	l.stop(errStopping)
	l.watcher.Wait()
	for b := range l.done { // until the goroutine has ended
		l.abandon(b)
	}
	l.handBack(l.asked)
	l.appends.reset()
	l.writer = nil
}

// abandon answers a batch that was in flight when the machine failed on the one
// before it. No node applies it before a person decided about that one.
func (l *leader) abandon(b *bundle) {
	res := Result{Status: Unknown, Err: l.halted}
	if journal.OutcomeOf(b.err) == journal.NotDone {
		res.Status = NotPrimary
	}
	l.answerAll(b, res)
	l.handBack(b.asked)
}

// answerRest tells those who were never sequenced, and shuts the intake.
func (l *leader) answerRest() {
	if l.next != nil {
		l.answerNotPrimary(append(l.next.waits, l.next.reads...))
		l.next.reset()
	}
	l.answerNotPrimary(append(l.rest[l.restAt:], l.in.close()...))
	l.rest, l.restAt = nil, 0
}

// answerNotPrimary answers requests and reads that were never sequenced.
func (n *Node) answerNotPrimary(list []waiting) {
	for i := range list {
		if w := &list[i]; w.read != nil {
			w.read(nil, ErrNotPrimary)
		} else {
			n.answer(w, n.notPrimary())
		}
	}
}
