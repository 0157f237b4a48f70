package socketio

import (
	"crypto/rand"
	"encoding/json"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/lxzan/gws"

	"github.com/visavis/visavis/internal/limit"
	"github.com/visavis/visavis/internal/panics"
	"github.com/visavis/visavis/protocol"
)

// Engine.IO 4 carries Socket.IO's packets over HTTP requests or a WebSocket
// (github.com/socketio/engine.io-protocol, v4). It is written out here because the Go
// libraries for it do not survive hostile clients: whatever a stranger sends must end no
// more than the stranger's own connection.

const (
	// Engine.IO's own defaults, with which its clients are tested.
	pingInterval = 25 * time.Second
	pingTimeout  = 20 * time.Second
	// lastRequestWait is how long the last packets of a connection, and the connection itself,
	// wait for one more request of a client that polls.
	lastRequestWait = 5 * time.Second
)

// The packet types of Engine.IO.
const (
	engineOpen    = "0"
	engineClose   = "1"
	enginePing    = "2"
	enginePong    = "3"
	engineMessage = "4"
	engineUpgrade = "5"
	engineNoop    = "6"
	engineBinary  = "b" // in a request only
	engineProbe   = "probe"
)

// connection is a connection of Engine.IO: HTTP requests (polling.go), or a WebSocket, which
// may also take over from them (websocket.go). It is the [hub.Conn] of the session that it
// carries.
type connection struct {
	server *Server
	id     string // a secret: whoever has it reads and writes here
	name   string // the username in the URL of the first request
	addr   netip.Addr

	helloTimer *time.Timer             // ends a connection by which nobody enters
	unentered  limit.Place[netip.Addr] // held until somebody enters
	entered    sync.Once               // ends both

	// reading is held while a packet is acted on.
	reading sync.Mutex

	mu    sync.Mutex // guards all below
	out   []string   // packets that wait for a transport
	bytes int        // of out, without the list of users
	// Those of out, and of bytes, that an earlier connection did not take.
	returned, returnedBytes int

	heartbeat    *time.Timer
	awaitsPong   bool
	polled       bool      // a request waits for packets
	probe        *gws.Conn // a WebSocket that may take over
	probeWorks   bool      // the probe was answered
	socket       *gws.Conn // the WebSocket, once it is the transport
	session      *session  // nil until somebody has entered
	closed       bool
	grown, taken chan struct{} // of one element each: packets were added to out, were taken from it
	done         chan struct{} // closed with the connection
}

func newConnection(s *Server, addr netip.Addr, name string) *connection {
	c := &connection{
		server: s, id: strings.ToLower(rand.Text()), addr: addr, name: name,
		grown: make(chan struct{}, 1), taken: make(chan struct{}, 1), done: make(chan struct{}),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heartbeat = time.AfterFunc(pingInterval, s.contained(inTimer, c.beat))
	c.helloTimer = time.AfterFunc(s.cfg.HelloTimeout, s.contained(inTimer, func() { c.end(protocol.CloseNoHello, "nobody entered") }))
	return c
}

// open returns the first packet.
func (c *connection) open(upgrades ...string) string {
	body, _ := json.Marshal(map[string]any{ // a map of plain values: no error
		"sid": c.id, "upgrades": append([]string{}, upgrades...), "maxPayload": protocol.MaxFrame,
		"pingInterval": pingInterval.Milliseconds(), "pingTimeout": pingTimeout.Milliseconds(),
	})
	return engineOpen + string(body)
}

// countUnentered counts the connection until somebody enters.
func (c *connection) countUnentered() {
	c.server.unentered.Enter(limit.Source(c.addr), &c.unentered, c)
	select {
	case <-c.done: // stopWaiting came first
		c.server.unentered.Leave(&c.unentered)
	default:
	}
}

// Evict implements [limit.Evictable]: a newer connection by which nobody has entered needs the place.
func (c *connection) Evict() {
	c.server.cfg.Admission.CountLimited("unentered")
	go c.server.contained(inConnection, func() { c.end(protocol.CloseFull, "newer connections of this address took its place") })()
}

// stopWaiting ends the wait for somebody to enter.
func (c *connection) stopWaiting() {
	c.entered.Do(func() {
		c.helloTimer.Stop()
		c.server.unentered.Leave(&c.unentered)
	})
}

// carry makes the connection that of a session, or of none. It reports whether the
// connection still stands.
func (c *connection) carry(s *session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.session = s
	}
	return !c.closed
}

// carried returns the session that the connection carries, or nil.
func (c *connection) carried() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

// detach takes the session's packets from the connection, which carries it no more.
func (c *connection) detach() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = nil
	return messages(c.emptyLocked())
}

// beat sends a ping. If the last one was not answered, it ends the connection.
func (c *connection) beat() {
	c.mu.Lock()
	silent := c.awaitsPong
	c.awaitsPong = true
	if !silent && !c.closed {
		c.heartbeat.Reset(pingTimeout)
	}
	c.mu.Unlock()
	if silent {
		c.end(protocol.CloseSilent, "a ping went unanswered")
		return
	}
	c.put(enginePing)
}

func (c *connection) pong() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.awaitsPong && !c.closed {
		c.awaitsPong = false
		c.heartbeat.Reset(pingInterval)
	}
}

// receive acts on a packet of the client.
func (c *connection) receive(packet string) {
	c.reading.Lock()
	defer c.reading.Unlock()
	select {
	case <-c.done:
		return
	default:
	}
	defer c.recoverPanic()
	switch packet[:min(1, len(packet))] {
	case engineMessage:
		c.server.packet(c, packet[1:])
	case enginePong:
		c.pong()
		c.countControl()
	case engineClose:
		c.end(1000, "")
	case engineNoop, engineBinary: // an attachment of a binary event, which was refused
		c.countControl()
	default:
		c.end(protocol.CloseBadMessage, "no Engine.IO packet")
	}
}

// countControl counts something that is no packet of Socket.IO like one: nothing else bounds it.
func (c *connection) countControl() { c.carried().count(c) }

// recoverPanic confines a panic to the connection.
func (c *connection) recoverPanic() {
	if p := recover(); p != nil {
		panics.Report(c.server.cfg.Log, inConnection, p)
		go c.failed()
	}
}

// failed ends the connection after a panic.
func (c *connection) failed() {
	panics.Contain(c.server.cfg.Log, inConnection, func() { c.end(protocol.CloseInternal, "the server failed") })
}

// end ends the connection once. Its last packets still go out. The packets that waited
// are left to the session.
func (c *connection) end(code protocol.CloseCode, reason string, last ...string) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	c.heartbeat.Stop()
	waiting, socket, probe, carried := c.emptyLocked(), c.socket, c.probe, c.session
	if socket == nil {
		c.out = last // for the request that waits
	}
	c.mu.Unlock()
	close(c.done)
	c.stopWaiting()
	if socket == nil && len(last) > 0 {
		// The client may be between two requests.
		time.AfterFunc(lastRequestWait, c.server.contained(inTimer, func() { c.server.forget(c) }))
	} else {
		c.server.forget(c)
	}
	for _, s := range []*gws.Conn{socket, probe} {
		if s == nil {
			continue
		}
		_ = s.SetWriteDeadline(time.Now().Add(time.Second))
		for _, p := range last {
			if s == socket {
				_ = s.WriteString(p)
			}
		}
		_ = s.WriteClose(uint16(code), []byte(reason))
	}
	if carried != nil {
		carried.lost(c, messages(waiting))
	}
}

// Send implements [hub.Conn].
func (c *connection) Send(frame []byte) error {
	if err := c.waitForRoom(); err != nil {
		return err
	}
	carried := c.carried()
	if carried == nil {
		return errGone
	}
	defer c.recoverPanic()
	return carried.frame(c, frame)
}

// Address implements [hub.Conn].
func (c *connection) Address() netip.Addr { return c.addr }

// Close implements [hub.Conn]. A client comes back by itself unless it is told to disconnect.
func (c *connection) Close(code protocol.CloseCode, reason string) {
	if code < protocol.CloseBadMessage {
		c.end(code, reason)
		return
	}
	c.end(code, reason, engineMessage+string(packetDisconnect))
}
