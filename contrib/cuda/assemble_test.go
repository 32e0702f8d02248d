package cuda

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The interpreter is no authority on PTX; NVIDIA's assembler is, where there is
// one: the driver has it inside. It takes the kernels as they are and has nothing
// to say about them.
func TestAssembles(t *testing.T) {
	for _, arch := range []string{"sm_80", "sm_90", "sm_100"} {
		t.Run(arch, func(t *testing.T) { assemble(t, arch, string(ptx)) })
	}
}

// The code for a GPU has no fused multiply-add but in the routines for division and
// square root, which ptxas puts in and which round once: without those operations
// there is none. Without .rn there are, so the disassembly is able to tell.
func TestNothingIsFused(t *testing.T) {
	disassembler, err := exec.LookPath("nvdisasm")
	if err != nil {
		t.Skip(err)
	}
	plain := regexp.MustCompile(`(?:div|sqrt)\.rn\.(f\d\d) (\w+), (\w+).*;`).ReplaceAllString(string(ptx), "mov.$1 $2, $3;")
	fusible := regexp.MustCompile(`(add|sub|mul)\.rn\.f`).ReplaceAllString(plain, "$1.f")
	fused := regexp.MustCompile(`\b[FD]FMA\b`)
	for _, arch := range []string{"sm_80", "sm_90", "sm_100"} {
		t.Run(arch, func(t *testing.T) {
			count := func(text string) int {
				out, err := exec.Command(disassembler, "-c", assemble(t, arch, text)).Output()
				if err != nil {
					t.Fatal(err)
				}
				return len(fused.FindAll(out, -1))
			}
			if n := count(plain); n != 0 {
				t.Errorf("%d fused multiply-adds", n)
			}
			if count(fusible) == 0 {
				t.Error("no fused multiply-add where nothing forbids it: this test sees none")
			}
		})
	}
}

// assemble returns a file of the text's code for a GPU.
func assemble(t *testing.T, arch, text string) string {
	t.Helper()
	assembler, err := exec.LookPath("ptxas")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	source, object := filepath.Join(dir, "kernels.ptx"), filepath.Join(dir, "kernels.cubin")
	must(t, os.WriteFile(source, []byte(text), 0o600))
	out, err := exec.Command(assembler, "-arch="+arch, source, "-o", object).CombinedOutput()
	if strings.Contains(string(out), "is not defined for option 'gpu-name'") {
		t.Skipf("this ptxas does not know %s", arch)
	}
	if err != nil || len(out) > 0 {
		t.Fatalf("ptxas: %v\n%s", err, out)
	}
	return object
}
