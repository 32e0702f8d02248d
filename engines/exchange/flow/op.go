// Package flow reads, generates and writes order flow: operations on an order book
// as lines of a CSV file, and the fills they lead to.
//
// # Operations
//
//	n,ts,op,id,side,price,qty
//	1,34200015105074,N,9000000001,S,5802300,100
//
// n numbers the operations, upwards; ts is in nanoseconds since midnight. op is N for
// a limit order, I for an immediate-or-cancel order, X for a cancel, R to take qty
// off an order that keeps its place. side is B or S. price is in the instrument's
// smallest step. For X and R side and price, and for X qty, only describe the order.
// A file whose name ends in .zst is compressed with zstd.
//
// # Fills
//
//	n,maker_id,price,qty
//
// where n is the operation's and fills of one operation are in the order in which
// they happened.
package flow

import (
	"fmt"
	"strconv"

	"understudy.dev/engines/exchange"
)

// A Kind is what an operation asks for: its letter in a file.
type Kind byte

// The kinds.
const (
	Limit  Kind = 'N'
	IOC    Kind = 'I'
	Cancel Kind = 'X'
	Reduce Kind = 'R'
)

// An Op is one operation.
type Op struct {
	N     uint64
	TS    int64 // nanoseconds since midnight
	Kind  Kind
	ID    uint64
	Side  exchange.Side
	Price int64
	Qty   uint64
}

// Typed returns the operation as a command. It panics on a Kind that is none of
// this package's; a [Reader] never returns one.
func (o Op) Typed() exchange.Command {
	switch o.Kind {
	case Limit:
		return exchange.Limit{Side: o.Side, ID: o.ID, Price: o.Price, Qty: o.Qty}
	case IOC:
		return exchange.IOC{Side: o.Side, ID: o.ID, Price: o.Price, Qty: o.Qty}
	case Cancel:
		return exchange.Cancel{ID: o.ID}
	case Reduce:
		return exchange.Reduce{ID: o.ID, Qty: o.Qty}
	}
	panic(fmt.Sprintf("flow: operation %d has kind %q", o.N, byte(o.Kind)))
}

// Command returns the operation as the name, version and data to submit.
func (o Op) Command() (name string, version uint32, data []byte) {
	c := o.Typed()
	return c.Name(), exchange.CommandVersion, c.Append(nil)
}

// Header is the first line of a file of operations.
const Header = "n,ts,op,id,side,price,qty"

// AppendOp appends the operation as a line.
func AppendOp(dst []byte, o Op) []byte {
	dst = strconv.AppendUint(dst, o.N, 10)
	dst = strconv.AppendInt(append(dst, ','), o.TS, 10)
	dst = append(dst, ',', byte(o.Kind), ',')
	dst = strconv.AppendUint(dst, o.ID, 10)
	dst = append(dst, ',', letter(o.Side), ',')
	dst = strconv.AppendInt(dst, o.Price, 10)
	dst = strconv.AppendUint(append(dst, ','), o.Qty, 10)
	return append(dst, '\n')
}

func letter(s exchange.Side) byte {
	if s == exchange.Buy {
		return 'B'
	}
	return 'S'
}

// FillsHeader is the first line of a file of fills.
const FillsHeader = "n,maker_id,price,qty"

// AppendFills appends the fills of operation n, a line each.
func AppendFills(dst []byte, n uint64, fills []exchange.Fill) []byte {
	for _, f := range fills {
		dst = strconv.AppendUint(dst, n, 10)
		dst = strconv.AppendUint(append(dst, ','), f.Maker, 10)
		dst = strconv.AppendInt(append(dst, ','), f.Price, 10)
		dst = strconv.AppendUint(append(dst, ','), f.Qty, 10)
		dst = append(dst, '\n')
	}
	return dst
}
