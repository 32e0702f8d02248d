package cpu

import "math/bits"

// philox returns block number counter of Philox4x32-10: ten rounds of two 32-bit
// multiplications (Salmon and others, Parallel random numbers: as easy as 1, 2, 3,
// SC 2011). It is a pure function, so any element of a sequence can be computed
// alone.
func philox(counter [4]uint32, key [2]uint32) [4]uint32 {
	const (
		m0, m1 = 0xD2511F53, 0xCD9E8D57
		w0, w1 = 0x9E3779B9, 0xBB67AE85
	)
	c, k := counter, key
	for range 10 {
		hi0, lo0 := bits.Mul32(m0, c[0])
		hi1, lo1 := bits.Mul32(m1, c[2])
		c = [4]uint32{hi1 ^ c[1] ^ k[0], lo1, hi0 ^ c[3] ^ k[1], lo0}
		k = [2]uint32{k[0] + w0, k[1] + w1}
	}
	return c
}

// block returns words 4*i to 4*i+3 of a stream.
func block(seed, stream uint64, i uint32) [4]uint32 {
	counter := [4]uint32{i, 0, uint32(stream), uint32(stream >> 32)}
	return philox(counter, [2]uint32{uint32(seed), uint32(seed >> 32)})
}

// uniform returns a multiple of 2^-24 in [0, 1); the conversion is exact.
func uniform(w uint32) float32 { return float32(w>>8) * (1.0 / (1 << 24)) }
