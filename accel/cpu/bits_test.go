package cpu_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Every kernel gives the same bits in a build that fuses and in one that cannot.
func TestSameBitsOnV1AndV3(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skipf("GOAMD64 means nothing on %s", runtime.GOARCH)
	}
	v1, v3 := bits(t, "v1"), bits(t, "v3")
	if len(v1) != len(v3) || len(v1) < 16 {
		t.Fatalf("%d lines from v1, %d from v3, want 16 each", len(v1), len(v3))
	}
	last := len(v1) - 1
	for i := range last {
		if v1[i] != v3[i] {
			t.Errorf("v1 gives %q, v3 gives %q", v1[i], v3[i])
		}
	}
	// Without this the comparison above would prove nothing.
	if v1[last] != "fused false" || v3[last] != "fused true" {
		t.Errorf("v1 says %q and v3 %q: one build should fuse x*y+z and the other not", v1[last], v3[last])
	}
}

// bits builds and runs testdata/bits for a level and returns its lines.
func bits(t *testing.T, level string) []string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "bits-"+level)
	build := exec.Command("go", "build", "-o", program, "./testdata/bits")
	build.Env = append(os.Environ(), "GOAMD64="+level)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	out, err := exec.Command(program).CombinedOutput()
	if err != nil {
		if strings.Contains(string(out), "microarchitecture support") {
			t.Skipf("this processor cannot run GOAMD64=%s", level)
		}
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}
