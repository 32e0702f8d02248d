package node_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"understudy.dev/journal"
	"understudy.dev/journal/memjournal"
	"understudy.dev/node"
)

// declaring is a journal that says of itself what a test wants.
type declaring struct {
	*memjournal.Journal
	caps journal.Capabilities
}

func (d declaring) Describe() journal.Capabilities { return d.caps }

// A node says at its start what its journal can do and what an acknowledgement
// survives, and warns where that is not the loss of the machine.
func TestStartSaysWhatAnAcknowledgementSurvives(t *testing.T) {
	tests := []struct {
		name  string
		caps  journal.Capabilities
		want  []string
		warns bool
	}{
		{
			"synced",
			journal.Capabilities{Location: "here", Fence: true, Survives: journal.SurvivesProcess | journal.SurvivesMachine},
			[]string{"journal=here", "capabilities=[fence]", `survives="process, machine"`, "sync=true", "version=v7"},
			false,
		},
		{"not synced", journal.Capabilities{Fence: true, Survives: journal.SurvivesProcess}, []string{"survives=process", "sync=false"}, true},
		{"replicated, not synced", journal.Capabilities{Survives: journal.SurvivesProcess | journal.SurvivesDisk | journal.SurvivesNode}, []string{"sync=false"}, true},
		{"read-only", journal.Capabilities{ReadOnly: true}, []string{"capabilities=[read-only]"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			n, err := node.New(node.Config{
				Name: "a", Version: "v7", Journal: declaring{memjournal.New(), tt.caps}, Machine: tallying(&tally{}), Logger: slog.New(slog.NewTextHandler(&log, nil)),
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := n.Run(ctx); err != nil {
				t.Fatal(err)
			}
			for _, want := range append(tt.want, "event=node.started") {
				if !strings.Contains(log.String(), want) {
					t.Errorf("no %s in %s", want, log.String())
				}
			}
			if got := strings.Contains(log.String(), "level=WARN"); got != tt.warns {
				t.Errorf("warned %v, want %v: %s", got, tt.warns, log.String())
			}
		})
	}
}
