package node

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// listen opens a TCP socket at an address and port, for what an error names.
func listen(purpose, address string) (net.Listener, error) {
	listener, err := net.Listen(network(address), address)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", purpose, err)
	}
	return listener, nil
}

// network is the network of package net for an address to listen on: 0.0.0.0 is
// IPv4 alone, which "tcp" takes for both families.
func network(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil && host == "0.0.0.0" {
		return "tcp4"
	}
	return "tcp"
}

// addrPort reads an address to listen on that is valid. None is all, of both families.
func addrPort(listen string) netip.AddrPort {
	host, port, _ := net.SplitHostPort(listen)
	n, _ := strconv.ParseUint(port, 10, 16)
	ip := netip.IPv6Unspecified()
	switch host {
	case "":
	case "localhost":
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	default:
		ip = netip.MustParseAddr(host)
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(n))
}
