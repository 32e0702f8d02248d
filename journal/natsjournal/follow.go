package natsjournal

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"understudy.dev/journal"
)

const (
	// lookEvery is how often an idle follower asks where the stream ends.
	lookEvery = 250 * time.Millisecond

	// maxUnanswered is how many looks in a row the server may leave unanswered
	// before following ends with an error. It is counted and not timed, since the
	// caller may take its time with an entry.
	maxUnanswered = 8

	// silence is how long maxUnanswered looks take: more than a stream whose leader
	// steps down needs (0.2 s), less than the journal.Reader's own patience.
	silence = maxUnanswered * lookEvery

	// livePending bounds the messages that wait for the follower. Beyond it they are
	// dropped, seen as a gap and read back.
	livePending = 128

	// A read of the past takes this much at once. A pull of more than 8 MB comes
	// back short (measured).
	readCount = 256
	readBytes = 4 << 20
)

// Follow implements journal.Journal. New entries come from the subject that the
// stream republishes to; the past, and what that subject did not bring, by direct
// get; and that nothing is missing is checked by position. Every lookEvery an
// idle follower asks the stream's leader where it ends, and the answer is its
// heartbeat.
func (j *Journal) Follow(ctx context.Context, after journal.Position) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		if j.life.Err() != nil {
			yield(journal.Entry{}, fmt.Errorf("follow stream %s after %d: %w", j.cfg.Stream, after, journal.ErrClosed))
			return
		}
		ctx, done := j.within(ctx)
		defer done()
		f := &follower{Journal: j, ctx: ctx, at: after, yield: yield}
		err := f.run()
		if err != nil && !errors.Is(err, errStopped) && ctx.Err() == nil && j.life.Err() == nil {
			yield(journal.Entry{}, fmt.Errorf("follow stream %s after %d: %w", j.cfg.Stream, f.at, err))
		}
	}
}

// errStopped says that the caller wants no more.
var errStopped = errors.New("stopped")

// A follower is one Follow. Its loop owns it.
type follower struct {
	*Journal
	ctx        context.Context
	yield      func(journal.Entry, error) bool
	at         journal.Position // the last position yielded, or where following began
	moved      bool             // something was yielded
	live       chan *nats.Msg   // republished messages
	looks      chan *nats.Msg   // answers about the end
	inbox      string           // of those; the last token of a reply subject is where the asker was
	unanswered int              // looks in a row
	below      bool             // the last answer was an end before at
	created    time.Time        // of the stream, as first seen
}

// run yields the past, then what comes.
func (f *follower) run() error {
	if err := f.readPast(); err != nil {
		return err
	}
	stop, err := f.listen()
	if err != nil {
		return err
	}
	defer stop()
	if err := f.readPast(); err != nil { // what came before listening
		return err
	}
	if err := f.look(); err != nil {
		return err
	}
	return f.followLive()
}

// listen subscribes to what is republished and to the answers about the end.
func (f *follower) listen() (stop func(), err error) {
	f.live, f.looks = make(chan *nats.Msg, livePending), make(chan *nats.Msg, 16)
	f.inbox = f.nc.NewInbox()
	live, err := f.nc.ChanSubscribe(f.subjects.live, f.live)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	looks, err := f.nc.ChanSubscribe(f.inbox+".*", f.looks)
	if err != nil {
		_ = live.Unsubscribe()
		return nil, fmt.Errorf("listen: %w", err)
	}
	stop = func() { // both fail only on a connection that is closed
		_ = live.Unsubscribe()
		_ = looks.Unsubscribe()
	}
	return stop, nil
}

// followLive yields entries as they are republished and heartbeats while there
// are none. Its timer runs from look to look, whatever comes in between.
func (f *follower) followLive() error {
	timer := time.NewTicker(lookEvery)
	defer timer.Stop()
	for {
		select {
		case <-f.ctx.Done():
			return context.Cause(f.ctx)
		case m := <-f.live:
			if err := f.took(m); err != nil {
				return err
			}
		case m := <-f.looks:
			if err := f.looked(m); err != nil {
				return err
			}
		case <-timer.C:
			if f.unanswered >= maxUnanswered {
				return journal.ErrSilent
			}
			if err := f.look(); err != nil {
				return err
			}
		}
	}
}

// took yields a republished message, after what is missing before it.
func (f *follower) took(m *nats.Msg) error {
	if m.Header.Get(jetstream.StreamHeader) != f.cfg.Stream {
		return nil // somebody else published there
	}
	seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return nil // as above
	}
	pos := journal.Position(seq)
	if pos > f.at+1 {
		if err := f.fill(pos - 1); err != nil {
			return err
		}
	}
	if pos != f.at+1 {
		return nil // yielded before
	}
	return f.give(message{pos: pos, data: m.Data})
}

// give yields the entry after f.at.
func (f *follower) give(m message) error {
	if len(m.data) == 0 { // it would look like a heartbeat
		return f.corrupt(m.pos, journal.ErrForeign)
	}
	if f.ctx.Err() != nil {
		return context.Cause(f.ctx)
	}
	f.at, f.moved, f.unanswered = m.pos, true, 0
	f.seen.saw(m.pos, m.data)
	if !f.yield(journal.Entry{Pos: m.pos, Data: m.data}, nil) {
		return errStopped
	}
	return nil
}

// look asks the stream's leader where the stream ends.
func (f *follower) look() error {
	f.unanswered++
	reply := f.inbox + "." + strconv.FormatUint(uint64(f.at), 10)
	if err := f.nc.PublishRequest(f.api("STREAM.INFO"), reply, f.stateRequest()); err != nil && !passing(err) {
		return fmt.Errorf("ask for the end: %w", err)
	}
	return nil // without a connection it stays unanswered
}

// looked takes the answer: a heartbeat, or a sign that something was missed.
func (f *follower) looked(m *nats.Msg) error {
	state, ok, err := f.decodeState(m)
	if err != nil || !ok {
		return err
	}
	f.unanswered = 0
	if err := f.seen.missed(state); err != nil {
		return err
	}
	for len(f.live) > 0 { // what the answer counts may be on its way already
		if err := f.took(<-f.live); err != nil {
			return err
		}
	}
	switch {
	case state.last > f.at:
		if err := f.fill(state.last); err != nil {
			return err
		}
		return f.look()
	case state.last < f.at && !f.endsBelow(m.Subject):
		return nil
	}
	f.below = state.last < f.at
	if !f.yield(journal.Entry{Pos: state.last}, nil) {
		return errStopped
	}
	return nil
}

// endsBelow decides whether to believe an answer that the stream ends before
// what was yielded. It is older than that if something was yielded since the
// question, and a leader that still applies what is committed may say so once.
func (f *follower) endsBelow(reply string) bool {
	asked := strings.TrimPrefix(reply, f.inbox+".")
	if asked != strconv.FormatUint(uint64(f.at), 10) {
		return false
	}
	if f.moved && !f.below {
		f.below = true
		return false
	}
	return true
}
