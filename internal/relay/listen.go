package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"syscall"
)

// A Server is handed its TCP listeners, but opens its UDP sockets itself, at the address and port of Config.Listener.
// Those carry the data path: batched workers share the port by SO_REUSEPORT and come and go with the load, each socket
// reports the address that a packet came to, and buffers hold the bursts of many calls. A net.PacketConn that was opened
// elsewhere has none of that, and options such as SO_REUSEPORT cannot be set after the socket is bound.

// Listen opens a TCP socket for [Config.Listener]. On port 0 it takes a port that is free for UDP, too.
func Listen(at netip.AddrPort) (net.Listener, error) {
	for tries := 20; ; tries-- {
		tcp, err := net.Listen(networkOf("tcp", at.Addr()), listenText(at))
		if err != nil || at.Port() != 0 {
			return tcp, err
		}
		port := tcp.Addr().(*net.TCPAddr).AddrPort().Port()
		udp, err := net.ListenPacket(networkOf("udp", at.Addr()), listenText(netip.AddrPortFrom(at.Addr(), port)))
		if err == nil {
			return tcp, udp.Close()
		}
		_ = tcp.Close()
		if tries == 0 || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, err
		}
	}
}

// networkOf keeps 0.0.0.0 to IPv4: package net takes it for all addresses of both families.
func networkOf(network string, at netip.Addr) string {
	if at == netip.IPv4Unspecified() {
		return network + "4"
	}
	return network
}

// listenText is an address for package net. It writes [::] as no address, which also works on a machine without IPv6.
func listenText(at netip.AddrPort) string {
	if at.Addr() == netip.IPv6Unspecified() {
		return ":" + strconv.Itoa(int(at.Port()))
	}
	return at.String()
}

// A handedConn is a connection that somebody else has accepted.
type handedConn struct {
	net.Conn
	secure bool
}

// ServeConn takes over a connection of a client that the caller has accepted, such as one that came to a port shared
// with HTTPS. It serves the client like one of the server's own listeners: with TLS still to come if secure is set, which
// needs [Config.GetCertificate]. The client's address is that of conn.RemoteAddr.
//
// ServeConn waits for Run to begin and returns before the client is served. After Run has ended it closes the connection.
func (s *Server) ServeConn(conn net.Conn, secure bool) {
	if secure && s.tls == nil {
		_ = conn.Close()
		return
	}
	select {
	case s.handed <- handedConn{conn, secure}:
	case <-s.ended:
		_ = conn.Close()
	}
}

// serveHanded serves the connections of ServeConn until ctx is done.
func (s *Server) serveHanded(ctx context.Context) {
	for {
		select {
		case c := <-s.handed:
			s.arrive(ctx, c.Conn, c.secure)
		case <-ctx.Done():
			return
		}
	}
}

// remoteOf is the address of a connection's other end; it is not valid where that is none of TCP.
func remoteOf(conn net.Conn) netip.AddrPort {
	at, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	return at
}
