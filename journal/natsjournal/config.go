package natsjournal

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// A Config says which stream to open and how to reach it. Exactly one of URL,
// Context, InProcess and Conn says where.
type Config struct {
	Stream string // the stream's name, which names the journal; required

	URL       string                     // nats://host:port, several separated by commas; may carry user and password
	Context   string                     // a NATS context by name or by the absolute path of its file, as the nats command keeps them
	InProcess nats.InProcessConnProvider // a server in this process
	Conn      *nats.Conn                 // a connection of the caller's, who closes it; made with ReconnectBufSize(-1)

	// Credentials is a file with a user's JWT and key. CA, Cert and Key are PEM
	// files. TLS, if not nil, is where they are added.
	Credentials   string
	CA, Cert, Key string
	TLS           *tls.Config
	Domain        string        // JetStream domain; default that of the context, or none
	Options       []nats.Option // appended to ours

	// Create makes the stream if it is missing. Replicas is how many copies it
	// shall have: for Create the default is 1; for a stream that exists 0 takes
	// what is there and another number is checked.
	Create   bool
	Replicas int

	// SyncAlways says that every server of the stream syncs before it
	// acknowledges (sync_interval: always), which cannot be seen from outside.
	SyncAlways bool

	// AckTimeout bounds one request. Default DefaultAckTimeout.
	AckTimeout time.Duration

	// OnClose, if not nil, is called once: when the handle was closed, or before
	// Open returns an error. It can stop a server that lives for this handle.
	OnClose func()
}

func (c *Config) setDefaults() {
	if c.AckTimeout == 0 {
		c.AckTimeout = DefaultAckTimeout
	}
}

// validate reports all faults at once.
func (c *Config) validate() error {
	var faults []error
	if err := checkStreamName(c.Stream); err != nil {
		faults = append(faults, err)
	}
	where := 0
	for _, given := range []bool{c.URL != "", c.Context != "", c.InProcess != nil, c.Conn != nil} {
		if given {
			where++
		}
	}
	if where != 1 {
		faults = append(faults, fmt.Errorf("%d of URL, Context, InProcess and Conn are given, want one", where))
	}
	if (c.Cert == "") != (c.Key == "") {
		faults = append(faults, errors.New("a client certificate needs both Cert and Key"))
	}
	if c.Replicas < 0 || c.Replicas > 5 {
		faults = append(faults, fmt.Errorf("%d replicas, JetStream has 1 to 5", c.Replicas))
	}
	if c.AckTimeout < 0 {
		faults = append(faults, fmt.Errorf("acknowledgement timeout %v", c.AckTimeout))
	}
	if c.Conn != nil && c.Conn.Opts.ReconnectBufSize >= 0 {
		faults = append(faults, errors.New("the connection keeps messages while it is disconnected and sends them later, behind the writer's back: make it with nats.ReconnectBufSize(-1)"))
	}
	return errors.Join(faults...)
}

// checkStreamName refuses what JetStream or a subject cannot take: the name is
// one token of our subjects.
func checkStreamName(name string) error {
	switch {
	case name == "":
		return errors.New("no stream name")
	case len(name) > 200:
		return fmt.Errorf("stream name of %d bytes, at most 200", len(name))
	case strings.ContainsAny(name, " \t\r\n.*>/\\") || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' }):
		return fmt.Errorf("stream name %q: letters, digits, _ and - only", name)
	}
	return nil
}
