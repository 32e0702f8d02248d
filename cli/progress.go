package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// A progressBar shows how far long work has come: on a terminal one line drawn
// anew every 250 ms, elsewhere a line every 10 s.
type progressBar struct {
	w        io.Writer // nil shows nothing
	terminal bool
	label    string
	total    uint64 // 0 if unknown
	began    time.Time
	shown    time.Time
}

// newProgress returns a bar for total records.
func (e *Env) newProgress(label string, total uint64) *progressBar {
	p := &progressBar{label: label, total: total, began: time.Now(), shown: time.Now()}
	if !e.Global.Quiet {
		p.w, p.terminal = e.Stderr, isTerminal(e.Stderr)
	}
	return p
}

// isTerminal reports whether w is a terminal, which not every character device is:
// /dev/null is none.
func isTerminal(w any) bool {
	if o, ok := w.(*output); ok {
		w = o.Unwrap()
	}
	f, ok := w.(*os.File)
	return ok && terminal(f)
}

// at says that done records are done.
func (p *progressBar) at(done uint64) {
	every := 10 * time.Second
	if p.terminal {
		every = 250 * time.Millisecond
	}
	if p.w == nil || time.Since(p.shown) < every {
		return
	}
	p.shown = time.Now()
	if p.terminal {
		fmt.Fprintf(p.w, "\r%s\x1b[K", p.line(done))
	} else {
		fmt.Fprintln(p.w, p.line(done))
	}
}

// end removes the line that a terminal shows.
func (p *progressBar) end() {
	if p.w != nil && p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

func (p *progressBar) line(done uint64) string {
	rate := float64(done) / time.Since(p.began).Seconds()
	s := fmt.Sprintf("%s %s records  %s/s", p.label, grouped(done), grouped(uint64(rate)))
	if p.total == 0 {
		return s
	}
	const width = 24
	filled := int(width * min(done, p.total) / p.total)
	bar := strings.Repeat("█", filled) + strings.Repeat("░", width-filled)
	s = fmt.Sprintf("%s %s %3d%%  %s of %s records  %s/s", p.label, bar, 100*min(done, p.total)/p.total, grouped(done), grouped(p.total), grouped(uint64(rate)))
	if rate > 0 && done < p.total {
		s += "  " + (time.Duration(float64(p.total-done)/rate) * time.Second).String() + " to go"
	}
	return s
}
