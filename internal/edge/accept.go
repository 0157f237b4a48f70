package edge

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"

	"github.com/visavis/visavis/internal/limit"
)

// limitedListener bounds the connections of each address, and all together, as they are accepted. Where there are too
// many, the oldest one that has not become a WebSocket is closed: an idle one, or one whose request takes long.
// Connections of a proxy are not counted here as its own but as those of the clients it names
// ([Server.holdConnection]).
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
		o := &outlet{TCPConn: tcp, limits: l.limits}
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

// outletKey is the key of a connection's outlet in the context of its requests.
type outletKey struct{}

// withOutlet puts a connection's outlet into the context of its requests.
func withOutlet(ctx context.Context, conn net.Conn) context.Context {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if o, ok := conn.(*outlet); ok {
		return context.WithValue(ctx, outletKey{}, o)
	}
	return ctx
}
