package exchange_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"understudy.dev/engines/exchange"
	"understudy.dev/machine"
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// A step is a command and what must come of it.
type step struct {
	do   exchange.Command
	want exchange.Reply
	err  error
}

func TestBook(t *testing.T) {
	buy := func(id uint64, price int64, qty uint64) exchange.Limit {
		return exchange.Limit{Side: exchange.Buy, ID: id, Price: price, Qty: qty}
	}
	sell := func(id uint64, price int64, qty uint64) exchange.Limit {
		return exchange.Limit{Side: exchange.Sell, ID: id, Price: price, Qty: qty}
	}
	rests := func(qty uint64) exchange.Reply { return exchange.Reply{Rests: qty} }
	tests := []struct {
		name  string
		steps []step
	}{
		{"reduce keeps the place", []step{
			{do: sell(1, 100, 10), want: rests(10)},
			{do: sell(2, 100, 10), want: rests(10)},
			{do: exchange.Reduce{ID: 1, Qty: 4}, want: exchange.Reply{Rests: 6, Cancelled: 4}},
			{do: buy(3, 100, 7), want: exchange.Reply{Fills: []exchange.Fill{{1, 100, 6}, {2, 100, 1}}}},
		}},
		{"replace loses the place, even unchanged", []step{
			{do: sell(1, 100, 10), want: rests(10)},
			{do: sell(2, 100, 10), want: rests(10)},
			{do: exchange.Replace{ID: 1, Price: 100, Qty: 10}, want: rests(10)},
			{do: buy(3, 100, 1), want: exchange.Reply{Fills: []exchange.Fill{{2, 100, 1}}}},
		}},
		{"replace may match", []step{
			{do: sell(1, 105, 10), want: rests(10)},
			{do: buy(2, 100, 4), want: rests(4)},
			{do: exchange.Replace{ID: 1, Price: 99, Qty: 6}, want: exchange.Reply{Rests: 2, Fills: []exchange.Fill{{2, 100, 4}}}},
		}},
		{"a refused replace leaves the order", []step{
			{do: sell(1, 100, 10), want: rests(10)},
			{do: sell(2, 101, exchange.MaxQty), want: rests(exchange.MaxQty)},
			{do: exchange.Replace{ID: 1, Price: 101, Qty: 1}, err: exchange.ErrLevelFull},
			{do: exchange.Cancel{ID: 1}, want: exchange.Reply{Cancelled: 10}},
		}},
		{"a reduction by more than is open takes the order away", []step{
			{do: sell(1, 100, 10), want: rests(10)},
			{do: exchange.Reduce{ID: 1, Qty: 11}, want: exchange.Reply{Cancelled: 10}},
			{do: exchange.Reduce{ID: 1, Qty: 1}, err: exchange.ErrNoOrder},
		}},
		{"fok takes all of several levels or nothing", []step{
			{do: sell(1, 100, 5), want: rests(5)},
			{do: sell(2, 101, 5), want: rests(5)},
			{do: exchange.FOK{Side: exchange.Buy, ID: 3, Price: 101, Qty: 11}, want: exchange.Reply{Cancelled: 11}},
			{do: exchange.FOK{Side: exchange.Buy, ID: 3, Price: 100, Qty: 6}, want: exchange.Reply{Cancelled: 6}},
			{do: exchange.FOK{Side: exchange.Buy, ID: 3, Price: 101, Qty: 10}, want: exchange.Reply{Fills: []exchange.Fill{{1, 100, 5}, {2, 101, 5}}}},
		}},
		{"a market order never rests", []step{
			{do: exchange.Market{Side: exchange.Sell, ID: 1, Qty: 5}, want: exchange.Reply{Cancelled: 5}},
			{do: buy(2, 1, 2), want: rests(2)},
			{do: exchange.Market{Side: exchange.Sell, ID: 3, Qty: 5}, want: exchange.Reply{Cancelled: 3, Fills: []exchange.Fill{{2, 1, 2}}}},
			{do: sell(4, math.MaxInt64, 2), want: rests(2)},
			{do: exchange.Market{Side: exchange.Buy, ID: 5, Qty: 2}, want: exchange.Reply{Fills: []exchange.Fill{{4, math.MaxInt64, 2}}}},
		}},
		{"an id is free again once its order is gone", []step{
			{do: buy(1, 100, 5), want: rests(5)},
			{do: buy(1, 101, 5), err: exchange.ErrDuplicate},
			{do: exchange.IOC{Side: exchange.Buy, ID: 1, Price: 101, Qty: 5}, err: exchange.ErrDuplicate},
			{do: exchange.Cancel{ID: 1}, want: exchange.Reply{Cancelled: 5}},
			{do: buy(1, 101, 5), want: rests(5)},
		}},
		{"values out of range", []step{
			{do: buy(0, 100, 1), err: exchange.ErrZeroID},
			{do: buy(1, 0, 1), err: exchange.ErrPrice},
			{do: buy(1, -1, 1), err: exchange.ErrPrice},
			{do: buy(1, math.MinInt64, 1), err: exchange.ErrPrice},
			{do: buy(1, 100, 0), err: exchange.ErrQty},
			{do: buy(1, 100, exchange.MaxQty+1), err: exchange.ErrQty},
			{do: exchange.Market{Side: exchange.Buy, ID: 1}, err: exchange.ErrQty},
			{do: exchange.Reduce{ID: 1}, err: exchange.ErrQty},
			{do: exchange.Replace{ID: 1, Qty: 1}, err: exchange.ErrPrice},
			{do: exchange.Replace{ID: 1, Price: 1, Qty: 1}, err: exchange.ErrNoOrder},
			{do: exchange.Cancel{ID: 1}, err: exchange.ErrNoOrder},
		}},
		{"the quantity at a price has a bound", []step{
			{do: buy(1, 100, exchange.MaxQty), want: rests(exchange.MaxQty)},
			{do: buy(2, 100, 1), err: exchange.ErrLevelFull},
			{do: buy(2, 99, 1), want: rests(1)},
			{do: exchange.Replace{ID: 1, Price: 100, Qty: exchange.MaxQty}, want: rests(exchange.MaxQty)},
			{do: exchange.FOK{Side: exchange.Sell, ID: 3, Price: 99, Qty: exchange.MaxQty}, want: exchange.Reply{Fills: []exchange.Fill{{1, 100, exchange.MaxQty}}}},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newDriven()
			for i, s := range tt.steps {
				before := e.Book().Digest()
				got, err := e.Apply(s.do)
				if !errors.Is(err, s.err) {
					t.Fatalf("step %d: %T%+v: err = %v, want %v", i, s.do, s.do, err, s.err)
				}
				if !sameReply(got, s.want) {
					t.Errorf("step %d: %T%+v: reply %+v, want %+v", i, s.do, s.do, got, s.want)
				}
				if err != nil && e.Book().Digest() != before {
					t.Errorf("step %d: %T%+v was refused and changed the book", i, s.do, s.do)
				}
			}
		})
	}
}

// Bytes that are not a command are refused with the field and the reason.
func TestApplyRefusesBadBytes(t *testing.T) {
	tests := []struct {
		name    string
		command string
		version uint32
		data    string
		want    string
	}{
		{"nothing", "limit", 1, "", "decode limit: side: bytes end too early"},
		{"a third side", "limit", 1, "\x03\x01\x01\x01", "decode limit: side: side is neither 1 (buy) nor 2 (sell)"},
		{"cut off", "limit", 1, "\x01\x01\x01", "decode limit: quantity: bytes end too early"},
		{"cut off in a number", "ioc", 1, "\x01\x80", "decode ioc: id: bytes end too early"},
		{"left over", "cancel", 1, "\x01\x00\x00", "decode cancel: bytes left over: 2"},
		{"a longer form", "cancel", 1, "\x81\x00", "decode cancel: id: number is longer than it needs to be or does not fit 64 bits"},
		{"more than 64 bits", "reduce", 1, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\x01", "decode reduce: id: number is longer than it needs to be or does not fit 64 bits"},
		{"a negative price", "replace", 1, "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01", "decode replace: price: a price is from 1 to 9223372036854775807"},
		{"another command", "deposit", 1, "", `decode "deposit": unknown command`},
		{"another version", "limit", 2, "\x01\x01\x01\x01", `decode "limit": version 2, want 1`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := exchange.New().Apply(nil, machine.Command{Name: tt.command, Version: tt.version, Data: []byte(tt.data)})
			if err == nil || err.Error() != tt.want {
				t.Errorf("Apply: err = %v, want %s", err, tt.want)
			}
			_, err = exchange.Parse(tt.command, tt.version, []byte(tt.data))
			if err == nil || err.Error() != tt.want {
				t.Errorf("Parse: err = %v, want %s", err, tt.want)
			}
		})
	}
}

// The encoding is part of every history: these bytes must never change.
func TestEncoding(t *testing.T) {
	tests := []struct {
		do   exchange.Command
		want string
	}{
		{exchange.Limit{Side: exchange.Buy, ID: 1, Price: 127, Qty: 128}, "01017f8001"},
		{exchange.IOC{Side: exchange.Sell, ID: 300, Price: 1, Qty: 1}, "02ac020101"},
		{exchange.FOK{Side: exchange.Sell, ID: 300, Price: 1, Qty: 1}, "02ac020101"},
		{exchange.Market{Side: exchange.Buy, ID: 2, Qty: 3}, "010203"},
		{exchange.Cancel{ID: math.MaxUint64}, "ffffffffffffffffff01"},
		{exchange.Reduce{ID: 2, Qty: 3}, "0203"},
		{exchange.Replace{ID: 2, Price: 3, Qty: 4}, "020304"},
	}
	for _, tt := range tests {
		data := tt.do.Append(nil)
		if got := fmt.Sprintf("%x", data); got != tt.want {
			t.Errorf("%T%+v: %s, want %s", tt.do, tt.do, got, tt.want)
		}
		back, err := exchange.Parse(tt.do.Name(), exchange.CommandVersion, data)
		if err != nil || back != tt.do {
			t.Errorf("Parse(%x) = %T%+v, %v; want %T%+v", data, back, back, err, tt.do, tt.do)
		}
	}
	reply := exchange.Reply{Rests: 1, Cancelled: 2, Fills: []exchange.Fill{{300, 4, 5}, {6, 7, 8}}}
	if got, want := fmt.Sprintf("%x", exchange.AppendReply(nil, reply)), "010202ac020405060708"; got != want {
		t.Errorf("reply %s, want %s", got, want)
	}
}

// The definition and Apply know the same commands.
func TestDefinition(t *testing.T) {
	def := exchange.Definition()
	for _, c := range []exchange.Command{
		exchange.Limit{},
		exchange.Market{},
		exchange.IOC{},
		exchange.FOK{},
		exchange.Cancel{},
		exchange.Reduce{},
		exchange.Replace{},
	} {
		want := machine.CommandType{Name: c.Name(), Min: exchange.CommandVersion, Max: exchange.CommandVersion}
		if !slices.Contains(def.Commands, want) {
			t.Errorf("the definition lacks %+v", want)
		}
	}
	if got, want := len(def.Commands), 7; got != want {
		t.Errorf("%d commands, want %d", got, want)
	}
}

// A reply stays what it was while later commands are applied.
func TestRepliesAreKept(t *testing.T) {
	e := exchange.New()
	var replies, want [][]byte
	for id := uint64(1); id <= 3000; id++ {
		c := exchange.Limit{Side: exchange.Buy + exchange.Side(id%2), ID: id, Price: 100, Qty: 1 + id%50}
		reply, err := e.Apply(nil, machine.Command{Name: c.Name(), Version: 1, Data: c.Append(nil)})
		if err != nil {
			t.Fatal(err)
		}
		replies, want = append(replies, reply), append(want, slices.Clone(reply))
		if len(reply) < cap(reply) {
			t.Fatalf("reply %d has room that belongs to the next one", id)
		}
	}
	for i := range replies {
		if !slices.Equal(replies[i], want[i]) {
			t.Fatalf("reply %d became %x, was %x", i, replies[i], want[i])
		}
	}
}

// In a steady state nothing allocates, refusals included.
func TestNoAllocations(t *testing.T) {
	b := exchange.NewBook()
	id := uint64(1)
	round := func() {
		for range 100 {
			id++
			price := int64(1000 + id%64)
			must(b.Limit(exchange.Limit{Side: exchange.Sell, ID: id, Price: price, Qty: 10}))
			must(b.Reduce(exchange.Reduce{ID: id, Qty: 1}))
			must(b.Replace(exchange.Replace{ID: id, Price: price + 1, Qty: 10}))
			must(b.FOK(exchange.FOK{Side: exchange.Buy, ID: id + 1, Price: price + 1, Qty: 3}))
			must(b.Cancel(exchange.Cancel{ID: id}))
			if _, err := b.Cancel(exchange.Cancel{ID: id}); !errors.Is(err, exchange.ErrNoOrder) {
				panic(err)
			}
		}
	}
	if got := testing.AllocsPerRun(100, round); got != 0 {
		t.Errorf("%v allocations in 600 operations, want 0", got)
	}
}
