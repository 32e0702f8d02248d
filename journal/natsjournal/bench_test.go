package natsjournal_test

import (
	"testing"

	"understudy.dev/internal/natsserver"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/natsjournal"
)

// The server shares the machine with the client and does not sync.
func BenchmarkJournal(b *testing.B) {
	srv := startServer(b, natsserver.Config{})
	s := &streams{config: natsjournal.Config{InProcess: srv}}
	journaltest.Bench(b, s.conformance().Open)
}
