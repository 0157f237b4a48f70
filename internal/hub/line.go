package hub

import (
	"cmp"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/protocol"
)

// Line is one connection of a session. Its reader, who got it from
// [Hub.Attach], calls Receive, and at the end Lost or Left.
type Line struct {
	hub     *Hub
	session *session
	conn    Conn
	address netip.Addr // of conn
	resumed bool

	// Guarded by Hub.mu. The line is the session's as long as session.line is it.
	urgent [][]byte // welcome and pings, which have no number
	// watches says that the client asked for presence. It was told of version presence.
	watches  bool
	presence uint64
	sent     uint64 // the number of the last kept frame that was written
	writing  bool   // somebody writes, or the line is due
	seen     time.Time

	// Owned by the reader.
	bucket    bucket
	over, bad int // refused for their number, more than taken; no messages, in a row
}

// Session names the session of this line.
func (l *Line) Session() protocol.SessionID { return l.session.id }

// Resume is the secret that takes up the session again.
func (l *Line) Resume() string { return l.session.resume }

// Resumed reports whether the session was there before this line.
func (l *Line) Resumed() bool { return l.resumed }

// Receive takes one frame of the client. Only one goroutine at a time may call
// it; it takes no longer than the handler does.
func (l *Line) Receive(frame []byte) {
	if !l.hub.guard("a message", func() { l.receive(frame) }) {
		l.close(protocol.CloseInternal, "the server failed")
	}
}

func (l *Line) receive(frame []byte) {
	now := time.Now()
	if refused := l.admit(now, 1); refused != nil {
		l.refuseUnread(frame, refused, now)
		return
	}
	m, env, err := protocol.Decode(frame)
	if err == nil {
		l.bad = 0
	}
	from, fresh := l.hear(env.Seq, now)
	if !fresh {
		return
	}
	if err != nil {
		listed := protocol.Errorf(protocol.CodeInternal, "the server failed")
		errors.As(err, &listed)
		l.answer(listed)
		if l.bad++; l.bad > maxBad {
			l.close(protocol.CloseBadMessage, "no messages of this protocol")
		}
		return
	}
	if refused := l.act(from, m); refused != nil {
		l.answer(about(env, refused))
	}
}

// Admit counts one event of a client that does not send frames of this protocol, as
// Receive counts a frame. cost is 1 for an event that is worth a message, and less for one
// that is worth less. The error says that the event came too soon and must not be acted
// on. Too many of these close the connection. The reader calls it.
func (l *Line) Admit(cost float64) *protocol.Error {
	refused := l.admit(time.Now(), cost)
	if refused != nil {
		l.hub.metrics.refused.WithLabelValues(string(refused.Code)).Inc()
	}
	return refused
}

// admit takes from the bucket of the line. The answers to what it refuses are bounded,
// because the connection is closed after maxOver of them.
func (l *Line) admit(now time.Time, cost float64) *protocol.Error {
	if l.bucket.take(now, cost) {
		l.over = max(0, l.over-1)
		return nil
	}
	if l.over++; l.over > maxOver {
		l.close(protocol.CloseFlood, "too many messages")
	}
	return protocol.Errorf(protocol.CodeRateLimited, "too many messages; wait a second")
}

// Say takes a message that the reader has made from an event which Admit let through. It
// has no number and does not count. The error says why the message was refused, and then
// nothing was done; it is not sent to the client.
func (l *Line) Say(m protocol.Message) *protocol.Error {
	refused := protocol.Check(m)
	if refused != nil {
		return refused
	}
	if !l.hub.guard("a message", func() { refused = l.say(m) }) {
		l.close(protocol.CloseInternal, "the server failed")
		return protocol.Errorf(protocol.CodeInternal, "the server failed")
	}
	if refused != nil {
		l.hub.metrics.refused.WithLabelValues(string(refused.Code)).Inc()
	}
	return refused
}

func (l *Line) say(m protocol.Message) *protocol.Error {
	from, fresh := l.hear(0, time.Now())
	if !fresh {
		return protocol.Errorf(protocol.CodeInternal, "the connection was lost before this was read; send it again")
	}
	return l.act(from, m)
}

// act does what a message asks for.
func (l *Line) act(from origin.Origin, m protocol.Message) *protocol.Error {
	switch m := m.(type) {
	case *protocol.Pong:
		l.hub.mu.Lock()
		l.hub.forgetLocked(l.session, m.Ack)
		l.hub.mu.Unlock()
	case *protocol.Prefer:
		l.hub.mu.Lock()
		l.session.user.prefers = *m
		l.hub.mu.Unlock()
	case *protocol.Show:
		defer l.hub.tell()
		l.hub.mu.Lock()
		defer l.hub.mu.Unlock()
		if l.session.line == l {
			l.hub.showLocked(l.session, m.Device, m.Visible)
		}
	case *protocol.Hello:
		return protocol.Errorf(protocol.CodeWrongState, "hello was said already")
	default:
		l.hub.metrics.received.WithLabelValues(m.Type()).Inc()
		return l.hub.handler.HandleMessage(from, m)
	}
	return nil
}

// refuseUnread answers a message that is not acted on, and takes note of its number, so
// that it is not sent again.
func (l *Line) refuseUnread(frame []byte, refused *protocol.Error, now time.Time) {
	_, env, _ := protocol.Decode(frame)
	if _, fresh := l.hear(env.Seq, now); fresh {
		l.answer(about(env, refused))
	}
}

// about is a refusal with the ref and the call of the message that was refused.
func about(env protocol.Envelope, refused *protocol.Error) *protocol.Error {
	e := *refused
	e.Ref, e.Call = cmp.Or(e.Ref, env.Ref), cmp.Or(e.Call, env.Call)
	return &e
}

// hear reports where a message comes from, and whether one of this number is
// new, on a line that is still the session's.
func (l *Line) hear(seq uint64, now time.Time) (from origin.Origin, fresh bool) {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	s := l.session
	if s.line != l {
		return from, false
	}
	l.seen = now
	if seq != 0 {
		if seq <= s.received {
			return from, false
		}
		s.received = seq
	}
	return s.origin(), true
}

func (l *Line) answer(e *protocol.Error) {
	l.hub.metrics.refused.WithLabelValues(string(e.Code)).Inc()
	l.hub.SendSession(l.session.id, e)
}

// close closes the connection; the session can be resumed.
func (l *Line) close(code protocol.CloseCode, reason string) {
	defer l.hub.tell()
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	l.hub.dropLocked(l, code, reason)
}

// Lost says that the connection is gone. The session waits for the client.
func (l *Line) Lost() {
	defer l.hub.tell()
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	l.hub.awayLocked(l, l.hub.handler.ConnectionLost)
}

// PageClosed is Lost of a connection that went because its page did.
func (l *Line) PageClosed() {
	defer l.hub.tell()
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	l.hub.awayLocked(l, l.hub.handler.PageClosed)
}

// Left says that the client closed the connection for good.
func (l *Line) Left() {
	defer l.hub.tell()
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	if l.session.line == l {
		l.hub.showLocked(l.session, "", false)
		l.session.line = nil
		l.hub.endLocked(l.session)
	}
}

// dropLocked closes a connection from our side.
func (h *Hub) dropLocked(l *Line, code protocol.CloseCode, reason string) {
	if l.session.line != l {
		return
	}
	h.metrics.closed.WithLabelValues(reason).Inc()
	h.awayLocked(l, h.handler.ConnectionLost)
	h.goLocked(func() { h.hangUp(l.conn, code, reason) })
}

// awayLocked leaves the session without connection, which news tells.
func (h *Hub) awayLocked(l *Line, news func(origin.Origin)) {
	s := l.session
	if s.line != l {
		return
	}
	now := time.Now()
	s.line, s.awaySince = nil, now
	h.away.add(s)
	h.noteAwayLocked(s.user, now)
	h.newsLocked(s, news)
	h.showLocked(s, "", false)
}

// wakeLocked sees to it that somebody writes to the line, who does not yet: the
// caller of tell, once it has let go of the lock.
func (l *Line) wakeLocked() {
	if !l.writing {
		l.writing = true
		l.hub.writing++
		l.hub.due = append(l.hub.due, l)
	}
}

// outgoing is a frame that is to be written, with its number; 0 is none.
type outgoing struct {
	frame []byte
	seq   uint64
}

// scratch holds one frame with its number while it is written.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// in is the frame as it is written, in a buffer from scratch when it has a number.
func (o outgoing) in(buffer *[]byte) []byte {
	if o.seq == 0 {
		return o.frame
	}
	*buffer = protocol.AppendNumbered((*buffer)[:0], o.frame, o.seq)
	return *buffer
}

// writePromptly writes what is due as far as that needs no waiting, and leaves the
// rest to a goroutine. An idle session has none of ours.
func (l *Line) writePromptly(conn Prompt) {
	buffer := scratch.Get().(*[]byte) //nolint:forcetypeassert // nothing else is in it
	defer scratch.Put(buffer)
	for frames := l.take(); frames != nil; frames = l.take() {
		for i, f := range frames {
			sent, err := false, errors.New("the connection failed") // should TrySend panic
			l.hub.guard("a connection", func() { sent, err = conn.TrySend(f.in(buffer)) })
			if err != nil {
				l.close(protocol.CloseSlow, "the client did not read")
				break
			}
			if !sent {
				l.hub.mu.Lock()
				l.hub.goLocked(func() { l.writeOn(frames[i:]) })
				l.hub.mu.Unlock()
				return
			}
		}
	}
}

// restLocked says that nobody writes to the line now.
func (l *Line) restLocked() {
	l.writing = false
	l.hub.writing--
	if l.hub.writing == 0 && l.hub.written != nil {
		close(l.hub.written)
		l.hub.written = nil
	}
}

// writeOn is write in a goroutine of its own.
func (l *Line) writeOn(frames []outgoing) {
	if !l.hub.guard("a connection", func() { l.write(frames) }) {
		l.close(protocol.CloseInternal, "the server failed")
	}
}

// write writes frames and what else is due, in order, until nothing is.
func (l *Line) write(frames []outgoing) {
	buffer := scratch.Get().(*[]byte) //nolint:forcetypeassert // nothing else is in it
	defer scratch.Put(buffer)
	if frames == nil {
		frames = l.take()
	}
	for ; frames != nil; frames = l.take() {
		for _, f := range frames {
			err := errors.New("the connection failed") // should Send panic
			l.hub.guard("a connection", func() { err = l.conn.Send(f.in(buffer)) })
			if err != nil {
				l.close(protocol.CloseSlow, "the client did not read")
				break
			}
		}
	}
}

// take takes the frames to be written now; without any, or when the line is no
// longer the session's, the writer has ended.
func (l *Line) take() []outgoing {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	s := l.session
	if s.line != l {
		l.restLocked()
		return nil
	}
	l.sent = max(l.sent, s.first()-1)
	n := len(l.urgent) + int(s.seq-l.sent) //nolint:gosec // at most maxKept
	behind := l.watches && l.presence < l.hub.presence.version
	if n == 0 && !behind {
		l.restLocked()
		return nil
	}
	frames := make([]outgoing, 0, n)
	for _, f := range l.urgent {
		frames = append(frames, outgoing{frame: f})
	}
	l.urgent = nil
	if behind {
		frames = append(frames, outgoing{frame: l.hub.presenceFrameLocked(l.presence)})
		l.presence = l.hub.presence.version
	}
	for ; l.sent < s.seq; l.sent++ {
		if frame := s.kept[l.sent+1-s.first()]; frame != nil { // see noteCallLocked
			frames = append(frames, outgoing{frame, l.sent + 1})
		}
	}
	return frames
}
