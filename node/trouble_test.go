package node

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"understudy.dev/journal"
)

// An append that met another entry is told apart from one whose outcome is unknown.
func TestAppendTroubleIsNamed(t *testing.T) {
	for err, want := range map[error]string{
		fmt.Errorf("append: %w: code 10071", journal.ErrConflict): "append.conflict",
		errors.New("no answer in time"):                           "append.unknown",
	} {
		var log bytes.Buffer
		n := &Node{log: slog.New(slog.NewTextHandler(&log, nil))}
		n.appendTrouble(err, 1)
		if got := strings.Count(log.String(), "event="); got != 1 || !strings.Contains(log.String(), "event="+want+" ") {
			t.Errorf("%v is logged as %s, want %s", err, log.String(), want)
		}
	}
}
