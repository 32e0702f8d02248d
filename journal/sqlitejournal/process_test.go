package sqlitejournal_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/sqlitejournal"
)

func crc32c(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// A child is a process of this test binary that opens an epoch and appends for as
// long as it may, and prints the position and checksum of each acknowledged entry.
type child struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	over  string // why it ended, in its own words
}

const childEnv = "SQLITEJOURNAL_TEST_CHILD"

// startChild starts a child that opens an epoch of the journal at path.
func startChild(t *testing.T, path string, epoch journal.Epoch) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v=false")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", childEnv, epoch, path))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Signal(syscall.SIGCONT)
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	return &child{cmd: cmd, lines: bufio.NewScanner(out)}
}

type ack struct {
	pos journal.Position
	sum uint32
}

// next returns the next acknowledgement, or false when the child has ended.
func (c *child) next() (ack, bool) {
	for c.lines.Scan() {
		var a ack
		line := c.lines.Text()
		if n, _ := fmt.Sscanf(line, "ack %d %d .", &a.pos, &a.sum); n == 2 && strings.HasSuffix(line, ".") {
			return a, true
		}
		if word, _, _ := strings.Cut(line, " "); word == "fenced" || word == "unknown" || word == "failed" {
			c.over = line
		}
	}
	return ack{}, false
}

// TestChild is the child's side.
func TestChild(t *testing.T) {
	args, ok := os.LookupEnv(childEnv)
	if !ok {
		t.Skip("runs as a child of the other tests")
	}
	number, path, _ := strings.Cut(args, " ")
	epoch, err := strconv.ParseUint(number, 10, 64)
	must(t, err)
	err = writeForever(t.Context(), path, journal.Epoch(epoch), os.Stdout)
	switch {
	case errors.Is(err, journal.ErrFenced), errors.Is(err, journal.ErrConflict):
		fmt.Println("fenced", err)
	case journal.OutcomeOf(err) == journal.Unknown:
		fmt.Println("unknown", err)
	default:
		fmt.Println("failed", err)
	}
}

// writeForever reads the journal through, opens an epoch and appends small and
// large batches until it is stopped.
func writeForever(ctx context.Context, path string, epoch journal.Epoch, acks io.Writer) error {
	j, err := sqlitejournal.Open(ctx, path, sqlitejournal.Config{Create: true})
	if err != nil {
		return err
	}
	defer j.Close()
	fence, err := j.Fence(ctx, epoch, fmt.Sprintf("child of epoch %d", epoch))
	if err != nil {
		return err
	}
	at, err := readTo(ctx, j, fence)
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(uint64(epoch), 0))
	for {
		c := at.Cursor
		batch := journaltest.Batch(c, journaltest.Records(1+rng.IntN(3), rng.IntN(2000)*(1+rng.IntN(10)))...)
		pos, err := j.Append(ctx, epoch, c.Pos, batch)
		if err != nil {
			return err
		}
		var b journal.Batch
		if _, _, err := at.Take(journal.Entry{Pos: pos, Data: batch}, &b); err != nil {
			return err
		}
		fmt.Fprintf(acks, "ack %d %d .\n", pos, crc32c(batch))
	}
}

// readTo takes in a journal from its oldest entry through a position.
func readTo(ctx context.Context, j journal.Journal, through journal.Position) (*journal.Tracker, error) {
	var t journal.Tracker
	var b journal.Batch
	for e, err := range j.Follow(ctx, 0) {
		if err != nil {
			return nil, err
		}
		if len(e.Data) > 0 {
			if _, _, err := t.Take(e, &b); err != nil {
				return nil, err
			}
		}
		if t.Cursor.Pos >= through {
			return &t, nil
		}
	}
	return nil, ctx.Err()
}

// rounds is how often processes are killed: 12, or what SQLITEJOURNAL_KILLS says.
func rounds(t *testing.T) int {
	if n, err := strconv.Atoi(os.Getenv("SQLITEJOURNAL_KILLS")); err == nil {
		return n
	}
	t.Log("for 200 rounds: SQLITEJOURNAL_KILLS=200 go test -run TestKilledUnderLoad ./journal/sqlitejournal")
	return 12
}

// A process appends under load and is killed at a random moment. What it
// acknowledged is there, and nothing that cannot follow it.
func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	var acked []ack
	for round := range rounds(t) {
		c := startChild(t, path, journal.Epoch(round+1))
		kill := time.AfterFunc(time.Duration(rand.IntN(80))*time.Millisecond+20*time.Millisecond, func() { c.cmd.Process.Kill() })
		for a, ok := c.next(); ok; a, ok = c.next() {
			acked = append(acked, a)
		}
		c.cmd.Wait()
		kill.Stop()
		if c.over != "" {
			t.Fatalf("round %d: the child ended by itself: %s", round+1, c.over)
		}
		checkAcked(t, path, acked)
		if t.Failed() {
			t.Fatalf("round %d, %d acknowledged", round+1, len(acked))
		}
	}
	if len(acked) == 0 {
		t.Error("no round acknowledged anything")
	}
}

// checkAcked opens the journal, reads it through and looks for every acknowledged
// entry.
func checkAcked(t *testing.T, path string, acked []ack) {
	t.Helper()
	j, err := sqlitejournal.Open(t.Context(), path, sqlitejournal.Config{Create: true})
	must(t, err)
	defer j.Close()
	end, err := j.End(t.Context())
	must(t, err)
	if _, err := readTo(t.Context(), j, end.Pos); err != nil {
		t.Error(err)
	}
	all, err := drain(t.Context(), j, 0)
	must(t, err)
	there := make(map[journal.Position]uint32)
	for _, e := range all {
		there[e.Pos] = crc32c(e.Data)
	}
	for _, a := range acked {
		if there[a.pos] != a.sum {
			t.Errorf("entry at %d was acknowledged and is not there", a.pos)
		}
	}
}

// A process that is stopped under load is fenced by another. If it was stopped in
// the midst of a transaction the fence waits, and says that nothing was written
// when its time is over. Continued, the process writes nothing behind the fence.
func TestStoppedWriterIsFenced(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	var acked []ack
	waited := 0
	for round := range 8 {
		c := startChild(t, path, journal.Epoch(2*round+1))
		for range 5 + rand.IntN(20) {
			a, ok := c.next()
			if !ok {
				t.Fatalf("the child ended early: %s", c.over)
			}
			acked = append(acked, a)
		}
		must(t, c.cmd.Process.Signal(syscall.SIGSTOP))
		waitStopped(t, c.cmd.Process.Pid)
		j, err := sqlitejournal.Open(t.Context(), path, sqlitejournal.Config{})
		must(t, err)
		epoch := journal.Epoch(2*round + 2)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		pos, err := j.Fence(ctx, epoch, "parent")
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			waited++
			must(t, c.cmd.Process.Signal(syscall.SIGCONT))
			pos, err = j.Fence(t.Context(), epoch, "parent")
		}
		must(t, err)
		at, err := readTo(t.Context(), j, pos)
		must(t, err)
		_, err = j.Append(t.Context(), epoch, pos, journaltest.Batch(at.Cursor, journaltest.Records(1, 10)...))
		must(t, err)
		must(t, c.cmd.Process.Signal(syscall.SIGCONT))
		for a, ok := c.next(); ok; a, ok = c.next() {
			if a.pos >= pos {
				t.Errorf("round %d: the fenced process was told that its entry at %d was stored; the fence is at %d", round+1, a.pos, pos)
			}
			acked = append(acked, a)
		}
		if !strings.HasPrefix(c.over, "fenced") {
			t.Errorf("round %d: the fenced process ended with %q", round+1, c.over)
		}
		c.cmd.Wait()
		must(t, j.Close())
		checkAcked(t, path, acked)
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("stopped in the midst of a transaction: %d of 8", waited)
}

// waitStopped waits until a process is stopped: a signal takes effect some time
// after it was sent.
func waitStopped(t *testing.T, pid int) {
	t.Helper()
	for t.Context().Err() == nil {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Skip("no /proc: cannot tell whether a process is stopped")
		}
		if _, rest, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(rest, "T") {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// A writer in another process that appends without a pause does not starve a
// fence.
func TestBusyProcessIsFenced(t *testing.T) {
	path := newPath(t)
	j := openAt(t, path, sqlitejournal.Config{})
	var longest time.Duration
	for round := range 8 {
		c := startChild(t, path, journal.Epoch(2*round+1))
		for range 20 {
			if _, ok := c.next(); !ok {
				t.Fatalf("the child ended early: %s", c.over)
			}
		}
		over := make(chan struct{})
		go func() { // it must not wait for someone to read what it says
			defer close(over)
			for _, ok := c.next(); ok; _, ok = c.next() {
			}
		}()
		start := time.Now()
		_, err := j.Fence(t.Context(), journal.Epoch(2*round+2), "parent")
		longest = max(longest, time.Since(start))
		must(t, err)
		<-over
		c.cmd.Wait()
		if !strings.HasPrefix(c.over, "fenced") {
			t.Errorf("the fenced process ended with %q", c.over)
		}
	}
	t.Logf("the longest of 8 fences took %v", longest)
	if longest > 5*time.Second {
		t.Errorf("a fence took %v", longest)
	}
}

// Another process's entries are followed as they come.
func TestFollowAnotherProcess(t *testing.T) {
	path := newPath(t)
	j := openAt(t, path, sqlitejournal.Config{})
	c := startChild(t, path, 1)
	n := 0
	for e, err := range j.Follow(t.Context(), 0) {
		must(t, err)
		if len(e.Data) == 0 || journal.IsFence(e.Data) {
			continue
		}
		a, ok := c.next()
		if !ok || a.pos != e.Pos || a.sum != crc32c(e.Data) {
			t.Fatalf("followed the entry at %d, the process had %+v, %v acknowledged", e.Pos, a, ok)
		}
		if n++; n == 100 {
			break
		}
	}
}
