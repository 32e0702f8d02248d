package harness

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"
)

// An actor's memory of names is bounded, and does not hold on to what a name was
// cut from.
func TestScopedNamesAreBounded(t *testing.T) {
	a := &Actor{path: "gpu0"}
	for i := range 3 * maxScoped {
		if got, want := a.scoped(&a.commands, fmt.Sprint(i), a.command), fmt.Sprint("gpu0: ", i); got != want {
			t.Fatalf("scoped = %q, want %q", got, want)
		}
		if len(a.commands) > maxScoped {
			t.Fatalf("%d names are kept, want at most %d", len(a.commands), maxScoped)
		}
	}
	a.commands = nil
	name := strings.Repeat("x", 1<<10)[:4]
	a.scoped(&a.commands, name, a.command)
	for kept := range a.commands {
		if kept != name || unsafe.StringData(kept) == unsafe.StringData(name) {
			t.Errorf("the name %q is kept in the caller's memory", kept)
		}
	}
}
