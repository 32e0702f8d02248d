package cli_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// maxReleaseBytes bounds the released binary. It had 31.2 MB in November 2026
// (linux/amd64, go1.26), most of it the embedded NATS server, then SQLite.
const maxReleaseBytes = 32 << 20

func TestReleaseSize(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the released binary")
	}
	out := filepath.Join(t.TempDir(), "understudy")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "../cmd/understudy")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if words, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, words)
	}
	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Size(); got > maxReleaseBytes {
		t.Errorf("the released binary has %d bytes, want at most %d", got, maxReleaseBytes)
	}
}

// The README shows the example; a reader sees it on one screen.
func TestExampleIsShort(t *testing.T) {
	data, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := bytes.Count(data, []byte("\n")), 40; got > want {
		t.Errorf("example_test.go has %d lines, want at most %d", got, want)
	}
}
