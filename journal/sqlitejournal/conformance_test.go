package sqlitejournal_test

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/sqlitejournal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openAt opens a journal, makes it if it is missing, and closes it with the test.
func openAt(tb testing.TB, path string, cfg sqlitejournal.Config) *sqlitejournal.Journal {
	tb.Helper()
	cfg.Create = !cfg.ReadOnly
	j, err := sqlitejournal.Open(tb.Context(), path, cfg)
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

// places opens journals for the suite and knows where they are. wrap is called for
// each handle.
type places struct {
	paths map[journal.Journal]string
	name  string
	wrap  func(testing.TB, journal.Journal) journal.Journal
}

func (p *places) open(tb testing.TB, path string) journal.Journal {
	j := p.wrap(tb, openAt(tb, path, sqlitejournal.Config{Name: p.name}))
	p.paths[j] = path
	return j
}

func (p *places) config() journaltest.Config {
	p.paths = map[journal.Journal]string{}
	return journaltest.Config{
		Open:   func(tb testing.TB) journal.Journal { return p.open(tb, filepath.Join(tb.TempDir(), "j.db")) },
		Reopen: func(tb testing.TB, j journal.Journal) journal.Journal { return p.open(tb, p.paths[j]) },
	}
}

func asIs(_ testing.TB, j journal.Journal) journal.Journal { return j }

func TestConformance(t *testing.T) {
	t.Parallel()
	p := places{wrap: asIs}
	journaltest.Run(t, p.config())
}

// The contract holds through the fault wrapper too, and for a journal with others
// beside it in the database.
func TestConformanceThroughFaulty(t *testing.T) {
	t.Parallel()
	p := places{name: "b", wrap: func(tb testing.TB, j journal.Journal) journal.Journal {
		return journaltest.NewFaulty(tb, j, 0)
	}}
	cfg := p.config()
	cfg.Open = func(tb testing.TB) journal.Journal {
		path := filepath.Join(tb.TempDir(), "j.db")
		journaltest.Write(tb, openAt(tb, path, sqlitejournal.Config{Name: "a"}), 3)
		j := p.open(tb, path)
		journaltest.Write(tb, openAt(tb, path, sqlitejournal.Config{Name: "c"}), 3)
		return j
	}
	journaltest.Run(t, cfg)
}

func BenchmarkJournal(b *testing.B) {
	p := places{wrap: asIs}
	journaltest.Bench(b, p.config().Open)
}
