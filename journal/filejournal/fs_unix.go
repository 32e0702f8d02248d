//go:build linux || darwin

package filejournal

import (
	"errors"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// OS is the file system of the machine. It must be a local one: a lock and a
// mapping on a network file system do not reach the other hosts.
func OS() FS { return osFS{} }

type osFS struct{}

func (osFS) Open(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return &osFile{File: f, fd: int(f.Fd()), writable: flag&os.O_RDWR != 0}, nil
}

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) List(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (osFS) Mkdir(dir string) error { return os.Mkdir(dir, 0o700) }

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

type osFile struct {
	*os.File
	fd       int
	writable bool
}

func (f *osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !st.Mode().IsRegular() {
		return 0, &fs.PathError{Op: "size", Path: f.Name(), Err: errors.New("not a regular file")}
	}
	return st.Size(), nil
}

// Is compares device and inode, which no other file has while this one is open.
func (f *osFile) Is(name string) bool {
	var open, there unix.Stat_t
	if unix.Fstat(f.fd, &open) != nil {
		return true
	}
	if err := unix.Stat(name, &there); err != nil {
		return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR)
	}
	return open.Dev == there.Dev && open.Ino == there.Ino
}

func (f *osFile) Datasync() error {
	for {
		if err := datasync(f.fd); !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// TryLock uses flock, whose locks belong to the open file and not to the
// process, so that two handles of one process exclude each other too.
func (f *osFile) TryLock() (bool, error) {
	for {
		switch err := unix.Flock(f.fd, unix.LOCK_EX|unix.LOCK_NB); {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, unix.EINTR):
			return false, os.NewSyscallError("flock", err)
		}
	}
}

func (f *osFile) Unlock() error { return os.NewSyscallError("flock", unix.Flock(f.fd, unix.LOCK_UN)) }

func (f *osFile) Map(size int) ([]byte, error) {
	prot := unix.PROT_READ
	if f.writable {
		prot |= unix.PROT_WRITE
	}
	mem, err := unix.Mmap(f.fd, 0, size, prot, unix.MAP_SHARED)
	return mem, os.NewSyscallError("mmap", err)
}

func (f *osFile) Unmap(mem []byte) error { return os.NewSyscallError("munmap", unix.Munmap(mem)) }
