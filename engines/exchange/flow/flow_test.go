package flow_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"understudy.dev/engines/exchange"
	"understudy.dev/engines/exchange/flow"
)

func readAll(r *flow.Reader) ([]flow.Op, error) {
	var ops []flow.Op
	for {
		op, err := r.Next()
		if errors.Is(err, io.EOF) {
			return ops, nil
		}
		if err != nil {
			return ops, err
		}
		ops = append(ops, op)
	}
}

// What is written is read again, plain and compressed.
func TestFiles(t *testing.T) {
	want := flow.Generate(1, 2000)
	text := []byte(flow.Header + "\n")
	for _, op := range want {
		text = flow.AppendOp(text, op)
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		"ops.csv":     text,
		"dos.csv":     []byte(strings.ReplaceAll(string(text), "\n", "\r\n")),
		"ops.csv.zst": z.EncodeAll(text, nil),
		"no-newline":  text[:len(text)-1],
	}
	for name, data := range files {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := flow.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := readAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d operations, want the %d that were written", len(got), len(want))
			}
			if err := r.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

// A fault names the file, the line and what was expected there.
func TestReaderFaults(t *testing.T) {
	const head = flow.Header + "\n1,5,N,1,B,100,5\n"
	tests := []struct {
		name, text, want string
	}{
		{"empty", "", `read ops: empty, want the header "n,ts,op,id,side,price,qty"`},
		{"another file", "\x28\xb5\x2f\xfd\n", `read ops: line 1: header "(\xb5/\xfd": want "n,ts,op,id,side,price,qty"`},
		{"side", head + "2,6,N,2,Q,100,5\n", `read ops: line 3: side "Q": want B or S`},
		{"op", head + "2,6,M,2,B,100,5\n", `read ops: line 3: op "M": want N, I, X or R`},
		{"price", head + "2,6,N,2,B,1.5,5\n", `read ops: line 3: price "1.5": want a whole number from 1 to 9223372036854775807`},
		{"price 0", head + "2,6,N,2,B,0,5\n", `read ops: line 3: price "0": want a whole number from 1 to 9223372036854775807`},
		{"quantity", head + "2,6,I,2,B,1,-5\n", `read ops: line 3: qty "-5": want a whole number from 1 to 9223372036854775807`},
		{"quantity of a reduction", head + "2,6,R,1,B,1,0\n", `read ops: line 3: qty "0": want a whole number from 1 to 9223372036854775807`},
		{"id", head + "2,6,X,,B,1,5\n", `read ops: line 3: id "": want a whole number from 1 to 18446744073709551615`},
		{"order", head + "1,6,X,1,B,1,5\n", `read ops: line 3: n 1: want more than the 1 of the operation before`},
		{"cut off", head + "2,6,X,1", `read ops: line 3: 4 fields in "2,6,X,1": want 7, n,ts,op,id,side,price,qty`},
		{"too many", head + "2,6,X,1,B,1,5,\n", `read ops: line 3: 8 fields in "2,6,X,1,B,1,5,": want 7, n,ts,op,id,side,price,qty`},
		{"blank line", head + "\n", `read ops: line 3: 1 fields in "": want 7, n,ts,op,id,side,price,qty`},
		{"endless line", head + strings.Repeat("9", 5000), `read ops: line 3: longer than 1024 bytes: want "n,ts,op,id,side,price,qty"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := flow.NewReader("ops", strings.NewReader(tt.text))
			if err == nil {
				_, err = readAll(r)
			}
			if err == nil || err.Error() != tt.want {
				t.Errorf("err = %v\nwant  %s", err, tt.want)
			}
		})
	}
}

func TestOpenFaults(t *testing.T) {
	dir := t.TempDir()
	if _, err := flow.Open(filepath.Join(dir, "none.csv")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: err = %v, want one matching os.ErrNotExist", err)
	}
	path := filepath.Join(dir, "plain.csv.zst")
	if err := os.WriteFile(path, []byte(flow.Header+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := flow.Open(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("plain text named .zst: err = %v, want one that names the file", err)
	}
}

// The same seed gives the same operations, another one others.
func TestGenerate(t *testing.T) {
	a, b := flow.Generate(7, 5000), flow.Generate(7, 5000)
	if !slices.Equal(a, b) {
		t.Error("the same seed gave two flows")
	}
	if !slices.Equal(a[:100], flow.Generate(7, 100)) {
		t.Error("a shorter flow is not the beginning of a longer one")
	}
	if slices.Equal(a, flow.Generate(8, 5000)) {
		t.Error("two seeds gave one flow")
	}
	kinds := make(map[flow.Kind]int)
	for i, op := range a {
		kinds[op.Kind]++
		if op.N != uint64(i+1) || op.ID == 0 || op.Price < 1 || op.Qty < 1 {
			t.Fatalf("operation %d is %+v", i+1, op)
		}
	}
	for kind, least := range map[flow.Kind]int{flow.Limit: 2000, flow.Cancel: 1000, flow.Reduce: 100, flow.IOC: 50} {
		if kinds[kind] < least {
			t.Errorf("%d operations of kind %c, want %d or more", kinds[kind], kind, least)
		}
	}
}

func TestAppendFills(t *testing.T) {
	got := flow.AppendFills([]byte(flow.FillsHeader+"\n"), 12, []exchange.Fill{{Maker: 3, Price: 100, Qty: 5}, {Maker: 4, Price: 101, Qty: 1}})
	const want = "n,maker_id,price,qty\n12,3,100,5\n12,4,101,1\n"
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Any bytes are operations or a fault; accepted lines are written as they were read.
func FuzzReader(f *testing.F) {
	f.Add("1,5,N,1,B,100,5\n2,6,X,1,B,100,5\n")
	f.Add("1,5,R,1,S,0,5\r\n")
	f.Add("1,5,N,01,B,+1,5\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := flow.NewReader("ops", strings.NewReader(flow.Header+"\n"+text))
		if err != nil {
			t.Fatal(err)
		}
		ops, err := readAll(r)
		if err != nil {
			return
		}
		written := []byte(flow.Header + "\n")
		for _, op := range ops {
			written = flow.AppendOp(written, op)
		}
		r, err = flow.NewReader("ops", strings.NewReader(string(written)))
		if err != nil {
			t.Fatal(err)
		}
		again, err := readAll(r)
		if err != nil || !slices.Equal(again, ops) {
			t.Fatalf("%q is written as %q, which reads as %+v, %v", text, written, again, err)
		}
	})
}
