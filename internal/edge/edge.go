// Package edge is the server's HTTP side: TLS, the web app, the REST requests and the
// WebSockets of clients. It identifies each client and attaches its WebSocket to the
// hub. It decides nothing about calls.
//
//	browser ── GET / ──────────────▶ site (web app, strict headers)
//	        ── GET /v1/place, calls ▶ api
//	        ── /v1/push, /v1/pushed ▶ push (devices without an open page)
//	        ── /v1/signal ─────────▶ hello ── account ──▶ hub.Attach
//	        ── /socket.io/ ────────▶ internal/socketio, which calls admission.go to admit clients
//
// To use it, call [New], then [Server.Run].
package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/internal/call"
	"github.com/visavis/visavis/internal/hub"
	"github.com/visavis/visavis/protocol"
	"github.com/visavis/visavis/web"
)

// Config configures a [Server].
type Config struct {
	// Listener accepts the connections of clients. The limits of connections apply to TCP only. Required.
	Listener net.Listener
	// GetCertificate returns the certificate for a handshake. If it is nil, the server speaks HTTP.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// StrictTransport tells browsers to use HTTPS only (RFC 6797). Set it only with a
	// certificate that browsers trust.
	StrictTransport bool
	// Origins are further origins whose pages may connect, compared exactly:
	// https://app.example.org.
	Origins []string
	// Proxies are the addresses of reverse proxies whose X-Forwarded-For is trusted.
	Proxies []netip.Prefix
	// Place is the name of this server for people. Access says who may enter ("open").
	Place, Access string

	Guests *account.Guests
	Hub    *hub.Hub
	// Recent returns up to limit ended calls of a user, newest first. If before is set, it returns calls older than that.
	Recent func(ctx context.Context, user protocol.UserID, before protocol.CallID, limit int) ([]call.Record, error)
	// Complete reports whether Recent returns all ended calls of a user. Default: always true.
	Complete func(user protocol.UserID) bool
	// Failure returns why the server cannot store records, or nil. /readyz answers 503 if it is not nil.
	// Default: always nil.
	Failure func() error
	// PushDevices stores the devices that receive Web Push. It is nil if push is off.
	PushDevices PushDevices
	// Pushed handles what a device does after a push for a call, and returns the state of
	// the call. Required with PushDevices.
	Pushed func(id protocol.CallID, key, act string) (*protocol.Push, *protocol.Error)
	// BodyTimeout bounds the time for the body of a request. Default: 30 s.
	BodyTimeout time.Duration
	// HelloTimeout bounds the time until a connection's hello. Default: 10 s.
	HelloTimeout time.Duration
	// ConnectionsPerAddress bounds the connections of one client address; 1024 by default.
	ConnectionsPerAddress int
	// MaxConnections bounds the connections of all clients: a process that has no file left cannot accept any, nor
	// use its database. No bound by default.
	MaxConnections int
	Log            *slog.Logger
	Registerer     prometheus.Registerer // may be nil
}

func (c *Config) validate() error {
	if c.Listener == nil || c.Guests == nil || c.Hub == nil || c.Recent == nil || c.Log == nil {
		return errors.New("edge: listener, guests, hub, recent and log are needed")
	}
	if c.PushDevices != nil && c.Pushed == nil {
		return errors.New("edge: devices to push to without Pushed")
	}
	if c.Complete == nil {
		c.Complete = func(protocol.UserID) bool { return true }
	}
	if c.Failure == nil {
		c.Failure = func() error { return nil }
	}
	if c.HelloTimeout == 0 {
		c.HelloTimeout = 10 * time.Second
	}
	if c.BodyTimeout == 0 {
		c.BodyTimeout = bodyTimeout
	}
	if c.ConnectionsPerAddress == 0 {
		c.ConnectionsPerAddress = 1024
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = math.MaxInt
	}
	return nil
}

// Server is the listening edge of a node.
type Server struct {
	cfg      Config
	listener net.Listener
	http     *http.Server
	upgrader *gws.Upgrader
	origins  origins
	socketIO http.Handler // nil without HandleSocketIO; set before Run
	ready    atomic.Bool
	limits   *limits
}

// New serves nothing before Run, which closes the listener.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, limits: newLimits(cfg.MaxConnections, cfg.ConnectionsPerAddress, cfg.Registerer)}
	s.listener = limitedListener{cfg.Listener, s.limits, s.isProxy}
	var leaf *x509.Certificate
	if cfg.GetCertificate != nil {
		now, err := cfg.GetCertificate(nil)
		if err != nil {
			return nil, fmt.Errorf("read the certificate: %w", err)
		}
		leaf = now.Leaf
		s.listener = tls.NewListener(s.listener, &tls.Config{
			GetCertificate: cfg.GetCertificate,
			MinVersion:     tls.VersionTLS12,
			NextProtos:     []string{"http/1.1"}, // WebSocket over HTTP/2 is no gws' business
		})
	}
	s.origins = newOrigins(cfg.Origins, cfg.Listener.Addr(), leaf)
	s.upgrader = newUpgrader(s)
	s.http = &http.Server{
		ConnContext:       withClientConn,
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      time.Minute, // a poll of Socket.IO waits for half of that
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          stdlog.New(httpLog{cfg.Log}, "", 0),
	}
	return s, nil
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+signalPath, s.signal)
	if s.socketIO != nil {
		mux.Handle(socketIOPath, s.ofAllowedOrigins(s.socketIO))
	}
	mux.Handle("/v1/place", s.crossOrigin(methods{http.MethodGet: s.place}))
	mux.Handle("/v1/calls", s.crossOrigin(methods{http.MethodGet: s.calls}))
	mux.Handle("/v1/logins", s.crossOrigin(methods{http.MethodDelete: s.signOut}))
	mux.HandleFunc("POST /v1/hangup", s.hangup)
	mux.HandleFunc("POST /v1/leave", s.leave)
	s.routePush(mux)
	mux.HandleFunc("/v1/", func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, http.StatusNotFound, protocol.Errorf(protocol.CodeNotFound, "there is nothing of that name"))
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.readyz)
	site, _ := web.Site()
	mux.Handle("/", newSite(site))
	hosts := knownHosts(mux, s.origins.knows, warnOfHost(s.cfg.Log))
	return s.recovering(withHeaders(hosts, s.cfg.StrictTransport))
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	if !s.ready.Load() {
		http.Error(w, "starting or stopping", http.StatusServiceUnavailable)
		return
	}
	if s.cfg.Failure() != nil { // the log says more
		http.Error(w, "the database takes no writes", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Secure reports whether it serves HTTPS.
func (s *Server) Secure() bool { return s.cfg.GetCertificate != nil }

// NotReady makes GET /readyz say so, ahead of a stop.
func (s *Server) NotReady() { s.ready.Store(false) }

// requestGrace is how long Run waits for requests under way when it stops.
const requestGrace = 5 * time.Second

// Run serves until ctx is done. The hub closes the connections that were handed to
// it, and the handler of Socket.IO closes its own, both before ctx is done.
func (s *Server) Run(ctx context.Context) error {
	s.http.Handler = s.bounded(s.routes())
	s.ready.Store(true)
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	s.NotReady()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestGrace)
	defer cancel()
	if err := s.http.Shutdown(grace); err != nil {
		_ = s.http.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}

// clientAddr is the address that a request came from. Where that is a proxy of
// ours, it is the last one in X-Forwarded-For that is none: what stands before it
// is the client's own word.
func (s *Server) clientAddr(r *http.Request) netip.Addr {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := from.Addr().Unmap()
	forwarded := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, word := range slices.Backward(forwarded) {
		before, ok := forwardedAddr(strings.TrimSpace(word))
		if !ok || !s.isProxy(addr) {
			break
		}
		addr = before
	}
	return addr
}

// forwardedAddr reads an entry of X-Forwarded-For. Proxies write addresses with a port (Azure,
// HAProxy by format), and IPv6 in brackets, too: 192.0.2.1:567, [2001:db8::1], [2001:db8::1]:567.
func forwardedAddr(word string) (netip.Addr, bool) {
	if at, err := netip.ParseAddrPort(word); err == nil {
		return at.Addr().Unmap(), true
	}
	if inner, ok := strings.CutPrefix(word, "["); ok {
		word = strings.TrimSuffix(inner, "]")
	}
	addr, err := netip.ParseAddr(word)
	return addr.Unmap(), err == nil
}

func (s *Server) isProxy(addr netip.Addr) bool {
	return slices.ContainsFunc(s.cfg.Proxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}
