package cli

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"understudy.dev/admin"
	"understudy.dev/node"
)

// namesakes looks for other processes that bear this node's name. The journal tells
// two such processes apart by their owners, so nothing is unsafe; an operator who
// promotes by name cannot.
type namesakes struct {
	overview func() node.Overview
	started  admin.Time // tells this process from its namesakes
	own      string     // this node's admin URL
	peers    []string
	ask      func(ctx context.Context, urls []string) ([]admin.NodeStatus, error)
	log      *slog.Logger

	told []time.Time // when the namesakes that were warned of had started
}

// How often is looked whether a primary began its tenure, which is asked at once,
// and how often the others are asked all the same.
const (
	namesakeLook  = time.Second
	namesakeEvery = time.Minute
)

// watch warns of each namesake once, until ctx ends.
func (s *namesakes) watch(ctx context.Context) {
	tick := time.NewTicker(namesakeLook)
	defer tick.Stop()
	var tenure string
	var asked time.Time
	for {
		t := s.overview().Tenure
		if key := t.Node + " " + t.Admin; asked.IsZero() || key != tenure || time.Since(asked) >= namesakeEvery {
			s.look(ctx, t.Admin)
			tenure, asked = key, time.Now()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look asks the peers and the newest primary once. Who does not answer is no
// namesake that anybody could promote.
func (s *namesakes) look(ctx context.Context, primary string) {
	urls := slices.Clone(s.peers)
	if primary != "" && !strings.HasPrefix(primary, "unix:") {
		urls = append(urls, primary) // a socket is one of its own machine
	}
	urls = slices.DeleteFunc(urls, func(u string) bool { return u == s.own })
	slices.Sort(urls)
	if urls = slices.Compact(urls); len(urls) == 0 {
		return
	}
	rows, err := s.ask(ctx, urls)
	if err != nil {
		return
	}
	me := s.overview().Node
	for i := range rows {
		n := &rows[i]
		if !n.Reachable || n.Node != me || n.StartedAt.Equal(s.started.Time) || slices.ContainsFunc(s.told, n.StartedAt.Equal) {
			continue
		}
		s.told = append(s.told, n.StartedAt.Time)
		s.log.Warn("another process has the name of this node: start one of them with another --node",
			"event", "node.name_taken", "node", me, "admin", n.Admin, "started_at", n.StartedAt.Time)
	}
}

// sameNames returns the names that more than one of the rows that answered bear,
// each with the rows' admin URLs.
func sameNames(rows []admin.NodeStatus) map[string][]string {
	urls := map[string][]string{}
	for i := range rows {
		if n := &rows[i]; n.Reachable {
			urls[n.Node] = append(urls[n.Node], n.Admin)
		}
	}
	for name, list := range urls {
		if len(list) < 2 {
			delete(urls, name)
		}
	}
	return urls
}
