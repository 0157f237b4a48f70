package relay

import (
	"net/netip"
	"slices"
)

// lowestPeerPort keeps relayed packets away from DNS, NTP and their like.
const lowestPeerPort = 1024

// forbidden are the special-purpose blocks of the IANA registries (RFC 6890) and those that tunnel IPv4 in a layout
// of their own, in which no TURN peer lives.
var forbidden = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
	"192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
	"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",

	"::/128", "::1/128", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001:1::/32", "2001:2::/48", "2001:3::/32",
	"2001:4:112::/48", "2001:10::/28", "2001:20::/28", "2001:30::/28", "2001:db8::/32", "2620:4f:8000::/48",
	"3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
)

var (
	teredo  = netip.MustParsePrefix("2001::/32")      // RFC 4380 §4
	sixToIV = netip.MustParsePrefix("2002::/16")      // RFC 3056 §2
	nat64   = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
	// inLast32 are the blocks whose addresses end in an IPv4 address: the compatible (RFC 4291 §2.5.5.1), translated
	// (RFC 2765 §2.1) and NAT64 ones (RFC 6052 §2.1).
	inLast32 = prefixes("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
)

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

func contains(list []netip.Prefix, ip netip.Addr) bool {
	for _, prefix := range list {
		if prefix.Contains(ip) {
			return true
		}
	}
	return false
}

// A policy says which TURN peers a client may reach. It is never changed, only replaced.
type policy struct {
	allow            []netip.Prefix
	relayed          []netip.Addr // on which there are relayed addresses of ours
	minPort, maxPort uint16       // of our relayed addresses
	listenPorts      []uint16
	own              []netip.Addr // where listenPorts are ours, beside all of loopback
}

// peerAllowed is the one rule about TURN peers, for CreatePermission, ChannelBind, Send and for each packet that
// passes a relayed address, either way.
func (p *policy) peerAllowed(peer netip.AddrPort) bool {
	port := peer.Port()
	if port < lowestPeerPort || !p.hostAllowed(peer.Addr()) {
		return false
	}
	ip := peer.Addr().Unmap()
	listed := contains(p.allow, ip)
	var buf [maxFaces]netip.Addr
	for _, face := range appendFaces(buf[:0], ip) {
		if slices.Contains(p.listenPorts, port) && (face.IsLoopback() || slices.Contains(p.own, face)) {
			return false
		}
		// On our own address live other services, too: only relayed addresses are for clients.
		if slices.Contains(p.relayed, face) && !listed && (port < p.minPort || port > p.maxPort) {
			return false
		}
	}
	return true
}

// hostAllowed is what can be said of a TURN peer without its port: a permission has none (RFC 8656 §9).
func (p *policy) hostAllowed(ip netip.Addr) bool {
	if !ip.IsValid() || ip.Zone() != "" {
		return false
	}
	ip = ip.Unmap()
	// Not one host, whoever allows them; an unspecified address even means ourselves.
	if ip.IsUnspecified() || ip.IsMulticast() || ip == broadcast {
		return false
	}
	if contains(p.allow, ip) || slices.Contains(p.relayed, ip) {
		return true
	}
	var buf [maxFaces]netip.Addr
	for _, face := range appendFaces(buf[:0], ip) {
		if contains(forbidden, face) {
			return false
		}
	}
	return true
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// maxFaces is what one address can have: itself, two for a block and one for its interface identifier.
const maxFaces = 4

// appendFaces adds ip, which is unmapped, and each IPv4 address that a translator or tunnel would make of it. It
// works for each packet, so the list is lent by the caller.
func appendFaces(list []netip.Addr, ip netip.Addr) []netip.Addr {
	list = append(list, ip)
	if ip.Is4() {
		return list
	}
	b := ip.As16()
	if contains(inLast32, ip) {
		list = append(list, netip.AddrFrom4([4]byte(b[12:])))
	}
	if nat64.Contains(ip) {
		// RFC 6052 §2.2: octet 8 is skipped.
		list = append(list, netip.AddrFrom4([4]byte{b[6], b[7], b[9], b[10]}))
	}
	if sixToIV.Contains(ip) {
		list = append(list, netip.AddrFrom4([4]byte(b[2:6])))
	}
	if teredo.Contains(ip) {
		list = append(list, netip.AddrFrom4([4]byte(b[4:8])), netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}))
	}
	// RFC 5214 §6.1, with and without the bit that says the IPv4 address is unique.
	if b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe {
		list = append(list, netip.AddrFrom4([4]byte(b[12:])))
	}
	return list
}
