package admin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Client asks the admin listeners of a group's nodes. Its methods may be called
// concurrently. Its fields are set before the first call.
type Client struct {
	BaseURLs []string     // http://, https:// or unix:///PATH; one per node
	Token    string       // of the nodes' token files; empty for none
	HTTP     *http.Client // for http and https; default one of the client's own

	once      sync.Once
	transport *http.Client // the client's own
}

// Errors of a Client besides *Problem and *LostAnswerError.
var (
	// ErrUsage: the client was asked for something that cannot be asked.
	ErrUsage = errors.New("admin: wrong usage")
	// ErrNotSent: the request did not leave; certainly nothing was done.
	ErrNotSent = errors.New("admin: request not sent")
	// ErrNoPrimary: no node that answered is a primary that serves.
	ErrNoPrimary = errors.New("admin: no primary answered")
)

// A LostAnswerError reports a promotion that was asked for and whose answer did
// not come: it may be done, or may yet be.
type LostAnswerError struct {
	Operation string // the key that finds it: GET /admin/operations/KEY, or the same request again
	URL       string
	Err       error
}

func (e *LostAnswerError) Error() string {
	return fmt.Sprintf("outcome unknown: operation %s was sent to %s and its answer did not come: %v", e.Operation, e.URL, e.Err)
}

func (e *LostAnswerError) Unwrap() error { return e.Err }

// Status asks all nodes at once and joins what they say: the journal of the one
// that has seen the newest tail, and a row for each. With one URL that node asks
// the others. Its error says that no node answered.
func (c *Client) Status(ctx context.Context) (Status, error) {
	if len(c.BaseURLs) == 1 {
		var st Status
		err := c.get(ctx, c.BaseURLs[0], "/admin/status?cluster=1", &st)
		return st, err
	}
	answers := make([]Status, len(c.BaseURLs))
	faults := make([]error, len(c.BaseURLs))
	var wg sync.WaitGroup
	for i, base := range c.BaseURLs {
		wg.Go(func() { answers[i], faults[i] = c.own(ctx, base) })
	}
	wg.Wait()
	return join(c.BaseURLs, answers, faults)
}

// join makes one Status of what several nodes answered.
func join(urls []string, answers []Status, faults []error) (Status, error) {
	var out Status
	rows := []NodeStatus{}
	for i, st := range answers {
		if faults[i] != nil {
			rows = append(rows, NodeStatus{}.unreachable(urls[i], faults[i]))
			continue
		}
		if out.Group == "" || st.newerThan(out) {
			out = st
		}
		rows = append(rows, st.Nodes[0])
	}
	if out.Nodes == nil {
		return Status{}, fmt.Errorf("no node answered: %w", errors.Join(append(faults, usageIf(len(urls) == 0, "no admin URL"))...))
	}
	out.Nodes = rows
	return out, nil
}

// newerThan compares by epoch, then by the journal's tail.
func (s Status) newerThan(o Status) bool {
	if s.Epoch != o.Epoch {
		return s.Epoch > o.Epoch
	}
	return s.Journal.TailSeq != nil && (o.Journal.TailSeq == nil || *s.Journal.TailSeq > *o.Journal.TailSeq)
}

func usageIf(wrong bool, what string) error {
	if wrong {
		return fmt.Errorf("%w: %s", ErrUsage, what)
	}
	return nil
}

// own returns what the node at base says of itself, in a Status of one row.
func (c *Client) own(ctx context.Context, base string) (Status, error) {
	var st Status
	if err := c.get(ctx, base, "/admin/status", &st); err != nil {
		return Status{}, err
	}
	if len(st.Nodes) == 0 {
		return Status{}, fmt.Errorf("ask %s: its answer holds no node", base)
	}
	st.Nodes = st.Nodes[:1]
	st.Nodes[0].Admin = base
	return st, nil
}

// Who returns the row of the primary: the one of the largest epoch among those
// that answered and serve. ErrNoPrimary says that none did.
func (c *Client) Who(ctx context.Context) (NodeStatus, error) {
	st, err := c.Status(ctx)
	if err != nil {
		return NodeStatus{}, err
	}
	var who *NodeStatus
	for i := range st.Nodes {
		n := &st.Nodes[i]
		if n.Reachable && n.Role == Primary && n.State == Serving && (who == nil || n.Epoch > who.Epoch) {
			who = n
		}
	}
	if who == nil {
		return NodeStatus{}, ErrNoPrimary
	}
	return *who, nil
}

// Checks asks a node for the checks before its promotion. node may be empty if
// the client knows one URL only.
func (c *Client) Checks(ctx context.Context, node string) (Checks, error) {
	base, err := c.find(ctx, node)
	if err != nil {
		return Checks{}, err
	}
	var out Checks
	return out, c.get(ctx, base, "/admin/checks?for=promote", &out)
}

// Operations asks a node for its newest operations.
func (c *Client) Operations(ctx context.Context, node string) (Operations, error) {
	base, err := c.find(ctx, node)
	if err != nil {
		return Operations{}, err
	}
	var out Operations
	return out, c.get(ctx, base, "/admin/operations", &out)
}

// Operation looks for an operation at all nodes and waits up to wait for its
// outcome to be settled.
func (c *Client) Operation(ctx context.Context, key string, wait time.Duration) (Operation, error) {
	var faults []error
	for _, base := range c.BaseURLs {
		var op Operation
		err := c.get(ctx, base, operationPath(key, wait), &op)
		if err == nil {
			return op, nil
		}
		faults = append(faults, err)
	}
	return Operation{}, errors.Join(append(faults, usageIf(len(c.BaseURLs) == 0, "no admin URL"))...)
}

func operationPath(key string, wait time.Duration) string {
	return "/admin/operations/" + url.PathEscape(key) + "?wait=" + wait.String()
}

// Promote asks the node req.Expect.Node, or the only one that the client knows,
// to become the primary, and waits until the outcome is there or ctx ends.
//
// Its error is a *Problem that says what is certain, a *LostAnswerError if
// nothing is, or another error if nothing was sent.
func (c *Client) Promote(ctx context.Context, req PromoteRequest) (Report, error) {
	base, err := c.find(ctx, req.Expect.Node)
	if err != nil {
		return Report{}, err
	}
	req.Key = cmp.Or(req.Key, newKey())
	if !validKey(req.Key) {
		return Report{}, fmt.Errorf("%w: key %q", ErrUsage, req.Key)
	}
	a, err := c.post(ctx, base, "/admin/promote", req)
	if err == nil && a.status == http.StatusAccepted {
		return c.follow(ctx, base, req.Key)
	}
	var report Report
	if err == nil {
		err = a.decode(&report)
	}
	if err == nil && report.Outcome == "" && report.Would == "" {
		err = fmt.Errorf("%s answered %d without an outcome", base, a.status)
	}
	if err != nil {
		return Report{}, unanswered(err, req.Key, base)
	}
	return report, nil
}

// unanswered returns err if it says what is certain, else a *LostAnswerError.
func unanswered(err error, key, base string) error {
	var p *Problem
	if errors.As(err, &p) || errors.Is(err, ErrNotSent) {
		return err
	}
	return &LostAnswerError{Operation: key, URL: base, Err: err}
}

// pollFor is how long one request waits for a running operation: below the 60 s
// after which common proxies give up.
const pollFor = 20 * time.Second

// follow waits for the outcome of an operation that the node at base runs.
func (c *Client) follow(ctx context.Context, base, key string) (Report, error) {
	for {
		var op Operation
		if err := c.get(ctx, base, operationPath(key, pollFor), &op); err != nil {
			return Report{}, &LostAnswerError{Operation: key, URL: base, Err: err}
		}
		switch {
		case op.Report != nil:
			return *op.Report, nil
		case op.Problem != nil:
			return Report{}, op.Problem
		}
	}
}

// find returns the base URL of a node by asking all; an empty name is the only one.
func (c *Client) find(ctx context.Context, node string) (string, error) {
	switch {
	case len(c.BaseURLs) == 0:
		return "", fmt.Errorf("%w: no admin URL", ErrUsage)
	case len(c.BaseURLs) == 1:
		return c.BaseURLs[0], nil
	case node == "":
		return "", fmt.Errorf("%w: %d admin URLs and no node named", ErrUsage, len(c.BaseURLs))
	}
	st, err := c.Status(ctx)
	if err != nil {
		return "", fmt.Errorf("find node %s: %w: %w", node, ErrNotSent, err)
	}
	i := slices.IndexFunc(st.Nodes, func(n NodeStatus) bool { return n.Reachable && n.Node == node })
	if i < 0 {
		return "", fmt.Errorf("find node %s: %w: no node of that name answered", node, ErrNotSent)
	}
	return st.Nodes[i].Admin, nil
}

// get asks for a thing that changes nothing.
func (c *Client) get(ctx context.Context, base, path string, v any) error {
	a, err := c.do(ctx, http.MethodGet, base, path, nil, "")
	if err != nil {
		return err
	}
	return a.decode(v)
}

func (c *Client) post(ctx context.Context, base, path string, req PromoteRequest) (answer, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return c.do(ctx, http.MethodPost, base, path, body, req.Key)
}

// An answer is an HTTP answer that was received whole.
type answer struct {
	from   string
	status int
	kind   string
	body   []byte
}

// maxAnswer bounds an answer in bytes: 256 operations of 8 KiB, twice.
const maxAnswer = 4 << 20

// do sends a request once. An error that matches ErrNotSent says that no
// connection was there to send it on; any other leaves open what became of it.
func (c *Client) do(ctx context.Context, method, base, path string, body []byte, key string) (answer, error) {
	b, err := parseBase(base)
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, method, b.url+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	// The transport sends a request with an idempotency key again when a kept
	// connection breaks, unless it cannot rewind the body. A node that restarted
	// in between does not know the key any more, so that would be a second
	// promotion.
	req.GetBody = nil
	b.head(req, c.Token, key)
	resp, err := c.client(b).Do(req)
	if err != nil {
		if !sent.Load() {
			err = fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		return answer{}, fmt.Errorf("ask %s: %w", base, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, fmt.Errorf("read answer of %s: %w", base, err)
	}
	return answer{from: base, status: resp.StatusCode, kind: resp.Header.Get("Content-Type"), body: got}, nil
}

// turnedAway are the statuses with which a server that is no node, or a proxy on
// the way, refuses to take a request at all.
var turnedAway = []int{
	http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusMisdirectedRequest,
}

// decode reads the thing asked for into v, or returns the *Problem in its place.
// Another error says that the answer was not understood.
func (a answer) decode(v any) error {
	if a.status >= 200 && a.status < 300 {
		if err := json.Unmarshal(a.body, v); err != nil {
			return fmt.Errorf("read answer of %s: %w", a.from, err)
		}
		return nil
	}
	var p Problem
	if strings.HasPrefix(a.kind, "application/problem+json") && json.Unmarshal(a.body, &p) == nil && p.Type != "" {
		return &p
	}
	err := fmt.Errorf("%s answered %d %s, which is not understudy's: %.100q", a.from, a.status, http.StatusText(a.status), a.body)
	if slices.Contains(turnedAway, a.status) {
		err = fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return err
}

// Close lets go of idle connections of the client's own.
func (c *Client) Close() {
	if c.transport != nil {
		c.transport.CloseIdleConnections()
	}
}

// client returns the HTTP client for a base.
func (c *Client) client(b base) *http.Client {
	if c.HTTP != nil && !b.unix {
		return c.HTTP
	}
	c.once.Do(func() {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.DialContext = dial
		c.transport = &http.Client{Transport: t}
	})
	return c.transport
}
