package filejournal

import (
	"errors"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func datasync(fd int) error { return unix.Fdatasync(fd) }

func (osFS) Rename(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// Volatile asks whether the folder is on a file system in memory. Of an overlay over
// one, as a container may have, it cannot tell.
func (osFS) Volatile(dir string) bool {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return false
	}
	// Type has another width and sign on each architecture; the numbers have 32 bits.
	return uint32(st.Type) == unix.TMPFS_MAGIC || uint32(st.Type) == unix.RAMFS_MAGIC
}

// Boot returns the kernel's boot id, which all containers of a host share.
func (osFS) Boot() []byte {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil
	}
	return []byte(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
}

const (
	futexWait = 0 // without FUTEX_PRIVATE_FLAG: the word is shared between processes
	futexWake = 1
)

func (osFS) Wait(word *uint32, old uint32, d time.Duration) {
	t := unix.NsecToTimespec(d.Nanoseconds())
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWait, uintptr(old), uintptr(unsafe.Pointer(&t)), 0, 0)
	if errno != 0 && !errors.Is(errno, unix.EAGAIN) && !errors.Is(errno, unix.EINTR) && !errors.Is(errno, unix.ETIMEDOUT) {
		time.Sleep(min(d, time.Millisecond)) // no futex on this mapping: look again soon
	}
}

func (osFS) Wake(word *uint32) {
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake, 1<<30, 0, 0, 0)
}
