package main

import (
	"bytes"
	"strings"
	"testing"

	"understudy.dev/engines/exchange"
)

// Words make the command that the exchange reads back.
func TestEncodeOrder(t *testing.T) {
	limit := exchange.Limit{Side: exchange.Buy, ID: 1, Price: 10050, Qty: 5}
	tests := []struct {
		words string
		want  exchange.Command
	}{
		{orderExample, limit},
		{"ioc s 1 10050 5", exchange.IOC{Side: exchange.Sell, ID: 1, Price: 10050, Qty: 5}},
		{"fok BUY 1 10050 5", exchange.FOK(limit)},
		{"market sell 2 7", exchange.Market{Side: exchange.Sell, ID: 2, Qty: 7}},
		{"cancel 3", exchange.Cancel{ID: 3}},
		{"reduce 3 2", exchange.Reduce{ID: 3, Qty: 2}},
		{"replace 3 99 2", exchange.Replace{ID: 3, Price: 99, Qty: 2}},
	}
	for _, tt := range tests {
		w := strings.Fields(tt.words)
		version, data, err := encodeOrder(w[0], w[1:])
		if err != nil {
			t.Errorf("%s: %v", tt.words, err)
			continue
		}
		got, err := exchange.Parse(w[0], version, data)
		if err != nil || got != tt.want {
			t.Errorf("%s: got %+v, %v, want %+v", tt.words, got, err, tt.want)
		}
		// What is shown of it makes it again.
		shown := showOrder(w[0], version, data)
		_, again, err := encodeOrder(w[0], strings.Fields(shown))
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%s: shown as %q, which makes %x, %v, want %x", tt.words, shown, again, err, data)
		}
	}
	if got := showOrder("limit", 1, []byte{1}); got != "" {
		t.Errorf("damaged data is shown as %q, want nothing", got)
	}
	for _, bad := range []string{"buy 1", "limit B 1 2", "limit B 1 2 3 4", "limit X 1 2 3", "cancel -1", "replace 1 -5 2", "market B 1 x"} {
		w := strings.Fields(bad)
		if _, _, err := encodeOrder(w[0], w[1:]); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func TestDecodeReply(t *testing.T) {
	r := exchange.Reply{Rests: 2, Cancelled: 1, Fills: []exchange.Fill{{Maker: 7, Price: 99, Qty: 3}, {Maker: 8, Price: 100, Qty: 1}}}
	got := decodeReply("limit", exchange.AppendReply(nil, r))
	if want := "filled 3@99 with order 7, filled 1@100 with order 8, rests 2, cancelled 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := decodeReply("limit", []byte{1}), "0x01 ("; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q…", got, want)
	}
}
