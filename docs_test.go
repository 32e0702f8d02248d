package understudy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents returns the pages that a reader is shown.
func documents(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	return append(pages, "README.md", "CONTRIBUTING.md", "CHANGELOG.md")
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Code in a page that names its source is what the source says: it compiles and
// runs. The name stands in a comment before the block.
func TestDocumentCode(t *testing.T) {
	sourced := regexp.MustCompile("(?s)<!-- code: (\\S+) -->\\s*```go\n(.*?)```")
	found := 0
	for _, page := range documents(t) {
		for _, m := range sourced.FindAllStringSubmatch(read(t, page), -1) {
			found++
			source := strings.ReplaceAll(read(t, m[1]), "\t", "    ")
			code := strings.ReplaceAll(m[2], "\t", "    ")
			if !strings.Contains("\n"+source, "\n"+code) {
				t.Errorf("%s: the code that it shows of %s is not in it:\n%s", page, m[1], m[2])
			}
		}
	}
	if found < 2 {
		t.Errorf("%d blocks of code name their source, want the two of README.md at least", found)
	}
}

// The whole example of a binary fits on a page.
func TestCounterIsShort(t *testing.T) {
	const name = "cli/example_test.go"
	text := read(t, name)
	if got := strings.Count(text, "\n"); got > 40 {
		t.Errorf("%s has %d lines, want at most 40", name, got)
	}
	if readme := read(t, "README.md"); !strings.Contains(readme, text) {
		t.Errorf("README.md does not show %s as it is", name)
	}
}

// Every relative link leads to a file, and to a heading if it names one.
func TestDocumentLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, page := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, heading, _ := strings.Cut(m[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			} else if heading != "" && !slices.Contains(headings(read(t, target)), heading) {
				t.Errorf("%s links to %s: no such heading; there are %v", page, m[1], headings(read(t, target)))
			}
		}
	}
}

// headings returns the anchors of a page's headings, as they are commonly made.
func headings(text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			anchor := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
			list = append(list, strings.ReplaceAll(anchor, " ", "-"))
		}
	}
	return list
}

// Every command line that a page shows exists, with its flags.
func TestDocumentCommands(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "understudy")
	if out, err := exec.Command("go", "build", "-o", binary, "./cmd/understudy").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	dryParseFinds(t, binary)
	found := 0
	for _, page := range documents(t) {
		for _, line := range commandLines(read(t, page)) {
			found++
			if err := dryParse(binary, words(line)); err != nil {
				t.Errorf("%s: understudy %s: %v", page, line, err)
			}
		}
	}
	if found < 20 {
		t.Errorf("%d command lines found, want those of README.md and docs/OPERATING.md", found)
	}
}

// dryParseFinds holds dryParse against lines whose faults are known.
func dryParseFinds(t *testing.T, binary string) {
	for _, tt := range []struct {
		line string
		fine bool
	}{
		{"status --watch", true},
		{"journal export FILE --journal file:d", true},
		{"perform", false},
		{"journal perform", false},
		{"status --slowly", false},
		{"status now", false},
		{"promote --wait soon", false},
	} {
		if err := dryParse(binary, words(tt.line)); (err == nil) != tt.fine {
			t.Errorf("dryParse(%q) = %v, want fine %v", tt.line, err, tt.fine)
		}
	}
}

// Every metric that a page names is one that a node has.
func TestDocumentMetrics(t *testing.T) {
	sources, err := filepath.Glob("admin/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, name := range sources {
		code.WriteString(read(t, name))
	}
	found := 0
	for _, page := range documents(t) {
		for _, name := range regexp.MustCompile(`understudy_[a-z]+(_[a-z]+)*`).FindAllString(read(t, page), -1) {
			found++
			if !strings.Contains(code.String(), `"`+name+`"`) {
				t.Errorf("%s names the metric %s, which admin does not have", page, name)
			}
		}
	}
	if found < 10 {
		t.Errorf("%d metrics found, want those of docs/OPERATING.md", found)
	}
}

// commandLines returns what follows the binary's name behind a prompt, in indented
// blocks, and between backticks.
func commandLines(text string) []string {
	var lines []string
	text = strings.ReplaceAll(text, "\\\n", " ")
	block := regexp.MustCompile(`(?m)^(?:    |\$ )(?:[A-Z_]+=\S+ )*(?:go run \./cmd/)?understudy ([a-z-].*)$`)
	span := regexp.MustCompile("`(?:go run \\./cmd/)?understudy ([a-z-][^`]*)`")
	for _, re := range []*regexp.Regexp{block, span} {
		for _, m := range re.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(m[1], "|…") { // a list of subcommands
				lines = append(lines, m[1])
			}
		}
	}
	return lines
}

// words splits a line as a shell does, up to what is not the command's.
func words(line string) []string {
	var list []string
	word, quote, open := "", rune(0), false
	end := func() {
		if open {
			list = append(list, word)
		}
		word, open = "", false
	}
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word += string(c)
		case c == '\'' || c == '"':
			quote, open = c, true
		case strings.ContainsRune("|&<>#;", c):
			end()
			return list
		case c == ' ' || c == '\n':
			end()
		default:
			word, open = word+string(c), true
		}
	}
	end()
	return list
}

// dryParse asks for the help of a command line: flags are parsed, nothing runs.
func dryParse(binary string, args []string) error {
	out, err := exec.Command(binary, append(args, "--help")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	usage := regexp.MustCompile(`(?m)^Usage:\n  understudy ?(.*)$`).FindStringSubmatch(string(out))
	if usage == nil {
		return fmt.Errorf("its help has no usage: %s", out)
	}
	path, rest := splitUsage(usage[1])
	for i, word := range path {
		if i >= len(args) || args[i] != word {
			return fmt.Errorf("want the command first: %s", strings.Join(path, " "))
		}
	}
	if len(args) > len(path) && !strings.HasPrefix(args[len(path)], "-") && !rest {
		return fmt.Errorf("%s takes no %q", strings.Join(path, " "), args[len(path)])
	}
	return nil
}

// splitUsage returns the command's own words and whether it takes arguments.
func splitUsage(usage string) (path []string, arguments bool) {
	for _, word := range strings.Fields(usage) {
		switch {
		case word == "[flags]" || word == "[command]":
		case strings.ContainsAny(word, "[ABCDEFGHIJKLMNOPQRSTUVWXYZ"):
			arguments = true
		case !arguments:
			path = append(path, word)
		}
	}
	return path, arguments
}
