package filejournal

import (
	"fmt"
	"path/filepath"
	"time"

	"understudy.dev/journal"
)

// lookEvery is how old the last look at the files may be when an append or a
// fence is acknowledged. A look takes about 5 µs, an append 50 µs and more.
const lookEvery = 100 * time.Millisecond

// replaced is the error about a file that is open here and no longer found at
// its path.
func replaced(path string) error {
	return fmt.Errorf("%w: %s was removed or replaced while it was in use, and with it what was written to it; "+
		"stop all that use the journal, put back what was there, and start again", journal.ErrLost, path)
}

// lost returns an error matching journal.ErrLost if the state file or a segment
// that this handle has open is no longer in its folder. seg may be nil.
//
// A segment that was trimmed may be gone: Trim says so before it removes it.
func (j *Journal) lost(seg *segment) error {
	if !j.st.file.Is(j.st.path) {
		return replaced(j.st.path)
	}
	if seg != nil && !seg.file.Is(seg.path) && seg.start() >= j.st.trimmed() {
		return replaced(seg.path)
	}
	return nil
}

// look finds out whether the files that this handle writes to and reads from are
// still those of the folder. If not, the handle is broken for good: what it has
// written since, nobody will find. The caller has the turn.
func (j *Journal) look() error {
	now := time.Now()
	err := j.lost(j.seg)
	if err == nil {
		err = j.lost(j.behind.seg)
	}
	if err == nil && j.lock != nil {
		if path := filepath.Join(j.dir, lockName(j.lockedAt)); !j.lock.Is(path) {
			err = replaced(path)
		}
	}
	if err != nil {
		return j.fail(err)
	}
	j.looked = now
	return nil
}

// lookInTurn looks if the last look is lookEvery ago.
func (j *Journal) lookInTurn() error {
	if time.Since(j.looked) < lookEvery {
		return nil
	}
	return j.look()
}

// lookFirst returns what a look finds, or else err: files that are gone explain
// whatever else went wrong, and it does not pass.
func (j *Journal) lookFirst(err error) error {
	if lost := j.look(); lost != nil {
		return lost
	}
	return err
}
