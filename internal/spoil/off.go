//go:build !race

package spoil

// Bytes does nothing but under the race detector.
func Bytes([]byte) {}
