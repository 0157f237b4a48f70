package edge

import (
	"errors"
	"net/http"
	"net/netip"

	"github.com/lxzan/gws"

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/internal/hub"
	"github.com/visavis/visavis/protocol"
)

// The methods of this file admit clients by the same rules, whether they connect by our own protocol (signal.go) or
// by Socket.IO (internal/socketio).

// socketIOPath is where pages with socket.io-client connect.
const socketIOPath = "/socket.io/"

// HandleSocketIO makes handler serve the requests of socket.io-client from pages that may connect. Without it,
// nothing serves their path. It must be called before Run.
func (s *Server) HandleSocketIO(handler http.Handler) { s.socketIO = handler }

// ofAllowedOrigins refuses requests of pages that may not connect. It lets the other pages read the answers (Fetch, CORS
// protocol).
func (s *Server) ofAllowedOrigins(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.origins.allow(r) {
			foreignOrigin(w)
			return
		}
		if origin := r.Header.Get("Origin"); origin != "" {
			w.Header().Set("Access-Control-Allow-Origin", origin)
			w.Header().Add("Vary", "Origin")
		}
		next.ServeHTTP(w, r)
	})
}

// foreignOrigin answers a request of a page that may not connect.
func foreignOrigin(w http.ResponseWriter) {
	writeError(w, http.StatusForbidden, protocol.Errorf(protocol.CodeUnauthorized, "pages of this origin may not connect here"))
}

// Ready reports whether the server accepts clients: while Run runs, until [Server.NotReady].
func (s *Server) Ready() bool { return s.ready.Load() }

// Client is the address of a request's client, also behind a configured proxy. Limits by address apply to the client if
// limited is true. They do not apply if the address is a proxy's own, because the proxy has named no client.
func (s *Server) Client(r *http.Request) (addr netip.Addr, limited bool) {
	addr = s.clientAddr(r)
	return addr, !s.isProxy(addr)
}

// CountLimited counts a client that a limit has refused or whose connection it has closed, in the metric
// visavis_limited_total.
func (s *Server) CountLimited(limit string) { s.limits.refused.WithLabelValues(limit).Inc() }

// Upgrade makes a request a WebSocket whose frames are checked before gws reads them. If it returns an error, it has
// answered the request. The reader calls release when it has come to the end: gws' Close leaves the connection open for
// reading.
func (s *Server) Upgrade(upgrader *gws.Upgrader, w http.ResponseWriter, r *http.Request) (socket *gws.Conn, release func(), err error) {
	socket, err = s.upgrade(upgrader, w, r)
	return socket, func() { closeNow(socket) }, err
}

// upgrade is Upgrade without release: our own reader calls closeNow.
func (s *Server) upgrade(upgrader *gws.Upgrader, w http.ResponseWriter, r *http.Request) (*gws.Conn, error) {
	if !s.holdConnection(r) {
		tooOften(w)
		return nil, errors.New("too many connections of this address")
	}
	return upgrade(upgrader, w, r)
}

// Attach gives a connection its session ([hub.Hub.Attach]). The session ends at once if its user has signed out
// everywhere while entering.
func (s *Server) Attach(conn hub.Conn, who account.Visitor, hello *protocol.Hello) (*hub.Line, *protocol.Error) {
	line, refused := s.cfg.Hub.Attach(conn, who.User, who.Token, hello)
	s.cfg.Guests.Entered(who) // before the name is free, if it is about to be
	if refused == nil && s.cfg.Guests.SignedOut(who.User.ID) {
		s.cfg.Hub.SignOut(who.User.ID)
	}
	return line, refused
}
