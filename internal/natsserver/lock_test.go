//go:build unix

package natsserver_test

import (
	"strings"
	"testing"

	"understudy.dev/internal/natsserver"
)

// One server runs in a directory at a time; two would each acknowledge what the
// other does not have.
func TestOneServerADirectory(t *testing.T) {
	cfg := natsserver.Config{Dir: t.TempDir(), NoListen: true, NoSync: true}
	first, err := natsserver.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := natsserver.Start(t.Context(), cfg); err == nil {
		second.Shutdown()
		t.Error("a second server started in the same directory")
	} else if !strings.Contains(err.Error(), "another server") {
		t.Errorf("second start = %v, want it to say why", err)
	}
	first.Shutdown()
	again, err := natsserver.Start(t.Context(), cfg)
	if err != nil {
		t.Fatalf("start after the first ended = %v", err)
	}
	again.Shutdown()
}
