package cli

import (
	"fmt"
	"os"
	"strings"
)

// token returns the token that the commands show to a node: of a file with
// role:token lines, which may be the node's own, the one that allows most; or
// the only line of a file with nothing but a token. "" without --token-file.
func (e *Env) token() (string, error) {
	if e.Global.TokenFile == "" {
		return "", nil
	}
	data, err := os.ReadFile(e.Global.TokenFile)
	if err != nil {
		return "", usagef("read token file: %v", err)
	}
	best := ""
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		role, token, ok := strings.Cut(line, ":")
		switch {
		case !ok:
			token = role
		case role == "operate":
			return token, nil
		}
		if best == "" {
			best = token
		}
	}
	if best == "" {
		return "", WithCode(2, fmt.Errorf("token file %s has no token in it", e.Global.TokenFile))
	}
	return best, nil
}
