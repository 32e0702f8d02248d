package sqlitejournal_test

import (
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/sqlitejournal"
)

// wantFull appends until the journal is full: then nothing was written, and the
// handle goes on when there is room again.
func wantFull(t *testing.T, j *sqlitejournal.Journal, p *journaltest.Pen, free func()) {
	t.Helper()
	var err error
	for range 1000 {
		if err = p.Append(t.Context(), j, journaltest.Records(1, 20_000)...); err != nil {
			break
		}
	}
	if !errors.Is(err, journal.ErrFull) || journal.OutcomeOf(err) != journal.NotDone {
		t.Fatalf("Append to a full journal = %v, want ErrFull, not done", err)
	}
	wantEntries(t, j, 0, p.Entries())
	free()
	must(t, p.Append(t.Context(), j, journaltest.Records(1, 20_000)...))
	must(t, p.Fence(t.Context(), j, 2))
	wantEntries(t, j, 0, p.Entries())
}

// The database may not grow.
func TestFullDatabase(t *testing.T) {
	path := newPath(t)
	j := openAt(t, path, sqlitejournal.Config{})
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	must(t, j.Limit(50))
	wantFull(t, j, p, func() { must(t, j.Limit(0)) })
	closing(t, j)
	wantEntries(t, openAt(t, path, sqlitejournal.Config{}), 0, p.Entries())
}

// The disk has no room: the log cannot be written when the transaction is
// committed. What was refused is not there after a reopening either.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	defer func() { must(t, syscall.Unmount(dir, 0)) }()
	ballast := filepath.Join(dir, "ballast")
	must(t, os.WriteFile(ballast, make([]byte, 1<<20), 0o600))
	path := filepath.Join(dir, "j.db")
	j := openAt(t, path, sqlitejournal.Config{})
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	refusals := 0
	wantFull(t, j, p, func() {
		for size := 100_000; size > 3000; size -= 500 { // each leaves less of itself in the log than the one before
			if err := p.Append(t.Context(), j, journaltest.Records(1, size)...); errors.Is(err, journal.ErrFull) {
				refusals++
			}
		}
		must(t, os.Remove(ballast))
	})
	if refusals == 0 {
		t.Error("nothing was refused")
	}
	crashed := newPath(t)
	for _, suffix := range []string{"", "-wal"} { // what the log has behind its end is no damage
		b, err := os.ReadFile(path + suffix)
		must(t, err)
		must(t, os.WriteFile(crashed+suffix, b, 0o600))
	}
	wantEntries(t, openAt(t, crashed, sqlitejournal.Config{}), 0, p.Entries())
	closing(t, j)
	j = openAt(t, path, sqlitejournal.Config{})
	wantEntries(t, j, 0, p.Entries())
	closing(t, j)
}

// On a file system that cannot be written nothing can be opened, since a reader
// needs the log's index too; the error says why.
func TestReadOnlyFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("cannot mount a file system: %v", err)
	}
	defer func() { must(t, syscall.Unmount(dir, 0)) }()
	path := filepath.Join(dir, "j.db")
	j := openAt(t, path, sqlitejournal.Config{})
	journaltest.Write(t, j, 3)
	closing(t, j)
	must(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	for _, cfg := range []sqlitejournal.Config{{}, {Create: true}, {ReadOnly: true}} {
		j, err := sqlitejournal.Open(t.Context(), path, cfg)
		if err == nil {
			closing(t, j)
		}
		if err == nil || !strings.Contains(err.Error(), "the folder must be writable") {
			t.Errorf("Open %+v on a read-only file system = %v, want an error that says what is needed", cfg, err)
		}
	}
}

// A write that fails for another reason than room ends the handle for good; a new
// one finds what was acknowledged, and nothing in part.
func TestFailedWriteIsFinal(t *testing.T) {
	path := newPath(t)
	j := openAt(t, path, sqlitejournal.Config{})
	p := journaltest.NewPen("a")
	must(t, p.Fence(t.Context(), j, 1))
	must(t, p.Append(t.Context(), j, journaltest.Records(1, 100)...))

	log, err := os.Stat(path + "-wal")
	must(t, err)
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var was syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was))
	must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(log.Size()) + 6000, Max: was.Max}))
	err = p.Append(t.Context(), j, journaltest.Records(1, 100_000)...)
	must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was))
	if !errors.Is(err, journal.ErrBroken) || journal.OutcomeOf(err) != journal.Unknown {
		t.Fatalf("Append with a failing disk = %v, want ErrBroken, unknown", err)
	}
	for call, err := range map[string]error{
		"Append": p.Append(t.Context(), j, journaltest.Records(1, 8)...),
		"Fence":  func() error { _, err := j.Fence(t.Context(), 2, "b"); return err }(),
		"Trim":   j.Trim(t.Context(), 1),
	} {
		if !errors.Is(err, journal.ErrBroken) {
			t.Errorf("%s on the same handle = %v, want ErrBroken", call, err)
		}
	}
	closing(t, j)
	j = openAt(t, path, sqlitejournal.Config{})
	wantEntries(t, j, 0, p.Entries())
	must(t, p.Append(t.Context(), j, journaltest.Records(1, 8)...))
	wantEntries(t, j, 0, p.Entries())
}
