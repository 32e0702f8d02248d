package cli

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
)

// A name is printed as it is if that is one word of one line, and else quoted, so that
// a record stays a line and nothing draws on the terminal.
func TestNamesThatWouldBreakALine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	j := small(t, dir)
	p := journaltest.NewPen("a")
	if err := p.Fence(t.Context(), j, 1); err != nil {
		t.Fatal(err)
	}
	var records []journal.Record
	for _, name := range []string{"add", "größe", "two\nlines", "\x1b[2J", `"add"`, "actor/a: seed"} {
		records = append(records, journal.Record{Kind: journal.KindCommand, Name: name})
	}
	if err := p.Append(t.Context(), j, records...); err != nil {
		t.Fatal(err)
	}
	j.Close()
	r := run(t.Context(), fileURL(dir), "journal", "cat", "--format", `%t\n`)
	const want = "add\ngröße\n\"two\\nlines\"\n\"\\x1b[2J\"\n\"\\\"add\\\"\"\nactor/a: seed\n"
	if r.stdout != want {
		t.Errorf("it prints %q, want %q", r.stdout, want)
	}
	if r := run(t.Context(), fileURL(dir), "journal", "cat"); strings.Count(r.stdout, "\n") != 6 || strings.ContainsRune(r.stdout, 0x1b) {
		t.Errorf("by default it prints %q", r.stdout)
	}
}

// ls quotes the name of who opened an epoch as well.
func TestOwnersThatWouldBreakALine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	j := small(t, dir)
	if _, err := j.Fence(t.Context(), 1, "a\n\x1b"); err != nil {
		t.Fatal(err)
	}
	j.Close()
	run(t.Context(), fileURL(dir), "journal", "ls").want(t, 0, `opened epoch 1 by "a\n\x1b"`)
}

// --raw and --json exclude each other where both are asked for, and a default from the
// environment gives way.
func TestGetRawOrJSON(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	j := small(t, dir)
	journaltest.Write(t, j, 1)
	j.Close()
	run(t.Context(), fileURL(dir), "journal", "get", "1", "--raw", "--json").want(t, 2, "--raw and --json")
	var stdout bytes.Buffer
	e := &Env{App: App{Name: "understudy", Machine: blobs()}, Stdout: &stdout, Stderr: &stdout, Now: time.Now, Getenv: func(k string) string {
		return map[string]string{"UNDERSTUDY_OUTPUT": "json"}[k]
	}}
	if code := Run(t.Context(), e, []string{"journal", "get", "1", "--raw", "--journal", fileURL(dir)}); code != 0 || stdout.Len() != 32 {
		t.Errorf("exit code %d, printed %q, want the 32 bytes of the record", code, &stdout)
	}
}

// The help of cat lists every sign that --format takes.
func TestHelpListsTheSignsOfFormats(t *testing.T) {
	help := run(t.Context(), "mem:", "journal", "cat", "--help").stdout
	for _, verb := range formatVerbs {
		if !strings.Contains(help, "%"+string(verb)+" ") {
			t.Errorf("%%%c is not in it: %s", verb, help)
		}
	}
}

// Nothing is ever added to an archive, so nobody is left to wait for it.
func TestFollowOfAnArchive(t *testing.T) {
	dir := t.TempDir()
	j := small(t, filepath.Join(dir, "j"))
	write(t, j, 2)
	j.Close()
	x := filepath.Join(dir, "x.udj")
	run(t.Context(), fileURL(filepath.Join(dir, "j")), "journal", "export", x).want(t, 0)
	for _, command := range []string{"cat", "ls"} {
		run(t.Context(), fileURL(x), "journal", command, "--follow").want(t, 2, x+" is an archive, to which nothing is added: leave --follow out")
	}
}
