package admin

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// peerLimit is how long ?cluster=1 waits for another node.
const peerLimit = time.Second

// A peer is another node of the group, and the last row that it gave.
type peer struct {
	url    string
	client *Client

	mu   sync.Mutex
	last NodeStatus
}

func newPeer(url, token string) *peer {
	return &peer{url: url, client: &Client{BaseURLs: []string{url}, Token: token}}
}

func (p *peer) close() { p.client.Close() }

// ask returns the peer's row for a group. A peer that does not answer in time
// keeps the row that it last gave.
func (p *peer) ask(ctx context.Context, group string) NodeStatus {
	ctx, cancel := context.WithTimeout(ctx, peerLimit)
	defer cancel()
	st, err := p.client.own(ctx, p.url)
	if err == nil && st.Group != group {
		err = fmt.Errorf("it belongs to group %q", st.Group)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		return p.last.unreachable(p.url, err)
	}
	p.last = st.Nodes[0]
	return p.last
}

// askPeers asks all peers at once. A peer that is this node itself, by its URL in
// a list that all nodes share, is left out.
func (s *Server) askPeers(ctx context.Context, own *Status) []NodeStatus {
	rows := make([]NodeStatus, len(s.peers))
	var wg sync.WaitGroup
	for i, p := range s.peers {
		wg.Go(func() { rows[i] = p.ask(ctx, own.Group) })
	}
	wg.Wait()
	others := rows[:0]
	for _, row := range rows {
		if me := own.Nodes[0]; row.Node != me.Node || !row.StartedAt.Equal(me.StartedAt.Time) {
			others = append(others, row)
		}
	}
	return others
}
