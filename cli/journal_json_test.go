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

// docs/json.md names the fields of what the journal commands print, in their order,
// and which of them may be absent.
func TestDocsNameFieldsOfJournalCommands(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "docs", "json.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| ([^|]*) \\|")
	for command, v := range map[string]any{
		"info": journalInfo{}, "ls": journalEntry{}, "cat": journalRecord{}, "verify": journalVerified{}, "export": journalExported{},
		"copy": journalCopied{}, "prune": journalPruned{}, "serve": journalReady{},
	} {
		_, section, ok := strings.Cut(string(doc), "\n## journal "+command+" --json\n")
		if !ok {
			t.Errorf("docs/json.md does not describe journal %s --json", command)
		}
		section, _, _ = strings.Cut(section, "\n## ")
		var got []string
		for _, m := range row.FindAllStringSubmatch(section, -1) {
			name := m[1]
			if strings.HasSuffix(m[2], ", may be absent") {
				name += ",omitempty"
			}
			got = append(got, name)
		}
		if want := tagsOf(reflect.TypeOf(v)); !slices.Equal(got, want) {
			t.Errorf("journal %s --json: docs/json.md names\n%v, want\n%v", command, got, want)
		}
	}
}

// tagsOf returns what the tags of a struct say, those of an embedded one in its place.
func tagsOf(typ reflect.Type) []string {
	var tags []string
	for f := range typ.Fields() {
		if f.Anonymous {
			tags = append(tags, tagsOf(f.Type)...)
		} else {
			tags = append(tags, f.Tag.Get("json"))
		}
	}
	return tags
}
