package relay

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"time"
)

// Config says where and for whom a Server relays. Zero values stand for the defaults given here.
type Config struct {
	// Listener takes STUN and TURN over TCP, as [Listen] opens it. UDP is taken at its address and port. Needed.
	Listener net.Listener

	// Address is what clients are told: the server's address and the relayed addresses both. Default: the
	// address of Listener if that is one, else the likeliest of Local, of each family that is listened on. Those are followed
	// while the server runs: new clients are told the new ones.
	Address netip.Addr

	// OtherAddress is the address of the family that Address is not of: for its relayed addresses, which clients get only
	// when they ask for that family (RFC 8656 §7.2), and told to clients where both families are listened on. Default:
	// as that of Address; none where Listener is on one address.
	OtherAddress netip.Addr

	// Local tells the machine's addresses, the likeliest to be reached from elsewhere first. Default: those of the
	// interfaces in the system's order.
	Local func() []netip.Addr

	// Host is a name that clients are told instead of addresses. It must lead to this server in each family that it has.
	// With it clients behind NAT64 get here, and those for which the name leads elsewhere than to the address outside.
	// Default: none.
	Host string

	// PublicPort and TLSPublicPort are the ports that clients are told, where something between maps them to those that
	// are listened on. Default: those of Listener and TLSListener.
	PublicPort, TLSPublicPort uint16

	// TLSListener takes TURN over TLS. Default: none.
	TLSListener net.Listener

	// GetCertificate is asked for each handshake of TLS. Needed with TLSListener, and for TLS by [Server.ServeConn].
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

	// TLSName is the host that clients of TLS are told, for which the certificate is. Default: Host, or Address.
	TLSName string

	// Proxies are the addresses from which connections begin with the header of the PROXY protocol, version 1 or 2, or with
	// none. Default: none.
	Proxies []netip.Prefix

	// CallScoped permits only TURN peers whose addresses the other party of the same call has shown (Server.Permit),
	// and our own relayed addresses in that call. Credentials must name a call and a party. Default: every TURN peer
	// that is not forbidden to all.
	CallScoped bool

	// Fed has servers tell of calls over the network, on the listeners for TCP and TLS (package feed), as if they called
	// Permit, RelayOnly and EndCall. As that is later than a call of ours, a request that is too early waits a moment.
	// Default: nobody is listened to.
	Fed bool

	// Relays are the addresses of the other relays of this installation, beside those that a feed tells: in relay-only
	// calls (Server.RelayOnly) they may be reached when they were shown. Default: none.
	Relays []netip.Addr

	// MinPort and MaxPort bound the ports of relayed addresses. Default: 49152–65535.
	MinPort, MaxPort uint16

	// Allow permits TURN peers that are forbidden otherwise, such as those of the local network. It opens neither
	// ports below 1024 nor the ports that this server listens on. Default when Listener is on a loopback address:
	// 127.0.0.0/8 and ::1/128, so that two browsers on one machine reach each other; none otherwise.
	Allow []netip.Prefix

	// Realm is named in challenges. It has at most 8 bytes: a longer one makes a challenge more than 2.5 times as
	// long as the shortest request for an allocation. Default: visavis.
	Realm string

	// Secrets sign credentials: the first is for Issue, all are accepted. A secret that is replaced should stay in
	// the list for as long as calls last, and at least for an hour. At least one, each of 32 bytes or more.
	Secrets [][]byte

	// MaxAllocations bounds the allocations of this server. Default: 10000.
	MaxAllocations int

	// UserAllocations, BitRate and PacketRate bound what one user has in one call (or outside of any, while
	// credentials name no call): allocations at a time, bits/s and packets/s in each direction, with bursts of a
	// second. Who wants an allocation more loses one that carries nothing, if there is one. Default: 8, which is
	// what Firefox makes on two interfaces by UDP and TCP, and once more for the ICE restart at accept; 4000000, 1000.
	UserAllocations, BitRate, PacketRate int

	// SourceAllocations and SourceBitRate bound what all clients from one source have together: an IPv4 address or an
	// IPv6 /56. TotalBitRate bounds the whole server. Bit rates are those of each direction, with bursts of a quarter of a
	// second. Default: 2000, which is 250 browsers that gather at the same moment; 400000000, which is 100 users at the
	// most they may relay; 1000000000, which is what most links carry.
	SourceAllocations, SourceBitRate, TotalBitRate int

	// Permissions and Channels bound what one allocation has at a time. Default: 16, 8.
	Permissions, Channels int

	// MaxConnections bounds the TCP connections of this server, SourceConnections those from one source: an IPv4
	// address or an IPv6 /56. One address may be an office, or a multiplexer with everybody behind it. Default: 4096,
	// 2048: half, so that one source alone never takes all.
	MaxConnections, SourceConnections int

	// ChallengeRate bounds how many unauthenticated requests from one address and port are answered each second,
	// ChallengeBurst how many it may save up; SourceRequests is the rate for all ports of a source, over UDP. Ten times
	// as many signed requests are answered. Default: 10, 50: a browser asks once, and again for each retransmission;
	// 1000: an office where 600 people gather at once, see admit.go.
	ChallengeRate, ChallengeBurst, SourceRequests int

	// Portable moves packets with the portable carrier, which other systems than Linux always use.
	Portable bool

	// Workers bounds the threads that move packets; there is one until it has enough to do, then more. Default: the
	// number of processors, at most 16. Only on Linux.
	Workers int

	// Coalesce is how long packets may wait for others to be sent with: about a millisecond saves up to a third of the work, less does not pay.
	// Default: 0. Only on Linux.
	Coalesce time.Duration
}

// mostWorkers is more than any machine has use for.
const mostWorkers = 64

// longestCoalesce is more than a call should be made to wait.
const longestCoalesce = 5 * time.Millisecond

// longestRealm keeps a challenge below amplification times the shortest Allocate request.
const longestRealm = 8

func (c Config) withDefaults() Config {
	c.Workers = cmp.Or(c.Workers, min(runtime.NumCPU(), 16))
	c.MinPort = cmp.Or(c.MinPort, 49152)
	c.MaxPort = cmp.Or(c.MaxPort, 65535)
	c.Realm = cmp.Or(c.Realm, "visavis")
	c.MaxAllocations = cmp.Or(c.MaxAllocations, 10_000)
	c.UserAllocations = cmp.Or(c.UserAllocations, 8)
	c.BitRate = cmp.Or(c.BitRate, 4_000_000)
	c.PacketRate = cmp.Or(c.PacketRate, 1000)
	c.SourceAllocations = cmp.Or(c.SourceAllocations, 2000)
	c.SourceBitRate = cmp.Or(c.SourceBitRate, 400_000_000)
	c.TotalBitRate = cmp.Or(c.TotalBitRate, 1_000_000_000)
	c.Permissions = cmp.Or(c.Permissions, 16)
	c.Channels = cmp.Or(c.Channels, 8)
	c.MaxConnections = cmp.Or(c.MaxConnections, 4096)
	c.SourceConnections = cmp.Or(c.SourceConnections, 2048)
	c.ChallengeRate = cmp.Or(c.ChallengeRate, 10)
	c.ChallengeBurst = cmp.Or(c.ChallengeBurst, 50)
	c.SourceRequests = cmp.Or(c.SourceRequests, 1000)
	return c
}

// A ConfigError is a field of [Config] that cannot be.
type ConfigError struct {
	// Field is its name in Config.
	Field string
	// Problem is what is wrong with it.
	Problem string
}

// Error implements the error interface.
func (e *ConfigError) Error() string { return e.Field + ": " + e.Problem }

// validate expects the defaults to be filled in.
func (c Config) validate() error {
	if c.Listener == nil {
		return errors.New("no listener")
	}
	for _, l := range []net.Listener{c.Listener, c.TLSListener} {
		if l == nil {
			continue
		}
		if _, ok := l.Addr().(*net.TCPAddr); !ok {
			return fmt.Errorf("listener on %s: not one of TCP", l.Addr())
		}
	}
	switch {
	case c.TLSListener != nil && c.GetCertificate == nil:
		return errors.New("TLS without a certificate")
	case len(c.Realm) > longestRealm:
		return fmt.Errorf("realm %q: longer than %d bytes", c.Realm, longestRealm)
	case len(c.Secrets) == 0:
		return errors.New("no secret to sign credentials with")
	}
	for i, secret := range c.Secrets {
		if len(secret) < shortestSecret {
			return fmt.Errorf("secret %d has %d bytes: want %d or more", i+1, len(secret), shortestSecret)
		}
	}
	return c.Check(c.Listener.Addr().(*net.TCPAddr).AddrPort().Addr())
}

// Check reports the first field that an operator sets and that cannot be, as a [*ConfigError], for a server that listens
// on listening. It fills in no defaults, so that 0 is none of the limits, and looks at no listener, secret and certificate.
func (c Config) Check(listening netip.Addr) error {
	if err := c.checkAddresses(listening.Unmap()); err != nil {
		return err
	}
	switch {
	case c.MinPort < lowestPeerPort || c.MinPort > c.MaxPort:
		return &ConfigError{"MinPort", fmt.Sprintf("%d–%d is no range of ports from %d on", c.MinPort, c.MaxPort, lowestPeerPort)}
	case c.Coalesce < 0 || c.Coalesce > longestCoalesce:
		return &ConfigError{"Coalesce", fmt.Sprintf("a packet may wait for at most %d µs", longestCoalesce.Microseconds())}
	case c.Workers < 0 || c.Workers > mostWorkers:
		return &ConfigError{"Workers", fmt.Sprintf("%d is not from 0 to %d", c.Workers, mostWorkers)}
	}
	for _, limit := range []struct {
		field string
		value int
		least int // 0 where New has a default for it
	}{
		{"MaxAllocations", c.MaxAllocations, 1},
		{"MaxConnections", c.MaxConnections, 1},
		{"SourceConnections", c.SourceConnections, 1},
		{"SourceRequests", c.SourceRequests, 1},
		{"SourceAllocations", c.SourceAllocations, 1},
		{"BitRate", c.BitRate, 1},
		{"PacketRate", c.PacketRate, 1},
		{"SourceBitRate", c.SourceBitRate, 1},
		{"TotalBitRate", c.TotalBitRate, 1},
		{"UserAllocations", c.UserAllocations, 0},
		{"Permissions", c.Permissions, 0},
		{"Channels", c.Channels, 0},
		{"ChallengeRate", c.ChallengeRate, 0},
		{"ChallengeBurst", c.ChallengeBurst, 0},
	} {
		if limit.value < limit.least {
			return &ConfigError{limit.field, fmt.Sprintf("%d is not %d or more", limit.value, limit.least)}
		}
	}
	return nil
}

// checkAddresses checks the addresses that clients are told, and the ranges of TURN peers.
func (c Config) checkAddresses(listening netip.Addr) error {
	for _, a := range []struct {
		field string
		ip    netip.Addr
		plain bool // not IPv4 in IPv6
	}{{"Address", c.Address, false}, {"OtherAddress", c.OtherAddress, true}} {
		if a.ip.IsValid() && (a.ip.IsUnspecified() || a.ip.Zone() != "" || a.plain && a.ip.Is4In6()) {
			return &ConfigError{a.field, fmt.Sprintf("%q is no IP address that clients can reach", a.ip)}
		}
	}
	address := c.Address.Unmap()
	if !address.IsValid() && !listening.IsUnspecified() {
		address = listening
	}
	if address.IsValid() && c.OtherAddress.IsValid() && c.OtherAddress.Is4() == address.Is4() {
		return &ConfigError{"OtherAddress", fmt.Sprintf("%s is of the same family as %s", c.OtherAddress, address)}
	}
	for _, allow := range c.Allow {
		if !allow.IsValid() || allow.Addr().Is4In6() {
			return &ConfigError{"Allow", fmt.Sprintf("%q is no address range", allow)}
		}
	}
	return nil
}
