package harness

import (
	"errors"
	"fmt"
	"strings"
)

// MaxID is the length limit of a persistence id in bytes: escaped, it still fits
// a file name and a JetStream stream name (255 bytes each) beside a base name.
const MaxID = 64

// ErrID: a persistence id is not usable.
var ErrID = errors.New("harness: bad persistence id")

// CheckID reports what is wrong with a persistence id. An id has 1 to MaxID of
// the characters a-z A-Z 0-9 . _ - : / @ and begins with a letter or digit.
func CheckID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("%w: it is empty", ErrID)
	case len(id) > MaxID:
		return fmt.Errorf("%w: %d bytes, at most %d", ErrID, len(id), MaxID)
	case !alphanumeric(id[0]):
		return fmt.Errorf("%w %q: it begins with %q, want a letter or digit", ErrID, id, id[0])
	}
	for i := range len(id) {
		if !alphanumeric(id[i]) && !strings.ContainsRune("._-:/@", rune(id[i])) {
			return fmt.Errorf("%w %q: %q at byte %d, want letters, digits and . _ - : / @", ErrID, id, id[i], i)
		}
	}
	return nil
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// escapeID writes an id with letters, digits, - and _ alone, which every backend
// takes in a name: any other byte, and _ itself, becomes _ and two hexadecimal
// digits. Different ids stay different.
func escapeID(id string) string {
	var b strings.Builder
	for i := range len(id) {
		if c := id[i]; alphanumeric(c) || c == '-' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02X", c)
		}
	}
	return b.String()
}

// JournalURL derives the URL of a persistence id's journal from one that ids
// share:
//
//	mem:                        mem:ID
//	file:///dir                 file:///dir/ID
//	embedded:///dir             embedded:///dir/ID
//	nats://hosts/STREAM         nats://hosts/STREAM_ID (and tls)
//	nats+context://NAME/STREAM  nats+context://NAME/STREAM_ID
//	postgres://…?journal=NAME   postgres://…?journal=NAME.ID
//	sqlite:///path?journal=NAME sqlite:///path?journal=NAME.ID
//	redis://…?journal=NAME      redis://…?journal=NAME.ID
//
// where ID is the id with every character but letters, digits and - written as _
// and two hexadecimal digits. Without journal=NAME the name is ID alone. An
// exported journal (file:///x.udj) has no ids.
func JournalURL(base, id string) (string, error) {
	if err := CheckID(id); err != nil {
		return "", err
	}
	scheme, rest, ok := strings.Cut(base, ":")
	if !ok || scheme == "" {
		return "", fmt.Errorf("harness: journal %q: no scheme", base)
	}
	name := escapeID(id)
	place, query, _ := strings.Cut(rest, "?")
	switch scheme {
	case "mem":
		if place != "" {
			name = place + "." + name
		}
		return rejoin(scheme, name, query), nil
	case "file", "embedded":
		if strings.HasSuffix(place, ".udj") {
			return "", fmt.Errorf("harness: journal %q is exported and read-only", base)
		}
		if strings.Trim(place, "/") == "" && place != "/" && place != "///" {
			return "", fmt.Errorf("harness: journal %q: no directory", base)
		}
		if !strings.HasSuffix(place, "/") {
			place += "/"
		}
		return rejoin(scheme, place+name, query), nil
	case "nats", "tls", "nats+context":
		_, stream, ok := strings.Cut(strings.TrimPrefix(place, "//"), "/")
		if !ok || stream == "" {
			return "", fmt.Errorf("harness: journal %q: no stream, want %s://…/STREAM", base, scheme)
		}
		return rejoin(scheme, place+"_"+name, query), nil
	case "postgres", "postgresql", "sqlite", "redis", "rediss":
		return rejoin(scheme, place, inQuery(query, name)), nil
	}
	return "", fmt.Errorf("harness: journal %q: unknown scheme %q", base, scheme)
}

func rejoin(scheme, place, query string) string {
	if query != "" {
		query = "?" + query
	}
	return scheme + ":" + place + query
}

// inQuery appends .name to the value of journal in a query, or adds it.
func inQuery(query, name string) string {
	var parts []string
	found := false
	for part := range strings.SplitSeq(query, "&") {
		if value, ok := strings.CutPrefix(part, "journal="); ok && value != "" {
			part, found = part+"."+name, true
		}
		if part != "" && part != "journal=" {
			parts = append(parts, part)
		}
	}
	if !found {
		parts = append(parts, "journal="+name)
	}
	return strings.Join(parts, "&")
}
