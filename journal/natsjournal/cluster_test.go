package natsjournal_test

import (
	"strings"
	"testing"

	"understudy.dev/internal/natsserver"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/natsjournal"
)

// startCluster runs three servers for one test.
func startCluster(tb testing.TB) *natsserver.LocalCluster {
	tb.Helper()
	if testing.Short() {
		tb.Skip("a cluster of three takes seconds")
	}
	c, err := natsserver.StartLocalCluster(tb.Context(), natsserver.LocalClusterConfig{Dir: tb.TempDir(), NoSync: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Shutdown)
	return c
}

func TestConformanceOnThreeReplicas(t *testing.T) {
	c := startCluster(t)
	s := &streams{config: natsjournal.Config{URL: strings.Join(c.ClientURLs(), ","), Replicas: 3}}
	cfg := s.conformance()
	cfg.Steps = 80
	journaltest.Run(t, cfg)
}
