package sqlitejournal_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/sqlitejournal"
)

// Two journals in one database.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	for _, name := range []string{"orders", "trades"} {
		j, err := sqlitejournal.Open(ctx, filepath.Join(dir, "journals.db"), sqlitejournal.Config{Name: name, Create: true})
		if err != nil {
			log.Fatal(err)
		}
		defer j.Close()
		pen := journaltest.NewPen("node-1") // a program uses journal.Writer
		if err := pen.Fence(ctx, j, 1); err != nil {
			log.Fatal(err)
		}
		if err := pen.Append(ctx, j, journal.Record{Kind: journal.KindCommand, Name: name, Data: []byte("7 bolts")}); err != nil {
			log.Fatal(err)
		}
		end, err := j.End(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s ends at position %d, seq %d; survives the loss of: %v\n", name, end.Pos, end.Seq, j.Describe().Survives)
	}
	// Output:
	// orders ends at position 2, seq 1; survives the loss of: process, machine
	// trades ends at position 2, seq 1; survives the loss of: process, machine
}
