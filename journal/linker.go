package journal

import (
	"context"
	"fmt"
)

// A linker is the goroutine of a Reader that computes the chain and holds each
// live batch against it. It has a goroutine of its own because hashing takes as
// long as everything else that is done for an entry together.
type linker struct {
	*Reader
	in            chan Item // from the pump, which closes it
	chain, before Hash
	sum           Tracker // for its hash
}

func newLinker(r *Reader) *linker {
	return &linker{Reader: r, in: make(chan Item, readAhead), chain: r.cfg.From.Chain, before: r.cfg.From.Before}
}

// run passes on what the pump found until the pump ends or the chain breaks.
func (l *linker) run(ctx context.Context) {
	defer close(l.ended)
	defer close(l.items)
	for it := range l.in {
		err := l.pass(ctx, &it)
		if err == nil {
			continue
		}
		l.stop()
		for range l.in { // until the pump has ended
		}
		l.err = err
		return
	}
}

// pass completes one item and hands it to the caller.
func (l *linker) pass(ctx context.Context, it *Item) error {
	if it.Verdict == Heartbeat {
		it.Cursor.Chain, it.Cursor.Before = l.chain, l.before
		select {
		case l.items <- *it:
		default: // the caller is busy with entries anyway
		}
		return nil
	}
	if b := &it.Batch; it.Verdict == Live && b.Prev != l.chain {
		return l.placed(CorruptError{Pos: it.Pos, Seq: b.First - 1, Offset: -1, Err: fmt.Errorf(
			"%w: stated %s, computed %s", ErrChain, b.Prev.Short(), l.chain.Short())})
	}
	l.before, l.chain = l.chain, l.sum.link(l.chain, it.Bytes())
	it.Cursor.Chain, it.Cursor.Before = l.chain, l.before
	select {
	case l.items <- *it:
		return nil
	case <-ctx.Done():
		return ErrClosed
	}
}
