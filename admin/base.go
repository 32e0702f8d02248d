package admin

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// A base is where a node's admin listener is. A socket's path becomes a host
// name, so that connections are kept apart by it.
type base struct {
	url  string
	unix bool
}

const unixSuffix = ".unix.invalid"

// parseBase reads a base URL.
func parseBase(s string) (base, error) {
	u, err := url.Parse(s)
	if err != nil {
		return base{}, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	switch {
	case u.Scheme == "unix" && u.Host == "" && u.Path != "":
		return base{url: "http://" + hex.EncodeToString([]byte(u.Path)) + unixSuffix, unix: true}, nil
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
		return base{url: strings.TrimSuffix(s, "/")}, nil
	}
	return base{}, fmt.Errorf("%w: admin URL %q: want http://HOST:PORT, https://HOST:PORT or unix:///PATH", ErrUsage, s)
}

// head sets the headers of a request to b.
func (b base) head(req *http.Request, token, key string) {
	if b.unix {
		req.Host = "localhost"
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	if req.Method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
}

// dial connects to a host, or to the socket that a base's host name stands for.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if name, ok := strings.CutSuffix(host, unixSuffix); ok {
		path, err := hex.DecodeString(name)
		if err != nil {
			return nil, err
		}
		return d.DialContext(ctx, "unix", string(path))
	}
	return d.DialContext(ctx, network, addr)
}
