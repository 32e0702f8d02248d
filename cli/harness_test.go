package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"understudy.dev/accel"
	"understudy.dev/accel/cpu"
	"understudy.dev/accel/trace"
	"understudy.dev/harness"
	"understudy.dev/harness/sinks"
	"understudy.dev/journal/journalurl"
)

// TestHarnessScripts drives the commands over harnesses' journals: recorded runs,
// sinks, and the real traces of the shared data where that is at hand.
func TestHarnessScripts(t *testing.T) {
	data := os.Getenv("UNDERSTUDY_DATA")
	if data == "" {
		data = filepath.Join("..", "..", "shared", "data")
	}
	data, err := filepath.Abs(filepath.Join(data, "accelerator"))
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "harness"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("DATA", data)
			env.Setenv("SHELL_SINK", shellSink(t))
			env.Setenv("BROKEN_ID", "a\nb")
			env.Values[processesKey{}] = processes{}
			env.Values[serversKey{}] = map[string]*recordServer{}
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond != "data" {
				return false, fmt.Errorf("unknown condition %s", cond)
			}
			_, err := os.Stat(data)
			return err == nil, nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"start": cmdStart, "end": cmdEnd, "code": cmdCode, "record": cmdRecord, "listen": cmdListen, "received": cmdReceived,
		},
		Deadline:            time.Now().Add(2 * awaitFor), // a sink that is not given up would hang
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// shellSink returns the sink in a line of shell that docs/HARNESS.md shows.
func shellSink(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("..", "docs", "HARNESS.md"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^In a shell:\n\n    (.+)$`).FindSubmatch(doc)
	if m == nil {
		t.Fatal("docs/HARNESS.md shows no sink in a shell")
	}
	return string(m[1])
}

// record DIR [PLANT] records a run of job in a journal on files, or what an import of
// four commands left behind that did not come to its end.
func cmdRecord(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: record DIR [PLANT]")
	}
	plant := ""
	if len(args) == 2 {
		plant = args[1]
	}
	ctx := context.Background()
	j, err := journalurl.Open(ctx, "file:"+ts.MkAbs(args[0]), journalurl.Options{Create: true})
	ts.Check(err)
	defer j.Close()
	cfg := harness.Config{Mode: harness.Record, Name: "job"}
	end := imports[plant]
	if end != nil && plant != "untold" {
		cfg.Name, cfg.Pin = "capture", map[string]string{"commands": "4"}
	}
	h, err := harness.New(ctx, j, cfg)
	ts.Check(err)
	if end != nil {
		ts.Check(errors.Join(twoCommands(h), end(h)))
		return
	}
	if data := blobs[plant]; data != nil {
		ts.Check(errors.Join(h.DeviceCmd("blob", data), h.Close()))
		return
	}
	ts.Check(errors.Join(job(h, plant), h.Close()))
}

// imports are the ways in which an import ends before its trace does.
var imports = map[string]func(h *harness.Harness) error{
	"killed": func(*harness.Harness) error { return nil },
	"cut":    func(h *harness.Harness) error { return h.Abort(errors.New("the disk is full")) },
	"fewer":  func(h *harness.Harness) error { return h.Close() },
	"untold": func(h *harness.Harness) error { return h.Abort(errors.New("the disk is full")) },
}

// blobs are long data that begins alike.
var blobs = map[string][]byte{
	"long":      append(bytes.Repeat([]byte("x"), 999_999), '!'),
	"long-last": append(bytes.Repeat([]byte("x"), 999_999), 0xff),
	"long-cut":  bytes.Repeat([]byte("x"), 1000),
}

// twoCommands records the first two commands of a trace.
func twoCommands(h *harness.Harness) error {
	const lines = `{"cmd":"alloc","bytes":512,"addr":4096,"ts_us":0}` + "\n" + `{"cmd":"alloc","bytes":512,"addr":8192,"ts_us":1}`
	_, err := trace.Import(trace.Read(strings.NewReader(lines)), h)
	return err
}

// job is a program with inputs, a device and two actors. What is planted makes one
// thing in it different.
//
//	1 seed   2 batch size   3 value   4 environment   5-6 alloc   7-8 copies in   9 saxpy   10 copy out
//	11… gpu0 and gpu1, three steps each   17 output
func job(h *harness.Harness, plant string) error {
	seed, size := uint64(1<<60+7), 32
	switch plant {
	case "seed":
		seed++
	case "batch":
		size = 64
	}
	_, err := h.RNGSeed("shuffle", seed)
	_, berr := h.BatchSize("loader", size)
	_, verr := harness.ValueOf(h, "rate", 0.5)
	if plant == "seeds" {
		return errors.Join(err, berr, verr)
	}
	if err := errors.Join(err, berr, verr, compute(h, plant), steps(h, plant)); err != nil || plant == "short" {
		return err
	}
	return h.Output("weights", []byte("w"))
}

// compute runs a kernel.
func compute(h *harness.Harness, plant string) error {
	dev := accel.Device(cpu.New())
	switch plant {
	case "bit":
		dev = &flawed{Device: dev, at: 12}
	case "bit0":
		dev = &flawed{Device: dev}
	}
	r, err := accel.NewRecorder(dev, h, accel.Config{})
	if err != nil {
		return err
	}
	y, yerr := r.Alloc(16)
	x, xerr := r.Alloc(16)
	one := []byte{0, 0, 0x80, 0x3f}
	ones := append(append(append(one[:4:4], one...), one...), one...)
	return errors.Join(
		yerr, xerr, r.CopyIn(y, 0, ones), r.CopyIn(x, 0, ones),
		r.Launch(&accel.Launch{Kernel: "saxpy", Args: []accel.Arg{accel.InOut(y), accel.In(x), accel.U32(4), accel.F32(2)}}),
		r.CopyOut(make([]byte, 16), y, 0),
	)
}

// flawed flips a bit of what a kernel computed.
type flawed struct {
	accel.Device
	at       int // the byte
	launched bool
}

func (f *flawed) Launch(l *accel.Launch) error {
	f.launched = true
	return f.Device.Launch(l)
}

func (f *flawed) CopyOut(dst []byte, src accel.Buffer, offset int) error {
	err := f.Device.CopyOut(dst, src, offset)
	if f.launched && src == 1 {
		dst[f.at] ^= 1
	}
	return err
}

// steps is what two actors did, whose order among each other is chance.
func steps(h *harness.Harness, plant string) error {
	order := []int{0, 1, 0, 1, 0, 1}
	if plant == "order" {
		order = []int{1, 1, 0, 0, 1, 0}
	}
	actors := []*harness.Actor{h.Actor("gpu0"), h.Actor("gpu1")}
	at := make([]int, 2)
	for _, a := range order {
		at[a]++
		what := "step"
		if plant == "step" && a == 1 && at[a] == 3 {
			what = "jump"
		}
		if err := actors[a].DeviceCmd(what, []byte{byte(at[a])}); err != nil {
			return err
		}
	}
	return nil
}

// A recordServer takes records by HTTP and answers each once the one before it is
// taken.
type recordServer struct {
	mu    sync.Mutex
	got   []sinks.Message
	fault error
}

type serversKey struct{}

// listen NAME [refuse|forbid|hang N] starts a server, sets NAME to its URL, and lets it
// refuse record N, for now or for good, or not answer it.
func cmdListen(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 && len(args) != 3 {
		ts.Fatalf("usage: listen NAME [refuse|forbid|hang N]")
	}
	bad := ""
	if len(args) == 3 {
		bad = args[1] + " " + args[2]
	}
	s := &recordServer{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.take(w, r, bad) }))
	ts.Defer(server.Close)
	ts.Value(serversKey{}).(map[string]*recordServer)[args[0]] = s
	ts.Setenv(args[0], server.URL+"/records")
}

func (s *recordServer) take(w http.ResponseWriter, r *http.Request, bad string) {
	var m sinks.Message
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &m)
	}
	number := r.Header.Get("Understudy-Number")
	switch bad {
	case "refuse " + number:
		http.Error(w, "disk is full", http.StatusInsufficientStorage)
		return
	case "forbid " + number:
		http.Error(w, "not you\nnor \x1b[2J anybody", http.StatusForbidden)
		return
	case "hang " + number:
		<-r.Context().Done()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || r.URL.Path != "/records" || number != strconv.FormatUint(m.Number, 10) {
		s.fault = errors.Join(s.fault, err, fmt.Errorf("%s with number %s: %s", r.URL.Path, number, body))
	}
	s.got = append(s.got, m)
}

// received NAME FROM TO checks that a server took these records, each once, in order.
func cmdReceived(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: received NAME FROM TO")
	}
	s := ts.Value(serversKey{}).(map[string]*recordServer)[args[0]]
	from, ferr := strconv.Atoi(args[1])
	to, terr := strconv.Atoi(args[2])
	ts.Check(errors.Join(ferr, terr))
	s.mu.Lock()
	defer s.mu.Unlock()
	ts.Check(s.fault)
	if len(s.got) != to-from+1 {
		ts.Fatalf("%d records received, want %d", len(s.got), to-from+1)
	}
	for i, m := range s.got {
		if int(m.Number) != from+i {
			ts.Fatalf("record %d came in place %d, want %d", m.Number, i, from+i)
		}
	}
}
