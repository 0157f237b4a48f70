package relay

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/visavis/visavis/internal/panics"
)

// A proxy in front, such as one that divides the connections to port 443 by server name, hides where a client is. TURN
// tells clients their address, so that a wrong one costs them their relayed address. The PROXY protocol, versions 1 and 2,
// is how proxies tell: a header before all else. It is read from Config.Proxies alone, for whoever writes it chooses an
// address. https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt

var (
	proxySignature2 = []byte("\r\n\r\n\x00\r\nQUIT\n")
	errProxyHeader  = errors.New("malformed PROXY header")
)

const (
	longestProxyLine = 107 // section 2.1
	proxyHeader2     = 16  // section 2.2, without addresses
)

// readProxyHeader reads the header that a connection begins with, if it begins with one. client is not valid where the
// proxy speaks for itself, or for something other than TCP.
func readProxyHeader(r *bufio.Reader) (client netip.AddrPort, found bool, err error) {
	first, err := r.Peek(1)
	if err != nil {
		return client, false, err
	}
	switch first[0] { // neither STUN, TLS nor a feed begins so
	case 'P':
		return readProxyLine(r)
	case proxySignature2[0]:
		return readProxyHeader2(r)
	}
	return client, false, nil
}

func readProxyLine(r *bufio.Reader) (client netip.AddrPort, found bool, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return client, false, err
	}
	fields := strings.Split(strings.TrimSuffix(string(line), "\r\n"), " ")
	switch {
	case len(line) > longestProxyLine || fields[0] != "PROXY" || len(fields) < 2:
		return client, false, errProxyHeader
	case fields[1] == "UNKNOWN":
		return client, true, nil
	case len(fields) != 6 || fields[1] != "TCP4" && fields[1] != "TCP6":
		return client, false, errProxyHeader
	}
	client, err = netip.ParseAddrPort(net.JoinHostPort(fields[2], fields[4]))
	if err != nil || client.Addr().Zone() != "" {
		return netip.AddrPort{}, false, errProxyHeader
	}
	return client, true, nil
}

func readProxyHeader2(r *bufio.Reader) (client netip.AddrPort, found bool, err error) {
	var header [proxyHeader2]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return client, false, err
	}
	command, family, length := header[12], header[13], int(binary.BigEndian.Uint16(header[14:]))
	if !bytes.HasPrefix(header[:], proxySignature2) || command>>4 != 2 || command&15 > 1 {
		return client, false, errProxyHeader
	}
	ip := 0
	switch {
	case command&15 == 0: // LOCAL
	case family == 0x11: // TCP over IPv4
		ip = 4
	case family == 0x21: // TCP over IPv6
		ip = 16
	}
	if ip > 0 {
		addresses := make([]byte, 2*ip+4)
		if len(addresses) > length {
			return client, false, errProxyHeader
		}
		if _, err := io.ReadFull(r, addresses); err != nil {
			return client, false, err
		}
		length -= len(addresses)
		from, _ := netip.AddrFromSlice(addresses[:ip])
		client = netip.AddrPortFrom(from, binary.BigEndian.Uint16(addresses[2*ip:]))
	}
	_, err = r.Discard(length) // what else the proxy says
	return client, err == nil, err
}

// A behindProxy is a connection whose header was read.
type behindProxy struct {
	net.Conn
	reader *bufio.Reader
}

// Read implements [net.Conn].
func (b behindProxy) Read(p []byte) (int, error) { return b.reader.Read(p) }

// introduce admits a connection of a proxy when that has said whom it is from, or begins without a header.
func (s *Server) introduce(ctx context.Context, socket *net.TCPConn, secure bool) {
	defer panics.Recover(s.log, inStream, func() { _ = socket.Close() })
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() })
	defer stop()
	reader := bufio.NewReaderSize(socket, 512)
	err := socket.SetReadDeadline(time.Now().Add(s.patience))
	var client netip.AddrPort
	var found bool
	if err == nil {
		client, found, err = readProxyHeader(reader)
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
		client = socket.RemoteAddr().(*net.TCPAddr).AddrPort()
	}
	s.admit(ctx, behindProxy{socket, reader}, socket, client, secure)
}

// warnOfProxy says, once, that a proxy keeps its clients' addresses to itself.
func (s *Server) warnOfProxy(socket *net.TCPConn, secure bool) {
	own := s.listeners[0].Addr().(*net.TCPAddr).AddrPort().Addr()
	if secure && !own.Unmap().IsLoopback() && !s.warned.Swap(true) {
		s.log.Warn("TURN over TLS comes through a proxy that does not tell the client's address, so browsers may get no relay: "+
			"have it send the PROXY protocol (haproxy: send-proxy-v2) and name it in proxies",
			"proxy", socket.RemoteAddr().(*net.TCPAddr).AddrPort().Addr())
	}
}
