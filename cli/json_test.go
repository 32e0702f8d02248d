package cli

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/json.md names the fields of what the commands print, in their order.
func TestDocsNameFieldsOfCommands(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "docs", "json.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|")
	for heading, v := range map[string]any{"submit": submitAnswer{}, "replay": replayResult{}, "verify": verifyResult{}} {
		_, section, ok := strings.Cut(string(data), "\n## "+heading+" --json\n")
		if !ok {
			t.Errorf("docs/json.md does not describe %s --json", heading)
		}
		section, _, _ = strings.Cut(section, "\n## ")
		var got []string
		for _, m := range row.FindAllStringSubmatch(section, -1) {
			got = append(got, m[1])
		}
		if want := fieldsOf(v); !slices.Equal(got, want) {
			t.Errorf("%s --json: docs/json.md names %v, want %v", heading, got, want)
		}
	}
}

// fieldsOf returns the names of a struct's fields in JSON.
func fieldsOf(v any) []string {
	var names []string
	for f := range reflect.TypeOf(v).Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}
