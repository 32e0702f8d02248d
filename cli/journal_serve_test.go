package cli

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"understudy.dev/internal/natsserver"
)

// lineWriter passes lines on as they are written, so that a test can wait for one.
type lineWriter chan string

func (w lineWriter) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}

// serveJournal runs journal serve with these flags until it has said how it is used,
// and returns that line.
func serveJournal(t *testing.T, args ...string) string {
	t.Helper()
	dir := t.TempDir() // removed after the server has ended
	ctx, stop := context.WithCancel(t.Context())
	said := make(lineWriter, 1024)
	env := &Env{App: App{Name: "understudy", Machine: blobs()}, Stdin: strings.NewReader(""), Stdout: &bytes.Buffer{}, Stderr: said, Getenv: func(string) string { return "" }, Now: time.Now}
	ended := make(chan int, 1)
	go func() {
		ended <- Run(ctx, env, append([]string{"journal", "serve", "--log-level", "error", "--dir", dir}, args...))
	}()
	t.Cleanup(func() {
		stop()
		if code := <-ended; code != 0 {
			t.Errorf("journal serve %v ended with %d", args, code)
		}
	})
	for {
		select {
		case line := <-said:
			if strings.Contains(line, "--journal '") {
				return line
			}
		case code := <-ended:
			ended <- 0
			t.Fatalf("journal serve %v ended with %d", args, code)
		}
	}
}

// What journal serve says to use it with is true: sync=always only where the server
// syncs, replicas where there are members, the ports that were asked for.
func TestJournalServeSaysHowItIsUsed(t *testing.T) {
	ports, err := natsserver.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	member := fmt.Sprintf("127.0.0.1:%d", ports[0])
	tests := []struct {
		name string
		args []string
		want string
		not  string
	}{
		{name: "synced", args: []string{"--port", "0"}, want: "/ORDERS?sync=always'"},
		{name: "not synced", args: []string{"--port", "0", "--no-sync"}, want: "/ORDERS'", not: "sync"},
		{
			name: "a member of three", args: []string{"--port", "0", "--name", "a", "--cluster-addr", member, "--cluster", member + ",127.0.0.1:2,127.0.0.1:3"},
			want: "/ORDERS?replicas=3&sync=always'",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := serveJournal(t, tt.args...)
			if !strings.Contains(got, tt.want) || tt.not != "" && strings.Contains(got, tt.not) {
				t.Errorf("said %q, want %q in it and not %q", got, tt.want, tt.not)
			}
		})
	}
}

// A cluster in one process takes --port and the two after it, and declares no sync
// that it does not do.
func TestLocalClusterTakesThePortsAsked(t *testing.T) {
	f := journalServeFlags{localCluster: true, port: 4300, noSync: true}
	if got, want := fmt.Sprint(f.localPorts()), "[4300 4301 4302]"; got != want {
		t.Errorf("ports %s, want %s", got, want)
	}
	if got, want := f.journalURL(localMembers, "nats://h:1", "nats://h:2"), "nats://h:1,h:2/ORDERS?replicas=3"; got != want {
		t.Errorf("URL %s, want %s", got, want)
	}
	f.port = 0
	if got := f.localPorts(); got != nil {
		t.Errorf("ports %v of --port 0, want free ones", got)
	}
	f.port = 65534
	if err := f.check(); err == nil {
		t.Error("three members from port 65534 on were not refused")
	}
}
