package sinks

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
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
	in      *os.File // the child's standard input, and its output: pipes of our own,
	out     *os.File // so that what else holds them open cannot keep us waiting
	killed  atomic.Bool
	sent    atomic.Pointer[sent]
	answers chan answer // one to each entry, then at most one fault; closed when the child's output ends
	fault   error       // what the child said out of turn, once Apply has told; Apply's own
	gone    chan struct{}
	waited  error // of gone
	held    bool  // of gone: the output did not end, even after a kill
	once    sync.Once
	err     error // of Close
}

// sent is an entry that is on its way to the child, or was. Each has a pointer of
// its own.
type sent struct{ number uint64 }

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
	in, out, err := startPiped(cmd)
	if err != nil {
		return nil, fmt.Errorf("sinks: run %s: %w", argv[0], err)
	}
	s := &Exec{cmd: cmd, grace: cfg.Grace, in: in, out: out, answers: make(chan answer, 2), gone: make(chan struct{})}
	none := new(sent)
	s.sent.Store(none)
	go s.listen(none)
	return s, nil
}

// startPiped starts cmd and returns our ends of its standard input and output.
func startPiped(cmd *exec.Cmd) (in, out *os.File, err error) {
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer childIn.Close()
	out, childOut, err := os.Pipe()
	if err != nil {
		in.Close()
		return nil, nil, err
	}
	defer childOut.Close()
	cmd.Stdin, cmd.Stdout = childIn, childOut
	if err := cmd.Start(); err != nil {
		in.Close()
		out.Close()
		return nil, nil, err
	}
	return in, out, nil
}

// listen reads the child's answers until its output ends, then reaps it. After a
// line that is no answer it only drains. answered is what needs no answer yet.
func (s *Exec) listen(answered *sent) {
	defer s.out.Close()
	from := &arrivals{Reader: s.out, sent: &s.sent}
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		a := parseAnswer(lines.Bytes())
		if a.err == nil {
			a.err = inTurn(*a.Ack, from.last, answered)
		}
		s.answers <- a
		if a.err != nil {
			break
		}
		answered = from.last
	}
	err := lines.Err()
	if err != nil && !s.killed.Load() { // else it is the read that kill ends
		s.answers <- answer{err: fmt.Errorf("%w: %w", ErrProtocol, err)}
		s.kill()
	} else {
		_, err = io.Copy(io.Discard, s.out) // so that the child can go on to its end
	}
	s.held = errors.Is(err, os.ErrDeadlineExceeded)
	close(s.answers)
	if s.killed.Load() {
		s.cmd.WaitDelay = afterKill // of its standard error, which others may hold open too
	}
	s.waited = s.cmd.Wait()
	if errors.Is(s.waited, exec.ErrWaitDelay) { // it ended well, and others hold its standard error
		s.waited = nil
	}
	close(s.gone)
}

// arrivals remembers what had been sent when bytes last came. A line ends in the
// last bytes that came, since a scanner reads on only when it has no whole line.
type arrivals struct {
	io.Reader
	sent *atomic.Pointer[sent]
	last *sent
}

func (a *arrivals) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	a.last = a.sent.Load()
	return n, err
}

func parseAnswer(line []byte) answer {
	var a answer
	if err := json.Unmarshal(line, &a); err != nil || a.Ack == nil {
		a = answer{err: fmt.Errorf("%w: %.100q", ErrProtocol, line)}
	}
	return a
}

// inTurn refuses what does not acknowledge the entry that was sent last, once.
func inTurn(ack uint64, last, answered *sent) error {
	switch {
	case ack > last.number:
		return fmt.Errorf("%w: acknowledges record %d before it was sent", ErrProtocol, ack)
	case ack < last.number:
		return fmt.Errorf("%w: acknowledges record %d, it was sent %d", ErrProtocol, ack, last.number)
	case last == answered:
		return fmt.Errorf("%w: acknowledges record %d again", ErrProtocol, ack)
	}
	return nil
}

// Apply implements harness.Sink. When ctx ends the child is killed. What the child
// said out of turn, such as an acknowledgement ahead of its entry, is the error
// of the entry that is waiting or of the next, which is then not sent.
func (s *Exec) Apply(ctx context.Context, e *harness.Entry) error {
	stop := context.AfterFunc(ctx, s.kill)
	defer stop()
	if err := s.unasked(); err != nil {
		return err
	}
	s.sent.Store(&sent{e.Number})
	_, writeErr := s.in.Write(encode(e))
	if writeErr == nil {
		select {
		case a, ok := <-s.answers:
			if ok {
				return s.take(a)
			}
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		s.fault = context.Cause(ctx) // it is killed: no answer counts any more
		return s.fault
	}
	return s.death(writeErr)
}

// unasked returns what the child said while nothing was sent.
func (s *Exec) unasked() error {
	if s.fault != nil {
		return s.fault
	}
	select {
	case a, ok := <-s.answers:
		if ok {
			return s.take(a)
		}
	default:
	}
	return nil
}

// take returns what an answer means. One out of turn is final.
func (s *Exec) take(a answer) error {
	switch {
	case a.err != nil:
		s.fault = a.err
		return a.err
	case a.Error != "":
		return harness.NotTaken(fmt.Errorf("child: %s", a.Error))
	}
	return nil
}

// death explains an answer that did not come. A child that closed its output and
// goes on has Grace to end. What it said out of turn tells more than its end.
func (s *Exec) death(writeErr error) error {
	said, _ := s.end()
	status := "exit status 0"
	if s.waited != nil {
		status = s.waited.Error()
	}
	switch {
	case said != nil:
		s.fault = said
		return said
	case writeErr != nil:
		return harness.NotTaken(fmt.Errorf("%w before it took the record: %s: %w", ErrExited, status, writeErr))
	}
	return fmt.Errorf("%w before it acknowledged: %s", ErrExited, status)
}

// end waits for the child's end, and kills it when it is late, after Grace. It
// returns what the child still said out of turn, and passes over the rest.
func (s *Exec) end() (said error, late bool) {
	timer := time.AfterFunc(s.grace, s.kill)
	for a := range s.answers {
		if a.err != nil {
			said = a.err
		}
	}
	<-s.gone
	return said, !timer.Stop()
}

// afterKill is how long the output of a killed child is still read: what it said
// is in the pipe already. A process that it started outside its group lives on and
// may hold the pipes open for ever.
const afterKill = 100 * time.Millisecond

// kill ends the child and what it started in its group, at once, and the waits for
// its pipes soon.
func (s *Exec) kill() {
	s.killed.Store(true)
	killGroup(s.cmd.Process)
	s.in.Close()
	if s.out.SetReadDeadline(time.Now().Add(afterKill)) != nil { // a system that cannot
		s.out.Close()
	}
}

// Close closes the child's input and waits for its end: for Grace, then it is
// killed. The error says how the child ended if not with status 0, or what it said
// after the last entry. Calling it again returns the same.
func (s *Exec) Close() error {
	s.once.Do(func() { s.err = s.shut() })
	return s.err
}

func (s *Exec) shut() error {
	s.in.Close()
	said, late := s.end()
	switch {
	case late && s.held && s.cmd.ProcessState.Exited():
		return fmt.Errorf("sinks: child ended with %v, but something that it started held its output open for %v", s.cmd.ProcessState, s.grace)
	case late && !s.cmd.ProcessState.Exited():
		return fmt.Errorf("sinks: child did not end within %v of the end of its input and was killed", s.grace)
	case s.waited != nil:
		return fmt.Errorf("sinks: child: %w", s.waited)
	}
	return said
}
