package trace_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"understudy.dev/accel/trace"
	"understudy.dev/harness"
	"understudy.dev/journal/memjournal"
)

func ExampleImport() {
	const job = `{"cmd":"alloc","api":"caching_allocator","bytes":512,"addr":4096,"device_type":1,"ts_us":0}
{"cmd":"launch","api":"cudaLaunchKernel","kernel":"fill","grid":[4,1,1],"block":[128,1,1],"stream":7,"ts_us":3.5}
{"cmd":"free","api":"caching_allocator","bytes":64,"addr":8192,"device_type":1,"ts_us":9}
`
	ctx, j := context.Background(), memjournal.New()
	defer j.Close()
	h, err := harness.New(ctx, j, harness.Config{Mode: harness.Record})
	if err != nil {
		fmt.Println(err)
		return
	}
	n, err := trace.Import(trace.Read(strings.NewReader(job)), h)
	fmt.Println(n, errors.Join(err, h.Close()))

	model := trace.NewModel()
	player, err := harness.NewPlayer(j, model, harness.ReplayOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(player.Run(ctx))
	r := model.Report()
	fmt.Println("live:", r.Live)
	fmt.Println("freed, but allocated before the trace:", r.Unmatched)
	// Output:
	// 3 <nil>
	// <nil>
	// live: [{caching_allocator 1.0 4096 512 1}]
	// freed, but allocated before the trace: [{caching_allocator 1.0 8192 64 3}]
}
