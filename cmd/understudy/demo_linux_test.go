package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// However the demo ends, its children end with it.
func TestDemoEndsItsChildren(t *testing.T) {
	for _, tt := range []struct {
		signal syscall.Signal
		code   int
	}{
		{syscall.SIGINT, 130},
		{syscall.SIGTERM, 130},
		{syscall.SIGKILL, -1},
	} {
		t.Run(tt.signal.String(), func(t *testing.T) { endDemo(t, tt.signal, tt.code) })
	}
}

// When nobody reads its output any more, as after head, the demo ends and leaves
// nothing behind.
func TestDemoEndsWithItsReader(t *testing.T) {
	r := newRun(t, "demo", "--rate", "1000", "--duration", "1s", "--kill-after", "500")
	r.cmd.Stdout = nil
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	children := pids(t, out, 3)
	out.Close()
	r.cmd.Wait() //nolint:errcheck // the exit code says more
	if got, want := r.cmd.ProcessState.ExitCode(), 130; got != want {
		t.Errorf("exit code %d, want %d\n%s", got, want, r.stderr.String())
	}
	if got, want := r.stderr.String(), "nobody reads the output any more"; !strings.Contains(got, want) {
		t.Errorf("standard error %q, want %q in it", got, want)
	}
	for _, pid := range children {
		if running(pid) {
			t.Errorf("child %d still runs", pid)
		}
	}
	if left := r.left(t); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

func endDemo(t *testing.T, signal syscall.Signal, code int) {
	r := newRun(t, "demo", "--rate", "1000", "--duration", "1m", "--kill-after", "60000")
	r.cmd.Stdout = nil
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	children := pids(t, out, 3)
	if err := r.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, out) //nolint:errcheck // it ends with the process
	r.cmd.Wait()             //nolint:errcheck // the exit code says more
	if got := r.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("exit code %d, want %d\n%s", got, code, r.stderr.String())
	}
	deadline := time.Now().Add(10 * time.Second)
	for _, pid := range children {
		for running(pid) {
			if time.Now().After(deadline) {
				t.Fatalf("child %d still runs", pid)
			}
			time.Sleep(time.Millisecond)
		}
	}
	if left := r.left(t); signal != syscall.SIGKILL && left != nil {
		t.Errorf("left behind: %v", left)
	}
}

var pidWords = regexp.MustCompile(`\bpid (\d+)`)

// pids reads the output until it has named so many processes.
func pids(t *testing.T, out io.Reader, n int) []int {
	t.Helper()
	var list []int
	lines := bufio.NewScanner(out)
	for len(list) < n && lines.Scan() {
		if m := pidWords.FindSubmatch(lines.Bytes()); m != nil {
			pid, err := strconv.Atoi(string(m[1]))
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, pid)
		}
	}
	if len(list) < n {
		t.Fatalf("the output named %v, want %d processes", list, n)
	}
	return list
}

// running reports whether a process exists and is no zombie.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := bytes.Cut(stat, []byte(") "))
	return len(after) == 0 || after[0] != 'Z'
}
