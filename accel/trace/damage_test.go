package trace_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"understudy.dev/accel/trace"
)

// compressed returns text by the name of what compressed it.
func compressed(t *testing.T, text string) map[string][]byte {
	t.Helper()
	var zipped, zst bytes.Buffer
	g := gzip.NewWriter(&zipped)
	z, err := zstd.NewWriter(&zst)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []io.WriteCloser{g, z} {
		_, err := io.WriteString(w, text)
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return map[string][]byte{"gzip": zipped.Bytes(), "zstd": zst.Bytes()}
}

// longLines is a normalised trace of many blocks: its kernels' names hardly compress.
func longLines(commands int) string {
	var b strings.Builder
	state := uint64(1)
	for i := range commands {
		fmt.Fprintf(&b, `{"cmd":"launch","stream":7,"ts_us":%d,"kernel":"`, i)
		for range 8 {
			state = state*6364136223846793005 + 1442695040888963407
			fmt.Fprintf(&b, "%016x", state)
		}
		b.WriteString("\"}\n")
	}
	return b.String()
}

// longKineto is a Kineto trace of many blocks.
func longKineto(events int) string {
	var b strings.Builder
	b.WriteString(`{"schemaVersion": 1, "traceEvents": [` + "\n")
	for i, line := range strings.Split(strings.TrimSpace(longLines(events)), "\n") {
		fmt.Fprintf(&b, `{"ph":"X","cat":"cpu_op","name":%q,"ts":%d},`+"\n", line, i)
	}
	b.WriteString(`{"ph":"X","cat":"kernel","name":"k","ts":1,"args":{"correlation":1,"stream":7}}]}`)
	return b.String()
}

func damageable() map[string]string {
	return map[string]string{"lines": linesTrace, "kineto": kinetoTrace, "many lines": longLines(1000), "many events": longKineto(1000)}
}

// places is about how many of a compressed trace are damaged.
const places = 40

// magicBytes tell how a trace is compressed: one with others is a trace of no kind.
const magicBytes = 4

// upToError returns the commands before an error, described, and the error.
func upToError(t *testing.T, r io.Reader) ([]string, error) {
	t.Helper()
	var all []trace.Command
	for c, err := range trace.Read(r) {
		if err != nil {
			return describe(t, all), err
		}
		all = append(all, c)
	}
	return describe(t, all), nil
}

// A compressed trace that is cut off says so wherever it is cut, and at which line
// of what was in it.
func TestCompressedTraceCutOff(t *testing.T) {
	for name, text := range damageable() {
		for algorithm, data := range compressed(t, text) {
			step := 1 + len(data)/places
			for n := magicBytes; n < len(data); n += step {
				got, err := upToError(t, bytes.NewReader(data[:n]))
				var at *trace.LineError
				switch {
				case !errors.Is(err, io.ErrUnexpectedEOF):
					t.Fatalf("%s, %s, %d bytes of %d: Read = %v after %d commands, want %v", name, algorithm, n, len(data), err, len(got), io.ErrUnexpectedEOF)
				case len(got) > 0 && (!errors.As(err, &at) || at.Line != len(got)+1):
					t.Fatalf("%s, %s, %d bytes of %d: Read = %v after %d commands", name, algorithm, n, len(data), err, len(got))
				}
			}
		}
	}
}

// A bit that flips in a compressed trace is noticed, unless it means nothing.
func TestCompressedTraceDamaged(t *testing.T) {
	for name, text := range damageable() {
		want := describe(t, readAll(t, []byte(text)))
		for algorithm, data := range compressed(t, text) {
			step := 1 + len(data)/places
			for i := magicBytes; i < len(data); i += step {
				damaged := slices.Clone(data)
				damaged[i] ^= 1 << (i % 8)
				got, err := upToError(t, bytes.NewReader(damaged))
				if errors.Is(err, trace.ErrFormat) || err == nil && !slices.Equal(got, want) {
					t.Fatalf("%s, %s, byte %d of %d: Read = %v after %d commands", name, algorithm, i, len(data), err, len(got))
				}
			}
			damaged := slices.Clone(data)
			damaged[len(data)-1] ^= 1 // of a checksum or, in gzip, of the length
			if _, err := upToError(t, bytes.NewReader(damaged)); err == nil {
				t.Errorf("%s, %s: a wrong checksum was not noticed", name, algorithm)
			}
		}
	}
}

// What cannot be read is told as that, at the line where it stopped, also where it
// stops before the format is known.
func TestTraceThatCannotBeRead(t *testing.T) {
	broken := errors.New("input/output error")
	tests := []struct {
		name string
		r    io.Reader
		line int // 0: none is to blame
	}{
		{"from the first byte", iotest.ErrReader(broken), 0},
		{"in the second line", io.MultiReader(strings.NewReader(linesTrace[:100]), iotest.ErrReader(broken)), 2},
		{"in the last line", io.MultiReader(strings.NewReader(longLines(3000)), iotest.ErrReader(broken)), 3001},
		{"told once only", &once{text: linesTrace[:100], err: broken}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := upToError(t, tt.r)
			var at *trace.LineError
			if !errors.Is(err, broken) || errors.As(err, &at) != (tt.line != 0) || at != nil && at.Line != tt.line {
				t.Errorf("Read = %v, want line %d", err, tt.line)
			}
		})
	}
}

// once reads a text, fails, and then claims to be at the end.
type once struct {
	text string
	err  error
}

func (o *once) Read(p []byte) (int, error) {
	n := copy(p, o.text)
	if o.text = o.text[n:]; n > 0 {
		return n, nil
	}
	err := o.err
	o.err = io.EOF
	return 0, err
}

// A Kineto trace is one value: what follows it is damage.
func TestSomethingFollowsKineto(t *testing.T) {
	for _, text := range []string{kinetoTrace + "}", kinetoTrace + "\n" + kinetoTrace, "[]\n[{\"ph\":\"X\"}]"} {
		if got, err := upToError(t, strings.NewReader(text)); err == nil {
			t.Errorf("Read = %d commands of %q", len(got), text[max(0, len(text)-20):])
		}
	}
	if _, err := upToError(t, strings.NewReader(kinetoTrace+" \n\n")); err != nil {
		t.Errorf("Read = %v, of empty lines at the end", err)
	}
}
