package exchange_test

import (
	"testing"

	"understudy.dev/engines/exchange"
	"understudy.dev/engines/exchange/flow"
	"understudy.dev/machine"
)

// BenchmarkFlow applies a day's operations, encoded, through the machine; the recorded
// day where it is there, else a generated one. An operation of the benchmark is one of
// the flow.
func BenchmarkFlow(b *testing.B) {
	var ops []flow.Op
	if path, ok := dataFile(b, "orderflow/lobster_GOOG_10.ops.csv.zst"); ok {
		ops = readOps(b, path)
	} else {
		ops = flow.Generate(1, 150_000)
	}
	commands := make([]machine.Command, len(ops))
	for i, op := range ops {
		name, version, data := op.Command()
		commands[i] = machine.Command{Name: name, Version: version, Data: data}
	}
	b.ReportAllocs()
	e, i := exchange.New(), 0
	for b.Loop() {
		if _, err := e.Apply(nil, commands[i]); err != nil {
			b.Fatalf("operation %d: %v", ops[i].N, err)
		}
		if i++; i == len(commands) {
			e, i = exchange.New(), 0
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// BenchmarkDeepBook adds to and cancels from a book of 100,000 orders at 10,000 prices
// a side, anywhere in it.
func BenchmarkDeepBook(b *testing.B) {
	const orders, prices = 100_000, 10_000
	book, rng := exchange.NewBook(), newRand(3)
	place := func(id uint64) {
		c := exchange.Limit{Side: exchange.Buy, ID: id, Price: 1 + rng.Int64N(prices), Qty: 10}
		if id%2 == 0 {
			c.Side, c.Price = exchange.Sell, c.Price+prices
		}
		must(book.Limit(c))
	}
	for id := range uint64(orders) {
		place(id + 1)
	}
	b.ReportAllocs()
	for b.Loop() {
		id := 1 + rng.Uint64N(orders)
		must(book.Cancel(exchange.Cancel{ID: id}))
		place(id)
	}
	b.ReportMetric(2*float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

func BenchmarkAppendCommand(b *testing.B) {
	b.ReportAllocs()
	var buf []byte
	c := exchange.Limit{Side: exchange.Buy, ID: 9_000_000_001, Price: 5_802_300, Qty: 100}
	for b.Loop() {
		buf = c.Append(buf[:0])
	}
}
