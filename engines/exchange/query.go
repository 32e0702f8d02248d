package exchange

import "crypto/sha256"

// A Level is the open quantity of one side at one price.
type Level struct {
	Price  int64
	Qty    uint64
	Orders int
}

// An Order is a resting order.
type Order struct {
	ID    uint64
	Side  Side
	Price int64
	Qty   uint64 // open
}

// Len returns the number of resting orders.
func (b *Book) Len() int { return len(b.orders) }

// Best returns the level that the next incoming order of the other side trades
// with, and false where the side is empty.
func (b *Book) Best(s Side) (Level, bool) {
	lvl := b.side(s).best()
	if lvl == nil {
		return Level{}, false
	}
	return lvl.view(), true
}

// Depth returns up to n levels of a side, the best first.
func (b *Book) Depth(s Side, n int) []Level {
	var depth []Level
	for lvl := range b.side(s).levels() {
		if len(depth) >= n {
			break
		}
		depth = append(depth, lvl.view())
	}
	return depth
}

// Order returns a resting order, and false where none has the id.
func (b *Book) Order(id uint64) (Order, bool) {
	o, ok := b.orders[id]
	if !ok {
		return Order{}, false
	}
	return Order{ID: id, Side: o.level.side, Price: o.level.price, Qty: o.qty}, true
}

// Digest returns the SHA-256 of the snapshot: equal books, and no others, have equal
// digests. It reads every order.
func (b *Book) Digest() [sha256.Size]byte {
	h := sha256.New()
	if err := b.Snapshot(h); err != nil {
		panic("exchange: " + err.Error()) // a hash does not fail
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func (l *level) view() Level { return Level{Price: l.price, Qty: l.qty, Orders: l.count} }
