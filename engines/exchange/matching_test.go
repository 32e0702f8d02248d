package exchange_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"understudy.dev/engines/exchange"
	"understudy.dev/engines/exchange/reference"
)

// A message is one input of the matching benchmark; its place is its sequence number.
type message struct {
	Op    string // new, cancel, modify
	ID    uint64
	Side  string // buy, sell
	Qty   uint64
	Price int64
	IOC   bool
}

func (m message) side() exchange.Side {
	if m.Side == "sell" {
		return exchange.Sell
	}
	return exchange.Buy
}

func (m message) command() exchange.Command {
	switch {
	case m.Op == "cancel":
		return exchange.Cancel{ID: m.ID}
	case m.Op == "modify":
		return exchange.Replace{ID: m.ID, Price: m.Price, Qty: m.Qty}
	case m.IOC:
		return exchange.IOC{Side: m.side(), ID: m.ID, Price: m.Price, Qty: m.Qty}
	}
	return exchange.Limit{Side: m.side(), ID: m.ID, Price: m.Price, Qty: m.Qty}
}

// report plays the messages and returns the benchmark's lines: sorted by sequence
// number, then by type, otherwise in the order of events.
func report(t *testing.T, e engine, messages []message) []string {
	t.Helper()
	var lines []string
	orders := make(map[uint64]message) // as last placed; cancels name only the id
	for seq, m := range messages {
		reply, err := e.Apply(m.command())
		if err != nil && m.Op == "new" {
			t.Fatalf("message %d, %+v: %v", seq, m, err)
		}
		from := len(lines)
		switch {
		case m.Op == "new":
			orders[m.ID] = m
			lines = append(lines, fmt.Sprintf("0,%d,%d,%d,%d,%d", seq, m.side()-1, m.ID, m.Price, m.Qty))
		case m.Op == "cancel" && err != nil:
			lines = append(lines, fmt.Sprintf("4,%d,%d", seq, m.ID))
		case m.Op == "modify" && err != nil:
			lines = append(lines, fmt.Sprintf("5,%d,%d", seq, m.ID))
		case m.Op == "modify":
			orders[m.ID] = m
			lines = append(lines, fmt.Sprintf("3,%d,%d,%d,%d,%d", seq, m.side()-1, m.ID, m.Price, m.Qty))
		}
		for _, f := range reply.Fills {
			lines = append(lines, fmt.Sprintf("1,%d,%d,%d,%d,%d", seq, f.Price, f.Qty, f.Maker, m.ID))
		}
		if o := orders[m.ID]; reply.Cancelled > 0 {
			lines = append(lines, fmt.Sprintf("2,%d,%d,%d,%d", seq, o.side()-1, o.ID, o.Price))
		}
		slices.SortStableFunc(lines[from:], func(a, b string) int { return int(a[0]) - int(b[0]) })
	}
	return lines
}

// Five scenarios of the matching benchmark, byte for byte.
func TestMatchingScenarios(t *testing.T) {
	for _, scenario := range []string{"static", "normal", "flash-crash", "swing-25", "swing-40"} {
		t.Run(scenario, func(t *testing.T) {
			messages, want := matchingScenario(t, scenario)
			got := strings.Join(report(t, newDriven(), messages), "\n")
			if at, g, w := firstDifference(got, want); at > 0 {
				t.Errorf("line %d: got %q, want %q", at, g, w)
			}
		})
	}
}

func matchingScenario(t *testing.T, scenario string) (messages []message, want string) {
	orders, ok := dataFile(t, "matching/orders_"+scenario+"_s23_n20000.bin.zst")
	if !ok {
		messages = generatedMessages(scenario)
		return messages, strings.Join(report(t, new(reference.Book), messages), "\n")
	}
	reports, ok := dataFile(t, "matching/reports_"+scenario+"_s23_n20000.txt.zst")
	if !ok {
		t.Fatalf("%s without its reports", orders)
	}
	return parseMessages(t, readZstd(t, orders)), string(readZstd(t, reports))
}

// parseMessages reads a 16-byte header (magic, version, count) and records of 40
// bytes, little-endian: type, side, ioc, pad, u32 quantity, u64 sequence, u64 id,
// i64 price, u64 zero.
func parseMessages(t *testing.T, data []byte) []message {
	t.Helper()
	const header, record = 16, 40
	count := int(binary.LittleEndian.Uint32(data[12:]))
	if len(data) != header+count*record {
		t.Fatalf("%d bytes for %d messages", len(data), count)
	}
	messages := make([]message, count)
	for i := range messages {
		r := data[header+i*record:][:record]
		if seq := binary.LittleEndian.Uint64(r[8:]); seq != uint64(i) {
			t.Fatalf("message %d has sequence number %d", i, seq)
		}
		messages[i] = message{
			Op:    []string{"new", "cancel", "modify"}[r[0]],
			Side:  []string{"buy", "sell"}[r[1]],
			IOC:   r[2] == 1,
			Qty:   uint64(binary.LittleEndian.Uint32(r[4:])),
			ID:    binary.LittleEndian.Uint64(r[16:]),
			Price: int64(binary.LittleEndian.Uint64(r[24:])),
		}
	}
	return messages
}

// generatedMessages makes a scenario's kind of input: most orders near the middle,
// cancels and modifications of any id given out, of which many are gone.
func generatedMessages(scenario string) []message {
	rng := rand.New(rand.NewPCG(uint64(len(scenario)), uint64(scenario[0])))
	messages := make([]message, 8_000)
	ids := uint64(0)
	sides := make(map[uint64]string)
	for i := range messages {
		m := message{Op: "new", Side: "buy", Qty: 1 + rng.Uint64N(99), Price: 1000 + int64(rng.NormFloat64()*20)}
		if rng.IntN(2) == 0 {
			m.Side = "sell"
		}
		switch draw := rng.IntN(20); {
		case ids > 0 && draw < 8:
			m = message{Op: "cancel", ID: 1 + rng.Uint64N(ids)}
		case ids > 0 && draw < 10:
			m.Op, m.ID = "modify", 1+rng.Uint64N(ids)
			m.Side = sides[m.ID]
		default:
			ids++
			m.ID, m.IOC = ids, draw == 19
			sides[ids] = m.Side
		}
		messages[i] = m
	}
	return messages
}

// The matching benchmark's small cases, each named for what once went wrong.
func TestMatchingEdgeCases(t *testing.T) {
	path, ok := dataFile(t, "matching/edge_cases.json.zst")
	if !ok {
		compareGenerated(t, "edge")
		return
	}
	var cases []struct {
		Name     string
		Messages []message
		Reports  []string `json:"expected_reports"`
	}
	unmarshal(t, readZstd(t, path), &cases)
	if got, want := len(cases), 17; got != want {
		t.Fatalf("%d cases, want %d", got, want)
	}
	for _, tt := range cases {
		t.Run(tt.Name, func(t *testing.T) {
			got := strings.Join(report(t, newDriven(), tt.Messages), "\n")
			if at, g, w := firstDifference(got, strings.Join(tt.Reports, "\n")); at > 0 {
				t.Errorf("line %d: got %q, want %q", at, g, w)
			}
		})
	}
}

// QuantCup's acceptance tests.
func TestQuantCup(t *testing.T) {
	path, ok := dataFile(t, "matching/quantcup_14_tests.json")
	if !ok {
		compareGenerated(t, "quantcup")
		return
	}
	type order struct {
		Side   string
		Price  int64
		Qty    uint64
		Trader string
	}
	type fill struct {
		Price         int64
		Qty           uint64
		Buyer, Seller string
	}
	var cases []struct {
		N       int
		Orders  []order
		Cancels []uint64
		Then    []order
		Fills   []fill
	}
	unmarshal(t, readFile(t, path), &cases)
	if got, want := len(cases), 14; got != want {
		t.Fatalf("%d cases, want %d", got, want)
	}
	for _, tt := range cases {
		t.Run(fmt.Sprint(tt.N), func(t *testing.T) {
			e := newDriven()
			traders := []string{""} // by id, from 1
			got := []fill{}
			submit := func(o order) {
				traders = append(traders, o.Trader)
				m := message{Op: "new", Side: o.Side, ID: uint64(len(traders) - 1), Price: o.Price, Qty: o.Qty}
				for _, f := range must(e.Apply(m.command())).Fills {
					trade := fill{Price: f.Price, Qty: f.Qty, Buyer: o.Trader, Seller: traders[f.Maker]}
					if o.Side == "sell" {
						trade.Buyer, trade.Seller = trade.Seller, trade.Buyer
					}
					got = append(got, trade)
				}
			}
			for _, o := range tt.Orders {
				submit(o)
			}
			for _, id := range tt.Cancels {
				must(e.Apply(exchange.Cancel{ID: id}))
			}
			for _, o := range tt.Then {
				submit(o)
			}
			if !slices.Equal(got, tt.Fills) {
				t.Errorf("fills %+v, want %+v", got, tt.Fills)
			}
		})
	}
}

// Liquibook's core unit tests.
func TestLiquibookCore(t *testing.T) {
	path, ok := dataFile(t, "matching/core_cases.json")
	if !ok {
		compareGenerated(t, "liquibook")
		return
	}
	type fill struct {
		Taker, Maker uint64
		Price        int64
		Qty          uint64
	}
	var cases []struct {
		Name   string
		Events []struct {
			message
			Fills    []fill
			Rejected bool
		}
	}
	unmarshal(t, readFile(t, path), &cases)
	if got, want := len(cases), 23; got != want {
		t.Fatalf("%d cases, want %d", got, want)
	}
	for _, tt := range cases {
		t.Run(tt.Name, func(t *testing.T) {
			e := newDriven()
			for i, event := range tt.Events {
				reply, err := e.Apply(event.command())
				if (err != nil) != event.Rejected {
					t.Fatalf("event %d: err = %v, want rejected %t", i, err, event.Rejected)
				}
				got := []fill{}
				for _, f := range reply.Fills {
					got = append(got, fill{Taker: event.ID, Maker: f.Maker, Price: f.Price, Qty: f.Qty})
				}
				if !slices.Equal(got, event.Fills) {
					t.Errorf("event %d: fills %+v, want %+v", i, got, event.Fills)
				}
			}
		})
	}
}

// compareGenerated stands in for absent cases.
func compareGenerated(t *testing.T, name string) {
	t.Helper()
	messages := generatedMessages(name)
	got := strings.Join(report(t, newDriven(), messages), "\n")
	want := strings.Join(report(t, new(reference.Book), messages), "\n")
	if at, g, w := firstDifference(got, want); at > 0 {
		t.Errorf("line %d: got %q, want %q", at, g, w)
	}
}

// must returns the reply to a command that is not refused.
func must(r exchange.Reply, err error) exchange.Reply {
	if err != nil {
		panic(err)
	}
	return r
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func unmarshal(t *testing.T, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}
