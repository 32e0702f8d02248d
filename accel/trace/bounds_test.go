package trace

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

const (
	oneLine  = `{"cmd":"alloc","bytes":512,"ts_us":0}` + "\n"
	inEvents = `{"schemaVersion": 1, "traceEvents": [` + "\n"
)

// packed returns head, then unit over and over for size bytes, compressed: a bomb,
// if unit is monotonous.
func packed(t *testing.T, algorithm, head, unit string, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&b)
	if algorithm == "zstd" {
		z, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	}
	chunk := strings.Repeat(unit, max(1, 1<<16/len(unit)))
	_, err := io.WriteString(w, head)
	for n := 0; n < size && err == nil; n += len(chunk) {
		_, err = io.WriteString(w, chunk)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A small file that unpacks to a hundred times the bounds and more is refused at its line,
// and takes the memory that the bounds allow.
func TestBombIsRefused(t *testing.T) {
	small := bounds{value: 1 << 16, kept: 1 << 20, streams: 100}
	const size, allowed = 32 << 20, 16 << 20
	tests := []struct {
		name       string
		head, unit string
		line       int
	}{
		{"endless line", oneLine + oneLine, " ", 3},
		{"endless kernel name", oneLine + `{"cmd":"launch","kernel":"`, "k", 2},
		{"endless event", inEvents + `{"ph":"i"},` + "\n" + `{"ph":"`, "X", 3},
		{"endless space between events", inEvents + `{"ph":"i"},`, " ", 2},
		{"endless lines between events", inEvents, "\n", 2},
		{"endless string beside events", `{"schemaVersion": "`, "1", 1},
		{"endless depth beside events", `{"schemaVersion": 1, "x":`, "[", 1},
		{"endless key", `{"schemaVersion": 1,` + "\n" + `"x`, "y", 2},
		{"endless allocations", inEvents, `{"name":"[memory]","ts":1,"args":{"Device Type":1}},` + "\n", 1017},
		{"endless kernels", inEvents, `{"ph":"X","cat":"kernel","name":"k","ts":1,"args":{"correlation":1}},` + "\n", 1024},
		{"endless grid", inEvents, `{"ph":"X","cat":"kernel","ts":1,"args":{"correlation":1,"grid":[` + strings.Repeat("1,", 30000) + "1]}},\n", 0},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bomb := packed(t, []string{"gzip", "zstd"}[i%2], tt.head, tt.unit, size)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := lastError(small, bytes.NewReader(bomb))
			runtime.ReadMemStats(&after)
			var at *LineError
			if !errors.Is(err, ErrTooLarge) || !errors.As(err, &at) || tt.line != 0 && at.Line != tt.line {
				t.Errorf("read = %v, want ErrTooLarge at line %d", err, tt.line)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > allowed {
				t.Errorf("%d bytes that unpack to %d took %d bytes of memory, want at most %d", len(bomb), size, got, allowed)
			}
		})
	}
}

func lastError(max bounds, r io.Reader) error {
	for _, err := range max.read(r) {
		if err != nil {
			return err
		}
	}
	return nil
}

// A normalised trace may name only so many streams.
func TestTooManyStreams(t *testing.T) {
	var b strings.Builder
	for i := range 4 {
		fmt.Fprintf(&b, `{"cmd":"launch","stream":%d,"ts_us":0}`+"\n", i)
	}
	max := bounds{value: 1 << 10, streams: 3}
	var at *LineError
	if err := lastError(max, strings.NewReader(b.String())); !errors.Is(err, ErrTooLarge) || !errors.As(err, &at) || at.Line != 4 {
		t.Errorf("read = %v, want ErrTooLarge at line 4", err)
	}
	max.streams = 4
	if err := lastError(max, strings.NewReader(b.String())); err != nil {
		t.Errorf("read = %v of as many streams as are allowed", err)
	}
}

// What is of no interest in a Kineto trace takes no memory, however much there is
// of it, and lines are counted on.
func TestLongTraceTakesNoMemory(t *testing.T) {
	const size, allowed = 24 << 20, 4 << 20
	unit := `{"ph":"i","name":"x"},` + strings.Repeat("\n", 200)
	long := &endless{unit: unit, head: inEvents, size: size, tail: `{"ph":"X","cat":"kernel"}]}`}
	err := lastError(usual, long)
	var at *LineError
	if want := 2 + 200*long.units; !errors.As(err, &at) || at.Line != want {
		t.Errorf("read = %v, want a kernel without correlation at line %d", err, want)
	}
	if long.peak > allowed {
		t.Errorf("a trace of %d bytes took %d, want at most %d", size, long.peak, allowed)
	}
}

// endless is a long trace; it watches what is in memory while it is read.
type endless struct {
	head, unit, tail string
	size             int

	rest  string
	units int
	at    int
	began uint64
	peak  uint64
}

func (e *endless) Read(p []byte) (int, error) {
	switch {
	case e.rest != "":
	case e.at == 0:
		e.rest, e.began = e.head, inUse()
	case e.at < e.size:
		e.rest = e.unit
		if e.units++; e.units%(1<<13) == 0 {
			e.peak = max(e.peak, inUse()-min(e.began, inUse()))
		}
	case e.tail != "":
		e.rest, e.tail = e.tail, ""
	default:
		return 0, io.EOF
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	e.at += n
	return n, nil
}

func inUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
