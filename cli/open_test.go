package cli

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy.dev/journal/filejournal"
)

// A folder that another process holds for recovery keeps no command longer than its
// --timeout allows, nor from a signal.
func TestOpeningIsBounded(t *testing.T) {
	var lock filejournal.File
	t.Cleanup(func() { lock.Close() }) // when the folder is gone, so that nothing is written into it
	dir := filepath.Join(t.TempDir(), "j")
	torn(t, dir)
	var err error
	lock, err = filejournal.OS().Open(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := lock.TryLock(); err != nil || !ok {
		t.Fatalf("TryLock = %v, %v", ok, err)
	}
	whole := filepath.Join(t.TempDir(), "whole")
	j := small(t, whole)
	write(t, j, 5)
	j.Close()

	for name, tt := range map[string]struct {
		url  string
		args []string
	}{
		"prune": {fileURL(dir), []string{"journal", "prune", "--before", "3", "--yes"}},
		"copy":  {fileURL(whole), []string{"journal", "copy", fileURL(dir)}},
	} {
		t.Run(name, func(t *testing.T) {
			const less = 5 * time.Second // than the 10 s for which a folder is waited for
			began := time.Now()
			run(t.Context(), tt.url, append(tt.args, "--timeout", "20ms")...).want(t, 1, "it was not open in time", "deadline exceeded")
			ctx, interrupt := context.WithCancel(t.Context())
			time.AfterFunc(50*time.Millisecond, interrupt)
			run(ctx, tt.url, append(tt.args, "--timeout", "1m")...).want(t, 130)
			if took := time.Since(began); took > less {
				t.Errorf("it took %v", took)
			}
		})
	}
}
