package cli

import (
	"testing"

	"understudy.dev/accel"
	"understudy.dev/journal"
)

func TestPayloadWords(t *testing.T) {
	encode := func(c accel.Command) []byte { return c.AppendTo(nil) }
	content := accel.Content{Bytes: 4, Digest: [32]byte{0xab, 0xcd}}
	kept := content
	kept.Kept = []byte{1, 2, 3, 4}
	for _, tt := range []struct {
		kind journal.Kind
		name string
		data []byte
		want string
	}{
		{journal.KindDevice, "alloc", encode(accel.Command{Op: accel.OpAlloc, Buffer: 3, Bytes: 1 << 20}), "buffer 3, 1,048,576 bytes"},
		{journal.KindDevice, "free", encode(accel.Command{Op: accel.OpFree, Buffer: 3}), "buffer 3"},
		{journal.KindDevice, "seed", encode(accel.Command{Op: accel.OpSeed, Seed: 42}), "42"},
		{journal.KindDevice, "copy-in", encode(accel.Command{Op: accel.OpCopyIn, Buffer: 1, Offset: 8, Inputs: []accel.Content{kept}}), "buffer 1 at 8, 4 bytes abcd0000…"},
		{journal.KindDevice, "copy-out", encode(accel.Command{Op: accel.OpCopyOut, Buffer: 2, Outputs: []accel.Content{content}}), "buffer 2 at 0, 4 bytes abcd0000…"},
		{
			journal.KindDevice, "environment",
			encode(accel.Command{Op: accel.OpEnvironment, Env: accel.Environment{Device: "cpu", Driver: "go", Library: "accel", Kernels: map[string]string{"fill": "1a"}}}),
			`device "cpu", driver "go", library "accel", 1 kernel`,
		},
		{
			journal.KindKernel, "fill",
			encode(accel.Command{Op: accel.OpLaunch, Launch: accel.Launch{
				Kernel: "fill", Grid: [3]uint32{4, 1, 1}, Block: [3]uint32{128, 1, 1}, Args: []accel.Arg{accel.Out(2), accel.U64(7), accel.F32(0.5)},
			}, Outputs: []accel.Content{content}}),
			"(out 2, u64 7, f32 0.5) grid [4 1 1] block [128 1 1], wrote 0: 4 bytes abcd0000…",
		},
		{journal.KindDevice, "sync", []byte(`{"cmd":"sync","ts_ns":1,"line":2}`), `{"cmd":"sync","ts_ns":1,"line":2}`},
		{journal.KindSeed, "shuffle", []byte{42, 0, 0, 0, 0, 0, 0, 1}, "72057594037927978"},
		{journal.KindBatchSize, "loader", []byte{32, 0, 0, 0, 0, 0, 0, 0}, "32"},
		{
			journal.KindEpochStart, "", []byte(`{"node":"b","machine":"exchange","version":1,"seed":[1,2],"environment":{"go":"go1.26.8","os":"linux","arch":"amd64","level":"v1"},` +
				`"how":"promote","operation":"01a2","actor":"ana@ops1","reason":"a: disk errors","accepted":["lag","primary"],"client":"h:7072","admin":"http://h:7070"}`),
			`b leads by promote, asked by ana@ops1, reason "a: disk errors", accepted lag primary, operation 01a2, machine exchange version 1, clients h:7072, admin http://h:7070, go1.26.8 linux/amd64, v1`,
		},
		{journal.KindEpochStart, "", []byte("{"), ""},
		{journal.KindSeed, "shuffle", []byte{42}, ""},
		{journal.KindDevice, "alloc", []byte("anything"), ""},
		{journal.KindDevice, "free", encode(accel.Command{Op: accel.OpAlloc, Buffer: 3, Bytes: 4}), ""},
		{journal.KindCommand, "alloc", encode(accel.Command{Op: accel.OpAlloc, Buffer: 3, Bytes: 4}), ""},
	} {
		if got := payloadWords(tt.kind, tt.name, tt.data); got != tt.want {
			t.Errorf("payloadWords(%v, %q, %q) = %q, want %q", tt.kind, tt.name, tt.data, got, tt.want)
		}
	}
}
