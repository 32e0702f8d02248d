// Package reference is an order book that is slow and obviously right: to check
// the one of package exchange against.
//
// It keeps one list of orders in the order of their arrival and looks through all
// of it for everything. It shares the words of package exchange (commands, replies,
// refusals) and none of its data structures.
package reference

import (
	"fmt"
	"math"
	"slices"

	"understudy.dev/engines/exchange"
)

// A Book is a list of resting orders, the longest waiting first.
type Book struct {
	orders []exchange.Order
}

// Apply carries out one command.
func (b *Book) Apply(c exchange.Command) (exchange.Reply, error) {
	switch c := c.(type) {
	case exchange.Limit:
		return b.limit(c)
	case exchange.IOC:
		return b.ioc(exchange.Limit(c))
	case exchange.FOK:
		return b.fok(exchange.Limit(c))
	case exchange.Market:
		return b.ioc(exchange.Limit{Side: c.Side, ID: c.ID, Price: worst(c.Side), Qty: c.Qty})
	case exchange.Cancel:
		return b.cancel(c)
	case exchange.Reduce:
		return b.reduce(c)
	case exchange.Replace:
		return b.replace(c)
	}
	return exchange.Reply{}, fmt.Errorf("apply %T: unknown command", c)
}

// Orders returns the resting orders, the longest waiting first.
func (b *Book) Orders() []exchange.Order { return slices.Clone(b.orders) }

// Depth returns up to n levels of a side, the best first.
func (b *Book) Depth(s exchange.Side, n int) []exchange.Level {
	var levels []exchange.Level
	for _, o := range b.orders {
		if o.Side != s {
			continue
		}
		i := slices.IndexFunc(levels, func(l exchange.Level) bool { return l.Price == o.Price })
		if i < 0 {
			i = len(levels)
			levels = append(levels, exchange.Level{Price: o.Price})
		}
		levels[i].Qty += o.Qty
		levels[i].Orders++
	}
	slices.SortFunc(levels, func(a, b exchange.Level) int {
		if better(s, a.Price, b.Price) {
			return -1
		}
		return 1
	})
	return levels[:min(n, len(levels))]
}

func (b *Book) limit(c exchange.Limit) (exchange.Reply, error) {
	if err := b.check(c); err != nil {
		return exchange.Reply{}, err
	}
	if b.open(c.Side, c.Price) > exchange.MaxQty-c.Qty {
		return exchange.Reply{}, exchange.ErrLevelFull
	}
	return b.place(c), nil
}

func (b *Book) ioc(c exchange.Limit) (exchange.Reply, error) {
	if err := b.check(c); err != nil {
		return exchange.Reply{}, err
	}
	fills, left := b.match(c)
	return exchange.Reply{Cancelled: left, Fills: fills}, nil
}

// fok tries it on a copy of the book and keeps the copy if all was filled.
func (b *Book) fok(c exchange.Limit) (exchange.Reply, error) {
	if err := b.check(c); err != nil {
		return exchange.Reply{}, err
	}
	trial := Book{orders: slices.Clone(b.orders)}
	fills, left := trial.match(c)
	if left > 0 {
		return exchange.Reply{Cancelled: c.Qty}, nil
	}
	b.orders = trial.orders
	return exchange.Reply{Fills: fills}, nil
}

func (b *Book) cancel(c exchange.Cancel) (exchange.Reply, error) {
	i := b.index(c.ID)
	if i < 0 {
		return exchange.Reply{}, exchange.ErrNoOrder
	}
	open := b.orders[i].Qty
	b.orders = slices.Delete(b.orders, i, i+1)
	return exchange.Reply{Cancelled: open}, nil
}

func (b *Book) reduce(c exchange.Reduce) (exchange.Reply, error) {
	if c.Qty < 1 || c.Qty > exchange.MaxQty {
		return exchange.Reply{}, exchange.ErrQty
	}
	i := b.index(c.ID)
	if i < 0 {
		return exchange.Reply{}, exchange.ErrNoOrder
	}
	taken := min(c.Qty, b.orders[i].Qty)
	b.orders[i].Qty -= taken
	left := b.orders[i].Qty
	if left == 0 {
		b.orders = slices.Delete(b.orders, i, i+1)
	}
	return exchange.Reply{Rests: left, Cancelled: taken}, nil
}

func (b *Book) replace(c exchange.Replace) (exchange.Reply, error) {
	if err := terms(c.Price, c.Qty); err != nil {
		return exchange.Reply{}, err
	}
	i := b.index(c.ID)
	if i < 0 {
		return exchange.Reply{}, exchange.ErrNoOrder
	}
	without := Book{orders: slices.Delete(slices.Clone(b.orders), i, i+1)}
	side := b.orders[i].Side
	if without.open(side, c.Price) > exchange.MaxQty-c.Qty {
		return exchange.Reply{}, exchange.ErrLevelFull
	}
	b.orders = without.orders
	return b.place(exchange.Limit{Side: side, ID: c.ID, Price: c.Price, Qty: c.Qty}), nil
}

func (b *Book) check(c exchange.Limit) error {
	if c.Side != exchange.Buy && c.Side != exchange.Sell {
		return exchange.ErrSide
	}
	if c.ID == 0 {
		return exchange.ErrZeroID
	}
	if err := terms(c.Price, c.Qty); err != nil {
		return err
	}
	if b.index(c.ID) >= 0 {
		return exchange.ErrDuplicate
	}
	return nil
}

func terms(price int64, qty uint64) error {
	if price < 1 {
		return exchange.ErrPrice
	}
	if qty < 1 || qty > exchange.MaxQty {
		return exchange.ErrQty
	}
	return nil
}

// place matches an order and puts the rest of it at the end of the list.
func (b *Book) place(c exchange.Limit) exchange.Reply {
	fills, left := b.match(c)
	if left > 0 {
		b.orders = append(b.orders, exchange.Order{ID: c.ID, Side: c.Side, Price: c.Price, Qty: left})
	}
	return exchange.Reply{Rests: left, Fills: fills}
}

// match trades with the best resting order, again and again.
func (b *Book) match(c exchange.Limit) (fills []exchange.Fill, left uint64) {
	left = c.Qty
	for left > 0 {
		i := b.first(c.Side.Opposite())
		if i < 0 || better(c.Side.Opposite(), c.Price, b.orders[i].Price) {
			break
		}
		maker := &b.orders[i]
		qty := min(left, maker.Qty)
		fills = append(fills, exchange.Fill{Maker: maker.ID, Price: maker.Price, Qty: qty})
		left -= qty
		maker.Qty -= qty
		if maker.Qty == 0 {
			b.orders = slices.Delete(b.orders, i, i+1)
		}
	}
	return fills, left
}

// first returns the order of side s that trades next, or -1: of those with the
// best price the one that stands first in the list.
func (b *Book) first(s exchange.Side) int {
	best := -1
	for i, o := range b.orders {
		if o.Side == s && (best < 0 || better(s, o.Price, b.orders[best].Price)) {
			best = i
		}
	}
	return best
}

func (b *Book) index(id uint64) int {
	return slices.IndexFunc(b.orders, func(o exchange.Order) bool { return o.ID == id })
}

func (b *Book) open(s exchange.Side, price int64) uint64 {
	var sum uint64
	for _, o := range b.orders {
		if o.Side == s && o.Price == price {
			sum += o.Qty
		}
	}
	return sum
}

// better reports whether a resting order of side s at price x trades before one
// at y.
func better(s exchange.Side, x, y int64) bool {
	if s == exchange.Buy {
		return x > y
	}
	return x < y
}

// worst is the price that crosses every other.
func worst(s exchange.Side) int64 {
	if s == exchange.Buy {
		return math.MaxInt64
	}
	return 1
}
