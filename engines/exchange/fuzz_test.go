package exchange_test

import (
	"bytes"
	"testing"

	"understudy.dev/engines/exchange"
	"understudy.dev/machine"
)

// fuzzNames are the commands by the fuzzer's number, and one that is unknown.
var fuzzNames = [...]string{
	exchange.NameLimit, exchange.NameMarket, exchange.NameIOC, exchange.NameFOK,
	exchange.NameCancel, exchange.NameReduce, exchange.NameReplace, "deposit",
}

// Any bytes are a command or a refusal, never a panic; accepted bytes encode to
// themselves, refused ones change nothing, and the state restores.
func FuzzApply(f *testing.F) {
	f.Add(byte(0), []byte{1, 9, 100, 5})
	f.Add(byte(1), []byte{2, 9, 5})
	f.Add(byte(2), []byte{2, 9, 99, 5})
	f.Add(byte(3), []byte{1, 9, 101, 50})
	f.Add(byte(4), []byte{1})
	f.Add(byte(5), []byte{1, 2})
	f.Add(byte(6), []byte{1, 102, 3})
	f.Add(byte(7), []byte(nil))
	f.Add(byte(0), []byte{1, 0x80, 0x00, 1, 1})
	f.Fuzz(func(t *testing.T, number byte, data []byte) {
		name := fuzzNames[int(number)%len(fuzzNames)]
		e := newDriven()
		for _, c := range []exchange.Limit{
			{Side: exchange.Buy, ID: 1, Price: 99, Qty: 5},
			{Side: exchange.Buy, ID: 2, Price: 100, Qty: exchange.MaxQty},
			{Side: exchange.Sell, ID: 3, Price: 101, Qty: 5},
			{Side: exchange.Sell, ID: 4, Price: 101, Qty: 7},
		} {
			must(e.Apply(c))
		}
		before := e.Book().Digest()
		encoded, err := e.Exchange.Apply(nil, machine.Command{Name: name, Version: 1, Data: data})
		if err != nil {
			if e.Book().Digest() != before {
				t.Fatalf("%s %x: refused (%v) and changed the book", name, data, err)
			}
			return
		}
		reply, err := exchange.ParseReply(encoded)
		if err != nil {
			t.Fatalf("%s %x: reply %x: %v", name, data, encoded, err)
		}
		c, err := exchange.Parse(name, 1, data)
		if err != nil {
			t.Fatalf("%s %x: applied, but Parse says %v", name, data, err)
		}
		if again := c.Append(nil); !bytes.Equal(again, data) {
			t.Fatalf("%s %x: encodes to %x", name, data, again)
		}
		if err := exchange.New().Restore(bytes.NewReader(snapshot(t, e))); err != nil {
			t.Fatalf("%s %x: reply %+v, and the book does not restore: %v", name, data, reply, err)
		}
	})
}

// Any bytes are a reply or an error; accepted ones encode to themselves.
func FuzzParseReply(f *testing.F) {
	f.Add([]byte{0, 0, 0})
	f.Add([]byte{5, 0, 1, 7, 100, 3})
	f.Add([]byte{0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, data []byte) {
		reply, err := exchange.ParseReply(data)
		if err != nil {
			return
		}
		if again := exchange.AppendReply(nil, reply); !bytes.Equal(again, data) {
			t.Fatalf("%x encodes to %x", data, again)
		}
	})
}

// Any bytes are a snapshot or an error; accepted ones are written again as they were.
func FuzzRestore(f *testing.F) {
	f.Add([]byte("UXB\x01\x00\x00"))
	f.Add([]byte("UXB\x01\x01\x05\x01\x01\x01\x01\x06\x01\x02\x01"))
	f.Add(snapshot(f, busyExchange(60)))
	f.Fuzz(func(t *testing.T, data []byte) {
		e := newDriven()
		if e.Restore(bytes.NewReader(data)) != nil {
			return
		}
		if again := snapshot(t, e); !bytes.Equal(again, data) {
			t.Fatalf("%x is written as %x", data, again)
		}
	})
}
