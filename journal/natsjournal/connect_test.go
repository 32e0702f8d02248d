package natsjournal_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"understudy.dev/internal/natsserver"
	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/natsjournal"
)

// startGuarded runs a server as somebody else has set it up.
func startGuarded(t *testing.T, opts *server.Options) *server.Server {
	t.Helper()
	opts.Host, opts.Port, opts.NoSigs, opts.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true
	opts.JetStream, opts.StoreDir = true, t.TempDir()
	s, err := server.NewServer(opts)
	must(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready")
	}
	return s
}

// works fences, appends and follows.
func works(t *testing.T, cfg natsjournal.Config) {
	t.Helper()
	cfg.Create = true
	j := open(t, cfg)
	entries := journaltest.Write(t, j, 2)
	if e := nextEntry(t, j, entries[1].Pos); e.Pos != entries[2].Pos {
		t.Errorf("entry %d, want %d", e.Pos, entries[2].Pos)
	}
}

// refused expects that nobody gets in like this.
func refused(t *testing.T, name string, cfg natsjournal.Config) {
	t.Helper()
	cfg.Stream = "TEST"
	if j, err := natsjournal.Open(t.Context(), cfg); err == nil {
		j.Close()
		t.Errorf("%s: Open = nil, want a refusal", name)
	}
}

func TestOpenWithTLS(t *testing.T) {
	dir := t.TempDir()
	ca, caKey := certificate(t, dir, "ca", nil, nil)
	certificate(t, dir, "server", ca, caKey)
	certificate(t, dir, "client", ca, caKey)
	file := func(name string) string { return filepath.Join(dir, name) }
	pair, err := tls.LoadX509KeyPair(file("server.pem"), file("server.key"))
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	srv := startGuarded(t, &server.Options{
		TLS: true, TLSVerify: true,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool},
	})
	url := srv.ClientURL()
	refused(t, "unknown authority", natsjournal.Config{URL: url})
	refused(t, "no client certificate", natsjournal.Config{URL: url, CA: file("ca.pem")})
	works(t, natsjournal.Config{URL: url, CA: file("ca.pem"), Cert: file("client.pem"), Key: file("client.key")})
	works(t, natsjournal.Config{Stream: "OTHER", URL: url, Cert: file("client.pem"), Key: file("client.key"), TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}})
}

// certificate writes NAME.pem and NAME.key; without a parent it is an authority.
func certificate(t *testing.T, dir, name string, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: parent == nil,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if parent == nil {
		parent, parentKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, parentKey)
	must(t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	must(t, err)
	writePEM(t, filepath.Join(dir, name+".pem"), "CERTIFICATE", der)
	writePEM(t, filepath.Join(dir, name+".key"), "EC PRIVATE KEY", keyDER)
	made, err := x509.ParseCertificate(der)
	must(t, err)
	return made, key
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// A context as the nats command keeps it, by the absolute path of its file.
func TestOpenWithContext(t *testing.T) {
	srv := startGuarded(t, &server.Options{Username: "u", Password: "secret"})
	refused(t, "no password", natsjournal.Config{URL: srv.ClientURL()})
	file := filepath.Join(t.TempDir(), "prod.json")
	data, err := json.Marshal(map[string]string{"url": srv.ClientURL(), "user": "u", "password": "secret"})
	must(t, err)
	must(t, os.WriteFile(file, data, 0o600))
	works(t, natsjournal.Config{Context: file})
	refused(t, "no such context", natsjournal.Config{Context: file + ".none"})

	u := strings.Replace(srv.ClientURL(), "nats://", "nats://u:secret@", 1)
	works(t, natsjournal.Config{URL: u, Stream: "OTHER"})
	if l := open(t, natsjournal.Config{URL: u}).Describe().Location; strings.Contains(l, "secret") {
		t.Errorf("Location = %q, which tells the password", l)
	}
	_, err = natsjournal.Open(t.Context(), natsjournal.Config{URL: strings.Replace(u, "secret", "hunter2", 1), Stream: "TEST"})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("Open with a wrong password: err = %v, want one that does not tell it", err)
	}
}

// A credentials file, against a server that trusts an operator.
func TestOpenWithCredentials(t *testing.T) {
	operator, account, user := keys(t, nkeys.CreateOperator), keys(t, nkeys.CreateAccount), keys(t, nkeys.CreateUser)
	system := keys(t, nkeys.CreateAccount)
	oc := jwt.NewOperatorClaims(public(t, operator))
	oc.SystemAccount = public(t, system)
	ac := jwt.NewAccountClaims(public(t, account))
	ac.Limits.JetStreamLimits = jwt.JetStreamLimits{DiskStorage: -1, MemoryStorage: -1}
	accountJWT, err := ac.Encode(operator)
	must(t, err)
	systemJWT, err := jwt.NewAccountClaims(public(t, system)).Encode(operator)
	must(t, err)
	operatorJWT, err := oc.Encode(operator)
	must(t, err)
	trusted, err := jwt.DecodeOperatorClaims(operatorJWT)
	must(t, err)
	resolver := &server.MemAccResolver{}
	must(t, resolver.Store(public(t, account), accountJWT))
	must(t, resolver.Store(public(t, system), systemJWT))
	srv := startGuarded(t, &server.Options{TrustedOperators: []*jwt.OperatorClaims{trusted}, AccountResolver: resolver, SystemAccount: public(t, system)})

	userJWT, err := jwt.NewUserClaims(public(t, user)).Encode(account)
	must(t, err)
	seed, err := user.Seed()
	must(t, err)
	creds, err := jwt.FormatUserConfig(userJWT, seed)
	must(t, err)
	file := filepath.Join(t.TempDir(), "user.creds")
	must(t, os.WriteFile(file, creds, 0o600))
	refused(t, "no credentials", natsjournal.Config{URL: srv.ClientURL()})
	works(t, natsjournal.Config{URL: srv.ClientURL(), Credentials: file})
}

func keys(t *testing.T, create func() (nkeys.KeyPair, error)) nkeys.KeyPair {
	t.Helper()
	k, err := create()
	must(t, err)
	return k
}

func public(t *testing.T, k nkeys.KeyPair) string {
	t.Helper()
	p, err := k.PublicKey()
	must(t, err)
	return p
}

// A domain changes the subjects of all requests.
func TestOpenInDomain(t *testing.T) {
	srv := startGuarded(t, &server.Options{JetStreamDomain: "hub"})
	works(t, natsjournal.Config{URL: srv.ClientURL(), Domain: "hub"})
}

// A connection of the caller's must not keep messages for later, and stays open.
func TestOpenWithConnection(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	buffers, err := nats.Connect(srv.ClientURL())
	must(t, err)
	defer buffers.Close()
	if _, err := natsjournal.Open(t.Context(), natsjournal.Config{Conn: buffers, Stream: "TEST"}); err == nil || !strings.Contains(err.Error(), "ReconnectBufSize(-1)") {
		t.Errorf("Open = %v, want a word about ReconnectBufSize(-1)", err)
	}
	nc, err := nats.Connect(srv.ClientURL(), nats.ReconnectBufSize(-1))
	must(t, err)
	defer nc.Close()
	j, err := natsjournal.Open(t.Context(), natsjournal.Config{Conn: nc, Stream: "TEST", Create: true})
	must(t, err)
	journaltest.Write(t, j, 1)
	must(t, j.Close())
	if nc.IsClosed() {
		t.Error("Close closed the caller's connection")
	}
	if _, err := j.Fence(t.Context(), 2, "b"); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("Fence after Close = %v, want %v", err, journal.ErrClosed)
	}
}

func TestOnClose(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	closed := 0
	cfg := natsjournal.Config{InProcess: srv, OnClose: func() { closed++ }}
	if _, err := natsjournal.Open(t.Context(), cfg); err == nil || closed != 1 {
		t.Errorf("Open without a name = %v, OnClose called %d times, want once", err, closed)
	}
	cfg.Stream, closed = "TEST", 0
	if _, err := natsjournal.Open(t.Context(), cfg); err == nil || closed != 1 {
		t.Errorf("Open of no stream = %v, OnClose called %d times, want once", err, closed)
	}
	cfg.Create = true
	j, err := natsjournal.Open(t.Context(), cfg)
	must(t, err)
	must(t, j.Close())
	must(t, j.Close())
	if closed != 2 {
		t.Errorf("OnClose called %d times, want twice", closed)
	}
}

func TestOpenWithoutServer(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	srv.Shutdown()
	_, err := natsjournal.Open(t.Context(), natsjournal.Config{URL: srv.ClientURL(), Stream: "TEST"})
	if !errors.Is(err, nats.ErrNoServers) {
		t.Errorf("Open = %v, want %v", err, nats.ErrNoServers)
	}
}

// An old server is refused before anything is asked of it.
func TestOpenOnOldServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "INFO {\"server_id\":\"old\",\"version\":\"2.14.3\",\"headers\":true,\"max_payload\":1048576}\r\n")
			r := bufio.NewReader(c)
			for line := ""; err == nil; line, err = r.ReadString('\n') {
				if strings.HasPrefix(line, "PING") {
					fmt.Fprint(c, "PONG\r\n")
				}
			}
			c.Close()
		}
	}()
	_, err = natsjournal.Open(t.Context(), natsjournal.Config{URL: "nats://" + l.Addr().String(), Stream: "TEST"})
	if err == nil || !strings.Contains(err.Error(), "2.14.4 or newer") {
		t.Errorf("Open on nats-server 2.14.3 = %v, want a refusal that names 2.14.4", err)
	}
}

// A server that takes requests and answers none ends a Follow with an error.
func TestFollowUnansweredServer(t *testing.T) {
	srv := startServer(t, natsserver.Config{})
	slow := startProxy(t, srv.ClientURL())
	j := open(t, natsjournal.Config{URL: slow.url(), Create: true, Options: []nats.Option{nats.PingInterval(time.Hour)}})
	journaltest.Write(t, j, 2)
	slow.hold()
	if _, err := follow(t, j, 0).entry(); !errors.Is(err, journal.ErrSilent) {
		t.Errorf("followed without an answer: err = %v, want %v", err, journal.ErrSilent)
	}
}
