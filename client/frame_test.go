package client

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

// decodeAgain decodes a payload and encodes what was understood.
func decodeAgain(kind byte, payload []byte) ([]byte, error) {
	switch kind {
	case frameHello:
		h, err := decodeHello(payload)
		return appendHello(nil, h), err
	case frameWelcome:
		w, err := decodeWelcome(payload)
		return appendWelcome(nil, w), err
	case frameSubmit:
		var s submit
		err := decodeSubmit(payload, &s)
		return submitFrame(s, string(s.name), s.data), err
	case frameResult:
		var r result
		err := decodeResult(payload, &r)
		return appendResult(nil, &r), err
	case framePing, framePong:
		token, err := decodePing(payload)
		return appendPing(nil, kind, token), err
	case frameGoaway:
		g, err := decodeGoaway(payload)
		return appendGoaway(nil, g), err
	}
	return nil, errProtocol
}

func sampleFrames() [][]byte {
	return [][]byte{
		appendHello(nil, hello{version: 1, machine: "exchange"}),
		appendWelcome(nil, welcome{version: 1, role: rolePrimary, epoch: 7, maxCommand: 1 << 20, window: 1024, machine: "exchange", primary: "127.0.0.1:7080"}),
		submitFrame(submit{kind: 1, version: 2, session: 3, number: 4, low: 4}, "place", []byte("data")),
		submitFrame(submit{kind: 3}, "ordered", nil),
		appendResult(nil, &result{number: 4, seq: 9, repeated: true, body: []byte("reply")}),
		appendResult(nil, &result{number: 4, status: 3, primary: []byte("10.0.0.2:7080"), body: []byte("a standby")}),
		appendPing(nil, framePing, 1),
		appendPing(nil, framePong, 1),
		appendGoaway(nil, goaway{reason: reasonShutdown, primary: "10.0.0.2:7080", words: "the node ends"}),
	}
}

// Any bytes, in any portions, are cut into frames or refused; what is accepted
// is encoded to the same bytes again.
func FuzzFrames(f *testing.F) {
	f.Add(bytes.Join(sampleFrames(), nil))
	for _, frame := range sampleFrames() {
		f.Add(frame)
		f.Add(frame[:len(frame)-1])
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte{255, 255, 255, 255, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		in := frameReader{src: iotest.HalfReader(bytes.NewReader(data)), max: 1 << 16, chunk: 256}
		at := 0
		for {
			kind, payload, ok, err := in.next()
			if err != nil {
				return
			}
			if !ok {
				if err := in.fill(); err != nil {
					return
				}
				continue
			}
			frame := data[at : at+lengthSize+1+len(payload)]
			at += len(frame)
			if kind != frame[lengthSize] || !bytes.Equal(payload, frame[lengthSize+1:]) {
				t.Fatalf("frame at %d differs from its bytes", at)
			}
			again, err := decodeAgain(kind, payload)
			if err == nil && !bytes.Equal(again, frame) {
				t.Fatalf("frame % x was accepted and encodes to % x", frame, again)
			}
			if err != nil && !errors.Is(err, errProtocol) {
				t.Fatalf("error %v does not match errProtocol", err)
			}
		}
	})
}

func TestFramesComeBack(t *testing.T) {
	for _, frame := range sampleFrames() {
		again, err := decodeAgain(frame[lengthSize], frame[lengthSize+1:])
		if err != nil || !bytes.Equal(again, frame) {
			t.Errorf("frame % x came back as % x, %v", frame, again, err)
		}
	}
}

// A peer that states a large frame makes nobody set memory aside for it: only
// what arrives does, and then the frame is whole.
func TestStatedLengthCostsNothing(t *testing.T) {
	const size = 1 << 20
	frame := submitFrame(submit{number: 1}, "", bytes.Repeat([]byte("0123456789abcde"), size/15))
	src := bytes.NewReader(frame)
	in := frameReader{src: iotest.OneByteReader(io.LimitReader(src, 5)), max: 2 * size, chunk: chunkSize}
	for range 5 {
		if err := in.fill(); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := len(in.buf), chunkSize; got > want {
		t.Errorf("5 bytes that state a frame of %d bytes set %d aside, want %d", len(frame), got, want)
	}
	in.src = iotest.HalfReader(src)
	for {
		_, payload, ok, err := in.next()
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			if !bytes.Equal(payload, frame[lengthSize+1:]) {
				t.Error("the frame came otherwise than it was sent")
			}
			return
		}
		if err := in.fill(); err != nil {
			t.Fatal(err)
		}
		if got, want := len(in.buf), max(chunkSize, 2*in.end); got > want {
			t.Fatalf("%d bytes arrived and %d are set aside, want at most %d", in.end, got, want)
		}
	}
}

// Payloads may be kept: later reads do not overwrite them.
func TestPayloadsAreNotOverwritten(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var stream []byte
	var want [][]byte
	for range 2000 {
		data := bytes.Repeat([]byte{byte(rng.Uint32())}, rng.IntN(300))
		want = append(want, data)
		stream = append(stream, submitFrame(submit{number: 1}, "", data)...)
	}
	in := frameReader{src: iotest.HalfReader(bytes.NewReader(stream)), max: 1 << 16, chunk: 1024}
	var got [][]byte
	for {
		_, payload, ok, err := in.next()
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			got = append(got, payload[submitSize:])
			continue
		}
		if err := in.fill(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			break
		}
	}
	if len(got) != len(want) {
		t.Fatalf("frames = %d, want %d", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("frame %d changed after it was read", i)
		}
	}
}
