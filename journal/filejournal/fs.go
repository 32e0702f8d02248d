package filejournal

import "time"

// FS is what the journal needs of a file system. [OS] is the real one; tests run
// on one that yields the disks a crash can leave.
//
// Names are paths. Errors match those of package io/fs (ErrNotExist, ErrExist)
// and, for a full disk, syscall.ENOSPC or EDQUOT.
type FS interface {
	// Open opens a file with the flags of package os: O_RDONLY or O_RDWR, with
	// O_CREATE and O_EXCL.
	Open(name string, flag int) (File, error)
	// Rename gives a file another name in the same folder. It fails with an error
	// matching fs.ErrExist, and changes nothing, if that name is taken.
	Rename(from, to string) error
	// Remove removes a name. The file stays while it is open.
	Remove(name string) error
	// List returns the names in a folder, sorted.
	List(dir string) ([]string, error)
	// Mkdir makes one folder. It fails with an error matching fs.ErrExist if there
	// is one, and fs.ErrNotExist if the one above is missing.
	Mkdir(dir string) error
	// SyncDir makes the names in a folder durable. The folder's own name is in the
	// one above it.
	SyncDir(dir string) error
	// Volatile reports whether all that is in a folder is gone when the machine
	// stops, synced or not.
	Volatile(dir string) bool
	// Boot identifies the running system: while it is the same, what was written
	// to files is still in memory even if it is not on the disk. Empty if unknown.
	Boot() []byte
	// Wait returns when Wake was called for the word by any process, at the
	// latest after d, at once if *word is not old, and perhaps for no reason.
	Wait(word *uint32, old uint32, d time.Duration)
	// Wake ends the waiting for a word in a file mapped by Map.
	Wake(word *uint32)
}

// A File is an open file.
type File interface {
	// ReadAt and WriteAt are those of io.ReaderAt and io.WriterAt.
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	// Is reports whether name leads to this very file, and not to another or to
	// none. If that cannot be told, it does.
	Is(name string) bool
	// Size returns the length in bytes.
	Size() (int64, error)
	// Sync makes content and length durable.
	Sync() error
	// Datasync makes content durable, and the length if that is needed to read it.
	Datasync() error
	// TryLock takes the file's lock, which excludes every other open File of any
	// process, and reports whether it got it. Closing the File or the death of
	// the process gives it back.
	TryLock() (bool, error)
	// Unlock gives the lock back.
	Unlock() error
	// Map returns the first size bytes as memory shared with everybody who maps
	// them; it can be written if the file was opened for that.
	Map(size int) ([]byte, error)
	// Unmap gives that memory back.
	Unmap(mem []byte) error
	Close() error
}
