package client

import (
	"fmt"
	"time"

	"github.com/visavis/visavis/protocol"
)

// maxKept is how many messages that the server has not acknowledged are kept (PROTOCOL.md, section 2).
const maxKept = 256

// session is what a client has sent. Guarded by Client.mu.
type session struct {
	sent uint64 // the last number
	kept []sending
}

// sending is a message that the server has not acknowledged.
type sending struct {
	seq    uint64
	frame  []byte           // with its number
	hangup *protocol.Hangup // the message, if it is one: when it is sent again, it says how long ago that was
	at     time.Time        // when a hangup was sent first
}

// add numbers a message and keeps it.
func (s *session) add(m protocol.Message, frame []byte) []byte {
	s.sent++
	next := sending{seq: s.sent, frame: protocol.AppendNumbered(make([]byte, 0, len(frame)+numberRoom), frame, s.sent)}
	if hangup, ok := m.(*protocol.Hangup); ok {
		copied := *hangup
		next.hangup, next.at = &copied, time.Now()
	}
	if len(s.kept) == maxKept {
		s.kept = s.kept[1:]
	}
	s.kept = append(s.kept, next)
	return next.frame
}

// forget drops what the server has.
func (s *session) forget(ack uint64) {
	for len(s.kept) > 0 && s.kept[0].seq <= ack {
		s.kept[0] = sending{}
		s.kept = s.kept[1:]
	}
	if len(s.kept) == 0 {
		s.kept = nil // an idle session holds no buffer
	}
}

// canReplay reports whether all that came after a number is still kept.
func (s *session) canReplay(received uint64) bool {
	return s.sent-uint64(len(s.kept)) <= received && received <= s.sent
}

// again is the frame of a message that is sent once more.
func (s *sending) again() []byte {
	if s.hangup == nil {
		return s.frame
	}
	late := *s.hangup
	late.AgoMs += time.Since(s.at).Milliseconds()
	return protocol.AppendNumbered(nil, protocol.Encode(&late), s.seq)
}

// numberRoom is what a number takes in a frame, at most.
const numberRoom = len(`"seq":18446744073709551615,`)

// Send numbers a message, keeps it until the server has it, and writes it to the connection. While the connection is lost
// the message waits until the session is resumed, so nil does not mean that the server has it.
//
// The error is a [*protocol.Error] for a message that breaks a limit of the protocol, of which nothing is sent, and what
// [Client.Err] is once the client has ended. What the server refuses comes as a message.
//
// Send blocks while the server does not read, for ten seconds at most; the connection is then given up. The server takes
// 20 messages a second, in bursts of 60 (PROTOCOL.md, Limits).
func (c *Client) Send(m protocol.Message) error {
	if refused := protocol.Check(m); refused != nil {
		return refused
	}
	frame := protocol.Encode(m)
	if len(frame)+numberRoom > protocol.MaxFrame {
		return protocol.Errorf(protocol.CodeBadMessage, fmt.Sprintf("%s: longer than %d bytes", m.Type(), protocol.MaxFrame))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.Err(); err != nil {
		return err
	}
	switch m := m.(type) {
	case *protocol.Hello, *protocol.Pong:
		return protocol.Errorf(protocol.CodeWrongState, m.Type()+": the client says that itself")
	case *protocol.Show:
		c.hello.Device, c.hello.Visible = m.Device, m.Visible
	case *protocol.Prefer:
		c.hello.WhenBusy, c.hello.DoNotDisturb = m.WhenBusy, m.DoNotDisturb
	}
	if _, unnumbered := m.(*protocol.Show); !unnumbered {
		frame = c.session.add(m, frame)
	}
	if conn := c.current.Load(); conn != nil {
		conn.write(frame)
	}
	return nil
}

// nextHello is how the client comes back.
func (c *Client) nextHello() *protocol.Hello {
	c.mu.Lock()
	defer c.mu.Unlock()
	hello := c.hello
	if w := c.welcome.Load(); w != nil {
		hello.Received, hello.PresenceAt, hello.Reload = c.received, c.presenceAt, false
	}
	return &hello
}

// begin begins or takes up a session by a welcome, and sends again what the server has not received. It reports false
// if that is no longer kept.
func (c *Client) begin(conn *connection, w *protocol.Welcome) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.session
	switch {
	case !w.Resumed:
		*s, c.received = session{}, 0
	case c.welcome.Load() == nil: // of an earlier process
		s.sent = w.Received
	default:
		s.forget(w.Received)
		if !s.canReplay(w.Received) {
			c.hello.Resume = "" // the server must not go on with a gap
			return false
		}
	}
	c.hello.Resume = w.Resume
	if w.Token != "" {
		c.hello.Token = w.Token
	}
	c.presenceAt = w.PresenceAt
	c.welcome.Store(w)
	for i := range s.kept {
		conn.write(s.kept[i].again())
	}
	if shows := (protocol.Show{Device: c.hello.Device, Visible: c.hello.Visible}); shows != conn.shows {
		conn.write(protocol.Encode(&shows)) // changed since hello
	}
	c.current.Store(conn)
	return true
}

// acknowledged drops what the server has.
func (c *Client) acknowledged(ack uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session.forget(ack)
}
