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

// Line is one connection of a session. The goroutine that reads from the connection gets
// it from [Hub.Attach]. It calls Receive for each frame, and at the end Lost, PageClosed
// or Left.
type Line struct {
	hub     *Hub
	session *session
	conn    Conn
	address netip.Addr // of conn
	resumed bool

	// Guarded by Hub.mu. The line is in use while session.line is this line.
	urgent [][]byte // welcome and pings, which have no number
	// watches says that the client asked for presence. presence is the version that it
	// was told last.
	watches  bool
	presence uint64
	sent     uint64    // the number of the last kept frame that was written
	writing  bool      // the line has a writer, or is in Hub.unwritten
	seen     time.Time // when the client was last heard from

	// Owned by the reader.
	bucket bucket
	over   int // messages refused by the bucket, less those taken since
	bad    int // frames in a row that could not be decoded
}

// Session returns the id of the line's session.
func (l *Line) Session() protocol.SessionID { return l.session.id }

// Resume returns the secret token by which the client can resume the session.
func (l *Line) Resume() string { return l.session.resume }

// Resumed reports whether this line resumed a session that was there before.
func (l *Line) Resumed() bool { return l.resumed }

// Receive handles one frame of the client. Only one goroutine at a time may call it. It
// blocks for as long as the handler's HandleMessage does.
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
// Receive counts a frame. A cost of 1 is that of a message. If Admit returns an error,
// the event came too soon and must not be acted on. Too many of these close the
// connection. Only the reader may call Admit.
func (l *Line) Admit(cost float64) *protocol.Error {
	refused := l.admit(time.Now(), cost)
	if refused != nil {
		l.hub.metrics.refused.WithLabelValues(string(refused.Code)).Inc()
	}
	return refused
}

// admit takes cost from the bucket of the line, or returns an error. It closes the
// connection after maxOver errors, which bounds the answers that a client can cause.
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

// Say handles a message that the reader has made from an event which Admit let through.
// The message has no number and takes nothing from the bucket. If Say returns an error,
// the message had no effect. The caller has to tell the client.
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

// act handles the messages that concern the hub, and gives the others to the handler.
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
		defer l.hub.flush()
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

// refuseUnread answers a frame with an error instead of acting on it. It acknowledges the
// number of the message, so that the client does not send it again.
func (l *Line) refuseUnread(frame []byte, refused *protocol.Error, now time.Time) {
	_, env, _ := protocol.Decode(frame)
	if _, fresh := l.hear(env.Seq, now); fresh {
		l.answer(about(env, refused))
	}
}

// about returns an error with the ref and the call of the message that it answers.
func about(env protocol.Envelope, refused *protocol.Error) *protocol.Error {
	e := *refused
	e.Ref, e.Call = cmp.Or(e.Ref, env.Ref), cmp.Or(e.Call, env.Call)
	return &e
}

// hear records that a message has arrived. It returns the message's origin. fresh is false
// if a message with this number was received before, or if the session no longer uses
// this line.
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

// close closes the connection. The session can be resumed.
func (l *Line) close(code protocol.CloseCode, reason string) {
	defer l.hub.flush()
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	l.hub.dropLocked(l, code, reason)
}

// Lost tells the hub that the connection is gone. The session can be resumed.
func (l *Line) Lost() {
	defer l.hub.flush()
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	l.hub.awayLocked(l, l.hub.handler.ConnectionLost)
}

// PageClosed tells the hub that the connection is gone because its page was closed. The
// session can be resumed, by a reload.
func (l *Line) PageClosed() {
	defer l.hub.flush()
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	l.hub.awayLocked(l, l.hub.handler.PageClosed)
}

// Left tells the hub that the client has closed the connection for good. The session ends.
func (l *Line) Left() {
	defer l.hub.flush()
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	if l.session.line == l {
		l.hub.showLocked(l.session, "", false)
		l.session.line = nil
		l.hub.endLocked(l.session)
	}
}

// dropLocked closes the connection of a session, which can be resumed.
func (h *Hub) dropLocked(l *Line, code protocol.CloseCode, reason string) {
	if l.session.line != l {
		return
	}
	h.metrics.closed.WithLabelValues(reason).Inc()
	h.awayLocked(l, h.handler.ConnectionLost)
	h.goLocked(func() { h.hangUp(l.conn, code, reason) })
}

// awayLocked takes the line from its session, and queues the event that reports it.
func (h *Hub) awayLocked(l *Line, event func(origin.Origin)) {
	s := l.session
	if s.line != l {
		return
	}
	now := time.Now()
	s.line, s.awaySince = nil, now
	h.away.add(s)
	h.noteAwayLocked(s.user, now)
	h.eventLocked(s, event)
	h.showLocked(s, "", false)
}

// wakeLocked makes the next flush write to the line, unless the line has a writer already.
func (l *Line) wakeLocked() {
	if !l.writing {
		l.writing = true
		l.hub.writing++
		l.hub.unwritten = append(l.hub.unwritten, l)
	}
}

// outgoing is a frame to write, with its number. The number 0 stands for no number.
type outgoing struct {
	frame []byte
	seq   uint64
}

// scratch has buffers for one frame with its number while it is written.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// in returns the frame as it is written. A frame with a number is put together in buffer.
func (o outgoing) in(buffer *[]byte) []byte {
	if o.seq == 0 {
		return o.frame
	}
	*buffer = protocol.AppendNumbered((*buffer)[:0], o.frame, o.seq)
	return *buffer
}

// tryWrite writes frames until the connection would block. Then it starts a goroutine for
// the rest. An idle session therefore has no goroutine of the hub.
func (l *Line) tryWrite(conn TrySender) {
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

// doneWritingLocked records that the line has no writer any more.
func (l *Line) doneWritingLocked() {
	l.writing = false
	l.hub.writing--
	if l.hub.writing == 0 && l.hub.written != nil {
		close(l.hub.written)
		l.hub.written = nil
	}
}

// writeOn is write for a goroutine of its own: it contains a panic.
func (l *Line) writeOn(frames []outgoing) {
	if !l.hub.guard("a connection", func() { l.write(frames) }) {
		l.close(protocol.CloseInternal, "the server failed")
	}
}

// write writes the given frames, and then all others of the line in order, until there are
// none. It may block.
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

// take returns the frames to write now. If there are none, or if the session no longer uses
// this line, it returns nil and the line has no writer any more.
func (l *Line) take() []outgoing {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	s := l.session
	if s.line != l {
		l.doneWritingLocked()
		return nil
	}
	l.sent = max(l.sent, s.first()-1)
	n := len(l.urgent) + int(s.seq-l.sent) //nolint:gosec // at most maxKept
	behind := l.watches && l.presence < l.hub.presence.version
	if n == 0 && !behind {
		l.doneWritingLocked()
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
		if frame := s.kept[l.sent+1-s.first()]; frame != nil { // nil: see withdrawRingLocked
			frames = append(frames, outgoing{frame, l.sent + 1})
		}
	}
	return frames
}
