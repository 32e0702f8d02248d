package group

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// readyWithin bounds how long a child may take to say that it is ready. A member
// of a cluster waits for its peers, and two busy cores are slow.
const readyWithin = 45 * time.Second

// A Process is a child process.
type Process struct {
	Name string // in errors, and of its log
	Log  string // file with its standard error

	cmd  *exec.Cmd
	done chan struct{}
	err  error // how it ended; after done is closed
}

// start runs a child and waits until it has printed one line of JSON, which it
// decodes into ready.
func start(binary, dir, name string, args []string, ready any) (*Process, error) {
	p := &Process{Name: name, Log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer log.Close()
	p.cmd = exec.Command(binary, args...)
	p.cmd.Dir, p.cmd.Stderr, p.cmd.Env = dir, log, childEnv()
	p.cmd.SysProcAttr = attributes()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	line := make(chan error, 1)
	if err := p.run(func() { line <- readReady(out, ready) }); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := p.awaitReady(line); err != nil {
		p.Kill()
		return nil, fmt.Errorf("start %s: %w; its log ends:\n%s", name, err, p.tail())
	}
	return p, nil
}

// childEnv is this process's environment without what would change a child's
// flags.
func childEnv() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "UNDERSTUDY_") {
			env = append(env, v)
		}
	}
	return env
}

// run starts the child and waits for its end on one thread of its own: the kernel
// counts the end of the thread that started a child as the death of its parent
// (prctl(2), PR_SET_PDEATHSIG).
func (p *Process) run(read func()) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		read() // Wait closes the pipe, so reading comes first
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return <-started
}

// readReady decodes the first line of out and leaves the rest to be discarded.
func readReady(out io.Reader, ready any) error {
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if errors.Is(err, io.EOF) {
		return errors.New("it ended before it was ready")
	}
	if err != nil {
		return fmt.Errorf("read its output: %w", err)
	}
	if err := json.Unmarshal(line, ready); err != nil {
		return fmt.Errorf("it printed %q: %w", line, err)
	}
	return nil
}

func (p *Process) awaitReady(line <-chan error) error {
	t := time.NewTimer(readyWithin)
	defer t.Stop()
	select {
	case err := <-line:
		return err
	case <-t.C:
		return fmt.Errorf("not ready after %v", readyWithin)
	}
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the process as kill -9 does, and returns when it has ended.
func (p *Process) Kill() {
	p.cmd.Process.Kill() //nolint:errcheck // it fails only if the process has ended
	<-p.done
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the process ended, after Done is closed.
func (p *Process) Err() error {
	return fmt.Errorf("%s ended: %w; its log ends:\n%s", p.Name, reason(p.err), p.tail())
}

func reason(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// tail returns the last lines of the log.
func (p *Process) tail() string {
	const most = 2 << 10
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-most):]))
}
