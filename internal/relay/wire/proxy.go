package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
)

var (
	proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")
	errProxyHeader = errors.New("malformed PROXY header")
)

const (
	longestProxyLine = 107 // section 2.1
	proxyHeaderSize  = 16  // section 2.2, without addresses
)

// ReadProxyHeader reads the PROXY header that a connection begins with, if it begins with one: by this header a proxy tells
// whose connection it passes on. client is not valid where the proxy speaks for itself, or for something other than TCP.
// r must hold at least 107 bytes.
//
// The protocol is https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt; comments name its sections.
func ReadProxyHeader(r *bufio.Reader) (client netip.AddrPort, found bool, err error) {
	first, err := r.Peek(1)
	if err != nil {
		return client, false, err
	}
	switch OpeningOf(first[0]) {
	case ProxyLine:
		return readProxyLine(r)
	case ProxyHeader:
		return readProxyHeader(r)
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

func readProxyHeader(r *bufio.Reader) (client netip.AddrPort, found bool, err error) {
	var header [proxyHeaderSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return client, false, err
	}
	command, family, length := header[12], header[13], int(binary.BigEndian.Uint16(header[14:]))
	if !bytes.HasPrefix(header[:], proxySignature) || command>>4 != 2 || command&15 > 1 {
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
