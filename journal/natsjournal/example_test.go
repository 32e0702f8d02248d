package natsjournal_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"understudy.dev/journal/natsjournal"
)

// Open takes a stream on servers that exist, or says how its settings have to be
// changed.
func ExampleOpen() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	j, err := natsjournal.Open(ctx, natsjournal.Config{
		Stream: "ORDERS", Context: "prod", Create: true, Replicas: 3, SyncAlways: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer j.Close()
	fmt.Println("an acknowledgement survives the loss of:", j.Describe().Survives)
}
