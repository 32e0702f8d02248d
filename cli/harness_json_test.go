package cli

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// printed returns one of each thing that the commands over recorded runs print, with
// every field filled, by the heading in docs/json.md that describes it.
func printed() map[string]any {
	element := int64(3)
	ops := []opsCount{{"alloc", 1}}
	some, counts := []allocation{{"device 0.0", "0x1000", 512, 1}}, []poolCount{{"device 0.0", 1}}
	inputs := []recordInput{{1, "shuffle", "7"}}
	return map[string]any{
		"replay --sink":  sinkResult{Error: "disk is full"},
		"capture import": captureImported{Ops: ops},
		"capture check": captureReport{
			Ops: ops, Streams: []streamCount{{7, 1}}, Unmatched: some, Live: some, Counted: counts, Lost: counts, Fault: &captureFault{},
			Part: &capturePart{},
		},
		"capture ls": captureRun{Cut: "interrupted", Seeds: inputs, BatchSizes: inputs},
		"diff":       diffResult{Data: &dataResult{}, Device: &deviceResult{Element: &element}},
	}
}

// docs/json.md names every field of what is printed, and none that does not exist.
func TestDocsNameEveryPrintedField(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "docs", "json.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := printedFields(string(doc))
	for name, v := range printed() {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var tree any
		if err := json.Unmarshal(b, &tree); err != nil {
			t.Fatal(err)
		}
		want := map[string]bool{}
		addFields(want, "", tree)
		if got := documented[name]; !maps.Equal(got, want) {
			t.Errorf("%s: docs/json.md has %v, want %v", name, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
	}
	if len(documented) != len(printed()) {
		t.Errorf("docs/json.md describes %v, want %v", slices.Sorted(maps.Keys(documented)), slices.Sorted(maps.Keys(printed())))
	}
}

// printedFields returns the first column of each table that is headed "printed", by
// the heading above it.
func printedFields(doc string) map[string]map[string]bool {
	row := regexp.MustCompile("^\\| `([a-z_.\\[\\]]+)` \\|")
	fields := map[string]map[string]bool{}
	heading, inside := "", false
	for line := range strings.Lines(doc) {
		switch m := row.FindStringSubmatch(line); {
		case strings.HasPrefix(line, "## "):
			heading = strings.TrimSpace(line[3:])
		case strings.HasPrefix(line, "| printed |"):
			inside, fields[heading] = true, map[string]bool{}
		case !strings.HasPrefix(line, "|"):
			inside = false
		case m != nil && inside:
			fields[heading][m[1]] = true
		}
	}
	return fields
}

// addFields adds the path of each field below v.
func addFields(into map[string]bool, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, sub := range v {
			p := strings.TrimPrefix(path+"."+k, ".")
			into[p] = true
			addFields(into, p, sub)
		}
	case []any:
		if len(v) > 0 {
			delete(into, path)
			into[path+"[]"] = true
			addFields(into, path+"[]", v[0])
		}
	}
}
