package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"understudy.dev/cli"
	"understudy.dev/engines/exchange"
	"understudy.dev/journal"
	"understudy.dev/journal/journalurl"
	"understudy.dev/machine"
)

// The binaries of the scripts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"counter":    Example,
		"understudy": func() { cli.Main(cli.App{Name: "understudy", Machine: exchange.Definition()}) },
		// A counter whose logic changed and whose version did not.
		"forger": func() { cli.Main(counterApp("forger", func() machine.Machine { return new(forger) })) },
		// A counter that takes numbers as they are written and keeps them in eight bytes.
		"wordy": func() {
			app := counterApp("wordy", func() machine.Machine { return new(wide) })
			app.Encode, app.Show, app.Decode = encodeWide, showWide, decodeWide
			cli.Main(app)
		},
		"panicky": func() { cli.Main(counterApp("panicky", func() machine.Machine { return new(panicky) })) },
	})
}

func counterApp(name string, make func() machine.Machine) cli.App {
	return cli.App{Name: name, Version: "v0", Machine: machine.Definition{
		Name: "counter", Version: 1, New: make, Commands: []machine.CommandType{{Name: "add"}},
	}}
}

// forger decides otherwise than counter once the sum is above 100.
type forger struct{ counter }

func (f *forger) Apply(ctx *machine.Context, cmd machine.Command) ([]byte, error) {
	reply, err := f.counter.Apply(ctx, cmd)
	if f.sum > 100 {
		reply = append(reply, '!')
	}
	return reply, err
}

// panicky panics once the sum is above 100.
type panicky struct{ counter }

func (p *panicky) Apply(ctx *machine.Context, cmd machine.Command) ([]byte, error) {
	reply, err := p.counter.Apply(ctx, cmd)
	if p.sum > 100 {
		panic("more than I can count")
	}
	return reply, err
}

// wide counts in eight bytes, little endian.
type wide struct{ counter }

func (w *wide) Apply(_ *machine.Context, cmd machine.Command) ([]byte, error) {
	w.sum += int64(binary.LittleEndian.Uint64(cmd.Data))
	return binary.LittleEndian.AppendUint64(nil, uint64(w.sum)), nil
}

func encodeWide(_ string, words []string) (uint32, []byte, error) {
	if len(words) != 1 {
		return 0, nil, fmt.Errorf("%d words, want N", len(words))
	}
	n, err := strconv.ParseInt(words[0], 10, 64)
	return 0, binary.LittleEndian.AppendUint64(nil, uint64(n)), err
}

func showWide(name string, _ uint32, data []byte) string {
	return name + " the number " + strconv.FormatUint(binary.LittleEndian.Uint64(data), 10)
}

func decodeWide(_ string, reply []byte) string {
	return "the sum is " + strconv.FormatUint(binary.LittleEndian.Uint64(reply), 10)
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			env.Values[processesKey{}] = processes{}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"start": cmdStart, "end": cmdEnd, "code": cmdCode, "await": cmdAwait, "flip": cmdFlip, "forge": cmdForge,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// awaitFor bounds every waiting in a script; nothing is measured by it.
const awaitFor = 30 * time.Second

// processes of a script by name.
type processes map[string]*exec.Cmd

type processesKey struct{}

// start NAME PROGRAM ARGS… starts a process that says in a line of JSON that it is
// ready, and sets NAME_FIELD to each field of it.
func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME PROGRAM ARGS…")
	}
	name := args[0]
	cmd := exec.Command(find(ts, args[1]), append(args[2:], "--json")...)
	cmd.Dir = ts.Getenv("WORK")
	for _, key := range []string{"PATH", "HOME", "UNDERSTUDY_JOURNAL", "UNDERSTUDY_ADMIN"} {
		cmd.Env = append(cmd.Env, key+"="+ts.Getenv(key))
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill() //nolint:errcheck // it may have ended
			cmd.Wait()         //nolint:errcheck // killed
		}
		ts.Logf("[%s]\n%s", name, stderr.String())
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		ts.Fatalf("%s is not ready: %v", name, err)
	}
	ts.Value(processesKey{}).(processes)[name] = cmd
	var ready map[string]any
	ts.Check(json.Unmarshal(line, &ready))
	for k, v := range ready {
		ts.Setenv(name+"_"+k, fmt.Sprint(v))
	}
}

// find returns the path of a program of this test.
func find(ts *testscript.TestScript, program string) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, program)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	ts.Fatalf("no program %s", program)
	return ""
}

// end NAME [-KILL] ends a process that start started: by SIGTERM, which it must
// survive long enough to end with 0, or by SIGKILL.
func cmdEnd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: end NAME [-KILL]")
	}
	procs := ts.Value(processesKey{}).(processes)
	cmd := procs[args[0]]
	if cmd == nil {
		ts.Fatalf("no process %s", args[0])
	}
	delete(procs, args[0])
	sig := syscall.SIGTERM
	if len(args) == 2 {
		sig = syscall.SIGKILL
	}
	ts.Check(cmd.Process.Signal(sig))
	if err := cmd.Wait(); err != nil && sig == syscall.SIGTERM {
		ts.Fatalf("%s ended: %v", args[0], err)
	}
}

// code N PROGRAM ARGS… runs a program, which must exit with N.
func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N PROGRAM ARGS…")
	}
	got := 0
	var exit *exec.ExitError
	switch err := ts.Exec(args[1], args[2:]...); {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("run %s: %v", args[1], err)
	}
	if want := args[0]; strconv.Itoa(got) != want {
		ts.Fatalf("exit code %d, want %s", got, want)
	}
}

// await PATTERN PROGRAM ARGS… runs a program again and again until its output
// matches the pattern.
func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await PATTERN PROGRAM ARGS…")
	}
	pattern := regexp.MustCompile("(?m)" + args[0])
	var out []byte
	for began := time.Now(); time.Since(began) < awaitFor; time.Sleep(20 * time.Millisecond) {
		cmd := exec.Command(find(ts, args[1]), args[2:]...)
		cmd.Env = []string{"UNDERSTUDY_JOURNAL=" + ts.Getenv("UNDERSTUDY_JOURNAL"), "UNDERSTUDY_ADMIN=" + ts.Getenv("UNDERSTUDY_ADMIN")}
		out, _ = cmd.CombinedOutput() // an error may be on the way to what is awaited
		if pattern.Match(out) {
			return
		}
	}
	ts.Fatalf("never saw %s; the last was\n%s", args[0], out)
}

// flip FILE TEXT flips a bit of the first byte of TEXT in FILE, a pattern that
// names one file.
func cmdFlip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip FILE TEXT")
	}
	files, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(files) != 1 {
		ts.Fatalf("%s is %v, want one file", args[0], files)
	}
	data, err := os.ReadFile(files[0])
	ts.Check(err)
	at := bytes.Index(data, []byte(args[1]))
	if at < 0 {
		ts.Fatalf("no %s in %s", args[1], files[0])
	}
	data[at] ^= 1
	ts.Check(os.WriteFile(files[0], data, 0o600))
}

// forge DIR opens a new epoch in a journal and appends a batch to it that does not
// follow what lies before it.
func cmdForge(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: forge DIR")
	}
	ctx := context.Background()
	j, err := journalurl.Open(ctx, "file:"+url.PathEscape(ts.MkAbs(args[0])), journalurl.Options{})
	ts.Check(err)
	defer j.Close()
	end, err := journal.SampleEnd(ctx, j)
	ts.Check(err)
	pos, err := j.Fence(ctx, end.Epoch+1, "forger")
	ts.Check(err)
	b := journal.NewBuilder("forger", 1<<20, end.Time)
	ts.Check(b.Add(&journal.Record{Kind: journal.KindCommand, Name: "add", Data: []byte("1")}))
	_, err = j.Append(ctx, end.Epoch+1, pos, b.Seal(end.Seq+1, end.Epoch+1, journal.Digest{}, journal.Hash{1}))
	ts.Check(err)
}
