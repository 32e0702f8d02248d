package sqlitejournal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"understudy.dev/journal"
	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/sqlitejournal"
)

// fill writes two tenures with small and large batches, some above a page.
func fill(t testing.TB, j journal.Journal) *journaltest.Pen {
	t.Helper()
	p := journaltest.NewPen("a")
	for epoch := range 2 {
		must(t, p.Fence(t.Context(), j, journal.Epoch(epoch+1)))
		for i := range 20 {
			must(t, p.Append(t.Context(), j, journaltest.Records(i%3, 10<<(i%10))...))
		}
	}
	return p
}

// readThrough reads a journal with a Reader, as everyone does, and returns what it
// took in before an error, or before end.
func readThrough(ctx context.Context, path string) (got [][]byte, err error) {
	j, err := sqlitejournal.Open(ctx, path, sqlitejournal.Config{})
	if err != nil {
		return nil, err
	}
	defer j.Close()
	end, err := j.End(ctx)
	if err != nil {
		return nil, err
	}
	r := journal.NewReader(j, journal.ReaderConfig{})
	defer r.Close()
	var it journal.Item
	for r.Cursor().Pos < end.Pos {
		if err := r.Next(ctx, &it); err != nil {
			return got, err
		}
		if it.Verdict != journal.Heartbeat {
			got = append(got, bytes.Clone(it.Bytes()))
		}
	}
	return got, nil
}

// flips is how many places are damaged, spread over the file.
const flips = 400

// Whatever byte of a database is damaged: nobody panics, what is read is what was
// written, and what is not read is an error. A byte that is not used may be
// anything.
func TestDamagedDatabase(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	j := openAt(t, path, sqlitejournal.Config{})
	want := fill(t, j).Entries()
	closing(t, j)
	whole, err := os.ReadFile(path)
	must(t, err)
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	refused := 0
	for i := range flips {
		at := rng.IntN(len(whole))
		if i%2 == 0 {
			at = rng.IntN(4) * 4096 / 2 % len(whole) // the headers and rows of the first pages
			at += rng.IntN(2048)
		}
		damaged := bytes.Clone(whole)
		damaged[at] ^= 1 << rng.IntN(8)
		must(t, os.WriteFile(path, damaged, 0o600))
		if checkDamaged(t, fmt.Sprintf("seed %d, byte %d", seed, at), path, want) {
			refused++
		}
	}
	t.Logf("%d of %d flips were noticed", refused, flips)
	if refused < flips/4 {
		t.Errorf("only %d of %d flips were noticed", refused, flips)
	}
}

// checkDamaged reads a journal in which something is damaged, and returns whether
// that was noticed. Read without an error, it must be whole.
func checkDamaged(t *testing.T, what, path string, want []journal.Entry) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got, err := readThrough(ctx, path)
	if ctx.Err() != nil {
		t.Errorf("%s: reading did not end", what)
	}
	if err == nil && len(got) != len(want) {
		t.Errorf("%s: %d entries and no error, want %d", what, len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(got[i], want[i].Data) {
			t.Errorf("%s: entry %d is not what was written", what, i+1)
		}
	}
	return err != nil
}

// A database that was cut short says so, wherever it was cut.
func TestCutDatabase(t *testing.T) {
	path := newPath(t)
	j := openAt(t, path, sqlitejournal.Config{})
	want := fill(t, j).Entries()
	closing(t, j)
	whole, err := os.ReadFile(path)
	must(t, err)
	for at := len(whole) - 1; at > 0; at -= len(whole) / 40 {
		must(t, os.WriteFile(path, whole[:at], 0o600))
		if !checkDamaged(t, fmt.Sprintf("cut at %d of %d", at, len(whole)), path, want) {
			t.Errorf("cut at %d of %d: nobody noticed", at, len(whole))
		}
	}
}

// Rows that are changed or missing are damage, with the position of the entry.
func TestDamagedRows(t *testing.T) {
	t.Parallel()
	const last = 42 // fill writes so many
	tests := []struct {
		name, statement string
		at              journal.Position // 0: the row of the journal
	}{
		{"an entry is missing", "DELETE FROM entries WHERE id & 0xffff = 7", 7},
		{"the first one is missing", "DELETE FROM entries WHERE id & 0xffff = 1", 1},
		{"the newest is missing", "DELETE FROM entries WHERE id & 0xffff = 42", last},
		{"all are missing", "DELETE FROM entries", 1},
		{"an entry has no bytes", "UPDATE entries SET data = x'' WHERE id & 0xffff = 9", 9},
		{"an entry is another's", "UPDATE entries SET data = (SELECT data FROM entries WHERE id & 0xffff = 5) WHERE id & 0xffff = 12", 12},
		{"an entry behind the end", "INSERT INTO entries SELECT id+1, seq, time, data FROM entries WHERE id & 0xffff = 42", last + 1},
		{"the end is lower", `UPDATE journals SET "end" = 41`, 0},
		{"the epoch is lower", "UPDATE journals SET epoch = 1", 0},
		{"the owner is another", "UPDATE journals SET owner = 'b'", 0},
		{"it was trimmed", "UPDATE journals SET trimmed = 3", 0},
		{"the name is another's", "UPDATE journals SET name = 'other'", 0},
		{"the row is missing", "DELETE FROM journals", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := newPath(t)
			j := openAt(t, path, sqlitejournal.Config{})
			p := fill(t, j)
			if p.Cursor().Pos != last {
				t.Fatalf("the journal ends at %d, want %d", p.Cursor().Pos, last)
			}
			foreign(t, path, tt.statement).Close()
			_, err := readThrough(t.Context(), path)
			var corrupt *journal.CorruptError
			if !errors.As(err, &corrupt) || corrupt.Pos != tt.at || tt.at == 0 && corrupt.Source != path {
				t.Errorf("read by a new handle: %v, want a CorruptError at %d of %s", err, tt.at, path)
			}
			if tt.at != 0 {
				return
			}
			if made, err := sqlitejournal.Open(t.Context(), path, sqlitejournal.Config{Create: true}); !errors.As(err, &corrupt) {
				t.Errorf("open a journal that cannot be found: %v, want a CorruptError and not a new one", err)
				made.Close()
			}
			if err := p.Append(t.Context(), j, journaltest.Records(1, 8)...); !errors.As(err, &corrupt) || !errors.Is(err, journal.ErrBroken) {
				t.Errorf("Append on a handle that was open: %v, want ErrBroken with a CorruptError", err)
			}
			if _, err := drain(t.Context(), j, 0); !errors.As(err, &corrupt) {
				t.Errorf("Follow on a handle that was open: %v, want a CorruptError", err)
			}
			if _, err := j.End(t.Context()); !errors.As(err, &corrupt) {
				t.Errorf("End on a handle that was open: %v, want a CorruptError", err)
			}
		})
	}
}

// The log of a process that died is damage if it is bad before its last
// transaction. In the last one, bad cannot be told from interrupted: then it alone
// is missing.
func TestDamagedLog(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	j := openAt(t, path, sqlitejournal.Config{})
	want := fill(t, j).Entries()
	database, err := os.ReadFile(path)
	must(t, err)
	log, err := os.ReadFile(path + "-wal")
	must(t, err)
	copied := newPath(t)
	must(t, os.WriteFile(copied, database, 0o600))
	must(t, os.WriteFile(copied+"-wal", log, 0o600))
	whole, err := readThrough(t.Context(), copied)
	if err != nil || len(whole) != len(want) {
		t.Fatalf("the log as it was left: %d entries, %v, want %d", len(whole), err, len(want))
	}
	shorter := 0
	const places = 97
	for at := 0; at < len(log); at += len(log) / places {
		damaged := bytes.Clone(log)
		damaged[at] ^= 0x10
		must(t, os.WriteFile(copied, database, 0o600))
		must(t, os.WriteFile(copied+"-wal", damaged, 0o600))
		got, err := readThrough(t.Context(), copied)
		var corrupt *journal.CorruptError
		switch {
		case errors.As(err, &corrupt) && corrupt.Source == copied+"-wal" && corrupt.Offset >= 0 && corrupt.Offset <= int64(at):
		case err == nil && len(got) == len(want)-1 && at > len(log)*9/10:
			shorter++
		default:
			t.Errorf("byte %d of %d: %d entries, %v, want a CorruptError of the log, or the last entry missing", at, len(log), len(got), err)
		}
		for k := range got {
			if !bytes.Equal(got[k], want[k].Data) {
				t.Fatalf("byte %d: entry %d is not what was written", at, k+1)
			}
		}
	}
	if shorter == 0 || shorter > places/10 {
		t.Errorf("%d of %d flips shortened the journal, want those of the last transaction", shorter, places)
	}
}

// What attempts that did not succeed left behind the end of the log is no damage:
// each is a transaction in full, and none continues the other.
func TestLogWithLeftovers(t *testing.T) {
	path := newPath(t)
	p := fill(t, openAt(t, path, sqlitejournal.Config{}))
	logAfter := func(size int) (log, batch []byte) {
		copied := newPath(t)
		for _, suffix := range []string{"", "-wal"} {
			b, err := os.ReadFile(path + suffix)
			must(t, err)
			must(t, os.WriteFile(copied+suffix, b, 0o600))
		}
		j := openAt(t, copied, sqlitejournal.Config{})
		batch = journaltest.Batch(p.Cursor(), journaltest.Records(1, size)...)
		_, err := j.Append(t.Context(), 2, p.Cursor().Pos, batch)
		must(t, err)
		log, err = os.ReadFile(copied + "-wal")
		must(t, err)
		return log, batch
	}
	log, batch := logAfter(1000)
	for _, size := range []int{30_000, 90_000} {
		attempt, _ := logAfter(size)
		log = append(log, attempt[len(log):]...)
	}
	database, err := os.ReadFile(path)
	must(t, err)
	crashed := newPath(t)
	must(t, os.WriteFile(crashed, database, 0o600))
	must(t, os.WriteFile(crashed+"-wal", log, 0o600))
	want := append(p.Entries(), journal.Entry{Pos: p.Cursor().Pos + 1, Data: batch})
	wantEntries(t, openAt(t, crashed, sqlitejournal.Config{}), 0, want)
}
