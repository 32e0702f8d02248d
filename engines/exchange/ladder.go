package exchange

import (
	"iter"
	"slices"
)

// blockSize is how many levels a block holds. An insertion moves at most half a
// kilobyte of keys and pointers each; a book of a million levels has some 30,000
// blocks.
const blockSize = 64

// A ladder holds the levels of one side in the order of price, the best last:
// most insertions and removals happen there and move little. It is a sorted array
// cut into blocks, so that a deep book costs no more than a shallow one.
type ladder struct {
	sell   bool
	blocks []*block // none of them empty
	spare  []*block
}

type block struct {
	n      int
	keys   [blockSize]int64
	levels [blockSize]*level
}

// A place is where a level is, or would be inserted.
type place struct{ block, index int }

// key turns a price into a number that grows as the price gets better. Prices are
// positive, so negation is safe.
func (l *ladder) key(price int64) int64 {
	if l.sell {
		return -price
	}
	return price
}

// best returns the level to trade with first, or nil.
func (l *ladder) best() *level {
	if len(l.blocks) == 0 {
		return nil
	}
	b := l.blocks[len(l.blocks)-1]
	return b.levels[b.n-1]
}

// find returns the level at price, or nil and the place where it belongs.
func (l *ladder) find(price int64) (*level, place) {
	if len(l.blocks) == 0 {
		return nil, place{}
	}
	key := l.key(price)
	at := place{block: l.blockOf(key)}
	b := l.blocks[at.block]
	at.index = b.search(key)
	if at.index < b.n && b.keys[at.index] == key {
		return b.levels[at.index], at
	}
	return nil, at
}

// blockOf returns the last block that starts at or below key, or the first.
func (l *ladder) blockOf(key int64) int {
	lo, hi := 0, len(l.blocks)-1
	if l.blocks[hi].keys[0] <= key {
		return hi
	}
	for lo < hi {
		mid := (lo + hi + 1) / 2
		if l.blocks[mid].keys[0] <= key {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return lo
}

// search returns the index of the first key not below key.
func (b *block) search(key int64) int {
	lo, hi := 0, b.n
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if b.keys[mid] < key {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// insert puts lvl at the place that find returned for its price.
func (l *ladder) insert(at place, lvl *level) {
	if len(l.blocks) == 0 {
		l.blocks = append(l.blocks, l.newBlock())
	}
	b := l.blocks[at.block]
	if b.n == blockSize {
		upper := l.split(at.block)
		if at.index > b.n {
			at.index -= b.n
			b = upper
		}
	}
	copy(b.keys[at.index+1:b.n+1], b.keys[at.index:b.n])
	copy(b.levels[at.index+1:b.n+1], b.levels[at.index:b.n])
	b.keys[at.index], b.levels[at.index] = l.key(lvl.price), lvl
	b.n++
}

// split moves the upper half of a full block into a new one after it.
func (l *ladder) split(i int) *block {
	const half = blockSize / 2
	lower, upper := l.blocks[i], l.newBlock()
	copy(upper.keys[:], lower.keys[half:])
	copy(upper.levels[:], lower.levels[half:])
	clear(lower.levels[half:])
	lower.n, upper.n = half, blockSize-half
	l.blocks = slices.Insert(l.blocks, i+1, upper)
	return upper
}

// remove takes the level at price out; it is there.
func (l *ladder) remove(price int64) {
	_, at := l.find(price)
	b := l.blocks[at.block]
	copy(b.keys[at.index:], b.keys[at.index+1:b.n])
	copy(b.levels[at.index:], b.levels[at.index+1:b.n])
	b.n--
	b.levels[b.n] = nil
	if b.n == 0 {
		l.blocks = slices.Delete(l.blocks, at.block, at.block+1)
		l.spare = append(l.spare, b)
	}
}

func (l *ladder) newBlock() *block {
	if n := len(l.spare); n > 0 {
		b := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return b
	}
	return new(block)
}

// levels yields the levels, the best first.
func (l *ladder) levels() iter.Seq[*level] {
	return func(yield func(*level) bool) {
		for i := len(l.blocks) - 1; i >= 0; i-- {
			b := l.blocks[i]
			for k := b.n - 1; k >= 0; k-- {
				if !yield(b.levels[k]) {
					return
				}
			}
		}
	}
}

// len returns the number of levels.
func (l *ladder) len() int {
	n := 0
	for _, b := range l.blocks {
		n += b.n
	}
	return n
}
