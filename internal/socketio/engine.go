package socketio

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lxzan/gws"

	"github.com/visavis/visavis/internal/limit"
	"github.com/visavis/visavis/internal/panics"
	"github.com/visavis/visavis/protocol"
)

// Engine.IO 4 carries Socket.IO's packets over HTTP requests or a WebSocket
// (github.com/socketio/engine.io-protocol, v4). It is written out here because
// the Go libraries that have it do not survive hostile clients: what a stranger
// sends must not end more than the stranger's connection.

const (
	// sendTimeout is how long a client may read nothing of what waits for it.
	sendTimeout = 10 * time.Second
	// Engine.IO's own defaults, by which its clients are tried.
	engineInterval = 25 * time.Second // between pings
	enginePatience = 20 * time.Second // for their pongs
	upgradeTimeout = 10 * time.Second // from the WebSocket's handshake to packet "5"
	lastWords      = 5 * time.Second  // for the request that takes what end left to say
	// Packets that wait for a transport: the hub is slowed down from the first
	// number on, a client that does not read is dropped at the second.
	crowded = 64
	swamped = 512
	// The same in bytes. The longest that an honest client is sent at once is a description
	// and a hundred candidates, some 170 KiB; the hub keeps as much as swampedBytes for a
	// session. The list of users does not count: its client did not choose how many there are,
	// and only the last one waits.
	crowdedBytes = 128 << 10
	swampedBytes = 512 << 10
)

// The packet types of Engine.IO.
const (
	enginePing    = "2"
	enginePong    = "3"
	engineMessage = "4"
	engineUpgrade = "5"
	engineNoop    = "6"
	engineClose   = "1"
	engineProbe   = "probe" // goes with a ping and a pong
	recordMark    = "\x1e"  // between packets of one request
)

var (
	errSlow = errors.New("the client does not read")
	errGone = errors.New("the connection has gone")
)

// wire is one Engine.IO connection: HTTP requests, or a WebSocket, which may also
// take over from them. It is the [hub.Conn] of the visit that it carries.
type wire struct {
	io   *Server
	id   string // a secret: who has it reads and writes here
	name string // the username in the first request's URL
	addr netip.Addr
	// limited says that the limits of its address bind it.
	limited bool

	hello     *time.Timer             // ends a wire that nobody enters by
	unentered limit.Place[netip.Addr] // held until then
	entered   sync.Once               // stops it

	// reading is held while a packet is acted on.
	reading sync.Mutex

	mu         sync.Mutex // guards all below
	out        []string   // packets that wait for a transport
	bytes      int        // of out but the list of users
	heartbeat  *time.Timer
	awaitsPong bool
	polled     bool      // a request waits for packets
	probe      *gws.Conn // a WebSocket that may take over
	probed     bool      // it has shown that it works
	socket     *gws.Conn // the WebSocket, when it is one
	visit      *visit    // who entered
	closed     bool

	grown, taken chan struct{} // of one element each: out has grown, was taken
	done         chan struct{} // closed with the wire
}

func newWire(s *Server, r *http.Request, addr netip.Addr, limited bool) *wire {
	w := &wire{
		io: s, id: strings.ToLower(rand.Text()), addr: addr, limited: limited, name: r.URL.Query().Get("username"),
		grown: make(chan struct{}, 1), taken: make(chan struct{}, 1), done: make(chan struct{}),
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heartbeat = time.AfterFunc(engineInterval, s.contained(inTimer, w.beat))
	w.hello = time.AfterFunc(s.cfg.HelloTimeout, s.contained(inTimer, func() { w.end(protocol.CloseNoHello, "nobody entered") }))
	return w
}

// count counts the wire until somebody enters by it.
func (w *wire) count() {
	if w.limited {
		w.io.unentered.Enter(limit.Source(w.addr), &w.unentered, w)
	}
	select {
	case <-w.done: // greet came first
		w.io.unentered.Leave(&w.unentered)
	default:
	}
}

// Evict implements [limit.Evictable]: a newer one that nobody has entered by needs the place.
func (w *wire) Evict() {
	w.io.cfg.Admission.CountLimited("unentered")
	go w.io.contained(inSocketIO, func() { w.end(protocol.CloseFull, "newer connections of this address took its place") })()
}

// open is the first packet.
func (w *wire) open(upgrades ...string) string {
	body, _ := json.Marshal(map[string]any{ // a map of plain values: no error
		"sid": w.id, "upgrades": append([]string{}, upgrades...), "maxPayload": protocol.MaxFrame,
		"pingInterval": engineInterval.Milliseconds(), "pingTimeout": enginePatience.Milliseconds(),
	})
	return "0" + string(body)
}

// greet ends the wait for someone to enter.
func (w *wire) greet() {
	w.entered.Do(func() {
		w.hello.Stop()
		w.io.unentered.Leave(&w.unentered)
	})
}

// carry makes the wire that of a visit, or of none. It reports whether there still
// is one.
func (w *wire) carry(v *visit) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.visit = v
	}
	return !w.closed
}

// leave takes from the wire what its visit has to say elsewhere.
func (w *wire) leave() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.visit = nil
	return ofVisit(w.emptyLocked())
}

// emptyLocked takes all packets that wait.
func (w *wire) emptyLocked() []string {
	out := w.out
	w.out, w.bytes = nil, 0
	return out
}

// ofVisit are the packets that are not Engine.IO's own.
func ofVisit(packets []string) []string {
	return slices.DeleteFunc(packets, func(p string) bool { return !strings.HasPrefix(p, engineMessage) })
}

func (w *wire) isWebSocket() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.socket != nil
}

// beat pings, or finds that the last ping was not answered.
func (w *wire) beat() {
	w.mu.Lock()
	silent := w.awaitsPong
	w.awaitsPong = true
	if !silent && !w.closed {
		w.heartbeat.Reset(enginePatience)
	}
	w.mu.Unlock()
	if silent {
		w.end(protocol.CloseSilent, "a ping went unanswered")
		return
	}
	w.put(enginePing)
}

func (w *wire) pong() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.awaitsPong && !w.closed {
		w.awaitsPong = false
		w.heartbeat.Reset(engineInterval)
	}
}

// put queues packets and does not block.
func (w *wire) put(packets ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.addLocked(packets)
	if len(w.out) > swamped || w.bytes > swampedBytes {
		go w.io.contained(inSocketIO, func() { w.end(protocol.CloseSlow, errSlow.Error()) })()
	}
	signal(w.grown)
}

// putBack queues what an earlier connection of the client did not take. It does not count
// as what this one has not read.
func (w *wire) putBack(packets []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.addLocked(packets)
		signal(w.grown)
	}
}

func (w *wire) addLocked(packets []string) {
	for _, p := range packets {
		if strings.HasPrefix(p, usersPacket) { // the whole list: an older one has lost its point
			w.out = slices.DeleteFunc(w.out, func(q string) bool { return strings.HasPrefix(q, usersPacket) })
		} else {
			w.bytes += len(p)
		}
		w.out = append(w.out, p)
	}
}

// signal leaves word in a channel of one element.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// waitForRoom blocks while the client is behind with its reading, but not for long.
func (w *wire) waitForRoom() error {
	timeout := time.NewTimer(sendTimeout)
	defer timeout.Stop()
	for {
		w.mu.Lock()
		full := len(w.out) >= crowded || w.bytes >= crowdedBytes
		w.mu.Unlock()
		if !full {
			return nil
		}
		select {
		case <-w.taken:
		case <-w.done:
			return errSlow
		case <-timeout.C:
			return errSlow
		}
	}
}

// take waits for packets and takes them all; with poll they are for a request,
// which gets none once a WebSocket is about to take over. Without any, the wire has
// ended or gone was closed.
func (w *wire) take(poll bool, gone <-chan struct{}) []string {
	for {
		w.mu.Lock()
		packets := w.out
		switch {
		case poll && (w.socket != nil || w.probed && len(packets) == 0):
			w.mu.Unlock()
			return []string{engineNoop}
		case w.closed && poll: // out is what end left to say
			packets = append(packets, engineClose)
		}
		w.emptyLocked()
		closed := w.closed
		w.mu.Unlock()
		if len(packets) > 0 || closed {
			signal(w.taken)
			return packets
		}
		select {
		case <-w.grown:
		case <-w.done:
		case <-gone:
			return nil
		}
	}
}

// end ends the wire, once: its last packets still go out, those that waited are
// left to the visit.
func (w *wire) end(code protocol.CloseCode, reason string, last ...string) {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return
	}
	w.closed = true
	w.heartbeat.Stop()
	waiting, socket, probe, v := w.emptyLocked(), w.socket, w.probe, w.visit
	if socket == nil {
		w.out = last // for the request that waits
	}
	w.mu.Unlock()
	close(w.done)
	w.greet()
	if socket == nil && len(last) > 0 {
		time.AfterFunc(lastWords, w.io.contained(inTimer, func() { w.io.forget(w) })) // the client may be between two requests
	} else {
		w.io.forget(w)
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
	if v != nil {
		v.lost(w, ofVisit(waiting))
	}
}

// receive acts on one packet of the client.
func (w *wire) receive(packet string) {
	w.reading.Lock()
	defer w.reading.Unlock()
	select {
	case <-w.done:
		return
	default:
	}
	defer w.survive()
	kind := packet[:min(1, len(packet))]
	switch kind {
	case engineMessage:
		w.io.packet(w, packet[1:])
	case enginePong:
		w.pong()
		w.countControl()
	case engineClose:
		w.end(1000, "")
	case engineNoop, "b": // "b" is an attachment of a binary event, which was refused
		w.countControl()
	default:
		w.end(protocol.CloseBadMessage, "no Engine.IO packet")
	}
}

// countControl makes what is no packet of Socket.IO count like one, or nothing would bound it.
func (w *wire) countControl() {
	w.mu.Lock()
	v := w.visit
	w.mu.Unlock()
	v.count(w)
}

// survive keeps a panic to its own socket.
func (w *wire) survive() {
	if p := recover(); p != nil {
		panics.Report(w.io.cfg.Log, inSocketIO, p)
		go w.failed()
	}
}

// failed ends the wire after a panic.
func (w *wire) failed() {
	panics.Contain(w.io.cfg.Log, inSocketIO, func() { w.end(protocol.CloseInternal, "the server failed") })
}

// Engine.IO's own refusals (engine.io-protocol, HTTP errors).
func refuseEngine(w http.ResponseWriter, code int, message string) {
	writeJSON(w, http.StatusBadRequest, struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}{code, message})
}

// poll answers a request for packets: with the first one without sid, which
// opens a wire, or when there are any.
func (s *Server) poll(rw http.ResponseWriter, r *http.Request, w *wire) {
	w.mu.Lock()
	overlap := w.polled
	w.polled = true
	w.mu.Unlock()
	if overlap {
		w.end(protocol.CloseBadMessage, "two requests at once")
		refuseEngine(rw, 3, "Bad request")
		return
	}
	packets := w.take(true, r.Context().Done())
	w.mu.Lock()
	w.polled = false
	w.mu.Unlock()
	if packets == nil {
		w.end(protocol.CloseSilent, "the client went away")
		return
	}
	writeText(rw, strings.Join(packets, recordMark))
}

func writeText(rw http.ResponseWriter, text string) {
	rw.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	rw.Header().Set("Cache-Control", "no-store")
	_, _ = io.WriteString(rw, text) // the client may be gone
}

// post takes packets of a client that has no WebSocket.
func (s *Server) post(rw http.ResponseWriter, r *http.Request, w *wire) {
	_ = http.NewResponseController(rw).SetReadDeadline(time.Now().Add(sendTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, protocol.MaxFrame))
	switch large := (*http.MaxBytesError)(nil); {
	case errors.As(err, &large):
		w.end(protocol.CloseTooLarge, "more than 128 KiB at once")
		http.Error(rw, "more than 128 KiB at once", http.StatusRequestEntityTooLarge)
		return
	case err != nil:
		w.end(protocol.CloseSilent, "the client went away")
		return
	}
	for packet := range strings.SplitSeq(string(body), recordMark) {
		w.receive(packet)
	}
	writeText(rw, "ok")
}

// plug is what gws keeps with each WebSocket.
type plug struct {
	gws.SessionStorage // never used; makes a plug one
	wire               *wire
	release            func() // closes the connection beneath; the reader calls it at the end
	probing            bool   // owned by the reader: it has not taken over yet
}

func plugOf(socket *gws.Conn) *plug {
	p, _ := socket.Session().(*plug)
	return p
}

func newEngineUpgrader() *gws.Upgrader {
	return gws.NewUpgrader(engineEvents{}, &gws.ServerOption{
		ReadMaxPayloadSize: protocol.MaxFrame,
		ReadBufferSize:     1 << 10,
		WriteBufferSize:    1 << 10,
		NewSession:         func() gws.SessionStorage { return &plug{} },
	})
}

// websocket makes a request the wire's WebSocket, at once or after its probe.
func (s *Server) websocket(rw http.ResponseWriter, r *http.Request, w *wire, fresh bool) {
	socket, release, err := s.cfg.Admission.Upgrade(s.upgrader, rw, r)
	if err != nil { // it has been answered
		if fresh {
			w.end(protocol.CloseNoHello, "no WebSocket")
		}
		return
	}
	p := plugOf(socket)
	p.wire, p.release, p.probing = w, release, !fresh
	if fresh {
		w.put(w.open())
		w.plugIn(socket, fresh)
	} else if !w.mayProbe(socket) {
		_ = socket.WriteClose(1000, []byte("there is a WebSocket already"))
	}
	s.run(socket.ReadLoop, func() {
		w.failed()
		release()
	})
}

// mayProbe lets one WebSocket at a time show that it works.
func (w *wire) mayProbe(socket *gws.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.socket != nil || w.probe != nil {
		return false
	}
	_ = socket.SetReadDeadline(time.Now().Add(upgradeTimeout))
	w.probe = socket
	return true
}

// plugIn makes a WebSocket the transport, if it is the wire's first or has shown
// that it works. Another one is closed.
func (w *wire) plugIn(socket *gws.Conn, fresh bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || !fresh && (w.probe != socket || !w.probed) {
		go w.io.contained(inSocketIO, func() { _ = socket.WriteClose(1000, nil) })()
		return false
	}
	_ = socket.SetReadDeadline(time.Time{})
	w.socket, w.probe = socket, nil
	w.io.run(func() { w.write(socket) }, w.failed)
	signal(w.grown) // for a request that waits
	return true
}

// write writes what there is to a WebSocket until the wire ends.
func (w *wire) write(socket *gws.Conn) {
	for {
		packets := w.take(false, nil)
		if packets == nil {
			return
		}
		for i, p := range packets {
			if socket.SetWriteDeadline(time.Now().Add(sendTimeout)) == nil && socket.WriteString(p) == nil {
				continue
			}
			w.mu.Lock()
			w.out = append(packets[i:], w.out...)
			w.mu.Unlock()
			w.end(protocol.CloseSlow, errSlow.Error())
			return
		}
	}
}

// engineEvents are gws' callbacks; the plug of each WebSocket has the state.
type engineEvents struct{ gws.BuiltinEventHandler }

// OnPing answers, as RFC 6455 §5.5.2 asks, and counts the ping like a packet.
func (engineEvents) OnPing(socket *gws.Conn, payload []byte) {
	_ = socket.WritePong(payload)
	plugOf(socket).wire.countControl()
}

// OnPong counts a pong that nobody asked for.
func (engineEvents) OnPong(socket *gws.Conn, _ []byte) { plugOf(socket).wire.countControl() }

func (engineEvents) OnMessage(socket *gws.Conn, message *gws.Message) {
	defer func() { _ = message.Close() }()
	p := plugOf(socket)
	text := string(message.Bytes())
	switch {
	case message.Opcode != gws.OpcodeText: // an attachment of a binary event, which was refused
	case !p.probing:
		p.wire.receive(text)
	case text == enginePing+engineProbe:
		_ = socket.WriteString(enginePong + engineProbe)
		p.wire.mu.Lock()
		p.wire.probed = true
		signal(p.wire.grown) // lets a request that waits go, so that the client can leave off asking
		p.wire.mu.Unlock()
	case text == engineUpgrade:
		p.probing = !p.wire.plugIn(socket, false)
	default:
		_ = socket.WriteClose(uint16(protocol.CloseBadMessage), []byte("no Engine.IO probe"))
	}
}

// leaves reports whether a WebSocket was closed for good: by a client with 1000, by a
// browser with 1001, when its page is closed or loaded anew and forgets the secret of its
// visit. A client that only breaks its connection off sends another code or none.
func leaves(err error) bool {
	var closed *gws.CloseError
	return errors.As(err, &closed) && (closed.Code == 1000 || closed.Code == 1001)
}

// left ends the visit that the wire carries.
func (w *wire) left() {
	w.mu.Lock()
	v := w.visit
	w.mu.Unlock()
	if v != nil {
		v.left(w)
	}
}

func (engineEvents) OnClose(socket *gws.Conn, err error) {
	p := plugOf(socket)
	p.release()
	if !p.probing && leaves(err) {
		p.wire.left()
	}
	if !p.probing {
		p.wire.end(protocol.CloseSilent, "the client went away")
		return
	}
	w := p.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.probe == socket {
		w.probe, w.probed = nil, false
	}
}
