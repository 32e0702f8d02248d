package natsjournal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"understudy.dev/journal"
)

// DefaultAckTimeout is how long an acknowledgement may take. After it the outcome
// is unknown and the writer looks. It bounds the outage when the server that the
// client is connected to dies (measured: 0.5 s), and matters most for a fence.
const DefaultAckTimeout = 500 * time.Millisecond

// DefaultOpenTimeout bounds Open when its context does not: three servers that
// start together need about 5 s until they have a leader.
const DefaultOpenTimeout = 30 * time.Second

// headroom is what a message's own headers may take of the server's maximum
// payload, those that republishing adds included.
const headroom = 4 << 10

// A Journal is a handle on a journal in a stream. It implements journal.Journal,
// journal.Ender, journal.Trimmer, journal.Locator, journal.Importer and
// journal.Describer.
type Journal struct {
	cfg      Config
	nc       *nats.Conn
	js       jetstream.JetStream
	subjects subjects
	maxBatch int
	info     jetstream.StreamInfo // as it was at Open; its state is old

	known fenceKnowledge
	seen  witness
	tail  tailCache

	life  context.Context // ends when the handle is closed
	close context.CancelFunc
	once  sync.Once
}

// Open connects and checks the server's version and the stream's settings. With
// Config.Create it creates a missing stream. It waits, within ctx, for a cluster
// that has no leader yet; a server that cannot be reached is an error at once.
func Open(ctx context.Context, cfg Config) (*Journal, error) {
	j, err := open(ctx, cfg)
	if err != nil && cfg.OnClose != nil {
		cfg.OnClose()
	}
	return j, err
}

func open(ctx context.Context, cfg Config) (*Journal, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("open stream %q: %w", cfg.Stream, err)
	}
	cfg.setDefaults()
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultOpenTimeout)
		defer cancel()
	}
	nc, js, err := connect(cfg)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", cfg.Stream, err)
	}
	j := &Journal{cfg: cfg, nc: nc, js: js, subjects: subjectsOf(cfg.Stream), seen: witness{since: time.Now()}}
	j.life, j.close = context.WithCancel(context.Background())
	if err := j.prepare(ctx); err != nil {
		err = fmt.Errorf("open stream %s on %s: %w", cfg.Stream, j.place(), err)
		j.disconnect()
		return nil, err
	}
	return j, nil
}

// prepare checks what is there.
func (j *Journal) prepare(ctx context.Context) error {
	if err := checkVersion(j.nc.ConnectedServerVersion()); err != nil {
		return err
	}
	info, err := j.stream(ctx)
	if err != nil {
		return err
	}
	if err := checkSettings(info.Config, j.cfg); err != nil {
		return err
	}
	j.info, j.maxBatch = *info, maxBatch(j.nc.MaxPayload(), info.Config.MaxMsgSize)
	if j.maxBatch <= 0 {
		return fmt.Errorf("messages of %d bytes are too small for a batch", j.maxBatch+headroom)
	}
	return nil
}

// maxBatch is how large a batch may be: what a message may have, less headers.
func maxBatch(maxPayload int64, maxMsgSize int32) int {
	if maxMsgSize > 0 {
		maxPayload = min(maxPayload, int64(maxMsgSize))
	}
	return int(maxPayload) - headroom
}

// Close implements journal.Journal. A connection that was given to Open stays
// open.
func (j *Journal) Close() error {
	j.once.Do(func() {
		j.close()
		j.disconnect()
		if j.cfg.OnClose != nil {
			j.cfg.OnClose()
		}
	})
	return nil
}

func (j *Journal) disconnect() {
	if j.cfg.Conn == nil {
		j.nc.Close()
	}
}

// usable reports why a call may not start.
func (j *Journal) usable(ctx context.Context) error {
	if j.life.Err() != nil {
		return journal.ErrClosed
	}
	return ctx.Err()
}

// errClosedMeanwhile ends what was under way when the handle was closed. It is not
// journal.ErrClosed, which says that nothing was written.
var errClosedMeanwhile = errors.New("the handle was closed meanwhile")

// within returns a context that also ends when the handle is closed.
func (j *Journal) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(j.life, func() { cancel(errClosedMeanwhile) })
	return ctx, func() { stop(); cancel(nil) }
}

// soon bounds one request.
func (j *Journal) soon(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, j.cfg.AckTimeout, errNoAnswer)
}

var errNoAnswer = errors.New("no answer in time")
