package crashfs

import (
	"encoding/binary"
	"io"
	"sync/atomic"
	"unsafe"

	"understudy.dev/journal/filejournal"
)

// sectorBytes is what a disk writes at once, as a rule.
const sectorBytes = 512

// pageBytes is what the system keeps in memory, writes and forgets at once.
const pageBytes = 4096

// An inode is a file's content, or a folder.
type inode struct {
	dir    *dir             // nil of a file, which has the rest
	data   []byte           // as it is
	synced []byte           // as it was at the last sync
	past   map[int][][]byte // sectors written since, as they were in between
	stuck  map[int]bool     // pages whose sync failed: only writing them again makes them durable
	mapped bool             // data may be changed without a call and must not move
	locked *file
}

// A file is an open file.
type file struct {
	fs       *FS
	n        *inode
	name     string
	writable bool
	closed   bool
}

var _ filejournal.File = (*file)(nil)

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if fault, _ := f.fs.callLocked("read", f.name); fault.Err != nil {
		return 0, fault.Err
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if !f.writable {
		panic("crashfs: write to a file opened for reading")
	}
	fault, do := f.fs.callLocked("write", f.name)
	if !do {
		p = p[:min(fault.Short, len(p))]
	}
	if len(p) > 0 {
		f.n.write(p, off)
	}
	if fault.Err != nil {
		return len(p), fault.Err
	}
	return len(p), nil
}

// write changes the content and remembers the sectors as they were.
func (n *inode) write(p []byte, off int64) {
	if end := int(off) + len(p); end > len(n.data) {
		n.grow(end)
	}
	if n.past == nil {
		n.past = make(map[int][][]byte)
	}
	for s := int(off) / sectorBytes; s*sectorBytes < int(off)+len(p); s++ {
		n.past[s] = append(n.past[s], append([]byte(nil), sector(n.data, s)...))
		delete(n.stuck, s*sectorBytes/pageBytes)
	}
	copy(n.data[off:], p)
}

// grow makes the content longer. It is aligned as mapped memory is.
func (n *inode) grow(size int) {
	if n.mapped {
		panic("crashfs: a mapped file grows")
	}
	if size > cap(n.data) {
		words := make([]uint64, (max(size, 2*cap(n.data))+7)/8)
		data := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(words)*8)
		copy(data, n.data)
		n.data = data[:len(n.data)]
	}
	n.data = n.data[:size]
}

// sector returns what lies in sector s of data; less than a sector at its end.
func sector(data []byte, s int) []byte {
	from := min(s*sectorBytes, len(data))
	return data[from:min(from+sectorBytes, len(data))]
}

func (f *file) Is(name string) bool {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	d, base, err := f.fs.parent(name)
	return err == nil && d.now[base] == f.n
}

func (f *file) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if fault, _ := f.fs.callLocked("size", f.name); fault.Err != nil {
		return 0, fault.Err
	}
	return int64(len(f.n.data)), nil
}

func (f *file) Sync() error { return f.sync("sync") }

func (f *file) Datasync() error { return f.sync("datasync") }

// sync makes the content durable. If it fails it makes nothing durable, and what
// was written since the last one may or may not reach the disk. As on Linux, the
// pages count as clean then, and a later sync that succeeds does not write them.
func (f *file) sync(op string) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	fault, do := f.fs.callLocked(op, f.name)
	if do {
		f.n.flush()
	} else {
		f.n.fail()
	}
	return fault.Err
}

// flush makes durable what is not stuck.
func (n *inode) flush() {
	old := n.synced
	n.synced = n.content()
	for s := range n.past {
		if !n.stuck[s*sectorBytes/pageBytes] {
			delete(n.past, s)
			continue
		}
		clear(sector(n.synced, s))
		copy(sector(n.synced, s), sector(old, s))
	}
}

// content returns a copy of the data. What is mapped is changed by others
// meanwhile, word by word, and is so read.
func (n *inode) content() []byte {
	if !n.mapped {
		return append([]byte(nil), n.data...)
	}
	c := make([]byte, len(n.data))
	words := len(c) / 8 * 8
	for i := 0; i < words; i += 8 {
		binary.NativeEndian.PutUint64(c[i:], atomic.LoadUint64((*uint64)(unsafe.Pointer(&n.data[i]))))
	}
	copy(c[words:], n.data[words:])
	return c
}

// fail makes the pages that were written since the last sync stuck.
func (n *inode) fail() {
	if n.stuck == nil {
		n.stuck = make(map[int]bool)
	}
	for s := range n.past {
		n.stuck[s*sectorBytes/pageBytes] = true
	}
}

func (f *file) TryLock() (bool, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if fault, _ := f.fs.callLocked("lock", f.name); fault.Err != nil {
		return false, fault.Err
	}
	if f.n.locked != nil && f.n.locked != f {
		return false, nil
	}
	f.n.locked = f
	return true, nil
}

// Unlock cannot fail: the death of a process gives locks back too.
func (f *file) Unlock() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.unlockLocked()
	return nil
}

func (f *file) unlockLocked() {
	if f.n.locked == f {
		f.n.locked = nil
	}
}

func (f *file) Map(size int) ([]byte, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if fault, _ := f.fs.callLocked("map", f.name); fault.Err != nil {
		return nil, fault.Err
	}
	f.n.mapped = true
	return f.n.data[:size:size], nil
}

func (f *file) Unmap([]byte) error { return nil }

func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.unlockLocked()
	f.closed = true
	return nil
}
