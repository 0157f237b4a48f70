package relay

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// followEvery is how often, in seconds, a server that listens on all addresses looks which ones the machine has. A look
// costs some 50 µs; a client that lost its path tries for longer than that.
const followEvery = 2

// The addresses of a server are at most one of each family, the one that clients are told first. They are fixed where
// the configuration names them or the server listens on one address. Otherwise they are the machine's, and follow it:
// a laptop changes its network, a server starts before its network is there, a provider gives another address.

// addresses are those that clients are told and have relayed addresses on. local are the machine's, the likeliest to be
// reached first; before are the addresses until now: a family of which the machine has none for the moment stays.
func (c *Config) addresses(listening netip.Addr, local, before []netip.Addr) []netip.Addr {
	var all []netip.Addr
	add := func(ip netip.Addr) {
		if ip.IsValid() && !slices.ContainsFunc(all, func(a netip.Addr) bool { return a.Is4() == ip.Is4() }) {
			all = append(all, ip)
		}
	}
	if !listening.IsUnspecified() && !c.Address.IsValid() {
		add(listening.WithZone(""))
	}
	add(c.Address.Unmap())
	add(c.OtherAddress)
	if !listening.IsUnspecified() {
		return all
	}
	served := func(ip netip.Addr) bool { return ip.IsGlobalUnicast() && (listening.Is6() || ip.Is4()) }
	for _, fit := range []func(netip.Addr) bool{
		netip.Addr.Is4,
		// A private IPv6 address beside an IPv4 one is of no use: nobody reaches it from elsewhere.
		func(ip netip.Addr) bool { return ip.Is6() && !ip.IsPrivate() },
		func(ip netip.Addr) bool { return ip.Is6() && len(all) == 0 },
	} {
		for _, list := range [][]netip.Addr{local, before} {
			for _, ip := range list {
				if served(ip) && fit(ip) {
					add(ip)
				}
			}
		}
	}
	if len(all) == 0 { // no network yet: pages on this machine can call each other
		all = append(all, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	}
	return all
}

// urls are those of RFC 7064 and RFC 7065 by which clients get to a server with these addresses and ports: STUN first.
// port and secure are those that it listens on; secure is 0 without TLS.
func (c *Config) urls(listening netip.Addr, addresses []netip.Addr, port, secure uint16) []string {
	if c.PublicPort != 0 {
		port = c.PublicPort
	}
	if c.TLSPublicPort != 0 {
		secure = c.TLSPublicPort
	}
	var hosts []string
	for i, ip := range addresses {
		// An address of a family that is not listened on is for relayed addresses alone.
		if i == 0 || listening.IsUnspecified() && listening.Is6() {
			hosts = append(hosts, ip.String())
		}
	}
	if c.Host != "" {
		hosts = []string{c.Host}
	}
	at := func(host string, port uint16) string { return net.JoinHostPort(host, strconv.Itoa(int(port))) }
	var stun, turn []string
	for _, host := range hosts {
		stun = append(stun, "stun:"+at(host, port))
		turn = append(turn, "turn:"+at(host, port)+"?transport=udp", "turn:"+at(host, port)+"?transport=tcp")
	}
	if secure != 0 {
		turn = append(turn, "turns:"+at(c.tlsHost(hosts[0]), secure)+"?transport=tcp")
	}
	return append(stun, turn...)
}

// tlsHost is the name by which clients come over TLS.
func (c *Config) tlsHost(otherwise string) string {
	switch {
	case c.TLSName != "":
		return c.TLSName
	case c.Host != "":
		return c.Host
	}
	return otherwise
}

// PlannedURLs are what [Server.URLs] of a server with this configuration would be now if it listened on these addresses
// and ports. secure is that of TLS, not valid without. Nothing is opened, and no listener is needed.
func (c Config) PlannedURLs(listen, secure netip.AddrPort) ([]string, error) {
	local, err := c.local()
	if err != nil {
		return nil, err
	}
	listening := listen.Addr().Unmap()
	return c.urls(listening, c.addresses(listening, local, nil), listen.Port(), secure.Port()), nil
}

// local are the machine's addresses, the likeliest first.
func (c *Config) local() ([]netip.Addr, error) {
	if c.Local != nil {
		return c.Local(), nil
	}
	return interfaceAddresses()
}

// follow takes the addresses that the machine has now for those of the server. It is called by New, and then by sweep.
func (s *Server) follow() error {
	bound := s.bound()
	listening := bound.Addr().Unmap()
	local, err := s.cfg.local()
	if err != nil {
		return err
	}
	interfaces, err := interfaceAddresses()
	if err != nil {
		return err
	}
	var before []netip.Addr
	was := s.at.Load()
	if was != nil {
		if slices.Equal(was.local, local) && slices.Equal(was.interfaces, interfaces) {
			return nil
		}
		before = was.addresses
	}
	now := &serverAddresses{local: local, interfaces: interfaces, addresses: s.cfg.addresses(listening, local, before)}
	ports, secure := []uint16{bound.Port()}, s.secureBound()
	if secure.IsValid() {
		ports = append(ports, secure.Port())
	}
	now.urls = s.cfg.urls(listening, now.addresses, bound.Port(), secure.Port())
	for _, ip := range now.addresses {
		s.control.relayOn(ip, s.bindFor(ip, listening, interfaces))
	}
	allow := s.cfg.Allow
	if allow == nil && listening.IsLoopback() {
		allow = prefixes("127.0.0.0/8", "::1/128")
	}
	s.router.policy.Store(&policy{
		allow: allow, relayed: s.control.relayedAddresses(), minPort: s.cfg.MinPort, maxPort: s.cfg.MaxPort,
		listenPorts: ports, own: append(slices.Concat(interfaces, now.addresses), listening),
	})
	s.at.Store(now)
	if was == nil || !slices.Equal(was.urls, now.urls) {
		s.log.Info("clients are told how to reach the relay", "urls", strings.Join(now.urls, " "))
	}
	return nil
}

// serverAddresses are the addresses of a server. A value is never changed, only replaced.
type serverAddresses struct {
	local, interfaces []netip.Addr // of the machine
	addresses         []netip.Addr // told to clients, and of relayed addresses: the first one first
	urls              []string
}

// bindFor is where relay sockets are bound for relayed addresses on ip. Where a translator stands between, and hands us
// what is sent to ip, we cannot bind it.
func (s *Server) bindFor(ip, listening netip.Addr, interfaces []netip.Addr) netip.Addr {
	switch {
	case slices.Contains(interfaces, ip) || ip.IsLoopback():
		return ip
	case listening.Is4() == ip.Is4() && listening.IsGlobalUnicast():
		return listening
	case ip.Is4():
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func interfaceAddresses() ([]netip.Addr, error) {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of the interfaces: %w", err)
	}
	var list []netip.Addr
	for _, addr := range nets {
		if prefix, err := netip.ParsePrefix(addr.String()); err == nil {
			list = append(list, prefix.Addr().Unmap())
		}
	}
	return list, nil
}

// Addr is the address and port of STUN and TURN that clients are told, the first one where there is one of each family.
// Config.Host and Config.PublicPort are not in it.
func (s *Server) Addr() netip.AddrPort {
	return netip.AddrPortFrom(s.at.Load().addresses[0], s.bound().Port())
}

// secureAddr is the same with TLS; not valid without.
func (s *Server) secureAddr() netip.AddrPort {
	if !s.secureBound().IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(s.Addr().Addr(), s.secureBound().Port())
}

// RelayedAddresses are those on which clients have relayed addresses now.
func (s *Server) RelayedAddresses() []netip.Addr { return slices.Clone(s.at.Load().addresses) }

// URLs are those of RFC 7064 and RFC 7065, as W3C's RTCIceServer takes them: STUN first. They change while the server
// runs where it listens on all addresses and those change: ask for them anew for each client.
func (s *Server) URLs() []string { return slices.Clone(s.at.Load().urls) }
