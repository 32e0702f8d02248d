package journal_test

import (
	"context"
	"errors"
	"fmt"

	"understudy.dev/journal"
	"understudy.dev/journal/memjournal"
)

// A tenure: open an epoch, read up to the fence, and write through a Writer. A
// Reader finds the records, and the fence of whoever comes next ends the tenure.
func Example() {
	ctx := context.Background()
	store := memjournal.New()
	defer store.Close()

	fence, err := store.Fence(ctx, 1, "alice/1")
	if err != nil {
		fmt.Println(err)
		return
	}
	r := journal.NewReader(store, journal.ReaderConfig{})
	defer r.Close()
	var it journal.Item
	for r.Cursor().Pos < fence {
		if err := r.Next(ctx, &it); err != nil {
			fmt.Println(err)
			return
		}
	}

	w := journal.NewWriter(store, r.Cursor(), journal.WriterConfig{})
	b := w.NewBuilder()
	for _, text := range []string{"good evening", "good night"} {
		if err := b.Add(&journal.Record{Kind: journal.KindCommand, Name: "say", Data: []byte(text)}); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println("append:", w.Append(ctx, b, journal.Digest{}))

	for it.Verdict != journal.Live {
		if err := r.Next(ctx, &it); err != nil {
			fmt.Println(err)
			return
		}
	}
	records, err := it.Batch.Records(nil)
	for _, rec := range records {
		fmt.Printf("%d %s: %s\n", rec.Seq, rec.Name, rec.Data)
	}
	fmt.Println("read:", err)

	if _, err := store.Fence(ctx, 2, "bob/1"); err != nil {
		fmt.Println(err)
	}
	b.Reset()
	err = w.Append(ctx, b, journal.Digest{})
	fmt.Println("fenced:", errors.Is(err, journal.ErrFenced), "- outcome:", journal.OutcomeOf(err))
	// Output:
	// append: <nil>
	// 1 say: good evening
	// 2 say: good night
	// read: <nil>
	// fenced: true - outcome: not done
}
