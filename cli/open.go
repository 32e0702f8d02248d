package cli

import (
	"context"
	"fmt"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/journalurl"
)

// openJournal opens the journal that the flags name, and warns of what opening it
// set aside.
func (e *Env) openJournal(ctx context.Context, within time.Duration, o journalurl.Options) (journal.Journal, error) {
	j, err := openWithin(ctx, within, e.Global.Journal, o)
	if err == nil && !o.ReadOnly {
		e.warnRecovered(j)
	}
	return j, err
}

// openGrace is how long a backend that heeds the context is given to say what it was
// doing, which is more than that time is up.
const openGrace = 250 * time.Millisecond

// openWithin opens the journal at url, and gives up when ctx ends or the time is up.
// A folder that another process recovers is waited for by the system and heeds no
// context: opening it goes on in the background then, and closes what it opened.
func openWithin(ctx context.Context, within time.Duration, url string, o journalurl.Options) (journal.Journal, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	type opened struct {
		j   journal.Journal
		err error
	}
	opening := make(chan opened, 1)
	go func() {
		j, err := journalurl.Open(ctx, url, o)
		opening <- opened{j, err}
	}()
	select {
	case r := <-opening:
		return r.j, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-opening:
		return r.j, r.err
	case <-time.After(openGrace):
	}
	go func() {
		if r := <-opening; r.err == nil {
			r.j.Close()
		}
	}()
	return nil, fmt.Errorf("open journal %s: it was not open in time, as while another process recovers it: %w", journalurl.Redact(url), context.Cause(ctx))
}
