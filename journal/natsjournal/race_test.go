package natsjournal

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"understudy.dev/internal/natsserver"
	"understudy.dev/journal"
)

// lostRaces lets handles fence at the same place at once, through the border that
// hides what JetStream said, and counts the codes of the losers.
//
// A race may have no winner: a replicated stream answers a publish just before it
// forgets that the subject was in flight, and refuses all who come in between
// (10164). Then nothing may have been stored, and the next race is for the same place.
func lostRaces(t *testing.T, handles []*Journal, rounds int) map[jetstream.ErrorCode]int {
	t.Helper()
	codes := make(map[jetstream.ErrorCode]int)
	last, won := journal.Position(0), 0
	for round := 0; won < rounds; round++ {
		if round == 2*rounds {
			t.Fatalf("%d of %d races had a winner, want at least half", won, round)
		}
		errs, positions := make([]error, len(handles)), make([]journal.Position, len(handles))
		var wg sync.WaitGroup
		for i, j := range handles {
			wg.Go(func() {
				want := journal.Fence{Epoch: journal.Epoch(round + 1), Owner: fmt.Sprint(i)}
				positions[i], errs[i] = j.publishFence(t.Context(), want, last)
			})
		}
		wg.Wait()
		before, winner := won, -1
		for i, err := range errs {
			var api *jetstream.APIError
			switch {
			case err == nil:
				won, winner = won+1, i
				last = positions[i]
			case !errors.Is(err, journal.ErrConflict) || !errors.As(err, &api):
				t.Fatalf("round %d: err = %v, want %v with its cause", round, err, journal.ErrConflict)
			default:
				codes[api.ErrorCode]++
			}
		}
		if won > before+1 {
			t.Fatalf("round %d: %d fences were acknowledged, want 1 at most: %v", round, won-before, errs)
		}
		newest, err := handles[0].newestFence(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if newest.pos != last {
			t.Fatalf("round %d: the newest fence is at %d, want the acknowledged one at %d: %v", round, newest.pos, last, errs)
		}
		if winner >= 0 && newest.Owner != fmt.Sprint(winner) {
			t.Fatalf("round %d: the newest fence is of %s, want %d", round, newest.Owner, winner)
		}
	}
	return codes
}

func openMany(t *testing.T, n int, cfg Config) []*Journal {
	t.Helper()
	handles := make([]*Journal, n)
	for i := range handles {
		j, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = j.Close() })
		handles[i] = j
	}
	return handles
}

func TestLostRaceOnOneReplica(t *testing.T) {
	srv, err := natsserver.Start(t.Context(), natsserver.Config{Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Shutdown)
	codes := lostRaces(t, openMany(t, 3, Config{InProcess: srv, Stream: "RACE", Create: true}), 20)
	if codes[10071] != 40 {
		t.Errorf("the losers were told %v, want 10071 40 times", codes)
	}
}

func TestLostRaceOnThreeReplicas(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster of three takes seconds")
	}
	c, err := natsserver.StartLocalCluster(t.Context(), natsserver.LocalClusterConfig{Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Shutdown)
	codes := lostRaces(t, openMany(t, 4, Config{URL: strings.Join(c.ClientURLs(), ","), Stream: "RACE", Create: true, Replicas: 3}), 100)
	t.Logf("the losers were told %v", codes)
	if codes[10164] == 0 {
		t.Errorf("the losers were told %v, want 10164 among it", codes)
	}
}
