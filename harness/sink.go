package harness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"understudy.dev/journal"
)

// A Sink receives recorded entries one at a time.
type Sink interface {
	// Apply takes one entry; returning nil acknowledges it, and only then comes the
	// next. An error stops the replay; one that matches ErrNotTaken says that the
	// entry was not taken, any other leaves it open. e is valid during the call; its Data may be
	// kept and is read-only. When ctx ends nobody waits for the answer any more.
	Apply(ctx context.Context, e *Entry) error
}

// SinkFunc is a function as a Sink.
type SinkFunc func(ctx context.Context, e *Entry) error

// Apply calls f.
func (f SinkFunc) Apply(ctx context.Context, e *Entry) error { return f(ctx, e) }

// ErrSinkTimeout: a sink did not answer in time.
var ErrSinkTimeout = errors.New("harness: sink did not answer")

// ErrNotTaken: the sink certainly did not take the entry: it refused it, or never
// got it. journal.OutcomeOf an error that matches it is NotDone; of any other of a
// sink it is Unknown, since the entry may have been taken before the error came.
var ErrNotTaken error = notTaken{}

type notTaken struct{}

func (notTaken) Error() string { return "harness: sink did not take the record" }

// Unwrap returns what journal.OutcomeOf knows as certainly not done.
func (notTaken) Unwrap() error { return journal.ErrClosed }

// NotTaken returns err as one that matches ErrNotTaken too, in the same words.
func NotTaken(err error) error { return certain{err} }

type certain struct{ error }

func (c certain) Unwrap() []error { return []error{c.error, ErrNotTaken} }

// A SinkError names the entry that a sink did not acknowledge.
type SinkError struct {
	Number uint64
	Err    error
}

func (e *SinkError) Error() string {
	return fmt.Sprintf("harness: sink at record %d: %v", e.Number, e.Err)
}

func (e *SinkError) Unwrap() error { return e.Err }

// A ChannelSink hands entries to whoever receives from C and waits for each
// acknowledgement.
type ChannelSink struct {
	C    <-chan Delivery
	c    chan Delivery
	once sync.Once
}

// A Delivery is an entry on a channel. One call of Ack or Fail answers it; more
// calls change nothing.
type Delivery struct {
	Entry  Entry
	answer chan error
}

// NewChannelSink returns a sink with its channel, which is not buffered.
func NewChannelSink() *ChannelSink {
	c := make(chan Delivery)
	return &ChannelSink{C: c, c: c}
}

// Apply implements Sink.
func (s *ChannelSink) Apply(ctx context.Context, e *Entry) error {
	d := Delivery{Entry: *e, answer: make(chan error, 1)}
	select {
	case s.c <- d:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-d.answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close closes the channel once no replay uses the sink any more, so that
// receivers end.
func (s *ChannelSink) Close() { s.once.Do(func() { close(s.c) }) }

// Ack acknowledges the entry.
func (d Delivery) Ack() { d.reply(nil) }

// Fail stops the replay with err, which is not nil.
func (d Delivery) Fail(err error) {
	if err == nil {
		err = errors.New("failed without a reason")
	}
	d.reply(err)
}

func (d Delivery) reply(err error) {
	select {
	case d.answer <- err:
	default:
	}
}

// ReplayOptions say what of a journal goes to a sink, and when. The zero value is
// everything at full speed.
type ReplayOptions struct {
	Part Range

	// Foreign takes the journals of machines too. There every live record is an
	// entry whose Number is its Seq and whose Run is its tenure, since whose start
	// At counts; it has no Path. Otherwise such a journal is ErrForeign.
	Foreign bool

	// Pace replays at the recorded pace times a factor: 1 is as it was, 10 ten
	// times faster. 0 is full speed.
	Pace float64

	// MaxGap bounds one pause of a paced replay, such as the night between two
	// runs. 0 means no bound.
	MaxGap time.Duration

	// Stepwise starts paused: each Step lets entries through.
	Stepwise bool

	// SinkTimeout is how long a sink may take for one entry; it is noticed at most
	// a quarter later. Default 30 s; negative means for ever.
	SinkTimeout time.Duration
}

func (o *ReplayOptions) check() error {
	var faults []error
	if err := o.Part.check(); err != nil {
		faults = append(faults, err)
	}
	if !(o.Pace >= 0) || o.Pace > maxPace {
		faults = append(faults, fmt.Errorf("pace %v, want 0 to %g", o.Pace, float64(maxPace)))
	}
	if o.MaxGap < 0 {
		faults = append(faults, fmt.Errorf("maximum gap %v", o.MaxGap))
	}
	if o.SinkTimeout == 0 {
		o.SinkTimeout = 30 * time.Second
	}
	return errors.Join(faults...)
}

// maxPace keeps durations finite; beyond it full speed is meant.
const maxPace = 1e9

// A Filter selects entries to look at. The zero Filter takes everything.
type Filter struct {
	Kinds []journal.Kind
	Path  string   // this path and those below it; "" takes all
	Names []string // exactly one of these; none takes all
}

// Match reports whether e is selected.
func (f *Filter) Match(e *Entry) bool {
	return (len(f.Names) == 0 || slices.Contains(f.Names, e.Name)) &&
		(len(f.Kinds) == 0 || slices.Contains(f.Kinds, e.Kind)) &&
		(f.Path == "" || e.Path == f.Path || below(e.Path, f.Path))
}

func below(path, of string) bool {
	return len(path) > len(of) && path[:len(of)] == of && path[len(of)] == '/'
}
