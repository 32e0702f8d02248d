package journal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"iter"
	"strings"
	"time"
)

// Seq numbers the live records of a journal from 1, without gaps. 0 stands
// before the first record.
type Seq uint64

// Position is a backend's own index of an entry: a stream sequence, a file
// offset, a row id. Positions grow along the journal but need not be dense. 0
// stands before the first entry.
type Position uint64

// Epoch numbers the tenures of primaries. 0 means that none was opened yet.
type Epoch uint64

// A Hash is a link of the chain or a digest of outcomes (SHA-256).
type Hash [sha256.Size]byte

// String returns the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Short returns the first and last digits, for people.
func (h Hash) Short() string { s := h.String(); return s[:8] + "…" + s[len(s)-4:] }

// IsZero reports whether h is the zero hash, which stands before the first entry.
func (h Hash) IsZero() bool { return h == Hash{} }

// MaxOwner is the length limit of an owner's name in bytes: one length byte in
// the batch header.
const MaxOwner = 255

// HeartbeatEvery is how often a Follow that has nothing to yield must say that
// it is still connected.
const HeartbeatEvery = time.Second

// An Entry is what a journal stores at one Position: a batch, a fence, or in a
// foreign store something else, which readers report.
//
// An Entry without Data is a heartbeat: the backend was heard from, every entry
// up to and including Pos has been yielded, and there was nothing after it.
type Entry struct {
	Pos  Position
	Data []byte // read-only; valid until the sequence that yielded it goes on or ends
}

// A Journal stores entries in order. Its methods may be called concurrently.
type Journal interface {
	// Append stores batch, an encoded batch, as the entry after prev and returns
	// its position. The caller has read every entry up to prev, has opened epoch
	// with Fence, and stamped batch with it. prev is 0 for an empty journal.
	//
	// It returns nil only when the batch is stored as durably as Capabilities
	// says. It returns an error matching ErrConflict if the journal does not end
	// at prev, and one matching ErrFenced if the handle knows of a larger fence
	// than epoch at or before prev, or of another owner's; then this call wrote
	// nothing. ErrTooLarge, ErrReadOnly and ErrFull also say that nothing was
	// written. An error matching ErrBroken is final for the handle. After any
	// other error the outcome is unknown: the batch may be there, or may yet
	// appear. See OutcomeOf.
	//
	// Append neither keeps nor changes batch after it returns.
	Append(ctx context.Context, epoch Epoch, prev Position, batch []byte) (Position, error)

	// Fence opens epoch for owner, a name no other process uses, by storing the
	// entry AppendFence(nil, epoch, owner) at the end of the journal, and returns
	// that entry's position. It needs no knowledge of the end, so a busy writer
	// cannot starve it. From then on every Append of a smaller epoch that names
	// this fence or a later entry as prev fails with ErrFenced, and one that
	// names an earlier prev with ErrConflict, including one already under way.
	//
	// A smaller epoch than the open one gets ErrFenced, and so does the open one
	// if another owner has it; nothing was written. The same owner may ask for
	// the open epoch again, so that after an unknown outcome it can simply
	// repeat the call: it gets the position of the first fence.
	Fence(ctx context.Context, epoch Epoch, owner string) (Position, error)

	// Follow yields the entries after a position in order, then waits for new
	// ones and yields a heartbeat at least every HeartbeatEvery while it waits
	// and is connected. It yields the first heartbeat as soon as it has nothing
	// more to yield. Only durable entries are yielded, each once.
	//
	// The sequence ends silently when ctx ends or the journal is closed; any
	// other end is preceded by one non-nil error. If entries after the position
	// were trimmed away, that error matches ErrTrimmed; if one cannot be read
	// back, it is a *CorruptError; other errors are transient and the caller
	// follows again. Following from beyond the end is not an error: it yields
	// heartbeats whose Pos is smaller than the position.
	Follow(ctx context.Context, after Position) iter.Seq2[Entry, error]

	// Close releases what the journal holds and ends every Follow. Entries stay.
	// Calls after it fail with ErrClosed; calling Close again returns nil.
	Close() error
}

// An End is a sample of where a journal ended: for lag and display, never for a
// safety argument, since it may come from a server that was deposed.
type End struct {
	Pos   Position
	Seq   Seq       // last Seq of the newest batch that looked live
	Epoch Epoch     // largest epoch fenced
	Time  Time      // time of the newest record; 0 if none
	Bytes int64     // bytes stored up to Pos, -1 if the backend cannot tell
	First Position  // the oldest entry that can still be followed from is after this; 0 if nothing was trimmed
	When  time.Time // local clock, when the answer arrived
}

// The optional abilities of a backend. They are found by type assertion in the
// functions below and nowhere else.
type (
	// An Ender can sample the end. An empty journal has the zero End but for When.
	Ender interface {
		End(ctx context.Context) (End, error)
	}
	// A Trimmer can drop entries at and before a position. It never removes the
	// newest fence. Following from before what is left gives ErrTrimmed.
	Trimmer interface {
		Trim(ctx context.Context, through Position) error
	}
	// A Segmenter keeps its entries in segments, which Trim drops whole or not at
	// all. Segments returns the positions after which each one starts, in order.
	Segmenter interface {
		Segments() ([]Position, error)
	}
	// A Locator can find a cursor from which reading reaches a target without
	// reading all that lies before it. The cursor is at or before the target.
	Locator interface {
		Locate(ctx context.Context, target Target) (Cursor, error)
	}
	// An Importer can store an entry of another journal as it is: dead batches and
	// void fences too, which Append and Fence refuse. It becomes the entry after
	// prev. It is for copies, into a journal that nobody leads. What is no entry
	// gives an error matching ErrNoEntry, and nothing was written. Its other
	// outcomes are those of Append.
	Importer interface {
		Import(ctx context.Context, prev Position, entry []byte) (Position, error)
	}
	// A Placer can tell where the entry at a position is stored, for an error
	// message: the file or the like, and the byte in it. The source is empty if it
	// cannot. It may take as long as reading a part of the journal.
	Placer interface {
		Place(pos Position) (source string, offset int64)
	}
	// A Describer declares what its acknowledgement survives and what it can do.
	Describer interface {
		Describe() Capabilities
	}
)

// A Target is a place in a journal: a Seq, or if that is 0 a time.
type Target struct {
	Seq  Seq
	Time Time
}

// Survival is what an acknowledged append survives, as a set.
type Survival uint8

// The members of Survival.
const (
	SurvivesProcess Survival = 1 << iota // the death of the process
	SurvivesMachine                      // power loss or a kernel crash
	SurvivesDisk                         // the loss of one disk
	SurvivesNode                         // the loss of one server for good
)

var survivalWords = []string{"process", "machine", "disk", "node"}

// String lists the members, such as "process, machine", or "nothing".
func (s Survival) String() string {
	var words []string
	for i, w := range survivalWords {
		if s&(1<<i) != 0 {
			words = append(words, w)
		}
	}
	if len(words) == 0 {
		return "nothing"
	}
	return strings.Join(words, ", ")
}

// Capabilities is a backend's own declaration.
type Capabilities struct {
	Backend  string   // "memory", "file", "nats", …
	Location string   // where it is, without secrets
	Survives Survival // what an acknowledged append survives
	Fence    bool     // whether Fence shuts writers out; promotion refuses a journal without
	ReadOnly bool
	MaxBatch int      // bytes; 0 means unbounded
	Notes    []string // what an operator should know, in words
}

// Describe returns what j declares, or the zero Capabilities.
func Describe(j Journal) Capabilities {
	if d, ok := j.(Describer); ok {
		return d.Describe()
	}
	return Capabilities{}
}

// SampleEnd asks j for its end. It fails with ErrUnsupported if j cannot tell.
func SampleEnd(ctx context.Context, j Journal) (End, error) {
	if e, ok := j.(Ender); ok {
		return e.End(ctx)
	}
	return End{}, ErrUnsupported
}

// Trim drops the entries of j at and before through. It fails with
// ErrUnsupported if j cannot.
func Trim(ctx context.Context, j Journal, through Position) error {
	if t, ok := j.(Trimmer); ok {
		return t.Trim(ctx, through)
	}
	return ErrUnsupported
}

// Segments asks j where its segments start. It fails with ErrUnsupported if j has
// none.
func Segments(j Journal) ([]Position, error) {
	if s, ok := j.(Segmenter); ok {
		return s.Segments()
	}
	return nil, ErrUnsupported
}

// place adds to c what j can tell about where the entry lies, if c does not say.
func place(j Journal, c *CorruptError) {
	p, ok := j.(Placer)
	if !ok || c.Source != "" || c.Pos == 0 || c.After {
		return
	}
	if source, offset := p.Place(c.Pos); source != "" {
		c.Source, c.Offset = source, offset
	}
}

// Locate returns a cursor at or before target: the best that j can tell, or the
// start of the journal.
func Locate(ctx context.Context, j Journal, target Target) (Cursor, error) {
	if l, ok := j.(Locator); ok {
		return l.Locate(ctx, target)
	}
	return Cursor{}, nil
}
