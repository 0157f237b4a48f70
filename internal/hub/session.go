package hub

import (
	"container/list"
	"slices"
	"time"

	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/protocol"
)

// A session keeps so many messages, and so many bytes of them, until they are
// acknowledged. A call's exchange of descriptions and candidates has some 30 KB.
const (
	maxKept      = 256
	maxKeptBytes = 512 << 10
)

// session is one signaling connection of one device of a user, from hello to
// the end of its resume window. Guarded by Hub.mu.
type session struct {
	id     protocol.SessionID
	resume string
	user   *user

	line      *Line         // its connection; nil while it has none
	awaySince time.Time     // when the last connection went
	away      *list.Element // of Hub.away; nil while it has a connection

	alwaysRelays bool // as the last hello said
	// shows is the device whose page the client said last that the person sees; empty: none.
	shows string

	// received is the client's last number. kept are the frames with the numbers
	// seq-len(kept)+1 … seq, without these numbers in them, so that a frame
	// for many is held once.
	received, seq uint64
	kept          [][]byte
	bytes         int // what kept takes
	// rings are the numbers of the rings among kept, by their calls; nil without any.
	rings map[protocol.CallID]uint64
}

// origin is where something comes from that is of this session now.
func (s *session) origin() origin.Origin {
	from := origin.Origin{Session: s.id, User: s.user.User, AlwaysRelay: s.alwaysRelays}
	if s.line != nil {
		from.Address = s.line.address
	}
	return from
}

// first is the number of the oldest kept frame.
func (s *session) first() uint64 { return s.seq - uint64(len(s.kept)) + 1 }

// canReplay reports whether all that came after a number is still kept.
func (s *session) canReplay(received uint64) bool {
	return received <= s.seq && received+1 >= s.first()
}

// costOf is what a kept frame takes: its bytes, and what holds them.
func costOf(frame []byte) int { return len(frame) + 64 }

// forgetLocked drops what the client has.
func (h *Hub) forgetLocked(s *session, ack uint64) {
	if ack <= s.seq && ack >= s.first() {
		h.dropKeptLocked(s, int(ack-s.first()+1)) //nolint:gosec // at most maxKept
	}
}

// dropKeptLocked drops a session's oldest frames, so many.
func (h *Hub) dropKeptLocked(s *session, n int) {
	for i, frame := range s.kept[:n] {
		s.bytes -= costOf(frame)
		h.kept -= costOf(frame)
		s.kept[i] = nil
	}
	if s.kept = s.kept[n:]; len(s.kept) == 0 {
		s.kept = nil // an idle session holds no buffer
	}
}

// keepNoneLocked drops all of a session's frames: it cannot be resumed unless its client
// has them.
func (h *Hub) keepNoneLocked(s *session) { h.dropKeptLocked(s, len(s.kept)) }

// pushLocked puts a frame into a session's queue. A client that does not read
// loses its connection, not its session. What a client has been sent and does not
// acknowledge is dropped when it is too much: then the session cannot be resumed.
func (h *Hub) pushLocked(s *session, frame []byte) {
	for len(s.kept) > 0 && (len(s.kept) >= maxKept || s.bytes+costOf(frame) > maxKeptBytes) {
		if s.line != nil && s.line.sent < s.first() {
			h.dropLocked(s.line, protocol.CloseSlow, "the client did not read")
		}
		h.dropKeptLocked(s, 1)
	}
	s.seq++
	s.kept = append(s.kept, frame)
	s.bytes += costOf(frame)
	if h.kept += costOf(frame); h.kept > h.cfg.MaxKept {
		h.relieveLocked()
	}
	if s.line != nil {
		s.line.wakeLocked()
	}
}

// relieveLocked drops queues until an eighth of the node's budget is free: first those of
// clients that are away, then the longest, whose clients lose their connections. Honest
// clients acknowledge, and have short ones.
func (h *Hub) relieveLocked() {
	var all []*session
	for _, s := range h.sessions {
		if s.bytes > 0 {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *session) int {
		if a.line == nil != (b.line == nil) {
			if a.line == nil {
				return -1
			}
			return 1
		}
		return b.bytes - a.bytes
	})
	for _, s := range all {
		if h.kept <= h.cfg.MaxKept/8*7 {
			return
		}
		if s.line != nil {
			h.dropLocked(s.line, protocol.CloseSlow, "too much waits for clients to acknowledge it")
		}
		h.keepNoneLocked(s)
	}
}

// noteCallLocked sees to it that a client that was away does not ring for a call that is
// over: m was just pushed, and a ring of the same call that the client has not been sent
// is not sent any more. Its number is left out.
func (h *Hub) noteCallLocked(s *session, m protocol.Message) {
	var over protocol.CallID
	switch m := m.(type) {
	case *protocol.Ring:
		if s.rings == nil {
			s.rings = map[protocol.CallID]uint64{}
		}
		s.rings[m.Call] = s.seq
		return
	case *protocol.Ended:
		over = m.Call
	case *protocol.Elsewhere:
		over = m.Call
	default:
		return
	}
	number, rung := s.rings[over]
	if !rung {
		return
	}
	if delete(s.rings, over); len(s.rings) == 0 {
		s.rings = nil
	}
	if number < s.first() || s.line != nil && s.line.sent >= number {
		return
	}
	frame := &s.kept[number-s.first()]
	s.bytes -= len(*frame)
	h.kept -= len(*frame)
	*frame = nil
}

// Limits of what a session may send (PROTOCOL.md, Limits).
const (
	perSecond = 20
	burst     = 60
	maxOver   = 200 // refused for their number, more than taken since
	maxBad    = 20  // no messages at all, in a row
)

// bucket is a token bucket; golang.org/x/time/rate's would be ten times as large,
// once for each idle session.
type bucket struct {
	tokens float64
	at     time.Time
}

func (b *bucket) take(now time.Time, cost float64) bool {
	b.tokens = min(burst, b.tokens+now.Sub(b.at).Seconds()*perSecond)
	b.at = now
	if b.tokens < cost {
		return false
	}
	b.tokens -= cost
	return true
}
