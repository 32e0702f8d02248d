//go:build unix

package natsserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lock takes the directory for this server: two servers on one store would each
// acknowledge what the other does not have. The kernel lets go of it when the
// process dies.
func lock(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		if errors.Is(err, unix.ENOTDIR) {
			return nil, fmt.Errorf("it, or what it lies in, is not a folder: %w", err)
		}
		return nil, fmt.Errorf("make journal directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "understudy.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock journal directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.New("another server, or a node with an embedded journal, runs in this directory: stop it, or reach it by its nats:// URL")
		}
		return nil, fmt.Errorf("lock journal directory: %w", err)
	}
	return f, nil
}
