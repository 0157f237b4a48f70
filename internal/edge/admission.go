package edge

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/lxzan/gws"

	"github.com/visavis/visavis/internal/hub"
	"github.com/visavis/visavis/protocol"
)

// The methods of this file admit clients by the same rules, whether they connect by our own protocol (signal.go) or
// by Socket.IO (internal/socketio).

// socketIOPath is where pages with socket.io-client connect.
const socketIOPath = "/socket.io/"

// HandleSocketIO hands over the requests of pages with socket.io-client, of those pages that may connect here. Without
// it there is nothing at their path. It may be called before Run only.
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

// Ready reports whether the server takes clients. It does so while Run runs, until [Server.NotReady].
func (s *Server) Ready() bool { return s.ready.Load() }

// Client is the address of a request's client, also behind proxies of ours. Limits by address bind the client if
// limited is true. They do not where the address is a proxy's, which has named no client.
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

// EnterGuest lets a guest in by name, token or both ([account.Guests.Enter]). Whoever does not attach a new session
// afterwards calls [account.Guests.Leave].
func (s *Server) EnterGuest(name, token string) (user protocol.User, fresh string, refused *protocol.Error) {
	refused = s.freeing(name, func() *protocol.Error {
		user, fresh, refused = s.cfg.Guests.Enter(context.Background(), name, token, time.Now())
		return refused
	})
	return user, fresh, refused
}

// EnterUnproven lets a guest in by a name that nothing proves ([account.Guests.EnterUnproven]), as EnterGuest does.
func (s *Server) EnterUnproven(name string) (user protocol.User, refused *protocol.Error) {
	refused = s.freeing(name, func() *protocol.Error {
		user, refused = s.cfg.Guests.EnterUnproven(name)
		return refused
	})
	return user, refused
}

// freeing calls enter, which enters by a name. If all who have the name are gone, it frees the name and calls enter once
// more: their sessions wait for them, but do not reserve the name.
func (s *Server) freeing(name string, enter func() *protocol.Error) *protocol.Error {
	refused := enter()
	if refused == nil || refused.Code != protocol.CodeNameTaken {
		return refused
	}
	for _, holder := range s.cfg.Guests.Holders(name) {
		sessions, gone := s.cfg.Hub.Dismiss(holder)
		if !gone {
			return refused
		}
		s.cfg.Guests.FreeName(holder, sessions)
	}
	return enter()
}

// Attach gives a connection its session ([hub.Hub.Attach]). The session ends at once if its user has signed out
// everywhere while entering.
func (s *Server) Attach(conn hub.Conn, user protocol.User, token string, hello *protocol.Hello) (*hub.Line, *protocol.Error) {
	line, refused := s.cfg.Hub.Attach(conn, user, token, hello)
	if refused == nil && s.cfg.Guests.SignedOut(user.ID) {
		s.cfg.Hub.SignOut(user.ID)
	}
	return line, refused
}
