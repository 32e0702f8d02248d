package hollywood_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/anthdm/hollywood/actor"

	"understudy.dev/contrib/actors/hollywood"
	"understudy.dev/harness"
)

// run records six entries and replays them into an actor that behaves as f says.
func run(t *testing.T, f func(c *actor.Context, r hollywood.Record), opts harness.ReplayOptions) error {
	t.Helper()
	e := engine(t)
	pid := e.SpawnFunc(func(c *actor.Context) {
		if r, ok := c.Message().(hollywood.Record); ok {
			f(c, r)
		}
	}, "sink", actor.WithRestartDelay(time.Millisecond))
	return replay(t, e, pid, opts)
}

func engine(t *testing.T) *actor.Engine {
	t.Helper()
	e, err := actor.NewEngine(actor.NewEngineConfig())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func replay(t *testing.T, e *actor.Engine, pid *actor.PID, opts harness.ReplayOptions) error {
	t.Helper()
	h, err := harness.New(t.Context(), nil, harness.Config{Mode: harness.Record})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for range 6 {
		if err := h.DeviceCmd("launch", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	s := hollywood.NewSink(e, pid)
	defer s.Close()
	return h.Replay(t.Context(), s, opts)
}

func isAt(err, target error, number uint64) bool {
	var at *harness.SinkError
	return errors.As(err, &at) && at.Number == number && errors.Is(err, target)
}

// Each entry reaches the actor once, in order, and only after the one before was
// acknowledged.
func TestActorGetsEachEntryInOrder(t *testing.T) {
	var got []uint64
	late := make(chan struct{}, 1)
	err := run(t, func(c *actor.Context, r hollywood.Record) {
		got = append(got, r.Entry.Number)
		if r.Entry.Number == 2 { // answered later, from elsewhere
			sender, to := c.Engine(), c.Sender()
			go func() {
				sender.Send(to, r.Ack(nil))
				sender.Send(to, r.Ack(errors.New("a second answer changes nothing")))
				late <- struct{}{}
			}()
			return
		}
		c.Respond(r.Ack(nil))
	}, harness.ReplayOptions{})
	<-late
	if want := []uint64{1, 2, 3, 4, 5, 6}; err != nil || !slices.Equal(got, want) {
		t.Errorf("the actor got %v, %v; want %v", got, err, want)
	}
}

func TestActorRefuses(t *testing.T) {
	full := errors.New("disk is full")
	err := run(t, func(c *actor.Context, r hollywood.Record) {
		if r.Entry.Number == 3 {
			c.Respond(r.Ack(full))
			return
		}
		c.Respond(r.Ack(nil))
	}, harness.ReplayOptions{})
	if !isAt(err, full, 3) {
		t.Errorf("Replay = %v, want %v at record 3", err, full)
	}
}

func TestActorDoesNotAnswer(t *testing.T) {
	err := run(t, func(c *actor.Context, r hollywood.Record) {
		if r.Entry.Number < 4 {
			c.Respond(r.Ack(nil))
		}
	}, harness.ReplayOptions{SinkTimeout: 200 * time.Millisecond})
	if !isAt(err, harness.ErrSinkTimeout, 4) {
		t.Errorf("Replay = %v, want a time-out at record 4", err)
	}
}

// An actor that panics or stops does not leave the replay waiting for its
// deadline.
func TestActorIsGone(t *testing.T) {
	tests := []struct {
		name string
		act  func(c *actor.Context)
	}{
		{name: "panics", act: func(*actor.Context) { panic("cannot go on") }},
		{name: "stops", act: func(c *actor.Context) { c.Engine().Stop(c.PID()) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := run(t, func(c *actor.Context, r hollywood.Record) {
				if r.Entry.Number == 2 {
					tt.act(c)
					return
				}
				c.Respond(r.Ack(nil))
			}, harness.ReplayOptions{SinkTimeout: -1})
			if !isAt(err, hollywood.ErrGone, 2) {
				t.Errorf("Replay = %v, want ErrGone at record 2", err)
			}
		})
	}
}

func TestNobodyThere(t *testing.T) {
	e := engine(t)
	for _, pid := range []*actor.PID{actor.NewPID(e.Address(), "nobody"), actor.NewPID("elsewhere:1", "x")} {
		if err := replay(t, e, pid, harness.ReplayOptions{SinkTimeout: -1}); !isAt(err, hollywood.ErrGone, 1) {
			t.Errorf("Replay to %v = %v, want ErrGone at record 1", pid, err)
		}
	}
}

// Cancelling does not wait for the actor.
func TestCancel(t *testing.T) {
	h, err := harness.New(t.Context(), nil, harness.Config{Mode: harness.Record})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	h.DeviceCmd("x", nil)
	e := engine(t)
	ctx, cancel := context.WithCancel(t.Context())
	pid := e.SpawnFunc(func(c *actor.Context) {
		if _, ok := c.Message().(hollywood.Record); ok {
			cancel()
		}
	}, "mute")
	s := hollywood.NewSink(e, pid)
	defer s.Close()
	if err := h.Replay(ctx, s, harness.ReplayOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Replay = %v, want context.Canceled", err)
	}
}
