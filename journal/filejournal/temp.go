package filejournal

import (
	"os"
	"path/filepath"
	"strings"
)

// tempFile makes a file under a name of its own. It is locked while it is open,
// which tells it from one whose process died.
func tempFile(fsys FS, dir string) (File, string, error) {
	for {
		path := filepath.Join(dir, randomName(tmpPrefix))
		f, err := fsys.Open(path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
		if err != nil {
			return nil, "", err
		}
		kept, err := keep(f, path)
		if kept {
			return f, path, nil
		}
		f.Close()
		if err != nil {
			fsys.Remove(path)
			return nil, "", err
		}
	}
}

// keep locks f, which was just given the name path. It returns false if a sweep was
// faster and removed it.
func keep(f File, path string) (bool, error) {
	ok, err := f.TryLock()
	return ok && f.Is(path), err
}

// sweep removes the temporary files of processes that died. Nobody misses one, so
// what goes wrong is left to the next sweep.
func sweep(fsys FS, dir string) {
	names, err := fsys.List(dir)
	if err != nil {
		return
	}
	for _, name := range names {
		if strings.HasPrefix(name, tmpPrefix) {
			sweepOne(fsys, filepath.Join(dir, name))
		}
	}
}

func sweepOne(fsys FS, path string) {
	f, err := fsys.Open(path, os.O_RDWR)
	if err != nil {
		return
	}
	defer f.Close()
	if mine, _ := keep(f, path); mine {
		fsys.Remove(path)
	}
}
