package machine

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"runtime/debug"

	"understudy.dev/journal"
)

// A Replica is a machine with its sessions, outcome digest and position. It is
// for one goroutine. After an error of ApplyBatch it stays as it is, for
// inspection, and applies nothing more.
//
// # The outcome digest
//
//	d = SHA-256(d before || first Seq || count || outcomes), at each batch that has records
//
// numbers as 8 bytes little endian, and of each outcome: code (plus 128 if
// repeated), length of the reply (varint), reply. d before the first batch is
// zero.
type Replica struct {
	def      Definition
	known    map[string]CommandType
	machine  Machine
	sessions sessions
	ctx      Context

	seq      journal.Seq // the last record applied
	time     journal.Time
	tenure   Tenure       // the newest
	began    journal.Time // its EpochStart's
	digest   journal.Hash
	recent   [recentDigests]journal.Digest // ring, to compare with what batches state
	next     int
	compared Comparisons

	sum      hash.Hash
	buf      []byte // what goes into the digest
	outcomes []Outcome
	broken   error
}

// recentDigests is how many batch ends a stated digest can be compared with. A
// writer states a digest one or two batches old.
const recentDigests = 64

// NewReplica returns a replica of a new, empty machine.
func NewReplica(def Definition) (*Replica, error) {
	if def.Window == 0 {
		def.Window = DefaultWindow
	}
	if def.Sessions == 0 {
		def.Sessions = DefaultSessions
	}
	if err := def.check(); err != nil {
		return nil, err
	}
	r := &Replica{
		def: def, machine: def.New(), sessions: newSessions(def.Sessions), sum: sha256.New(),
		known: make(map[string]CommandType, len(def.Commands)),
	}
	for _, c := range def.Commands {
		r.known[c.Name] = c
	}
	return r, nil
}

// check reports all faults of a definition together.
func (d *Definition) check() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("machine %q: "+format, append([]any{d.Name}, args...)...))
		}
	}
	fault(d.Name == "", "it has no name")
	fault(d.New == nil, "it has no New")
	fault(len(d.Commands) == 0, "it knows no commands")
	fault(d.Window < 1, "a window of %d replies", d.Window)
	fault(d.Sessions < 1, "at most %d sessions", d.Sessions)
	seen := make(map[string]bool)
	for _, c := range d.Commands {
		fault(c.Name == "" || len(c.Name) > journal.MaxName, "command name %q", c.Name)
		fault(seen[c.Name], "command %q twice", c.Name)
		fault(c.Min > c.Max, "command %q in versions %d to %d", c.Name, c.Min, c.Max)
		seen[c.Name] = true
	}
	return errors.Join(faults...)
}

// Machine returns the user's machine. Whoever reads it must not change it.
func (r *Replica) Machine() Machine { return r.machine }

// Definition returns the definition with its defaults filled in.
func (r *Replica) Definition() Definition { return r.def }

// Seq returns the last record applied.
func (r *Replica) Seq() journal.Seq { return r.seq }

// Time returns the time of the last record applied.
func (r *Replica) Time() journal.Time { return r.time }

// Digest returns the outcome digest at Seq.
func (r *Replica) Digest() journal.Digest { return journal.Digest{Seq: r.seq, Hash: r.digest} }

// Comparisons counts the digests that batches stated.
type Comparisons struct {
	Agreed journal.Seq // the highest at which one was compared and equal
	Equal  uint64      // compared, and equal
	Blind  uint64      // not comparable: this replica did not end a batch there, or long ago
}

// Compared returns what became of the digests stated so far. One that differed
// is a *DivergedError.
func (r *Replica) Compared() Comparisons { return r.compared }

// Tenure returns the data and the time of the newest EpochStart applied.
func (r *Replica) Tenure() (Tenure, journal.Time) { return r.tenure, r.began }

// Sessions returns the number of open sessions.
func (r *Replica) Sessions() int { return len(r.sessions.byID) }

// Err returns why the replica applies nothing more, or nil.
func (r *Replica) Err() error { return r.broken }

// ErrUnknownCommand: the machine does not know this command, or not in this
// version. Such a command is refused before it is sequenced; one in the journal
// was written by another definition.
var ErrUnknownCommand = errors.New("machine: unknown command")

// Knows returns nil if the machine knows the command, or else an error that
// matches ErrUnknownCommand and says what it knows.
func (r *Replica) Knows(name string, version uint32) error {
	c, ok := r.known[name]
	switch {
	case !ok:
		return fmt.Errorf("%w: %q is not one of %s's commands", ErrUnknownCommand, name, r.def.Name)
	case version < c.Min || version > c.Max:
		return fmt.Errorf("%w: %q version %d, %s knows %d to %d", ErrUnknownCommand, name, version, r.def.Name, c.Min, c.Max)
	}
	return nil
}

// A PanicError says that the machine panicked. The same record panics on every
// node.
type PanicError struct {
	Seq   journal.Seq
	Name  string // of the command
	Value any
	Stack []byte
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("machine panicked at seq %d, command %q: %v", e.Seq, e.Name, e.Value)
}

// A DivergedError says that this replica's outcomes are not those of the node
// that wrote the journal.
type DivergedError struct {
	Seq       journal.Seq
	Want, Got journal.Hash // stated in the journal; computed here
}

func (e *DivergedError) Error() string {
	return fmt.Sprintf("diverged at or before seq %d: the journal states outcome digest %s, this node has %s", e.Seq, e.Want.Short(), e.Got.Short())
}

// ApplyBatch applies the records of a live batch, in the order of the journal,
// and returns their outcomes, one each. They are valid until the next call, but
// their replies as long as the machine and the records leave them alone. It is
// the only function that calls Machine.Apply.
//
// It applies nothing of a batch with a record that this machine cannot apply
// (ErrUnknownCommand, or one for another machine or a newer version), or that
// states another digest than this replica had (*DivergedError). A *PanicError
// leaves the machine in the middle of a record.
func (r *Replica) ApplyBatch(b *journal.Batch, records []journal.Record) ([]Outcome, error) {
	if r.broken != nil {
		return nil, fmt.Errorf("replica stopped at seq %d: %w", r.seq, r.broken)
	}
	if err := r.admit(b, records); err != nil {
		r.broken = err
		return nil, err
	}
	if len(records) == 0 {
		return nil, nil
	}
	if err := r.applyAll(records); err != nil {
		r.broken = err
		return nil, err
	}
	r.seal(records)
	return r.outcomes, nil
}

// admit checks that the whole batch can be applied here and now.
func (r *Replica) admit(b *journal.Batch, records []journal.Record) error {
	if b.First != r.seq+1 || len(records) != b.Count {
		return fmt.Errorf("apply batch: %d records from seq %d, want %d from %d", len(records), b.First, b.Count, r.seq+1)
	}
	if err := r.compare(b.Digest); err != nil {
		return err
	}
	var known *journal.Record // the last command that was looked up
	for i := range records {
		switch rec := &records[i]; rec.Kind {
		case journal.KindCommand:
			if known != nil && rec.Name == known.Name && rec.Version == known.Version {
				continue
			}
			if err := r.Knows(rec.Name, rec.Version); err != nil {
				return fmt.Errorf("seq %d: %w", rec.Seq, err)
			}
			known = rec
		case journal.KindEpochStart:
			if err := r.admitTenure(rec); err != nil {
				return fmt.Errorf("seq %d: %w", rec.Seq, err)
			}
		case journal.KindSession:
		default:
			return fmt.Errorf("seq %d: %w: a record of kind %s is not for a machine", rec.Seq, ErrUnknownCommand, rec.Kind)
		}
	}
	return nil
}

func (r *Replica) admitTenure(rec *journal.Record) error {
	t, err := ParseTenure(rec.Data)
	switch {
	case err != nil:
		return err
	case t.Machine != r.def.Name:
		return fmt.Errorf("%w: the journal is of machine %q, this is %q", ErrUnknownCommand, t.Machine, r.def.Name)
	case t.Version > r.def.Version:
		return fmt.Errorf("%w: the journal needs version %d of machine %q, this is %d", ErrUnknownCommand, t.Version, t.Machine, r.def.Version)
	}
	return nil
}

// compare holds a stated digest against the one at the same Seq here.
func (r *Replica) compare(d journal.Digest) error {
	if d.Seq == 0 {
		return nil
	}
	for i := 1; i <= len(r.recent); i++ {
		have := &r.recent[(r.next-i+len(r.recent))%len(r.recent)]
		if have.Seq != d.Seq {
			continue
		}
		if have.Hash != d.Hash {
			return &DivergedError{Seq: d.Seq, Want: d.Hash, Got: have.Hash}
		}
		r.compared.Agreed = d.Seq
		r.compared.Equal++
		return nil
	}
	r.compared.Blind++
	return nil
}

// applyAll applies the records one by one and gathers the outcomes. The replies
// of a batch share one allocation.
func (r *Replica) applyAll(records []journal.Record) (err error) {
	at := 0
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Seq: records[at].Seq, Name: records[at].Name, Value: v, Stack: debug.Stack()}
		}
	}()
	r.outcomes = r.outcomes[:0]
	r.buf = r.buf[:0]
	var replies []byte
	for at = range records {
		rec := &records[at]
		out := r.apply(rec)
		if n := len(out.Reply); n > 0 {
			if len(replies)+n > cap(replies) {
				replies = make([]byte, 0, max(n, (len(records)-at)*min(n, 512)))
			}
			replies = append(replies, out.Reply...)
			out.Reply = replies[len(replies)-n : len(replies) : len(replies)]
		}
		out.Seq = rec.Seq
		r.outcomes = append(r.outcomes, out)
		code := byte(out.Code)
		if out.Repeated {
			code |= 0x80
		}
		r.buf = append(r.buf, code)
		r.buf = binary.AppendUvarint(r.buf, uint64(len(out.Reply)))
		r.buf = append(r.buf, out.Reply...)
	}
	return nil
}

// apply carries out one record, or does not, as its session says.
func (r *Replica) apply(rec *journal.Record) Outcome {
	switch rec.Kind {
	case journal.KindEpochStart:
		r.tenure, _ = ParseTenure(rec.Data) // admitted above
		r.tenure.Epoch, r.began, r.ctx.seed = rec.Epoch, rec.Time, r.tenure.Seed
		return Outcome{}
	case journal.KindSession:
		r.sessions.open(uint64(rec.Seq), rec.Name == "ordered")
		return Outcome{}
	}
	if rec.Client == 0 {
		return r.call(rec)
	}
	s := r.sessions.use(rec.Client)
	if s == nil {
		return Outcome{Code: NoSession}
	}
	code, answered := s.check(rec.Request, rec.Low, uint64(r.def.Window))
	switch {
	case answered != nil:
		return Outcome{Code: code, Repeated: true, Reply: answered.reply}
	case code != OK:
		return Outcome{Code: code}
	}
	out := r.call(rec)
	sl := s.store(rec.Request)
	sl.code, sl.reply = out.Code, append(sl.reply[:0], out.Reply...)
	s.last = max(s.last, rec.Request)
	return out
}

// call is the one place that calls the user's Apply.
func (r *Replica) call(rec *journal.Record) Outcome {
	r.ctx.at(rec)
	reply, err := r.machine.Apply(&r.ctx, Command{Name: rec.Name, Version: rec.Version, Data: rec.Data})
	if err != nil {
		return Outcome{Code: Rejected, Reply: []byte(err.Error())}
	}
	return Outcome{Code: OK, Reply: reply}
}

// seal moves the position and folds the outcomes into the digest.
func (r *Replica) seal(records []journal.Record) {
	var head [len(journal.Hash{}) + 16]byte
	copy(head[:], r.digest[:])
	binary.LittleEndian.PutUint64(head[len(r.digest):], uint64(records[0].Seq))
	binary.LittleEndian.PutUint64(head[len(r.digest)+8:], uint64(len(records)))
	r.sum.Reset()
	r.sum.Write(head[:])
	r.sum.Write(r.buf)
	r.buf = r.sum.Sum(r.buf[:0])
	r.digest = journal.Hash(r.buf)
	last := &records[len(records)-1]
	r.seq, r.time = last.Seq, last.Time
	r.recent[r.next] = r.Digest()
	r.next = (r.next + 1) % len(r.recent)
}
