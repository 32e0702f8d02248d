package exchange

import (
	"io"

	"understudy.dev/machine"
)

// Name is the machine's name in the journal.
const Name = "exchange"

// Version is the version of the machine's logic.
const Version = 1

// Definition returns what the machine is.
func Definition() machine.Definition {
	names := []string{NameLimit, NameMarket, NameIOC, NameFOK, NameCancel, NameReduce, NameReplace}
	def := machine.Definition{
		Name:    Name,
		Version: Version,
		New:     func() machine.Machine { return New() },
	}
	for _, name := range names {
		def.Commands = append(def.Commands, machine.CommandType{Name: name, Min: CommandVersion, Max: CommandVersion})
	}
	return def
}

// An Exchange is a [Book] as a machine.
type Exchange struct {
	book    *Book
	replies []byte // a chunk of which each reply is a part
}

// New returns an exchange with an empty book.
func New() *Exchange { return &Exchange{book: NewBook()} }

// Book returns the book, to read.
func (e *Exchange) Book() *Book { return e.book }

// Apply carries out one command. The reply is the caller's to keep.
func (e *Exchange) Apply(_ *machine.Context, cmd machine.Command) ([]byte, error) {
	reply, err := e.apply(cmd)
	if err != nil {
		return nil, err
	}
	return e.encode(reply), nil
}

func (e *Exchange) apply(cmd machine.Command) (Reply, error) {
	if cmd.Version != CommandVersion {
		return Reply{}, versionError(cmd.Name, cmd.Version)
	}
	switch cmd.Name {
	case NameLimit:
		c, err := parseLimit(cmd.Name, cmd.Data)
		return carryOut(c, err, e.book.Limit)
	case NameIOC:
		c, err := parseLimit(cmd.Name, cmd.Data)
		return carryOut(IOC(c), err, e.book.IOC)
	case NameFOK:
		c, err := parseLimit(cmd.Name, cmd.Data)
		return carryOut(FOK(c), err, e.book.FOK)
	case NameMarket:
		c, err := parseMarket(cmd.Data)
		return carryOut(c, err, e.book.Market)
	case NameCancel:
		c, err := parseCancel(cmd.Data)
		return carryOut(c, err, e.book.Cancel)
	case NameReduce:
		c, err := parseReduce(cmd.Data)
		return carryOut(c, err, e.book.Reduce)
	case NameReplace:
		c, err := parseReplace(cmd.Data)
		return carryOut(c, err, e.book.Replace)
	}
	return Reply{}, nameError(cmd.Name)
}

// carryOut does a command unless it could not be decoded.
func carryOut[C Command](c C, err error, do func(C) (Reply, error)) (Reply, error) {
	if err != nil {
		return Reply{}, err
	}
	return do(c)
}

// Replies are kept by sessions, so they cannot share one buffer, and an allocation
// for each would be the only one of an operation. They share chunks: one allocation
// for some thousand replies without fills, and a kept reply holds no more than
// replyChunk bytes that nobody needs.
const (
	replyChunk = 4 << 10
	replyRoom  = 64 // most replies fit; a longer one gets its own array from append
)

func (e *Exchange) encode(r Reply) []byte {
	if cap(e.replies)-len(e.replies) < replyRoom {
		e.replies = make([]byte, 0, replyChunk)
	}
	start := len(e.replies)
	reply := AppendReply(e.replies[start:start:start+replyRoom], r)
	if len(reply) <= replyRoom {
		e.replies = e.replies[:start+len(reply)]
	}
	return reply[:len(reply):len(reply)]
}

// Snapshot writes the whole state.
func (e *Exchange) Snapshot(w io.Writer) error { return e.book.Snapshot(w) }

// Restore replaces the state by one that Snapshot wrote.
func (e *Exchange) Restore(r io.Reader) error { return e.book.Restore(r) }
