package journal

import "fmt"

// CheckEntry tells whether data is an entry: a batch or a fence, whole and of a
// version that this program reads. What a batch's records are, and whether the entry
// follows another, it does not look at. Its error matches ErrNoEntry and one of the
// Err values that a CorruptError holds.
func CheckEntry(data []byte) error {
	var err error
	if IsFence(data) {
		_, err = DecodeFence(data)
	} else {
		var d Decoder
		err = d.Batch(data, new(Batch))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoEntry, err)
	}
	return nil
}
