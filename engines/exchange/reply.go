package exchange

// A Fill is one trade of an incoming order with a resting one.
type Fill struct {
	Maker uint64 // the resting order
	Price int64  // the resting order's
	Qty   uint64
}

// A Reply is what a command led to.
type Reply struct {
	Rests     uint64 // open quantity of the command's order afterwards; 0 if it does not rest
	Cancelled uint64 // quantity that left unfilled: the rest of an ioc, what cancel and reduce took
	Fills     []Fill // in the order in which they happened
}

// AppendReply appends the encoded reply to dst.
func AppendReply(dst []byte, r Reply) []byte {
	dst = appendNumbers(dst, r.Rests, r.Cancelled, uint64(len(r.Fills)))
	for _, f := range r.Fills {
		dst = appendNumbers(dst, f.Maker, uint64(f.Price), f.Qty)
	}
	return dst
}

// ParseReply decodes what [AppendReply] wrote, and nothing else.
func ParseReply(data []byte) (Reply, error) {
	d := decoder{data: data}
	r := Reply{Rests: d.number("rests"), Cancelled: d.number("cancelled")}
	count := d.number("count")
	// A fill takes at least three bytes, so a count beyond that is a lie; it must
	// not size an allocation.
	if count > uint64(len(d.data)/3) {
		d.fail("count", errShort)
		count = 0
	}
	if count > 0 {
		r.Fills = make([]Fill, count)
	}
	for i := range r.Fills {
		r.Fills[i] = Fill{Maker: d.number("maker"), Price: d.price(), Qty: d.number("quantity")}
	}
	if err := d.end("reply"); err != nil {
		return Reply{}, err
	}
	return r, nil
}
