package filejournal_test

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"understudy.dev/internal/crashfs"
	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
)

// A folder on a file system in memory does not declare that what was acknowledged
// survives the machine, and says why.
func TestDescribeInMemory(t *testing.T) {
	const memory = "/dev/shm"
	var st unix.Statfs_t
	if err := unix.Statfs(memory, &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		t.Skipf("%s is not in memory: %v", memory, err)
	}
	dir, err := os.MkdirTemp(memory, "journal-*")
	if err != nil {
		t.Skip(err)
	}
	defer os.RemoveAll(dir)
	c := openAt(t, dir, filejournal.Config{}).Describe()
	if c.Survives != journal.SurvivesProcess || !strings.Contains(strings.Join(c.Notes, "\n"), "in memory") {
		t.Errorf("survives %v, notes %q", c.Survives, c.Notes)
	}
	c = openAt(t, "j", filejournal.Config{FS: crashfs.New()}).Describe()
	if want := journal.SurvivesProcess | journal.SurvivesMachine; c.Survives != want || strings.Contains(strings.Join(c.Notes, "\n"), "in memory") {
		t.Errorf("on a disk: survives %v, want %v, notes %q", c.Survives, want, c.Notes)
	}
}
