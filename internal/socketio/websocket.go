package socketio

import (
	"errors"
	"net/http"
	"time"

	"github.com/lxzan/gws"

	"github.com/visavis/visavis/protocol"
)

// upgradeTimeout is how long a WebSocket has for its probe, from its handshake to packet "5".
const upgradeTimeout = 10 * time.Second

// socketState is what gws keeps with each WebSocket.
type socketState struct {
	gws.SessionStorage // never used; gws asks for one
	connection         *connection
	release            func() // of [Admission.Upgrade]
	probing            bool   // it has not become the transport yet; owned by the reader
}

func stateOf(socket *gws.Conn) *socketState {
	state, _ := socket.Session().(*socketState)
	return state
}

func newUpgrader() *gws.Upgrader {
	return gws.NewUpgrader(events{}, &gws.ServerOption{
		ReadMaxPayloadSize: protocol.MaxFrame,
		ReadBufferSize:     1 << 10,
		WriteBufferSize:    1 << 10,
		NewSession:         func() gws.SessionStorage { return &socketState{} },
	})
}

// webSocket makes a request a WebSocket. It is the transport of a fresh connection at once,
// and of another connection after a probe.
func (s *Server) webSocket(w http.ResponseWriter, r *http.Request, c *connection, fresh bool) {
	socket, release, err := s.cfg.Admission.Upgrade(s.upgrader, w, r)
	if err != nil { // it has been answered
		if fresh {
			c.end(protocol.CloseNoHello, "no WebSocket")
		}
		return
	}
	state := stateOf(socket)
	state.connection, state.release, state.probing = c, release, !fresh
	if fresh {
		c.put(c.open())
		c.use(socket, fresh)
	} else if !c.mayProbe(socket) {
		_ = socket.WriteClose(1000, []byte("there is a WebSocket already"))
	}
	s.start(socket.ReadLoop, func() {
		c.failed()
		release()
	})
}

// mayProbe reports whether a WebSocket may prove that it works. One at a time may.
func (c *connection) mayProbe(socket *gws.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.socket != nil || c.probe != nil {
		return false
	}
	_ = socket.SetReadDeadline(time.Now().Add(upgradeTimeout))
	c.probe = socket
	return true
}

// probed takes note that the probe was answered. A request that waits for packets is
// answered now, so that the client can stop asking.
func (c *connection) probed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.probeWorks = true
	signal(c.grown)
}

// stopProbe takes note that the WebSocket which might have taken over is gone.
func (c *connection) stopProbe(socket *gws.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.probe == socket {
		c.probe, c.probeWorks = nil, false
	}
}

// use makes a WebSocket the transport if the connection is fresh or the WebSocket has proved
// that it works. It closes any other WebSocket.
func (c *connection) use(socket *gws.Conn, fresh bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || !fresh && (c.probe != socket || !c.probeWorks) {
		go c.server.contained(inConnection, func() { _ = socket.WriteClose(1000, nil) })()
		return false
	}
	_ = socket.SetReadDeadline(time.Time{})
	c.socket, c.probe = socket, nil
	c.server.start(func() { c.write(socket) }, c.failed)
	signal(c.grown) // for a request that waits
	return true
}

// write writes all packets to a WebSocket until the connection ends.
func (c *connection) write(socket *gws.Conn) {
	for {
		packets := c.take(false, nil)
		if packets == nil {
			return
		}
		for i, p := range packets {
			if socket.SetWriteDeadline(time.Now().Add(sendTimeout)) == nil && socket.WriteString(p) == nil {
				continue
			}
			c.mu.Lock()
			c.out = append(packets[i:], c.out...)
			c.mu.Unlock()
			c.end(protocol.CloseSlow, errSlow.Error())
			return
		}
	}
}

// events are gws' callbacks.
type events struct{ gws.BuiltinEventHandler }

// OnPing answers, as RFC 6455 §5.5.2 asks, and counts the ping like a packet.
func (events) OnPing(socket *gws.Conn, payload []byte) {
	_ = socket.WritePong(payload)
	stateOf(socket).connection.countControl()
}

// OnPong counts a pong that the server did not ask for.
func (events) OnPong(socket *gws.Conn, _ []byte) { stateOf(socket).connection.countControl() }

func (events) OnMessage(socket *gws.Conn, message *gws.Message) {
	defer func() { _ = message.Close() }()
	state := stateOf(socket)
	text := string(message.Bytes())
	switch {
	case message.Opcode != gws.OpcodeText: // an attachment of a binary event, which was refused
	case !state.probing:
		state.connection.receive(text)
	case text == enginePing+engineProbe:
		_ = socket.WriteString(enginePong + engineProbe)
		state.connection.probed()
	case text == engineUpgrade:
		state.probing = !state.connection.use(socket, false)
	default:
		_ = socket.WriteClose(uint16(protocol.CloseBadMessage), []byte("no Engine.IO probe"))
	}
}

func (events) OnClose(socket *gws.Conn, err error) {
	state := stateOf(socket)
	state.release()
	c := state.connection
	if state.probing {
		c.stopProbe(socket)
		return
	}
	if carried := c.carried(); carried != nil && closedForGood(err) {
		carried.left(c)
	}
	c.end(protocol.CloseSilent, "the client went away")
}

// closedForGood reports whether the page is done with its session. A client closes the
// WebSocket with 1000 then. A browser closes it with 1001 when the page is closed or loaded
// again, which forgets the secret of its session. A client that only breaks its connection
// off sends another code or none.
func closedForGood(err error) bool {
	var closed *gws.CloseError
	return errors.As(err, &closed) && (closed.Code == 1000 || closed.Code == 1001)
}
