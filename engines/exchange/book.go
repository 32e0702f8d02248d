package exchange

import "math"

// A Book holds the resting orders of one instrument. One goroutine at a time uses
// it; in a steady state no operation allocates.
//
// The Fills of a returned [Reply] are valid until the next operation.
type Book struct {
	bids, asks ladder
	orders     map[uint64]*order // for look-ups only; never ranged over, so its order decides nothing
	pool       pool
	fills      []Fill
}

// NewBook returns an empty book.
func NewBook() *Book {
	return &Book{asks: ladder{sell: true}, orders: make(map[uint64]*order)}
}

// Limit matches an order and lets the rest of it rest.
func (b *Book) Limit(c Limit) (Reply, error) {
	if err := b.admit(c); err != nil {
		return Reply{}, err
	}
	if !b.hasRoom(c.Side, c.Price, c.Qty) {
		return Reply{}, ErrLevelFull
	}
	return b.place(c), nil
}

// IOC matches an order and cancels the rest of it.
func (b *Book) IOC(c IOC) (Reply, error) {
	if err := b.admit(Limit(c)); err != nil {
		return Reply{}, err
	}
	left := b.match(c.Side, c.Price, c.Qty)
	return Reply{Cancelled: left, Fills: b.fills}, nil
}

// FOK matches all of an order, or cancels all of it.
func (b *Book) FOK(c FOK) (Reply, error) {
	if err := b.admit(Limit(c)); err != nil {
		return Reply{}, err
	}
	if !b.canFill(c.Side, c.Price, c.Qty) {
		return Reply{Cancelled: c.Qty}, nil
	}
	b.match(c.Side, c.Price, c.Qty)
	return Reply{Fills: b.fills}, nil
}

// Market matches an order at any price and cancels the rest of it.
func (b *Book) Market(c Market) (Reply, error) {
	price := int64(1) // the worst price for a seller
	if c.Side == Buy {
		price = math.MaxInt64
	}
	return b.IOC(IOC{Side: c.Side, ID: c.ID, Price: price, Qty: c.Qty})
}

// Cancel takes a resting order away.
func (b *Book) Cancel(c Cancel) (Reply, error) {
	o, ok := b.orders[c.ID]
	if !ok {
		return Reply{}, ErrNoOrder
	}
	open := o.qty
	b.drop(o)
	return Reply{Cancelled: open}, nil
}

// Reduce takes a quantity off a resting order, which keeps its place.
func (b *Book) Reduce(c Reduce) (Reply, error) {
	if c.Qty == 0 || c.Qty > MaxQty {
		return Reply{}, ErrQty
	}
	o, ok := b.orders[c.ID]
	if !ok {
		return Reply{}, ErrNoOrder
	}
	if c.Qty >= o.qty {
		return b.Cancel(Cancel{ID: c.ID})
	}
	o.qty -= c.Qty
	o.level.qty -= c.Qty
	return Reply{Rests: o.qty, Cancelled: c.Qty}, nil
}

// Replace gives a resting order a new price and open quantity, at the end of the
// queue; it may match. Cancelled is 0: the old quantity became the new one.
func (b *Book) Replace(c Replace) (Reply, error) {
	if err := checkTerms(c.Price, c.Qty); err != nil {
		return Reply{}, err
	}
	o, ok := b.orders[c.ID]
	if !ok {
		return Reply{}, ErrNoOrder
	}
	side := o.level.side
	if o.level.price == c.Price {
		if o.level.qty-o.qty > MaxQty-c.Qty {
			return Reply{}, ErrLevelFull
		}
	} else if !b.hasRoom(side, c.Price, c.Qty) {
		return Reply{}, ErrLevelFull
	}
	b.drop(o)
	return b.place(Limit{Side: side, ID: c.ID, Price: c.Price, Qty: c.Qty}), nil
}

// admit refuses an order that can neither match nor rest.
func (b *Book) admit(c Limit) error {
	if c.Side != Buy && c.Side != Sell {
		return ErrSide
	}
	if c.ID == 0 {
		return ErrZeroID
	}
	if err := checkTerms(c.Price, c.Qty); err != nil {
		return err
	}
	if _, ok := b.orders[c.ID]; ok {
		return ErrDuplicate
	}
	return nil
}

func checkTerms(price int64, qty uint64) error {
	if price < 1 {
		return ErrPrice
	}
	if qty == 0 || qty > MaxQty {
		return ErrQty
	}
	return nil
}

// side returns the ladder on which orders of s rest.
func (b *Book) side(s Side) *ladder {
	if s == Buy {
		return &b.bids
	}
	return &b.asks
}

// hasRoom reports whether qty more may rest at price.
func (b *Book) hasRoom(s Side, price int64, qty uint64) bool {
	lvl, _ := b.side(s).find(price)
	return lvl == nil || lvl.qty <= MaxQty-qty
}

// place matches an admitted order and lets the rest of it rest.
func (b *Book) place(c Limit) Reply {
	left := b.match(c.Side, c.Price, c.Qty)
	if left > 0 {
		b.rest(c.Side, c.ID, c.Price, left)
	}
	return Reply{Rests: left, Fills: b.fills}
}

// rest puts an order at the end of the queue at its price.
func (b *Book) rest(s Side, id uint64, price int64, qty uint64) {
	l := b.side(s)
	lvl, at := l.find(price)
	if lvl == nil {
		lvl = b.pool.level(s, price)
		l.insert(at, lvl)
	}
	o := b.pool.order(id, qty)
	lvl.push(o)
	b.orders[id] = o
}

// match trades qty of an incoming order at price or better, fills b.fills and
// returns what is left.
func (b *Book) match(taker Side, price int64, qty uint64) uint64 {
	b.fills = b.fills[:0]
	opposite := b.side(taker.Opposite())
	for qty > 0 {
		lvl := opposite.best()
		if lvl == nil || !crosses(taker, price, lvl.price) {
			break
		}
		maker := lvl.head
		traded := min(qty, maker.qty)
		b.fills = append(b.fills, Fill{Maker: maker.id, Price: lvl.price, Qty: traded})
		qty -= traded
		if traded == maker.qty {
			b.drop(maker)
			continue
		}
		maker.qty -= traded
		lvl.qty -= traded
	}
	return qty
}

// canFill reports whether qty can trade at price or better. It subtracts, because
// the sum of many levels may not fit.
func (b *Book) canFill(taker Side, price int64, qty uint64) bool {
	for lvl := range b.side(taker.Opposite()).levels() {
		if !crosses(taker, price, lvl.price) {
			return false
		}
		if lvl.qty >= qty {
			return true
		}
		qty -= lvl.qty
	}
	return false
}

// crosses reports whether an incoming order at price trades with one resting at
// maker.
func crosses(taker Side, price, maker int64) bool {
	if taker == Buy {
		return price >= maker
	}
	return price <= maker
}

// drop takes a resting order out of the book.
func (b *Book) drop(o *order) {
	lvl := o.level
	lvl.remove(o)
	if lvl.count == 0 {
		b.side(lvl.side).remove(lvl.price)
		b.pool.freeLevel(lvl)
	}
	delete(b.orders, o.id)
	b.pool.freeOrder(o)
}
