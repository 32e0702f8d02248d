package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"understudy.dev/journal"
)

// A scanner reads the entries of a journal from the start up to where it ended
// when the scan began. It is for one goroutine.
type scanner struct {
	r       *journal.Reader
	end     journal.Position // read up to here
	sample  journal.End      // of the end when the scan began; zero if j cannot tell
	open    bool             // the end is not known: read until the backend has nothing more
	timeout time.Duration    // of one wait for the backend; 0 means as long as ctx
	plain   bool             // every record is an entry, numbered by its Seq

	item    journal.Item
	records []journal.Record
	at      int
	entry   Entry

	last   uint64 // the highest number met
	start  Start  // of the tenure being read
	closed bool   // the last tenure met ended in order
	cut    string // why, if it was aborted
	whole  uint64 // the highest number met with which a tenure that recorded it ended in order

	// onStart, if not nil, is told of a tenure before it is entered: last and
	// closed are still those of the one before.
	onStart func(journal.Epoch, *Start) error
}

// newScanner samples the end of j and starts to read. The caller closes it.
func newScanner(ctx context.Context, j journal.Journal) (*scanner, error) {
	end, err := journal.SampleEnd(ctx, j)
	switch {
	case errors.Is(err, journal.ErrUnsupported):
	case err != nil:
		return nil, fmt.Errorf("sample end: %w", err)
	}
	return &scanner{
		sample: end, end: end.Pos, open: err != nil,
		r: journal.NewReader(j, journal.ReaderConfig{Source: journal.Describe(j).Location}),
	}, nil
}

// newAnyScanner is newScanner for a journal that a harness wrote or somebody else.
func newAnyScanner(ctx context.Context, j journal.Journal) (*scanner, error) {
	s, err := newScanner(ctx, j)
	if err != nil {
		return nil, err
	}
	_, err = s.next(ctx) // a fault other than this one is met again
	s.close()
	foreign := errors.Is(err, ErrForeign)
	if s, err = newScanner(ctx, j); err == nil {
		s.plain = foreign
	}
	return s, err
}

func (s *scanner) close() { s.r.Close() }

// next returns the next entry, or io.EOF at the end. The entry is valid until
// the next call; its Data stays.
func (s *scanner) next(ctx context.Context) (*Entry, error) {
	for {
		for s.at < len(s.records) {
			r := &s.records[s.at]
			s.at++
			if s.plain {
				s.takePlain(r)
				return &s.entry, nil
			}
			if !numbered(r.Kind) {
				if err := s.own(r); err != nil {
					return nil, fmt.Errorf("read seq %d: %w", r.Seq, err)
				}
				continue
			}
			if err := s.take(r); err != nil {
				return nil, &RecordError{Number: s.last + 1, Err: err}
			}
			return &s.entry, nil
		}
		if err := s.fill(ctx); err != nil {
			return nil, err
		}
	}
}

// take makes r the present entry.
func (s *scanner) take(r *journal.Record) error {
	if r.Request != s.last+1 {
		return fmt.Errorf("%w: it is numbered %d", ErrUndecodable, r.Request)
	}
	e := &s.entry
	if err := e.decode(r); err != nil {
		return err
	}
	e.Number, e.Seq, e.Time, e.Run, e.Kind = r.Request, r.Seq, r.Time, r.Epoch, r.Kind
	e.At = time.Duration(r.Time - s.start.Start).Truncate(time.Microsecond)
	s.last = r.Request
	return nil
}

// takePlain makes r the present entry as it is, whatever its kind.
func (s *scanner) takePlain(r *journal.Record) {
	if s.start.Start == 0 || r.Kind == journal.KindEpochStart {
		s.start.Start = r.Time
	}
	s.entry = Entry{
		Number: uint64(r.Seq), Seq: r.Seq, Time: r.Time, At: time.Duration(r.Time - s.start.Start).Truncate(time.Microsecond),
		Run: r.Epoch, Kind: r.Kind, Name: r.Name, Version: r.Version, Data: r.Data,
	}
	s.last = s.entry.Number
}

// own takes in a record that is not an entry.
func (s *scanner) own(r *journal.Record) error {
	switch r.Kind {
	case journal.KindEpochStart:
		start, err := parseStart(r.Data)
		if err != nil {
			return err
		}
		if s.onStart != nil {
			if err := s.onStart(r.Epoch, &start); err != nil {
				return err
			}
		}
		s.start, s.closed, s.cut = start, false, ""
	case journal.KindMode:
		c, err := parseChange(r.Data)
		if err != nil {
			return err
		}
		s.closed, s.cut = c.orderly(), c.Cause
		if s.closed && s.entry.Run == r.Epoch {
			s.whole = s.last
		}
	case journal.KindCommand, journal.KindSession, journal.KindCheckpoint:
		return fmt.Errorf("%v record: %w", r.Kind, ErrForeign)
	default:
		return &RecordError{Number: s.last + 1, Err: fmt.Errorf("%w: %v", ErrUndecodable, r.Kind)}
	}
	return nil
}

// fill reads the records of the next live batch, or returns io.EOF.
func (s *scanner) fill(ctx context.Context) error {
	if s.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.timeout)
		defer cancel()
	}
	for s.open || s.r.Cursor().Pos < s.end {
		err := s.r.Next(ctx, &s.item)
		var corrupt *journal.CorruptError
		switch {
		case errors.As(err, &corrupt):
			return &RecordError{Number: s.last + 1, Err: err}
		case err != nil:
			return fmt.Errorf("read after record %d: %w", s.last, err)
		}
		switch s.item.Verdict {
		case journal.Heartbeat:
			if s.item.Pos >= s.end {
				return s.ended()
			}
		case journal.Live:
			s.item.Batch.Own()
			if s.records, err = s.item.Batch.Records(s.records[:0]); err != nil {
				return &RecordError{Number: s.last + 1, Err: s.r.Corrupt(&s.item, err)}
			}
			s.at = 0
			return nil
		}
	}
	return s.ended()
}

func (s *scanner) ended() error {
	s.open, s.end = false, s.r.Cursor().Pos
	return io.EOF
}
