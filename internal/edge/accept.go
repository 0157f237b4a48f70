package edge

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"

	"github.com/visavis/visavis/internal/limit"
)

// limitedListener bounds the connections of each address, and of all addresses together, when it accepts them. At a
// limit it closes the oldest connection that has not become a WebSocket: an idle one, or one with a slow request.
// It does not count a proxy's connections for the proxy's address. [Server.holdConnection] counts them for the clients
// that the proxy names.
type limitedListener struct {
	net.Listener
	limits  *limits
	isProxy func(netip.Addr) bool
}

// Accept implements [net.Listener].
func (l limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			return conn, err
		}
		o := &clientConn{TCPConn: tcp, limits: l.limits}
		from, _ := netip.ParseAddrPort(tcp.RemoteAddr().String())
		addr := from.Addr().Unmap()
		held := l.isProxy(addr) || l.limits.connections.Enter(limit.Source(addr), &o.place, o)
		if held && l.limits.open.Enter(everybody{}, &o.among, o) {
			return o, nil
		}
		l.limits.refused.WithLabelValues("connections").Inc()
		_ = o.Close()
	}
}

// clientConnKey is the key of a connection's clientConn in the context of its requests.
type clientConnKey struct{}

// withClientConn puts a connection's clientConn into the context of its requests.
func withClientConn(ctx context.Context, conn net.Conn) context.Context {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if o, ok := conn.(*clientConn); ok {
		return context.WithValue(ctx, clientConnKey{}, o)
	}
	return ctx
}
