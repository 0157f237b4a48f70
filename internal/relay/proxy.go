package relay

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/visavis/visavis/internal/panics"
	"github.com/visavis/visavis/internal/relay/wire"
)

// A proxy in front, such as one that divides the connections to port 443 by server name, hides where a client is. TURN
// tells clients their address, so that a wrong one costs them their relayed address. The PROXY protocol, versions 1 and 2,
// is how proxies tell: a header before all else (wire.ReadProxyHeader). It is read from Config.Proxies alone, for whoever
// writes it chooses an address.

// A behindProxy is a connection whose header was read.
type behindProxy struct {
	net.Conn
	reader *bufio.Reader
}

// Read implements [net.Conn].
func (b behindProxy) Read(p []byte) (int, error) { return b.reader.Read(p) }

// introduce admits a connection of a proxy when that has said whom it is from, or begins without a header.
func (s *Server) introduce(ctx context.Context, socket net.Conn, secure bool) {
	defer panics.Recover(s.log, inStream, func() { _ = socket.Close() })
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() })
	defer stop()
	reader := bufio.NewReaderSize(socket, 512)
	err := socket.SetReadDeadline(time.Now().Add(s.patience))
	var client netip.AddrPort
	var found bool
	if err == nil {
		client, found, err = wire.ReadProxyHeader(reader)
	}
	if err == nil {
		err = socket.SetReadDeadline(time.Time{})
	}
	if err != nil {
		if !errors.Is(err, io.EOF) { // that was to see whether we are there
			s.metrics.drops.count(refuseHandshake)
		}
		_ = socket.Close()
		return
	}
	if !found {
		s.warnOfProxy(socket, secure)
	}
	if !client.IsValid() {
		client = remoteOf(socket)
	}
	s.admit(ctx, behindProxy{socket, reader}, socket, client, secure)
}

// warnOfProxy says, once, that a proxy keeps its clients' addresses to itself.
func (s *Server) warnOfProxy(socket net.Conn, secure bool) {
	if secure && !s.bound().Addr().Unmap().IsLoopback() && !s.warned.Swap(true) {
		s.log.Warn("TURN over TLS comes through a proxy that does not tell the client's address, so browsers may get no relay: "+
			"have it send the PROXY protocol (haproxy: send-proxy-v2) and name it in proxies",
			"proxy", remoteOf(socket).Addr())
	}
}
