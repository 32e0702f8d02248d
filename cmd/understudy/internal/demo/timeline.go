package demo

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"
)

// A timeline prints what happens, when it happens, and under it how the work
// goes on.
type timeline struct {
	out      io.Writer // the lines
	progress io.Writer // nil for none
	terminal bool      // progress overwrites itself
	began    time.Time

	mu    sync.Mutex
	drawn bool // a line of progress stands on the terminal
}

func newTimeline(cfg *Config) *timeline {
	t := &timeline{out: cfg.Stdout, began: time.Now()}
	if cfg.JSON {
		t.out = cfg.Stderr // the standard output is for the document
	}
	if cfg.Quiet && cfg.JSON {
		t.out = io.Discard
	}
	if !cfg.Quiet {
		t.progress, t.terminal = cfg.Stderr, isTerminal(cfg.Stderr)
	}
	return t
}

// isTerminal reports whether w is a character device.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// say prints an event of the present moment.
func (t *timeline) say(what, format string, args ...any) {
	t.line("%5.1fs  %-9s %s\n", time.Since(t.began).Seconds(), what, fmt.Sprintf(format, args...))
}

// line prints a line that belongs to no moment.
func (t *timeline) line(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.erase()
	fmt.Fprintf(t.out, format, args...)
}

func (t *timeline) erase() {
	if t.drawn {
		fmt.Fprint(t.progress, "\r\x1b[K")
		t.drawn = false
	}
}

// How often progress is shown.
const (
	drawEvery = 250 * time.Millisecond // on a terminal
	logEvery  = 10 * time.Second       // elsewhere
)

// every returns how often show is to be called.
func (t *timeline) every() time.Duration {
	if t.terminal {
		return drawEvery
	}
	return logEvery
}

// show tells how far the work is.
func (t *timeline) show(format string, args ...any) {
	if t.progress == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.erase()
	fmt.Fprintf(t.progress, "%5.1fs  %s", time.Since(t.began).Seconds(), fmt.Sprintf(format, args...))
	if t.drawn = t.terminal; !t.drawn {
		fmt.Fprintln(t.progress)
	}
}

// grouped writes a number with a comma between groups of three digits.
func grouped[N int | uint64](n N) string {
	s := strconv.FormatUint(uint64(n), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// ms writes a duration in milliseconds.
func ms(d time.Duration) string { return millis(float64(d) / float64(time.Millisecond)) }

func millis(m float64) string {
	if m < 10 {
		return fmt.Sprintf("%.1fms", m)
	}
	return fmt.Sprintf("%.0fms", m)
}
