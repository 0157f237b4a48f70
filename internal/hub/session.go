package hub

import (
	"time"

	"github.com/visavis/visavis/protocol"
)

// maxKept is how many messages a session keeps until they are acknowledged.
const maxKept = 256

// session is one signaling connection of one device of a user, from hello to
// the end of its resume window. Guarded by Hub.mu.
type session struct {
	id     protocol.SessionID
	resume string
	user   *user

	line      *Line     // its connection; nil while it has none
	awaySince time.Time // when the last connection went

	alwaysRelays bool // as the last hello said

	// received is the client's last number. kept are the frames with the numbers
	// seq-len(kept)+1 … seq, without these numbers in them, so that a frame
	// for many is held once.
	received, seq uint64
	kept          [][]byte
}

// first is the number of the oldest kept frame.
func (s *session) first() uint64 { return s.seq - uint64(len(s.kept)) + 1 }

// canReplay reports whether all that came after a number is still kept.
func (s *session) canReplay(received uint64) bool {
	return received <= s.seq && received+1 >= s.first()
}

// forget drops what the client has.
func (s *session) forget(ack uint64) {
	if ack > s.seq || ack < s.first() {
		return
	}
	n := ack - s.first() + 1
	if n == uint64(len(s.kept)) {
		s.kept = nil // an idle session holds no buffer
		return
	}
	clear(s.kept[:n])
	s.kept = s.kept[n:]
}

// pushLocked puts a frame into a session's queue. A client that does not read
// loses its connection, not its session.
func (h *Hub) pushLocked(s *session, frame []byte) {
	if len(s.kept) >= maxKept {
		if s.line != nil && s.line.sent < s.first() {
			h.dropLocked(s.line, protocol.CloseSlow, "the client did not read")
		}
		s.kept[0] = nil
		s.kept = s.kept[1:]
	}
	s.seq++
	s.kept = append(s.kept, frame)
	if s.line != nil {
		s.line.wakeLocked()
	}
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
