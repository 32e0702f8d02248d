package accel_test

import (
	"context"
	"errors"
	"fmt"

	"understudy.dev/accel"
	"understudy.dev/accel/cpu"
	"understudy.dev/harness"
	"understudy.dev/journal/memjournal"
)

// A run is recorded, and executed again on a device of its own.
func Example() {
	ctx, j := context.Background(), memjournal.New()
	defer j.Close()
	h, err := harness.New(ctx, j, harness.Config{Mode: harness.Record})
	if err != nil {
		fmt.Println(err)
		return
	}
	dev, err := accel.NewRecorder(cpu.New(), h, accel.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	x, err := dev.Alloc(4 * 1000)
	sum, err2 := dev.Alloc(4)
	err = errors.Join(err, err2,
		dev.Seed(42),
		dev.Launch(&accel.Launch{Kernel: "fill_normal", Args: []accel.Arg{
			accel.Out(x), accel.U32(1000), accel.U64(0), accel.F32(0), accel.F32(1),
		}}),
		dev.Launch(&accel.Launch{Kernel: "reduce_sum", Args: []accel.Arg{accel.Out(sum), accel.In(x), accel.U32(1000)}}),
		h.Close(),
	)
	fmt.Println("recorded:", err)

	replayer, err := accel.NewReplayer(cpu.New(), accel.ReplayConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	player, err := harness.NewPlayer(j, replayer, harness.ReplayOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("replayed:", errors.Join(player.Run(ctx), replayer.Close()))
	fmt.Printf("%+v\n", replayer.Report())
	// Output:
	// recorded: <nil>
	// replayed: <nil>
	// {Commands:6 Launches:2 Tolerated:map[]}
}
