package admin

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"understudy.dev/journal"
)

var update = flag.Bool("update", false, "write the golden files anew")

// samples returns one of each thing on the wire with every field filled, by the
// heading in docs/json.md that describes it.
func samples() map[string]any {
	at := At(time.Date(2026, 11, 22, 10, 31, 9, 0, time.UTC))
	n := fullNode()
	status := n.snap.status(at.Time)
	checks := marked(n.checks)
	report := Report{
		Operation: "01JD9Z5Q", Outcome: Promoted, Would: WouldRefuse, Detail: "checks-failed: [lag]", RefusedBy: []CheckID{CheckLag}, Repeated: true,
		Group: "orders", Node: "b", FromEpoch: 7, Epoch: 8, FencePosition: 1204570, EpochSeq: 1204559, TailBefore: new(journal.Seq(1204558)), Drained: 8,
		StateHash: "9c41e2", PhasesMS: Phases{Checks: 38, Fence: 4, Drain: 2, Verify: 1, Open: 0.5}, TookMS: 45.5,
		Accepted: []CheckID{CheckPrimary}, Checks: checks, Actor: "ana@ops1", Reason: "a: disk errors, INC-4412", At: at,
	}
	problem := Problem{
		Type: FencedNotServing, Detail: "apply stopped after the fence", Operation: "01JD9Z5Q", Repeated: true, RefusedBy: []CheckID{CheckLag}, Checks: checks,
		Epoch: 8, Holder: "b", Seq: new(journal.Seq(1204559)), Cause: "apply 1204560: panic", Next: []string{"b", "c"},
	}.complete()
	return map[string]any{
		"status": status,
		"checks": Checks{For: "promote", Group: "orders", Node: "b", Refuse: []CheckID{CheckLag}, Checks: checks, At: at},
		"promote request": PromoteRequest{
			Expect: Expect{Group: "orders", Node: "b", Epoch: new(journal.Epoch(7)), MinSeq: 1204558},
			Accept: []CheckID{CheckPrimary}, Reason: "a: disk errors, INC-4412", Actor: "ana@ops1", Wait: new(Duration(30 * time.Second)), DryRun: true,
		},
		"report":  report,
		"problem": problem,
		"operations": Operations{Operations: []Operation{{
			Operation: "01JD9Z5Q", Kind: "promote", State: CertainlyDone, StartedAt: at, EndedAt: at, Actor: "ana@ops1", Reason: "drill",
		}}},
		"version": Build{
			Version: "v1.4.2", Revision: "0123abcd", GoVersion: "go1.26.8", GoArch: "amd64/v1", Machine: "exchange", LogicVersion: 12, API: apiVersion,
		},
	}
}

// The shapes are an interface; a change shows as a difference of these files.
func TestGoldenJSON(t *testing.T) {
	for name, v := range samples() {
		got, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, '\n')
		file := filepath.Join("testdata", strings.ReplaceAll(name, " ", "-")+".json")
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: got %s\nwant %s", file, got, want)
		}
	}
}

// Unknown is null, and reads back as unknown.
func TestUnknownIsNull(t *testing.T) {
	st := Status{Nodes: []NodeStatus{NodeStatus{}.unreachable("http://b:7070", os.ErrDeadlineExceeded)}}
	b, err := json.Marshal(st)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"role":null`, `"state":null`, `"seen_at":null`, `"lag":{"records":null,"bytes":null,"seconds":null,"catch_up_seconds":null}`,
		`"checkpoint":null`, `"promotable":null`, `"refused_by":[]`, `"tail_seq":null`, `"tail_sampled_at":null`, `"epoch_started_at":null`,
	} {
		if !bytes.Contains(b, []byte(want)) {
			t.Errorf("no %s in %s", want, b)
		}
	}
	var back Status
	if err := json.Unmarshal(b, &back); err != nil || back.Nodes[0].Role != "" || back.Nodes[0].Lag.Records != nil || !back.Nodes[0].SeenAt.IsZero() {
		t.Errorf("read back: got %+v, %v", back, err)
	}
}

// docs/json.md names every field that exists, and none that does not.
func TestDocsNameEveryField(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "docs", "json.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := documentedFields(string(doc))
	for name, v := range samples() {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var tree any
		if err := json.Unmarshal(b, &tree); err != nil {
			t.Fatal(err)
		}
		want := map[string]bool{}
		collectFields(want, "", tree)
		got := documented[name]
		for f := range want {
			if !got[f] {
				t.Errorf("%s: field %s is not in docs/json.md", name, f)
			}
		}
		for f := range got {
			if !want[f] {
				t.Errorf("%s: docs/json.md has %s, which does not exist", name, f)
			}
		}
	}
	if got, want := len(documented), len(samples()); got != want {
		t.Errorf("docs/json.md describes %v, want %d things", slices.Sorted(maps.Keys(documented)), want)
	}
}

// documentedFields returns the first column of each table of fields by the
// heading above it.
func documentedFields(doc string) map[string]map[string]bool {
	row := regexp.MustCompile("^\\| `([a-z_.\\[\\]]+)` \\|")
	fields := map[string]map[string]bool{}
	heading, isFields := "", false
	for line := range strings.Lines(doc) {
		if strings.HasPrefix(line, "| field |") || !strings.HasPrefix(line, "|") {
			isFields = strings.HasPrefix(line, "|")
		}
		if h, ok := strings.CutPrefix(line, "## "); ok {
			heading = strings.ToLower(strings.TrimSpace(h))
		}
		if m := row.FindStringSubmatch(line); m != nil && isFields {
			if fields[heading] == nil {
				fields[heading] = map[string]bool{}
			}
			fields[heading][m[1]] = true
		}
	}
	return fields
}

// collectFields adds the path of each leaf and each object below v.
func collectFields(into map[string]bool, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, sub := range v {
			p := strings.TrimPrefix(path+"."+k, ".")
			into[p] = true
			collectFields(into, p, sub)
		}
	case []any:
		for _, sub := range v {
			if _, ok := sub.(map[string]any); ok {
				delete(into, path)
				into[path+"[]"] = true
				collectFields(into, path+"[]", sub)
			}
		}
	}
}

// Every word that a field can hold is in docs/json.md.
func TestDocsNameEveryWord(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "docs", "json.md"))
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, s := range States() {
		words = append(words, string(s))
	}
	for _, r := range Roles() {
		words = append(words, string(r))
	}
	for _, c := range CheckIDs() {
		words = append(words, string(c))
	}
	for _, p := range ProblemTypes() {
		words = append(words, string(p))
	}
	for _, c := range []Certainty{Running, CertainlyDone, CertainlyRefused, CertainlyNotDone, Uncertain, CertainlyFailed} {
		words = append(words, string(c))
	}
	for _, v := range []Verdict{VerdictOK, VerdictInfo, VerdictWarn, VerdictFail} {
		words = append(words, string(v))
	}
	for _, w := range words {
		if !bytes.Contains(b, []byte("`"+w+"`")) {
			t.Errorf("docs/json.md does not name %s", w)
		}
	}
}

// The table of problem types says what the code does.
func TestDocsTellProblems(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "docs", "json.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ProblemTypes() {
		status, certainty, _ := p.fact()
		row := regexp.MustCompile(fmt.Sprintf("(?m)^\\| `%s` \\| %d[^|]*\\| %s \\| %d \\|$", p, status, certainty, ExitCode(&Problem{Type: p})))
		if !row.Match(b) {
			t.Errorf("docs/json.md has no row %s", row)
		}
	}
}
