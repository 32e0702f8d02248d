package filejournal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"understudy.dev/journal"
)

// openPatience is how long Open waits for another handle that writes or recovers.
const openPatience = 10 * time.Second

// errNoBoot: without it nobody can tell a machine that was restarted from one
// that was not.
var errNoBoot = errors.New("the system does not tell when it was started")

func open(dir string, cfg Config) (*Journal, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	flag := os.O_RDONLY
	if !cfg.ReadOnly {
		flag = os.O_RDWR
		if err := prepare(cfg.FS, dir); err != nil {
			return nil, err
		}
	}
	st, err := openState(cfg.FS, dir, flag)
	if err != nil {
		return nil, missingState(cfg.FS, dir, err)
	}
	j := &Journal{dir: dir, fsys: cfg.FS, cfg: cfg, st: st, closed: make(chan struct{}), turn: make(chan struct{}, 1)}
	j.refs.Store(1)
	j.behind = j.newReader(0)
	if cfg.ReadOnly {
		err = j.examineUntilStill()
	} else {
		err = j.attach()
	}
	if err != nil {
		j.behind.close()
		if j.lock != nil {
			j.lock.Close()
		}
		st.close()
		return nil, err
	}
	if !cfg.ReadOnly {
		j.helper = newHelper(j.fsys, dir, cfg)
		j.mendIndexes()
	}
	j.give()
	return j, nil
}

// prepare makes the folder and the state file of a new journal. Before the state
// file is there, the folder's name is durable: nothing that will be acknowledged
// can vanish with it.
func prepare(fsys FS, dir string) error {
	names, err := fsys.List(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range names {
		if _, ok := parseSegmentName(name); ok || name == stateName {
			return nil // not new
		}
	}
	if err := makeFolder(fsys, dir); err != nil {
		return err
	}
	return createState(fsys, dir)
}

// makeFolder makes a folder and those above it that are missing, each only when
// the name of the one above is durable, and makes its own name durable. A folder
// that is found was perhaps made a moment ago, by a process that died before it came
// to that, or has yet to: its name is made durable too. Those above it are, by that
// order, or are older than this journal and whoever makes it.
func makeFolder(fsys FS, dir string) error {
	above := filepath.Join(dir, "..") // unlike filepath.Dir, of "." too
	_, err := fsys.List(dir)
	absent := errors.Is(err, fs.ErrNotExist) && above != dir
	if absent {
		if err := makeFolder(fsys, above); err != nil {
			return err
		}
		if err := fsys.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	err = fsys.SyncDir(above)
	if !absent && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EINVAL)) {
		// It may not be read, or its file system has nothing to sync: no process
		// like this one made dir in it.
		return nil
	}
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

// missingState says what it means if there are segments and no state file.
func missingState(fsys FS, dir string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if all, listErr := segmentFiles(fsys, dir); listErr != nil || len(all) == 0 {
		return err
	}
	return &journal.CorruptError{What: "missing state file", Source: filepath.Join(dir, stateName), Err: fmt.Errorf("%w: %w", ErrMissing, err)}
}

// attach opens a journal for writing. The first handle after a restart of the
// machine recovers it, alone; later ones find the mapped block current.
func (j *Journal) attach() error {
	if len(j.fsys.Boot()) == 0 {
		return errNoBoot
	}
	if !j.st.current() {
		if err := j.recoverAlone(); err != nil {
			return err
		}
	}
	sweep(j.fsys, j.dir)
	if err := j.attachLock(); err != nil {
		return err
	}
	return j.attachTail()
}

// attachLock tries to get the right to write, so that what a dead writer left
// can be put in order. A writer that was stopped is not waited for: with it,
// there is nothing to put in order yet.
func (j *Journal) attachLock() error {
	for deadline := time.Now().Add(j.cfg.Patience); ; time.Sleep(time.Millisecond) {
		ok, err := j.tryLock()
		if err != nil || ok {
			return err
		}
		if time.Now().After(deadline) {
			j.lock.Close()
			j.lock = nil
			return nil
		}
	}
}

// attachTail reads the newest segment up to the published end.
func (j *Journal) attachTail() error {
	if err := j.examineUntilStill(); err != nil {
		return err
	}
	if j.lock == nil {
		return nil
	}
	if err := j.enter(); err != nil {
		return err
	}
	return j.lock.Unlock()
}

// examineUntilStill examines the journal, again if something changed meanwhile
// and it failed. It takes the right to write from nobody.
func (j *Journal) examineUntilStill() error {
	for try := 0; ; try++ {
		current := j.st.current()
		generation, end := j.st.load()
		trimmed := j.st.trimmed()
		x, err := examine(j.fsys, j.dir, j.st, os.O_RDONLY, current)
		if err == nil {
			j.use(x)
			return nil
		}
		g, e := j.st.load()
		if try == 100 || current == j.st.current() && g == generation && e == end && trimmed == j.st.trimmed() {
			return err
		}
		if err := j.st.readAnchors(); err != nil {
			return err
		}
	}
}

// use takes over what was found.
func (j *Journal) use(x *examined) {
	if j.found == (Recovery{}) { // or else recoverAlone said more
		j.found = x.report
	}
	j.tail, j.still, j.era = x.tail, x.tail.cursor.Pos, x.generation
	if newest, ok := j.st.newestSegment(); !ok || x.last == nil || newest != x.last.start() {
		x.close() // a segment that was not announced may be put away
		return
	}
	j.behind.close()
	j.behind.at, j.behind.seg = x.tail.cursor.Pos, x.last // kept open, so that a look finds it replaced
}

// recoverAlone puts the journal in order after a restart of the machine.
func (j *Journal) recoverAlone() error {
	f, err := j.fsys.Open(filepath.Join(j.dir, recoverLock), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return fmt.Errorf("open lock: %w", err)
	}
	defer f.Close()
	for deadline := time.Now().Add(openPatience); ; time.Sleep(time.Millisecond) {
		ok, err := f.TryLock()
		if err != nil {
			return err
		}
		if ok {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("another process has been recovering the journal for %v", openPatience)
		}
	}
	if j.st.current() {
		return nil // somebody else just did it
	}
	if err := j.st.readAnchors(); err != nil {
		return err
	}
	x, err := examine(j.fsys, j.dir, j.st, os.O_RDWR, false)
	if err != nil {
		return err
	}
	defer x.close()
	if j.found, err = x.putInOrder(j.fsys, j.dir, j.st); err != nil {
		return err
	}
	if err := tidy(j.fsys, j.dir, j.st, j.cfg.SegmentBytes); err != nil {
		return err
	}
	j.st.revive(x.generation, j.st.anchor.first, x.last, x.tail.cursor.Pos)
	return nil
}

// tidy removes what an interrupted trim left, and the locks of generations that are
// over.
func tidy(fsys FS, dir string, st *state, wantBytes int64) error {
	names, err := fsys.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, lockPrefix) {
			if err := fsys.Remove(filepath.Join(dir, name)); err != nil {
				return fmt.Errorf("remove %s: %w", name, err)
			}
		}
	}
	return dropBefore(fsys, dir, st.id, st.anchor.first, wantBytes)
}
