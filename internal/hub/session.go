package hub

import (
	"container/list"
	"slices"
	"time"

	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/protocol"
)

// A session keeps at most maxKept messages and maxKeptBytes bytes of them until they are
// acknowledged. The descriptions and candidates of a call take some 30 KB.
const (
	maxKept      = 256
	maxKeptBytes = 512 << 10
)

// session is one signaling connection of one device of a user, from hello to the end of
// its resume window. A resumed session has another line. Guarded by Hub.mu.
type session struct {
	id     protocol.SessionID
	resume string
	user   *user

	line      *Line         // its connection; nil while it has none
	awaySince time.Time     // when it lost its last connection
	away      *list.Element // of Hub.away; nil while it has a connection

	alwaysRelays bool // as the last hello said
	// shows is the device on which the user sees this session's page, or empty if they do
	// not see it. The client says so.
	shows string

	// received is the highest number of the client's messages. kept are the frames with
	// the numbers seq-len(kept)+1 … seq. The frames do not contain the numbers, so that
	// the sessions of several receivers share one frame.
	received, seq uint64
	kept          [][]byte
	bytes         int // what kept takes
	// rings are the numbers of the ring messages among kept, by call; nil if there are none.
	rings map[protocol.CallID]uint64
}

// origin returns the origin of a message or an event of this session now.
func (s *session) origin() origin.Origin {
	from := origin.Origin{Session: s.id, User: s.user.User, AlwaysRelay: s.alwaysRelays}
	if s.line != nil {
		from.Address = s.line.address
	}
	return from
}

// first returns the number of the oldest kept frame.
func (s *session) first() uint64 { return s.seq - uint64(len(s.kept)) + 1 }

// canReplay reports whether all frames after a number are still kept.
func (s *session) canReplay(received uint64) bool {
	return received <= s.seq && received+1 >= s.first()
}

// costOf returns the memory that a kept frame takes, in bytes: the frame and what refers
// to it.
func costOf(frame []byte) int { return len(frame) + 64 }

// forgetLocked drops the frames that the client has acknowledged.
func (h *Hub) forgetLocked(s *session, ack uint64) {
	if ack <= s.seq && ack >= s.first() {
		h.dropKeptLocked(s, int(ack-s.first()+1)) //nolint:gosec // at most maxKept
	}
}

// dropKeptLocked drops the n oldest frames of a session.
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

// keepNoneLocked drops all frames of a session. The session can then be resumed only if
// its client has received them.
func (h *Hub) keepNoneLocked(s *session) { h.dropKeptLocked(s, len(s.kept)) }

// pushLocked puts a frame into a session's queue. If the queue is full of frames that the
// client has not read, the client loses its connection but not its session. If it is full
// of frames that the client has not acknowledged, the oldest are dropped. The session
// cannot be resumed then.
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

// relieveLocked drops queues until an eighth of the node's budget is free. The queues of
// sessions without a connection go first, then the longest ones, whose clients lose their
// connections. A client that acknowledges as it should has a short queue.
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

// withdrawRingLocked keeps a client that comes back from ringing for a call that is over.
// m is the message that was just pushed. If it ends the ringing of a call whose ring
// message has not been written yet, that one is not sent any more. Its number is left out.
func (h *Hub) withdrawRingLocked(s *session, m protocol.Message) {
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

// The limits for the messages of a session (PROTOCOL.md, Limits).
const (
	perSecond = 20
	burst     = 60
	maxOver   = 200 // messages refused by the bucket, less those taken since
	maxBad    = 20  // frames in a row that cannot be decoded
)

// bucket is a token bucket. Each idle session has one, and that of golang.org/x/time/rate
// is ten times as large.
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
