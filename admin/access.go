package admin

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
)

// authorize returns nil if the request may do what needs that access.
func (s *Server) authorize(r *http.Request, need Access) error {
	if need == NoAccess {
		return nil
	}
	set := s.tokens.Load()
	if set == nil {
		return s.authorizeLocal(r)
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	have := set.access(token)
	switch {
	case !ok || have == NoAccess:
		return &Problem{Type: Unauthorized, Detail: "send Authorization: Bearer TOKEN with a token of the node's token file"}
	case have < need:
		return &Problem{Type: Forbidden, Detail: fmt.Sprintf("the token's role is %s, this needs %s", have, need)}
	}
	return nil
}

// authorizeLocal guards a listener without tokens against the web pages that a
// browser on this machine shows: the Host check against those that had a name of
// theirs resolve to loopback, the origin check against the others. A unix socket
// cannot be reached by them.
func (s *Server) authorizeLocal(r *http.Request) error {
	if isUnix(s.cfg.Admin) {
		return nil
	}
	if !s.knownHost(r.Host) {
		return &Problem{Type: Forbidden, Detail: fmt.Sprintf("host %q is not this listener's name", r.Host)}
	}
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return &Problem{Type: Forbidden, Err: err}
	}
	return nil
}

// knownHost reports whether a Host header names this listener. Any port is taken:
// it may have been forwarded from another.
func (s *Server) knownHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	own, _, _ := net.SplitHostPort(s.cfg.Admin) // validated
	return slices.Contains([]string{"localhost", "127.0.0.1", "::1", own}, host) || slices.Contains(s.cfg.Hosts, host)
}
