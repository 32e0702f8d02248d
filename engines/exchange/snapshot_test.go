package exchange_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"understudy.dev/engines/exchange"
	"understudy.dev/engines/exchange/flow"
)

// busyExchange returns an exchange after n operations of generated flow.
func busyExchange(n int) *driven {
	e := newDriven()
	for _, op := range flow.Generate(5, n) {
		must(e.Apply(op.Typed()))
	}
	return e
}

// Restored plus the rest equals the whole.
func TestRestoreGoesOn(t *testing.T) {
	ops := flow.Generate(9, 3000)
	whole := newDriven()
	for i, op := range ops {
		must(whole.Apply(op.Typed()))
		if i%750 != 0 {
			continue
		}
		part := newDriven()
		if err := part.Restore(iotest.OneByteReader(bytes.NewReader(snapshot(t, whole)))); err != nil {
			t.Fatalf("restore after %d operations: %v", i+1, err)
		}
		end := play(part, ops[i+1:], func(int) bool { return false })
		want := play(newDriven(), ops, func(int) bool { return false })
		if !strings.HasSuffix(want.fills, strings.TrimPrefix(end.fills, flow.FillsHeader)) {
			t.Errorf("restored after %d operations, the fills of the rest differ", i+1)
		}
	}
}

// Equal books give equal bytes, however they came about.
func TestSnapshotIsCanonical(t *testing.T) {
	a, b := newDriven(), newDriven()
	for _, c := range []exchange.Command{
		exchange.Limit{Side: exchange.Buy, ID: 1, Price: 100, Qty: 5},
		exchange.Limit{Side: exchange.Buy, ID: 2, Price: 99, Qty: 5},
		exchange.Limit{Side: exchange.Sell, ID: 3, Price: 101, Qty: 5},
	} {
		must(a.Apply(c))
	}
	for _, c := range []exchange.Command{
		exchange.Limit{Side: exchange.Sell, ID: 3, Price: 101, Qty: 9},
		exchange.Limit{Side: exchange.Buy, ID: 9, Price: 100, Qty: 1},
		exchange.Limit{Side: exchange.Buy, ID: 2, Price: 99, Qty: 5},
		exchange.IOC{Side: exchange.Buy, ID: 8, Price: 101, Qty: 4},
		exchange.Limit{Side: exchange.Buy, ID: 1, Price: 98, Qty: 5},
		exchange.Cancel{ID: 9},
		exchange.Replace{ID: 1, Price: 100, Qty: 5},
	} {
		must(b.Apply(c))
	}
	if got, want := snapshot(t, b), snapshot(t, a); !bytes.Equal(got, want) {
		t.Errorf("snapshots differ:\n%x\n%x", got, want)
	}
	if a.Book().Digest() != b.Book().Digest() {
		t.Error("digests differ")
	}
}

// A damaged snapshot is refused, or it is another valid one; and the book is as it
// was after a refusal.
func TestRestoreDamaged(t *testing.T) {
	good := snapshot(t, busyExchange(300))
	e := busyExchange(40)
	before := e.Book().Digest()
	for i := range good {
		if err := e.Restore(bytes.NewReader(good[:i])); err == nil {
			t.Fatalf("restored from the first %d of %d bytes", i, len(good))
		}
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			bad := bytes.Clone(good)
			bad[i] ^= flip
			fresh := newDriven()
			if fresh.Restore(bytes.NewReader(bad)) != nil {
				continue
			}
			if again := snapshot(t, fresh); !bytes.Equal(again, bad) {
				t.Fatalf("byte %d xor %x: restored, and writes other bytes", i, flip)
			}
		}
	}
	if e.Book().Digest() != before {
		t.Error("a refused snapshot changed the book")
	}
}

func TestRestoreRefuses(t *testing.T) {
	tests := []struct {
		name, snapshot, want string
	}{
		{"nothing", "", "restore book at byte 0: read magic: EOF"},
		{"another file", "PK\x03\x04", `magic "PK\x03\x04", want "UXB\x01"`},
		{"a later format", "UXB\x02\x00\x00", `magic "UXB\x02", want "UXB\x01"`},
		{"one side only", "UXB\x01\x00", "at byte 5: sell side: bytes end too early"},
		{"left over", "UXB\x01\x00\x00\x00", "at byte 6: bytes left over"},
		{"an empty level", "UXB\x01\x01\x05\x00\x00", "buy side: level 5 has no order"},
		{"price 0", "UXB\x01\x01\x00\x01\x01\x01\x00", "a price is from 1"},
		{"quantity 0", "UXB\x01\x01\x05\x01\x01\x00\x00", "level 5: order 1: a quantity is from 1"},
		{"id 0", "UXB\x01\x01\x05\x01\x00\x01\x00", "level 5: order 0: an order's id is not 0"},
		{"an id twice", "UXB\x01\x01\x05\x02\x01\x01\x01\x01\x00", "level 5: order 1: an order with this id rests already"},
		{"levels the wrong way", "UXB\x01\x02\x05\x01\x01\x01\x06\x01\x02\x01\x00", "buy side: level 6 is not worse than the one before it"},
		{"crossed", "UXB\x01\x01\x05\x01\x01\x01\x01\x05\x01\x02\x01", "crossed: bid 5, ask 5"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := exchange.New().Restore(strings.NewReader(tt.snapshot))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v, want %s", err, tt.want)
			}
		})
	}
}

// What reading and writing say is passed on.
func TestSnapshotErrors(t *testing.T) {
	broken := errors.New("disk on fire")
	if err := busyExchange(100).Snapshot(brokenWriter{broken}); !errors.Is(err, broken) {
		t.Errorf("Snapshot: err = %v, want %v", err, broken)
	}
	r := io.MultiReader(strings.NewReader("UXB\x01\x01"), iotest.ErrReader(broken))
	if err := exchange.New().Restore(r); !errors.Is(err, broken) {
		t.Errorf("Restore: err = %v, want %v", err, broken)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }
