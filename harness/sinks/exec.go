package sinks

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"

	"understudy.dev/harness"
)

// An ExecConfig says how a child process is run.
type ExecConfig struct {
	Env    []string  // its environment; nil is this process's
	Dir    string    // its working directory; "" is this process's
	Stderr io.Writer // where its words go; nil discards them

	// Grace is how long the child may take to end after its input was closed.
	// Default 5 s.
	Grace time.Duration
}

// ErrProtocol: what the child said is not an answer to the entry it was sent.
var ErrProtocol = errors.New("sinks: not an acknowledgement")

// ErrExited: the child ended before it acknowledged an entry.
var ErrExited = errors.New("sinks: child ended")

// maxAnswer bounds one line of the child in bytes.
const maxAnswer = 64 << 10

// Exec is a sink in a child process. Close it after the replay.
type Exec struct {
	cmd     *exec.Cmd
	grace   time.Duration
	in      io.WriteCloser
	answers chan answer // closed when the child's output ends
	gone    chan struct{}
	waited  error // of gone
	once    sync.Once
	err     error // of Close
}

// answer is one line of the child, or why there is none.
type answer struct {
	Ack   *uint64 `json:"ack"`
	Error string  `json:"error"`
	err   error
}

var _ harness.Sink = (*Exec)(nil)

// NewExec starts argv. The child gets no shell: pass sh -c yourself if you want
// one.
func NewExec(argv []string, cfg ExecConfig) (*Exec, error) {
	if len(argv) == 0 || argv[0] == "" {
		return nil, errors.New("sinks: no command to run")
	}
	if cfg.Grace == 0 {
		cfg.Grace = 5 * time.Second
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Dir, cmd.Stderr, cmd.WaitDelay = cfg.Env, cfg.Dir, cfg.Stderr, cfg.Grace
	ownGroup(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("sinks: run %s: %w", argv[0], err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("sinks: run %s: %w", argv[0], err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("sinks: run %s: %w", argv[0], err)
	}
	s := &Exec{cmd: cmd, grace: cfg.Grace, in: in, answers: make(chan answer, 1), gone: make(chan struct{})}
	go s.listen(out)
	return s, nil
}

// listen reads the child's answers until its output ends, then reaps it.
func (s *Exec) listen(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		var a answer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil || a.Ack == nil {
			a = answer{err: fmt.Errorf("%w: %.100q", ErrProtocol, lines.Bytes())}
		}
		s.answers <- a
	}
	if err := lines.Err(); err != nil {
		s.answers <- answer{err: fmt.Errorf("%w: %w", ErrProtocol, err)}
		s.kill()
	}
	close(s.answers)
	s.waited = s.cmd.Wait()
	close(s.gone)
}

// Apply implements harness.Sink. When ctx ends the child is killed.
func (s *Exec) Apply(ctx context.Context, e *harness.Entry) error {
	stop := context.AfterFunc(ctx, s.kill)
	defer stop()
	_, writeErr := s.in.Write(encode(e))
	if writeErr == nil {
		select {
		case a, ok := <-s.answers:
			if ok {
				return a.check(e.Number)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return s.death(writeErr)
}

func (a answer) check(number uint64) error {
	switch {
	case a.err != nil:
		return a.err
	case *a.Ack != number:
		return fmt.Errorf("%w: acknowledges record %d, it was sent %d", ErrProtocol, *a.Ack, number)
	case a.Error != "":
		return fmt.Errorf("child: %s", a.Error)
	}
	return nil
}

// death explains an answer that did not come. A child that closed its output and
// goes on has Grace to end.
func (s *Exec) death(writeErr error) error {
	go s.drain()
	select {
	case <-s.gone:
	case <-time.After(s.grace):
		s.kill()
		<-s.gone
	}
	status := "exit status 0"
	if s.waited != nil {
		status = s.waited.Error()
	}
	if writeErr != nil {
		return fmt.Errorf("%w before it took the record: %s: %w", ErrExited, status, writeErr)
	}
	return fmt.Errorf("%w before it acknowledged: %s", ErrExited, status)
}

// drain passes over whatever the child still says, so that listen can end.
func (s *Exec) drain() {
	for range s.answers {
	}
}

// kill ends the child and what it started, at once.
func (s *Exec) kill() { killGroup(s.cmd.Process) }

// Close closes the child's input and waits for its end: for Grace, then it is
// killed. The error says how the child ended if not with status 0. Calling it
// again returns the same.
func (s *Exec) Close() error {
	s.once.Do(func() { s.err = s.shut() })
	return s.err
}

func (s *Exec) shut() error {
	s.in.Close()
	go s.drain()
	select {
	case <-s.gone:
	case <-time.After(s.grace):
		s.kill()
		<-s.gone
		return fmt.Errorf("sinks: child did not end within %v of the end of its input and was killed", s.grace)
	}
	if s.waited != nil {
		return fmt.Errorf("sinks: child: %w", s.waited)
	}
	return nil
}
