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

	// Plain moves packets by the plain sockets that other systems than Linux have to do with.
	Plain bool

	// Workers bounds the threads that move packets; there is one until it has enough to do, then more. Default: the
	// number of processors, at most 16. Only on Linux.
	Workers int

	// Coalesce is how long packets may wait for others to be sent with: about a millisecond saves up to a third of the work, less does not pay.
	// Default: 0. Only on Linux.
	Coalesce time.Duration
}

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
	case c.MinPort < lowestPeerPort || c.MinPort > c.MaxPort:
		return fmt.Errorf("relayed ports %d–%d: want a range above %d", c.MinPort, c.MaxPort, lowestPeerPort-1)
	case len(c.Realm) > longestRealm:
		return fmt.Errorf("realm %q: longer than %d bytes", c.Realm, longestRealm)
	case len(c.Secrets) == 0:
		return errors.New("no secret to sign credentials with")
	case c.OtherAddress.IsValid() && (c.OtherAddress.IsUnspecified() || c.OtherAddress.Zone() != "" || c.OtherAddress.Is4In6()):
		return fmt.Errorf("other address %s: not one that clients can reach", c.OtherAddress)
	case c.Coalesce < 0 || c.Coalesce > longestCoalesce:
		return fmt.Errorf("packets coalesce for %s: want %s at most", c.Coalesce, longestCoalesce)
	case c.Address.IsValid() && (c.Address.IsUnspecified() || c.Address.Zone() != ""):
		return fmt.Errorf("address %s: not one that clients can reach", c.Address)
	}
	address := c.Address.Unmap()
	if at := c.Listener.Addr().(*net.TCPAddr).AddrPort().Addr().Unmap(); !address.IsValid() && !at.IsUnspecified() {
		address = at
	}
	if address.IsValid() && c.OtherAddress.IsValid() && c.OtherAddress.Is4() == address.Is4() {
		return fmt.Errorf("addresses %s and %s: want one of each family", address, c.OtherAddress)
	}
	for i, secret := range c.Secrets {
		if len(secret) < shortestSecret {
			return fmt.Errorf("secret %d has %d bytes: want %d or more", i+1, len(secret), shortestSecret)
		}
	}
	for _, allow := range c.Allow {
		if !allow.IsValid() || allow.Addr().Is4In6() {
			return fmt.Errorf("allowed range %s: not an IPv4 or IPv6 prefix", allow)
		}
	}
	for name, n := range map[string]int{
		"allocations": c.MaxAllocations, "allocations of a user": c.UserAllocations, "bit rate": c.BitRate,
		"packet rate": c.PacketRate, "permissions": c.Permissions, "channels": c.Channels,
		"connections": c.MaxConnections, "connections from a source": c.SourceConnections,
		"challenge rate": c.ChallengeRate, "challenge burst": c.ChallengeBurst,
		"requests from a source": c.SourceRequests, "allocations from a source": c.SourceAllocations,
		"bit rate of a source": c.SourceBitRate, "total bit rate": c.TotalBitRate,
		"workers": c.Workers,
	} {
		if n < 0 {
			return fmt.Errorf("limit of %s is %d: want more than 0", name, n)
		}
	}
	return nil
}
