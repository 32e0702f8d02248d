package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"understudy.dev/journal"
	"understudy.dev/machine"
	"understudy.dev/node"
)

// A rawConn speaks the protocol by hand.
type rawConn struct {
	t  *testing.T
	nc net.Conn
	in frameReader
}

func dialRaw(t *testing.T, addr string) *rawConn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &rawConn{t: t, nc: nc, in: frameReader{src: nc, max: maxResult, chunk: chunkSize}}
}

func (c *rawConn) send(b []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// receive returns the next frame that is no ping.
func (c *rawConn) receive() (kind byte, payload []byte, err error) {
	for {
		kind, payload, err = firstFrame(&c.in)
		if err != nil || kind != framePing {
			return kind, payload, err
		}
	}
}

func (c *rawConn) greet() welcome {
	c.t.Helper()
	c.send(appendHello(nil, hello{version: version, machine: "model"}))
	kind, payload, err := c.receive()
	if err != nil || kind != frameWelcome {
		c.t.Fatalf("after hello: frame %d, %v", kind, err)
	}
	w, err := decodeWelcome(payload)
	if err != nil {
		c.t.Fatal(err)
	}
	return w
}

// wantGoaway expects a goaway, after any results, and then the end.
func (c *rawConn) wantGoaway(reason byte, words string) {
	c.t.Helper()
	for {
		kind, payload, err := c.receive()
		if err != nil {
			c.t.Fatalf("no goaway: %v", err)
		}
		if kind != frameGoaway {
			continue
		}
		g, err := decodeGoaway(payload)
		if err != nil || g.reason != reason || !strings.Contains(g.words, words) {
			c.t.Errorf("goaway = %+v, %v, want reason %d and %q", g, err, reason, words)
		}
		break
	}
	if kind, _, err := c.receive(); !errors.Is(err, io.EOF) {
		c.t.Errorf("after goaway: frame %d, %v, want the end", kind, err)
	}
}

func submitFrame(s submit, name string, data []byte) []byte {
	b := appendSubmitHead(nil, &s, len(name), len(data))
	return append(append(b, name...), data...)
}

func TestServerRefusesGarbage(t *testing.T) {
	long := binary.LittleEndian.AppendUint32(nil, 1<<30)
	tests := []struct {
		name    string
		greeted bool
		bytes   []byte
		reason  byte
		words   string
	}{
		{name: "another protocol", bytes: []byte("GET / HTTP/1.1\r\n\r\n"), reason: reasonProtocol, words: "frame of 542393671 bytes"},
		{name: "empty frame", bytes: make([]byte, 4), reason: reasonProtocol, words: "frame of 0 bytes"},
		{name: "no hello", bytes: appendPing(nil, framePing, 1), reason: reasonProtocol, words: "no hello"},
		{name: "wrong magic", bytes: bytes.Replace(appendHello(nil, hello{version: 1}), []byte(magic), []byte("UDC0"), 1), reason: reasonProtocol, words: "no hello"},
		{name: "hello of another version", bytes: appendHello(nil, hello{version: 7}), reason: reasonVersion, words: "version 7"},
		{name: "hello with a wrong length", bytes: append(begin(nil, frameHello, helloSize), 'U', 'D', 'C', '1', 1, 0, 9, 0), reason: reasonProtocol, words: "machine of 9"},
		{name: "oversize frame", greeted: true, bytes: long, reason: reasonProtocol, words: "frame of 1073741824 bytes"},
		{name: "short submit", greeted: true, bytes: append(begin(nil, frameSubmit, 3), 1, 2, 3), reason: reasonProtocol, words: "submit of 3 bytes"},
		{name: "name beyond the frame", greeted: true, bytes: appendSubmitHead(nil, &submit{}, 8, -8), reason: reasonProtocol, words: "malformed submit"},
		{name: "unknown type", greeted: true, bytes: append(begin(nil, 99, 1), 0), reason: reasonProtocol, words: "frame of type 99"},
		{name: "a result from a client", greeted: true, bytes: appendResult(nil, &result{}), reason: reasonProtocol, words: "frame of type 4"},
	}
	g := newGroup()
	s := startServer(t, g, testServer)
	s.promote()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := dialRaw(t, s.addr)
			if tt.greeted {
				c.greet()
			}
			c.send(tt.bytes)
			c.wantGoaway(tt.reason, tt.words)
		})
	}
	if n := len(g.executions()); n != 0 {
		t.Errorf("%d commands were carried out", n)
	}
}

// The last words arrive although the server leaves input unread.
func TestGoawayArrivesBeforeTheReset(t *testing.T) {
	s := startServer(t, newGroup(), testServer)
	c := dialRaw(t, s.addr)
	c.greet()
	c.send(append(make([]byte, 4), make([]byte, 512<<10)...))
	c.wantGoaway(reasonProtocol, "frame of 0 bytes")
}

// What no client may write into a journal is refused, and the connection stays.
func TestServerRefusesRequest(t *testing.T) {
	g := newGroup()
	cfg := testServer
	cfg.MaxCommand = 100
	s := startServer(t, g, cfg)
	s.promote()
	tests := []struct {
		name  string
		s     submit
		as    string
		data  int
		words string
	}{
		{name: "another kind", s: submit{kind: journal.KindEpochStart, number: 5}, words: "cannot write records of kind epoch-start"},
		{name: "another kind of session", s: submit{kind: journal.KindSession}, as: "sorted", words: `"sorted"`},
		{name: "low above number", s: submit{kind: journal.KindCommand, number: 1, low: 2}, as: "put", words: "lowest unanswered number 2"},
		{name: "too large", s: submit{kind: journal.KindCommand}, as: "put", data: 101, words: "command of 101 bytes, at most 100"},
	}
	c := dialRaw(t, s.addr)
	if w := c.greet(); w.maxCommand != 100 || w.window != machine.DefaultWindow || w.role != rolePrimary || w.machine != "model" || w.primary != s.addr {
		t.Errorf("welcome = %+v", w)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c.send(submitFrame(tt.s, tt.as, make([]byte, tt.data)))
			kind, payload, err := c.receive()
			var r result
			if err == nil {
				err = decodeResult(payload, &r)
			}
			if err != nil || kind != frameResult || r.status != node.Refused || r.number != tt.s.number || !strings.Contains(string(r.body), tt.words) {
				t.Errorf("result = %+v (%s), %v, want refused with %q", r, r.body, err, tt.words)
			}
		})
	}
}

func TestWindowExceeded(t *testing.T) {
	cfg := testServer
	cfg.Window = 4
	s := startServer(t, newGroup(), cfg)
	s.promote()
	s.stop()
	c := dialRaw(t, s.addr)
	c.greet()
	for n := range uint64(5) {
		c.send(submitFrame(submit{kind: journal.KindCommand, number: n + 1}, "put", id(n)))
	}
	c.wantGoaway(reasonWindow, "more commands outstanding")
}

// A client that submits and does not read holds nobody up and is dropped.
func TestSlowReaderDelaysNobody(t *testing.T) {
	cfg := testServer
	cfg.WriteTimeout = 100 * time.Millisecond
	s := startServer(t, newGroup(), cfg)
	s.promote()
	slow := dialRaw(t, s.addr)
	slow.nc.(*net.TCPConn).SetReadBuffer(4096)
	slow.greet()
	data := make([]byte, 512<<10)
	sent := make(chan error, 1)
	go func() {
		for n := range uint64(64) { // 32 MiB of replies, more than any socket buffer
			if _, err := slow.nc.Write(submitFrame(submit{kind: journal.KindCommand, number: n + 1}, "put", data)); err != nil {
				sent <- err
				return
			}
		}
		_, err := io.Copy(io.Discard, neverReads{slow.nc})
		sent <- err
	}()
	c := dial(t, testClient(s.addr))
	dropped := false
	for i := uint64(0); !dropped && t.Context().Err() == nil; i++ {
		if _, err := c.Submit(t.Context(), "put", 0, id(i)); err != nil {
			t.Fatalf("Submit beside a slow client = %v", err)
		}
		select {
		case err := <-sent:
			if dropped = true; errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the slow client was never dropped")
			}
		default:
		}
	}
	if got := c.Stats().Reconnects; got != 0 {
		t.Errorf("reconnects = %d, want 0", got)
	}
}

// neverReads writes pings until the connection is gone, so that only the lack of
// reading can be what ends it.
type neverReads struct{ nc net.Conn }

func (r neverReads) Read([]byte) (int, error) {
	time.Sleep(5 * time.Millisecond)
	_, err := r.nc.Write(appendPing(nil, framePong, 0))
	return 0, err
}

// A silent client is pinged, then dropped.
func TestDeadClientIsDropped(t *testing.T) {
	cfg := testServer
	cfg.PingEvery, cfg.DeadAfter = 10*time.Millisecond, 50*time.Millisecond
	s := startServer(t, newGroup(), cfg)
	c := dialRaw(t, s.addr)
	c.greet()
	kind, _, err := firstFrame(&c.in)
	if err != nil || kind != framePing {
		t.Errorf("silent client got frame %d, %v, want a ping", kind, err)
	}
	kind, _, err = c.receive()
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("dead client got frame %d, %v, want the end", kind, err)
	}
	for err == nil || errors.Is(err, io.EOF) {
		_, err = c.nc.Write(appendPing(nil, framePong, 0)) // until the server's socket is closed, not only its half
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the server did not close its socket")
	}
}

// A client that says nothing at all is dropped after HelloTimeout.
func TestMuteClientIsDropped(t *testing.T) {
	cfg := testServer
	cfg.HelloTimeout = 20 * time.Millisecond
	s := startServer(t, newGroup(), cfg)
	c := dialRaw(t, s.addr)
	c.wantGoaway(reasonProtocol, "read first frame")
}

func TestTooManyConnections(t *testing.T) {
	cfg := testServer
	cfg.MaxConns = 1
	s := startServer(t, newGroup(), cfg)
	dialRaw(t, s.addr).greet()
	dialRaw(t, s.addr).wantGoaway(reasonBusy, "too many connections")
}

// A server that ends says so, still delivers what was outstanding, and closes.
func TestGracefulEnd(t *testing.T) {
	cfg := testServer
	cfg.Grace = 10 * time.Second
	s := startServer(t, newGroup(), cfg)
	s.promote()
	s.stop()
	c := dialRaw(t, s.addr)
	c.greet()
	c.send(submitFrame(submit{kind: journal.KindCommand, number: 7}, "put", id(1)))
	until(t, "the command arrived", func() bool { return s.waiting() == 1 })
	s.cancel()
	kind, payload, err := c.receive()
	if err != nil || kind != frameGoaway {
		t.Fatalf("frame %d, %v, want goaway", kind, err)
	}
	if g, err := decodeGoaway(payload); err != nil || g.reason != reasonShutdown || g.primary != s.addr {
		t.Errorf("goaway = %+v, %v", g, err)
	}
	answerAll(s.fakeNode)
	kind, payload, err = c.receive()
	var r result
	if err == nil {
		err = decodeResult(payload, &r)
	}
	if err != nil || kind != frameResult || r.number != 7 || r.status != node.Done {
		t.Errorf("frame %d, %+v, %v, want the result of 7", kind, r, err)
	}
	c.nc.Close()
	if err := s.end(); err != nil {
		t.Errorf("Serve = %v", err)
	}
}

// answerAll carries out what waits, on the caller's goroutine.
func answerAll(n *fakeNode) {
	n.mu.Lock()
	batch := n.queue
	n.queue = nil
	results := n.carryOut(batch)
	n.mu.Unlock()
	for i, w := range batch {
		w.done(results[i])
	}
}

// A half-closed connection still gets its results.
func TestHalfClosedClientGetsResults(t *testing.T) {
	s := startServer(t, newGroup(), testServer)
	s.promote()
	c := dialRaw(t, s.addr)
	c.greet()
	for n := range uint64(100) {
		c.send(submitFrame(submit{kind: journal.KindCommand, number: n + 1}, "put", id(n)))
	}
	c.nc.(*net.TCPConn).CloseWrite()
	got := 0
	for {
		kind, _, err := c.receive()
		if err != nil {
			break
		}
		if kind == frameResult {
			got++
		}
	}
	if got != 100 {
		t.Errorf("results = %d, want 100", got)
	}
}

// A server whose listener fails says so.
func TestListenerFailureEndsServe(t *testing.T) {
	s := startServer(t, newGroup(), testServer)
	s.ln.kill()
	err := <-s.served
	s.served <- err
	if err == nil || !strings.Contains(err.Error(), "serve clients on") {
		t.Errorf("Serve = %v", err)
	}
}

// A client that meets garbage says what it met, and finds the real node beside.
func TestClientMeetsGarbage(t *testing.T) {
	answers := map[string][]byte{
		"another protocol": []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"nothing":          nil,
		"empty frame":      make([]byte, 64),
		"no welcome":       appendPing(nil, framePing, 1),
		"bad role":         appendWelcome(nil, welcome{version: version, window: 1}),
		"short goaway":     append(begin(nil, frameGoaway, 1), 0),
	}
	s := startServer(t, newGroup(), testServer)
	s.promote()
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			garbage := serveGarbage(t, answer)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if _, err := Dial(ctx, testClient(garbage)); err == nil || !strings.Contains(err.Error(), garbage) {
				t.Errorf("Dial = %v, want what %s said", err, garbage)
			}
			dial(t, testClient(garbage, s.addr))
		})
	}
}

// Garbage after the welcome costs a client its connection, not the truth.
func TestGarbageInResults(t *testing.T) {
	w := appendWelcome(nil, welcome{version: version, role: rolePrimary, window: 8, maxCommand: 100, machine: "model"})
	open := appendResult(nil, &result{seq: 1})
	answers := map[string][]byte{
		"result nobody asked for": appendResult(nil, &result{number: 9}),
		"unknown status":          appendResult(nil, &result{number: 1, status: 9}),
		"unknown code":            appendResult(nil, &result{number: 1, code: 9}),
		"oversize":                {255, 255, 255, 255},
		"a submit":                submitFrame(submit{}, "", nil),
		"short pong":              append(begin(nil, framePong, 1), 0),
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			garbage := serveGarbage(t, w, open, answer)
			cfg := testClient(garbage)
			cfg.Timeout = 200 * time.Millisecond
			c := dial(t, cfg)
			a, err := c.Submit(t.Context(), "put", 0, id(1))
			if a.Verdict != Unknown && a.Verdict != NotDone {
				t.Errorf("Submit = %v, %v, want no certainty that it was done", a.Verdict, err)
			}
		})
	}
}

// serveGarbage answers the first frames of every connection with these bytes,
// then reads on.
func serveGarbage(t *testing.T, answers ...[]byte) string {
	ln := listen(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			nc.SetDeadline(time.Now().Add(300 * time.Millisecond))
			answerFrames(nc, answers)
			nc.Close()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-ended
	})
	return ln.Addr().String()
}

func answerFrames(nc net.Conn, answers [][]byte) {
	in := frameReader{src: nc, max: maxResult, chunk: chunkSize}
	for _, answer := range answers {
		if _, _, err := firstFrame(&in); err != nil {
			return
		}
		nc.Write(answer)
	}
	io.Copy(io.Discard, nc)
}

// A late answer to a connection that is gone harms nobody, nor does one before
// SubmitAsync returns.
func TestLateAndEarlyAnswers(t *testing.T) {
	g := newGroup()
	s := startServer(t, g, testServer)
	s.promote()
	s.stop()
	c := dialRaw(t, s.addr)
	c.greet()
	c.send(submitFrame(submit{kind: journal.KindCommand, number: 1}, "put", id(1)))
	until(t, "the command arrived", func() bool { return s.waiting() == 1 })
	c.nc.Close()
	if err := s.end(); err != nil {
		t.Fatalf("Serve = %v", err)
	}
	answerAll(s.fakeNode)
	if got := fmt.Sprint(len(g.executions())); got != "1" {
		t.Errorf("carried out %s commands, want 1", got)
	}
}
