package flow

import (
	"fmt"
	"math/rand/v2"

	"understudy.dev/engines/exchange"
)

// A Generator makes order flow that looks like a trading day: orders near a price
// that walks, cancels and reductions of orders that still rest, and now and then an
// immediate-or-cancel order that trades. The same seed gives the same operations.
type Generator struct {
	rng  *rand.Rand
	book *exchange.Book // tells which orders still rest
	live []uint64       // ids that may rest; the filled ones are weeded out when drawn
	op   Op             // the last
	mid  int64          // the price that walks
}

// Parameters of the flow, after a day of a liquid share: four in ten operations add,
// most of the others cancel, few trade.
const (
	startPrice = 1_000_000
	tick       = 100
	lowest     = 1_000 * tick // the walk turns here; far from it every price is positive
	fullBook   = 4_000        // orders; beyond it cancels prevail
	dayStart   = 34_200_000_000_000
)

// NewGenerator returns a generator of the flow of seed.
func NewGenerator(seed uint64) *Generator {
	return &Generator{
		rng:  rand.New(rand.NewPCG(seed, 0x0f10)),
		book: exchange.NewBook(),
		op:   Op{TS: dayStart},
		mid:  startPrice,
	}
}

// Generate returns the first n operations of the flow of seed.
func Generate(seed uint64, n int) []Op {
	g := NewGenerator(seed)
	ops := make([]Op, n)
	for i := range ops {
		ops[i] = g.Next()
	}
	return ops
}

// Next returns the next operation. There is always one.
func (g *Generator) Next() Op {
	g.op.N++
	g.op.TS += 1 + g.rng.Int64N(300_000)
	g.walk()
	g.choose()
	g.follow()
	return g.op
}

// walk moves the middle price by at most two ticks, seldom.
func (g *Generator) walk() {
	if g.rng.IntN(4) == 0 {
		g.mid = max(lowest, g.mid+tick*(g.rng.Int64N(5)-2))
	}
}

// choose fills in the operation.
func (g *Generator) choose() {
	draw := g.rng.IntN(100)
	if g.book.Len() > fullBook {
		draw += 25
	}
	o, ok := exchange.Order{}, false
	if draw >= 50 {
		o, ok = g.resting()
	}
	switch {
	case !ok && draw%10 == 0:
		g.aggress()
	case !ok:
		g.add()
	case draw < 55 && o.Qty > 1:
		g.amend(Reduce, o, 1+g.rng.Uint64N(o.Qty-1))
	default:
		g.amend(Cancel, o, o.Qty)
	}
}

// add places a limit order, most near the middle, some so that they trade.
func (g *Generator) add() {
	g.newOrder(Limit)
	away := tick * (int64(g.rng.ExpFloat64()*8) - 1)
	if g.op.Side == exchange.Buy {
		away = -away
	}
	g.op.Price = max(1, g.mid+away)
}

// aggress takes what lies within a few ticks of the middle.
func (g *Generator) aggress() {
	g.newOrder(IOC)
	reach := tick * g.rng.Int64N(12)
	if g.op.Side == exchange.Sell {
		reach = -reach
	}
	g.op.Price = g.mid + reach
}

func (g *Generator) newOrder(k Kind) {
	g.op.Kind = k
	g.op.ID = g.op.N // an operation adds one order at most, so its number is unused
	g.op.Side = exchange.Buy + exchange.Side(g.rng.IntN(2))
	g.op.Qty = 1 + g.rng.Uint64N(300)
	if g.rng.IntN(2) == 0 {
		g.op.Qty = 100 // the usual lot
	}
}

func (g *Generator) amend(k Kind, o exchange.Order, qty uint64) {
	g.op.Kind, g.op.ID, g.op.Side, g.op.Price, g.op.Qty = k, o.ID, o.Side, o.Price, qty
}

// resting draws an order that rests.
func (g *Generator) resting() (exchange.Order, bool) {
	for len(g.live) > 0 {
		i := g.rng.IntN(len(g.live))
		if o, ok := g.book.Order(g.live[i]); ok {
			return o, true
		}
		g.live[i] = g.live[len(g.live)-1]
		g.live = g.live[:len(g.live)-1]
	}
	return exchange.Order{}, false
}

// follow keeps the generator's own book in step.
func (g *Generator) follow() {
	switch c := g.op.Typed().(type) {
	case exchange.Limit:
		reply, err := g.book.Limit(c)
		g.must(err)
		if reply.Rests > 0 {
			g.live = append(g.live, c.ID)
		}
	case exchange.IOC:
		_, err := g.book.IOC(c)
		g.must(err)
	case exchange.Cancel:
		_, err := g.book.Cancel(c)
		g.must(err)
	case exchange.Reduce:
		_, err := g.book.Reduce(c)
		g.must(err)
	}
}

// must holds the generator to its promise that no operation is refused.
func (g *Generator) must(err error) {
	if err != nil {
		panic(fmt.Sprintf("flow: generated operation %+v is refused: %v", g.op, err))
	}
}
