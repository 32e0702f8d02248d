package exchange

// An order rests in the queue of its level.
type order struct {
	id, qty    uint64
	level      *level
	prev, next *order // next also links free orders
}

// A level is the queue of one side at one price, the longest waiting first.
type level struct {
	side       Side
	price      int64
	qty        uint64 // of all orders; at most MaxQty
	count      int
	head, tail *order
	next       *level // among free levels
}

// push puts o at the end of the queue.
func (l *level) push(o *order) {
	o.level, o.prev, o.next = l, l.tail, nil
	if l.tail == nil {
		l.head = o
	} else {
		l.tail.next = o
	}
	l.tail = o
	l.qty += o.qty
	l.count++
}

// remove takes o out of the queue, wherever it is.
func (l *level) remove(o *order) {
	if o.prev == nil {
		l.head = o.next
	} else {
		o.prev.next = o.next
	}
	if o.next == nil {
		l.tail = o.prev
	} else {
		o.next.prev = o.prev
	}
	l.qty -= o.qty
	l.count--
}

// slabSize is how many orders or levels are allocated at once: 12 KiB of orders.
const slabSize = 256

// A pool keeps orders and levels that are not in use, so that a book of steady
// size allocates nothing.
type pool struct {
	orders *order
	levels *level
}

func (p *pool) order(id, qty uint64) *order {
	if p.orders == nil {
		slab := make([]order, slabSize)
		for i := range slab[1:] {
			slab[i].next = &slab[i+1]
		}
		p.orders = &slab[0]
	}
	o := p.orders
	p.orders = o.next
	o.id, o.qty = id, qty
	return o
}

func (p *pool) freeOrder(o *order) {
	*o = order{next: p.orders}
	p.orders = o
}

func (p *pool) level(side Side, price int64) *level {
	if p.levels == nil {
		slab := make([]level, slabSize)
		for i := range slab[1:] {
			slab[i].next = &slab[i+1]
		}
		p.levels = &slab[0]
	}
	l := p.levels
	p.levels = l.next
	*l = level{side: side, price: price}
	return l
}

func (p *pool) freeLevel(l *level) {
	*l = level{next: p.levels}
	p.levels = l
}
