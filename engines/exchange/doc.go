// Package exchange is a limit order book as a machine: price-time priority,
// integers only, every operation a typed and versioned command.
//
// # Orders
//
// A [Book] holds the orders of one instrument. A limit order matches what it can
// and rests; market, immediate-or-cancel (ioc) and fill-or-kill (fok) orders never
// rest. An incoming order trades against the best price first and, within a price,
// against the order that has waited longest, always at the resting order's price.
// The book is never crossed after a command.
//
//	limit    side id price qty   match, the rest rests
//	market   side id qty         match at any price, the rest is cancelled
//	ioc      side id price qty   match, the rest is cancelled
//	fok      side id price qty   match all of it, or cancel all of it
//	cancel   id                  take the order away
//	reduce   id qty              less of it; it keeps its place
//	replace  id price qty        a new price and open quantity; it loses its place and may match
//
// # What is refused
//
// A refusal changes nothing and is an answer like any other:
//
//   - id 0, and an id that rests already. An id may be used again once its order is
//     gone: the book remembers resting orders only, so its size has a bound.
//   - a quantity of 0 or above [MaxQty], and a price outside 1 to the largest int64.
//   - an order that would bring the open quantity at its price above [MaxQty].
//   - cancel, reduce and replace of an id that does not rest.
//   - bytes that are not exactly one command, as the encoding below writes it.
//
// A fok order that cannot be filled, or a market order that meets an empty side, is
// no refusal: the reply says that all of it was cancelled. Nor is a reduction by more
// than is open, which a fill on its way can bring about (recorded exchange data has
// such): it takes the order away, and the reply says how much that was.
//
// # Encoding
//
// A side is one byte, 1 to buy and 2 to sell. Numbers are unsigned LEB128 in the
// fewest bytes; longer forms are refused, so equal commands have equal bytes. A
// command's fields follow each other in the order of the table above. A reply to a
// command of version 1 is
//
//	rests cancelled count { maker price qty } x count
//
// where rests is the open quantity of the command's order afterwards, cancelled the
// quantity that left unfilled, and the fills are in the order in which they happened.
//
// # What it does not do
//
// It knows no accounts, so it does not prevent trades with oneself; no fees, no
// auctions, no tick sizes. A reply lists every fill: an order that sweeps a million
// others has an answer of some ten megabytes.
package exchange
