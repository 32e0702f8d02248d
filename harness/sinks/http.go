package sinks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"

	"understudy.dev/harness"
)

// An HTTPConfig says how entries are posted.
type HTTPConfig struct {
	Client *http.Client // nil is a client without a time-out of its own: the replay has one
	Header http.Header  // sent with each entry, such as Authorization
}

// A StatusError is an answer other than 2xx.
type StatusError struct {
	Status string
	Code   int
	Body   string // its beginning
}

func (e *StatusError) Error() string {
	if e.Body == "" {
		return "sinks: server answered " + e.Status
	}
	return fmt.Sprintf("sinks: server answered %s: %s", e.Status, e.Body)
}

// Unwrap tells the outcome of a refusal: 4xx is harness.ErrNotTaken. After 5xx, such
// as of a proxy that lost patience, and 3xx the entry may have been taken.
func (e *StatusError) Unwrap() error {
	if e.Code >= 400 && e.Code <= 499 {
		return harness.ErrNotTaken
	}
	return nil
}

// shownBody is how much of a refusal is kept, in bytes.
const shownBody = 200

// HTTP is a sink behind a URL.
type HTTP struct {
	url string
	cfg HTTPConfig
}

var _ harness.Sink = (*HTTP)(nil)

// NewHTTP returns a sink that posts to rawURL, which is http or https.
func NewHTTP(rawURL string, cfg HTTPConfig) (*HTTP, error) {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("sinks: %w", err)
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, fmt.Errorf("sinks: %q: want http://HOST/… or https://HOST/…", rawURL)
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirect }}
	}
	return &HTTP{url: rawURL, cfg: cfg}, nil
}

// errRedirect: a redirected POST may arrive as a GET without the entry.
var errRedirect = errors.New("redirects are not followed")

// Apply implements harness.Sink.
func (s *HTTP) Apply(ctx context.Context, e *harness.Entry) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(encode(e)))
	if err != nil {
		return fmt.Errorf("sinks: %w", err)
	}
	for name, values := range s.cfg.Header {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Understudy-Number", strconv.FormatUint(e.Number, 10))
	var connected atomic.Bool
	req = req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	}))
	resp, err := s.cfg.Client.Do(req)
	if err != nil && !connected.Load() && dialFailed(err) {
		return harness.NotTaken(fmt.Errorf("sinks: %w", err))
	}
	if err != nil {
		return fmt.Errorf("sinks: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, shownBody))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return &StatusError{Status: resp.Status, Code: resp.StatusCode, Body: string(bytes.TrimSpace(body))}
	}
	if err != nil {
		return fmt.Errorf("sinks: read answer: %w", err)
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // so that the connection is used again
	if err != nil {
		return fmt.Errorf("sinks: read answer: %w", err)
	}
	return nil
}

// dialFailed reports whether no connection came about: the name is not known, or
// nobody listens. A Client of the caller's may follow redirects, so Apply also asks
// whether there was one before.
func dialFailed(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// Close lets go of idle connections.
func (s *HTTP) Close() error {
	s.cfg.Client.CloseIdleConnections()
	return nil
}
