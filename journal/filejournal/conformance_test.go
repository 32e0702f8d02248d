package filejournal_test

import (
	"testing"

	"go.uber.org/goleak"

	"understudy.dev/internal/crashfs"
	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/journaltest"
)

// small makes segments small enough that tests cross their borders.
const small = 16 << 10

func openAt(tb testing.TB, dir string, cfg filejournal.Config) *filejournal.Journal {
	tb.Helper()
	j, err := filejournal.Open(dir, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := j.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return j
}

// The contract holds on the machine's file system and in memory, with segments
// that a case crosses many times.
func TestConformance(t *testing.T) {
	t.Run("disk", func(t *testing.T) {
		dirs := map[journal.Journal]string{}
		open := func(tb testing.TB, dir string) journal.Journal {
			j := openAt(tb, dir, filejournal.Config{SegmentBytes: small})
			dirs[j] = dir
			return j
		}
		journaltest.Run(t, journaltest.Config{
			Open:   func(tb testing.TB) journal.Journal { return open(tb, tb.TempDir()) },
			Reopen: func(tb testing.TB, j journal.Journal) journal.Journal { return open(tb, dirs[j]) },
		})
	})
	t.Run("memory", func(t *testing.T) {
		disks := map[journal.Journal]*crashfs.FS{}
		open := func(tb testing.TB, disk *crashfs.FS) journal.Journal {
			j := openAt(tb, "j", filejournal.Config{SegmentBytes: small, FS: disk})
			disks[j] = disk
			return j
		}
		journaltest.Run(t, journaltest.Config{
			Open:   func(tb testing.TB) journal.Journal { return open(tb, crashfs.New()) },
			Reopen: func(tb testing.TB, j journal.Journal) journal.Journal { return open(tb, disks[j]) },
		})
	})
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
