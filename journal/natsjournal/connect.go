package natsjournal

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/natscontext"
)

const (
	pingEvery   = time.Second
	pingsMissed = 2
	dialTimeout = 2 * time.Second
)

// connect returns a connection and JetStream on it.
func connect(cfg Config) (*nats.Conn, jetstream.JetStream, error) {
	if cfg.Conn != nil {
		js, err := jetStream(cfg.Conn, cfg.Domain, "")
		return cfg.Conn, js, err
	}
	nc, settings, err := dial(cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to %s: %w", where(cfg), err)
	}
	domain, prefix := cfg.Domain, ""
	if domain == "" {
		domain, prefix = settings.JSDomain, settings.JSAPIPrefix
	}
	js, err := jetStream(nc, domain, prefix)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return nc, js, nil
}

func dial(cfg Config) (*nats.Conn, natscontext.Settings, error) {
	opts := options(cfg)
	switch {
	case cfg.Context != "":
		return natscontext.Connect(cfg.Context, opts...)
	case cfg.InProcess != nil:
		nc, err := nats.Connect("", append(opts, nats.InProcessServer(cfg.InProcess))...)
		return nc, natscontext.Settings{}, err
	default:
		nc, err := nats.Connect(cfg.URL, opts...)
		return nc, natscontext.Settings{}, err
	}
}

// jetStream applies a domain as the API prefix that it stands for: all our
// libraries agree about prefixes.
func jetStream(nc *nats.Conn, domain, prefix string) (jetstream.JetStream, error) {
	if domain != "" {
		prefix = "$JS." + domain + ".API"
	}
	if prefix == "" {
		prefix = strings.TrimSuffix(jetstream.DefaultAPIPrefix, ".")
	}
	return jetstream.NewWithAPIPrefix(nc, prefix)
}

// options finds a dead server within two to three seconds, looks for another
// without end, and buffers nothing meanwhile.
func options(cfg Config) []nats.Option {
	opts := []nats.Option{
		nats.Name("understudy " + cfg.Stream),
		nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(pingsMissed),
		nats.Timeout(dialTimeout),
		nats.ReconnectBufSize(-1), nats.MaxReconnects(-1), nats.CustomReconnectDelay(reconnectDelay),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // instead of printing: what was missed is read back
	}
	if cfg.Credentials != "" {
		opts = append(opts, nats.UserCredentials(cfg.Credentials))
	}
	if cfg.TLS != nil {
		opts = append(opts, nats.Secure(cfg.TLS.Clone()))
	} else if cfg.CA != "" || cfg.Cert != "" {
		opts = append(opts, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12}))
	}
	if cfg.CA != "" {
		opts = append(opts, nats.RootCAs(cfg.CA))
	}
	if cfg.Cert != "" {
		opts = append(opts, nats.ClientCert(cfg.Cert, cfg.Key))
	}
	return append(opts, cfg.Options...)
}

// reconnectDelay is the pause after each round through all known servers.
func reconnectDelay(rounds int) time.Duration {
	return min(time.Second, 10*time.Millisecond<<min(rounds, 7))
}

// where names the place of a journal without secrets.
func where(cfg Config) string {
	switch {
	case cfg.Context != "":
		return "context " + cfg.Context
	case cfg.InProcess != nil:
		return "the server in this process"
	}
	var hosts []string
	for _, u := range strings.Split(cfg.URL, ",") {
		_, host, found := strings.Cut(u, "@")
		if !found {
			host = strings.TrimPrefix(u, "nats://")
		}
		hosts = append(hosts, strings.TrimSpace(host))
	}
	return strings.Join(hosts, ",")
}

// place names where the journal is, once connected.
func (j *Journal) place() string {
	if j.cfg.Conn != nil {
		return j.nc.ConnectedUrlRedacted()
	}
	return where(j.cfg)
}

// The oldest server that fences proposals by term.
var oldest = [3]int{2, 14, 4}

// checkVersion refuses servers that do not fence. A pre-release counts as the
// release it precedes.
func checkVersion(version string) error {
	got, err := parseVersion(version)
	if err != nil {
		return err
	}
	for i := range oldest {
		if got[i] > oldest[i] {
			return nil
		}
		if got[i] < oldest[i] {
			return fmt.Errorf("nats-server %s does not fence writes of a deposed leader: run %d.%d.%d or newer", version, oldest[0], oldest[1], oldest[2])
		}
	}
	return nil
}

func parseVersion(version string) (v [3]int, err error) {
	number, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), "-")
	parts := strings.Split(number, ".")
	if len(parts) != len(v) {
		return v, fmt.Errorf("nats-server version %q: want three numbers", version)
	}
	for i, p := range parts {
		if v[i], err = strconv.Atoi(p); err != nil {
			return v, errors.New("nats-server version " + strconv.Quote(version) + ": want three numbers")
		}
	}
	return v, nil
}
