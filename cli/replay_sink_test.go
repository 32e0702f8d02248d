package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy.dev/harness"
	"understudy.dev/journal"
)

// steps records n device commands in a journal on files and returns its URL.
func steps(t *testing.T, n int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "j")
	j := small(t, dir)
	h, err := harness.New(t.Context(), j, harness.Config{Mode: harness.Record, Async: true})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := h.DeviceCmd("step", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(h.Close(), j.Close()); err != nil {
		t.Fatal(err)
	}
	return fileURL(dir)
}

// A password in the URL of a sink is shown nowhere.
func TestSecretOfASinkIsNotShown(t *testing.T) {
	for sink, want := range map[string]string{
		"print":                             "print",
		"exec:curl http://u:secret@h/":      "exec:curl http://u:secret@h/", // what is run is not for us to read
		"http://host/records":               "http://host/records",
		"http://u:secret@host/records":      "http://u:xxxxx@host/records",
		"https://u:secret@host":             "https://u:xxxxx@host",
		"http:https://u:secret@host":        "http:https://u:xxxxx@host",
		"http://u:sec%ret@host":             "http:…",
		"http://u:sec/ret@host":             "http:…",
		"http:u:secret@host":                "http:u:…",
		"ftp://u:secret@host":               "ftp://u:xxxxx@host",
		"http:http://host:port-of-a-secret": "http:http:…",
	} {
		if got := shownSink(sink); got != want {
			t.Errorf("shown as %s, want %s", got, want)
		}
	}
	url := steps(t, 1)
	for _, sink := range []string{
		"http://u:secret@127.0.0.1:1/", "http:http://u:secret@127.0.0.1:1/", "http://u:secret@/", "ftp://u:secret@h", "http://u:%secret@h", "http:u:secret@h",
	} {
		for _, flags := range [][]string{nil, {"--json"}} {
			r := run(t.Context(), url, append([]string{"replay", "--sink", sink}, flags...)...)
			if r.code == 0 || strings.Contains(r.stdout+r.stderr, "secret") {
				t.Errorf("--sink %s ends with %d and\n%s%s", sink, r.code, r.stdout, r.stderr)
			}
		}
	}
}

// limited is an output on which there is room for some bytes.
type limited struct {
	room int
	got  bytes.Buffer
}

var errNoSpace = errors.New("no space left on device")

func (f *limited) Write(p []byte) (int, error) {
	n := min(len(p), f.room-f.got.Len())
	f.got.Write(p[:n])
	if n < len(p) {
		return n, errNoSpace
	}
	return n, nil
}

// What was printed is what is acknowledged, and no more.
func TestPrintedIsAcknowledged(t *testing.T) {
	url := steps(t, 52)
	for _, room := range []int{0, 100, 1000} {
		out, stderr := &limited{room: room}, &bytes.Buffer{}
		e := newEnv(url)
		e.App.Machine, e.Stdin, e.Stdout, e.Stderr = blobs(), strings.NewReader(""), out, stderr
		code := Run(t.Context(), e, []string{"replay", "--sink", "print", "--journal", url})
		lines := strings.Count(out.got.String(), "\n")
		said := fmt.Sprintf("acknowledged   %s, 1..%d ", counted(lines, "record"), lines)
		if lines == 0 {
			said = "acknowledged   no records "
		}
		hint := fmt.Sprintf("hint: the sink has the records before %d: the same command with --from %d goes on", lines+1, lines+1)
		if code != 1 || !strings.Contains(stderr.String(), said) || !strings.Contains(stderr.String(), hint) {
			t.Errorf("room for %d bytes and %d lines: exit code %d, %s", room, lines, code, stderr)
		}
	}
}

// What an error of a sink says about the record decides the exit code and the hint.
func TestCodesOfSinks(t *testing.T) {
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	unknown := fmt.Errorf("%w: the answer was lost", journal.ErrUnknown)
	const has, may = "has the records before 7: the same command with --from 7 goes on", "has the records before 7 and may have that one: --from 7 sends it again"
	tests := []struct {
		name string
		ctx  context.Context
		at   uint64
		err  error
		code int
		hint string
	}{
		{"done", t.Context(), 0, nil, 0, ""},
		{"no sink to blame", t.Context(), 0, errors.New("read"), 1, ""},
		{"certainly not", t.Context(), 7, fmt.Errorf("%w: full", journal.ErrFull), 1, has},
		{"unknown", t.Context(), 7, unknown, 3, may},
		{"an answer that is none", t.Context(), 7, errors.New("what?"), 3, may},
		{"too late", t.Context(), 7, harness.ErrSinkTimeout, 3, may},
		{"interrupted at the sink", interrupted, 7, context.Canceled, 130, may},
		{"interrupted between", interrupted, 0, context.Canceled, 130, ""},
	}
	for _, tt := range tests {
		fd := &feed{at: tt.at}
		err := fd.coded(tt.ctx, tt.err)
		code, hint := 0, ""
		var h *hintError
		if errors.As(err, &h) {
			hint = h.hint
		}
		if err != nil {
			code = exitCode(tt.ctx, err)
		}
		if code != tt.code || !strings.HasSuffix(hint, tt.hint) || (hint == "") != (tt.hint == "") {
			t.Errorf("%s: exit code %d and %q, want %d and %q", tt.name, code, hint, tt.code, tt.hint)
		}
	}
}

// The progress of a replay is that of its part.
func TestProgressOfAPart(t *testing.T) {
	end := journal.End{Seq: 100}
	for part, want := range map[harness.Range]uint64{
		{}: 100, {From: 11}: 90, {To: 30}: 30, {From: 11, To: 30}: 20, {To: 500}: 100, {From: 500}: 0,
	} {
		if got := newEnv("").sinkBar(sinkFlags{sink: "exec:x"}, part, end).total; got != want {
			t.Errorf("%+v: %d records, want %d", part, got, want)
		}
	}
}

// No time at all is no limit that a request could keep.
func TestTimeoutMustBePositive(t *testing.T) {
	for _, limit := range []string{"0", "-1s"} {
		run(t.Context(), "file:"+t.TempDir(), "capture", "ls", "--timeout", limit).want(t, 2, "--timeout ", "want more than 0")
	}
}

// The empty device is a character device, and no terminal.
func TestEmptyDeviceIsNoTerminal(t *testing.T) {
	f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if isTerminal(f) || isTerminal(&bytes.Buffer{}) {
		t.Errorf("%s is taken for a terminal", os.DevNull)
	}
}
