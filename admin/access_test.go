package admin

import (
	"bytes"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const (
	readToken    = "read-0123456789abcdef"
	operateToken = "operate-0123456789abcdef"
)

// writeTokens writes a token file and returns its name.
func writeTokens(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestTokens(t *testing.T) {
	file := writeTokens(t, "# operators\n\nread:"+readToken+"\noperate:"+operateToken+"\n")
	s := startServer(t, Config{TokenFile: file}, standbyB())
	tests := []struct {
		name, method, path, auth string
		want                     int
	}{
		{name: "none", method: "GET", path: "/admin/status", want: 401},
		{name: "wrong", method: "GET", path: "/admin/status", auth: "Bearer 0123456789abcdef0123", want: 401},
		{name: "part of one", method: "GET", path: "/admin/status", auth: "Bearer " + readToken[:20], want: 401},
		{name: "empty", method: "GET", path: "/admin/status", auth: "Bearer ", want: 401},
		{name: "another scheme", method: "GET", path: "/admin/status", auth: "Basic " + readToken, want: 401},
		{name: "bare", method: "GET", path: "/admin/status", auth: readToken, want: 401},
		{name: "read reads", method: "GET", path: "/admin/status", auth: "Bearer " + readToken, want: 200},
		{name: "read reads checks", method: "GET", path: "/admin/checks", auth: "Bearer " + readToken, want: 200},
		{name: "read does not promote", method: "POST", path: "/admin/promote", auth: "Bearer " + readToken, want: 403},
		{name: "none does not promote", method: "POST", path: "/admin/promote", want: 401},
		{name: "operate reads", method: "GET", path: "/admin/operations", auth: "Bearer " + operateToken, want: 200},
		{name: "operate promotes", method: "POST", path: "/admin/promote", auth: "Bearer " + operateToken, want: 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := call(t, tt.method, s.AdminURL()+tt.path, "", "Authorization: "+tt.auth)
			if r.status != tt.want {
				t.Errorf("got %d %s, want %d", r.status, r.body, tt.want)
			}
			if got := r.header.Get("WWW-Authenticate"); (got != "") != (tt.want == 401) {
				t.Errorf("WWW-Authenticate: got %q", got)
			}
		})
	}
}

func TestReload(t *testing.T) {
	file := writeTokens(t, "read:"+readToken)
	s := startServer(t, Config{TokenFile: file}, standbyB())
	status := func(token string) int {
		return call(t, "GET", s.AdminURL()+"/admin/status", "", "Authorization: Bearer "+token).status
	}
	if err := os.WriteFile(file, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err == nil || status(readToken) != 200 {
		t.Errorf("Reload of garbage: got %v; want an error and the tokens as before", err)
	}
	if err := os.WriteFile(file, []byte("read:"+operateToken), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err != nil || status(readToken) != 401 || status(operateToken) != 200 {
		t.Errorf("Reload: got %v; want the old token out and the new one in", err)
	}
}

func TestTokenFileFaults(t *testing.T) {
	for _, tt := range []struct{ name, content, want string }{
		{"empty", "# nothing\n", "no tokens"},
		{"unknown role", "read:" + readToken + "\nadmin:" + operateToken, "line 2"},
		{"no role", readToken, "line 1"},
		{"short", "operate:short-secret", "12 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := readTokenFile(writeTokens(t, tt.content))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want an error with %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), operateToken) {
				t.Errorf("the error shows a token: %v", err)
			}
		})
	}
}

// Without tokens only what names this listener gets in, and no web page.
func TestLoopbackGuards(t *testing.T) {
	tests := []struct {
		name, method, host, header string
		want                       int
	}{
		{name: "its address", method: "GET", want: 200},
		{name: "localhost at a forwarded port", method: "GET", host: "localhost:9999", want: 200},
		{name: "IPv6", method: "GET", host: "[::1]:7070", want: 200},
		{name: "a name it was given", method: "GET", host: "orders.test", want: 200},
		{name: "rebound name", method: "GET", host: "evil.example:7070", want: 403},
		{name: "rebound subdomain", method: "GET", host: "localhost.evil.example", want: 403},
		{name: "same-origin page", method: "POST", header: "Sec-Fetch-Site: same-origin", want: 200},
		{name: "cross-site page", method: "POST", header: "Sec-Fetch-Site: cross-site", want: 403},
		{name: "another origin", method: "POST", header: "Origin: http://evil.example", want: 403},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := startServer(t, Config{Hosts: []string{"orders.test"}}, standbyB())
			path := map[string]string{"GET": "/admin/status", "POST": "/admin/promote"}[tt.method]
			var header []string
			if tt.host != "" {
				header = append(header, "Host: "+tt.host)
			}
			if tt.header != "" {
				header = append(header, tt.header)
			}
			if r := call(t, tt.method, s.AdminURL()+path, "", header...); r.status != tt.want {
				t.Errorf("got %d %s, want %d", r.status, r.body, tt.want)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name string
		cfg  Config
		want []string // all in one error; none means valid
	}{
		{name: "zero value"},
		{name: "IPv6 loopback", cfg: Config{Admin: "[::1]:7070"}},
		{name: "unix socket", cfg: Config{Admin: "unix:/run/x.sock"}},
		{name: "beyond, bare", cfg: Config{Admin: "0.0.0.0:7070"}, want: []string{"token file", "TLS"}},
		{name: "every address", cfg: Config{Admin: ":7070"}, want: []string{"token file", "TLS"}},
		{name: "beyond by name", cfg: Config{Admin: "orders1:7070"}, want: []string{"token file"}},
		{name: "beyond with tokens in the clear", cfg: Config{Admin: "10.0.0.1:7070", TokenFile: "t"}, want: []string{"TLS"}},
		{name: "beyond with tokens and consent", cfg: Config{Admin: "10.0.0.1:7070", TokenFile: "t", InsecureHTTP: true}},
		{name: "beyond with TLS and no tokens", cfg: Config{Admin: "10.0.0.1:7070", TLS: &tls.Config{}}, want: []string{"token file"}},
		{name: "beyond with both", cfg: Config{Admin: "10.0.0.1:7070", TLS: &tls.Config{}, TokenFile: "t"}},
		{name: "public beyond", cfg: Config{Public: "0.0.0.0:7071"}},
		{
			name: "all faults together", cfg: Config{Admin: "x", Public: "unix:/x", StuckAfter: -1, Operations: 1, Peers: []string{"ftp://a"}},
			want: []string{"admin-addr", "http-addr", "stuck-after", "operations", "peer"},
		},
		{name: "socket without a name", cfg: Config{Admin: "unix:"}, want: []string{"admin-addr"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.cfg.Validate()
			if (err != nil) != (len(tt.want) > 0) {
				t.Fatalf("got %v, want faults %v", err, tt.want)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("got %v, want it to name %q", err, w)
				}
			}
		})
	}
}

// Beyond loopback nothing listens before there are tokens.
func TestStartRefuses(t *testing.T) {
	for _, cfg := range []Config{
		{Admin: "0.0.0.0:0", Public: "127.0.0.1:0"},
		{Admin: "0.0.0.0:0", Public: "127.0.0.1:0", InsecureHTTP: true},
		{Admin: "0.0.0.0:0", Public: "127.0.0.1:0", InsecureHTTP: true, TokenFile: filepath.Join(t.TempDir(), "absent")},
	} {
		if s, err := Start(cfg, standbyB()); err == nil {
			closeServer(t, s)
			t.Errorf("Start(%+v) succeeded", cfg)
		}
	}
}

// A name that was taken for loopback and is not.
func TestGuard(t *testing.T) {
	s := newServer(Config{Admin: "localhost:7070"}, standbyB())
	beyond := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 7070}
	if err := s.guard(beyond); err == nil {
		t.Errorf("%v was let through without tokens", beyond)
	}
	if err := s.guard(&net.TCPAddr{IP: net.IPv6loopback}); err != nil {
		t.Error(err)
	}
	s.tokens.Store(&tokens{})
	if err := s.guard(beyond); err != nil {
		t.Errorf("with tokens: %v", err)
	}
}

// Tokens that travel in the clear are complained about each hour.
func TestComplains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := newServer(Config{Log: slog.New(slog.NewTextHandler(&out, nil))}, standbyB())
		go s.complain()
		time.Sleep(150 * time.Minute)
		close(s.quit)
		synctest.Wait()
		if got := strings.Count(out.String(), "event=http.insecure"); got != 3 {
			t.Errorf("got %d complaints in 150 minutes, want 3:\n%s", got, &out)
		}
	})
}

func TestStartOpensBothOrNeither(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	sock := filepath.Join(t.TempDir(), "a.sock")
	if _, err := Start(Config{Admin: "unix:" + sock, Public: taken.Addr().String()}, standbyB()); err == nil {
		t.Fatal("Start succeeded on a port that is taken")
	}
	if _, err := os.Stat(sock); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestUnixSocket(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "a.sock")
	s := startServer(t, Config{Admin: "unix:" + sock}, standbyB())
	info, err := os.Stat(sock)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("socket: got %v, %v; want mode 0600", info, err)
	}
	c := newTestClient(t, s.AdminURL())
	if st, err := c.Status(t.Context()); err != nil || st.Nodes[0].Node != "b" {
		t.Errorf("Status: got %+v, %v", st, err)
	}
	if _, err := Start(Config{Admin: "unix:" + sock, Public: "127.0.0.1:0"}, standbyB()); err == nil {
		t.Error("a second server took the socket of the first")
	}
	c.Close()
	closeServer(t, s)
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(sock), "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A socket that a killed process left is replaced; another file is not.
func TestStaleSocket(t *testing.T) {
	dir := t.TempDir()
	stale, file := filepath.Join(dir, "stale"), filepath.Join(dir, "file")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	startServer(t, Config{Admin: "unix:" + stale}, standbyB())

	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(Config{Admin: "unix:" + file, Public: "127.0.0.1:0"}, standbyB()); err == nil {
		t.Error("Start took the place of a file")
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Errorf("the file holds %q", b)
	}
}

// TLS is served where it is configured, with the tokens above it.
func TestTLS(t *testing.T) {
	cert, pool := selfSigned(t)
	file := writeTokens(t, "read:"+readToken)
	s := startServer(t, Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, TokenFile: file}, standbyB())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	c := &Client{BaseURLs: []string{s.AdminURL()}, Token: readToken, HTTP: &http.Client{Transport: transport, Timeout: time.Minute}}
	if st, err := c.Status(t.Context()); err != nil || st.Group != "orders" {
		t.Errorf("Status over %s: got %+v, %v", s.AdminURL(), st, err)
	}
}
