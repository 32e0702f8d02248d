package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy.dev/admin"
	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/journalurl"
	"understudy.dev/journal/memjournal"
)

// ran is what a command line did.
type ran struct {
	code   int
	stdout string
	stderr string
}

// run carries out a command line on the journal at url.
func run(ctx context.Context, url string, args ...string) ran {
	var stdout, stderr bytes.Buffer
	e := &Env{
		App: App{Name: "understudy", Machine: blobs()}, Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr,
		Getenv: func(string) string { return "" }, Now: time.Now,
	}
	code := Run(ctx, e, append(args, "--journal", url))
	return ran{code, stdout.String(), stderr.String()}
}

// want fails the test unless a run ended with code and printed every one of parts.
func (r ran) want(t *testing.T, code int, parts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	for _, p := range parts {
		if !strings.Contains(r.stdout+r.stderr, p) {
			t.Errorf("%q is not printed", p)
		}
	}
	if t.Failed() {
		t.Fatalf("stdout %s\nstderr %s", r.stdout, r.stderr)
	}
}

// decode reads what a run printed as JSON into v.
func (r ran) decode(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.stdout), v); err != nil {
		t.Fatalf("%v in %q, stderr %q", err, r.stdout, r.stderr)
	}
}

// fileURL is the URL of a file journal or an archive.
func fileURL(path string) string { return "file:" + (&url.URL{Path: path}).EscapedPath() }

// small makes a folder of many small segments.
func small(t *testing.T, dir string) journal.Journal {
	t.Helper()
	j, err := filejournal.Open(dir, filejournal.Config{SegmentBytes: 16 << 10, Foreground: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

// write appends tenures, each of so many batches of one record of 1,000 bytes.
func write(t *testing.T, j journal.Journal, tenures ...int) *journaltest.Pen {
	t.Helper()
	p := journaltest.NewPen("a")
	for i, batches := range tenures {
		if err := p.Fence(t.Context(), j, journal.Epoch(i+1)); err != nil {
			t.Fatal(err)
		}
		for range batches {
			if err := p.Append(t.Context(), j, journaltest.Records(1, 1000)...); err != nil {
				t.Fatal(err)
			}
		}
	}
	return p
}

// What prune says that it would drop is what it drops, and if that is nothing it
// says why, exits with 1 and changes nothing.
func TestPruneDoesWhatItSays(t *testing.T) {
	tests := []struct {
		name    string
		tenures []int
		before  string
		kept    string // why it is not all that was asked for
		hint    string
		nothing bool
	}{
		{"nothing lies before", []int{20, 60}, "1", "no record lies before 1", "", true},
		{"one tenure", []int{80}, "-10", "the newest fence, at position ", "once a later epoch is open", true},
		{"within a file", []int{20, 60}, "3", "the next one reaches beyond that place", "choose a later --before", true},
		{"a whole tenure and more", []int{60, 60}, "-10", "the newest fence, at position ", "", false},
		{"some files", []int{60, 60}, "40", "the next one reaches beyond that place", "", false},
		{"the only file", []int{1}, "tail", "no record lies before tail", "", true},
		{"the newest file", []int{2}, "tail", "that place lies in the newest", "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "j")
			j := small(t, dir)
			write(t, j, tt.tenures...)
			j.Close()
			var would, did journalPruned
			args := []string{"journal", "prune", "--before", tt.before}
			dry := run(t.Context(), fileURL(dir), args...)
			dry.want(t, 1, "would drop ", tt.kept, "nothing changed")
			run(t.Context(), fileURL(dir), append(args, "--json")...).decode(t, &would)
			done := run(t.Context(), fileURL(dir), append(args, "--json", "--yes")...)
			done.decode(t, &did)
			if would.Pruned || would.Trimmed != 0 {
				t.Errorf("a dry run says %+v", would)
			}
			if did.Through != would.Through || did.Before != would.Before || did.Kept != would.Kept {
				t.Errorf("did %+v, said %+v", did, would)
			}
			if tt.nothing {
				if did.Pruned || did.Through != 0 || did.Before != 1 {
					t.Errorf("did %+v, want nothing", did)
				}
				done.want(t, 1, "nothing changed", tt.hint)
				dry.want(t, 1, "would drop nothing of ", tt.hint)
				run(t.Context(), fileURL(dir), append(args, "--yes")...).want(t, 1, "dropped nothing of ", tt.kept)
				return
			}
			done.want(t, 0)
			if !did.Pruned || did.Trimmed != did.Through || did.Before < 2 || !strings.Contains(did.Kept, tt.kept) {
				t.Errorf("did %+v", did)
			}
			dry.want(t, 1, fmt.Sprintf("would drop records before seq %d, through position %d of ", did.Before, did.Through), " --yes drops them")
		})
	}
}

// prunedJournals are journals of 80 records whose beginning is gone, and the first
// record left in each.
func prunedJournals(t *testing.T) map[string]journal.Seq {
	t.Helper()
	dir := t.TempDir()
	folder := small(t, filepath.Join(dir, "j"))
	write(t, folder, 40, 40)
	folder.Close()
	others := []string{"embedded:" + filepath.Join(dir, "e"), "sqlite:" + filepath.Join(dir, "j.db") + "?journal=orders"}
	for _, url := range others {
		j, err := journalurl.Open(t.Context(), url, journalurl.Options{Create: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { j.Close() })
		write(t, j, 40, 40)
		j.Close()
	}
	left := map[string]journal.Seq{}
	for _, url := range append(others, fileURL(filepath.Join(dir, "j"))) {
		var did journalPruned
		r := run(t.Context(), url, "journal", "prune", "--before", "31", "--yes", "--json")
		r.decode(t, &did)
		if r.code != 0 || did.Before < 10 || did.Before > 31 {
			t.Fatalf("prune of %s: %+v", url, r)
		}
		left[url] = journal.Seq(did.Before)
	}
	archive := filepath.Join(dir, "x.udj")
	run(t.Context(), fileURL(filepath.Join(dir, "j")), "journal", "export", archive).want(t, 0)
	left[fileURL(archive)] = left[fileURL(filepath.Join(dir, "j"))]
	return left
}

// Of a journal that was pruned every command says where it begins now, and a record
// that is gone is not silently nothing.
func TestPrunedJournalSaysWhereItBegins(t *testing.T) {
	for url, oldest := range prunedJournals(t) {
		name, _, _ := strings.Cut(url, ":")
		t.Run(name+filepath.Ext(url), func(t *testing.T) {
			ctx := t.Context()
			gone := fmt.Sprintf("was pruned: the oldest left is %d", oldest)
			run(ctx, url, "journal", "get", "5").want(t, 1, "record 5 "+gone, "hint: ")
			run(ctx, url, "journal", "get", fmt.Sprint(oldest-1)).want(t, 1, gone)
			run(ctx, url, "journal", "get", fmt.Sprint(oldest), "--json").want(t, 0, fmt.Sprintf(`{"seq":%d,`, oldest))
			run(ctx, url, "journal", "cat", "--from", "5", "--count", "1", "--json").want(t, 0, fmt.Sprintf(`{"seq":%d,`, oldest), fmt.Sprintf("warning: the records before %d were pruned", oldest))
			if r := run(ctx, url, "journal", "cat", "--from", "50", "--count", "1"); strings.Contains(r.stderr, "pruned") {
				t.Errorf("it says %q of what is not asked for", r.stderr)
			}
			run(ctx, url, "journal", "ls", "--count", "1").want(t, 0, "were pruned")
			span := fmt.Sprintf("records %d..80", oldest)
			run(ctx, url, "journal", "verify").want(t, 0, span, "open epoch 2", fmt.Sprintf("pruned    records 1..%d are gone", oldest-1), "sound")
			run(ctx, url, "journal", "verify", "--json").want(t, 0, `"result":"sound"`, fmt.Sprintf(`"from_seq":%d,`, oldest))
			run(ctx, url, "journal", "info").want(t, 0, fmt.Sprintf("the oldest record left is %d", oldest))
			run(ctx, url, "journal", "info", "--json").want(t, 0, fmt.Sprintf(`"first_seq":%d`, oldest))
			run(ctx, url, "journal", "export", filepath.Join(t.TempDir(), "x.udj")).want(t, 0, span)
		})
	}
}

// stuck is a journal that never yields its entries; failed ends every Follow.
type stuck struct {
	journal.Journal
	failed error
}

func (s stuck) Follow(ctx context.Context, _ journal.Position) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		if s.failed != nil {
			yield(journal.Entry{}, s.failed)
			return
		}
		<-ctx.Done()
	}
}

// Verify says "damaged" of damage only.
func TestVerifyCallsDamageNothingElse(t *testing.T) {
	interrupted, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupt signal received"))
	tests := []struct {
		name   string
		ctx    context.Context
		failed error
		want   string
		code   int
	}{
		{"interrupted", interrupted, nil, "interrupted", 130},
		{"closed", t.Context(), journal.ErrClosed, "stopped", 1},
		{"trimmed meanwhile", t.Context(), journal.ErrTrimmed, "stopped", 1},
		{"lost", t.Context(), journal.ErrLost, "damaged", 6},
		{"corrupt", t.Context(), &journal.CorruptError{Pos: 3, Err: journal.ErrChecksum}, "damaged", 6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, asJSON := range []bool{true, false} {
				var out bytes.Buffer
				e := &Env{Stdout: &out, Stderr: io.Discard, Global: Global{JSON: asJSON}}
				err := e.journalVerify(tt.ctx, stuck{memjournal.New(), tt.failed}, journal.End{Pos: 5, Seq: 7})
				if got := exitCode(tt.ctx, err); got != tt.code {
					t.Errorf("exit code %d of %v, want %d", got, err, tt.code)
				}
				want := tt.want + " "
				if asJSON {
					want = `"result":"` + tt.want + `"`
				}
				if !strings.Contains(out.String(), want) {
					t.Errorf("printed %s, want %s", &out, want)
				}
			}
		})
	}
}

// Verify finds digests that no writer can have stated; it cannot know their values.
func TestVerifyChecksWhereDigestsBelong(t *testing.T) {
	one, other := journal.Hash{1}, journal.Hash{2}
	at := func(seq journal.Seq, h journal.Hash) journal.Digest { return journal.Digest{Seq: seq, Hash: h} }
	none := journal.Digest{}
	tests := []struct {
		name   string
		stated []journal.Digest // batch n has the records 3n+1 to 3n+3
		want   string           // "" is sound
	}{
		{"none", []journal.Digest{none, none, none}, ""},
		{"of each batch before", []journal.Digest{none, at(3, one), at(6, other), at(9, one)}, ""},
		{"of older batches, some twice", []journal.Digest{none, none, at(3, one), at(3, one), none, at(12, other)}, ""},
		{"far ahead", []journal.Digest{none, at(1_000_000_000, one)}, "a digest of seq 1000000000, which is not before it"},
		{"of itself", []journal.Digest{none, at(6, one)}, "which is not before it"},
		{"of the batch's middle", []journal.Digest{none, none, at(5, one)}, "a digest of seq 5, which is not the last of an earlier batch"},
		{"falling", []journal.Digest{none, none, at(6, one), at(3, one)}, "a digest of seq 3 after one of seq 6"},
		{"two of one record", []journal.Digest{none, at(3, one), at(3, other)}, "of seq 3, an earlier batch"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "j")
			j := small(t, dir)
			p := journaltest.NewPen("a")
			if err := p.Fence(t.Context(), j, 1); err != nil {
				t.Fatal(err)
			}
			for _, d := range tt.stated {
				c := p.Cursor()
				b := journal.NewBuilder(c.Owner, 1<<20, c.Time)
				for _, r := range journaltest.Records(3, 8) {
					if err := b.Add(&r); err != nil {
						t.Fatal(err)
					}
				}
				raw := b.Seal(c.Seq+1, c.Epoch, d, c.Chain)
				pos, err := j.Append(t.Context(), c.Epoch, c.Pos, raw)
				if err == nil {
					err = p.Take(journal.Entry{Pos: pos, Data: bytes.Clone(raw)})
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			j.Close()
			r := run(t.Context(), fileURL(dir), "journal", "verify", "--json")
			if tt.want == "" {
				r.want(t, 0, `"result":"sound"`)
			} else {
				r.want(t, 6, `"result":"damaged"`, tt.want, fmt.Sprintf(`"end_seq":%d,`, 3*(len(tt.stated)-1)))
			}
		})
	}
}

// Of a journal that states no digests for long, only the newest batch ends are
// remembered, and nothing sound is called damaged.
func TestVerifyForgetsOldBatchEnds(t *testing.T) {
	var s statedDigests
	seq := journal.Seq(0)
	next := func(d journal.Digest) error {
		b := journal.Batch{First: seq + 1, Count: 2, Digest: d}
		seq = b.Last()
		return s.take(&b)
	}
	for range 2*maxEnds + 10 {
		if err := next(journal.Digest{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.ends) > maxEnds {
		t.Errorf("%d ends are remembered", len(s.ends))
	}
	for _, d := range []journal.Seq{10, seq / 2, seq} {
		if err := next(journal.Digest{Seq: d}); err != nil {
			t.Errorf("digest of seq %d: %v", d, err)
		}
	}
	if err := next(journal.Digest{Seq: seq - 1}); err == nil {
		t.Error("the middle of a remembered batch is taken for an end")
	}
}

// An archive that nothing would read is not written; every name that export takes,
// import and --journal take.
func TestArchiveNames(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	j := small(t, filepath.Join(dir, "j"))
	write(t, j, 5)
	j.Close()
	from := fileURL(filepath.Join(dir, "j"))
	wrong := filepath.Join(dir, "noext")
	run(ctx, from, "journal", "export", wrong).want(t, 2, "which ends in .udj", "hint: understudy journal export "+wrong+".udj")
	if _, err := os.Lstat(wrong); err == nil {
		t.Error("it was written all the same")
	}
	run(ctx, fileURL(filepath.Join(dir, "copy")), "journal", "import", wrong).want(t, 2, "which ends in .udj", "rename it")
	if _, err := os.Lstat(filepath.Join(dir, "copy")); err == nil {
		t.Error("the journal to import into was made")
	}
	archive := filepath.Join(dir, "100% of a b#1.udj")
	run(ctx, from, "journal", "export", archive).want(t, 0, "exported  records 1..5,")
	run(ctx, fileURL(archive), "journal", "verify").want(t, 0, "sound")
	run(ctx, fileURL(filepath.Join(dir, "copy")), "journal", "import", archive).want(t, 0, "copied    6 entries, 0 were there already")
	run(ctx, fileURL(filepath.Join(dir, "copy")), "journal", "import", archive).want(t, 0, "copied    0 entries, 6 were there already")
	run(ctx, from, "journal", "export", archive).want(t, 1, "file already exists")
}

// A pruned journal cannot be copied whole: the error says so and what can be done,
// nothing is made, and it is not taken for one of another history.
func TestPrunedJournalIsNotCopied(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	whole := fileURL(filepath.Join(dir, "whole"))
	j := small(t, filepath.Join(dir, "whole"))
	write(t, j, 5)
	j.Close()
	for from, oldest := range prunedJournals(t) {
		to := filepath.Join(dir, "copy")
		begins := fmt.Sprintf("was pruned: it begins at seq %d, and only a whole journal can be copied", oldest)
		hint := "hint: export keeps where it begins: understudy journal export pruned.udj --journal "
		if isArchive(from) {
			hint = "hint: read it where it is with --journal "
			run(ctx, fileURL(to), "journal", "import", strings.TrimPrefix(from, "file:")).want(t, 1, begins, hint)
		} else {
			run(ctx, whole, "journal", "copy", from).want(t, 1, "was pruned, so it cannot be compared with the source", "copy to a journal that is new")
		}
		run(ctx, from, "journal", "copy", fileURL(to)).want(t, 1, begins, hint)
		if _, err := os.Lstat(to); err == nil {
			t.Errorf("%s: the destination was made", from)
		}
	}
}

// A copy into another history, and one into an archive, say what is wrong.
func TestCopyToWhatIsNoCopy(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	for name, tenures := range map[string][]int{"one": {5}, "two": {3, 3}} {
		j := small(t, filepath.Join(dir, name))
		write(t, j, tenures...)
		j.Close()
	}
	one, two := fileURL(filepath.Join(dir, "one")), fileURL(filepath.Join(dir, "two"))
	r := run(ctx, one, "journal", "copy", two)
	r.want(t, 1, "destination is not a copy of the beginning of the source", "hint: it holds another history")
	if strings.Contains(r.stderr, "is kept") {
		t.Errorf("it says that it goes on: %s", r.stderr)
	}
	x := filepath.Join(dir, "x.udj")
	run(ctx, one, "journal", "copy", "file:"+x).want(t, 2, "is an archive", "hint: understudy journal export "+x+" --journal "+one)
	run(ctx, one, "journal", "copy", fileURL(filepath.Join(dir, "new"))).want(t, 0, "proved    records 1..5, chain ")
	run(ctx, one, "journal", "copy", fileURL(filepath.Join(dir, "new")), "--json").want(t, 0, `"entries":0,"already_there":6,"end_seq":5,`)
}

// rebooted is the file system of a machine that was started anew since.
type rebooted struct{ filejournal.FS }

func (rebooted) Boot() []byte { return []byte("an earlier start of the machine") }

// torn makes a folder as a loss of power leaves it: behind five records lies a
// part of an append.
func torn(t *testing.T, dir string) {
	t.Helper()
	j, err := filejournal.Open(dir, filejournal.Config{FS: rebooted{filejournal.OS()}, Foreground: true})
	if err != nil {
		t.Fatal(err)
	}
	entries := write(t, j, 5).Entries()
	j.Close()
	path := filepath.Join(dir, fmt.Sprintf("%020d.udj", 0))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := entries[len(entries)-1].Data
	at := bytes.Index(data, last)
	if at < 0 {
		t.Fatal("the last entry is not in the first segment")
	}
	copy(data[at+len(last):], "half of an entry")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Whatever opens a journal for writing says that its torn end was set aside, once;
// info says it ever after.
func TestTornTailIsTold(t *testing.T) {
	const told, may = "16 bytes", "may have been acknowledged"
	source := fileURL(filepath.Join(t.TempDir(), "source"))
	for name, open := range map[string]func(ctx context.Context, url string) ran{
		"prune": func(ctx context.Context, url string) ran {
			return run(ctx, url, "journal", "prune", "--before", "1", "--yes")
		},
		"copy": func(ctx context.Context, url string) ran {
			run(ctx, url, "journal", "copy", source)
			return run(ctx, source, "journal", "copy", url)
		},
		"serve": func(ctx context.Context, url string) ran {
			return serveUntil(ctx, url, "journal.tail_set_aside")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "j")
			torn(t, dir)
			run(t.Context(), fileURL(dir), "journal", "info").want(t, 0, told)
			r := open(t.Context(), fileURL(dir))
			for _, want := range []string{"16", may, "cut-"} {
				if !strings.Contains(r.stderr, want) {
					t.Errorf("%q is not said: %s", want, r.stderr)
				}
			}
			if r := run(t.Context(), fileURL(dir), "journal", "prune", "--before", "1", "--yes"); strings.Contains(r.stderr, may) {
				t.Errorf("it is said again: %s", r.stderr)
			}
			run(t.Context(), fileURL(dir), "journal", "info").want(t, 0, "note      16 bytes of a write", may, "seq 5 at")
			run(t.Context(), fileURL(dir), "journal", "info", "--json").want(t, 0, may)
		})
	}
}

// serveUntil runs a node until it has logged an event, and what it printed by then.
func serveUntil(ctx context.Context, url, event string) ran {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	stderr := &watched{want: event, seen: cancel}
	e := &Env{
		App: App{Name: "understudy", Machine: blobs()}, Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: stderr,
		Getenv: func(string) string { return "" }, Now: time.Now,
	}
	code := Run(ctx, e, []string{"serve", "--admin-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--client-addr", "127.0.0.1:0", "--journal", url})
	return ran{code: code, stderr: stderr.String()}
}

// watched calls seen once what was written contains want.
type watched struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	want string
	seen func()
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.buf.Write(p)
	if strings.Contains(w.buf.String(), w.want) {
		w.seen()
	}
	return n, err
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// Status shows what an operator should know of the journal.
func TestStatusShowsNotesOfTheJournal(t *testing.T) {
	var out bytes.Buffer
	e := &Env{App: App{Name: "understudy"}, Stdout: &out, Now: time.Now}
	s := admin.Status{Group: "orders"}
	s.Journal.Capabilities.Notes = []string{"no walls", "no roof"}
	if err := e.printStatus(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if want := "\n          note: no walls\n          note: no roof\n\n"; !strings.Contains(out.String(), want) {
		t.Errorf("status is %q, want it to have %q", &out, want)
	}
}

// Records are chosen by their times as well as by their numbers.
func TestCatByTime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "j")
	j := small(t, dir)
	write(t, j, 60)
	j.Close()
	at := func(ns int) string { return fmt.Sprintf("1970-01-01T00:00:00.%09dZ", ns) } // record n was written at n ns
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"--from", at(3), "--to", at(5)}, "3 4 5 "},
		{[]string{"--from", at(59)}, "59 60 "},
		{[]string{"--to", at(2)}, "1 2 "},
		{[]string{"--from", at(50), "--to", "51"}, "50 51 "},
		{[]string{"--from", at(30), "--count", "2"}, "30 31 "},
		{[]string{"--from", at(61)}, ""},
		{[]string{"--from", "-15m"}, ""},
	}
	for _, tt := range tests {
		r := run(t.Context(), fileURL(dir), append([]string{"journal", "cat", "--format", "%s "}, tt.args...)...)
		if r.code != 0 || r.stdout != tt.want {
			t.Errorf("%v prints %q, want %q", tt.args, r.stdout, tt.want)
		}
	}
}

// A stretch that follows shows what comes and ends by a signal, with 130 and
// without an error in words.
func TestFollowEndsByASignal(t *testing.T) {
	for command, seen := range map[string]string{"cat": "2 1970", "ls": "2..2"} {
		t.Run(command, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "j")
			j := small(t, dir)
			p := write(t, j, 1)
			ctx, interrupt := context.WithTimeout(t.Context(), 30*time.Second)
			defer interrupt()
			stdout, stderr := &watched{want: seen, seen: interrupt}, &bytes.Buffer{}
			first := &watched{want: "1970"}
			appended := make(chan error, 1)
			first.seen = func() {
				first.seen = func() {}
				go func() { appended <- p.Append(t.Context(), j, journaltest.Records(1, 8)...) }()
			}
			e := &Env{
				App: App{Name: "understudy", Machine: blobs()}, Stdout: io.MultiWriter(first, stdout), Stderr: stderr,
				Getenv: func(string) string { return "" }, Now: time.Now,
			}
			code := Run(ctx, e, []string{"journal", command, "--follow", "--journal", fileURL(dir)})
			if code != 130 || stderr.Len() > 0 || !strings.Contains(stdout.String(), seen) {
				t.Fatalf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
			}
			if err := <-appended; err != nil {
				t.Error(err)
			}
		})
	}
}

// The newest record of a stream or of a database is never dropped, and prune knows
// it.
func TestPruneOfAllOfAStreamKeepsItsNewestRecord(t *testing.T) {
	for _, scheme := range []string{"embedded:", "sqlite:"} {
		t.Run(scheme, func(t *testing.T) {
			url := scheme + filepath.Join(t.TempDir(), "j")
			j, err := journalurl.Open(t.Context(), url, journalurl.Options{Create: true})
			if err != nil {
				t.Fatal(err)
			}
			write(t, j, 5)
			j.Close()
			args := []string{"journal", "prune", "--before", "99"}
			run(t.Context(), url, args...).want(t, 1, "would drop records before seq 5,", "the newest record is always kept")
			run(t.Context(), url, append(args, "--yes")...).want(t, 0, "dropped records before seq 5,")
		})
	}
}
