package cli

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
)

// recoveredTail returns what opening j found behind the end and set aside, or
// false if there was nothing. Opening tells it once, to the handle that did it.
func recoveredTail(j journal.Journal) (filejournal.Recovery, bool) {
	f, ok := j.(*filejournal.Journal)
	if !ok {
		return filejournal.Recovery{}, false
	}
	r := f.Recovered()
	return r, r.CutBytes > 0
}

// mayBeAcknowledged says what is known of bytes that were set aside: the mark of
// an entry is made durable with the one after it (docs/GUARANTEES.md).
const mayBeAcknowledged = "if the machine lost its power, the last entry may have been acknowledged"

// warnRecovered says on the standard error what opening j for writing set aside.
func (e *Env) warnRecovered(j journal.Journal) {
	if r, ok := recoveredTail(j); ok {
		fmt.Fprintf(e.Stderr, "warning: %d bytes behind the end of %s, at byte %d of %s, are of a write that was interrupted; set aside in %s; %s\n",
			r.CutBytes, journal.Describe(j).Location, r.CutOffset, r.CutSource, r.CutFile, mayBeAcknowledged)
	}
}

// logRecovered says in the log what opening j for writing set aside.
func logRecovered(log *slog.Logger, j journal.Journal) {
	if r, ok := recoveredTail(j); ok {
		log.Warn("the end of the journal was a write that was interrupted, and was set aside; "+mayBeAcknowledged,
			"event", "journal.tail_set_aside", "journal", journal.Describe(j).Location, "bytes", r.CutBytes,
			"source", r.CutSource, "offset", r.CutOffset, "file", r.CutFile, "position", uint64(r.End))
	}
}

// cutName is that of a file in which recovery set something aside, with the
// position where it was (docs/FORMAT.md).
var cutName = regexp.MustCompile(`^cut-(\d{20})-.*\.bin$`)

// cutNotes tells of what earlier recoveries of a file journal set aside.
func cutNotes(of journal.Capabilities) []string {
	if of.Backend != "file" {
		return nil
	}
	files, err := os.ReadDir(of.Location)
	if err != nil {
		return nil // the notes are of what can be seen
	}
	var notes []string
	for _, f := range files {
		m := cutName.FindStringSubmatch(f.Name())
		if m == nil {
			continue
		}
		info, err := f.Info()
		if err != nil {
			continue
		}
		notes = append(notes, fmt.Sprintf("%d bytes of a write that was interrupted, after position %s, were set aside in %s on %s; %s",
			info.Size(), strings.TrimLeft(m[1][:19], "0")+m[1][19:], filepath.Join(of.Location, f.Name()), info.ModTime().UTC().Format("2006-01-02"), mayBeAcknowledged))
	}
	return notes
}
