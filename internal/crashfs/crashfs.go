// Package crashfs is a file system in memory that yields every kind of disk a
// crash can leave, and fails on demand.
//
// # What is durable
//
// A file's content is durable once it was synced, a name once its folder was.
// Until then each 512-byte sector that was written may be on the disk as it was
// at the last sync, as it is now, as it was at any moment between, or torn: some
// bytes of one and the rest of the other. Each change of a folder may be on the
// disk or not, whatever the others did; a rename is one change. [FS.Crash] makes
// the disk of one such outcome.
//
// # Faults
//
// Every call that can fail is counted: those that change something, reads, opening,
// listing, mapping and asking for a size. One that fails anyway, since a name is
// taken or not there, is not. [FS.FailAt] lets one fail, or write only
// a part; [FS.StopAt] is the moment at which the machine stops: that call and all
// after it do nothing and fail with [ErrStopped].
//
// # What it leaves out
//
// Names start at one folder, ".", which is always there. The order of syncs is kept. A disk that acknowledges
// a sync without having done it is not modelled.
package crashfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"understudy.dev/journal/filejournal"
)

// ErrStopped is what calls fail with after the machine has stopped.
var ErrStopped = errors.New("crashfs: the machine has stopped")

// An FS is a file system in memory. Its methods may be called concurrently.
type FS struct {
	mu     sync.Mutex
	boot   string
	root   *dir
	calls  []string
	stopAt int // the call that finds the machine stopped; 0 = none
	faults map[int]Fault
	wake   chan struct{} // closed and replaced by every Wake
}

// A Fault is what happens to a call.
type Fault struct {
	Err   error // what it returns; the call does nothing but for Short
	Short int   // of a write: so many bytes are written first
	Late  bool  // the call does all its work and fails then
}

var _ filejournal.FS = (*FS)(nil)

// New returns an empty file system of a machine that was just started.
func New() *FS { return newFS("boot-1") }

func newFS(boot string) *FS {
	return &FS{boot: boot, root: newDir(), faults: make(map[int]Fault), wake: make(chan struct{})}
}

// A dir is a folder: the names as they are, as they were at the last sync, and
// the changes between.
type dir struct {
	now, synced map[string]*inode
	changes     []map[string]*inode // each is one change; nil removes a name
}

func newDir() *dir {
	return &dir{now: make(map[string]*inode), synced: make(map[string]*inode)}
}

func (d *dir) change(c map[string]*inode) {
	d.changes = append(d.changes, c)
	apply(d.now, c)
}

func apply(names map[string]*inode, c map[string]*inode) {
	for name, n := range c {
		if n == nil {
			delete(names, name)
		} else {
			names[name] = n
		}
	}
}

// FailAt lets the n-th call from now fail, counted from 1.
func (f *FS) FailAt(n int, fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[len(f.calls)+n] = fault
}

// StopAt stops the machine at the n-th call from now, counted from 1.
func (f *FS) StopAt(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopAt = len(f.calls) + n
}

// Calls returns the calls so far, such as "sync journal.state".
func (f *FS) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// callLocked counts a call and decides its fate. If do is false it must return
// err without having changed anything but short bytes of a write.
func (f *FS) callLocked(op, name string) (fault Fault, do bool) {
	f.calls = append(f.calls, op+" "+filepath.Base(name))
	n := len(f.calls)
	if f.stopAt != 0 && n >= f.stopAt {
		return Fault{Err: ErrStopped}, false
	}
	fault, ok := f.faults[n]
	return fault, !ok || fault.Late
}

// dir returns the folder of a name.
func (f *FS) dir(name string) (*dir, error) {
	d := f.root
	for part := range strings.SplitSeq(filepath.Clean(name), string(filepath.Separator)) {
		if part == "." || part == ".." || part == "" { // there is nothing above the first
			continue
		}
		n := d.now[part]
		switch {
		case n == nil:
			return nil, fs.ErrNotExist
		case n.dir == nil:
			return nil, syscall.ENOTDIR
		}
		d = n.dir
	}
	return d, nil
}

// parent returns the folder that a name is in, and the name there.
func (f *FS) parent(name string) (*dir, string, error) {
	d, err := f.dir(filepath.Dir(name))
	return d, filepath.Base(name), err
}

// Open implements filejournal.FS.
func (f *FS) Open(name string, flag int) (filejournal.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, base, err := f.parent(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	n, exists := d.now[base]
	op := "open"
	switch {
	case exists && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case !exists && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case exists && n.dir != nil:
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
	case !exists:
		op = "create"
	}
	fault, do := f.callLocked(op, name)
	if do && !exists {
		n = &inode{}
		d.change(map[string]*inode{base: n})
	}
	if fault.Err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fault.Err}
	}
	return &file{fs: f, n: n, name: base, writable: flag&os.O_RDWR != 0}, nil
}

// Rename implements filejournal.FS.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	fail := func(err error) error { return &os.LinkError{Op: "rename", Old: from, New: to, Err: err} }
	d, a, err := f.parent(from)
	if err != nil {
		return fail(err)
	}
	b := filepath.Base(to)
	n, ok := d.now[a]
	if !ok || filepath.Dir(from) != filepath.Dir(to) {
		return fail(fs.ErrNotExist)
	}
	if _, taken := d.now[b]; taken {
		return fail(fs.ErrExist)
	}
	fault, do := f.callLocked("rename", to)
	if do {
		d.change(map[string]*inode{a: nil, b: n})
	}
	if fault.Err != nil {
		return fail(fault.Err)
	}
	return nil
}

// Remove implements filejournal.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, base, err := f.parent(name)
	if err == nil {
		err = removable(d.now[base])
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	fault, do := f.callLocked("remove", name)
	if do {
		d.change(map[string]*inode{base: nil})
	}
	if fault.Err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fault.Err}
	}
	return nil
}

func removable(n *inode) error {
	switch {
	case n == nil:
		return fs.ErrNotExist
	case n.dir != nil && len(n.dir.now) > 0:
		return syscall.ENOTEMPTY
	}
	return nil
}

// List implements filejournal.FS.
func (f *FS) List(name string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.dir(name)
	if err != nil {
		return nil, &fs.PathError{Op: "list", Path: name, Err: err}
	}
	if fault, _ := f.callLocked("list", name); fault.Err != nil {
		return nil, &fs.PathError{Op: "list", Path: name, Err: fault.Err}
	}
	names := make([]string, 0, len(d.now))
	for n := range d.now {
		names = append(names, n)
	}
	slices.Sort(names)
	return names, nil
}

// Mkdir implements filejournal.FS.
func (f *FS) Mkdir(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	fail := func(err error) error { return &fs.PathError{Op: "mkdir", Path: name, Err: err} }
	if _, err := f.dir(name); err == nil {
		return fail(fs.ErrExist)
	}
	d, base, err := f.parent(name)
	if err != nil {
		return fail(err)
	}
	if d.now[base] != nil {
		return fail(fs.ErrExist)
	}
	fault, do := f.callLocked("mkdir", name)
	if do {
		d.change(map[string]*inode{base: {dir: newDir()}})
	}
	if fault.Err != nil {
		return fail(fault.Err)
	}
	return nil
}

// SyncDir implements filejournal.FS.
func (f *FS) SyncDir(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.dir(name)
	if err != nil {
		return &fs.PathError{Op: "sync", Path: name, Err: err}
	}
	fault, do := f.callLocked("syncdir", name)
	if do {
		d.changes = nil
		clear(d.synced)
		apply(d.synced, d.now)
	}
	return fault.Err
}

// Volatile implements filejournal.FS: what was synced is there after a crash.
func (f *FS) Volatile(string) bool { return false }

// Boot implements filejournal.FS.
func (f *FS) Boot() []byte { return []byte(f.boot) }

// Wait implements filejournal.FS.
func (f *FS) Wait(word *uint32, old uint32, d time.Duration) {
	f.mu.Lock()
	woken := f.wake
	f.mu.Unlock()
	if atomic.LoadUint32(word) != old {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-woken:
	case <-t.C:
	}
}

// Wake implements filejournal.FS.
func (f *FS) Wake(*uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.wake)
	f.wake = make(chan struct{})
}
