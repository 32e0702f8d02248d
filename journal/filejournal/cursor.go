package filejournal

import (
	"encoding/binary"

	"understudy.dev/journal"
)

// A cursor as stored in segments and archives, little endian:
//
//	  0   8  position
//	  8   8  Seq of the last live record
//	 16   8  its time, ns since 1970 UTC
//	 24  32  chain up to the position
//	 56   8  open epoch
//	 64   8  position of the fence that opened it
//	 72   8  position of the entry before
//	 80  32  chain up to there
//	112   1  length of the owner
//	113 255  owner, zero behind it
const cursorBytes = 368

func putCursor(b []byte, c *journal.Cursor) {
	le := binary.LittleEndian
	le.PutUint64(b, uint64(c.Pos))
	le.PutUint64(b[8:], uint64(c.Seq))
	le.PutUint64(b[16:], uint64(c.Time))
	copy(b[24:], c.Chain[:])
	le.PutUint64(b[56:], uint64(c.Epoch))
	le.PutUint64(b[64:], uint64(c.Fence))
	le.PutUint64(b[72:], uint64(c.Prev))
	copy(b[80:], c.Before[:])
	b[112] = byte(len(c.Owner))
	copy(b[113:cursorBytes], c.Owner)
}

func getCursor(b []byte) journal.Cursor {
	le := binary.LittleEndian
	return journal.Cursor{
		Pos: journal.Position(le.Uint64(b)), Seq: journal.Seq(le.Uint64(b[8:])), Time: journal.Time(le.Uint64(b[16:])),
		Chain: journal.Hash(b[24:56]), Epoch: journal.Epoch(le.Uint64(b[56:])), Owner: string(b[113 : 113+int(b[112])]),
		Fence: journal.Position(le.Uint64(b[64:])), Prev: journal.Position(le.Uint64(b[72:])), Before: journal.Hash(b[80:112]),
	}
}
