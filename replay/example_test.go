package replay_test

import (
	"context"
	"fmt"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
	"understudy.dev/replay"
)

// Replay a journal up to a Seq into a function, one record at a time.
func ExampleFollower_RunTo() {
	ctx := context.Background()
	store := memjournal.New()
	defer store.Close()
	pen := journaltest.NewPen("writer")
	if err := pen.Fence(ctx, store, 1); err != nil {
		fmt.Println(err)
	}
	if err := pen.Append(ctx, store, journaltest.Records(4, 2)...); err != nil {
		fmt.Println(err)
	}

	sink := replay.Each(func(_ context.Context, r *journal.Record) error {
		fmt.Println(r.Seq, r.Kind, r.Name, r.Data)
		return nil
	})
	f := replay.NewFollower(journal.NewReader(store, journal.ReaderConfig{}), sink, nil)
	defer f.Close()
	fmt.Println(f.RunTo(ctx, store, 3))
	// Output:
	// 1 command test [1 2]
	// 2 command test [2 3]
	// 3 command test [3 4]
	// <nil>
}
