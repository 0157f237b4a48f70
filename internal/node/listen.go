package node

import (
	"fmt"
	"net"
	"net/netip"
)

// listen opens a TCP socket, for what an error names.
func listen(purpose string, at Address) (net.Listener, error) {
	listener, err := net.Listen(network(at), at.String())
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", purpose, err)
	}
	return listener, nil
}

// network is the network of package net for an address to listen on: 0.0.0.0 is
// IPv4 alone, which "tcp" takes for both families.
func network(at Address) string {
	if at.Addr() == netip.IPv4Unspecified() {
		return "tcp4"
	}
	return "tcp"
}
