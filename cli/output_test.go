package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy.dev/admin"
)

// full is a standard output that takes so many bytes, as a disk does that fills up.
type full struct {
	left int
	err  error
}

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, f.err
	}
	return len(p), nil
}

// runInto carries out a command line that prints to w.
func runInto(t *testing.T, w io.Writer, url string, args ...string) ran {
	t.Helper()
	var stderr bytes.Buffer
	e := &Env{
		App: App{Name: "understudy", Machine: blobs()}, Stdin: strings.NewReader(""), Stdout: w, Stderr: &stderr,
		Getenv: func(string) string { return "" }, Now: time.Now,
	}
	code := Run(t.Context(), e, append(args, "--journal", url))
	return ran{code: code, stderr: stderr.String()}
}

// A command whose output could not be written does not end as if it was: with 1 if it
// only looked, with 3 if it has done what it could not tell. Whoever stopped reading
// needs no error.
func TestOutputThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	url := fileURL(filepath.Join(dir, "j"))
	j := small(t, filepath.Join(dir, "j"))
	write(t, j, 60, 60)
	j.Close()
	n := 0
	tests := []struct {
		args []string
		code int
	}{
		{[]string{"journal", "verify"}, 1},
		{[]string{"journal", "info"}, 1},
		{[]string{"journal", "ls"}, 1},
		{[]string{"journal", "cat"}, 1},
		{[]string{"journal", "get", "3"}, 1},
		{[]string{"journal", "--help"}, 1},
		{[]string{"journal", "prune", "--before", "1"}, 1},
		{[]string{"journal", "prune", "--before", "40"}, 1},
		{[]string{"journal", "export", "NEW.udj"}, admin.ExitUnknown},
		{[]string{"journal", "copy", "file:NEW"}, admin.ExitUnknown},
		{[]string{"journal", "prune", "--before", "40", "--yes"}, admin.ExitUnknown},
	}
	for _, tt := range tests {
		for _, flag := range []string{"", "--json"} {
			t.Run(strings.Join(tt.args, " ")+flag, func(t *testing.T) {
				if flag != "" && (tt.args[1] == "--help" || tt.args[len(tt.args)-1] == "--yes") {
					t.Skip("prints no JSON, or was done before")
				}
				args := make([]string, len(tt.args))
				n++
				for i, a := range tt.args {
					args[i] = strings.ReplaceAll(a, "NEW", filepath.Join(dir, fmt.Sprint("new", n)))
				}
				if flag != "" {
					args = append(args, flag)
				}
				said := "no space left on device"
				r := runInto(t, &full{err: &os.PathError{Op: "write", Path: "stdout", Err: syscall.ENOSPC}}, url, args...)
				r.want(t, tt.code, said)
				if done := strings.Contains(r.stderr, "it was done"); done != (tt.code == admin.ExitUnknown) {
					t.Errorf("it says %s", r.stderr)
				}
			})
		}
	}
	for _, closed := range []error{syscall.EPIPE, io.ErrClosedPipe} {
		for _, command := range []string{"cat", "verify", "info"} {
			r := runInto(t, &full{err: fmt.Errorf("write: %w", closed)}, url, "journal", command, "-q")
			if r.code != 0 || r.stderr != "" {
				t.Errorf("%s into a closed pipe (%v): %+v", command, closed, r)
			}
		}
	}
	// What is flushed at last is written as well.
	r := runInto(t, &full{left: 100, err: syscall.ENOSPC}, url, "journal", "cat", "--count", "2")
	r.want(t, 1, "no space left on device")
}

// What is flushed at last is an error if it fails, unless nobody reads any more; and no
// error hides another.
func TestFlushed(t *testing.T) {
	other := errors.New("other")
	for _, tt := range []struct{ write, err, want error }{
		{nil, nil, nil},
		{nil, other, other},
		{syscall.ENOSPC, nil, syscall.ENOSPC},
		{syscall.ENOSPC, other, other},
		{&os.PathError{Op: "write", Err: syscall.EPIPE}, nil, nil},
		{io.ErrClosedPipe, nil, nil},
	} {
		w := bufio.NewWriter(&full{err: tt.write})
		if tt.write == nil {
			w = bufio.NewWriter(io.Discard)
		}
		w.WriteString("x") //nolint:errcheck // what flushed is for
		if got := flushed(w, tt.err); !errors.Is(got, tt.want) || (got == nil) != (tt.want == nil) {
			t.Errorf("writing meets %v: flushed(%v) = %v, want %v", tt.write, tt.err, got, tt.want)
		}
	}
}
