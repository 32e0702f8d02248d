package cli

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/journalurl"
)

// awaitEvery is the pause between two attempts to reach a journal's servers.
const awaitEvery = 250 * time.Millisecond

// awaitJournal opens the journal that the flags name for a node. As long as nobody
// listens at any address of its URL it tries again, so that a node may be started
// before its journal; any other failure is final.
func (e *Env) awaitJournal(ctx context.Context, within time.Duration, log *slog.Logger) (journal.Journal, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	addrs := serverAddrs(e.Global.Journal)
	for first := true; ; first = false {
		heard := len(addrs) == 0 || listening(ctx, addrs)
		j, err := journalurl.Open(ctx, e.Global.Journal, journalurl.Options{Create: true})
		if err == nil || heard || errors.Is(err, journalurl.ErrURL) {
			return j, err
		}
		if first {
			log.Warn("nobody listens where the journal should be; trying again", "event", "journal.lost", "url", journalurl.Redact(e.Global.Journal), "error", err)
		}
		select {
		case <-time.After(awaitEvery):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// serverPorts are the ports of the servers that a scheme means by default.
var serverPorts = map[string]string{"nats": "4222", "tls": "4222", "postgres": "5432", "postgresql": "5432", "redis": "6379", "rediss": "6379"}

// serverAddrs returns the addresses of the servers that a journal's URL names, none
// where it names no host.
func serverAddrs(url string) []string {
	scheme, rest, _ := strings.Cut(url, "://")
	port := serverPorts[scheme]
	if port == "" {
		return nil
	}
	rest, _, _ = strings.Cut(rest, "/")
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	var addrs []string
	for h := range strings.SplitSeq(rest, ",") {
		if _, _, err := net.SplitHostPort(h); err != nil {
			h = net.JoinHostPort(strings.Trim(h, "[]"), port)
		}
		addrs = append(addrs, h)
	}
	return addrs
}

// listening reports whether one of the addresses takes a connection.
func listening(ctx context.Context, addrs []string) bool {
	d := net.Dialer{Timeout: time.Second}
	for _, a := range addrs {
		if c, err := d.DialContext(ctx, "tcp", a); err == nil {
			c.Close()
			return true
		}
	}
	return false
}
