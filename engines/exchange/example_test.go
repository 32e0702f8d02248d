package exchange_test

import (
	"fmt"

	"understudy.dev/engines/exchange"
)

func Example() {
	book := exchange.NewBook()
	for _, c := range []exchange.Limit{
		{Side: exchange.Sell, ID: 1, Price: 101, Qty: 10},
		{Side: exchange.Sell, ID: 2, Price: 100, Qty: 10},
		{Side: exchange.Buy, ID: 3, Price: 101, Qty: 15},
	} {
		reply, err := book.Limit(c)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%v %d: rests %d, fills %v\n", c.Side, c.ID, reply.Rests, reply.Fills)
	}
	best, _ := book.Best(exchange.Sell)
	fmt.Printf("best to buy from: %d at %d\n", best.Qty, best.Price)
	// Output:
	// sell 1: rests 10, fills []
	// sell 2: rests 10, fills []
	// buy 3: rests 0, fills [{2 100 10} {1 101 5}]
	// best to buy from: 5 at 101
}
