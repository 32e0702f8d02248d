package harness

import (
	"errors"
	"fmt"
	"net/url"
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

// schemes of the URLs that package journalurl opens, in its order.
var schemes = []string{"mem", "file", "sqlite", "embedded", "nats", "tls", "nats+context"}

// JournalURL derives the URL of a persistence id's journal from one that ids
// share:
//
//	mem:                        mem:ID
//	file:///dir                 file:///dir/ID
//	sqlite:///path              sqlite:///path?journal=ID, another journal of the database
//	sqlite:///path?journal=RUNS sqlite:///path?journal=RUNS_ID
//	embedded:///dir             embedded:///dir/ID
//	nats://hosts/STREAM         nats://hosts/STREAM_ID (and tls)
//	nats+context://NAME/STREAM  nats+context://NAME/STREAM_ID
//
// where ID is the id with every character but letters, digits and - written as _
// and two hexadecimal digits. An exported journal (file:///x.udj) has no ids.
//
// Package journalurl opens what is returned, except that mem: is a new journal in
// memory each time.
func JournalURL(base, id string) (string, error) {
	if err := CheckID(id); err != nil {
		return "", err
	}
	scheme, rest, ok := strings.Cut(base, ":")
	if !ok || scheme == "" {
		return "", fmt.Errorf("harness: journal %q: no scheme; there are %s", base, strings.Join(schemes, ", "))
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
			return "", fmt.Errorf("harness: journal %q is exported and read-only", withoutSecret(base))
		}
		if strings.Trim(place, "/") == "" && place != "/" && place != "///" {
			return "", fmt.Errorf("harness: journal %q: no directory", withoutSecret(base))
		}
		if !strings.HasSuffix(place, "/") {
			place += "/"
		}
		return rejoin(scheme, place+name, query), nil
	case "sqlite":
		return sqliteURL(base, place, query, name)
	case "nats", "tls", "nats+context":
		_, stream, ok := strings.Cut(strings.TrimPrefix(place, "//"), "/")
		if !ok || stream == "" {
			return "", fmt.Errorf("harness: journal %q: no stream, want %s://…/STREAM", withoutSecret(base), scheme)
		}
		return rejoin(scheme, place+"_"+name, query), nil
	}
	return "", fmt.Errorf("harness: journal %q: scheme %q is unknown; there are %s", withoutSecret(base), scheme, strings.Join(schemes, ", "))
}

// sqliteURL names another journal in the same database.
func sqliteURL(base, place, query, name string) (string, error) {
	if strings.Trim(place, "/") == "" {
		return "", fmt.Errorf("harness: journal %q: no database", withoutSecret(base))
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", fmt.Errorf("harness: journal %q: %w", withoutSecret(base), err)
	}
	if of := values.Get("journal"); of != "" {
		name = of + "_" + name
	}
	values.Set("journal", name)
	return rejoin("sqlite", place, values.Encode()), nil
}

// withoutSecret returns a URL as it may be shown.
func withoutSecret(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return strings.SplitN(raw, ":", 2)[0] + ":…"
	}
	return u.Redacted()
}

func rejoin(scheme, place, query string) string {
	if query != "" {
		query = "?" + query
	}
	return scheme + ":" + place + query
}
