// Package relay is the STUN and TURN server: it tells clients the address they are seen from (RFC 8489) and relays
// what two parties cannot send each other directly (RFC 8656), on UDP, TCP and TLS.
//
// It is not a signaling server: whoever holds Credentials that were signed with one of its secrets has an allocation.
// Of calls it knows what Permit and EndCall tell it, or a feed. It does not see into what it relays, which is DTLS-SRTP from end
// to end. It speaks for one thing, a call between two parties: no TCP allocations (RFC 6062), no EVEN-PORT, no
// reservations.
//
// Way in: Listen and New bind, Run serves, Issue makes credentials, URLs is what a browser wants as ICE servers.
//
//	          ┌──────────── requests ───────────▶ answerer ────▶ control        allocations, permissions, calls:
//	          │                                   proof of         │            one mutex
//	          │                                   source, key      │ publishes
//	client ───┤                                                    ▼
//	          │                 ┌──────────────────────────────── tables        read without a lock
//	          │                 ▼
//	          └─ packets ─▶  router ───▶ relay socket ───▶ TURN peer
//	                 ▲   channel, quota,       │
//	                 │   forbidden address     │
//	                 └─────────────────────────┘
//	             or straight to the other client, when the TURN peer is a relayed address of ours
//
// A carrier reads and writes UDP: batched (carrier_linux.go) on Linux, portable (carrier_portable.go) elsewhere. TCP and TLS
// clients are streams (stream.go) on either, and so are servers that tell a relay elsewhere of their calls (feeds.go).
// Package wire has the codec.
package relay

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visavis/visavis/internal/panics"
)

// clientBuffer holds the bursts of many calls on the socket that all clients send to, relayBuffer those of one call
// on a relay socket; the system may grant less.
const (
	clientBuffer = 7 << 20
	relayBuffer  = 1 << 20
)

// A Server relays for those who hold its credentials.
type Server struct {
	cfg      Config
	tls      *tls.Config // nil without TLS
	log      *slog.Logger
	metrics  *metrics
	at       atomic.Pointer[serverAddresses] // written by follow
	router   *router
	control  *control
	carrier  carrier
	patience time.Duration // shorter in tests
	id       string        // by which servers that tell of calls know this one from its next life
	warned   atomic.Bool   // of a proxy that does not tell its clients' addresses
	fed      atomic.Bool   // one of them was here

	listeners []net.Listener  // TCP, and TLS if there is one
	handed    chan handedConn // of ServeConn, to serveHanded; never closed
	ended     chan struct{}   // closed when Run has ended
	streaming sync.WaitGroup  // readers and writers of streams

	connections connections
}

// New checks cfg and opens the UDP sockets, so that errors such as an address in use come now. Nothing is served, and
// the sockets stay open, until Run. New takes the listeners over, also when it fails: then it closes them. log may be nil,
// and so may reg, where metrics are registered.
func New(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Server, error) {
	s, err := open(cfg.withDefaults(), log, reg)
	if err != nil {
		for _, l := range []net.Listener{cfg.Listener, cfg.TLSListener} {
			if l != nil {
				_ = l.Close()
			}
		}
		return nil, fmt.Errorf("relay: %w", err)
	}
	return s, nil
}

func open(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg: cfg, log: log, metrics: newMetrics(), patience: patience, id: rand.Text(),
		connections: newConnections(cfg.MaxConnections, cfg.SourceConnections),
		listeners:   []net.Listener{cfg.Listener}, handed: make(chan handedConn), ended: make(chan struct{}),
	}
	if cfg.TLSListener != nil {
		s.listeners = append(s.listeners, cfg.TLSListener)
	}
	if cfg.GetCertificate != nil {
		s.tls = &tls.Config{GetCertificate: cfg.GetCertificate, MinVersion: tls.VersionTLS12}
	}
	s.control = newControl(cfg, new(policy), s.metrics, time.Now())
	s.control.log = log
	s.router = s.control.router
	carrier, err := openCarrier(s, s.bound())
	if err != nil {
		return nil, err
	}
	s.carrier, s.control.carrier = carrier, carrier
	err = s.follow()
	if err == nil && reg != nil {
		err = reg.Register(s.metrics)
	}
	if err != nil {
		s.shut()
		return nil, err
	}
	return s, nil
}

// bound is the address and port of STUN and TURN, on TCP and UDP both.
func (s *Server) bound() netip.AddrPort { return s.cfg.Listener.Addr().(*net.TCPAddr).AddrPort() }

// secureBound is that of TURN over TLS; not valid without a listener of its own.
func (s *Server) secureBound() netip.AddrPort {
	if s.cfg.TLSListener == nil {
		return netip.AddrPort{}
	}
	return s.cfg.TLSListener.Addr().(*net.TCPAddr).AddrPort()
}

// shut closes what New opened, and the listeners.
func (s *Server) shut() {
	close(s.ended)
	for _, l := range s.listeners {
		_ = l.Close()
	}
	s.carrier.stop()
	s.carrier.finish()
}

func (s *Server) now() time.Time { return time.Now() }

// Permit says that a party of a call has shown addresses to the other one, who may reach them from now on. It has to be
// called before the other one is told. Without Config.CallScoped it changes nothing. See calls.go.
func (s *Server) Permit(call, party string, addrs ...netip.Addr) {
	s.control.permit(s.now(), call, party, addrs)
}

// RelayOnly says whether in a call only our own relayed addresses may be reached, as is right for people who show each
// other no address. Without Config.CallScoped it changes nothing.
func (s *Server) RelayOnly(call string, on bool) { s.control.relayOnly(s.now(), call, on) }

// Relays says where other relays of this installation are, beside Config.Relays: in relay-only calls their relayed
// addresses may be reached when they were shown.
func (s *Server) Relays(addrs ...netip.Addr) { s.control.addRelays(s.now(), addrs) }

// EndCall closes the allocations of a call, makes that nobody gets another one for it, and returns what it relayed. It
// may be called again, and for calls that never came here.
func (s *Server) EndCall(call string) Usage { return s.control.endCall(s.now(), call) }

// Allocations lists those there are, oldest first, for the administrator.
func (s *Server) Allocations() []Allocation { return s.control.list() }

// Drain refuses new allocations from now on, while those there are live on. It returns when the last one is gone, or
// with the error of ctx when that is done.
func (s *Server) Drain(ctx context.Context) error { return s.control.drain(ctx) }

// Run serves until ctx is done, then closes every allocation and socket and returns nil. It is called once; with a
// ctx that is done it only closes what New opened.
func (s *Server) Run(ctx context.Context) error {
	if ctx.Err() != nil {
		s.shut()
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := s.carrier.serve(); err != nil {
			failed <- err
		}
	})
	for i, l := range s.listeners {
		parts.Go(func() { s.accept(ctx, l, i > 0) })
	}
	parts.Go(func() { s.serveHanded(ctx) })
	parts.Go(func() { s.sweep(ctx) })
	s.log.Info("relay is up", "listen", s.bound().String(), "urls", strings.Join(s.URLs(), " "))

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("relay: read from clients: %w", err)
	}
	cancel()
	for _, l := range s.listeners {
		_ = l.Close()
	}
	s.control.closeAll(s.now())
	s.carrier.stop()
	parts.Wait()
	close(s.ended)
	s.streaming.Wait()
	s.carrier.finish()
	return err
}

// sweep lets allocations expire, and follows the machine's addresses.
func (s *Server) sweep(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	warned := false
	for seconds := 1; ; seconds++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			panics.Contain(s.log, inSweep, func() { s.control.expire(s.now()) })
			if seconds%followEvery == 0 {
				if err := s.follow(); err != nil {
					s.log.Warn("relay cannot read the addresses of this machine", "err", err)
				}
			}
			if !warned && s.cfg.Fed && s.cfg.CallScoped && !s.fed.Load() && s.metrics.allocations.Load() > 0 {
				warned = true
				s.log.Warn("no server has ever told of the calls of these clients: they reach nothing but each other's relayed addresses")
			}
		}
	}
}

// accept serves TCP or TLS clients until the listener is closed.
func (s *Server) accept(ctx context.Context, l net.Listener, secure bool) {
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			s.arrive(ctx, conn, secure)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			// Out of file descriptors, most likely.
			s.log.Warn("relay cannot accept connections", "err", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

// arrive admits a connection, after its header where it comes from a proxy.
func (s *Server) arrive(ctx context.Context, socket net.Conn, secure bool) {
	admitted := panics.Contain(s.log, inStream, func() {
		addr := remoteOf(socket)
		switch from := addr.Addr().Unmap(); {
		case !addr.IsValid():
			_ = socket.Close()
			return
		case contains(s.cfg.Proxies, from):
			s.streaming.Go(func() { s.introduce(ctx, socket, secure) })
			return
		case from.IsLoopback():
			s.warnOfProxy(socket, secure)
		}
		s.admit(ctx, socket, socket, addr, secure)
	})
	if !admitted {
		_ = socket.Close()
	}
}

// admit serves a client that is at addr; conn reads from socket.
func (s *Server) admit(ctx context.Context, conn, socket net.Conn, addr netip.AddrPort, secure bool) {
	c := &stream{server: s, conn: conn, socket: socket, from: source{endpointOf(addr), overTCP}, begun: time.Now()}
	if secure {
		c.conn, c.from.transport = tls.Server(conn, s.tls), overTLS
	}
	if !s.connections.enter(c) {
		s.metrics.drops.count(refuseConnections)
		_ = socket.Close()
		return
	}
	if buffered, ok := socket.(interface{ SetWriteBuffer(bytes int) error }); ok {
		_ = buffered.SetWriteBuffer(systemQueue)
	}
	s.streaming.Go(func() { c.serve(ctx) })
}

// forget closes c, which nobody reads from any more.
func (s *Server) forget(c *stream) {
	c.hangUp()
	s.control.gone(c, s.now())
	s.connections.leave(c)
	s.metrics.connections.Add(-1)
}
