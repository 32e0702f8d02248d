package cpu

import "math"

// The conversions below look redundant and are the point: a product that is
// converted is rounded, so no compiler may fuse it with the sum around it.

func mul(x, y float32) float32 { return float32(x * y) }
func add(x, y float32) float32 { return float32(x + y) }

func mul64(x, y float64) float64 { return float64(x * y) }
func add64(x, y float64) float64 { return float64(x + y) }

// horner evaluates a polynomial whose highest coefficient comes first.
func horner(x float64, coefficients ...float64) float64 {
	sum := coefficients[0]
	for _, c := range coefficients[1:] {
		sum = add64(mul64(sum, x), c)
	}
	return sum
}

// Polynomials 1: what the rules of the kernels call exp, ln, sin and cos. They are
// truncated series in float64, short enough to be the same text on every device
// and exact to well below half a unit of float32.

const (
	log2e = 1.4426950408889634
	ln2   = 0.6931471805599453
)

// expCoefficients are 1/13!, 1/12!, ..., 1: for |x| <= ln2/2 the rest is below 2^-56.
func expPolynomial(x float64) float64 {
	return horner(x, 1.0/6227020800, 1.0/479001600, 1.0/39916800, 1.0/3628800, 1.0/362880, 1.0/40320,
		1.0/5040, 1.0/720, 1.0/120, 1.0/24, 1.0/6, 1.0/2, 1, 1)
}

// exp is e^x. Below -87 it is +0 and above 88 +Inf, so that every result between
// is a normal float32; a NaN stays the NaN 0x7fc00000.
func exp(x float32) float32 {
	switch {
	case x != x:
		return math.Float32frombits(0x7fc00000)
	case x < -87:
		return 0
	case x > 88:
		return float32(math.Inf(1))
	}
	v := float64(x)
	half := math.Copysign(0.5, v)
	k := int32(add64(mul64(v, log2e), half)) // nearest, by truncation
	r := add64(v, -mul64(float64(k), ln2))
	scale := math.Float64frombits(uint64(1023+k) << 52)
	return float32(mul64(expPolynomial(r), scale))
}

// ln is the natural logarithm of a positive, normal number: with x = m * 2^k and m
// in [sqrt(1/2), sqrt(2)), ln x = k ln 2 + 2 atanh((m-1)/(m+1)).
func ln(x float64) float64 {
	const sqrt2 = 0x3ff6a09e667f3bcd // bits of sqrt(2)
	b := math.Float64bits(x)
	k := int32(b>>52) - 1023
	b = b&(1<<52-1) | 1023<<52
	if b >= sqrt2 {
		b -= 1 << 52
		k++
	}
	m := math.Float64frombits(b)
	s := float64(add64(m, -1) / add64(m, 1))
	p := horner(mul64(s, s), 2.0/21, 2.0/19, 2.0/17, 2.0/15, 2.0/13, 2.0/11, 2.0/9, 2.0/7, 2.0/5, 2.0/3, 2)
	return add64(mul64(float64(k), ln2), mul64(s, p))
}

// sincos returns sine and cosine of w * 2^-32 turns. The quarter is split off in
// integers, so the rest, at most an eighth of a turn, is exact.
func sincos(w uint32) (sin, cos float64) {
	quarter := (w + 1<<29) >> 30
	x := mul64(float64(int32(w-quarter<<30)), 2*math.Pi/(1<<32))
	z := mul64(x, x)
	sin = mul64(x, horner(z, 1.0/6227020800, -1.0/39916800, 1.0/362880, -1.0/5040, 1.0/120, -1.0/6, 1))
	cos = horner(z, -1.0/87178291200, 1.0/479001600, -1.0/3628800, 1.0/40320, -1.0/720, 1.0/24, -1.0/2, 1)
	switch quarter & 3 {
	case 1:
		return cos, -sin
	case 2:
		return -sin, -cos
	case 3:
		return -cos, sin
	}
	return sin, cos
}
