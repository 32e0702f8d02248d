package filejournal_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"understudy.dev/internal/crashfs"
	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
)

// Handles that make the same journal at once all get it, in folders that none of
// them found, and leave no file behind that is not finished.
func TestMadeByManyHandles(t *testing.T) {
	base := t.TempDir()
	for round := range 100 {
		dir := filepath.Join(base, fmt.Sprint(round), "a", "b")
		var all sync.WaitGroup
		errs := make(chan error, 8)
		for range cap(errs) {
			all.Go(func() { errs <- openAndFence(t, dir) })
		}
		all.Wait()
		close(errs)
		for err := range errs {
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		noTemporary(t, dir)
	}
}

// openAndFence opens a journal and opens its epoch 1, as one of many that do.
func openAndFence(t *testing.T, dir string) error {
	j, err := filejournal.Open(dir, filejournal.Config{SegmentBytes: small, Foreground: true})
	if err != nil {
		return err
	}
	if _, err = j.Fence(t.Context(), 1, "a"); err == nil {
		var end journal.End
		if end, err = j.End(t.Context()); err == nil && end.Epoch != 1 {
			err = fmt.Errorf("fenced, and the journal ends in epoch %d", end.Epoch)
		}
	}
	return errors.Join(err, j.Close())
}

func noTemporary(t *testing.T, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "tmp-*"))
	must(t, err)
	if len(left) > 0 {
		t.Fatalf("left: %q", left)
	}
}

const openerEnv = "FILEJOURNAL_TEST_OPENER"

// Processes do too.
func TestMadeByTwoProcesses(t *testing.T) {
	openers := []*opener{startOpener(t), startOpener(t)}
	base := t.TempDir()
	for round := range 60 {
		dir := filepath.Join(base, fmt.Sprint(round), "a")
		for _, o := range openers {
			fmt.Fprintln(o.in, dir)
		}
		for _, o := range openers {
			if !o.out.Scan() || o.out.Text() != "done" {
				t.Fatalf("round %d: %q, %v", round, o.out.Text(), o.out.Err())
			}
		}
		noTemporary(t, dir)
	}
}

// An opener is a process that makes each journal whose folder it is told.
type opener struct {
	in  io.WriteCloser
	out *bufio.Scanner
}

func startOpener(t *testing.T) *opener {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestOpener$", "-test.v=false")
	cmd.Env = append(os.Environ(), openerEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	return &opener{in: in, out: bufio.NewScanner(out)}
}

// TestOpener is the process's side.
func TestOpener(t *testing.T) {
	if os.Getenv(openerEnv) == "" {
		t.Skip("runs as a process of TestMadeByTwoProcesses")
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if err := openAndFence(t, in.Text()); err != nil {
			fmt.Println(strings.ReplaceAll(err.Error(), "\n", " "))
			continue
		}
		fmt.Println("done")
	}
}

// unreadable is a disk with a folder that may be entered and not read.
type unreadable struct {
	*crashfs.FS
	dir string
}

func (u unreadable) SyncDir(dir string) error {
	if dir == u.dir {
		return &fs.PathError{Op: "open", Path: dir, Err: fs.ErrPermission}
	}
	return u.FS.SyncDir(dir)
}

// A folder that is found in one that may not be read can hold a journal: who made
// it had other rights. One that is made there is not used, since nobody knows
// whether it will stay.
func TestFolderAboveMayNotBeRead(t *testing.T) {
	for _, found := range []bool{true, false} {
		disk := crashfs.New()
		must(t, disk.Mkdir("d"))
		if found {
			must(t, disk.Mkdir("d/j"))
		}
		j, err := filejournal.Open("d/j", filejournal.Config{FS: unreadable{disk, "d"}, Foreground: true})
		if (err == nil) != found || !found && !errors.Is(err, fs.ErrPermission) {
			t.Errorf("found %v: %v", found, err)
		}
		if err == nil {
			must(t, j.Close())
		}
	}
}

// overtaken is a disk on which another handle makes the journal just before this
// one comes to it.
type overtaken struct {
	*crashfs.FS
	t *testing.T
}

func (o overtaken) Rename(from, to string) error {
	if filepath.Base(to) == "journal.state" {
		j, err := filejournal.Open("j", filejournal.Config{FS: o.FS, Foreground: true})
		must(o.t, err)
		must(o.t, j.Close())
	}
	return o.FS.Rename(from, to)
}

func (o overtaken) Open(name string, flag int) (filejournal.File, error) {
	if filepath.Base(name) == "journal.state" && count(o.t, o.FS, "tmp-", "") > 0 {
		o.t.Error("the state file that came too late is still there")
	}
	return o.FS.Open(name, flag)
}

// A handle that was overtaken while it made the journal uses the other's and
// removes what it had made.
func TestOvertakenInMaking(t *testing.T) {
	disk := overtaken{crashfs.New(), t}
	j, err := filejournal.Open("j", filejournal.Config{FS: disk, Foreground: true})
	must(t, err)
	must(t, j.Close())
}
