package node

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// An Address is where to listen: an IP address of this machine and a port. The zero Address is nowhere.
type Address struct {
	// AddrPort has [::] for all addresses of both families, and 127.0.0.1 for localhost.
	netip.AddrPort
	// Localhost says that it is called localhost instead of by its IP address.
	Localhost bool
}

// ParseAddress reads an IP address, localhost or nothing, then a colon and a port: localhost:8080, [::1]:443, :443.
// Empty text is the zero Address.
func ParseAddress(text string) (Address, error) {
	if text == "" {
		return Address{}, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return Address{}, fmt.Errorf("%q is no address with a port", text)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return Address{}, fmt.Errorf("%q is no port from 0 to 65535", port)
	}
	ip := netip.IPv6Unspecified()
	switch host {
	case "":
	case "localhost":
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	default:
		if ip, err = netip.ParseAddr(host); err != nil {
			return Address{}, fmt.Errorf("%q is no IP address of this machine", host)
		}
	}
	return Address{netip.AddrPortFrom(ip.Unmap(), uint16(n)), host == "localhost"}, nil
}

// MustParseAddress is [ParseAddress] for text that is known to be right. It panics if it is not.
func MustParseAddress(text string) Address {
	a, err := ParseAddress(text)
	if err != nil {
		panic(err)
	}
	return a
}

// String is the address as an operator writes it.
func (a Address) String() string {
	port := strconv.Itoa(int(a.Port()))
	switch {
	case !a.IsValid():
		return ""
	case a.Localhost:
		return net.JoinHostPort("localhost", port)
	case a.Addr() == netip.IPv6Unspecified():
		return ":" + port
	}
	return a.AddrPort.String()
}

// loopback reports whether only this machine can reach it.
func (a Address) loopback() bool { return a.Addr().IsLoopback() }
