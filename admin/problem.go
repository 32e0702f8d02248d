package admin

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"time"

	"understudy.dev/journal"
)

// Certainty is what is certain about a request after its answer.
type Certainty string

// The certainties.
const (
	CertainlyDone    Certainty = "done"
	CertainlyRefused Certainty = "refused"  // by a safety check or an expectation; nothing was written
	CertainlyNotDone Certainty = "not-done" // nothing was written
	Uncertain        Certainty = "unknown"  // it may be done, or may yet be
	CertainlyFailed  Certainty = "failed"   // the fence was written and this node does not serve
)

// A ProblemType names a problem, the same in every version. It is an error, so
// that errors.Is(err, admin.LostRace) asks for it.
type ProblemType string

// The problem types.
const (
	BadRequest          ProblemType = "bad-request"
	Unauthorized        ProblemType = "unauthorized"
	Forbidden           ProblemType = "forbidden"
	NotFound            ProblemType = "not-found"
	MethodNotAllowed    ProblemType = "method-not-allowed"
	AlreadyPrimary      ProblemType = "already-primary"
	PromotionInProgress ProblemType = "promotion-in-progress"
	LostRace            ProblemType = "lost-race"          // another node opened the epoch first
	EpochMoved          ProblemType = "epoch-moved"        // a newer epoch was opened meanwhile
	ChecksFailed        ProblemType = "checks-failed"      // refused before the fence
	ExpectationFailed   ProblemType = "expectation-failed" // refused before the fence
	KeyReused           ProblemType = "idempotency-key-reused"
	FencedNotServing    ProblemType = "fenced-not-serving" // after its fence the node could not serve; nobody does
	JournalUnavailable  ProblemType = "journal-unavailable"
	Stopping            ProblemType = "stopping" // the server is closing and started nothing
	OutcomeUnknown      ProblemType = "outcome-unknown"
)

// Error returns the type's slug.
func (t ProblemType) Error() string { return string(t) }

// ProblemTypes lists the problem types.
func ProblemTypes() []ProblemType {
	return []ProblemType{
		BadRequest, Unauthorized, Forbidden, NotFound, MethodNotAllowed, AlreadyPrimary, PromotionInProgress, LostRace,
		EpochMoved, ChecksFailed, ExpectationFailed, KeyReused, FencedNotServing, JournalUnavailable, Stopping, OutcomeUnknown,
	}
}

// fact returns the HTTP status of a problem type, what is certain, and a title.
// An unknown type leaves everything open.
func (t ProblemType) fact() (int, Certainty, string) {
	switch t {
	case BadRequest:
		return http.StatusBadRequest, CertainlyNotDone, "the request is malformed"
	case Unauthorized:
		return http.StatusUnauthorized, CertainlyNotDone, "a token is needed"
	case Forbidden:
		return http.StatusForbidden, CertainlyNotDone, "this is not allowed"
	case NotFound:
		return http.StatusNotFound, CertainlyNotDone, "there is no such thing"
	case MethodNotAllowed:
		return http.StatusMethodNotAllowed, CertainlyNotDone, "the method is not offered here"
	case AlreadyPrimary:
		return http.StatusConflict, CertainlyNotDone, "this node is the primary already"
	case PromotionInProgress:
		return http.StatusConflict, CertainlyNotDone, "another promotion is running"
	case LostRace:
		return http.StatusConflict, CertainlyNotDone, "another node opened the epoch first"
	case EpochMoved:
		return http.StatusConflict, CertainlyNotDone, "a newer epoch was opened meanwhile"
	case ChecksFailed:
		return http.StatusPreconditionFailed, CertainlyRefused, "refused by checks"
	case ExpectationFailed:
		return http.StatusPreconditionFailed, CertainlyRefused, "what was expected is not so"
	case KeyReused:
		return http.StatusUnprocessableEntity, CertainlyNotDone, "the idempotency key belongs to another request"
	case FencedNotServing:
		return http.StatusInternalServerError, CertainlyFailed, "fenced, and nobody serves"
	case JournalUnavailable:
		return http.StatusServiceUnavailable, CertainlyNotDone, "the journal cannot be read"
	case Stopping:
		return http.StatusServiceUnavailable, CertainlyNotDone, "the node is stopping"
	}
	return http.StatusGatewayTimeout, Uncertain, "the outcome is not known"
}

// A Problem is an answer that is not the thing asked for (RFC 9457), and the
// error that a Node returns and a Client gives back.
type Problem struct {
	Type      ProblemType   `json:"type"`
	Title     string        `json:"title"`
	Status    int           `json:"status"`
	Certainty Certainty     `json:"certainty"`
	Detail    string        `json:"detail,omitempty"`
	Operation string        `json:"operation,omitempty"`
	Repeated  bool          `json:"repeated,omitempty"`   // an earlier request with this key met it
	RefusedBy []CheckID     `json:"refused_by,omitempty"` // of checks-failed
	Checks    []Check       `json:"checks,omitempty"`     // of checks-failed
	Epoch     journal.Epoch `json:"epoch,omitempty"`      // the open one
	Holder    string        `json:"holder,omitempty"`     // the node that holds it
	Seq       *journal.Seq  `json:"seq,omitempty"`        // of fenced-not-serving: the last one applied
	Cause     string        `json:"cause,omitempty"`      // of fenced-not-serving
	Next      []string      `json:"promotable,omitempty"` // of fenced-not-serving: who may be promoted to the next epoch

	// RetryAfter says when to ask again, of journal-unavailable. Default 1 s.
	RetryAfter time.Duration `json:"-"`

	// Err is the cause on the side that met the problem, for errors.Is.
	Err error `json:"-"`

	// Resolve, of outcome-unknown, waits until reading the log has shown what
	// became of it. The server calls it once, after it has answered. Without it
	// the operation stays unknown.
	Resolve func(context.Context) (Report, error) `json:"-"`
}

// Error names the type and says what happened.
func (p *Problem) Error() string {
	s := string(p.Type)
	if p.Detail != "" {
		s += ": " + p.Detail
	}
	if p.Detail == "" && p.Err != nil {
		s += ": " + p.Err.Error()
	}
	return s
}

// Unwrap gives the type and the cause.
func (p *Problem) Unwrap() []error {
	if p.Err == nil {
		return []error{p.Type}
	}
	return []error{p.Type, p.Err}
}

// complete returns a copy of p with what its type says filled in.
func (p Problem) complete() Problem {
	p.Status, p.Certainty, p.Title = p.Type.fact()
	if p.Detail == "" && p.Err != nil {
		p.Detail = p.Err.Error()
	}
	if p.Type == ChecksFailed {
		p.Checks = marked(p.Checks)
		p.Detail = cmp.Or(p.Detail, words(p.RefusedBy))
	}
	return p
}

// words lists checks for people.
func words(ids []CheckID) string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = string(id)
	}
	return strings.Join(list, ", ")
}
