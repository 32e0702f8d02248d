package hollywood

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"github.com/anthdm/hollywood/actor"

	"understudy.dev/harness"
)

// ErrGone: the actor does not exist, has stopped, or was restarted.
var ErrGone = errors.New("hollywood: actor is gone")

// A Record is the message that the actor receives.
type Record struct {
	Entry harness.Entry
	turn  uint64
}

// Ack returns the answer to r: nil acknowledges it, an error stops the replay.
func (r Record) Ack(err error) Ack { return Ack{turn: r.turn, err: err} }

// An Ack is what the actor responds with.
type Ack struct {
	turn uint64
	err  error
}

// A Sink sends entries to one actor. It serves one replay at a time; Close it
// when done.
type Sink struct {
	engine *actor.Engine
	target *actor.PID
	self   *actor.PID
	turn   uint64 // of the entry sent last

	mu     sync.Mutex
	wanted uint64     // the turn that is waited for; 0 if none
	answer chan error // of that turn
}

var (
	_ harness.Sink    = (*Sink)(nil)
	_ actor.Processer = (*mailbox)(nil)
)

// NewSink returns a sink that sends to target, which belongs to engine or to a
// node that it reaches.
func NewSink(engine *actor.Engine, target *actor.PID) *Sink {
	s := &Sink{engine: engine, target: target}
	s.self = actor.NewPID(engine.Address(), "understudy/sink/"+rand.Text())
	engine.SpawnProc(&mailbox{s})
	engine.Subscribe(s.self) // in order before every event that a later message causes
	return s
}

// Close takes the sink's address out of the engine.
func (s *Sink) Close() {
	s.engine.Unsubscribe(s.self)
	s.engine.Registry.Remove(s.self)
}

// Apply implements harness.Sink.
func (s *Sink) Apply(ctx context.Context, e *harness.Entry) error {
	s.turn++
	answer := make(chan error, 1)
	s.expect(s.turn, answer)
	defer s.expect(0, nil)
	s.engine.SendWithSender(s.target, Record{Entry: *e, turn: s.turn}, s.self)
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Sink) expect(turn uint64, answer chan error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted, s.answer = turn, answer
}

// settle answers the turn that is waited for, once; turn 0 means whichever it is.
func (s *Sink) settle(turn uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wanted == 0 || turn != 0 && turn != s.wanted {
		return // a late or a second answer
	}
	s.answer <- err
	s.wanted = 0
}

// receive takes answers of the actor and events of the engine.
func (s *Sink) receive(msg any) {
	switch m := msg.(type) {
	case Ack:
		s.settle(m.turn, m.err)
	case actor.DeadLetterEvent:
		if r, ok := m.Message.(Record); ok && m.Sender.Equals(s.self) {
			s.settle(r.turn, fmt.Errorf("%w: nobody is at %v", ErrGone, m.Target))
		}
	case actor.EngineRemoteMissingEvent:
		if r, ok := m.Message.(Record); ok && m.Sender.Equals(s.self) {
			s.settle(r.turn, fmt.Errorf("%w: no way to %v", ErrGone, m.Target))
		}
	case actor.ActorStoppedEvent:
		if m.PID.Equals(s.target) {
			s.settle(0, fmt.Errorf("%w: %v stopped", ErrGone, m.PID))
		}
	case actor.ActorRestartedEvent:
		if m.PID.Equals(s.target) {
			s.settle(0, fmt.Errorf("%w: %v restarted after a panic: %v", ErrGone, m.PID, m.Reason))
		}
	}
}

// A mailbox is the sink's address in the engine.
type mailbox struct{ s *Sink }

// PID implements actor.Processer.
func (m *mailbox) PID() *actor.PID { return m.s.self }

// Send implements actor.Processer.
func (m *mailbox) Send(_ *actor.PID, msg any, _ *actor.PID) { m.s.receive(msg) }

// Start implements actor.Processer.
func (m *mailbox) Start() {}

// Invoke implements actor.Processer.
func (m *mailbox) Invoke([]actor.Envelope) {}

// Shutdown implements actor.Processer.
func (m *mailbox) Shutdown() {}
