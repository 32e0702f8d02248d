package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
)

// A batch as stored, little endian.
//
//	  0   4  magic "UDB1"
//	  4   4  CRC32C of the bytes from 8 to the end
//	  8   4  size of the whole in bytes
//	 12   1  format version, 1
//	 13   1  hash algorithm of chain and digest: 1 = SHA-256
//	 14   1  compression of the records: 0 = none
//	 15   1  length of the owner
//	 16   8  Seq of the first record; of the next one to come if the batch is empty
//	 24   4  number of records
//	 28   4  zero
//	 32   8  epoch
//	 40   8  time of the first record, ns since 1970 UTC; 0 if empty
//	 48   8  time of the last record; 0 if empty
//	 56   8  Seq that the outcome digest belongs to, the last of an earlier batch; 0 = none stated
//	 64  32  outcome digest
//	 96  32  chain hash of everything before this entry
//	128   n  owner
//	128+n    records
//
// A record; all numbers are unsigned LEB128 varints:
//
//	kind         one byte
//	name         index into the names of this batch in order of first use; an
//	             index one past the last is followed by a new name: length, bytes
//	version
//	time         ns since the record before it; of the first record 0
//	client
//	request
//	request-low
//	data         length, bytes
const (
	batchMagic    = "UDB1"
	batchHeader   = 128
	formatVersion = 1
	hashSHA256    = 1
	compressNone  = 0

	// maxRecordOverhead bounds what a record takes beside its name and data.
	minRecord         = 8
	maxRecordOverhead = 1 + 2*3 + 5 + 4*10 + 5
)

// A Digest is an outcome digest and the Seq whose outcome was the last to go
// into it. The zero Digest states nothing.
type Digest struct {
	Seq  Seq
	Hash Hash
}

// A Batch is a decoded batch. It refers to the bytes it was decoded from, and so
// does the Data of its records.
type Batch struct {
	First  Seq    // Seq of the first record; of the next one to come if Count is 0
	Count  int    // number of records; 0 for a barrier
	Epoch  Epoch  // the tenure that wrote it
	Owner  string // who wrote it
	Time   Time   // of the first record; 0 if there is none
	End    Time   // of the last record; 0 if there is none
	Digest Digest // of an earlier batch end
	Prev   Hash   // the chain before this entry, as the writer saw it
	Raw    []byte // the whole encoding

	body  []byte
	names *names
}

// Last returns the Seq of the last record; First-1 for an empty batch.
func (b *Batch) Last() Seq { return b.First + Seq(b.Count) - 1 }

// Own gives b memory of its own, so that it and its records may be kept.
func (b *Batch) Own() {
	b.Raw = bytes.Clone(b.Raw)
	b.body = b.Raw[len(b.Raw)-len(b.body):]
}

// IsBatch reports whether data starts as a batch does.
func IsBatch(data []byte) bool { return len(data) >= 4 && string(data[:4]) == batchMagic }

// names keeps one string for each distinct name that a decoder has met, so that
// records of known types are decoded without allocating.
type names struct {
	known map[string]string
	table []string // of the batch being decoded, by index
}

// maxKnownNames bounds a decoder's memory when names are all different.
const maxKnownNames = 4096

func (n *names) of(b []byte) string {
	if s, ok := n.known[string(b)]; ok {
		return s
	}
	if n.known == nil || len(n.known) >= maxKnownNames {
		n.known = make(map[string]string)
	}
	s := string(b)
	n.known[s] = s
	return s
}

// A Decoder decodes batches and remembers names between them. The zero Decoder
// is ready. It is for one goroutine.
type Decoder struct {
	names names
}

// Batch decodes the header of data into b after checking size and checksum. The
// records are decoded by Records, with the same Decoder's memory of names. The
// error is one of the Err values that a CorruptError holds.
func (d *Decoder) Batch(data []byte, b *Batch) error {
	if !IsBatch(data) {
		return ErrForeign
	}
	if err := checkFrame(data, batchHeader); err != nil {
		return err
	}
	return d.header(data, b)
}

// header decodes a frame that was checked.
func (d *Decoder) header(data []byte, b *Batch) error {
	le := binary.LittleEndian
	ownerLen := int(data[15])
	switch {
	case data[13] != hashSHA256:
		return fmt.Errorf("hash %d: %w", data[13], ErrAlgorithm)
	case data[14] != compressNone:
		return fmt.Errorf("compression %d: %w", data[14], ErrAlgorithm)
	case le.Uint32(data[28:]) != 0:
		return fmt.Errorf("%w: reserved bytes are not zero", ErrMalformed)
	case len(data) < batchHeader+ownerLen || ownerLen == 0:
		return fmt.Errorf("%w: owner of %d bytes", ErrMalformed, ownerLen)
	}
	*b = Batch{
		First: Seq(le.Uint64(data[16:])), Count: int(le.Uint32(data[24:])),
		Epoch: Epoch(le.Uint64(data[32:])), Time: Time(le.Uint64(data[40:])), End: Time(le.Uint64(data[48:])),
		Digest: Digest{Seq: Seq(le.Uint64(data[56:])), Hash: Hash(data[64:96])},
		Prev:   Hash(data[96:128]),
		Raw:    data, Owner: d.names.of(data[batchHeader : batchHeader+ownerLen]),
		body: data[batchHeader+ownerLen:], names: &d.names,
	}
	if b.First == 0 || b.Epoch == 0 {
		return fmt.Errorf("%w: seq %d, epoch %d", ErrMalformed, b.First, b.Epoch)
	}
	if b.Count > len(b.body)/minRecord || b.Count == 0 && len(b.body) > 0 {
		return fmt.Errorf("%w: %d records in %d bytes", ErrMalformed, b.Count, len(b.body))
	}
	if b.Time > b.End || b.Time < 0 || b.Count == 0 && b.End != 0 || b.Count > 0 && b.Time == 0 {
		return fmt.Errorf("%w: %d records from time %d to %d", ErrMalformed, b.Count, b.Time, b.End)
	}
	return nil
}

// Records appends the records of b to dst and returns it. Their Data refers to
// the batch's bytes. It is for one goroutine at a time per Decoder. The error is
// one of the Err values that a CorruptError holds; dst is then unchanged.
func (b *Batch) Records(dst []Record) ([]Record, error) {
	keep := len(dst)
	dst = slices.Grow(dst, b.Count)[:keep+b.Count]
	table := b.names.table[:0]
	t, body, at := b.Time, b.body, 0
	for i := range b.Count {
		// A value that is cut short or malformed moves at beyond the end, where it
		// stays; so one look at the end of a record is enough.
		var kind Kind
		if at < len(body) {
			kind = Kind(body[at])
		}
		var index, version, delta, client, request, low, size uint64
		index, at = uvarint(body, at+1)
		var name string
		switch {
		case index < uint64(len(table)):
			name = table[index]
		case index > uint64(len(table)):
			at = len(body) + 1
		default:
			if size, at = uvarint(body, at); size > MaxName || at > len(body) || size > uint64(len(body)-at) {
				at = len(body) + 1
				break
			}
			name = b.names.of(body[at : at+int(size)])
			table = append(table, name)
			at += int(size)
		}
		version, at = uvarint(body, at)
		delta, at = uvarint(body, at)
		client, at = uvarint(body, at)
		request, at = uvarint(body, at)
		low, at = uvarint(body, at)
		size, at = uvarint(body, at)
		// The first record has no delta and every other one has; the sum, checked
		// below the end at each step, cannot overflow.
		if at > len(body) || size > uint64(len(body)-at) ||
			version > 1<<32-1 || low > request || (delta == 0) != (i == 0) || delta > uint64(b.End-t) {
			b.names.table = table
			return dst[:keep], fmt.Errorf("record %d of %d: %w", i+1, b.Count, ErrMalformed)
		}
		t += Time(delta)
		end := at + int(size)
		r := &dst[keep+i]
		r.Seq, r.Epoch, r.Time, r.Kind, r.Name, r.Version = b.First+Seq(i), b.Epoch, t, kind, name, uint32(version)
		r.Client, r.Request, r.Low, r.Data = client, request, request-low, body[at:end:end]
		at = end
	}
	b.names.table = table
	if at != len(body) || t != b.End {
		return dst[:keep], fmt.Errorf("%w: %d bytes after the last record, which ends at %d of %d", ErrMalformed, len(body)-at, t, b.End)
	}
	return dst, nil
}

// uvarint reads the number at b[i:] and returns where it ends. What is cut
// short, or not the shortest encoding, so that accepted bytes would not encode
// to themselves, ends beyond the end.
func uvarint(b []byte, i int) (v uint64, end int) {
	if i < len(b) && b[i] < 0x80 { // most numbers have one byte
		return uint64(b[i]), i + 1
	}
	return longUvarint(b, i)
}

func longUvarint(b []byte, i int) (v uint64, end int) {
	if i >= len(b) {
		return 0, len(b) + 1
	}
	v, n := binary.Uvarint(b[i:])
	if n <= 0 || n > 1 && b[i+n-1] == 0 {
		return 0, len(b) + 1
	}
	return v, i + n
}

// A Builder gathers the records of one batch and encodes them as they come. It
// is for one goroutine. Make one with NewBuilder or Writer.NewBuilder.
type Builder struct {
	buf   []byte // room for the header, then records
	body  int    // where records start: behind header and owner
	max   int
	count int
	base  Time
	end   Time
	last  *Time // shared by the builders of a Writer
	names map[string]int
}

// NewBuilder returns a builder of batches by owner of at most maxBytes bytes. The
// records of everything it builds get times later than after.
func NewBuilder(owner string, maxBytes int, after Time) *Builder {
	return newBuilder(owner, maxBytes, &after)
}

func newBuilder(owner string, maxBytes int, last *Time) *Builder {
	b := &Builder{max: maxBytes, body: batchHeader + len(owner), last: last, names: make(map[string]int)}
	b.buf = make([]byte, b.body, 4096)
	copy(b.buf[batchHeader:], owner)
	b.buf[15] = byte(len(owner))
	return b
}

// Reset empties the builder.
func (b *Builder) Reset() {
	b.buf = b.buf[:b.body]
	b.count, b.base, b.end = 0, 0, 0
	clear(b.names)
}

// Count returns the number of records added since Reset.
func (b *Builder) Count() int { return b.count }

// Bytes returns the size of the batch as it stands.
func (b *Builder) Bytes() int { return len(b.buf) }

// Fits reports whether a record with this name and data surely fits.
func (b *Builder) Fits(name string, data []byte) bool {
	return len(b.buf)+len(name)+len(data)+maxRecordOverhead <= b.max
}

// MaxData returns how large the data of a record with this name may be so that
// it fits an empty batch.
func (b *Builder) MaxData(name string) int { return b.max - b.body - len(name) - maxRecordOverhead }

// Add appends a record. If r.Time is not later than the last one's, it is set
// to the next nanosecond after it. Seq and Epoch are given by the batch. It
// fails with ErrTooLarge, and adds nothing, if the record does not fit, and with
// ErrMalformed if Low is larger than Request.
func (b *Builder) Add(r *Record) error {
	if len(r.Name) > MaxName {
		return fmt.Errorf("name of %d bytes, at most %d: %w", len(r.Name), MaxName, ErrTooLarge)
	}
	if r.Low > r.Request {
		return fmt.Errorf("lowest unanswered request %d is above request %d: %w", r.Low, r.Request, ErrMalformed)
	}
	if !b.Fits(r.Name, r.Data) {
		return fmt.Errorf("record of %d bytes in a batch of %d, at most %d: %w", len(r.Data), len(b.buf), b.max, ErrTooLarge)
	}
	if r.Time <= *b.last {
		r.Time = *b.last + 1
	}
	delta := r.Time - *b.last
	if b.count == 0 {
		b.base, delta = r.Time, 0
	}
	*b.last, b.end = r.Time, r.Time
	buf := append(b.buf, byte(r.Kind))
	if i, ok := b.names[r.Name]; ok {
		buf = binary.AppendUvarint(buf, uint64(i))
	} else {
		buf = binary.AppendUvarint(buf, uint64(len(b.names)))
		b.names[r.Name] = len(b.names)
		buf = binary.AppendUvarint(buf, uint64(len(r.Name)))
		buf = append(buf, r.Name...)
	}
	buf = binary.AppendUvarint(buf, uint64(r.Version))
	buf = binary.AppendUvarint(buf, uint64(delta))
	buf = binary.AppendUvarint(buf, r.Client)
	buf = binary.AppendUvarint(buf, r.Request)
	buf = binary.AppendUvarint(buf, r.Request-r.Low)
	buf = binary.AppendUvarint(buf, uint64(len(r.Data)))
	b.buf = append(buf, r.Data...)
	b.count++
	return nil
}

// Seal writes the header and returns the encoded batch, which stays valid until
// Reset. It may be called again with other values.
func (b *Builder) Seal(first Seq, epoch Epoch, d Digest, prev Hash) []byte {
	le := binary.LittleEndian
	h := b.buf
	copy(h, batchMagic)
	le.PutUint32(h[8:], uint32(len(h)))
	h[12], h[13], h[14] = formatVersion, hashSHA256, compressNone
	le.PutUint64(h[16:], uint64(first))
	le.PutUint32(h[24:], uint32(b.count))
	le.PutUint32(h[28:], 0)
	le.PutUint64(h[32:], uint64(epoch))
	le.PutUint64(h[40:], uint64(b.base))
	le.PutUint64(h[48:], uint64(b.end))
	le.PutUint64(h[56:], uint64(d.Seq))
	copy(h[64:], d.Hash[:])
	copy(h[96:], prev[:])
	le.PutUint32(h[4:], crc32.Checksum(h[8:], castagnoli))
	return h
}
