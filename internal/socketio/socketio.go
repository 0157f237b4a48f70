// Package socketio lets pages take part that were written with socket.io-client for any
// signaling server. docs/socketio.md tells what such a page may send and what it gets. To
// the hub each of their sockets is a session like others.
//
// The package decides nothing about calls. It does not decide who may come in either: that
// is for [Admission], which internal/edge implements.
//
//	socket.io-client ◀── HTTP, WebSocket ──▶ connection   Engine.IO (connection.go)
//	                                             │ packets
//	                                             ▼
//	                                          session     Socket.IO (packet.go, session.go)
//	                                             │ events
//	                                             ▼
//	                                           page       from events to messages (events.go)
//	                                             │        and back (messages.go)
//	                                             ▼ messages
//	                                            hub
//
// A page has one connection after another. A session takes up the next one where the page
// proves that it had the last one.
//
// Come in at [New] and [Server.ServeHTTP].
package socketio

import (
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
	// Ready reports whether the server takes clients. It takes none while it stops.
	Ready() bool
	// Client returns the address of a request's client. If limited is true, the limits by address apply to it.
	Client(r *http.Request) (addr netip.Addr, limited bool)
	// CountLimited counts a client that a limit of this package has refused, or whose connection it has closed.
	CountLimited(limit string)
	// Upgrade makes a request a WebSocket. If it returns an error, it has answered the request. The reader of the
	// WebSocket calls release when it ends.
	Upgrade(upgrader *gws.Upgrader, w http.ResponseWriter, r *http.Request) (socket *gws.Conn, release func(), err error)
	// Attach gives a connection its session of the hub.
	Attach(conn hub.Conn, who account.Visitor, hello *protocol.Hello) (*hub.Line, *protocol.Error)
}

// Config is what a [Server] is made of. All fields but HelloTimeout are needed.
type Config struct {
	Admission Admission
	Guests    *account.Guests
	Hub       *hub.Hub
	Log       *slog.Logger
	// HelloTimeout is how long a connection may take to enter; 10 s by default.
	HelloTimeout time.Duration
}

// handshakeRate limits the handshakes of an address. An address may be an office, and each handshake is a new page.
var handshakeRate = limit.Rate{Every: 100 * time.Millisecond, Burst: 300}

// maxUnentered bounds the connections of an address by which nobody has entered. The oldest gives way.
const maxUnentered = 256

// path is where socket.io-client connects.
const path = "/socket.io/"

// Where a panic of this package is counted.
const (
	inConnection = "a Socket.IO connection"
	inTimer      = "a connection's timer"
)

// Server handles all requests of socket.io-client. It must get the requests of only those
// pages whose origin may connect.
type Server struct {
	cfg        Config
	upgrader   *gws.Upgrader
	handshakes *limit.Buckets[netip.Addr] // by [limit.Source]
	unentered  *limit.Places[netip.Addr]  // by [limit.Source]
	goroutines sync.WaitGroup             // of WebSockets

	mu          sync.Mutex // guards all below; taken after those of a session and a connection
	connections map[string]*connection
	// sessions has those that can be taken up again, connected or not, by their secret.
	sessions map[string]*session
	closed   bool
}

// New returns a server that takes connections until Run ends.
func New(cfg Config) *Server {
	if cfg.HelloTimeout == 0 {
		cfg.HelloTimeout = 10 * time.Second
	}
	return &Server{
		cfg: cfg, upgrader: newUpgrader(),
		handshakes: limit.NewBuckets[netip.Addr](handshakeRate, 0), unentered: limit.NewPlaces[netip.Addr](maxUnentered),
		connections: map[string]*connection{}, sessions: map[string]*session{},
	}
}

// Run waits until ctx is done. Then it ends every connection, and every session that waits
// for its page. The error is always nil.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	s.close()
	return nil
}

func (s *Server) close() {
	s.mu.Lock()
	s.closed = true
	var connections []*connection
	for _, c := range s.connections {
		connections = append(connections, c)
	}
	s.mu.Unlock()
	for _, c := range connections {
		c.end(protocol.CloseRestarting, "the server stops")
	}
	s.goroutines.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, known := range s.sessions {
		known.expiry.Stop()
	}
	clear(s.sessions)
}

// start runs f in a goroutine that close waits for. After a panic in f it calls failed.
func (s *Server) start(f, failed func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.goroutines.Go(func() {
		defer panics.Recover(s.cfg.Log, inConnection, failed)
		f()
	})
}

// contained returns f with its panics confined to it.
func (s *Server) contained(in string, f func()) func() {
	return func() { panics.Contain(s.cfg.Log, in, f) }
}

// ServeHTTP takes every request of every transport.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != path:
		http.NotFound(w, r) // the client's script is not served
		return
	case r.Method == http.MethodOptions:
		w.Header().Set("Access-Control-Allow-Methods", "GET, POST")
		w.Header().Set("Access-Control-Allow-Headers", "Content-Type")
		w.WriteHeader(http.StatusNoContent)
		return
	case !s.cfg.Admission.Ready():
		restarting(w)
		return
	}
	if wrong := check(r); wrong != nil {
		wrong.answer(w)
		return
	}
	upgrade, sid := isUpgrade(r), r.URL.Query().Get("sid")
	if sid == "" {
		s.handshake(w, r, upgrade)
		return
	}
	s.mu.Lock()
	known := s.connections[sid]
	s.mu.Unlock()
	switch {
	case known == nil:
		unknownSID.answer(w)
	case upgrade:
		s.webSocket(w, r, known, false)
	case known.isWebSocket():
		badRequest.answer(w)
	case r.Method == http.MethodPost:
		s.post(w, r, known)
	default:
		s.poll(w, r, known)
	}
}

// check returns what is wrong with a request, whatever connection it is of.
func check(r *http.Request) *requestError {
	query := r.URL.Query()
	transport, sid := query.Get("transport"), query.Get("sid")
	switch {
	case transport != "polling" && transport != "websocket":
		return unknownTransport
	case query.Get("EIO") != "4":
		return unsupportedVersion
	case isUpgrade(r) != (transport == "websocket"):
		return badRequest
	case sid == "" && r.Method != http.MethodGet:
		return badHandshake
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		return badRequest
	}
	return nil
}

func isUpgrade(r *http.Request) bool { return strings.EqualFold(r.Header.Get("Upgrade"), "websocket") }

// handshake opens a connection.
func (s *Server) handshake(w http.ResponseWriter, r *http.Request, upgrade bool) {
	addr, limited := s.cfg.Admission.Client(r)
	if limited && !s.handshakes.Allow(limit.Source(addr), time.Now()) {
		s.cfg.Admission.CountLimited("handshakes")
		tooOften(w)
		return
	}
	fresh := newConnection(s, addr, r.URL.Query().Get("username"))
	if limited {
		fresh.countUnentered()
	}
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.connections[fresh.id] = fresh
	}
	s.mu.Unlock()
	switch {
	case closed:
		fresh.end(protocol.CloseRestarting, "the server stops")
		restarting(w)
	case upgrade:
		s.webSocket(w, r, fresh, true)
	default:
		writeText(w, fresh.open("websocket"))
	}
}

func (s *Server) forget(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.connections, c.id)
}

// requestError is one of Engine.IO's own refusals (engine.io-protocol, HTTP errors).
type requestError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

var (
	unknownTransport   = &requestError{0, "Transport unknown"}
	unknownSID         = &requestError{1, "Session ID unknown"}
	badHandshake       = &requestError{2, "Bad handshake method"}
	badRequest         = &requestError{3, "Bad request"}
	unsupportedVersion = &requestError{5, "Unsupported protocol version"}
)

func (e *requestError) answer(w http.ResponseWriter) { writeJSON(w, http.StatusBadRequest, e) }

// restarting answers a request that comes while the server stops.
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
