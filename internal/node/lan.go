package node

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
)

// lanAddresses are this machine's addresses as others of its networks reach it:
// that of the default route first, then IPv4 before IPv6; neither loopback nor
// link-local ones.
func lanAddresses() []netip.Addr {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	return sortLAN(all, outward("udp4", "192.0.2.1:9"), outward("udp6", "[2001:db8::1]:9"))
}

// outward is the address that packets to the internet would leave from. A
// connected UDP socket knows, and sends nothing (RFC 5737, RFC 3849: nobody is
// there).
func outward(network, to string) netip.Addr {
	conn, err := net.Dial(network, to)
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return local.Addr().Unmap()
}

// sortLAN are those of all that others of its networks reach, in the order of [lanAddresses].
func sortLAN(all []net.Addr, first ...netip.Addr) []netip.Addr {
	var addresses []netip.Addr
	for _, a := range all {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		if ip := prefix.Addr().Unmap(); ip.IsGlobalUnicast() && !slices.Contains(addresses, ip) {
			addresses = append(addresses, ip)
		}
	}
	rank := func(ip netip.Addr) int {
		switch {
		case slices.Contains(first, ip):
			return slices.Index(first, ip)
		case ip.Is4():
			return len(first)
		}
		return len(first) + 1
	}
	slices.SortStableFunc(addresses, func(a, b netip.Addr) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.Compare(b))
	})
	return addresses
}
