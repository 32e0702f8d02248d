// Package journalurl opens a journal of any backend by its URL.
//
//	mem:                                     in this process, gone with it
//	file:///dir  file:dir                    a directory of segments on this machine
//	file:///x.udj                            an exported archive, read-only
//	sqlite:///path  sqlite:path              a journal in a SQLite database
//	embedded:///dir  embedded:dir            JetStream in this process
//	nats://h1,h2,h3/STREAM                   JetStream on servers of their own
//	nats+context://NAME/STREAM               the same through a saved NATS context
//
// sqlite takes journal=NAME (default main); one database holds any number.
//
// Queries of the last three: replicas=N makes or checks that many copies;
// sync=always declares that every server syncs before it acknowledges, which
// cannot be seen from outside; creds=FILE, ca=FILE, cert=FILE and key=FILE are
// for authentication and TLS (tls://h/STREAM requires TLS); embedded takes
// stream=NAME (default UNDERSTUDY).
//
// It imports every backend, so a program that links it links them all: a
// library user opens the backend that they chose directly.
package journalurl

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"understudy.dev/internal/natsserver"
	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/memjournal"
	"understudy.dev/journal/natsjournal"
	"understudy.dev/journal/sqlitejournal"
)

// Options say how a journal is opened.
type Options struct {
	ReadOnly bool // open without being able to write; where the backend can
	Create   bool // make the journal if it is missing
}

// ErrURL is matched by every error about the form of a URL.
var ErrURL = errors.New("journal URL")

// opener opens one scheme.
type opener func(ctx context.Context, u *url.URL, o Options) (journal.Journal, error)

// schemes in the order in which they are shown.
var schemes = []string{"mem", "file", "sqlite", "embedded", "nats", "tls", "nats+context"}

// Open opens the journal at raw. An error that matches ErrURL says what is wrong
// with the URL.
func Open(ctx context.Context, raw string, o Options) (journal.Journal, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrURL, Redact(raw), err)
	}
	if strings.Contains(raw, "#") {
		return nil, fmt.Errorf("%w: %s: has a #, which ends the path: write %%23 for the sign itself", ErrURL, u.Scheme) // a password may be split there
	}
	open, ok := map[string]opener{
		"mem": openMemory, "file": openFile, "sqlite": openSQLite, "embedded": openEmbedded,
		"nats": openNATS, "tls": openNATS, "nats+context": openContext,
	}[u.Scheme]
	if !ok {
		return nil, fmt.Errorf("%w %q: scheme %q is unknown; there are %s", ErrURL, Redact(raw), u.Scheme, strings.Join(schemes, ", "))
	}
	j, err := open(ctx, u, o)
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", Redact(raw), err)
	}
	return j, nil
}

// Redact returns raw without a password or token in it.
func Redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.User == nil {
		return raw
	}
	return u.Redacted()
}

// check refuses queries that the scheme does not know and parts it has no use for.
func check(u *url.URL, known ...string) error {
	for k := range u.Query() {
		if !slices.Contains(known, k) {
			return fmt.Errorf("%w: %s: does not know %q; %s", ErrURL, u.Scheme, k, takes(known))
		}
	}
	return nil
}

// takes says which queries there are.
func takes(known []string) string {
	if len(known) == 0 {
		return "it takes no query"
	}
	return "it takes " + strings.Join(known, ", ")
}

// path returns the path of scheme:///absolute and scheme:relative.
func path(u *url.URL) (string, error) {
	switch {
	case u.Host != "":
		return "", fmt.Errorf("%w: %s://%s…: write %s:///absolute/path or %s:relative/path", ErrURL, u.Scheme, u.Host, u.Scheme, u.Scheme)
	case u.Opaque != "":
		return url.PathUnescape(u.Opaque)
	case u.Path == "":
		return "", fmt.Errorf("%w: %s: names no path", ErrURL, u.Scheme)
	}
	return u.Path, nil
}

// exists refuses a folder that is not there unless it may be made.
func exists(dir string, o Options) error {
	if o.Create {
		return nil
	}
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = errors.New("it is not a folder; an exported archive ends in .udj")
	}
	return err
}

func openMemory(_ context.Context, u *url.URL, _ Options) (journal.Journal, error) {
	if err := check(u); err != nil {
		return nil, err
	}
	return memjournal.New(), nil
}

func openFile(_ context.Context, u *url.URL, o Options) (journal.Journal, error) {
	p, err := path(u)
	if err = errors.Join(err, check(u)); err != nil {
		return nil, err
	}
	if strings.HasSuffix(p, ".udj") {
		return filejournal.OpenArchive(p)
	}
	if err := exists(p, o); err != nil {
		return nil, err
	}
	return filejournal.Open(p, filejournal.Config{ReadOnly: o.ReadOnly})
}

func openSQLite(ctx context.Context, u *url.URL, o Options) (journal.Journal, error) {
	p, err := path(u)
	name := u.Query().Get("journal")
	if u.Query().Has("journal") {
		if bad := sqlitejournal.CheckName(name); bad != nil {
			err = errors.Join(err, fmt.Errorf("%w: journal=%s: %w", ErrURL, name, bad))
		}
	}
	if err = errors.Join(err, check(u, "journal")); err != nil {
		return nil, err
	}
	return sqlitejournal.Open(ctx, p, sqlitejournal.Config{Name: name, Create: o.Create, ReadOnly: o.ReadOnly})
}

// embeddedStream is the stream of an embedded journal that names none.
const embeddedStream = "UNDERSTUDY"

func openEmbedded(ctx context.Context, u *url.URL, o Options) (journal.Journal, error) {
	dir, err := path(u)
	if err = errors.Join(err, check(u, "stream")); err != nil {
		return nil, err
	}
	stream := u.Query().Get("stream")
	if stream == "" {
		stream = embeddedStream
	}
	if err := exists(dir, o); err != nil {
		return nil, err
	}
	srv, err := natsserver.Start(ctx, natsserver.Config{Dir: dir, NoListen: true})
	if err != nil {
		return nil, err
	}
	return natsjournal.Open(ctx, natsjournal.Config{
		Stream: stream, InProcess: srv, Create: o.Create, SyncAlways: true, OnClose: srv.Shutdown,
	})
}

func openNATS(ctx context.Context, u *url.URL, o Options) (journal.Journal, error) {
	cfg, err := natsConfig(u, o)
	if err != nil {
		return nil, err
	}
	var hosts []string
	for h := range strings.SplitSeq(u.Host, ",") {
		one := url.URL{Scheme: u.Scheme, User: u.User, Host: h}
		hosts = append(hosts, one.String())
	}
	cfg.URL = strings.Join(hosts, ",")
	return natsjournal.Open(ctx, cfg)
}

func openContext(ctx context.Context, u *url.URL, o Options) (journal.Journal, error) {
	cfg, err := natsConfig(u, o)
	if err != nil {
		return nil, err
	}
	cfg.Context = u.Host
	return natsjournal.Open(ctx, cfg)
}

// natsConfig reads what the two ways to name a server share.
func natsConfig(u *url.URL, o Options) (natsjournal.Config, error) {
	q := u.Query()
	cfg := natsjournal.Config{
		Stream: strings.TrimPrefix(u.Path, "/"), Create: o.Create,
		Credentials: q.Get("creds"), CA: q.Get("ca"), Cert: q.Get("cert"), Key: q.Get("key"),
	}
	faults := []error{check(u, "replicas", "sync", "creds", "ca", "cert", "key")}
	if cfg.Stream == "" || u.Host == "" {
		faults = append(faults, fmt.Errorf("%w: %s: want %s://HOST/STREAM", ErrURL, u.Scheme, u.Scheme))
	}
	if s := q.Get("replicas"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			faults = append(faults, fmt.Errorf("%w: replicas=%s: want a number from 1", ErrURL, s))
		}
		cfg.Replicas = n
	}
	switch s := q.Get("sync"); s {
	case "":
	case "always":
		cfg.SyncAlways = true
	default:
		faults = append(faults, fmt.Errorf("%w: sync=%s: want always, or leave it out", ErrURL, s))
	}
	return cfg, errors.Join(faults...)
}
