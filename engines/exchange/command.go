package exchange

import (
	"fmt"
	"math"
)

// A Side is the direction of an order. The numbers are part of the encoding.
type Side uint8

// The sides.
const (
	Buy  Side = 1
	Sell Side = 2
)

// String returns the side's word.
func (s Side) String() string {
	switch s {
	case Buy:
		return "buy"
	case Sell:
		return "sell"
	}
	return fmt.Sprintf("side(%d)", uint8(s))
}

// Opposite returns the side that s trades with.
func (s Side) Opposite() Side { return Buy + Sell - s }

// MaxQty is the largest quantity of an order, and of all orders at one price
// together: what a signed 64-bit integer holds, so that no reader of the figures
// overflows, whatever the language.
const MaxQty = math.MaxInt64

// Names of the commands. They are part of the history.
const (
	NameLimit   = "limit"
	NameMarket  = "market"
	NameIOC     = "ioc"
	NameFOK     = "fok"
	NameCancel  = "cancel"
	NameReduce  = "reduce"
	NameReplace = "replace"
)

// CommandVersion is the version of every command in this package.
const CommandVersion = 1

// A Command is one of [Limit], [Market], [IOC], [FOK], [Cancel], [Reduce] and
// [Replace].
type Command interface {
	// Name returns the command's name.
	Name() string
	// Append appends the encoded command to dst. It does not check the values:
	// the book does.
	Append(dst []byte) []byte
}

// Limit asks to trade at Price or better, and to rest with what is left.
type Limit struct {
	Side  Side
	ID    uint64
	Price int64 // in the instrument's smallest step; from 1
	Qty   uint64
}

// IOC is a limit order whose rest is cancelled.
type IOC Limit

// FOK is a limit order that trades all of its quantity at once, or nothing.
type FOK Limit

// Market asks to trade at any price; what finds no order is cancelled.
type Market struct {
	Side Side
	ID   uint64
	Qty  uint64
}

// Cancel takes a resting order away.
type Cancel struct {
	ID uint64
}

// Reduce takes Qty off a resting order, which keeps its place. With Qty or less open
// the order goes away.
type Reduce struct {
	ID  uint64
	Qty uint64
}

// Replace gives a resting order a new price and open quantity. The order goes to
// the end of the queue at its price, even where nothing changes, and may match.
type Replace struct {
	ID    uint64
	Price int64
	Qty   uint64
}

// Name returns "limit".
func (Limit) Name() string { return NameLimit }

// Name returns "ioc".
func (IOC) Name() string { return NameIOC }

// Name returns "fok".
func (FOK) Name() string { return NameFOK }

// Name returns "market".
func (Market) Name() string { return NameMarket }

// Name returns "cancel".
func (Cancel) Name() string { return NameCancel }

// Name returns "reduce".
func (Reduce) Name() string { return NameReduce }

// Name returns "replace".
func (Replace) Name() string { return NameReplace }

// Append appends the encoded command to dst.
func (c Limit) Append(dst []byte) []byte {
	return appendNumbers(append(dst, byte(c.Side)), c.ID, uint64(c.Price), c.Qty)
}

// Append appends the encoded command to dst.
func (c IOC) Append(dst []byte) []byte { return Limit(c).Append(dst) }

// Append appends the encoded command to dst.
func (c FOK) Append(dst []byte) []byte { return Limit(c).Append(dst) }

// Append appends the encoded command to dst.
func (c Market) Append(dst []byte) []byte {
	return appendNumbers(append(dst, byte(c.Side)), c.ID, c.Qty)
}

// Append appends the encoded command to dst.
func (c Cancel) Append(dst []byte) []byte { return appendNumbers(dst, c.ID) }

// Append appends the encoded command to dst.
func (c Reduce) Append(dst []byte) []byte { return appendNumbers(dst, c.ID, c.Qty) }

// Append appends the encoded command to dst.
func (c Replace) Append(dst []byte) []byte {
	return appendNumbers(dst, c.ID, uint64(c.Price), c.Qty)
}

// Parse decodes the command that Append wrote. It checks the form; whether the
// book accepts the values is the book's to say.
func Parse(name string, version uint32, data []byte) (Command, error) {
	if version != CommandVersion {
		return nil, versionError(name, version)
	}
	switch name {
	case NameLimit:
		return parsed(parseLimit(name, data))
	case NameIOC:
		c, err := parseLimit(name, data)
		return parsed(IOC(c), err)
	case NameFOK:
		c, err := parseLimit(name, data)
		return parsed(FOK(c), err)
	case NameMarket:
		return parsed(parseMarket(data))
	case NameCancel:
		return parsed(parseCancel(data))
	case NameReduce:
		return parsed(parseReduce(data))
	case NameReplace:
		return parsed(parseReplace(data))
	}
	return nil, nameError(name)
}

// parsed keeps a half-read command from its caller.
func parsed[C Command](c C, err error) (Command, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

// parseLimit decodes a limit, ioc or fok order.
func parseLimit(name string, data []byte) (Limit, error) {
	d := decoder{data: data}
	c := Limit{Side: d.side(), ID: d.number("id"), Price: d.price(), Qty: d.number("quantity")}
	return c, d.end(name)
}

func parseMarket(data []byte) (Market, error) {
	d := decoder{data: data}
	c := Market{Side: d.side(), ID: d.number("id"), Qty: d.number("quantity")}
	return c, d.end(NameMarket)
}

func parseCancel(data []byte) (Cancel, error) {
	d := decoder{data: data}
	c := Cancel{ID: d.number("id")}
	return c, d.end(NameCancel)
}

func parseReduce(data []byte) (Reduce, error) {
	d := decoder{data: data}
	c := Reduce{ID: d.number("id"), Qty: d.number("quantity")}
	return c, d.end(NameReduce)
}

func parseReplace(data []byte) (Replace, error) {
	d := decoder{data: data}
	c := Replace{ID: d.number("id"), Price: d.price(), Qty: d.number("quantity")}
	return c, d.end(NameReplace)
}
