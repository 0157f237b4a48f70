// Package relay is the STUN and TURN server: it tells clients the address they are seen from (RFC 8489) and relays
// what two parties cannot send each other directly (RFC 8656), on UDP and TCP.
//
// It is not a signaling server and knows no calls: whoever holds Credentials that were signed with one of its
// secrets has an allocation. It does not see into what it relays, which is DTLS-SRTP from end to end.
//
// Way in: New binds, Run serves, Issue makes credentials, URLs is what a browser wants as ICE servers. TURN itself is
// pion/turn; all that reaches it or leaves it goes through what stands around it here:
//
//	client ──UDP──▶ datagrams ─┐                  ┌─▶ pion/turn ─▶ relaySocket ──UDP──▶ TURN peer
//	                           ├─▶ guard.judge ───┤   Allocate,    policy.peerAllowed
//	client ──TCP──▶ stream ────┘   shape, rate,   │   permissions, budget, both ways
//	                readFrame      known client?  │   channels
//	                                              └─▶ Binding: answered at once
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v5"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// patience is how long a TCP client may take to authenticate, to finish a frame, to take what it is sent.
	patience = 10 * time.Second
	// idle is how long an authenticated TCP client may say nothing. Allocations are refreshed each 10 minutes.
	idle = 15 * time.Minute
	// afterExpiry is how long credentials that expired still serve an allocation they once made: a browser goes on
	// with those the call began with.
	afterExpiry = 12 * time.Hour
	// socketBuffer holds the bursts of many calls; the system may grant less.
	socketBuffer = 4 << 20
)

// A Server relays for those who hold its credentials.
type Server struct {
	cfg        Config
	log        *slog.Logger
	metrics    *metrics
	policy     policy
	address    netip.AddrPort
	secrets    map[string][]byte // by secretID
	challenges *buckets
	quotas     *quotas
	patience   time.Duration // shorter in tests
	bindIP     netip.Addr    // of relay sockets; unspecified where Config.Address is not ours to bind

	udp *net.UDPConn
	tcp *net.TCPListener

	readers sync.WaitGroup // a reader for each thing pion reads from
	failed  chan error     // the UDP socket broke; holds one

	mu      sync.Mutex
	streams map[*stream]struct{} // guarded by mu
	sources map[netip.Prefix]int // guarded by mu: streams from each
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
	tcp, udp, err := listen(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	s := &Server{
		cfg: cfg, log: log, tcp: tcp, udp: udp,
		metrics:    newMetrics(),
		secrets:    make(map[string][]byte),
		challenges: newBuckets(cfg.ChallengeRate, cfg.ChallengeBurst),
		patience:   patience,
		failed:     make(chan error, 1),
		streams:    make(map[*stream]struct{}),
		sources:    make(map[netip.Prefix]int),
	}
	s.quotas = newQuotas(cfg, s.metrics)
	for _, secret := range cfg.Secrets {
		s.secrets[secretID(secret)] = secret
	}
	err = errors.Join(s.settleAddresses(), s.metrics.register(reg))
	if err != nil {
		_ = tcp.Close()
		_ = udp.Close()
		return nil, fmt.Errorf("relay: %w", err)
	}
	_ = udp.SetReadBuffer(socketBuffer)
	_ = udp.SetWriteBuffer(socketBuffer)
	return s, nil
}

// listen binds one port for TCP and UDP both.
func listen(address string) (*net.TCPListener, *net.UDPConn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, nil, err
	}
	// A port that is free for TCP may be taken for UDP: then another one is tried, if any port will do.
	for tries := 20; ; tries-- {
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			return nil, nil, err
		}
		bound := tcp.Addr().(*net.TCPAddr)
		udp, err := net.ListenPacket("udp", net.JoinHostPort(host, strconv.Itoa(bound.Port)))
		if err == nil {
			return tcp.(*net.TCPListener), udp.(*net.UDPConn), nil
		}
		_ = tcp.Close()
		if port != "0" || tries == 0 || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, nil, err
		}
	}
}

// settleAddresses works out the address that clients are told and the policy that follows from it.
func (s *Server) settleAddresses() error {
	bound := s.tcp.Addr().(*net.TCPAddr).AddrPort()
	listening := bound.Addr().Unmap()
	interfaces, err := interfaceAddresses()
	if err != nil {
		return err
	}
	address := s.cfg.Address.Unmap()
	switch {
	case address.IsValid():
	case !listening.IsUnspecified():
		address = listening.WithZone("")
	default:
		address = firstReachable(interfaces)
	}
	allow := s.cfg.Allow
	if allow == nil && listening.IsLoopback() {
		allow = prefixes("127.0.0.0/8", "::1/128")
	}
	s.address = netip.AddrPortFrom(address, bound.Port())
	// Where a translator stands between, and hands us what is sent to address, we cannot bind it.
	switch {
	case slices.Contains(interfaces, address) || address.IsLoopback():
		s.bindIP = address
	case listening.Is4() == address.Is4() && listening.IsGlobalUnicast():
		s.bindIP = listening
	case address.Is4():
		s.bindIP = netip.IPv4Unspecified()
	default:
		s.bindIP = netip.IPv6Unspecified()
	}
	s.policy = policy{
		allow: allow, address: address, minPort: s.cfg.MinPort, maxPort: s.cfg.MaxPort,
		listenPort: bound.Port(), own: append(interfaces, address, listening),
	}
	return nil
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

// Addr is what clients are told: the address and port of STUN and TURN.
func (s *Server) Addr() netip.AddrPort { return s.address }

// URLs are those of RFC 7064 and RFC 7065, as W3C's RTCIceServer takes them.
func (s *Server) URLs() []string {
	at := s.address.String()
	return []string{"stun:" + at, "turn:" + at + "?transport=udp", "turn:" + at + "?transport=tcp"}
}

// Run serves until ctx is done, then closes every allocation and socket and returns nil. It is called once; with a
// ctx that is done it only closes what New opened.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var accepting sync.WaitGroup
	defer s.close(&accepting)
	if ctx.Err() != nil {
		return nil
	}
	d := &datagrams{UDPConn: s.udp, guard: newGuard(s)}
	if err := s.serve(d, d.guard); err != nil {
		return err
	}
	accepting.Go(func() { s.accept(ctx) })
	s.log.Info("relay is up", "address", s.address.String(), "listen", s.tcp.Addr().String())
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return fmt.Errorf("relay: read from clients: %w", err)
	}
}

// close returns when no client is read from any more and no relay socket is open.
func (s *Server) close(accepting *sync.WaitGroup) {
	_ = s.udp.Close()
	_ = s.tcp.Close()
	accepting.Wait()
	s.mu.Lock()
	for c := range s.streams {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.readers.Wait()
	s.quotas.wait()
}

// serve has pion/turn read from conn, which tells s.readers when it is through, and returns at once.
func (s *Server) serve(conn net.PacketConn, g *guard) error {
	s.readers.Add(1)
	_, err := turn.NewServer(turn.ServerConfig{
		Realm:        s.cfg.Realm,
		AuthHandler:  s.key,
		QuotaHandler: func(holder, _ string, _ net.Addr) bool { return s.quotas.room(holder) },
		EventHandler: turn.EventHandler{
			OnAuth:              g.onAuth,
			OnAllocationCreated: g.onAllocationCreated,
			OnAllocationDeleted: g.onAllocationDeleted,
			OnChannelCreated:    g.onChannelCreated,
			OnChannelDeleted:    g.onChannelDeleted,
		},
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn:            conn,
			RelayAddressGenerator: (*generator)(s),
			PermissionHandler:     g.permit,
		}},
		// pion logs addresses, and strangers decide how much of it.
		LoggerFactory: &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled},
	})
	if err != nil {
		s.readers.Done()
		return fmt.Errorf("relay: start pion/turn: %w", err)
	}
	return nil
}

// key is pion's question for the key of a user name; pion answers 400 if there is none, where RFC 8489 §9.2.4 wants
// 401. A nonce of pion's is good for an hour, and from any source address: it does not show that a UDP client is
// where it says, only the signature does.
func (s *Server) key(request *turn.RequestAttributes) (holder string, key []byte, ok bool) {
	claim, err := parseUsername(request.Username)
	if err != nil {
		s.metrics.refuse(causeCredentials)
		return "", nil, false
	}
	good := claim.expires
	if request.Method != methodAllocate {
		good = good.Add(afterExpiry)
	}
	secret, known := s.secrets[claim.secretID]
	if !known || request.Realm != s.cfg.Realm || !time.Now().Before(good) {
		s.metrics.refuse(causeCredentials)
		return "", nil, false
	}
	return claim.holder, turn.GenerateAuthKey(request.Username, request.Realm, password(secret, request.Username)), true
}

// accept serves TCP clients until the listener is closed.
func (s *Server) accept(ctx context.Context) {
	for {
		conn, err := s.tcp.AcceptTCP()
		switch {
		case err == nil:
			s.admit(conn)
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

func (s *Server) admit(conn *net.TCPConn) {
	src := addrPort(conn.RemoteAddr())
	from := sourceOf(src.Addr())
	s.mu.Lock()
	full := len(s.streams) >= s.cfg.MaxConnections || s.sources[from] >= s.cfg.SourceConnections
	var c *stream
	if !full {
		c = newStream(conn, s)
		s.streams[c] = struct{}{}
		s.sources[from]++
	}
	s.mu.Unlock()
	if full {
		s.metrics.refuse(causeConnections)
		_ = conn.Close()
		return
	}
	s.metrics.connections.Inc()
	// A pion server for each connection: its own framing of TCP spins on crafted lengths, and this way it never
	// sees the stream; and it drops a connection's allocation as soon as its reader ends.
	if err := s.serve(c, c.guard); err != nil {
		s.log.Error("relay cannot serve a connection", "err", err)
		s.forget(c)
	}
}

// forget closes c, which nobody reads from any more.
func (s *Server) forget(c *stream) {
	_ = c.Close()
	from := sourceOf(c.src.Addr())
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, c)
	if s.sources[from]--; s.sources[from] == 0 {
		delete(s.sources, from)
	}
	s.metrics.connections.Dec()
}

func addrPort(addr net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch addr := addr.(type) {
	case *net.UDPAddr:
		ap = addr.AddrPort()
	case *net.TCPAddr:
		ap = addr.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
