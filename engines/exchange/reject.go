package exchange

import "errors"

// Refusals of the book. Each leaves the book as it was. The texts are answers that
// clients read and digests cover: a change of wording is a change of the
// definition's version.
var (
	ErrZeroID    = errors.New("an order's id is not 0")
	ErrDuplicate = errors.New("an order with this id rests already")
	ErrNoOrder   = errors.New("no order with this id rests")
	ErrQty       = errors.New("a quantity is from 1 to 9223372036854775807")
	ErrPrice     = errors.New("a price is from 1 to 9223372036854775807")
	ErrLevelFull = errors.New("the open quantity at this price would exceed 9223372036854775807")
	ErrSide      = errors.New("a side is buy or sell")
)
