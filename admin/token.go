package admin

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"os"
	"strings"
)

// Access is what a token allows. More includes less.
type Access uint8

// The accesses, by their words in a token file.
const (
	NoAccess      Access = iota
	ReadAccess           // "read": look
	OperateAccess        // "operate": look and change roles
)

// String returns the word.
func (a Access) String() string { return [...]string{"none", "read", "operate"}[a] }

// minToken is the shortest token taken, in bytes: 16 of base64 are 96 bits, too
// many to guess over a network.
const minToken = 16

// A tokens is a set of tokens, kept as hashes so that comparing takes the same
// time for each.
type tokens []tokenHash

type tokenHash struct {
	sum    [sha256.Size]byte
	access Access
}

// readTokenFile reads lines of role:token. Empty lines and those that start with
// # are skipped.
func readTokenFile(name string) (tokens, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read token file: %w", err)
	}
	defer f.Close()
	t, err := readTokens(f)
	if err != nil {
		return nil, fmt.Errorf("read token file %s: %w", name, err)
	}
	return t, nil
}

// readTokens is readTokenFile on its content. No error shows a token.
func readTokens(r io.Reader) (tokens, error) {
	var set tokens
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		t, err := parseToken(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		set = append(set, t)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(set) == 0 {
		return nil, fmt.Errorf("no tokens in it; a line is read:TOKEN or operate:TOKEN")
	}
	return set, nil
}

func parseToken(line string) (tokenHash, error) {
	role, token, ok := strings.Cut(line, ":")
	t := tokenHash{sum: sha256.Sum256([]byte(token))}
	switch {
	case ok && role == ReadAccess.String():
		t.access = ReadAccess
	case ok && role == OperateAccess.String():
		t.access = OperateAccess
	default:
		return t, fmt.Errorf("want read:TOKEN or operate:TOKEN")
	}
	if len(token) < minToken {
		return t, fmt.Errorf("token of %d bytes, at least %d", len(token), minToken)
	}
	return t, nil
}

// access returns the most that token allows. It looks at each in the set, so the
// time says nothing about where one matched.
func (t tokens) access(token string) Access {
	sum := sha256.Sum256([]byte(token))
	most := NoAccess
	for _, have := range t {
		if subtle.ConstantTimeCompare(sum[:], have.sum[:]) == 1 {
			most = max(most, have.access)
		}
	}
	return most
}
