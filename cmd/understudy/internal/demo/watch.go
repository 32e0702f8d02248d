package demo

import (
	"context"
	"fmt"
	"time"

	"understudy.dev/admin"
	"understudy.dev/journal"
)

// sampleEvery is how often the standby is asked how far behind it is.
const sampleEvery = 250 * time.Millisecond

// watch shows how the load goes on, and samples b's lag until the kill.
func (s *show) watch(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	shown := time.Now()
	for {
		if !s.killed.Load() {
			s.sample(ctx)
		}
		if s.terminal || time.Since(shown) >= s.every() {
			shown = time.Now()
			f, behind := s.load.figures(), ""
			if !s.killed.Load() {
				behind = s.behind()
			}
			s.show("load      %s of %s acknowledged%s", grouped(f.answered), grouped(len(s.load.ops)), behind)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *show) sample(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if st, err := s.b.Status(ctx); err == nil && st.Role == admin.Standby {
		s.lag.Store(&st.Lag)
	}
}

// behind tells how far b was behind at the last sample, if that is known.
func (s *show) behind() string {
	lag := s.lag.Load()
	switch {
	case lag == nil || lag.Records == nil:
		return ""
	case lag.Seconds == nil:
		return fmt.Sprintf("   b behind %s records", grouped(*lag.Records))
	}
	return fmt.Sprintf("   b behind %s records, %s", grouped(*lag.Records), millis(*lag.Seconds*1000))
}

// acknowledged counts what was answered as carried out.
func (s *show) acknowledged() int {
	n := 0
	for i := range s.load.told {
		if s.load.told[i].acknowledged() {
			n++
		}
	}
	return n
}

// lastSeq returns the last record that an answer named.
func (l *load) lastSeq() journal.Seq {
	var last journal.Seq
	for i := range l.told {
		last = max(last, l.told[i].Seq)
	}
	return last
}
