package sqlitejournal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"understudy.dev/journal"
)

// lookEvery is how old the last look at the files may be when an append or a
// fence is acknowledged. A look takes a few microseconds.
const lookEvery = 100 * time.Millisecond

// A place is a database file that handles of this process share: they take turns
// to write rather than ask SQLite over and over, and wake each other's followers.
type place struct {
	path string
	file os.FileInfo
	turn chan struct{} // holds the token of whoever may ask for the write lock
	refs int           // under places.mu

	mu       sync.Mutex
	watchers map[int64]chan struct{}
}

var places struct {
	mu  sync.Mutex
	all []*place
}

// placeOf returns the place of the file at path, which exists.
func placeOf(path string) (*place, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	places.mu.Lock()
	defer places.mu.Unlock()
	for _, p := range places.all {
		if os.SameFile(p.file, info) && p.path == path {
			p.refs++
			return p, nil
		}
	}
	p := &place{path: path, file: info, turn: make(chan struct{}, 1), refs: 1, watchers: map[int64]chan struct{}{}}
	p.turn <- struct{}{}
	places.all = append(places.all, p)
	return p, nil
}

// release gives a reference back.
func (p *place) release() {
	places.mu.Lock()
	defer places.mu.Unlock()
	if p.refs--; p.refs > 0 {
		return
	}
	for i, o := range places.all {
		if o == p {
			places.all = append(places.all[:i], places.all[i+1:]...)
			return
		}
	}
}

// watch returns a channel that is closed when this process writes to a journal.
func (p *place) watch(id int64) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.watchers[id]
	if !ok {
		c = make(chan struct{})
		p.watchers[id] = c
	}
	return c
}

// wake wakes those who watch a journal.
func (p *place) wake(id int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.watchers[id]; ok {
		close(c)
		delete(p.watchers, id)
	}
}

// remember keeps in mind which log and index belong to the database. A connection
// of this handle is open: so both are there, in WAL mode, and nobody removes them
// before it is closed.
func (j *Journal) remember() {
	for _, path := range []string{j.path + "-wal", j.path + "-shm"} {
		if info, err := os.Stat(path); err == nil {
			j.log[path] = info
		}
	}
}

// lost returns an error matching journal.ErrLost if a file that was opened is no
// longer at its path.
func (j *Journal) lost() error {
	if !isAt(j.place.file, j.path) {
		return replaced(j.path)
	}
	for path, info := range j.log {
		if !isAt(info, path) {
			return replaced(path)
		}
	}
	return nil
}

// isAt reports whether a file is the one at path. What cannot be looked at counts
// as there: it says nothing about what was opened.
func isAt(info os.FileInfo, path string) bool {
	now, err := os.Stat(path)
	return err == nil && os.SameFile(info, now) || err != nil && !errors.Is(err, fs.ErrNotExist)
}

// replaced is the error about a file that is open here and no longer found at
// its path.
func replaced(path string) error {
	return fmt.Errorf("%w: %s was removed or replaced while it was in use, and with it what was written to it; "+
		"stop all that use the journal, put back what was there, and start again", journal.ErrLost, path)
}
