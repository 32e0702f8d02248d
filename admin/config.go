package admin

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Defaults of a Config.
const (
	DefaultAdmin              = "127.0.0.1:7070"
	DefaultPublic             = "127.0.0.1:7071"
	DefaultReadyMaxLagRecords = 1000
	DefaultReadyMaxLag        = 5 * time.Second
	DefaultStuckAfter         = 30 * time.Second // systemd's usual WatchdogSec; a batch takes milliseconds
	DefaultOperations         = 256
)

// A Config says where a Server listens and whom it answers. The zero value
// listens on loopback, without tokens.
type Config struct {
	Admin     string // host:port or unix:PATH; default DefaultAdmin
	Public    string // host:port; default DefaultPublic
	TokenFile string // lines of read:TOKEN or operate:TOKEN; required beyond loopback
	TLS       *tls.Config
	// InsecureHTTP allows tokens to travel beyond loopback without TLS. The
	// server complains about it each hour.
	InsecureHTTP bool
	Hosts        []string // names that a Host header may carry on loopback without tokens, besides the listener's own

	ReadyMaxLagRecords int64         // a standby further behind is not ready; default 1000; below 0 no limit
	ReadyMaxLag        time.Duration // the same in log time; default 5 s; below 0 no limit
	StuckAfter         time.Duration // a loop that is busy with one thing for longer is stuck; default 30 s

	Peers     []string // admin URLs of the group's other nodes, for ?cluster=1
	PeerToken string   // a read token for them

	Operations int      // operations kept in memory; default 256
	Metrics    *Metrics // what the node observes into; default one of the server's own
	Build      Build
	Log        *slog.Logger // default discards
}

// Build is what was built: the answer of GET /version.
type Build struct {
	Version      string `json:"version"`
	Revision     string `json:"revision"`
	GoVersion    string `json:"goversion"`
	GoArch       string `json:"goarch"` // with its level, such as amd64/v1
	Machine      string `json:"machine"`
	LogicVersion uint32 `json:"logic_version"`
	API          int    `json:"api"` // set by the server
}

func (c Config) withDefaults() Config {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&c.Admin, DefaultAdmin)
	def(&c.Public, DefaultPublic)
	if c.ReadyMaxLagRecords == 0 {
		c.ReadyMaxLagRecords = DefaultReadyMaxLagRecords
	}
	if c.ReadyMaxLag == 0 {
		c.ReadyMaxLag = DefaultReadyMaxLag
	}
	if c.StuckAfter == 0 {
		c.StuckAfter = DefaultStuckAfter
	}
	if c.Operations == 0 {
		c.Operations = DefaultOperations
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(c.Build, nil)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Build.API = apiVersion
	return c
}

// Validate reports every fault of the configuration together, without touching
// network or disk.
func (c Config) Validate() error {
	c = c.withDefaults()
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if beyond, err := beyondLoopback(c.Admin); err != nil {
		fault("admin-addr: %w", err)
	} else if beyond {
		if c.TokenFile == "" {
			fault("admin-addr %s is beyond loopback: it needs a token file", c.Admin)
		}
		if c.TLS == nil && !c.InsecureHTTP {
			fault("admin-addr %s is beyond loopback: tokens need TLS, or insecure-http to send them in the clear", c.Admin)
		}
	}
	if _, err := beyondLoopback(c.Public); err != nil || isUnix(c.Public) {
		fault("http-addr: want host:port, have %q", c.Public)
	}
	if c.StuckAfter < 0 {
		fault("stuck-after %v is negative", c.StuckAfter)
	}
	if c.Operations < 2 {
		fault("operations %d: at least 2", c.Operations)
	}
	for _, p := range c.Peers {
		if _, err := parseBase(p); err != nil {
			fault("peer: %w", err)
		}
	}
	return errors.Join(faults...)
}

const unixPrefix = "unix:"

func isUnix(addr string) bool { return strings.HasPrefix(addr, unixPrefix) }

// beyondLoopback reports whether others than this machine can reach addr. A name
// other than localhost counts as beyond, whatever it resolves to today.
func beyondLoopback(addr string) (bool, error) {
	if isUnix(addr) {
		if len(addr) == len(unixPrefix) {
			return false, fmt.Errorf("%q names no socket", addr)
		}
		return false, nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false, fmt.Errorf("want host:port or unix:PATH: %w", err)
	}
	if host == "localhost" {
		return false, nil
	}
	ip, err := netip.ParseAddr(host)
	return err != nil || !ip.Unmap().IsLoopback(), nil
}
