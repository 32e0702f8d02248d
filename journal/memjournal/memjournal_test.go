package memjournal_test

import (
	"testing"

	"go.uber.org/goleak"
	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// config makes journals; bubble says whether their time is not real.
func config(bubble bool) journaltest.Config {
	return journaltest.Config{
		Open: func(tb testing.TB) journal.Journal { return register(tb, memjournal.New()) },
		Reopen: func(tb testing.TB, j journal.Journal) journal.Journal {
			return register(tb, j.(*memjournal.Journal).Handle())
		},
		Bubble: bubble,
	}
}

func TestJournal(t *testing.T) { journaltest.Run(t, config(true)) }

func TestJournalInRealTime(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for real heartbeats")
	}
	journaltest.Run(t, config(false))
}

func register(tb testing.TB, j *memjournal.Journal) *memjournal.Journal {
	tb.Cleanup(func() { j.Close() })
	return j
}

func BenchmarkJournal(b *testing.B) { journaltest.Bench(b, config(false).Open) }
