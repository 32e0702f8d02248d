package trace_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"understudy.dev/accel/trace"
	"understudy.dev/harness"
	"understudy.dev/journal"
	"understudy.dev/journal/memjournal"
)

// tape is a harness that keeps records.
type tape []harness.Entry

func (h *tape) DeviceCmd(name string, payload []byte) error {
	return h.add(journal.KindDevice, name, payload)
}

func (h *tape) KernelCmd(kind string, payload []byte) error {
	return h.add(journal.KindKernel, kind, payload)
}

func (h *tape) add(kind journal.Kind, name string, payload []byte) error {
	n := uint64(len(*h) + 1)
	*h = append(*h, harness.Entry{Seq: journal.Seq(n), Number: n, Kind: kind, Name: name, Data: slices.Clone(payload)})
	return nil
}

// replay imports a trace into a journal and plays that to a model.
func replay(t *testing.T, r io.Reader) (trace.Report, error) {
	t.Helper()
	j := memjournal.New()
	defer j.Close()
	h, err := harness.New(t.Context(), j, harness.Config{Mode: harness.Record, Async: true})
	if err != nil {
		t.Fatal(err)
	}
	n, err := trace.Import(trace.Read(r), h)
	if err = errors.Join(err, h.Close()); err != nil {
		t.Fatalf("Import = %d, %v", n, err)
	}
	m := trace.NewModel()
	p, err := harness.NewPlayer(j, m, harness.ReplayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = p.Run(t.Context())
	if got := m.Report().Commands; err == nil && got != n {
		t.Errorf("%d commands imported, %d replayed", n, got)
	}
	return m.Report(), err
}

func TestModelReportsMidJob(t *testing.T) {
	r, err := replay(t, strings.NewReader(kinetoTrace))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Live) != 0 || r.PeakBytes != 512 || len(r.Unmatched) != 1 || r.Unmatched[0].Addr != 140000000009216 || r.Unmatched[0].Line != 23 {
		t.Errorf("%+v, want nothing live, a peak of 512 and the unmatched free of line 23", r)
	}
	cut := strings.Replace(linesTrace, `"cmd":"free"`, `"cmd":"alloc"`, 1)
	cut = strings.Replace(cut, `"addr":140000000000000,"device":0,"device_type":1,"ts_us":2`, `"addr":3,"device":0,"device_type":1,"ts_us":2`, 1)
	cut += `{"cmd":"free","api":"cudaFree","ts_us":3}` + "\n" + `{"cmd":"free","api":"cudaFree","ts_us":4}` + "\n"
	if r, err = replay(t, strings.NewReader(cut)); err != nil {
		t.Fatal(err)
	}
	if len(r.Live) != 2 || r.LiveBytes != 1024 || r.Live[1].Line != 4 || len(r.Counted) != 0 || r.Lost["device 0.0"] != 1 {
		t.Errorf("%+v, want two allocations live and one free without address too many", r)
	}
}

// The peak is the most that was live at once, also where less is live later.
func TestPeakStays(t *testing.T) {
	const lines = `{"cmd":"alloc","bytes":512,"addr":1,"ts_us":0}
{"cmd":"alloc","bytes":64,"addr":2,"ts_us":1}
{"cmd":"free","addr":1,"ts_us":2}
{"cmd":"alloc","bytes":8,"addr":3,"ts_us":3}
`
	r, err := replay(t, strings.NewReader(lines))
	if err != nil || r.LiveBytes != 72 || r.PeakBytes != 576 {
		t.Errorf("%d bytes live, %d at the peak, %v; want 72 and 576", r.LiveBytes, r.PeakBytes, err)
	}
}

func TestModelFindsTheImpossible(t *testing.T) {
	const kernel = `{"cmd":"launch","kernel":"k","stream":7,"ts_us":5}` + "\n"
	tests := []struct {
		name   string
		tamper func(h tape) tape
		seq    journal.Seq
		want   string
	}{
		{"time runs backwards", func(h tape) tape { return replace(h, 3, `"ts_ns":2000`, `"ts_ns":2`) }, 4, "time"},
		{"a command of a stream is lost", func(h tape) tape { return slices.Delete(h, 2, 3) }, 5, "stream 7: command 2 comes after command 0"},
		{"a command of a stream came twice", func(h tape) tape { return replace(h, 4, `"order":2`, `"order":1`) }, 5, "stream 7: command 1 comes after command 1"},
		{"allocates what is live", func(h tape) tape { return replace(h, 3, `"cmd":"free"`, `"cmd":"alloc"`) }, 4, "live since line 2"},
		{"frees another size", func(h tape) tape { return replace(h, 3, `"bytes":512`, `"bytes":513`) }, 4, "frees 513 bytes"},
		{"started before the one ahead", func(h tape) tape {
			h = replace(h, 2, `"order":1`, `"order":1,"start_ns":9000`)
			return replace(h, 4, `"order":2`, `"order":2,"start_ns":8000`)
		}, 5, "started at 8µs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var h tape
			if _, err := trace.Import(trace.Read(strings.NewReader(linesTrace+kernel)), &h); err != nil {
				t.Fatal(err)
			}
			h = tt.tamper(h)
			m := trace.NewModel()
			for i := range h {
				err := m.Apply(t.Context(), &h[i])
				if err == nil {
					continue
				}
				var fault *trace.Fault
				if !errors.As(err, &fault) || fault.Seq != tt.seq || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("Apply = %v, want seq %d: %s", err, tt.seq, tt.want)
				}
				return
			}
			t.Error("nothing was found")
		})
	}
}

// A stream's commands stand in the order in which they reached it, which the times of
// the calls leave open where two threads are in a call at once, and where a call was
// before the trace.
func TestKinetoStreamOrder(t *testing.T) {
	call := func(corr, from, took int) string {
		return fmt.Sprintf(`{"ph":"X","cat":"cuda_runtime","name":"cudaLaunchKernel","ts":%d,"dur":%d,"args":{"correlation":%d}}`, from, took, corr)
	}
	ran := func(corr, at int) string {
		return fmt.Sprintf(`{"ph":"X","cat":"kernel","name":"k%d","ts":%d,"args":{"correlation":%d,"stream":7}}`, corr, at, corr)
	}
	sync := func(at int) string {
		return fmt.Sprintf(`{"ph":"X","cat":"cuda_runtime","name":"cudaStreamSynchronize","ts":%d,"dur":1,"args":{"correlation":99}}`, at)
	}
	tests := []struct {
		name   string
		events []string
		want   []string // "": a fault
	}{
		{"one call after the other", []string{call(1, 10, 5), call(2, 20, 5), ran(1, 30), ran(2, 40)}, []string{"0s k1", "10µs k2"}},
		{"a call within another", []string{call(1, 10, 9), sync(11), call(2, 12, 2), ran(1, 30), ran(2, 25), sync(13)}, []string{"0s ", "1µs k2", "1µs k1", "2µs "}},
		{"the first of three calls is the last to arrive", []string{call(1, 10, 9), call(2, 12, 2), call(3, 15, 2), ran(1, 50), ran(2, 25), ran(3, 40)}, []string{"0s k2", "3µs k3", "3µs k1"}},
		{"two wait for the third", []string{call(1, 10, 9), call(2, 12, 9), call(3, 15, 2), ran(1, 50), ran(2, 45), ran(3, 40)}, []string{"0s k3", "0s k2", "0s k1"}},
		{"two calls at once", []string{call(1, 10, 2), call(2, 10, 2), ran(1, 30), ran(2, 25)}, []string{"0s k2", "0s k1"}},
		{"a call that was over", []string{call(1, 10, 1), call(2, 12, 2), ran(1, 30), ran(2, 25)}, nil},
		{"called before the trace, ran in it", []string{call(1, 10, 2), ran(1, 30), ran(2, 25)}, []string{"0s k2", "0s k1"}},
		{"called before the trace, the stream idle", []string{ran(2, 25), call(1, 30, 2), ran(1, 40)}, []string{"0s k2", "5µs k1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := "[" + strings.Join(tt.events, ",\n") + "]"
			var got []string
			for c, err := range trace.Read(strings.NewReader(text)) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, fmt.Sprintf("%v %s", c.Time, c.Kernel))
			}
			_, err := replay(t, strings.NewReader(text))
			if (err == nil) != (tt.want != nil) || tt.want != nil && !slices.Equal(got, tt.want) {
				t.Errorf("replay = %v of %q, want %q", err, got, tt.want)
			}
		})
	}
}

// An address is freed once for each time that it is allocated, and once more only if
// that may have been before the trace.
func TestFreedTwice(t *testing.T) {
	const at77, at78, null = `"addr":77`, `"addr":78`, `"addr":0`
	tests := []struct {
		name      string
		commands  []string
		want      string // "": holds
		unmatched int
	}{
		{"allocated in the trace", []string{"alloc", at77, "free", at77, "free", at77}, "line 3 of the trace: frees 0x4d, which line 2 freed", 0},
		{"allocated before the trace", []string{"free", at77, "alloc", at78, "free", at77}, "line 3 of the trace: frees 0x4d, which line 1 freed", 0},
		{"allocated again", []string{"alloc", at77, "free", at77, "alloc", at77, "free", at77}, "", 0},
		{"allocated again, freed thrice", []string{"free", at77, "alloc", at77, "free", at77, "free", at77}, "line 4 of the trace: frees 0x4d, which line 3 freed", 1},
		{"another address", []string{"alloc", at77, "free", at77, "free", at78}, "", 1},
		{"another pool", []string{"alloc", at77, "free", at77, "free", at77 + `,"api":"caching_allocator"`}, "", 1},
		{"null", []string{"free", null, "free", null}, "", 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			for i := 0; i < len(tt.commands); i += 2 {
				fmt.Fprintf(&b, `{"cmd":%q,%s,"ts_us":%d}`+"\n", tt.commands[i], tt.commands[i+1], i)
			}
			r, err := replay(t, strings.NewReader(b.String()))
			var fault *trace.Fault
			if tt.want != "" {
				if !errors.As(err, &fault) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("replay = %v, want %s", err, tt.want)
				}
			} else if err != nil || len(r.Unmatched) != tt.unmatched {
				t.Errorf("replay = %v, unmatched %v, want %d of them", err, r.Unmatched, tt.unmatched)
			}
		})
	}
}

func replace(h tape, i int, from, to string) tape {
	data := strings.Replace(string(h[i].Data), from, to, 1)
	if data == string(h[i].Data) {
		panic(from + " is not in " + data)
	}
	h[i].Data = []byte(data)
	return h
}

// Real traces replay in order and end with the live set that the trace implies,
// computed here by other means.
func TestRealTraces(t *testing.T) {
	for _, name := range []string{"hta_a100_alexnet", "tl_h100_bert_small"} {
		t.Run(name, func(t *testing.T) {
			plain := open(t, filepath.Join("accelerator", name+".cmds.jsonl.zst"))
			want := implied(t, plain)
			got, err := replay(t, strings.NewReader(plain))
			if err != nil {
				t.Fatal(err)
			}
			live := make(map[uint64]int64)
			for _, a := range got.Live {
				live[a.Addr] = a.Bytes
			}
			counted := 0
			for _, n := range got.Counted {
				counted += n
			}
			if !maps.Equal(live, want.live) || counted != want.counted || len(got.Unmatched) != want.unmatched || got.Commands != want.commands {
				t.Errorf("%d commands, live %v, %d without address, %d frees unmatched; want %+v", got.Commands, live, counted, len(got.Unmatched), want)
			}
			if !maps.Equal(got.Streams, want.streams) || !maps.Equal(got.Ops, want.ops) {
				t.Errorf("streams %v, ops %v; want %v, %v", got.Streams, got.Ops, want.streams, want.ops)
			}
			t.Logf("%d commands, streams %v, live at the end: %d with address, %d counted; peak %d bytes", got.Commands, got.Streams, len(live), counted, got.PeakBytes)
		})
	}
}

// Each line of a real trace, cut in half, is named.
func TestRealTraceDamaged(t *testing.T) {
	plain := open(t, filepath.Join("accelerator", "hta_a100_alexnet.cmds.jsonl.zst"))
	lines := strings.SplitAfter(plain, "\n")
	for _, n := range []int{2, 100, len(lines) - 1} {
		damaged := slices.Clone(lines)
		damaged[n-1] = damaged[n-1][:len(damaged[n-1])/2] + "\n"
		var bad *trace.LineError
		for _, err := range trace.Read(strings.NewReader(strings.Join(damaged, ""))) {
			errors.As(err, &bad)
		}
		if bad == nil || bad.Line != n {
			t.Errorf("line %d cut in half: %v", n, bad)
		}
	}
}

type implication struct {
	commands, counted, unmatched int
	live                         map[uint64]int64
	streams                      map[int64]uint64
	ops                          map[trace.Op]int
}

// implied reads a trace as plain maps: what was allocated and not freed later.
func implied(t *testing.T, plain string) implication {
	t.Helper()
	want := implication{live: make(map[uint64]int64), streams: make(map[int64]uint64), ops: make(map[trace.Op]int)}
	for scanner := bufio.NewScanner(strings.NewReader(plain)); scanner.Scan(); want.commands++ {
		var c struct {
			Cmd    trace.Op
			API    string
			Bytes  int64
			Addr   *uint64
			Stream *int64
		}
		if err := json.Unmarshal(scanner.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		want.ops[c.Cmd]++
		if c.Stream != nil {
			want.streams[*c.Stream]++
		}
		switch {
		case c.Addr == nil && (c.Cmd == "alloc" || c.Cmd == "host_alloc"):
			want.counted++
		case c.Addr == nil && c.Cmd == "free":
			want.counted--
		case c.Cmd == "alloc":
			want.live[*c.Addr] = c.Bytes
		case c.Cmd == "free":
			if _, ok := want.live[*c.Addr]; !ok {
				want.unmatched++
			}
			delete(want.live, *c.Addr)
		}
	}
	return want
}

// open returns a file of the shared data, decompressed, or skips.
func open(t *testing.T, name string) string {
	t.Helper()
	folder := os.Getenv("UNDERSTUDY_DATA")
	if folder == "" {
		folder = filepath.Join("..", "..", "..", "shared", "data")
	}
	packed, err := os.ReadFile(filepath.Join(folder, name))
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("%s is not here: set UNDERSTUDY_DATA to the folder with the shared data", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	plain, err := z.DecodeAll(packed, nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

func BenchmarkModel(b *testing.B) {
	var h tape
	if _, err := trace.Import(trace.Read(strings.NewReader(linesTrace)), &h); err != nil {
		b.Fatal(err)
	}
	launch := h[2]
	m := trace.NewModel()
	c, err := trace.Decode(launch.Data)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		_, _, launch.Data = c.Record()
		if err := m.Apply(b.Context(), &launch); err != nil {
			b.Fatal(err)
		}
		c.Order++
		c.Time += time.Microsecond
	}
}
