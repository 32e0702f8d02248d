package machine

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	"understudy.dev/journal"
)

// A Context is what a machine may know while it applies one command. Everything
// in it comes from the journal, so it is the same on every node and in every
// replay. It is valid during Apply only.
type Context struct {
	seq   journal.Seq
	epoch journal.Epoch
	time  journal.Time
	seed  [2]uint64 // of the tenure, from its EpochStart
	ids   uint32
	pcg   rand.PCG
	rng   *rand.Rand
	fresh bool // rng was seeded for this record
}

// Seq returns the number of the command's record.
func (c *Context) Seq() journal.Seq { return c.seq }

// Time returns the record's time: strictly later than the record's before it.
func (c *Context) Time() journal.Time { return c.time }

// Rand returns a generator seeded from the journal and the Seq: unpredictable
// before the tenure began, the same in every replay, from wherever it starts.
func (c *Context) Rand() *rand.Rand {
	if c.rng == nil {
		c.rng = rand.New(&c.pcg)
	}
	if !c.fresh {
		c.pcg.Seed(c.seed[0]^uint64(c.seq), c.seed[1]+uint64(c.seq)*0x9e3779b97f4a7c15)
		c.fresh = true
	}
	return c.rng
}

// ID is an identifier that no other call in the same history returns: epoch, Seq
// and a count within the record.
type ID [20]byte

// String returns the id in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ID returns a new identifier.
func (c *Context) ID() ID {
	var id ID
	binary.BigEndian.PutUint64(id[0:], uint64(c.epoch))
	binary.BigEndian.PutUint64(id[8:], uint64(c.seq))
	binary.BigEndian.PutUint32(id[16:], c.ids)
	c.ids++
	return id
}

// at prepares the context for one record.
func (c *Context) at(r *journal.Record) {
	c.seq, c.epoch, c.time = r.Seq, r.Epoch, r.Time
	c.ids, c.fresh = 0, false
}
