package socketio

import (
	"cmp"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/internal/hub"
	"github.com/visavis/visavis/protocol"
)

// session is a session of the hub as its page sees it, across the connections that the page
// has one after another.
type session struct {
	server *Server
	user   protocol.UserID
	name   string // by which the page entered
	// expiry forgets the session when the hub has.
	expiry *time.Timer

	mu         sync.Mutex  // guards all below: one event or frame at a time
	connection *connection // nil while there is none
	line       *hub.Line   // the hub's side of the connection, or of the last one
	received   uint64      // the number of the last frame of the hub
	waiting    []string    // packets that the last connection did not take
	page       page
}

func newSession(server *Server, user protocol.UserID, name string) *session {
	s := &session{server: server, user: user, name: name}
	s.page = page{emit: s.emit, say: s.say, find: server.find}
	s.expiry = time.AfterFunc(time.Hour, server.contained(inTimer, s.expire))
	s.expiry.Stop()
	return s
}

// attach gives the session a connection and a line of the hub.
func (s *session) attach(c *connection, who account.Visitor) *protocol.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.carry(s) {
		return protocol.Errorf(protocol.CodeInternal, "the connection has gone")
	}
	// Such a page has one call at a time, and cannot tell its user that another one waits.
	hello := &protocol.Hello{Version: protocol.Version, Presence: true, Received: s.received, WhenBusy: protocol.AnswerBusy}
	if s.line != nil {
		hello.Resume = s.line.Resume()
	}
	if s.connection != nil { // the client has lost it before we have; the hub closes it
		s.waiting = s.connection.detach()
	}
	line, refused := s.server.cfg.Admission.Attach(c, who, hello)
	if refused != nil {
		c.carry(nil)
		return refused
	}
	s.server.keep(s, hello.Resume, line.Resume())
	again := s.line != nil
	s.connection, s.line = c, line
	c.stopWaiting()
	c.put(encodePacket(packetConnect, "", map[string]string{"sid": string(line.Session()), "pid": line.Resume()}))
	c.putBack(s.waiting)
	s.waiting = nil
	if again && !line.Resumed() {
		s.received = 0
		s.page.lost()
	}
	return nil
}

// lost takes note that a connection has ended, and of the packets that it did not take.
func (s *session) lost(c *connection, waiting []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connection != c {
		if s.connection != nil { // the page was back before we knew
			s.connection.putBack(waiting)
		}
		return
	}
	s.connection, s.waiting = nil, waiting
	s.server.expireLater(s)
	s.line.Lost()
}

// left takes note that the page has disconnected for good.
func (s *session) left(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connection == c {
		s.connection = nil
		s.line.Left()
		s.server.keep(s, s.line.Resume(), "")
	}
}

func (s *session) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connection == nil {
		s.server.keep(s, s.line.Resume(), "")
	}
}

// event acts on an event of the page, and acknowledges it.
func (s *session) event(c *connection, p packet) {
	var args []json.RawMessage
	var name string
	if json.Unmarshal([]byte(p.data), &args) != nil || len(args) == 0 || json.Unmarshal(args[0], &name) != nil {
		s.refuse(c, p.id, protocol.Errorf(protocol.CodeBadMessage, "an event has a name and an object"))
		return
	}
	s.act(c, p.id, costOf(name), func(tooSoon *protocol.Error) *protocol.Error {
		return s.page.event(name, append(args, nil)[1], tooSoon)
	})
}

// costOf is how much an event counts. Each candidate comes in an event of its own here. A
// hundred of them, as many as one message of our protocol may have, must not use up the burst.
func costOf(event string) float64 {
	if event == "candidate" {
		return 0.25
	}
	return 1
}

// refuse answers an event that could not be read.
func (s *session) refuse(c *connection, id string, refused *protocol.Error) {
	s.act(c, id, 1, func(tooSoon *protocol.Error) *protocol.Error {
		return s.page.fail(cmp.Or(tooSoon, refused), "")
	})
}

// count counts a packet that is no event like one: nothing else bounds such packets. Before
// somebody enters, s is nil and the time for entering bounds them.
func (s *session) count(c *connection) {
	if s != nil {
		s.act(c, "", 1, func(*protocol.Error) *protocol.Error { return nil })
	}
}

// act counts an event, then calls do, and acknowledges the event with the result of do. If
// the event came too soon, do must not act on it and only tells the page.
func (s *session) act(c *connection, id string, cost float64, do func(tooSoon *protocol.Error) *protocol.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connection != c {
		return
	}
	refused := do(s.line.Admit(cost))
	if id == "" {
		return
	}
	result := map[string]any{"ok": true}
	if refused != nil {
		result = map[string]any{"error": refused}
	}
	s.connection.put(encodePacket(packetAck, id, []any{result}))
}

// emit sends an event to the page.
func (s *session) emit(event string, payload any) {
	s.connection.put(encodePacket(packetEvent, "", []any{event, payload}))
}

// say hands the hub a message, as if the page had sent it.
func (s *session) say(m protocol.Message) *protocol.Error { return s.line.Say(m) }

var errGone = errors.New("the connection has gone")

// frame acts on a frame of the hub.
func (s *session) frame(c *connection, frame []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connection != c {
		return errGone
	}
	m, env, err := protocol.Decode(frame)
	if err != nil {
		return err
	}
	if env.Seq != 0 {
		if env.Seq <= s.received {
			return nil
		}
		s.received = env.Seq
	}
	s.page.message(m)
	// The message has arrived here, and this also answers a ping. The hub refuses it for a lost connection only.
	_ = s.say(&protocol.Pong{Ack: s.received})
	return nil
}
