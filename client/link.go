package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"understudy.dev/journal"
)

// A link is the client's side of one connection to a primary. The goroutine of
// run reads; another one writes.
type link struct {
	c       *Client
	addr    string
	nc      net.Conn
	in      frameReader
	welcome welcome

	// Of the reader.
	heard  time.Time
	useful bool // something was answered

	wake chan struct{} // capacity 1, sent to only after waiting was seen true

	// Under c.mu.
	waiting   bool      // the writer has nothing to do
	control   []byte    // encoded frames
	away      bool      // nothing more is sent: the server closes, or is not the primary
	left      error     // why the connection is of no more use
	holds     int       // holds since the last progress
	holdUntil time.Time // while the pipeline is held
	moved     time.Time // last progress, or when the first command of a burst was sent
}

var (
	errNotPrimary = errors.New("not the primary any more")
	errAway       = errors.New("the node closes the connection")
	errStalled    = errors.New("the node answers no commands")
)

func newLink(c *Client, addr string, nc net.Conn, in frameReader, w welcome) *link {
	return &link{c: c, addr: addr, nc: nc, in: in, welcome: w, wake: make(chan struct{}, 1)}
}

func (l *link) run(ctx context.Context) error {
	l.nc.SetDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { l.nc.Close() })
	defer stop()
	gone := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() { l.write(gone) })
	err := l.read()
	l.nc.Close()
	close(gone)
	writer.Wait()
	return err
}

// write sends what the pipeline has to send, as much as there is at a time.
func (l *link) write(gone <-chan struct{}) {
	var buf []byte
	var out []completion
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		l.c.mu.Lock()
		now := time.Now()
		buf = append(buf[:0], l.control...)
		l.control = l.control[:0]
		buf = l.encodeLocked(buf, now)
		l.waiting = len(buf) == 0
		hold := l.holdUntil
		out = l.c.p.take(out)
		l.c.mu.Unlock()
		l.c.complete(out)
		if len(buf) > 0 {
			l.nc.SetWriteDeadline(now.Add(l.c.cfg.DeadAfter))
			if _, err := l.nc.Write(buf); err != nil {
				l.nc.Close() // ends the reader
				return
			}
			continue
		}
		var expired <-chan time.Time
		if !hold.IsZero() {
			timer.Reset(hold.Sub(now))
			expired = timer.C
		}
		select {
		case <-l.wake:
		case <-expired:
			l.awake()
		case <-gone:
			return
		}
	}
}

// awake takes back that the writer waits, and the wake that may have been sent.
func (l *link) awake() {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	l.waiting = false
	select {
	case <-l.wake:
	default:
	}
}

// encodeLocked appends frames until there is enough for one write.
func (l *link) encodeLocked(b []byte, now time.Time) []byte {
	p := l.c.p
	if !l.holdUntil.IsZero() && !now.Before(l.holdUntil) {
		l.holdUntil = time.Time{}
		p.release()
	}
	if l.away {
		return b
	}
	if p.inflight == 0 {
		l.moved = now
	}
	for len(b) < flushSize {
		if p.wantsSession() {
			b = l.appendOpening(b)
			p.openingSent()
		}
		r := p.nextToSend()
		if r == nil && p.wantsSession() {
			continue
		}
		if r == nil {
			break
		}
		s := submit{kind: journal.KindCommand, version: r.version, session: p.session, number: r.number, low: p.low}
		b = appendSubmitHead(b, &s, len(r.name), len(r.data))
		b = append(b, r.name...)
		b = append(b, r.data...)
		p.markSent(r)
	}
	return b
}

func (l *link) appendOpening(b []byte) []byte {
	name := ""
	if l.c.cfg.Ordered {
		name = ordered
	}
	return append(appendSubmitHead(b, &submit{kind: journal.KindSession}, len(name), 0), name...)
}

// read takes results until the connection ends, and says why it did.
func (l *link) read() error {
	var out []completion
	l.heard = time.Now()
	for {
		l.c.mu.Lock()
		err := l.framesLocked()
		if err == nil {
			err = l.overLocked()
		}
		if len(l.control) > 0 || !l.holdUntil.IsZero() || l.c.p.hasWork() {
			l.c.wakeLocked()
		}
		out = l.c.p.take(out)
		l.c.mu.Unlock()
		l.c.complete(out)
		if err != nil {
			return err
		}
		if err := l.fill(); err != nil {
			return err
		}
	}
}

// fill reads once, however long it takes: it pings a silent server and gives up
// a dead one, and one that answers pings but no commands.
func (l *link) fill() error {
	cfg := &l.c.cfg
	for {
		l.nc.SetReadDeadline(time.Now().Add(min(cfg.PingEvery, cfg.StallAfter)))
		err := l.in.fill()
		if err == nil {
			l.heard = time.Now()
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("read results: %w", err)
		}
		silent := time.Since(l.heard)
		if silent >= cfg.DeadAfter {
			return fmt.Errorf("silent for %v", silent)
		}
		l.c.mu.Lock()
		err = l.overLocked()
		l.control = appendPing(l.control, framePing, uint64(silent))
		l.c.wakeLocked()
		l.c.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// overLocked says why the connection is of no more use, if so.
func (l *link) overLocked() error {
	switch p := l.c.p; {
	case l.left != nil:
		return l.left
	case p.inflight > 0 && l.heard.Sub(l.moved) > l.c.cfg.StallAfter:
		return errStalled
	}
	return nil
}

func (l *link) framesLocked() error {
	for {
		kind, payload, ok, err := l.in.next()
		if err != nil || !ok {
			return err
		}
		if err := l.frameLocked(kind, payload); err != nil {
			return err
		}
	}
}

func (l *link) frameLocked(kind byte, payload []byte) error {
	switch kind {
	case frameResult:
		var res result
		if err := decodeResult(payload, &res); err != nil {
			return err
		}
		return l.resultLocked(&res)
	case framePing:
		token, err := decodePing(payload)
		l.control = appendPing(l.control, framePong, token)
		return err
	case framePong:
		_, err := decodePing(payload)
		return err
	case frameGoaway:
		g, err := decodeGoaway(payload)
		if err != nil {
			return err
		}
		if g.reason == reasonProtocol || g.reason == reasonWindow {
			return fmt.Errorf("%w: %s", errAway, g.words)
		}
		l.c.hint = g.primary
		l.away = true // outstanding results still come, then the end
		return nil
	}
	return fmt.Errorf("%w: frame of type %d", errProtocol, kind)
}

func (l *link) resultLocked(res *result) error {
	ev := l.c.p.result(res)
	switch ev {
	case progress:
		l.useful, l.holds, l.moved = true, 0, l.heard
		if l.c.p.session != 0 {
			l.c.sessionLocked()
		}
	case wait, mustRefuse:
		if l.holdUntil.IsZero() {
			l.holds++
			l.holdUntil = time.Now().Add(l.c.pauseLocked(l.holds))
		}
		if ev == mustRefuse {
			l.c.failLocked(fmt.Errorf("open session at %s: %w: %s", l.addr, ErrRefused, res.body))
		}
	case leave:
		l.c.hint = string(res.primary)
		l.away, l.left = true, errNotPrimary // after the results that are here already
	case stray:
		return fmt.Errorf("%w: result for number %d, which was not asked", errProtocol, res.number)
	}
	return nil
}
