package main

import (
	"fmt"
	"strconv"
	"strings"

	"understudy.dev/engines/exchange"
)

// orderExample is a command as encodeOrder takes it.
const orderExample = "limit B 1 10050 5"

// A shape is the words of a command after its name.
type shape struct {
	words string
	make  func(a *orderArgs) exchange.Command
}

// shapes are the commands of the exchange.
var shapes = map[string]shape{
	exchange.NameLimit: {"SIDE ID PRICE QTY", func(a *orderArgs) exchange.Command { return a.limit() }},
	exchange.NameIOC:   {"SIDE ID PRICE QTY", func(a *orderArgs) exchange.Command { return exchange.IOC(a.limit()) }},
	exchange.NameFOK:   {"SIDE ID PRICE QTY", func(a *orderArgs) exchange.Command { return exchange.FOK(a.limit()) }},
	exchange.NameMarket: {"SIDE ID QTY", func(a *orderArgs) exchange.Command {
		return exchange.Market{Side: a.side(), ID: a.number("ID"), Qty: a.number("QTY")}
	}},
	exchange.NameCancel: {"ID", func(a *orderArgs) exchange.Command { return exchange.Cancel{ID: a.number("ID")} }},
	exchange.NameReduce: {"ID QTY", func(a *orderArgs) exchange.Command { return exchange.Reduce{ID: a.number("ID"), Qty: a.number("QTY")} }},
	exchange.NameReplace: {"ID PRICE QTY", func(a *orderArgs) exchange.Command {
		return exchange.Replace{ID: a.number("ID"), Price: a.price(), Qty: a.number("QTY")}
	}},
}

// encodeOrder makes a command of words such as limit B 1 10050 5. Whether the
// book takes the values is the book's to say.
func encodeOrder(name string, words []string) (uint32, []byte, error) {
	s, ok := shapes[name]
	if !ok {
		return 0, nil, fmt.Errorf("the exchange has no such command: it has limit, market, ioc, fok, cancel, reduce and replace")
	}
	if got, want := len(words), len(strings.Fields(s.words)); got != want {
		return 0, nil, fmt.Errorf("%d words, want %s", got, s.words)
	}
	a := orderArgs{words: words}
	c := s.make(&a)
	if a.err != nil {
		return 0, nil, fmt.Errorf("%w: want %s", a.err, s.words)
	}
	return exchange.CommandVersion, c.Append(nil), nil
}

// showOrder is the inverse of encodeOrder: the words after the name.
func showOrder(name string, version uint32, data []byte) string {
	c, err := exchange.Parse(name, version, data)
	if err != nil {
		return ""
	}
	switch c := c.(type) {
	case exchange.IOC:
		return limitWords(exchange.Limit(c))
	case exchange.FOK:
		return limitWords(exchange.Limit(c))
	case exchange.Limit:
		return limitWords(c)
	case exchange.Market:
		return fmt.Sprintf("%s %d %d", sideWord(c.Side), c.ID, c.Qty)
	case exchange.Cancel:
		return strconv.FormatUint(c.ID, 10)
	case exchange.Reduce:
		return fmt.Sprintf("%d %d", c.ID, c.Qty)
	case exchange.Replace:
		return fmt.Sprintf("%d %d %d", c.ID, c.Price, c.Qty)
	}
	return ""
}

func limitWords(c exchange.Limit) string {
	return fmt.Sprintf("%s %d %d %d", sideWord(c.Side), c.ID, c.Price, c.Qty)
}

// sideWord is B or S; of a side that the book would refuse its number.
func sideWord(s exchange.Side) string {
	switch s {
	case exchange.Buy:
		return "B"
	case exchange.Sell:
		return "S"
	}
	return strconv.Itoa(int(s))
}

// orderArgs takes words one by one and keeps the first fault.
type orderArgs struct {
	words []string
	err   error
}

func (a *orderArgs) next() string {
	w := a.words[0]
	a.words = a.words[1:]
	return w
}

func (a *orderArgs) fail(what, word string) {
	if a.err == nil {
		a.err = fmt.Errorf("%s %q", what, word)
	}
}

func (a *orderArgs) limit() exchange.Limit {
	return exchange.Limit{Side: a.side(), ID: a.number("ID"), Price: a.price(), Qty: a.number("QTY")}
}

func (a *orderArgs) side() exchange.Side {
	w := a.next()
	switch strings.ToLower(w) {
	case "b", "buy":
		return exchange.Buy
	case "s", "sell":
		return exchange.Sell
	}
	a.fail("SIDE", w)
	return 0
}

func (a *orderArgs) number(what string) uint64 {
	w := a.next()
	n, err := strconv.ParseUint(w, 10, 64)
	if err != nil {
		a.fail(what, w)
	}
	return n
}

func (a *orderArgs) price() int64 {
	w := a.next()
	n, err := strconv.ParseInt(w, 10, 64)
	if err != nil || n < 0 {
		a.fail("PRICE", w)
		return 0
	}
	return n
}

// decodeReply puts a reply of the exchange into words: each fill as maker
// qty@price, then what rests and what was cancelled.
func decodeReply(_ string, reply []byte) string {
	r, err := exchange.ParseReply(reply)
	if err != nil {
		return fmt.Sprintf("0x%x (%v)", reply, err)
	}
	var parts []string
	for _, f := range r.Fills {
		parts = append(parts, fmt.Sprintf("filled %d@%d with order %d", f.Qty, f.Price, f.Maker))
	}
	if r.Rests > 0 {
		parts = append(parts, fmt.Sprintf("rests %d", r.Rests))
	}
	if r.Cancelled > 0 {
		parts = append(parts, fmt.Sprintf("cancelled %d", r.Cancelled))
	}
	return strings.Join(parts, ", ")
}
