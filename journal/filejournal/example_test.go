package filejournal_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
	"understudy.dev/journal/journaltest"
)

// A journal is written, exported to one file, and read back from that.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	j, err := filejournal.Open(filepath.Join(dir, "orders"), filejournal.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer j.Close()
	pen := journaltest.NewPen("node-1") // a program uses journal.Writer
	if err := pen.Fence(ctx, j, 1); err != nil {
		log.Fatal(err)
	}
	if err := pen.Append(ctx, j, journal.Record{Kind: journal.KindCommand, Name: "order.place", Data: []byte("7 bolts")}); err != nil {
		log.Fatal(err)
	}

	path := filepath.Join(dir, "orders.udj")
	if _, err := filejournal.ExportFile(ctx, path, j, filejournal.ExportConfig{}); err != nil {
		log.Fatal(err)
	}
	a, err := filejournal.OpenArchive(path)
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	r := journal.NewReader(a, journal.ReaderConfig{})
	defer r.Close()
	for r.Cursor().Seq < 1 {
		var it journal.Item
		if err := r.Next(ctx, &it); err != nil {
			log.Fatal(err)
		}
		if it.Verdict != journal.Live {
			continue
		}
		records, err := it.Batch.Records(nil)
		if err != nil {
			log.Fatal(err)
		}
		for _, rec := range records {
			fmt.Printf("%d %s %s\n", rec.Seq, rec.Name, rec.Data)
		}
	}
	// Output: 1 order.place 7 bolts
}
