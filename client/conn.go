package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"understudy.dev/journal"
	"understudy.dev/machine"
	"understudy.dev/node"
)

// A ticket is one command of a connection on its way through the node. Tickets
// are used again, so that a command allocates nothing; there are at most as many
// as the window allows.
type ticket struct {
	conn   *conn
	number uint64
	result node.Result
	done   func(node.Result) // t.finish, bound once
}

// finish is what the node calls. It puts the result into the connection's queue,
// which has room for every ticket.
func (t *ticket) finish(r node.Result) {
	c := t.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return
	}
	t.result = r
	c.queue = append(c.queue, t)
	if len(c.queue) == 1 {
		c.wakeLocked()
	}
}

// A conn is the server's side of one connection. The goroutine of serve reads;
// another one writes. They meet in the fields under mu.
type conn struct {
	srv *server
	nc  net.Conn

	// Of the reader.
	in    frameReader
	names map[string]string // one string for each name that came
	free  []*ticket
	made  int
	heard time.Time // when the last bytes came

	wake chan struct{} // capacity 1: there is something for the writer

	mu          sync.Mutex
	queue       []*ticket // results to write
	spare       []*ticket // written; the reader takes them back
	control     []byte    // encoded frames to write before the results
	outstanding int       // tickets handed to the node and not yet taken from queue
	ending      bool      // nothing more is read; close when outstanding is 0
	dead        bool      // nothing more is written
}

func newConn(s *server, nc net.Conn) *conn {
	return &conn{
		srv: s, nc: nc, wake: make(chan struct{}, 1), names: make(map[string]string),
		in: frameReader{src: nc, max: maxHandshake, chunk: firstChunk},
	}
}

// refuse ends a connection before its hello was read.
func (c *conn) refuse(g goaway) {
	c.nc.SetWriteDeadline(time.Now().Add(c.srv.cfg.HelloTimeout))
	if _, err := c.nc.Write(appendGoaway(nil, g)); err == nil {
		c.linger()
	}
	c.nc.Close()
}

func (c *conn) serve() {
	defer c.nc.Close()
	if g := c.greet(); g != nil {
		c.srv.cfg.Log.Info("client refused", "event", "client.refused", "remote", c.nc.RemoteAddr().String(), "reason", g.words)
		c.refuse(*g)
		return
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write()
	}()
	c.hangUp(c.read())
	<-written
	c.linger()
}

// greet reads the hello and queues the welcome. It returns why it will not.
func (c *conn) greet() *goaway {
	c.nc.SetReadDeadline(time.Now().Add(c.srv.cfg.HelloTimeout))
	if c.isEnding() { // after setting the deadline, since end sets it too
		return &goaway{reason: reasonShutdown, words: "the node ends"}
	}
	kind, payload, err := firstFrame(&c.in)
	if c.isEnding() {
		return &goaway{reason: reasonShutdown, words: "the node ends"}
	}
	if err == nil && kind != frameHello {
		err = fmt.Errorf("%w: the first frame is no hello", errProtocol)
	}
	if err != nil {
		return &goaway{reason: reasonProtocol, words: err.Error()}
	}
	h, err := decodeHello(payload)
	switch {
	case err != nil:
		return &goaway{reason: reasonProtocol, words: err.Error()}
	case h.version != version:
		return &goaway{reason: reasonVersion, words: fmt.Sprintf("the client speaks version %d of the protocol, this node version %d", h.version, version)}
	case h.machine != "" && h.machine != c.srv.cfg.Machine:
		return &goaway{reason: reasonMachine, words: fmt.Sprintf("the client expects machine %q, this node runs %q", h.machine, c.srv.cfg.Machine)}
	}
	c.in.chunk = chunkSize
	c.in.max = 1 + submitSize + journal.MaxName + c.srv.cfg.MaxCommand
	c.queueControl(func(b []byte) []byte { return appendWelcome(b, c.srv.welcome()) })
	return nil
}

// firstFrame waits for one frame under the connection's deadline.
func firstFrame(f *frameReader) (kind byte, payload []byte, err error) {
	for {
		kind, payload, ok, err := f.next()
		if ok || err != nil {
			return kind, payload, err
		}
		if err := f.fill(); err != nil {
			return 0, nil, fmt.Errorf("read first frame: %w", err)
		}
	}
}

// read hands commands to the node until the connection ends, and says why.
func (c *conn) read() error {
	c.heard = time.Now()
	for {
		for {
			kind, payload, ok, err := c.in.next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if err := c.frame(kind, payload); err != nil {
				return err
			}
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// fill reads once, however long it takes: it pings a silent client and gives up
// a dead one.
func (c *conn) fill() error {
	for {
		c.nc.SetReadDeadline(time.Now().Add(c.srv.cfg.PingEvery))
		if c.isEnding() { // after setting the deadline, since end sets it too
			return net.ErrClosed
		}
		err := c.in.fill()
		if err == nil {
			c.heard = time.Now()
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		silent := time.Since(c.heard)
		if silent >= c.srv.cfg.DeadAfter {
			return fmt.Errorf("silent for %v", silent)
		}
		c.queueControl(func(b []byte) []byte { return appendPing(b, framePing, uint64(silent)) })
	}
}

var errWindow = errors.New("client: more commands outstanding than the window allows")

func (c *conn) frame(kind byte, payload []byte) error {
	switch kind {
	case frameSubmit:
		var s submit
		if err := decodeSubmit(payload, &s); err != nil {
			return err
		}
		return c.submit(&s)
	case framePing:
		token, err := decodePing(payload)
		if err != nil {
			return err
		}
		c.queueControl(func(b []byte) []byte { return appendPing(b, framePong, token) })
		return nil
	case framePong:
		_, err := decodePing(payload)
		return err
	}
	return fmt.Errorf("%w: frame of type %d", errProtocol, kind)
}

func (c *conn) submit(s *submit) error {
	t := c.ticket()
	if t == nil {
		return errWindow
	}
	t.number = s.number
	if err := c.admissible(s); err != nil {
		t.finish(node.Result{Status: node.Refused, Err: err})
		return nil
	}
	c.srv.node.SubmitAsync(node.Request{
		Kind: s.kind, Name: c.name(s.name), Version: s.version,
		Client: s.session, Number: s.number, Low: s.low, Data: s.data,
	}, t.done)
	return nil
}

// admissible refuses what no client may put into a journal. What the machine
// knows is the node's to say.
func (c *conn) admissible(s *submit) error {
	switch {
	case s.kind != journal.KindCommand && s.kind != journal.KindSession:
		return fmt.Errorf("a client cannot write records of kind %v", s.kind)
	case s.kind == journal.KindSession && len(s.name) > 0 && string(s.name) != ordered:
		return fmt.Errorf("no kind of session is called %q", s.name)
	case s.low > s.number:
		return fmt.Errorf("lowest unanswered number %d is above the command's own, %d", s.low, s.number)
	case len(s.data) > c.srv.cfg.MaxCommand:
		return fmt.Errorf("command of %d bytes, at most %d are allowed", len(s.data), c.srv.cfg.MaxCommand)
	}
	return nil
}

// ordered is the name of a session record whose session refuses holes.
const ordered = "ordered"

// maxNames bounds the memory for names when they are all different.
const maxNames = 1024

func (c *conn) name(b []byte) string {
	if s, ok := c.names[string(b)]; ok {
		return s
	}
	if len(c.names) >= maxNames {
		clear(c.names)
	}
	s := string(b)
	c.names[s] = s
	return s
}

// ticket returns a free ticket, or nil if the window is exhausted.
func (c *conn) ticket() *ticket {
	c.mu.Lock()
	if len(c.free) == 0 {
		c.free, c.spare = c.spare, c.free
	}
	c.outstanding++
	c.mu.Unlock()
	if n := len(c.free); n > 0 {
		t := c.free[n-1]
		c.free = c.free[:n-1]
		return t
	}
	if c.made >= c.srv.cfg.Window {
		c.mu.Lock()
		c.outstanding--
		c.mu.Unlock()
		return nil
	}
	c.made++
	t := &ticket{conn: c}
	t.done = t.finish
	return t
}

// hangUp ends the connection for the reason the reader gave: with words for a
// client that broke the protocol, silently for one that is gone.
func (c *conn) hangUp(err error) {
	switch {
	case errors.Is(err, errProtocol):
		c.end(&goaway{reason: reasonProtocol, words: err.Error()})
	case errors.Is(err, errWindow):
		c.end(&goaway{reason: reasonWindow, words: err.Error()})
	case errors.Is(err, io.EOF):
		c.end(nil) // it may still read
	case errors.Is(err, net.ErrClosed):
		c.end(nil)
		return
	default:
		c.die()
	}
	if !errors.Is(err, io.EOF) {
		c.srv.cfg.Log.Info("client dropped", "event", "client.dropped", "remote", c.nc.RemoteAddr().String(), "reason", err)
	}
}

// end stops reading; what is outstanding may still be written. Only the first
// call has an effect.
func (c *conn) end(g *goaway) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending {
		return
	}
	c.ending = true
	if g != nil {
		c.control = appendGoaway(c.control, *g)
	}
	c.nc.SetReadDeadline(time.Unix(1, 0))
	c.nc.SetWriteDeadline(time.Now().Add(c.srv.cfg.Grace))
	c.wakeLocked()
}

// die stops writing too.
func (c *conn) die() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending, c.dead = true, true
	c.queue = nil
	c.nc.SetDeadline(time.Unix(1, 0))
	c.wakeLocked()
}

func (c *conn) isEnding() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// maxControl bounds the control frames that wait for a client that pings but
// does not read.
const maxControl = 4 << 10

func (c *conn) queueControl(add func([]byte) []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending || len(c.control) > maxControl {
		return
	}
	c.control = add(c.control)
	c.wakeLocked()
}

func (c *conn) wakeLocked() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// write writes control frames and results until the connection is dead, or ends
// and nothing is outstanding or Grace is over.
func (c *conn) write() {
	defer c.die()
	var out []byte
	var batch []*ticket
	var grace <-chan time.Time
	for {
		select {
		case <-c.wake:
		case <-grace:
			return
		}
		c.mu.Lock()
		batch, c.queue = c.queue, batch[:0]
		out = append(out[:0], c.control...)
		c.control = c.control[:0]
		ending, dead := c.ending, c.dead
		c.mu.Unlock()
		if dead || !c.flush(out, batch) {
			return
		}
		if ending && c.idle() {
			return
		}
		if ending && grace == nil {
			grace = time.After(c.srv.cfg.Grace)
		}
	}
}

func (c *conn) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outstanding == 0 && len(c.control) == 0
}

// flush writes out and the results of batch in as few writes as it can.
func (c *conn) flush(out []byte, batch []*ticket) bool {
	first := 0
	for i, t := range batch {
		out = t.append(out)
		if len(out) >= flushSize {
			c.recycle(batch[first : i+1])
			first = i + 1
			if !c.writeAll(out) {
				return false
			}
			out = out[:0]
		}
	}
	c.recycle(batch[first:])
	return len(out) == 0 || c.writeAll(out)
}

// recycle gives tickets back to the reader. It comes before the write: a client
// may use its window again as soon as it sees the result.
func (c *conn) recycle(written []*ticket) {
	if len(written) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spare = append(c.spare, written...)
	c.outstanding -= len(written)
}

func (c *conn) writeAll(b []byte) bool {
	c.nc.SetWriteDeadline(time.Now().Add(c.srv.cfg.WriteTimeout))
	if c.isEnding() { // after setting the deadline, since end sets it too
		c.nc.SetWriteDeadline(time.Now().Add(c.srv.cfg.Grace))
	}
	_, err := c.nc.Write(b)
	if err != nil {
		c.srv.cfg.Log.Info("client dropped", "event", "client.dropped", "remote", c.nc.RemoteAddr().String(), "reason", err)
	}
	return err == nil
}

// linger lets the last words arrive: closing a socket with unread input would
// reset it, and the peer would lose what it has not read yet.
func (c *conn) linger() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.nc.SetReadDeadline(time.Now().Add(min(c.srv.cfg.Grace, time.Second)))
	_, _ = io.Copy(io.Discard, c.nc) // until the peer closes or the deadline
}

// append encodes the ticket's result and lets go of it.
func (t *ticket) append(b []byte) []byte {
	r := &t.result
	out := result{number: t.number, status: r.Status, seq: r.Outcome.Seq}
	switch {
	case r.Status == node.Done:
		out.code, out.repeated, out.body = r.Outcome.Code, r.Outcome.Repeated, r.Outcome.Reply
		if out.code > machine.Beyond {
			out = result{number: t.number, status: node.Unknown, body: []byte("the node answered with a code that this protocol lacks")}
		}
	case r.Err != nil:
		words := r.Err.Error()
		out.body = []byte(words[:min(len(words), maxWords)])
	}
	if r.Status == node.NotPrimary {
		out.primary = []byte(r.Primary)
	}
	b = appendResult(b, &out)
	t.result = node.Result{}
	return b
}
