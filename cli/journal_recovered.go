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

// tailWords tells what opening j found behind its end and set aside or, where it
// is open read-only, left out.
func tailWords(j journal.Journal, r filejournal.Recovery) string {
	did := "left out, as the journal is open read-only"
	if r.CutFile != "" {
		did = "set aside in " + r.CutFile
	}
	return fmt.Sprintf("%d bytes behind the end of %s, at byte %d of %s, are of a write that was interrupted; %s; %s",
		r.CutBytes, journal.Describe(j).Location, r.CutOffset, r.CutSource, did, mayBeAcknowledged)
}

// tailNotes tells what this opening of j, and earlier ones, set aside or left out.
func tailNotes(j journal.Journal) []string {
	notes := []string{}
	if r, ok := recoveredTail(j); ok {
		notes = append(notes, tailWords(j, r))
	}
	return append(notes, cutNotes(journal.Describe(j))...)
}

// warnRecovered says on the standard error, --quiet or not, what opening j set
// aside or left out: whoever relies on the journal must hear it.
func (e *Env) warnRecovered(j journal.Journal) {
	if r, ok := recoveredTail(j); ok {
		fmt.Fprintf(e.Stderr, "warning: %s\n", tailWords(j, r))
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
