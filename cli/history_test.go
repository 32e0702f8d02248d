package cli

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"understudy.dev/internal/natsserver"
	"understudy.dev/journal"
	"understudy.dev/journal/journalurl"
	"understudy.dev/node"
)

// historyOn writes a history of the bench machine: n commands by one primary.
func historyOn(t *testing.T, url string, n int) {
	t.Helper()
	j, err := journalurl.Open(t.Context(), url, journalurl.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	primary, err := node.New(node.Config{Name: "a", Journal: j, Machine: blobs()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- primary.Run(ctx) }()
	if _, err := primary.Promote(ctx, node.PromoteRequest{}); err != nil {
		t.Fatal(err)
	}
	for range n {
		if r := primary.Submit(ctx, node.Request{Kind: journal.KindCommand, Name: "put", Data: []byte("x")}); r.Status != node.Done {
			t.Fatalf("submit: %v, %v", r.Status, r.Err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// Of two foreign messages at the end of a stream the first is the damage, although
// the sample of the end met the last one: what is good before it is read and told.
func TestForeignMessagesAtTheEndAreFoundByReading(t *testing.T) {
	srv, err := natsserver.Start(t.Context(), natsserver.Config{Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Shutdown()
	url := srv.ClientURL() + "/ORDERS"
	historyOn(t, url, 5) // EpochStart and five commands: a fence and six batches
	nc, err := nats.Connect(srv.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for range 2 {
		if _, err := nc.Request("understudy.ORDERS.data", []byte("what is this"), 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}

	r := run(t.Context(), url, "verify")
	r.want(t, exitDamage, "at position 8 of ", "after seq 6", "stopped after seq 6\n")
	r = run(t.Context(), url, "verify", "--json")
	var got struct {
		Result  string       `json:"result"`
		ToSeq   uint64       `json:"to_seq"`
		TailSeq *json.Number `json:"tail_seq"`
	}
	r.decode(t, &got)
	if got.Result != resultDamaged || got.ToSeq != 6 || got.TailSeq != nil {
		t.Errorf("verify --json says %s", r.stdout)
	}
	run(t.Context(), url, "replay").want(t, exitDamage, "stopped after seq 6: ", "at position 8 of ")
	run(t.Context(), url, "replay", "--to", "4").want(t, 0, "replayed to seq 4")
	if r := run(t.Context(), url, "replay", "--to", "40"); r.code != exitDamage || !strings.Contains(r.stderr, "at position 8 of ") {
		t.Errorf("replay beyond the damage: %d, %s", r.code, r.stderr)
	}
}
