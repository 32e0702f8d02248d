package cpu

import (
	"math"
	"testing"
)

// The known answers of Random123 (kat_vectors, philox4x32 10): counter, key, result.
func TestPhiloxKnownAnswers(t *testing.T) {
	const all = 0xffffffff
	tests := []struct {
		counter [4]uint32
		key     [2]uint32
		want    [4]uint32
	}{
		{want: [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{
			counter: [4]uint32{all, all, all, all}, key: [2]uint32{all, all},
			want: [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
		},
		{
			counter: [4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, key: [2]uint32{0xa4093822, 0x299f31d0},
			want: [4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
		},
	}
	for _, tt := range tests {
		if got := philox(tt.counter, tt.key); got != tt.want {
			t.Errorf("philox(%08x, %08x) = %08x, want %08x", tt.counter, tt.key, got, tt.want)
		}
	}
}

func TestPolynomialsAgreeWithMath(t *testing.T) {
	near := func(what string, x, got, want, tolerance float64) {
		t.Helper()
		if math.Abs(got-want) > tolerance*math.Max(1e-300, math.Abs(want)) {
			t.Errorf("%s(%v) = %v, want %v", what, x, got, want)
		}
	}
	for i := range 4001 {
		x := float32(i-2000) * 0.0433
		near("exp", float64(x), float64(exp(x)), math.Exp(float64(x)), 0x1p-24)
	}
	for i := 1; i < 1<<24; i += 4099 {
		u := float64(i) / (1 << 24)
		near("ln", u, ln(u), math.Log(u), 1e-11)
	}
	for i := range 1 << 12 {
		w := uint32(i)<<20 + uint32(i)*77
		sin, cos := sincos(w)
		turn := float64(w) * (2 * math.Pi / (1 << 32))
		if math.Abs(sin-math.Sin(turn)) > 1e-12 || math.Abs(cos-math.Cos(turn)) > 1e-12 {
			t.Errorf("sincos(%#x) = %v, %v, want %v, %v", w, sin, cos, math.Sin(turn), math.Cos(turn))
		}
	}
}

func TestExpAtTheEdges(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, tt := range []struct{ x, want float32 }{{-inf, 0}, {-87.5, 0}, {0, 1}, {88.5, inf}, {inf, inf}} {
		if got := exp(tt.x); got != tt.want {
			t.Errorf("exp(%v) = %v, want %v", tt.x, got, tt.want)
		}
	}
	if got := exp(float32(math.NaN())); got == got {
		t.Errorf("exp(NaN) = %v, want NaN", got)
	}
}
