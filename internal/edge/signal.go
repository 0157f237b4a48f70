package edge

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/internal/hub"
	"github.com/visavis/visavis/internal/limit"
	"github.com/visavis/visavis/internal/panics"
	"github.com/visavis/visavis/protocol"
)

const (
	// sendTimeout is how long one write to a client may take before the connection is closed.
	sendTimeout = 10 * time.Second
)

// newUpgrader returns an upgrader whose idle connections need little memory: without
// compression, without a map of values, with small buffers.
func newUpgrader(s *Server) *gws.Upgrader {
	return gws.NewUpgrader(events{}, &gws.ServerOption{
		ReadMaxPayloadSize: protocol.MaxFrame, // frameChecker enforces it earlier
		ReadBufferSize:     512,
		WriteBufferSize:    1 << 10,
		NewSession:         func() gws.SessionStorage { return &visitor{edge: s} },
	})
}

// visitor is one WebSocket connection. gws keeps it as its "session storage".
type visitor struct {
	gws.SessionStorage // never used; makes visitor implement the interface
	edge               *Server
	socket             *gws.Conn
	conn               *clientConn // nonblocking; nil if the connection is not TCP
	addr               netip.Addr
	helloTimer         *time.Timer
	silent             *limit.Place[netip.Addr] // nil once hello came
	closing            atomic.Bool              // messages are dropped from now on

	// Owned by the reader.
	greeted bool      // hello came, or the connection closed before
	line    *hub.Line // from an accepted hello on
}

// signal handles GET /v1/signal: it makes the request a WebSocket and starts its reader.
func (s *Server) signal(w http.ResponseWriter, r *http.Request) {
	addr := s.clientAddr(r)
	switch {
	case !s.origins.allow(r):
		foreignOrigin(w)
		return
	case !s.ready.Load():
		writeError(w, http.StatusServiceUnavailable, protocol.Errorf(protocol.CodeRestarting, "the server is about to restart"))
		return
	}
	socket, err := s.upgrade(s.upgrader, w, r)
	if err != nil {
		return // upgrade has answered
	}
	v := visitorOf(socket)
	v.socket, v.addr = socket, addr
	if o := clientConnOf(socket); o != nil && o.setNonblocking() == nil {
		v.conn = o
	}
	v.silent = &limit.Place[netip.Addr]{}
	if source, counts := s.source(addr); counts {
		s.limits.silent.Enter(source, v.silent, v)
	}
	v.helloTimer = time.AfterFunc(s.cfg.HelloTimeout, s.contained(inTimer, func() { v.Close(protocol.CloseNoHello, "no hello in time") }))
	// The stack of a new goroutine is small. The handler's stack has grown.
	go v.read()
}

// read reads until the connection ends. A panic ends the connection, and the session can be resumed.
func (v *visitor) read() {
	defer panics.Recover(v.edge.cfg.Log, inReader, v.failed, v.ended)
	v.socket.ReadLoop()
}

// failed closes the connection after a panic.
func (v *visitor) failed() { v.Close(protocol.CloseInternal, "the server failed") }

// ended releases a connection whose reader panicked before OnClose.
func (v *visitor) ended() {
	closeNow(v.socket)
	v.endHelloWait()
	if v.line != nil {
		v.line.Lost()
	}
}

func visitorOf(socket *gws.Conn) *visitor {
	v, _ := socket.Session().(*visitor)
	return v
}

// Send implements [hub.Conn].
func (v *visitor) Send(frame []byte) error {
	if err := v.wait(); err != nil {
		return err
	}
	return v.socket.WriteMessage(gws.OpcodeText, frame)
}

// TrySend implements [hub.TrySender].
func (v *visitor) TrySend(frame []byte) (sent bool, err error) {
	if v.conn == nil || v.conn.waiting() {
		return false, nil
	}
	return true, v.socket.WriteMessage(gws.OpcodeText, frame)
}

// wait blocks until there is no backlog. A connection that is not TCP gets a write deadline instead.
func (v *visitor) wait() error {
	if v.conn == nil {
		return v.socket.SetWriteDeadline(time.Now().Add(sendTimeout))
	}
	return v.conn.wait()
}

// Close implements [hub.Conn].
func (v *visitor) Close(code protocol.CloseCode, reason string) {
	v.closing.Store(true)
	if v.conn == nil {
		_ = v.socket.SetWriteDeadline(time.Now().Add(closeTimeout))
	}
	_ = v.socket.WriteClose(uint16(code), []byte(reason))
}

// Address implements [hub.Conn].
func (v *visitor) Address() netip.Addr { return v.addr }

// Evict implements [limit.Evictable]: a newer connection that has not said hello needs the place.
func (v *visitor) Evict() {
	v.edge.limits.refused.WithLabelValues("silent").Inc()
	go v.edge.contained(inWriter, func() { v.Close(protocol.CloseFull, tooManyHere) })()
}

// events are gws' callbacks; the visitor of each connection has the state.
type events struct{ gws.BuiltinEventHandler }

// OnPing answers with a pong (RFC 6455 §5.5.2). It blocks the reader while the client
// reads no answers.
func (events) OnPing(socket *gws.Conn, payload []byte) {
	v := visitorOf(socket)
	if v.line != nil && v.line.Admit(1) != nil {
		return
	}
	if v.wait() == nil {
		_ = socket.WritePong(payload)
	}
}

// OnPong counts an unsolicited pong against the session's limits. The server sends no WebSocket pings: its own pings
// are messages.
func (events) OnPong(socket *gws.Conn, _ []byte) {
	if v := visitorOf(socket); v.line != nil {
		_ = v.line.Admit(1)
	}
}

func (events) OnMessage(socket *gws.Conn, message *gws.Message) {
	defer func() { _ = message.Close() }()
	v := visitorOf(socket)
	frame := message.Bytes() // valid until Close, which returns the buffer to gws
	switch {
	case v.closing.Load():
	case message.Opcode != gws.OpcodeText:
		v.Close(protocol.CloseBadMessage, "frames are text")
	case v.line != nil && bytes.HasPrefix(frame, pong):
		v.runOnNewStack(func() { v.line.Receive(frame) })
	case v.line != nil:
		v.line.Receive(frame)
	case !v.greeted:
		v.runOnNewStack(func() { v.hello(frame) })
	}
}

// pong is the beginning of a pong message as PROTOCOL.md writes it.
var pong = []byte(`{"type":"pong"`)

// runOnNewStack runs f on another goroutine and waits for it. The stack that f needs is
// freed afterwards. The reader's own stack stays small, which matters because every idle
// connection has a reader. A panic in f closes the connection.
func (v *visitor) runOnNewStack(f func()) {
	done := make(chan bool)
	go func() { done <- panics.Contain(v.edge.cfg.Log, inHello, f) }()
	if !<-done {
		v.failed()
	}
}

func (v *visitor) hello(frame []byte) {
	v.endHelloWait()
	line, err := v.edge.acceptHello(v, frame)
	if err != nil {
		_ = v.Send(protocol.Encode(err))
		v.Close(closeCode(err.Code), string(err.Code))
		return
	}
	v.line = line
}

// closeCode returns the close code for a connection whose hello was refused.
func closeCode(refused protocol.Code) protocol.CloseCode {
	switch refused {
	case protocol.CodeRestarting:
		return protocol.CloseRestarting
	case protocol.CodeFull, protocol.CodeRateLimited, protocol.CodeUnavailable:
		return protocol.CloseFull
	}
	return protocol.CloseRefused
}

// endHelloWait stops the hello timer. It may be called again.
func (v *visitor) endHelloWait() {
	if !v.greeted {
		v.greeted = true
		v.helloTimer.Stop()
		v.edge.limits.silent.Leave(v.silent)
		v.helloTimer, v.silent = nil, nil
	}
}

// acceptHello identifies the user of a hello and attaches the connection to the hub.
func (s *Server) acceptHello(conn hub.Conn, frame []byte) (*hub.Line, *protocol.Error) {
	m, _, err := protocol.Decode(frame)
	if err != nil {
		return nil, listed(err)
	}
	hello, ok := m.(*protocol.Hello)
	if !ok {
		return nil, protocol.Errorf(protocol.CodeBadMessage, "the first message is hello")
	}
	tooMany := protocol.Errorf(protocol.CodeRateLimited, "too many of these from one place; wait and try again")
	if hello.Token == "" && !s.allow("newcomers", s.limits.newcomers, conn.Address()) {
		return nil, tooMany
	}
	visitor, refused := s.cfg.Guests.Enter(context.Background(), account.Credentials{Name: hello.Name, Token: hello.Token}, time.Now())
	if refused != nil {
		return nil, refused
	}
	defer s.cfg.Guests.Entered(visitor)
	if !s.allowUser("hellos", s.limits.hellos, visitor.User.ID) {
		return nil, tooMany
	}
	return s.Attach(conn, visitor, hello)
}

func (events) OnClose(socket *gws.Conn, err error) {
	closeNow(socket)
	v := visitorOf(socket)
	v.endHelloWait()
	if v.line == nil {
		return
	}
	var closed *gws.CloseError
	switch {
	case !errors.As(err, &closed):
		v.line.Lost()
	case closed.Code == 1000:
		v.line.Left()
	case closed.Code == 1001: // "going away": what browsers send for a page that goes
		v.line.PageClosed()
	default:
		v.line.Lost()
	}
}
