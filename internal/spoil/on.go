//go:build race

package spoil

// Bytes overwrites memory that its user has given back, so that a test under the
// race detector fails if it is still read.
func Bytes(b []byte) {
	for i := range b {
		b[i] = 0xdb
	}
}
