package cli

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// endlessTrace is a Kineto trace without an end, and without a command, during which
// somebody presses Ctrl-C.
type endlessTrace struct {
	begun     bool
	given     int
	interrupt func()
}

func (r *endlessTrace) Read(p []byte) (int, error) {
	if !r.begun {
		r.begun = true
		return copy(p, `{"traceEvents":[`), nil
	}
	if r.given += len(p); r.given > 64<<20 {
		return 0, errors.New("read on after the interruption")
	}
	if r.given > 1<<20 {
		r.interrupt()
	}
	const event = `{"ph":"i","name":"x"},`
	return copy(p, strings.Repeat(event, max(1, len(p)/len(event)))), nil
}

// An interruption ends the reading of a trace also before its first command.
func TestInterruptionEndsTheReadingOfATrace(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := &endlessTrace{interrupt: cancel}
	_, err := traceOps(ctx, r)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("read a trace = %v, want it to be interrupted", err)
	}
	if r.given > 32<<20 {
		t.Errorf("%d bytes were read, of which the interruption came after 1 MiB", r.given)
	}
	if got, want := exitCode(ctx, badTrace("x", err)), exitInterrupted; got != want {
		t.Errorf("exit code %d, want %d", got, want)
	}
}

// An argument of diff that has :// in it is a URL, and its scheme is what is wrong.
func TestDiffTakesURLs(t *testing.T) {
	for arg, want := range map[string]bool{
		"gopher://x/y": true, "file:runs/a": true, "mem:a": true, "nats://h/S": true, "run1": false, "a:b": false, "job/1": false,
	} {
		if got := isJournalURL(arg); got != want {
			t.Errorf("%s is a URL: %v, want %v", arg, got, want)
		}
	}
	run(t.Context(), "file:"+t.TempDir(), "diff", "gopher://x/y", "run1").want(t, 2, `scheme "gopher" is unknown`)
}

// Of nothing capture check does not say that it holds.
func TestCaptureCheckOfNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	small(t, dir).Close()
	run(t.Context(), fileURL(dir), "capture", "check").want(t, 1, "nothing recorded", "hint: understudy capture import FILE")
}
