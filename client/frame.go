package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"understudy.dev/journal"
	"understudy.dev/machine"
	"understudy.dev/node"
)

// The frames, as the package comment draws them.
const (
	frameHello   byte = 1
	frameWelcome byte = 2
	frameSubmit  byte = 3
	frameResult  byte = 4
	framePing    byte = 5
	framePong    byte = 6
	frameGoaway  byte = 7
)

const (
	magic   = "UDC1"
	version = 1

	lengthSize   = 4  // of the length before every frame
	helloSize    = 8  // before the machine's name
	welcomeSize  = 26 // before the two names
	submitSize   = 32 // before name and data
	resultSize   = 20 // before primary and reply
	pingSize     = 8
	goawaySize   = 2   // before primary and words
	maxMachine   = 255 // bytes of a machine's name
	maxAddress   = 255 // bytes of a client address: one length byte in results
	maxWords     = 1024
	maxHandshake = 1 + welcomeSize + maxMachine + maxAddress + maxWords

	firstChunk = 4 << 10  // of a connection that may never say much
	chunkSize  = 64 << 10 // what one read may bring; commands are slices of it
	flushSize  = 64 << 10 // what is gathered before one write
)

// role of a server in its welcome.
const (
	rolePrimary byte = 1
	roleStandby byte = 2
)

// reason of a goaway.
const (
	reasonShutdown byte = 1 // the server ends; outstanding results still come
	reasonProtocol byte = 2 // the peer sent what is not in the protocol
	reasonVersion  byte = 3 // no common version
	reasonMachine  byte = 4 // another machine runs here
	reasonWindow   byte = 5 // more commands outstanding than the welcome allowed
	reasonBusy     byte = 6 // too many connections
)

// errProtocol: the peer sent bytes that are not in the protocol.
var errProtocol = errors.New("client: not this protocol")

// A frameReader cuts a stream into frames. Payloads are slices of chunks that
// are never written again, so they may be kept. It sets aside one chunk, or at
// most twice what has arrived of a frame: a length costs its sender as many
// bytes as it costs us.
type frameReader struct {
	src        io.Reader
	max        int // largest length accepted
	chunk      int // bytes set aside at a time
	buf        []byte
	start, end int // of what was read and not yet handed on
}

// next returns the next frame if all of it was read. A length that is zero or
// above max is refused before any memory is set aside for it.
func (f *frameReader) next() (kind byte, payload []byte, ok bool, err error) {
	have := f.buf[f.start:f.end]
	if len(have) < lengthSize {
		return 0, nil, false, nil
	}
	n, err := f.length(have)
	if err != nil || len(have) < lengthSize+n {
		return 0, nil, false, err
	}
	f.start += lengthSize + n
	return have[lengthSize], have[lengthSize+1 : lengthSize+n : lengthSize+n], true, nil
}

func (f *frameReader) length(have []byte) (int, error) {
	n := binary.LittleEndian.Uint32(have)
	if n == 0 || uint64(n) > uint64(f.max) {
		return 0, fmt.Errorf("%w: frame of %d bytes, between 1 and %d are allowed", errProtocol, n, f.max)
	}
	return int(n), nil
}

// fill reads once. The caller has taken every whole frame.
func (f *frameReader) fill() error {
	worth := f.chunk / 16 // less room than this is not worth a read
	have := f.buf[f.start:f.end]
	need := lengthSize
	if len(have) >= lengthSize {
		n, err := f.length(have)
		if err != nil {
			return err
		}
		need += n
	}
	if room := len(f.buf) - f.start; room < min(need, f.chunk) || len(f.buf)-f.end < worth {
		chunk := make([]byte, max(f.chunk, min(need+worth, 2*len(have))))
		f.start, f.end = 0, copy(chunk, have)
		f.buf = chunk
	}
	n, err := f.src.Read(f.buf[f.end:])
	f.end += n
	if n > 0 {
		return nil // an error comes again with the next read
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// A hello is what a client says first.
type hello struct {
	version uint16
	machine string // "" takes any
}

func appendHello(b []byte, h hello) []byte {
	b = begin(b, frameHello, helloSize+len(h.machine))
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint16(b, h.version)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(h.machine)))
	return append(b, h.machine...)
}

func decodeHello(p []byte) (hello, error) {
	if len(p) < helloSize || string(p[:4]) != magic {
		return hello{}, fmt.Errorf("%w: the first frame is no hello", errProtocol)
	}
	h := hello{version: binary.LittleEndian.Uint16(p[4:])}
	n := int(binary.LittleEndian.Uint16(p[6:]))
	if n != len(p)-helloSize || n > maxMachine {
		return hello{}, fmt.Errorf("%w: hello of %d bytes names a machine of %d", errProtocol, len(p), n)
	}
	h.machine = string(p[helloSize:])
	return h, nil
}

// A welcome is the server's answer to a hello.
type welcome struct {
	version    uint16
	role       byte
	epoch      journal.Epoch
	maxCommand uint32 // bytes of data in one command
	window     uint32 // commands that may be outstanding on this connection
	machine    string
	primary    string // client address of the primary; "" if not known
}

func appendWelcome(b []byte, w welcome) []byte {
	b = begin(b, frameWelcome, welcomeSize+len(w.machine)+len(w.primary))
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint16(b, w.version)
	b = append(b, w.role, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(w.epoch))
	b = binary.LittleEndian.AppendUint32(b, w.maxCommand)
	b = binary.LittleEndian.AppendUint32(b, w.window)
	b = append(b, byte(len(w.machine)), byte(len(w.primary)))
	b = append(b, w.machine...)
	return append(b, w.primary...)
}

func decodeWelcome(p []byte) (welcome, error) {
	if len(p) < welcomeSize || string(p[:4]) != magic {
		return welcome{}, fmt.Errorf("%w: the first frame is no welcome", errProtocol)
	}
	w := welcome{
		version:    binary.LittleEndian.Uint16(p[4:]),
		role:       p[6],
		epoch:      journal.Epoch(binary.LittleEndian.Uint64(p[8:])),
		maxCommand: binary.LittleEndian.Uint32(p[16:]),
		window:     binary.LittleEndian.Uint32(p[20:]),
	}
	m, a := int(p[24]), int(p[25])
	if len(p) != welcomeSize+m+a || p[7] != 0 || w.role != rolePrimary && w.role != roleStandby || w.window == 0 {
		return welcome{}, fmt.Errorf("%w: malformed welcome", errProtocol)
	}
	w.machine = string(p[welcomeSize : welcomeSize+m])
	w.primary = string(p[welcomeSize+m:])
	return w, nil
}

// A submit is a command, or the opening of a session, on its way to the node.
// Its name and data are slices of the frame.
type submit struct {
	kind    journal.Kind
	version uint32
	session uint64
	number  uint64
	low     uint64
	name    []byte
	data    []byte
}

// appendSubmitHead appends all of a submit frame but name and data, whose
// lengths it states.
func appendSubmitHead(b []byte, s *submit, name, data int) []byte {
	b = begin(b, frameSubmit, submitSize+name+data)
	b = append(b, byte(s.kind), 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(name))
	b = binary.LittleEndian.AppendUint32(b, s.version)
	b = binary.LittleEndian.AppendUint64(b, s.session)
	b = binary.LittleEndian.AppendUint64(b, s.number)
	return binary.LittleEndian.AppendUint64(b, s.low)
}

func decodeSubmit(p []byte, s *submit) error {
	if len(p) < submitSize {
		return fmt.Errorf("%w: submit of %d bytes", errProtocol, len(p))
	}
	n := int(binary.LittleEndian.Uint16(p[2:]))
	if p[1] != 0 || n > journal.MaxName || submitSize+n > len(p) {
		return fmt.Errorf("%w: malformed submit", errProtocol)
	}
	*s = submit{
		kind:    journal.Kind(p[0]),
		version: binary.LittleEndian.Uint32(p[4:]),
		session: binary.LittleEndian.Uint64(p[8:]),
		number:  binary.LittleEndian.Uint64(p[16:]),
		low:     binary.LittleEndian.Uint64(p[24:]),
		name:    p[submitSize : submitSize+n],
		data:    p[submitSize+n:],
	}
	return nil
}

// A result is the answer to one submit.
type result struct {
	number   uint64
	seq      journal.Seq
	status   node.Status
	code     machine.Code
	repeated bool
	primary  []byte // of NotPrimary
	body     []byte // reply of Done; words of the others
}

func appendResult(b []byte, r *result) []byte {
	primary := r.primary[:min(len(r.primary), maxAddress)]
	b = begin(b, frameResult, resultSize+len(primary)+len(r.body))
	b = binary.LittleEndian.AppendUint64(b, r.number)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.seq))
	var flags byte
	if r.repeated {
		flags = 1
	}
	b = append(b, byte(r.status), byte(r.code), flags, byte(len(primary)))
	b = append(b, primary...)
	return append(b, r.body...)
}

func decodeResult(p []byte, r *result) error {
	if len(p) < resultSize {
		return fmt.Errorf("%w: result of %d bytes", errProtocol, len(p))
	}
	n := int(p[19])
	if p[18] > 1 || p[16] > byte(node.Unknown) || p[17] > byte(machine.Beyond) || resultSize+n > len(p) {
		return fmt.Errorf("%w: malformed result", errProtocol)
	}
	*r = result{
		number:   binary.LittleEndian.Uint64(p),
		seq:      journal.Seq(binary.LittleEndian.Uint64(p[8:])),
		status:   node.Status(p[16]),
		code:     machine.Code(p[17]),
		repeated: p[18] == 1,
		primary:  p[resultSize : resultSize+n],
		body:     p[resultSize+n:],
	}
	return nil
}

// appendPing appends a ping or pong. The token of a ping comes back in its pong.
func appendPing(b []byte, kind byte, token uint64) []byte {
	return binary.LittleEndian.AppendUint64(begin(b, kind, pingSize), token)
}

func decodePing(p []byte) (token uint64, err error) {
	if len(p) != pingSize {
		return 0, fmt.Errorf("%w: ping of %d bytes", errProtocol, len(p))
	}
	return binary.LittleEndian.Uint64(p), nil
}

// A goaway is the last word of a server that closes a connection.
type goaway struct {
	reason  byte
	primary string // client address of the primary; "" if not known
	words   string
}

func appendGoaway(b []byte, g goaway) []byte {
	primary := g.primary[:min(len(g.primary), maxAddress)]
	words := g.words[:min(len(g.words), maxWords)]
	b = begin(b, frameGoaway, goawaySize+len(primary)+len(words))
	b = append(b, g.reason, byte(len(primary)))
	b = append(b, primary...)
	return append(b, words...)
}

func decodeGoaway(p []byte) (goaway, error) {
	if len(p) < goawaySize {
		return goaway{}, fmt.Errorf("%w: goaway of %d bytes", errProtocol, len(p))
	}
	n := int(p[1])
	if goawaySize+n > len(p) || len(p)-goawaySize-n > maxWords {
		return goaway{}, fmt.Errorf("%w: malformed goaway", errProtocol)
	}
	return goaway{reason: p[0], primary: string(p[goawaySize : goawaySize+n]), words: string(p[goawaySize+n:])}, nil
}

// begin appends length and type of a frame with size bytes of payload.
func begin(b []byte, kind byte, size int) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(1+size))
	return append(b, kind)
}
