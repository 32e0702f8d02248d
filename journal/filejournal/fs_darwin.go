package filejournal

import (
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// datasync asks the drive to empty its cache, which fsync alone does not here.
func datasync(fd int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_FULLFSYNC, 0)
	return err
}

func (osFS) Rename(from, to string) error {
	if err := unix.RenamexNp(from, to, unix.RENAME_EXCL); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// Volatile cannot be told here: a disk in memory looks like any other.
func (osFS) Volatile(string) bool { return false }

// Boot returns the kernel's id of this boot.
func (osFS) Boot() []byte {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return nil
	}
	return []byte(id)
}

// Wait looks again every millisecond.
func (osFS) Wait(word *uint32, old uint32, d time.Duration) {
	for end := time.Now().Add(d); atomic.LoadUint32(word) == old && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

func (osFS) Wake(*uint32) {}
