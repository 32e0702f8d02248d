package sqlitejournal

import (
	"context"
	"fmt"

	"understudy.dev/journal"
)

// trimRows bounds one transaction of a trim, during which nobody can append.
const trimRows = 512

// Trim implements journal.Trimmer. Fences stay in a table of their own, and the
// newest record stays, so that the place where to go on can be told. What is to go
// is announced first, so that no reader takes a missing entry for damage, and then
// removed in pieces. A trim that was interrupted is completed by the next one. The
// file does not become smaller; its pages are used again.
func (j *Journal) Trim(ctx context.Context, through journal.Position) error {
	if err := j.trim(ctx, through); err != nil {
		return fmt.Errorf("trim through %d: %w", through, err)
	}
	return nil
}

func (j *Journal) trim(ctx context.Context, through journal.Position) error {
	if j.cfg.ReadOnly && j.usable(ctx) == nil {
		return journal.ErrReadOnly
	}
	err := j.read(ctx, func(r *reader) error {
		h, err := r.head(j)
		if err != nil || h.seq == 0 {
			return err
		}
		s := search{reader: r, j: j, head: h}
		newest := s.last(func(seq journal.Seq, _ journal.Time) bool { return seq < h.seq }) + 1
		through = min(through, newest-1)
		return s.err
	})
	for more := true; more && err == nil; {
		more, err = j.trimSome(ctx, through)
	}
	return err
}

// trimSome announces, or removes one piece. It returns false when nothing is left
// to do.
func (j *Journal) trimSome(ctx context.Context, through journal.Position) (more bool, err error) {
	if err := j.take(ctx); err != nil {
		return false, err
	}
	defer j.give()
	if err := j.lost(); err != nil { // nothing is removed from another database
		return false, j.fail(err)
	}
	if err := j.beginWrite(ctx, false); err != nil {
		return false, err
	}
	h, err := j.headToWrite()
	if err != nil {
		return false, j.undo(err)
	}
	if keep := min(through, h.end); keep > h.trimmed {
		h.trimmed = keep
	} else if more, err = j.removePiece(&h); err != nil || !more {
		if err != nil {
			err = j.failed(err)
		}
		return false, j.undo(err)
	}
	if err := exec(j.update, append(h.values(j.name), j.id)...); err != nil {
		return false, j.undo(j.failed(err))
	}
	return true, j.commitWrite()
}

// removePiece removes the oldest entries that are trimmed. It returns false if
// there are none.
func (j *Journal) removePiece(h *head) (removed bool, err error) {
	var oldest, bytes int64
	row := j.anchor.QueryRowContext(background, "SELECT ifnull(min(id), 0) FROM entries WHERE id > ? AND id <= ?", j.idOf(0), j.idOf(h.trimmed))
	if err := row.Scan(&oldest); err != nil || oldest == 0 {
		return false, err
	}
	last := min(oldest+trimRows-1, j.idOf(h.trimmed))
	row = j.anchor.QueryRowContext(background, "SELECT ifnull(sum(length(data)), 0) FROM entries WHERE id BETWEEN ? AND ?", oldest, last)
	if err := row.Scan(&bytes); err != nil {
		return false, err
	}
	h.bytes -= bytes
	_, err = j.anchor.ExecContext(background, "DELETE FROM entries WHERE id BETWEEN ? AND ?", oldest, last)
	return true, err
}
