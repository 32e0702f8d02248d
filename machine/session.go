package machine

// A session remembers the answers of one client, so that a retry gets the first
// answer and is not carried out again. It is replicated state: it changes only
// in ApplyBatch.
type session struct {
	id      uint64
	ordered bool
	low     uint64 // lowest unanswered request; answers below are dropped
	last    uint64 // highest request carried out
	slots   []slot // ring by request number; its length is a power of two

	newer, older *session // by last use
}

// A slot is a remembered answer. Its buffer is used again.
type slot struct {
	number uint64 // 0: empty
	code   Code
	reply  []byte
}

// minSlots is how many answers a new session has room for; rings grow up to the
// window, so that many small sessions stay small.
const minSlots = 8

// find returns the remembered answer of a request, or nil.
func (s *session) find(number uint64) *slot {
	if sl := &s.slots[number%uint64(len(s.slots))]; sl.number == number {
		return sl
	}
	return nil
}

// store returns the slot for a new answer. number is below low+window.
func (s *session) store(number uint64) *slot {
	for number-s.low >= uint64(len(s.slots)) {
		s.grow()
	}
	sl := &s.slots[number%uint64(len(s.slots))]
	sl.number = number
	return sl
}

func (s *session) grow() {
	old := s.slots
	s.slots = make([]slot, 2*len(old))
	for _, sl := range old {
		if sl.number >= s.low {
			s.slots[sl.number%uint64(len(s.slots))] = sl
		}
	}
}

// check decides whether a request is carried out (OK, nil), was answered before
// (its slot), or is refused without being carried out. low is what the client
// says of its lowest unanswered request.
func (s *session) check(number, low, window uint64) (Code, *slot) {
	if low > s.low {
		s.low = low
	}
	switch {
	case number < s.low:
		return Forgotten, nil
	case number-s.low >= window:
		return Beyond, nil
	}
	if sl := s.find(number); sl != nil {
		return sl.code, sl
	}
	if s.ordered && number != s.last+1 {
		return Hole, nil
	}
	return OK, nil
}

// sessions is the set of open sessions, at most max; the least recently used one
// goes first.
type sessions struct {
	max            int
	byID           map[uint64]*session
	newest, oldest *session
}

func newSessions(limit int) sessions {
	return sessions{max: limit, byID: make(map[uint64]*session)}
}

// open adds a session and drops the least recently used one if there are too many.
func (ss *sessions) open(id uint64, ordered bool) {
	s := &session{id: id, ordered: ordered, low: 1, slots: make([]slot, minSlots)}
	ss.byID[id] = s
	ss.push(s)
	if len(ss.byID) > ss.max {
		gone := ss.oldest
		ss.unlink(gone)
		delete(ss.byID, gone.id)
	}
}

// use returns a session and marks it as the most recently used, or nil.
func (ss *sessions) use(id uint64) *session {
	s := ss.byID[id]
	if s != nil && s != ss.newest {
		ss.unlink(s)
		ss.push(s)
	}
	return s
}

func (ss *sessions) push(s *session) {
	s.older, s.newer = ss.newest, nil
	if ss.newest != nil {
		ss.newest.newer = s
	} else {
		ss.oldest = s
	}
	ss.newest = s
}

func (ss *sessions) unlink(s *session) {
	if s.newer != nil {
		s.newer.older = s.older
	} else {
		ss.newest = s.older
	}
	if s.older != nil {
		s.older.newer = s.newer
	} else {
		ss.oldest = s.newer
	}
}
