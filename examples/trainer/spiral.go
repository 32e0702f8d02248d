package main

import (
	"encoding/binary"
	"math"
)

// spirals returns n points of two interleaved spirals, as x and y, and the spiral
// that each is on. Points are made by turning and stretching one after another; the
// conversions keep a compiler from fusing, so the bits are the same on each build.
func spirals(n int) (points, labels []byte) {
	const (
		cos, sin = 0.9980267284282716, 0.06279051952931337 // of a hundredth of a turn
		stretch  = 1.0 / 80
	)
	x, y := 1.0, 0.0
	for i := range n {
		r, arm := stretch*float64(1+i/2), 1.0
		if i%2 == 1 {
			arm = -1
		}
		points = appendFloat(points, float32(arm*float64(r*x)))
		points = appendFloat(points, float32(arm*float64(r*y)))
		labels = binary.LittleEndian.AppendUint32(labels, uint32(i%2))
		if i%2 == 1 {
			x, y = float64(x*cos)-float64(y*sin), float64(x*sin)+float64(y*cos)
		}
	}
	return points, labels
}

func appendFloat(b []byte, v float32) []byte {
	return binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
}
