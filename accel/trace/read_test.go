package trace_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"understudy.dev/accel/trace"
	"understudy.dev/journal"
)

// kinetoTrace has the shape of PyTorch's: calls on the host, effects on the device
// joined by correlation, allocator instants, and much that is not a command.
const kinetoTrace = `{
  "schemaVersion": 1,
  "deviceProperties": [{"id": 0, "name": "GPU", "totalGlobalMem": 85899345920}],
  "displayTimeUnit": "ms",
  "traceEvents": [
  {"ph": "X", "cat": "cpu_op", "name": "aten::empty", "pid": 7, "tid": 7, "ts": 1700000000000000.125, "dur": 3, "args": {"External id": 1}},
  {"ph": "X", "cat": "kernel", "name": "fill", "pid": 0, "tid": 7, "ts": 1700000000000030.000, "dur": 2,
    "args": {"device": 0, "stream": 7, "correlation": 11, "grid": [4, 1, 1], "block": [128, 1, 1], "shared memory": 16}},
  {"ph": "i", "cat": "cpu_instant_event", "s": "t", "name": "[memory]", "pid": 7, "tid": 7, "ts": 1700000000000010.500,
    "args": {"Total Reserved": 2097152, "Total Allocated": 512, "Bytes": 512, "Addr": 140000000000000, "Device Id": 0, "Device Type": 1, "Ev Idx": 2}},
  {"ph": "i", "cat": "cpu_instant_event", "s": "t", "name": "[memory]", "pid": 7, "tid": 7, "ts": 1700000000000011,
    "args": {"Bytes": 64, "Addr": 5, "Device Id": -1, "Device Type": 0}},
  {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 7, "tid": 7, "ts": 1700000000000020.250, "dur": 4,
    "args": {"External id": 1, "cbid": 211, "correlation": 11}},
  {"ph": "s", "id": 11, "pid": 7, "tid": 7, "ts": 1700000000000020.250, "cat": "ac2g", "name": "ac2g"},
  {"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy HtoD (Pageable -> Device)", "pid": 0, "tid": 7, "ts": 1700000000000005.000, "dur": 1,
    "args": {"device": 0, "stream": 7, "correlation": 3, "bytes": 4096}},
  {"ph": "X", "cat": "cuda_runtime", "name": "cudaStreamSynchronize", "pid": 7, "tid": 7, "ts": 1700000000000040, "dur": 4,
    "args": {"cbid": 131, "correlation": 12}},
  {"ph": "i", "cat": "cpu_instant_event", "s": "t", "name": "[memory]", "pid": 7, "tid": 7, "ts": 1700000000000050.001,
    "args": {"Bytes": -512, "Addr": 140000000000000, "Device Id": 0, "Device Type": 1}},
  {"ph": "i", "cat": "cpu_instant_event", "s": "t", "name": "[memory]", "pid": 7, "tid": 7, "ts": 1700000000000051,
    "args": {"Bytes": -1024, "Addr": 140000000009216, "Device Id": 0, "Device Type": 1}}
  ],
  "traceName": "a.pt.trace.json"
}
`

func TestReadKineto(t *testing.T) {
	want := []string{
		"0s copy  stream 7.1 4096 bytes", // its call was before the trace
		"5.5µs alloc caching_allocator stream - 512 bytes at 140000000000000",
		"15.25µs launch cudaLaunchKernel stream 7.2 fill [4 1 1] [128 1 1]",
		"35µs sync cudaStreamSynchronize stream -",
		"45.001µs free caching_allocator stream - 512 bytes at 140000000000000",
		"46µs free caching_allocator stream - 1024 bytes at 140000000009216",
	}
	if got := describe(t, readAll(t, []byte(kinetoTrace))); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	_, events, _ := strings.Cut(kinetoTrace, `"traceEvents": `)
	events, _, _ = strings.Cut(events, ",\n  \"traceName\"")
	if got := describe(t, readAll(t, []byte(events))); !slices.Equal(got, want) {
		t.Errorf("as a bare array: got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Of one time and one line, commands come as the file has them.
func TestKinetoOnOneLine(t *testing.T) {
	var b strings.Builder
	var want []string
	b.WriteString(`[`)
	for i := range 20 {
		name := string(rune('a' + i))
		fmt.Fprintf(&b, `{"ph":"X","cat":"kernel","name":%q,"ts":1,"args":{"correlation":%d,"stream":7}},`, name, 7*i%20)
		want = append(want, fmt.Sprintf("0s launch  stream 7.%d %s [] []", i+1, name))
	}
	trace := []byte(strings.TrimSuffix(b.String(), ",") + "]")
	if got := describe(t, readAll(t, trace)); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

const linesTrace = `{"api":"cudaMalloc","cmd":"alloc","tid":1,"corr":5,"ts_us":0}
{"cmd":"alloc","api":"caching_allocator","bytes":512,"addr":140000000000000,"device":0,"device_type":1,"ts_us":0.25}
{"api":"cudaLaunchKernel","cmd":"launch","kernel":"fill","grid":[4,1,1],"block":[128,1,1],"stream":7,"shmem":0,"tid":1,"corr":8,"ts_us":1.5}
{"cmd":"free","api":"caching_allocator","bytes":512,"addr":140000000000000,"device":0,"device_type":1,"ts_us":2}
`

func TestReadCompressed(t *testing.T) {
	want := describe(t, readAll(t, []byte(linesTrace)))
	if len(want) != 4 {
		t.Fatalf("%d commands, want 4", len(want))
	}
	for name, data := range compressed(t, linesTrace) {
		if got := describe(t, readAll(t, data)); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestDamagedTraceNamesItsLine(t *testing.T) {
	tests := []struct {
		name     string
		from     string
		old, new string
		line     int
	}{
		{"line cut off", linesTrace, `"device_type":1,"ts_us":2}`, `"devi`, 4},
		{"brace lost", linesTrace, `"ts_us":1.5}`, `"ts_us":1.5`, 3},
		{"unknown command", linesTrace, `"cmd":"launch"`, `"cmd":"lunch"`, 3},
		{"unknown field", linesTrace, `"addr"`, `"adr"`, 2},
		{"no time", linesTrace, `"ts_us":0.25`, `"tid":1`, 2},
		{"time of another kind", linesTrace, `"ts_us":0.25`, `"ts_us":1e3`, 2},
		{"negative size", linesTrace, `"bytes":512,"addr":140000000000000,"device":0,"device_type":1,"ts_us":2`, `"bytes":-1,"ts_us":2`, 4},
		{"flat grid", linesTrace, `[4,1,1]`, `[4,1]`, 3},
		{"neither format", linesTrace, `{"api":"cudaMalloc","cmd":"alloc"`, `hello`, 1},
		{"event cut off", kinetoTrace, kinetoTrace[strings.Index(kinetoTrace, `"stream": 7, "correlation": 11`):], `"str`, 8},
		{"event damaged", kinetoTrace, `"correlation": 3, "bytes": 4096`, `"correlation": 3, "bytes": 40O6`, 17},
		{"kernel without correlation", kinetoTrace, `"correlation": 11, "grid"`, `"grid"`, 8},
		{"size of another kind", kinetoTrace, `"Bytes": -1024`, `"Bytes": "all"`, 23},
		{"end missing", kinetoTrace, "],\n  \"traceName\": \"a.pt.trace.json\"\n}\n", "", 24},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			damaged := strings.Replace(tt.from, tt.old, tt.new, 1)
			if damaged == tt.from {
				t.Fatal("nothing was damaged")
			}
			for _, err := range trace.Read(strings.NewReader(damaged)) {
				if err == nil {
					continue
				}
				var bad *trace.LineError
				if !errors.As(err, &bad) || bad.Line != tt.line {
					t.Errorf("Read = %v, want line %d", err, tt.line)
				}
				return
			}
			t.Errorf("nothing was noticed, want line %d", tt.line)
		})
	}
}

// The format is told by the keys of the whole, not by what lies deeper or is a value.
func TestFormatsAreToldApart(t *testing.T) {
	const (
		call   = `{"ph":"X","cat":"cuda_runtime","name":"cudaLaunchKernel","ts":2,"args":{"correlation":1}}`
		marked = `{"ph":"X","cat":"user_annotation","name":"x","ts":1,"args":{"cmd":"y"}}`
		line   = `{"api":"traceEvents","kernel":"schemaVersion","cmd":"launch","ts_us":0}` + "\n"
	)
	long := strings.Repeat(marked+",", 100) // more than is looked at
	for name, text := range map[string]string{
		"a compact trace with cmd in an event": `{"schemaVersion":1,"traceEvents":[` + marked + "," + call + "]}",
		"cmd before the events":                `{"otherData":{"cmd":"y"},"schemaVersion":1,"traceEvents":[` + call + "]}",
		"cmd of the job beside the events":     `{"cmd":"train.py","traceEvents":[` + call + "]}",
		"cmd of the job after the events":      `{"traceEvents":[` + call + `],"cmd":"train.py"}`,
		"events alone":                         "[" + marked + "," + call + "]",
		"a long value before the events":       `{"otherData":[` + long + `1],"traceEvents":[` + call + "]}",
		"lines whose values are its marks":     line,
		"lines with a gap before":              "\n \n" + line,
	} {
		if got := readAll(t, []byte(text)); len(got) != 1 || got[0].Op != trace.OpLaunch {
			t.Errorf("%s: %+v, want one launch", name, got)
		}
	}
}

// A file without events where a profiler puts them is no trace of nothing.
func TestKinetoWithoutEvents(t *testing.T) {
	for text, want := range map[string]string{
		`{"schemaVersion":1}`: "no traceEvents",
		"{\"schemaVersion\":1,\n\"data\":{\"traceEvents\":[]}}": "trace: line 2: neither a Kineto trace nor lines of commands: no traceEvents at the top level",
		`{"schemaVersion":1,"traceEvents":{"a":1}}`:             "traceEvents is not an array",
		`{"schemaVersion":1,"traceEvents":null}`:                "traceEvents is not an array",
		`{"schemaVersion":1,"traceEvents":[1]}`:                 "a number where an object belongs",
	} {
		if got, err := upToError(t, strings.NewReader(text)); len(got) > 0 || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Read(%s) = %v, %v, want %s", text, got, err, want)
		}
	}
	if got, err := upToError(t, strings.NewReader(`{"traceEvents":[]}`)); err != nil || len(got) > 0 {
		t.Errorf("Read of no events = %v, %v", got, err)
	}
}

// A value of the wrong kind is told in the words of the format.
func TestFaultsAreInTheWordsOfTheFormat(t *testing.T) {
	for text, want := range map[string]string{
		`{"cmd":"sync","ts_us":0,"corr":"x"}`:                `line 1: "corr" is a string, want a whole number, not negative and of at most 64 bits`,
		`{"cmd":"sync","ts_us":0,"corr":-1}`:                 `line 1: "corr" is a number -1, want a whole number, not negative`,
		`{"cmd":"sync","ts_us":0,"stream":true}`:             `line 1: "stream" is a bool, want a whole number`,
		`{"cmd":"sync","ts_us":0,"grid":4}`:                  `line 1: "grid" is a number, want an array`,
		`{"cmd":7,"ts_us":0}`:                                `line 1: "cmd" is a number, want a string`,
		`{"cmd":"sync","ts_us":true}`:                        `line 1: "ts_us" is a bool, want a number`,
		`{"cmd":"sync","ts_us":99999999999999999999}`:        "line 1: time 99999999999999999999 is more than 292 years",
		`{"cmd":"sync","ts_us":1.0x}`:                        "line 1: ",
		`{"cmd":"sync",`:                                     "line 1: unexpected EOF",
		`{"traceEvents":[{"name":"[memory]","args":[]}]}`:    `line 1: "args" is an array, want an object`,
		`{"traceEvents":[{"name":"[memory]","ts":"x y"}]}`:   "line 1: ",
		`{"traceEvents":[{"ph":"X","cat":"kernel","ts":1}]}`: `kernel "" has no correlation`,
	} {
		_, err := upToError(t, strings.NewReader(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "Go ") {
			t.Errorf("Read(%s) = %v, want %s", text, err, want)
		}
	}
}

// A kernel's mangled name may be longer than a record's name can be.
func TestRecordOfALongKernelName(t *testing.T) {
	long := strings.Repeat("void at::native::é<", 200)
	a, b := trace.Command{Op: trace.OpLaunch, Kernel: long + "a"}, trace.Command{Op: trace.OpLaunch, Kernel: long + "b"}
	kind, nameA, payload := a.Record()
	_, nameB, _ := b.Record()
	if kind != journal.KindKernel || len(nameA) > journal.MaxName/2 || nameA == nameB {
		t.Errorf("kind %v, %d and %d bytes of name: %q, %q", kind, len(nameA), len(nameB), nameA, nameB)
	}
	if c, err := trace.Decode(payload); err != nil || c.Kernel != a.Kernel {
		t.Errorf("Decode = %v, %v; the kernel's name is cut", c, err)
	}
}

func readAll(t *testing.T, data []byte) []trace.Command {
	t.Helper()
	var all []trace.Command
	for c, err := range trace.Read(bytes.NewReader(data)) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

func describe(t *testing.T, commands []trace.Command) []string {
	t.Helper()
	var lines []string
	for _, c := range commands {
		s := fmt.Sprintf("%v %s %s stream -", c.Time, c.Op, c.API)
		if c.Stream != nil {
			s = strings.TrimSuffix(s, "-") + fmt.Sprintf("%d.%d", *c.Stream, c.Order)
		}
		if c.Kernel != "" {
			s += fmt.Sprintf(" %s %v %v", c.Kernel, c.Grid, c.Block)
		}
		if c.Bytes != 0 {
			s += fmt.Sprintf(" %d bytes", c.Bytes)
		}
		if c.Addr != nil {
			s += fmt.Sprintf(" at %d", *c.Addr)
		}
		lines = append(lines, s)
	}
	return lines
}

func BenchmarkRead(b *testing.B) {
	data := strings.Repeat(linesTrace, 1000)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		n := 0
		for _, err := range trace.Read(strings.NewReader(data)) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		b.ReportMetric(float64(b.Elapsed())/float64(time.Duration(b.N*n)), "ns/command")
	}
}
