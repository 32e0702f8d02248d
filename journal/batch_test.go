package journal_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"understudy.dev/journal"
)

// sealed builds a batch of the given records.
func sealed(tb testing.TB, records ...journal.Record) []byte {
	tb.Helper()
	b := journal.NewBuilder("a/1", 1<<20, 0)
	for i := range records {
		if err := b.Add(&records[i]); err != nil {
			tb.Fatal(err)
		}
	}
	return bytes.Clone(b.Seal(7, 3, journal.Digest{Seq: 6, Hash: journal.Hash{1}}, journal.Hash{2}))
}

func genRecord(t *rapid.T) journal.Record {
	request := rapid.Uint64().Draw(t, "request")
	return journal.Record{
		Time:    journal.Time(rapid.Int64Range(1, 1<<62).Draw(t, "time")),
		Kind:    journal.Kind(rapid.Byte().Draw(t, "kind")),
		Name:    rapid.SampledFrom([]string{"", "add", "order.place", strings.Repeat("n", journal.MaxName)}).Draw(t, "name"),
		Version: rapid.Uint32().Draw(t, "version"),
		Client:  rapid.Uint64().Draw(t, "client"),
		Request: request,
		Low:     rapid.Uint64Range(0, request).Draw(t, "low"),
		Data:    rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data"),
	}
}

// What goes into a batch comes out of it, and encodes to the same bytes again.
func TestBatchRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(genRecord), 0, 40).Draw(t, "records")
		b := journal.NewBuilder("node/uuid", 1<<20, 0)
		for i := range want {
			if err := b.Add(&want[i]); err != nil {
				t.Fatal(err)
			}
		}
		digest := journal.Digest{Seq: 6, Hash: journal.Hash{9}}
		raw := bytes.Clone(b.Seal(7, 3, digest, journal.Hash{8}))

		var d journal.Decoder
		var got journal.Batch
		if err := d.Batch(raw, &got); err != nil {
			t.Fatal(err)
		}
		if got.First != 7 || got.Epoch != 3 || got.Owner != "node/uuid" || got.Digest != digest || got.Prev != (journal.Hash{8}) || got.Count != len(want) {
			t.Fatalf("header = %+v", got)
		}
		records, err := got.Records(nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			want[i].Seq, want[i].Epoch = 7+journal.Seq(i), 3
			if len(want[i].Data) == 0 {
				want[i].Data, records[i].Data = nil, nil
			}
			if i > 0 && want[i].Time <= want[i-1].Time {
				t.Fatalf("time %d after %d", want[i].Time, want[i-1].Time)
			}
			if !reflect.DeepEqual(records[i], want[i]) {
				t.Fatalf("record %d = %+v, want %+v", i, records[i], want[i])
			}
		}
		if again := reencode(t, &got, records); !bytes.Equal(again, raw) {
			t.Fatalf("encodes to other bytes again")
		}
	})
}

type fataler interface{ Fatal(args ...any) }

// reencode encodes a decoded batch.
func reencode(t fataler, b *journal.Batch, records []journal.Record) []byte {
	nb := journal.NewBuilder(b.Owner, 1<<30, 0)
	for i := range records {
		r := records[i]
		if err := nb.Add(&r); err != nil {
			t.Fatal(err)
		}
	}
	return nb.Seal(b.First, b.Epoch, b.Digest, b.Prev)
}

// Every single flipped bit of a batch and of a fence is found.
func TestEachBitIsChecked(t *testing.T) {
	var d journal.Decoder
	var b journal.Batch
	for name, raw := range map[string][]byte{
		"batch": sealed(t, journal.Record{Kind: 1, Name: "add", Data: []byte("hello")}, journal.Record{Kind: 1, Name: "add"}),
		"fence": journal.AppendFence(nil, 4, "node/uuid"),
	} {
		for i := range raw {
			for bit := range 8 {
				bad := bytes.Clone(raw)
				bad[i] ^= 1 << bit
				err := d.Batch(bad, &b)
				if name == "fence" {
					_, err = journal.DecodeFence(bad)
				}
				if err == nil {
					t.Fatalf("%s: bit %d of byte %d flipped and not found", name, bit, i)
				}
			}
		}
	}
}

// Every truncation and every addition is found and named.
func TestWrongLength(t *testing.T) {
	raw := sealed(t, journal.Record{Kind: 1, Name: "add", Data: []byte("hello")})
	var d journal.Decoder
	var b journal.Batch
	for n := range raw {
		if err := d.Batch(raw[:n], &b); !errors.Is(err, journal.ErrShort) && !errors.Is(err, journal.ErrForeign) {
			t.Fatalf("%d bytes of %d: err = %v, want ErrShort", n, len(raw), err)
		}
	}
	if err := d.Batch(append(bytes.Clone(raw), 0), &b); !errors.Is(err, journal.ErrMalformed) {
		t.Errorf("a byte too many: err = %v, want ErrMalformed", err)
	}
}

func TestBuilderLimits(t *testing.T) {
	b := journal.NewBuilder("a", 1000, 0)
	big := make([]byte, b.MaxData("add"))
	tests := []struct {
		name string
		rec  journal.Record
		want error
	}{
		{"largest", journal.Record{Kind: 1, Name: "add", Data: big, Version: 1<<32 - 1, Client: 1<<64 - 1, Request: 1<<64 - 1, Time: 1 << 62}, nil},
		{"too large", journal.Record{Kind: 1, Name: "add", Data: append(big, 0)}, journal.ErrTooLarge},
		{"name too long", journal.Record{Kind: 1, Name: strings.Repeat("n", journal.MaxName+1)}, journal.ErrTooLarge},
		{"low above request", journal.Record{Kind: 1, Name: "add", Request: 1, Low: 2}, journal.ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b.Reset()
			err := b.Add(&tt.rec)
			if !errors.Is(err, tt.want) {
				t.Fatalf("Add = %v, want %v", err, tt.want)
			}
			if err != nil && b.Count() != 0 {
				t.Errorf("a refused record was added")
			}
			if n := len(b.Seal(1, 1, journal.Digest{}, journal.Hash{})); n > 1000 {
				t.Errorf("batch of %d bytes, at most 1000", n)
			}
		})
	}
}

// A stale clock does not turn time back.
func TestTimeIncreases(t *testing.T) {
	b := journal.NewBuilder("a", 1<<20, 500)
	for i, at := range []journal.Time{400, 400, 900, 100} {
		r := journal.Record{Kind: 1, Time: at}
		if err := b.Add(&r); err != nil {
			t.Fatal(err)
		}
		if want := []journal.Time{501, 502, 900, 901}[i]; r.Time != want {
			t.Errorf("record %d at %d: time %d, want %d", i, at, r.Time, want)
		}
	}
}

// Decoding and encoding batches of known names allocates nothing per record.
func TestNoAllocationPerRecord(t *testing.T) {
	b := journal.NewBuilder("a", 1<<20, 0)
	rec := journal.Record{Kind: 1, Name: "add", Client: 5, Request: 9, Low: 3, Data: make([]byte, 128)}
	var d journal.Decoder
	var got journal.Batch
	var records []journal.Record
	round := func() {
		b.Reset()
		for range 1000 {
			r := rec
			if err := b.Add(&r); err != nil {
				t.Fatal(err)
			}
		}
		raw := b.Seal(1, 1, journal.Digest{}, journal.Hash{})
		if err := d.Batch(raw, &got); err != nil {
			t.Fatal(err)
		}
		var err error
		if records, err = got.Records(records[:0]); err != nil {
			t.Fatal(err)
		}
	}
	round()
	if n := testing.AllocsPerRun(10, round); n != 0 {
		t.Errorf("%v allocations for 1000 records, want 0", n)
	}
}

// The decoder never panics, and what it accepts encodes to the same bytes.
func FuzzBatch(f *testing.F) {
	f.Add(sealed(f))
	f.Add(sealed(f, journal.Record{Kind: 1, Name: "add", Data: []byte("hello")}, journal.Record{Kind: 2, Name: "b", Client: 1, Request: 2, Low: 1}))
	f.Add(journal.AppendFence(nil, 4, "node/uuid"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if fence, err := journal.DecodeFence(raw); err == nil {
			if again := journal.AppendFence(nil, fence.Epoch, fence.Owner); !bytes.Equal(again, raw) {
				t.Fatalf("fence encodes to other bytes again")
			}
		}
		var d journal.Decoder
		var b journal.Batch
		raw = bytes.Clone(raw) // the engine's must not change
		reseal(raw)
		if d.Batch(raw, &b) != nil {
			return
		}
		records, err := b.Records(nil)
		if err != nil {
			return
		}
		if again := reencode(t, &b, records); !bytes.Equal(again, raw) {
			t.Fatalf("encodes to other bytes again:\n%x\n%x", raw, again)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	bld := journal.NewBuilder("a", 1<<20, 0)
	rec := journal.Record{Kind: 1, Name: "order.place", Client: 5, Request: 9, Low: 3, Data: make([]byte, 128)}
	n := 0
	for b.Loop() {
		if !bld.Fits(rec.Name, rec.Data) {
			bld.Reset()
		}
		r := rec
		if err := bld.Add(&r); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.SetBytes(128)
}

func BenchmarkDecode(b *testing.B) {
	bld := journal.NewBuilder("a", 1<<20, 0)
	for range 1000 {
		r := journal.Record{Kind: 1, Name: "order.place", Client: 5, Request: 9, Low: 3, Data: make([]byte, 128)}
		if err := bld.Add(&r); err != nil {
			b.Fatal(err)
		}
	}
	raw := bld.Seal(1, 1, journal.Digest{}, journal.Hash{})
	var d journal.Decoder
	var got journal.Batch
	var records []journal.Record
	var err error
	for b.Loop() {
		if err = d.Batch(raw, &got); err != nil {
			b.Fatal(err)
		}
		if records, err = got.Records(records[:0]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/record")
}
