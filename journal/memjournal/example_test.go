package memjournal_test

import (
	"context"
	"errors"
	"fmt"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
)

// Two processes share a journal. Once the second one has opened a larger epoch,
// what the first one appends is refused.
func Example() {
	ctx := context.Background()
	first := memjournal.New()
	defer first.Close()
	second := first.Handle()
	defer second.Close()

	pos, err := first.Fence(ctx, 1, "alice")
	fmt.Println("alice opens epoch 1 at", pos, err)
	batch := journaltest.Batch(journal.Cursor{Pos: pos, Epoch: 1, Owner: "alice"}, journaltest.Records(3, 8)...)
	pos, err = first.Append(ctx, 1, pos, batch)
	fmt.Println("alice appends at", pos, err)

	pos, err = second.Fence(ctx, 2, "bob")
	fmt.Println("bob opens epoch 2 at", pos, err)
	_, err = first.Append(ctx, 1, pos, batch)
	fmt.Println("alice is shut out:", errors.Is(err, journal.ErrFenced))

	for e, err := range second.Follow(ctx, 0) {
		if err != nil || len(e.Data) == 0 {
			break // a heartbeat: there is no more for now
		}
		fmt.Println("entry", e.Pos, "fence:", journal.IsFence(e.Data))
	}
	// Output:
	// alice opens epoch 1 at 1 <nil>
	// alice appends at 2 <nil>
	// bob opens epoch 2 at 3 <nil>
	// alice is shut out: true
	// entry 1 fence: true
	// entry 2 fence: false
	// entry 3 fence: true
}
