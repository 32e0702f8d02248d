package filejournal_test

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
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/journaltest"
)

func crc32c(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// A child is a process of this test binary that opens an epoch and appends for
// as long as it may, and prints the position and checksum of each acknowledged
// entry.
type child struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

const childEnv = "FILEJOURNAL_TEST_CHILD"

// startChild starts a child that opens an epoch of the journal in dir.
func startChild(t *testing.T, dir string, epoch journal.Epoch) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v=false")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", childEnv, epoch, dir))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd, lines: bufio.NewScanner(out)}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Signal(syscall.SIGCONT)
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	return c
}

// next returns the next acknowledgement.
func (c *child) next() (ack, bool) {
	for c.lines.Scan() {
		var a ack
		if n, _ := fmt.Sscanf(c.lines.Text(), "ack %d %d .", &a.pos, &a.sum); n == 2 && strings.HasSuffix(c.lines.Text(), ".") {
			return a, true
		}
	}
	return ack{}, false
}

type ack struct {
	pos journal.Position
	sum uint32
}

// TestChild is the child's side.
func TestChild(t *testing.T) {
	args, ok := os.LookupEnv(childEnv)
	if !ok {
		t.Skip("runs as a child of the other tests")
	}
	number, dir, _ := strings.Cut(args, " ")
	epoch, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	err = writeForever(t.Context(), dir, journal.Epoch(epoch), os.Stdout)
	switch {
	case errors.Is(err, journal.ErrFenced):
		fmt.Println("fenced")
	case journal.OutcomeOf(err) == journal.Unknown:
		fmt.Println("unknown", err)
	default:
		fmt.Println("failed", err)
	}
}

// writeForever reads the journal through, opens an epoch and appends small and
// large batches until it is stopped. An append whose outcome is unknown is
// followed by a second try, as a writer would make it.
func writeForever(ctx context.Context, dir string, epoch journal.Epoch, acks io.Writer) error {
	j, err := filejournal.Open(dir, filejournal.Config{SegmentBytes: 256 << 10})
	if err != nil {
		return err
	}
	defer j.Close()
	owner := fmt.Sprintf("child of epoch %d", epoch)
	fence, err := j.Fence(ctx, epoch, owner)
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
		if journal.OutcomeOf(err) == journal.Unknown && !errors.Is(err, journal.ErrBroken) {
			pos, err = j.Append(ctx, epoch, c.Pos, batch)
		}
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

// rounds is how often processes are killed: 20, or what FILEJOURNAL_KILLS says.
func rounds(t *testing.T) int {
	if n, err := strconv.Atoi(os.Getenv("FILEJOURNAL_KILLS")); err == nil {
		return n
	}
	t.Log("for 200 rounds: FILEJOURNAL_KILLS=200 go test -run TestKilledUnderLoad ./journal/filejournal")
	return 20
}

// A process appends under load and is killed at a random moment. What it
// acknowledged is there; a follower in this process saw nothing else.
func TestKilledUnderLoad(t *testing.T) {
	dir := t.TempDir()
	var acked []ack
	for round := range rounds(t) {
		c := startChild(t, dir, journal.Epoch(round+1))
		kill := time.AfterFunc(time.Duration(rand.IntN(60))*time.Millisecond+10*time.Millisecond, func() { c.cmd.Process.Kill() })
		for {
			a, ok := c.next()
			if !ok {
				break
			}
			acked = append(acked, a)
		}
		c.cmd.Wait()
		kill.Stop()
		checkAcked(t, dir, acked)
		if t.Failed() {
			t.Fatalf("round %d, %d acknowledged", round+1, len(acked))
		}
	}
	if len(acked) == 0 {
		t.Error("no round acknowledged anything")
	}
}

// checkAcked opens the journal and looks for every acknowledged entry.
func checkAcked(t *testing.T, dir string, acked []ack) {
	t.Helper()
	j, err := filejournal.Open(dir, filejournal.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	end, err := j.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readTo(t.Context(), j, end.Pos); err != nil {
		t.Error(err)
	}
	all, err := drain(t.Context(), j, 0)
	if err != nil {
		t.Fatal(err)
	}
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

// A process that is stopped under load is fenced by another, in bounded time
// wherever it was stopped; continued, it writes nothing and learns that it was
// fenced.
func TestStoppedWriterIsFenced(t *testing.T) {
	dir := t.TempDir()
	var acked []ack
	for round := range 12 {
		c := startChild(t, dir, journal.Epoch(2*round+1))
		for range 5 + rand.IntN(20) {
			a, ok := c.next()
			if !ok {
				t.Fatal("the child ended early")
			}
			acked = append(acked, a)
		}
		if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		waitStopped(t, c.cmd.Process.Pid)
		pos := fenceAndAppend(t, dir, journal.Epoch(2*round+2))
		if err := c.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		for {
			a, ok := c.next()
			if !ok {
				break
			}
			if a.pos >= pos {
				t.Errorf("round %d: the fenced process was told that its entry at %d was stored; the fence is at %d", round+1, a.pos, pos)
			}
			acked = append(acked, a)
		}
		c.cmd.Wait()
		checkAcked(t, dir, acked)
		if t.Failed() {
			t.FailNow()
		}
	}
}

// fenceAndAppend opens an epoch and appends one batch. It returns where the
// fence lies.
func fenceAndAppend(t *testing.T, dir string, epoch journal.Epoch) journal.Position {
	t.Helper()
	j, err := filejournal.Open(dir, filejournal.Config{Patience: 20 * time.Millisecond, SegmentBytes: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	pos, err := j.Fence(t.Context(), epoch, "parent")
	if err != nil {
		t.Fatal(err)
	}
	at, err := readTo(t.Context(), j, pos)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(t.Context(), epoch, pos, journaltest.Batch(at.Cursor, journaltest.Records(1, 10)...)); err != nil {
		t.Fatal(err)
	}
	return pos
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

// Another process's entries are followed as they come, and none that it did not
// publish.
func TestFollowAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	j := openAt(t, dir, filejournal.Config{})
	c := startChild(t, dir, 1)
	n := 0
	for e, err := range j.Follow(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if len(e.Data) == 0 || journal.IsFence(e.Data) {
			continue
		}
		a, ok := c.next()
		if !ok || a.pos != e.Pos || a.sum != crc32c(e.Data) {
			t.Fatalf("followed the entry at %d, the process had %+v, %v acknowledged", e.Pos, a, ok)
		}
		if n++; n == 200 {
			break
		}
	}
}
