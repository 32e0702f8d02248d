package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// publicHandler answers probes, load balancers and Prometheus.
func (s *Server) publicHandler() http.Handler {
	get := func(path string, h http.HandlerFunc) route {
		return route{method: http.MethodGet, path: path, access: NoAccess, serve: h}
	}
	metrics := s.cfg.Metrics.handler(s.cfg.Log)
	return s.stamped(s.mux([]route{
		get("/livez", s.getLive),
		get("/healthz", s.getLive),
		get("/readyz", s.getReady),
		get("/primary", s.getPrimary),
		get("/standby", s.getStandby),
		get("/metrics", metrics.ServeHTTP),
		get("/version", func(w http.ResponseWriter, _ *http.Request) { s.answer(w, http.StatusOK, s.cfg.Build) }),
	}))
}

func (s *Server) getLive(w http.ResponseWriter, r *http.Request) {
	snap := s.node.Snapshot()
	s.health(w, r, live(&snap, time.Now(), s.cfg.StuckAfter))
}

func (s *Server) getReady(w http.ResponseWriter, r *http.Request) {
	snap := s.node.Snapshot()
	s.health(w, r, append(live(&snap, time.Now(), s.cfg.StuckAfter), ready(&snap, s.limits())...))
}

func (s *Server) getPrimary(w http.ResponseWriter, r *http.Request) {
	snap := s.node.Snapshot()
	s.health(w, r, append(live(&snap, time.Now(), s.cfg.StuckAfter), primary(&snap)...))
}

func (s *Server) getStandby(w http.ResponseWriter, r *http.Request) {
	l, err := s.limits().override(r.URL.Query())
	if err != nil {
		s.refuse(w, err, BadRequest)
		return
	}
	snap := s.node.Snapshot()
	s.health(w, r, append(live(&snap, time.Now(), s.cfg.StuckAfter), standby(&snap, l)...))
}

func (s *Server) limits() limits {
	return limits{records: s.cfg.ReadyMaxLagRecords, lag: s.cfg.ReadyMaxLag}
}

// override returns the limits that a load balancer asks for in ?max_lag_records=
// and ?max_lag=.
func (l limits) override(q url.Values) (limits, error) {
	if v := q.Get("max_lag_records"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return l, fmt.Errorf("max_lag_records=%s: want a number from 0", v)
		}
		l.records = n
	}
	if v := q.Get("max_lag"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return l, fmt.Errorf("max_lag=%s: want a duration such as 2s", v)
		}
		l.lag = d
	}
	return l, nil
}

// health answers 200 if all conditions hold, else 503 or what ?code= says, for
// load balancers that cannot be configured. ?exclude= leaves conditions out,
// ?verbose lists also those that hold.
func (s *Server) health(w http.ResponseWriter, r *http.Request, conditions []condition) {
	q := r.URL.Query()
	failing, err := failureCode(q)
	if err != nil {
		s.refuse(w, err, BadRequest)
		return
	}
	body, ok := report(conditions, q["exclude"], q.Has("verbose"))
	status := http.StatusOK
	if !ok {
		status = failing
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprint(w, body)
}

func failureCode(q url.Values) (int, error) {
	v := q.Get("code")
	if v == "" {
		return http.StatusServiceUnavailable, nil
	}
	code, err := strconv.Atoi(v)
	if err != nil || code < 200 || code > 599 {
		return 0, fmt.Errorf("code=%s: want an HTTP status from 200 to 599", v)
	}
	return code, nil
}

// report lists the conditions as kube-apiserver does and says whether all of
// them hold. An exclusion that matches nothing is named, and harmless.
func report(conditions []condition, exclude []string, verbose bool) (string, bool) {
	left := map[string]bool{}
	for _, e := range exclude {
		for name := range strings.SplitSeq(e, ",") {
			left[name] = true
		}
	}
	var b strings.Builder
	ok := true
	for _, c := range conditions {
		switch {
		case left[c.name]:
			delete(left, c.name)
			if verbose {
				fmt.Fprintf(&b, "[+]%s excluded\n", c.name)
			}
		case c.fault != "":
			ok = false
			fmt.Fprintf(&b, "[-]%s failed: %s\n", c.name, c.fault)
		case verbose:
			fmt.Fprintf(&b, "[+]%s ok\n", c.name)
		}
	}
	if verbose && len(left) > 0 {
		fmt.Fprintf(&b, "warn: %d exclusions match nothing here\n", len(left))
	}
	if ok && !verbose {
		return "ok\n", true
	}
	return b.String(), ok
}
