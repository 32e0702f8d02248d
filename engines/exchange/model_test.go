package exchange_test

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"understudy.dev/engines/exchange"
	"understudy.dev/engines/exchange/reference"
)

// commandGen draws commands that meet each other: few ids, few prices, and now and
// then a value at the edge of what is allowed or beyond it.
func commandGen() *rapid.Generator[exchange.Command] {
	id := rapid.Uint64Range(0, 40)
	price := rapid.OneOf(
		rapid.Int64Range(95, 105),
		rapid.Int64Range(1, 300),
		rapid.SampledFrom([]int64{0, 1, 1<<63 - 1}),
	)
	qty := rapid.OneOf(
		rapid.Uint64Range(1, 20),
		rapid.SampledFrom([]uint64{0, exchange.MaxQty - 5, exchange.MaxQty, exchange.MaxQty + 1}),
	)
	side := rapid.SampledFrom([]exchange.Side{exchange.Buy, exchange.Sell})
	return rapid.Custom(func(t *rapid.T) exchange.Command {
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			return exchange.Market{Side: side.Draw(t, "side"), ID: id.Draw(t, "id"), Qty: qty.Draw(t, "qty")}
		case 1:
			return exchange.IOC{Side: side.Draw(t, "side"), ID: id.Draw(t, "id"), Price: price.Draw(t, "price"), Qty: qty.Draw(t, "qty")}
		case 2:
			return exchange.FOK{Side: side.Draw(t, "side"), ID: id.Draw(t, "id"), Price: price.Draw(t, "price"), Qty: qty.Draw(t, "qty")}
		case 3:
			return exchange.Cancel{ID: id.Draw(t, "id")}
		case 4:
			return exchange.Reduce{ID: id.Draw(t, "id"), Qty: qty.Draw(t, "qty")}
		case 5:
			return exchange.Replace{ID: id.Draw(t, "id"), Price: price.Draw(t, "price"), Qty: qty.Draw(t, "qty")}
		}
		return exchange.Limit{Side: side.Draw(t, "side"), ID: id.Draw(t, "id"), Price: price.Draw(t, "price"), Qty: qty.Draw(t, "qty")}
	})
}

// The book answers as the reference does, is never crossed, and a snapshot of it at
// any step restores to a book that goes on alike.
func TestBookAgainstReference(t *testing.T) {
	command := commandGen()
	rapid.Check(t, func(t *rapid.T) {
		book, ref := newDriven(), new(reference.Book)
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			c := command.Draw(t, "command")
			got, gotErr := book.Apply(c)
			want, wantErr := ref.Apply(c)
			if !errors.Is(gotErr, wantErr) {
				t.Fatalf("%T%+v: err = %v, want %v", c, c, gotErr, wantErr)
			}
			if !sameReply(got, want) {
				t.Fatalf("%T%+v: reply %+v, want %+v", c, c, got, want)
			}
			sameBook(t, book.Book(), ref)
			book = restored(t, book)
		}
	})
}

// restored returns the exchange that a snapshot of e restores to.
func restored(t *rapid.T, e *driven) *driven {
	t.Helper()
	first := snapshot(t, e)
	fresh := newDriven()
	if err := fresh.Restore(bytes.NewReader(first)); err != nil {
		t.Fatalf("restore: %v", err)
	}
	if again := snapshot(t, fresh); !bytes.Equal(again, first) {
		t.Fatalf("a restored book writes\n%x\nwant\n%x", again, first)
	}
	if fresh.Book().Digest() != e.Book().Digest() {
		t.Fatalf("a restored book has another digest")
	}
	return fresh
}

func snapshot(t interface{ Fatalf(string, ...any) }, e *driven) []byte {
	var b bytes.Buffer
	if err := e.Snapshot(&b); err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	return b.Bytes()
}

// sameBook compares every order and every level.
func sameBook(t *rapid.T, b *exchange.Book, ref *reference.Book) {
	t.Helper()
	orders := ref.Orders()
	if b.Len() != len(orders) {
		t.Fatalf("%d orders rest, want %d", b.Len(), len(orders))
	}
	for _, want := range orders {
		if got, _ := b.Order(want.ID); got != want {
			t.Fatalf("order %+v, want %+v", got, want)
		}
	}
	var best [2]int64
	for i, s := range []exchange.Side{exchange.Buy, exchange.Sell} {
		got, want := b.Depth(s, 1000), ref.Depth(s, 1000)
		if !slices.Equal(got, want) {
			t.Fatalf("%v depth %+v, want %+v", s, got, want)
		}
		level, ok := b.Best(s)
		if ok != (len(want) > 0) || ok && level != want[0] {
			t.Fatalf("best %v %+v, want %+v", s, level, want)
		}
		best[i] = level.Price
	}
	if best[0] > 0 && best[1] > 0 && cmp.Compare(best[0], best[1]) >= 0 {
		t.Fatalf("crossed: bid %d, ask %d", best[0], best[1])
	}
}

// A book of thousands of levels, grown and shrunk at random places, keeps them in
// order: more than one block of a ladder, many splits, emptied blocks.
func TestDeepBook(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := newRand(rapid.Uint64().Draw(t, "seed"))
		b := exchange.NewBook()
		side := exchange.Buy + exchange.Side(rng.IntN(2))
		open := make(map[int64]uint64) // price to quantity; an order's id is its price
		for range 3000 {
			price := 1 + rng.Int64N(1500)
			if _, ok := open[price]; ok && rng.IntN(2) == 0 {
				must(b.Cancel(exchange.Cancel{ID: uint64(price)}))
				delete(open, price)
			} else if !ok {
				qty := 1 + rng.Uint64N(9)
				must(b.Limit(exchange.Limit{Side: side, ID: uint64(price), Price: price, Qty: qty}))
				open[price] = qty
			}
		}
		var want []exchange.Level
		for price, qty := range open {
			want = append(want, exchange.Level{Price: price, Qty: qty, Orders: 1})
		}
		slices.SortFunc(want, func(x, y exchange.Level) int {
			if side == exchange.Buy {
				return cmp.Compare(y.Price, x.Price)
			}
			return cmp.Compare(x.Price, y.Price)
		})
		if got := b.Depth(side, 1<<20); !slices.Equal(got, want) {
			t.Fatalf("%d levels, want %d, or in another order", len(got), len(want))
		}
	})
}
