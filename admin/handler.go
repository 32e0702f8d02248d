package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"understudy.dev/journal"
)

// maxBody is the largest request body in bytes: a promotion with every field
// filled and a reason of a page stays far below.
const maxBody = 64 << 10

// maxWait bounds how long one request is kept waiting.
const maxWait = 10 * time.Minute

// adminHandler answers operators.
func (s *Server) adminHandler() http.Handler {
	routes := []route{
		{http.MethodGet, "/admin/status", ReadAccess, s.getStatus},
		{http.MethodGet, "/admin/checks", ReadAccess, s.getChecks},
		{http.MethodPost, "/admin/promote", OperateAccess, s.postPromote},
		{http.MethodGet, "/admin/operations", ReadAccess, s.getOperations},
		{http.MethodGet, "/admin/operations/{id}", ReadAccess, s.getOperation},
	}
	return s.stamped(s.mux(routes))
}

func (s *Server) getStatus(w http.ResponseWriter, r *http.Request) {
	snap := s.node.Snapshot()
	st := snap.status(time.Now())
	if v := r.URL.Query().Get("cluster"); v != "" && v != "0" {
		st.Nodes = append(st.Nodes, s.askPeers(r.Context(), &st)...)
	}
	s.answer(w, http.StatusOK, st)
}

func (s *Server) getChecks(w http.ResponseWriter, r *http.Request) {
	if v := r.URL.Query().Get("for"); v != "" && v != "promote" {
		s.refuse(w, fmt.Errorf("for=%s: want promote", v), BadRequest)
		return
	}
	checks, err := s.node.Checks(r.Context())
	if err != nil {
		s.refuse(w, err, JournalUnavailable)
		return
	}
	snap := s.node.Snapshot()
	refused := Refused(checks, nil)
	s.answer(w, http.StatusOK, Checks{
		For: "promote", Group: snap.Group, Node: snap.Node.Node, OK: len(refused) == 0, Refuse: refused,
		Checks: marked(checks), At: At(time.Now()),
	})
}

func (s *Server) postPromote(w http.ResponseWriter, r *http.Request) {
	req, err := readPromote(w, r)
	if err != nil {
		s.refuse(w, err, BadRequest)
		return
	}
	if req.DryRun {
		s.rehearse(w, r, req)
		return
	}
	op, repeated, err := s.ops.start(req, func(ctx context.Context) (Report, error) { return s.promote(ctx, req) })
	if err != nil {
		s.refuse(w, err, Stopping)
		return
	}
	if !repeated {
		s.cfg.Log.Info("asked to promote over HTTP", "event", "http.promote", "operation", req.Key,
			"actor", req.Actor, "reason", req.Reason, "remote", r.RemoteAddr) // the node says that it was requested
	}
	await(r.Context(), op.answered, req.wait())
	s.answerOperation(w, s.ops.view(op), repeated)
}

// readPromote reads a request and the key in its header. Its error is about form.
func readPromote(w http.ResponseWriter, r *http.Request) (PromoteRequest, error) {
	var req PromoteRequest
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil && !errors.Is(err, io.EOF) {
		return req, fmt.Errorf("read body: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return req, errors.New("read body: something follows the JSON object")
	}
	if keys := r.Header.Values("Idempotency-Key"); len(keys) == 0 {
		req.Key = newKey()
	} else if req.Key = keys[0]; !validKey(req.Key) {
		return req, fmt.Errorf("header Idempotency-Key: want 1 to %d letters, digits, and - _ .", maxKey)
	}
	return req, req.check()
}

func (p *PromoteRequest) wait() time.Duration {
	if p.Wait == nil {
		return DefaultWait
	}
	return min(time.Duration(*p.Wait), maxWait)
}

// await returns when done is closed, the wait is over, or the requester is gone.
func await(ctx context.Context, done <-chan struct{}, wait time.Duration) {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	case <-ctx.Done():
	}
}

// promote refuses what is expected of another node, and asks the node.
func (s *Server) promote(ctx context.Context, req PromoteRequest) (Report, error) {
	snap := s.node.Snapshot()
	report, err := Report{}, Expect{Group: req.Expect.Group, Node: req.Expect.Node}.Check(snap.Group, snap.Node.Node, snap.Epoch, 0)
	if err == nil {
		report, err = s.node.Promote(ctx, req)
	}
	outcome := Promoted
	if err != nil {
		outcome = string(problemOf(err, OutcomeUnknown).Type)
	}
	s.cfg.Metrics.ObservePromotion("failover", outcome, report.PhasesMS)
	return report, err
}

// rehearse answers what a promotion would do. It writes nothing and is no
// operation.
func (s *Server) rehearse(w http.ResponseWriter, r *http.Request, req PromoteRequest) {
	checks, err := s.node.Checks(r.Context())
	if err != nil {
		s.refuse(w, err, JournalUnavailable)
		return
	}
	snap := s.node.Snapshot()
	out := Report{
		Would: WouldPromote, Group: snap.Group, Node: snap.Node.Node, FromEpoch: snap.Epoch, Epoch: snap.Epoch + 1,
		TailBefore: snap.Journal.TailSeq, RefusedBy: Refused(checks, req.Accept), Accepted: append([]CheckID{}, req.Accept...),
		Checks: marked(checks), Actor: req.Actor, Reason: req.Reason, At: At(time.Now()),
	}
	if err := req.Expect.Check(snap.Group, snap.Node.Node, snap.Epoch, reachable(&snap)); err != nil {
		out.Would, out.Detail = WouldRefuse, err.Error()
	} else if len(out.RefusedBy) > 0 {
		out.Would, out.Detail = WouldRefuse, string(ChecksFailed)+": "+words(out.RefusedBy)
	}
	s.answer(w, http.StatusOK, out)
}

// reachable returns the Seq that a drain would reach: what is applied, or the
// sampled tail if that is further.
func reachable(s *Snapshot) journal.Seq {
	if s.Journal.TailSeq == nil {
		return s.Node.AppliedSeq
	}
	return max(s.Node.AppliedSeq, *s.Journal.TailSeq)
}

// answerOperation answers the request that asked for op with its outcome.
func (s *Server) answerOperation(w http.ResponseWriter, op Operation, repeated bool) {
	switch {
	case op.Report != nil:
		report := *op.Report
		report.Repeated = repeated
		s.answer(w, http.StatusOK, report)
	case op.Problem != nil:
		p := *op.Problem
		p.Repeated = repeated
		s.refuse(w, &p, OutcomeUnknown)
	default:
		w.Header().Set("Location", "/admin/operations/"+op.Operation)
		s.answer(w, http.StatusAccepted, op)
	}
}

func (s *Server) getOperations(w http.ResponseWriter, _ *http.Request) {
	s.answer(w, http.StatusOK, s.ops.all())
}

// getOperation answers how an operation stands, with ?wait= when its outcome is
// settled or the wait is over.
func (s *Server) getOperation(w http.ResponseWriter, r *http.Request) {
	var wait time.Duration
	if v := r.URL.Query().Get("wait"); v != "" {
		var err error
		if wait, err = time.ParseDuration(v); err != nil || wait < 0 {
			s.refuse(w, fmt.Errorf("wait=%s: want a duration such as 10s", v), BadRequest)
			return
		}
	}
	op := s.ops.get(r.PathValue("id"))
	if op == nil {
		s.refuse(w, &Problem{Type: NotFound, Operation: r.PathValue("id"), Detail: "no such operation since this process started, or too long ago"}, NotFound)
		return
	}
	await(r.Context(), op.settled, min(wait, maxWait))
	s.answer(w, http.StatusOK, s.ops.view(op))
}
