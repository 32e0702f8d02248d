package admin

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// stamp sets the headers that every answer carries.
func (s *Server) stamp(h http.Header) {
	snap := s.node.Snapshot()
	h.Set("Understudy-Api", strconv.Itoa(apiVersion))
	h.Set("Understudy-Node", snap.Node.Node)
	h.Set("Understudy-Epoch", strconv.FormatUint(uint64(snap.Epoch), 10))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
}

// stamped stamps the answers of next before they begin.
func (s *Server) stamped(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.stamp(w.Header())
		next.ServeHTTP(w, r)
	})
}

// answer writes v as JSON. It stamps again, since the epoch may have moved while
// the request was served.
func (s *Server) answer(w http.ResponseWriter, status int, v any) {
	s.write(w, status, "application/json", v)
}

// refuse writes the problem in err. An error that is none counts as otherwise.
func (s *Server) refuse(w http.ResponseWriter, err error, otherwise ProblemType) {
	p := problemOf(err, otherwise)
	switch p.Type {
	case JournalUnavailable:
		after := max(time.Second, p.RetryAfter.Round(time.Second))
		w.Header().Set("Retry-After", strconv.Itoa(int(after/time.Second)))
	case Unauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	s.write(w, p.Status, "application/problem+json", p)
}

func (s *Server) write(w http.ResponseWriter, status int, kind string, v any) {
	s.stamp(w.Header())
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // wire types hold nothing that cannot be encoded
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	_, _ = io.Copy(w, &b) // the requester may be gone; nothing depends on it
}

// A route is one endpoint.
type route struct {
	method, path string // path in the syntax of http.ServeMux; GET includes HEAD
	access       Access
	serve        http.HandlerFunc
}

// mux serves routes, and answers anything else by naming what exists.
func (s *Server) mux(routes []route) *http.ServeMux {
	m := http.NewServeMux()
	byPath := map[string][]route{}
	for _, r := range routes {
		byPath[r.path] = append(byPath[r.path], r)
	}
	for path, at := range byPath {
		m.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { s.dispatch(w, r, at) })
	}
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, &Problem{Type: NotFound, Detail: "no endpoint " + r.URL.Path + "; these exist: " + listRoutes(routes)}, NotFound)
	})
	return m
}

// dispatch picks the route of the request's method among those of its path.
func (s *Server) dispatch(w http.ResponseWriter, r *http.Request, at []route) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	for _, rt := range at {
		if rt.method == method {
			if err := s.authorize(r, rt.access); err != nil {
				s.refuse(w, err, Forbidden)
				return
			}
			rt.serve(w, r)
			return
		}
	}
	allow := allowed(at)
	if r.Method == http.MethodOptions && open(at) {
		w.Header().Set("Allow", allow)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Allow", allow)
	s.refuse(w, &Problem{Type: MethodNotAllowed, Detail: r.Method + " is not offered by " + r.URL.Path + "; this is: " + allow}, MethodNotAllowed)
}

// open reports whether a path is there for everybody.
func open(at []route) bool {
	return !slices.ContainsFunc(at, func(r route) bool { return r.access != NoAccess })
}

func allowed(at []route) string {
	var methods []string
	if open(at) {
		methods = append(methods, http.MethodOptions)
	}
	for _, rt := range at {
		methods = append(methods, rt.method)
		if rt.method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

func listRoutes(routes []route) string {
	var list []string
	for _, r := range routes {
		list = append(list, r.method+" "+r.path)
	}
	return strings.Join(list, ", ")
}
