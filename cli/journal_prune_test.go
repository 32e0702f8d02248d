package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"understudy.dev/admin"
	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
)

// keeping is a file system that gives up no segment: a machine that stops when a trim
// has said what is gone.
type keeping struct{ filejournal.FS }

var errKept = errors.New("the machine stopped")

func (keeping) Remove(name string) error { return kept(name) }

func (k keeping) Rename(from, to string) error {
	if err := kept(from); err != nil {
		return err
	}
	return k.FS.Rename(from, to)
}

func kept(name string) error {
	if strings.HasSuffix(name, ".udj") {
		return errKept
	}
	return nil
}

// A prune that was interrupted before it had removed the files is ended by the same
// command, which says so, and then there is nothing left to do.
func TestPruneEndsWhatWasInterrupted(t *testing.T) {
	ctx, dir := t.Context(), filepath.Join(t.TempDir(), "j")
	j := small(t, dir)
	write(t, j, 60, 60)
	j.Close()
	args := []string{"journal", "prune", "--before", "40"}
	var would journalPruned
	run(ctx, fileURL(dir), append(args, "--json")...).decode(t, &would)
	stopping, err := filejournal.Open(dir, filejournal.Config{SegmentBytes: 16 << 10, Foreground: true, FS: keeping{filejournal.OS()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := journal.Trim(ctx, stopping, journal.Position(would.Through)); !errors.Is(err, errKept) {
		t.Fatalf("Trim = %v", err)
	}
	stopping.Close()
	segments := func() int {
		files, err := filepath.Glob(filepath.Join(dir, "*.udj"))
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	before := segments()

	dry := run(ctx, fileURL(dir), args...)
	dry.want(t, 1, "would drop ", " that an earlier prune of ", "\nno more than that: ", "nothing changed", "--yes drops them")
	if segments() != before {
		t.Error("a dry run removed files")
	}
	var did journalPruned
	done := run(ctx, fileURL(dir), append(args, "--yes", "--json")...)
	done.want(t, 0)
	done.decode(t, &did)
	if !did.Pruned || did.Left == 0 || did.Left != before-segments() || did.Through != 0 || did.Trimmed != would.Through {
		t.Errorf("it says %+v, and of %d files %d are left", did, before, segments())
	}
	run(ctx, fileURL(dir), append(args, "--yes")...).want(t, 1, "dropped nothing of ", "nothing changed")
	run(ctx, fileURL(dir), "journal", "verify").want(t, 0, "sound")
}

// Text and exit code say as much as is certain of a prune that failed.
func TestPruneThatFailedIsNotSaidToHaveChangedNothing(t *testing.T) {
	for err, code := range map[error]int{
		errKept:                admin.ExitUnknown,
		journal.ErrBroken:      admin.ExitUnknown,
		journal.ErrReadOnly:    admin.ExitNotDone,
		journal.ErrUnsupported: admin.ExitNotDone,
	} {
		got := halfPruned(t.Context(), fmt.Errorf("trim: %w", err))
		if c := exitCode(t.Context(), got); c != code || strings.Contains(got.Error(), "may be gone") != (code == admin.ExitUnknown) {
			t.Errorf("of %v it says %q and exits with %d, want %d", err, got, c, code)
		}
	}
}

// A prune that a signal ended exits as one, and has the way on.
func TestPruneThatASignalEnded(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("interrupt signal received")
	cancel(cause)
	for _, err := range []error{cause, context.Canceled} {
		got := halfPruned(ctx, err)
		var h *hintError
		if c := exitCode(ctx, got); c != exitInterrupted || !errors.As(got, &h) || !strings.Contains(h.hint, "the same command ends it") {
			t.Errorf("of %v it says %v and exits with %d", err, got, c)
		}
	}
}

// A prune that set a torn end aside and dropped nothing does not say that nothing
// changed.
func TestPruneSaysWhatOpeningChanged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	torn(t, dir)
	r := run(t.Context(), fileURL(dir), "journal", "prune", "--before", "1", "--yes")
	r.want(t, 1, "nothing was dropped; opening the journal set its torn end aside")
	if strings.Contains(r.stderr, "nothing changed") {
		t.Errorf("it says %s", r.stderr)
	}
}
