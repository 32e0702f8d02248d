package exchange_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"understudy.dev/engines/exchange"
	"understudy.dev/machine"
)

// An engine is the exchange or the reference book.
type engine interface {
	Apply(c exchange.Command) (exchange.Reply, error)
	Depth(s exchange.Side, n int) []exchange.Level
}

// A driven exchange gets every command in its encoded form, and gives every reply
// through its encoded form.
type driven struct {
	*exchange.Exchange
	data []byte
}

func newDriven() *driven { return &driven{Exchange: exchange.New()} }

func (d *driven) Apply(c exchange.Command) (exchange.Reply, error) {
	d.data = c.Append(d.data[:0])
	data, err := d.Exchange.Apply(new(machine.Context), machine.Command{
		Name:    c.Name(),
		Version: exchange.CommandVersion,
		Data:    d.data,
	})
	if err != nil {
		return exchange.Reply{}, err
	}
	reply, err := exchange.ParseReply(data)
	if err != nil {
		panic(fmt.Sprintf("reply to %+v: %v", c, err))
	}
	return reply, nil
}

func (d *driven) Depth(s exchange.Side, n int) []exchange.Level { return d.Book().Depth(s, n) }

// dataFile returns the path of a foreign test input. Where it is absent it says so,
// and the caller tests with generated input instead.
func dataFile(t testing.TB, name string) (string, bool) {
	t.Helper()
	dir := os.Getenv("UNDERSTUDY_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	path := filepath.Join(dir, filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		t.Logf("no %s: testing with generated input against the reference book", path)
		return "", false
	}
	return path, true
}

// sameReply compares what two engines answered.
func sameReply(got, want exchange.Reply) bool {
	return got.Rests == want.Rests && got.Cancelled == want.Cancelled && slices.Equal(got.Fills, want.Fills)
}
