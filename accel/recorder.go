package accel

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"sync"

	"understudy.dev/harness"
)

// A Harness takes what a Recorder records. In record mode a nil error means that
// the command is recorded; in replay mode, that the recorded command is the same.
// It does not keep payload.
type Harness interface {
	DeviceCmd(name string, payload []byte) error
	KernelCmd(kind string, payload []byte) error
}

// Config tunes a Recorder. The zero Config is ready to use.
type Config struct {
	// Keep is the size in bytes of the largest output recorded with its contents
	// beside its digest: a difference there names its first element, and only
	// there can a tolerance be granted. 0 means 4096, negative none.
	Keep int
	// CopyBytes is the most that one copy-in command records; larger copies are
	// split. A multiple of 4; 0 means 256 KiB, which leaves room in a batch of 1 MiB.
	CopyBytes int
}

const (
	defaultKeep      = 4 << 10
	defaultCopyBytes = 256 << 10
)

// A Recorder is a Device that does each command on the device beneath it and
// gives it to a harness. Its methods may be called concurrently; they take turns.
// After an error of the harness the command was done but not recorded.
type Recorder struct {
	dev       Device
	emit      func(*Command) error // encodes and records; a Replayer compares instead
	keep      int
	copyBytes int

	mu     sync.Mutex
	memory map[Buffer]*memory
	last   Buffer
	cmd    Command // the one at hand
	arena  []byte  // its contents
}

// memory is what is known about an allocated buffer.
type memory struct {
	inner  Buffer // the device's number
	bytes  int
	digest [sha256.Size]byte
	known  bool // digest is that of the contents now
}

// NewRecorder returns a recorder of dev and records dev's environment, without the
// Host: a harness notes at the start of a run where it runs. A harness in replay mode
// refuses what else differs, and the error is then also a *Difference that names it.
func NewRecorder(dev Device, to Harness, cfg Config) (*Recorder, error) {
	if cfg.Keep == 0 {
		cfg.Keep = defaultKeep
	}
	if cfg.CopyBytes == 0 {
		cfg.CopyBytes = defaultCopyBytes
	}
	if cfg.CopyBytes < 0 || cfg.CopyBytes%4 != 0 {
		return nil, fmt.Errorf("record device: %d bytes a copy: %w", cfg.CopyBytes, ErrBounds)
	}
	r := newRecorder(dev, encoder(to), cfg.Keep, cfg.CopyBytes)
	env := dev.Environment()
	env.Host = "" // a harness in replay mode compares all that is recorded
	if err := r.send(Command{Op: OpEnvironment, Env: env}); err != nil {
		return nil, fmt.Errorf("record environment: %w", explained(err))
	}
	return r, nil
}

// explained puts what it means on the device before a difference that a harness found.
func explained(err error) error {
	var d *harness.Difference
	if errors.As(err, &d) {
		if e := Explain(d); e != nil {
			return fmt.Errorf("%w: %w", e, err)
		}
	}
	return err
}

func newRecorder(dev Device, emit func(*Command) error, keep, copyBytes int) *Recorder {
	return &Recorder{dev: dev, emit: emit, keep: keep, copyBytes: copyBytes, memory: make(map[Buffer]*memory)}
}

// encoder returns an emit that gives encoded commands to a harness. It reuses one
// buffer: the Recorder's lock is held around it.
func encoder(to Harness) func(*Command) error {
	var payload []byte
	return func(c *Command) error {
		payload = c.AppendTo(payload[:0])
		if c.Op == OpLaunch {
			return to.KernelCmd(c.Launch.Kernel, payload)
		}
		return to.DeviceCmd(c.Op.String(), payload)
	}
}

// Alloc implements Device. The buffers of a Recorder are numbered from 1 in order
// of allocation, whatever the device calls them.
func (r *Recorder) Alloc(bytes int) (Buffer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	inner, err := r.dev.Alloc(bytes)
	if err != nil {
		return 0, err
	}
	r.last++
	r.memory[r.last] = &memory{inner: inner, bytes: bytes}
	return r.last, r.send(Command{Op: OpAlloc, Buffer: r.last, Bytes: uint64(bytes)})
}

// Free implements Device.
func (r *Recorder) Free(b Buffer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, err := r.find(b)
	if err != nil {
		return err
	}
	if err := r.dev.Free(m.inner); err != nil {
		return err
	}
	delete(r.memory, b)
	return r.send(Command{Op: OpFree, Buffer: b})
}

// CopyIn implements Device. src is recorded in full.
func (r *Recorder) CopyIn(dst Buffer, offset int, src []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, err := r.find(dst)
	if err != nil {
		return err
	}
	if err := r.dev.CopyIn(m.inner, offset, src); err != nil {
		return err
	}
	m.known = false
	for {
		part := src[:min(len(src), r.copyBytes)]
		c := contentOf(0, part, true)
		if len(part) == m.bytes {
			m.digest, m.known = c.Digest, true
		}
		if err := r.send(Command{Op: OpCopyIn, Buffer: dst, Offset: uint64(offset), Inputs: []Content{c}}); err != nil {
			return err
		}
		if src = src[len(part):]; len(src) == 0 {
			return nil
		}
		offset += len(part)
	}
}

// CopyOut implements Device.
func (r *Recorder) CopyOut(dst []byte, src Buffer, offset int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, err := r.find(src)
	if err != nil {
		return err
	}
	if err := r.dev.CopyOut(dst, m.inner, offset); err != nil {
		return err
	}
	c := contentOf(0, dst, len(dst) <= r.keep)
	return r.send(Command{Op: OpCopyOut, Buffer: src, Offset: uint64(offset), Outputs: []Content{c}})
}

// Seed implements Device.
func (r *Recorder) Seed(seed uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.dev.Seed(seed); err != nil {
		return err
	}
	return r.send(Command{Op: OpSeed, Seed: seed})
}

// Launch implements Device.
func (r *Recorder) Launch(l *Launch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.arena = r.arena[:0]
	c := Command{Op: OpLaunch, Launch: *l}
	inner := *l
	inner.Args = append([]Arg(nil), l.Args...)
	for i, a := range l.Args {
		if !a.Mode.IsBuffer() {
			continue
		}
		m, err := r.find(a.Buffer())
		if err != nil {
			return fmt.Errorf("launch %s: %w", l.Kernel, err)
		}
		inner.Args[i].Bits = uint64(m.inner)
		if a.Mode.Reads() {
			if err := r.learn(m); err != nil {
				return err
			}
			c.Inputs = append(c.Inputs, Content{Arg: i, Bytes: uint64(m.bytes), Digest: m.digest})
		}
	}
	if err := r.dev.Launch(&inner); err != nil {
		return err
	}
	for i, a := range l.Args {
		if a.Mode.Writes() {
			out, err := r.written(i, r.memory[a.Buffer()])
			if err != nil {
				return err
			}
			c.Outputs = append(c.Outputs, out)
		}
	}
	return r.send(c)
}

// Environment implements Device.
func (r *Recorder) Environment() Environment { return r.dev.Environment() }

// send emits a command from where the next one will be, so that none is allocated.
func (r *Recorder) send(c Command) error {
	r.cmd = c
	return r.emit(&r.cmd)
}

func (r *Recorder) find(b Buffer) (*memory, error) {
	if m, ok := r.memory[b]; ok {
		return m, nil
	}
	return nil, fmt.Errorf("buffer %d: %w", b, ErrBuffer)
}

// learn computes the digest of memory that was written since it was last known.
func (r *Recorder) learn(m *memory) error {
	if m.known {
		return nil
	}
	data, err := r.read(m)
	if err != nil {
		return err
	}
	m.digest, m.known = sha256.Sum256(data), true
	return nil
}

// written describes argument i, which a kernel has just written.
func (r *Recorder) written(i int, m *memory) (Content, error) {
	data, err := r.read(m)
	if err != nil {
		return Content{}, err
	}
	c := contentOf(i, data, m.bytes <= r.keep)
	m.digest, m.known = c.Digest, true
	return c, nil
}

// read returns what memory holds, in room that lasts until the next command.
func (r *Recorder) read(m *memory) ([]byte, error) {
	from := len(r.arena)
	if cap(r.arena)-from < m.bytes {
		r.arena, from = make([]byte, 0, max(m.bytes, 2*cap(r.arena))), 0 // contents hold on to the old one
	}
	r.arena = r.arena[:from+m.bytes]
	data := r.arena[from:]
	if err := r.dev.CopyOut(data, m.inner, 0); err != nil {
		return nil, fmt.Errorf("digest buffer %d: %w", m.inner, err)
	}
	return data, nil
}

// keepAll makes a Recorder keep the contents of every output.
const keepAll = math.MaxInt
