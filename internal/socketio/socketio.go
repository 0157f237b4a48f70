// Package socketio takes pages that were written with socket.io-client for any
// signaling server. To the hub each of their sockets is a session like others.
// The package decides nothing about calls, nor who may come in: that is for
// [Admission], which internal/edge implements.
//
//	socket.io-client ──▶ wire (Engine.IO) ── packet ──▶ visit ── event ──▶ page ── message ──▶ hub
//	                 ◀──                  ◀─ packets ──       ◀─ events ──      ◀── frame ────
//
// Come in at [New] and [Server.ServeHTTP].
package socketio

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/lxzan/gws"

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/internal/hub"
	"github.com/visavis/visavis/internal/limit"
	"github.com/visavis/visavis/internal/panics"
	"github.com/visavis/visavis/protocol"
)

// Admission admits clients by the rules that bind every client, however it connects.
type Admission interface {
	// Ready reports whether the server takes clients. It does not while it stops.
	Ready() bool
	// Client is the address of a request's client. Limits by address bind it if limited is true.
	Client(r *http.Request) (addr netip.Addr, limited bool)
	// CountLimited counts a client that a limit of this package has refused or whose connection it has closed.
	CountLimited(limit string)
	// Upgrade makes a request a WebSocket. If it returns an error, it has answered the request. The reader calls
	// release when it has come to the end.
	Upgrade(upgrader *gws.Upgrader, w http.ResponseWriter, r *http.Request) (socket *gws.Conn, release func(), err error)
	// EnterGuest lets a guest in by name, token or both, EnterUnproven by a name alone. Whoever does not attach a new
	// session afterwards calls [account.Guests.Leave].
	EnterGuest(name, token string) (user protocol.User, fresh string, refused *protocol.Error)
	EnterUnproven(name string) (user protocol.User, refused *protocol.Error)
	// Attach gives a connection its session.
	Attach(conn hub.Conn, user protocol.User, token string, hello *protocol.Hello) (*hub.Line, *protocol.Error)
}

// Config is what a [Server] is made of. All but HelloTimeout is needed.
type Config struct {
	Admission Admission
	Guests    *account.Guests
	Hub       *hub.Hub
	Log       *slog.Logger
	// HelloTimeout is how long a connection may take to enter; 10 s by default.
	HelloTimeout time.Duration
}

// Server is the handler of all requests that socket.io-client makes. The requests that
// it gets must be of pages whose origin may connect.
type Server struct {
	cfg        Config
	upgrader   *gws.Upgrader
	handshakes *limit.Buckets[netip.Addr] // by [limit.Source]
	unentered  *limit.Places[netip.Addr]  // connections that nobody has entered by; by [limit.Source]
	group      sync.WaitGroup             // goroutines of WebSockets

	mu    sync.Mutex // guards all below; taken after a visit's
	wires map[string]*wire
	// visits finds those that can be taken up again, connected or not, by their secret.
	visits map[string]*visit
	closed bool
}

// handshakeRate is that of an address, which may be an office: each handshake is somebody new.
var handshakeRate = limit.Rate{Every: 100 * time.Millisecond, Burst: 300}

// maxUnentered bounds the connections of one address that nobody has entered by; the oldest gives way.
const maxUnentered = 256

// Where a panic of this package is counted.
const (
	inSocketIO = "a Socket.IO connection"
	inTimer    = "a connection's timer"
)

// New returns a server that takes connections until Run has ended.
func New(cfg Config) *Server {
	if cfg.HelloTimeout == 0 {
		cfg.HelloTimeout = 10 * time.Second
	}
	return &Server{
		cfg: cfg, upgrader: newEngineUpgrader(),
		handshakes: limit.NewBuckets[netip.Addr](handshakeRate, 0), unentered: limit.NewPlaces[netip.Addr](maxUnentered),
		wires: map[string]*wire{}, visits: map[string]*visit{},
	}
}

// Run waits until ctx is done, then ends every connection.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	s.close()
	return nil
}

// contained is f, with its panics kept to itself.
func (s *Server) contained(in string, f func()) func() {
	return func() { panics.Contain(s.cfg.Log, in, f) }
}

// ServeHTTP takes every request of the transports.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	upgrade := strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
	query := r.URL.Query()
	transport, sid := query.Get("transport"), query.Get("sid")
	switch {
	case r.URL.Path != "/socket.io/":
		http.NotFound(w, r) // no client script is served
		return
	case r.Method == http.MethodOptions:
		w.Header().Set("Access-Control-Allow-Methods", "GET, POST")
		w.Header().Set("Access-Control-Allow-Headers", "Content-Type")
		w.WriteHeader(http.StatusNoContent)
		return
	case !s.cfg.Admission.Ready():
		restarting(w)
		return
	case transport != "polling" && transport != "websocket":
		refuseEngine(w, 0, "Transport unknown")
		return
	case query.Get("EIO") != "4":
		refuseEngine(w, 5, "Unsupported protocol version")
		return
	case upgrade != (transport == "websocket"):
		refuseEngine(w, 3, "Bad request")
		return
	case sid == "" && r.Method != http.MethodGet:
		refuseEngine(w, 2, "Bad handshake method")
		return
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		refuseEngine(w, 3, "Bad request")
		return
	}
	if sid == "" {
		s.handshake(w, r, upgrade)
		return
	}
	s.mu.Lock()
	known := s.wires[sid]
	s.mu.Unlock()
	switch {
	case known == nil:
		refuseEngine(w, 1, "Session ID unknown")
	case upgrade:
		s.websocket(w, r, known, false)
	case known.isWebSocket():
		refuseEngine(w, 3, "Bad request")
	case r.Method == http.MethodPost:
		s.post(w, r, known)
	default:
		s.poll(w, r, known)
	}
}

// handshake opens a wire.
func (s *Server) handshake(w http.ResponseWriter, r *http.Request, upgrade bool) {
	addr, limited := s.cfg.Admission.Client(r)
	if limited && !s.handshakes.Allow(limit.Source(addr), time.Now()) {
		s.cfg.Admission.CountLimited("handshakes")
		tooOften(w)
		return
	}
	fresh := newWire(s, r, addr, limited)
	fresh.count()
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.wires[fresh.id] = fresh
	}
	s.mu.Unlock()
	switch {
	case closed:
		fresh.end(protocol.CloseRestarting, "the server stops")
		restarting(w)
	case upgrade:
		s.websocket(w, r, fresh, true)
	default:
		writeText(w, fresh.open("websocket"))
	}
}

// restarting answers a request while the server stops.
func restarting(w http.ResponseWriter) {
	writeJSON(w, http.StatusServiceUnavailable, protocol.Errorf(protocol.CodeRestarting, "the server is about to restart"))
}

// tooOften answers a handshake that is one too many.
func tooOften(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	writeJSON(w, http.StatusTooManyRequests, protocol.Errorf(protocol.CodeRateLimited, "too many of these; wait and try again"))
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

// run runs f as one of the goroutines that close waits for. then is done after a panic.
func (s *Server) run(f, then func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.group.Go(func() {
		defer panics.Recover(s.cfg.Log, inSocketIO, then)
		f()
	})
}

func (s *Server) forget(w *wire) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.wires, w.id)
}

// close ends every connection and all that waits for one to come back.
func (s *Server) close() {
	s.mu.Lock()
	s.closed = true
	var wires []*wire
	for _, w := range s.wires {
		wires = append(wires, w)
	}
	s.mu.Unlock()
	for _, w := range wires {
		w.end(protocol.CloseRestarting, "the server stops")
	}
	s.group.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.visits {
		v.expiry.Stop()
	}
	clear(s.visits)
}

// packet is one Socket.IO packet (socket.io-protocol v5).
type packet struct {
	kind      byte
	namespace string
	id        string // of the acknowledgment that is asked for
	data      string
}

// The packet types of Socket.IO.
const (
	packetConnect     = '0'
	packetDisconnect  = '1'
	packetEvent       = '2'
	packetAck         = '3'
	packetRefusal     = '4'
	packetBinaryEvent = '5'
	packetBinaryAck   = '6'
)

// usersPacket is how the list of users begins.
const usersPacket = engineMessage + `2["users",`

func parsePacket(text string) (packet, bool) {
	p := packet{namespace: "/"}
	if text == "" {
		return p, false
	}
	p.kind, text = text[0], text[1:]
	if p.kind == packetBinaryEvent || p.kind == packetBinaryAck {
		_, text, _ = strings.Cut(text, "-") // how many attachments
	}
	if strings.HasPrefix(text, "/") {
		p.namespace, text, _ = strings.Cut(text, ",")
	}
	p.data = strings.TrimLeft(text, "0123456789")
	p.id = text[:len(text)-len(p.data)]
	return p, p.kind >= packetConnect && p.kind <= packetBinaryAck && len(p.id) <= 20
}

// encodePacket is a packet of the default namespace, within one of Engine.IO.
func encodePacket(kind byte, id string, data any) string {
	return engineMessage + string(kind) + id + string(protocol.JSON(data))
}

// packet acts on a packet of a client.
func (s *Server) packet(w *wire, text string) {
	p, ok := parsePacket(text)
	w.mu.Lock()
	v := w.visit
	w.mu.Unlock()
	switch {
	case !ok:
		w.end(protocol.CloseBadMessage, "no Socket.IO packet")
	case p.namespace != "/":
		if p.kind == packetConnect {
			namespace := p.namespace[:min(len(p.namespace), protocol.MaxID)]
			w.put(engineMessage + "4" + namespace + `,{"message":"Invalid namespace"}`)
		}
		v.count(w)
	case p.kind == packetConnect && v == nil:
		if refused := s.enter(w, p.data); refused != nil {
			w.put(encodePacket(packetRefusal, "", map[string]any{"message": refused.Message, "data": refused}))
		}
	case p.kind == packetConnect || v == nil:
		w.end(protocol.CloseBadMessage, "a Socket.IO packet out of place")
	case p.kind == packetDisconnect:
		v.left(w)
		// A client that polls closes with one more request, which must find its wire.
		time.AfterFunc(lastWords, s.contained(inTimer, func() { w.end(1000, "") }))
	case p.kind == packetEvent:
		v.event(w, p)
	case p.kind == packetBinaryEvent:
		v.refuse(w, p.id, protocol.Errorf(protocol.CodeBadMessage, "binary events are not understood here"))
	default: // acknowledgments, for which nobody asked
		v.count(w)
	}
}

// enter finds out who a socket is and attaches it to the hub.
func (s *Server) enter(w *wire, data string) *protocol.Error {
	var auth struct {
		Token    string `json:"token"`
		Username label  `json:"username"`
		// PID is what the last connection of this very page got: socket.io-client
		// sends it since 4.6.
		PID string `json:"pid"`
	}
	if data != "" && json.Unmarshal([]byte(data), &auth) != nil {
		return protocol.Errorf(protocol.CodeBadMessage, "auth is an object; its token is a string, its username a string or a number")
	}
	name := cmp.Or(string(auth.Username), w.name)
	user, token, v, refused := s.identify(name, auth.Token, auth.PID)
	if refused != nil {
		return refused
	}
	opened := false
	defer func() {
		if !opened { // refused, resumed, or a panic
			s.cfg.Guests.Leave(user.ID) // no new session to leave later
		}
	}()
	if v == nil {
		v = newVisit(s, user.ID, name)
	}
	resumed, refused := v.attach(w, user, token)
	opened = refused == nil && !resumed
	return refused
}

// identify finds out who a page is, and which visit it takes up: the one whose secret it
// knows, if any. A name alone takes nothing up.
func (s *Server) identify(name, token, pid string) (user protocol.User, fresh string, v *visit, refused *protocol.Error) {
	s.mu.Lock()
	known := s.visits[pid]
	s.mu.Unlock()
	switch {
	case token != "":
		if user, fresh, refused = s.cfg.Admission.EnterGuest(name, token); refused == nil && known != nil && known.user == user.ID {
			v = known
		}
		return user, fresh, v, refused
	case name == "":
		return user, "", nil, protocol.Errorf(protocol.CodeUnauthorized, "say who you are, with query {username} or auth {token}")
	case known != nil && known.name == name:
		if again, here := s.cfg.Guests.EnterAgain(known.user); here {
			return again, "", known, nil
		}
	}
	user, refused = s.cfg.Admission.EnterUnproven(name)
	return user, "", nil, refused
}

// keep makes a visit with a connection known by its secret, instead of by an
// earlier one. Without a secret it is forgotten.
func (s *Server) keep(v *visit, before, now string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.visits, before)
	if now != "" && !s.closed {
		s.visits[now] = v
	}
	v.expiry.Stop()
}

// expireLater forgets a visit that nobody takes up, when the hub has forgotten its session.
func (s *Server) expireLater(v *visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		v.expiry.Reset(protocol.Duration(cmp.Or(v.page.timings.ResumeMs, protocol.DefaultTimings().ResumeMs)))
	}
}

// visit is a session of a page, across the connections that it has one after another.
type visit struct {
	io   *Server
	user protocol.UserID
	name string // by which the page came in
	// expiry forgets the visit when the hub has.
	expiry *time.Timer

	mu       sync.Mutex // guards all below: one event or frame at a time
	wire     *wire      // its connection; nil while it has none
	line     *hub.Line  // the hub's side of that, or of the last one
	received uint64     // the hub's last number
	waiting  []string   // packets that the last connection did not take
	page     page
}

func newVisit(s *Server, user protocol.UserID, name string) *visit {
	v := &visit{io: s, user: user, name: name}
	v.page = page{emit: v.emit, say: v.say, find: s.find}
	v.expiry = time.AfterFunc(time.Hour, s.contained(inTimer, v.expire))
	v.expiry.Stop()
	return v
}

// find is whom a page means: an id, or the name of someone who is here. What is
// neither is rung like an id, so that it takes the same answer and time.
func (s *Server) find(target string) protocol.UserID {
	if _, _, here := s.cfg.Hub.Here(protocol.UserID(target)); here {
		return protocol.UserID(target)
	}
	if id, here := s.cfg.Guests.Named(target); here {
		return id
	}
	if len(target) > protocol.MaxID {
		return protocol.NewUserID()
	}
	return protocol.UserID(target)
}

// attach gives the visit a connection and the hub's session.
func (v *visit) attach(w *wire, user protocol.User, token string) (resumed bool, refused *protocol.Error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !w.carry(v) {
		return false, protocol.Errorf(protocol.CodeInternal, "the connection has gone")
	}
	// Such a page has one call at a time, and no way to say that another waits.
	hello := &protocol.Hello{Version: protocol.Version, Presence: true, Received: v.received, WhenBusy: protocol.AnswerBusy}
	if v.line != nil {
		hello.Resume = v.line.Resume()
	}
	if v.wire != nil { // the client has lost it, even if we have not; the hub closes it
		v.waiting = v.wire.leave()
	}
	line, refused := v.io.cfg.Admission.Attach(w, user, token, hello)
	if refused != nil {
		w.carry(nil)
		return false, refused
	}
	v.io.keep(v, hello.Resume, line.Resume())
	again := v.line != nil
	v.wire, v.line = w, line
	w.greet()
	w.put(encodePacket(packetConnect, "", map[string]string{"sid": string(line.Session()), "pid": line.Resume()}))
	w.putBack(v.waiting)
	v.waiting = nil
	if again && !line.Resumed() {
		v.received = 0
		v.page.lost()
	}
	return line.Resumed(), nil
}

// lost says that a connection has ended, with what it did not take.
func (v *visit) lost(w *wire, waiting []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.wire != w {
		if v.wire != nil { // the page was back before we knew
			v.wire.putBack(waiting)
		}
		return
	}
	v.wire, v.waiting = nil, waiting
	v.io.expireLater(v)
	v.line.Lost()
}

// left says that the page has disconnected.
func (v *visit) left(w *wire) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.wire == w {
		v.wire = nil
		v.line.Left()
		v.io.keep(v, v.line.Resume(), "")
	}
}

func (v *visit) expire() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.wire == nil {
		v.io.keep(v, v.line.Resume(), "")
	}
}

// event acts on an event of the page, and answers it.
func (v *visit) event(w *wire, p packet) {
	var args []json.RawMessage
	var name string
	if json.Unmarshal([]byte(p.data), &args) != nil || len(args) == 0 || json.Unmarshal(args[0], &name) != nil {
		v.refuse(w, p.id, protocol.Errorf(protocol.CodeBadMessage, "an event has a name and an object"))
		return
	}
	v.act(w, p.id, costOf(name), func(tooSoon *protocol.Error) *protocol.Error {
		return v.page.event(name, append(args, nil)[1], tooSoon)
	})
}

// costOf is how much an event counts. A candidate comes in an event of its own here, and a
// hundred of them, as many as one message of our protocol may have, must not use up the burst.
func costOf(event string) float64 {
	if event == "candidate" {
		return 0.25
	}
	return 1
}

// refuse answers an event that was not read.
func (v *visit) refuse(w *wire, id string, refused *protocol.Error) {
	v.act(w, id, 1, func(tooSoon *protocol.Error) *protocol.Error {
		return v.page.fail(cmp.Or(tooSoon, refused), "")
	})
}

// count makes a packet that is no event count like one, or nothing would bound such packets.
func (v *visit) count(w *wire) {
	if v == nil {
		return // the time for entering bounds them
	}
	v.act(w, "", 1, func(*protocol.Error) *protocol.Error { return nil })
}

// act counts an event before anything is done about it, and acknowledges it with what
// became of it: do acts on it, or, where it came too soon, does nothing but tell the page.
func (v *visit) act(w *wire, id string, cost float64, do func(tooSoon *protocol.Error) *protocol.Error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.wire != w {
		return
	}
	refused := do(v.line.Admit(cost))
	if id == "" {
		return
	}
	result := map[string]any{"ok": true}
	if refused != nil {
		result = map[string]any{"error": refused}
	}
	v.wire.put(encodePacket(packetAck, id, []any{result}))
}

// emit sends an event to the page.
func (v *visit) emit(event string, payload any) {
	v.wire.put(encodePacket(packetEvent, "", []any{event, payload}))
}

// say hands the hub a message, as if the page had sent it.
func (v *visit) say(m protocol.Message) *protocol.Error { return v.line.Say(m) }

// frame acts on a frame of the hub.
func (v *visit) frame(w *wire, frame []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.wire != w {
		return errGone
	}
	m, env, err := protocol.Decode(frame)
	if err != nil {
		return err
	}
	if env.Seq != 0 {
		if env.Seq <= v.received {
			return nil
		}
		v.received = env.Seq
	}
	v.page.message(m)
	_ = v.say(&protocol.Pong{Ack: v.received}) // it is here now, and answers a ping; refused is one of a lost connection
	return nil
}

// Send implements [hub.Conn].
func (w *wire) Send(frame []byte) error {
	if err := w.waitForRoom(); err != nil {
		return err
	}
	w.mu.Lock()
	v := w.visit
	w.mu.Unlock()
	if v == nil {
		return errGone
	}
	defer w.survive()
	return v.frame(w, frame)
}

// Address implements [hub.Conn].
func (w *wire) Address() netip.Addr { return w.addr }

// Close implements [hub.Conn]. A client comes back by itself unless it was told
// to disconnect.
func (w *wire) Close(code protocol.CloseCode, reason string) {
	if code < protocol.CloseBadMessage {
		w.end(code, reason)
		return
	}
	w.end(code, reason, engineMessage+string(packetDisconnect))
}
