// Package relay is the STUN and TURN server: it tells clients the address they are seen from (RFC 8489) and relays
// what two parties cannot send each other directly (RFC 8656), on UDP, TCP and TLS.
//
// It is not a signaling server: whoever holds Credentials that were signed with one of its secrets has an allocation.
// Of calls it knows what Permit and EndCall tell it, or a feed. It does not see into what it relays, which is DTLS-SRTP from end
// to end. It speaks for one thing, a call between two parties: no TCP allocations (RFC 6062), no EVEN-PORT, no
// reservations.
//
// Way in: New binds, Run serves, Issue makes credentials, URLs is what a browser wants as ICE servers.
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
// What reads and writes UDP is a carrier: batched (carrier_linux.go) on Linux, plain (plain.go) elsewhere. TCP and TLS
// clients are streams (stream.go) on either, and so are servers that tell a relay elsewhere of their calls (feeds.go).
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
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
	log      *slog.Logger
	metrics  *metrics
	policy   policy
	address  netip.AddrPort
	secure   netip.AddrPort // of turns:; not valid without TLS
	router   *router
	control  *control
	carrier  carrier
	patience time.Duration // shorter in tests
	id       string        // by which servers that tell of calls know this one from its next life
	fed      atomic.Bool   // one of them was here

	listeners []net.Listener // TCP, and TLS if there is one
	streaming sync.WaitGroup // readers and writers of streams

	connections *connections
}

// New checks cfg and binds the sockets, so that errors such as an address in use come now. Nothing is served, and
// the sockets stay open, until Run. log may be nil, and so may reg, where metrics are registered.
func New(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg: cfg, log: log, metrics: newMetrics(), patience: patience, id: rand.Text(),
		connections: newConnections(cfg.MaxConnections, cfg.SourceConnections),
	}
	s.control = newControl(cfg, &s.policy, s.metrics, time.Now())
	s.router = s.control.router
	err := s.listen()
	if err == nil {
		err = s.settleAddresses()
	}
	if err == nil && reg != nil {
		err = reg.Register(s.metrics)
	}
	if err != nil {
		s.shut()
		return nil, fmt.Errorf("relay: %w", err)
	}
	return s, nil
}

// listen binds one port for TCP and UDP both, and the one of TLS.
func (s *Server) listen() error {
	_, port, err := net.SplitHostPort(s.cfg.Listen)
	if err != nil {
		return err
	}
	// A port that is free for TCP may be taken for UDP: then another one is tried, if any port will do.
	for tries := 20; ; tries-- {
		tcp, err := net.Listen("tcp", s.cfg.Listen)
		if err != nil {
			return err
		}
		s.carrier, err = openCarrier(s, tcp.Addr().(*net.TCPAddr).AddrPort())
		if err == nil {
			s.control.carrier = s.carrier
			s.listeners = append(s.listeners, tcp)
			break
		}
		_ = tcp.Close()
		if port != "0" || tries == 0 || !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
	}
	if s.cfg.TLS == nil {
		return nil
	}
	tcp, err := net.Listen("tcp", s.cfg.TLSListen)
	if err == nil {
		s.listeners = append(s.listeners, tcp)
	}
	return err
}

// shut closes what New opened.
func (s *Server) shut() {
	for _, l := range s.listeners {
		_ = l.Close()
	}
	if s.carrier != nil {
		s.carrier.stop()
		s.carrier.finish()
	}
}

// settleAddresses works out the addresses that clients are told and the policy that follows from them.
func (s *Server) settleAddresses() error {
	bound := s.listeners[0].Addr().(*net.TCPAddr).AddrPort()
	listening := bound.Addr().Unmap()
	interfaces, err := interfaceAddresses()
	if err != nil {
		return err
	}
	address, other := s.cfg.Address.Unmap(), s.cfg.OtherAddress
	switch {
	case address.IsValid():
	case !listening.IsUnspecified():
		address = listening.WithZone("")
	default:
		address = firstReachable(interfaces)
		if !other.IsValid() {
			other = firstOfOther(interfaces, address)
		}
	}
	if other.IsValid() && other.Is4() == address.Is4() {
		return fmt.Errorf("addresses %s and %s: want one of each family", address, other)
	}
	allow := s.cfg.Allow
	if allow == nil && listening.IsLoopback() {
		allow = prefixes("127.0.0.0/8", "::1/128")
	}
	s.address = netip.AddrPortFrom(address, bound.Port())
	ports := []uint16{bound.Port()}
	if len(s.listeners) > 1 {
		at := s.listeners[1].Addr().(*net.TCPAddr).AddrPort()
		s.secure = netip.AddrPortFrom(address, at.Port())
		ports = append(ports, at.Port())
	}
	for _, ip := range []netip.Addr{address, other} {
		if ip.IsValid() {
			s.control.relayOn(ip, s.bindFor(ip, listening, interfaces))
		}
	}
	s.policy = policy{
		allow: allow, address: address, other: other, minPort: s.cfg.MinPort, maxPort: s.cfg.MaxPort,
		listenPorts: ports, own: append(interfaces, address, other, listening),
	}
	return nil
}

// bindFor is where relay sockets are bound for relayed addresses on ip. Where a translator stands between, and hands us
// what is sent to ip, we cannot bind it.
func (s *Server) bindFor(ip, listening netip.Addr, interfaces []netip.Addr) netip.Addr {
	switch {
	case slices.Contains(interfaces, ip) || ip.IsLoopback():
		return ip
	case listening.Is4() == ip.Is4() && listening.IsGlobalUnicast():
		return listening
	case ip.Is4():
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func interfaceAddresses() ([]netip.Addr, error) {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of the interfaces: %w", err)
	}
	var list []netip.Addr
	for _, addr := range nets {
		if prefix, err := netip.ParsePrefix(addr.String()); err == nil {
			list = append(list, prefix.Addr().Unmap())
		}
	}
	return list, nil
}

func firstReachable(interfaces []netip.Addr) netip.Addr {
	for _, ok := range []func(netip.Addr) bool{netip.Addr.Is4, netip.Addr.Is6} {
		for _, ip := range interfaces {
			if ok(ip) && ip.IsGlobalUnicast() {
				return ip
			}
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// firstOfOther is for relayed addresses that clients ask for by family. Private IPv6 addresses do not count: nobody
// would be reached from there.
func firstOfOther(interfaces []netip.Addr, address netip.Addr) netip.Addr {
	for _, ip := range interfaces {
		if ip.Is4() != address.Is4() && ip.IsGlobalUnicast() && (ip.Is4() || !ip.IsPrivate()) {
			return ip
		}
	}
	return netip.Addr{}
}

// Addr is what clients are told: the address and port of STUN and TURN.
func (s *Server) Addr() netip.AddrPort { return s.address }

// RelayedAddresses are those on which clients have relayed addresses.
func (s *Server) RelayedAddresses() []netip.Addr {
	var all []netip.Addr
	for _, p := range []*ports{&s.router.relayed4, &s.router.relayed6} {
		if p.list != nil {
			all = append(all, netip.AddrFrom16(p.ip).Unmap())
		}
	}
	return all
}

// URLs are those of RFC 7064 and RFC 7065, as W3C's RTCIceServer takes them: STUN first.
func (s *Server) URLs() []string {
	at := s.address.String()
	urls := []string{"stun:" + at, "turn:" + at + "?transport=udp", "turn:" + at + "?transport=tcp"}
	if s.secure.IsValid() {
		host := s.secure.String()
		if s.cfg.TLSName != "" {
			host = fmt.Sprintf("%s:%d", s.cfg.TLSName, s.secure.Port())
		}
		urls = append(urls, "turns:"+host+"?transport=tcp")
	}
	return urls
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
	parts.Go(func() { s.sweep(ctx) })
	s.log.Info("relay is up", "address", s.address.String(), "listen", s.listeners[0].Addr().String())

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
	for _, c := range s.connections.all() {
		c.hangUp()
	}
	s.streaming.Wait()
	s.carrier.finish()
	return err
}

// sweep lets allocations expire.
func (s *Server) sweep(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	warned := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.control.expire(s.now())
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
			s.admit(ctx, conn.(*net.TCPConn), secure)
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

func (s *Server) admit(ctx context.Context, socket *net.TCPConn, secure bool) {
	addr := socket.RemoteAddr().(*net.TCPAddr).AddrPort()
	c := &stream{server: s, conn: socket, socket: socket, from: source{endpointOf(addr), overTCP}, begun: time.Now()}
	if secure {
		c.conn, c.from.transport = tls.Server(socket, s.cfg.TLS), overTLS
	}
	if ctx.Err() != nil {
		_ = socket.Close()
		return
	}
	evicted, ok := s.connections.enter(c)
	if evicted != nil || !ok {
		s.metrics.drops.count(refuseConnections)
	}
	if evicted != nil {
		s.metrics.connections.Add(-1)
		evicted.hangUp()
	}
	if !ok {
		_ = socket.Close()
		return
	}
	_ = socket.SetWriteBuffer(systemQueue)
	s.metrics.connections.Add(1)
	s.streaming.Go(func() { c.serve(ctx) })
}

// forget closes c, which nobody reads from any more.
func (s *Server) forget(c *stream) {
	c.hangUp()
	s.control.gone(c, s.now())
	if s.connections.leave(c) {
		s.metrics.connections.Add(-1)
	}
}
