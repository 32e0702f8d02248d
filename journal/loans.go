package journal

import "understudy.dev/internal/spoil"

// loans is memory for entries that a Reader uses again and again: fresh memory
// costs more than everything else that is done to read an entry. One goroutine
// takes it, and overwrites it only then; another gives it back.
type loans chan []byte

// get returns empty memory, with no room if there is none to be had.
func (l loans) get() []byte {
	select {
	case b := <-l:
		spoil.Bytes(b[:cap(b)])
		return b[:0]
	default:
		return nil
	}
}

// maxLoan is the size in bytes up to which memory is kept: batches of more are
// rare, and what a Reader holds on to must stay small.
const maxLoan = 2 << 20

// put takes b back.
func (l loans) put(b []byte) {
	if b == nil || cap(b) > maxLoan {
		return
	}
	select {
	case l <- b:
	default:
	}
}
