package relay

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/pion/turn/v5"
)

// largestPacket is what fits pion's buffers; what fills them was cut off, perhaps.
const largestPacket = 1600

// generator makes relayed addresses for pion, which tells clients 508 when it fails.
type generator Server

var (
	errTransport = errors.New("neither TCP allocations nor EVEN-PORT, reservations or the other address family")
	errFull      = errors.New("no allocation left")
)

func (g *generator) Validate() error { return nil }

func (g *generator) AllocatePacketConn(request turn.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	network := "udp4"
	if g.policy.address.Is6() {
		network = "udp6"
	}
	// To serve EVEN-PORT pion asks without a user until it likes a port.
	if request.UserID == "" || request.RequestedPort != 0 || !strings.HasPrefix(request.Network, network) {
		g.metrics.refuse(causeTransport)
		return nil, nil, errTransport
	}
	budget := g.quotas.take(request.UserID)
	if budget == nil {
		return nil, nil, errFull
	}
	conn, err := g.bind(network)
	if err != nil {
		g.quotas.give(request.UserID)
		g.log.Warn("relay has no port for an allocation", "err", err)
		return nil, nil, err
	}
	port := conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	return &relaySocket{
		UDPConn: conn,
		policy:  &g.policy,
		metrics: g.metrics,
		budget:  budget,
		end:     sync.OnceFunc(func() { g.quotas.give(request.UserID) }),
	}, net.UDPAddrFromAddrPort(netip.AddrPortFrom(g.policy.address, port)), nil
}

// bind takes a port at random (RFC 8656 §7.2), or one of those above it.
func (g *generator) bind(network string) (conn *net.UDPConn, err error) {
	ports := int(g.cfg.MaxPort) - int(g.cfg.MinPort) + 1
	first := rand.IntN(ports)
	for i := range min(ports, 64) {
		port := g.cfg.MinPort + uint16((first+i)%ports)
		if conn, err = net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(g.bindIP, port))); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// AllocateListener refuses RFC 6062.
func (g *generator) AllocateListener(turn.AllocateListenerConfig) (net.Listener, net.Addr, error) {
	g.metrics.refuse(causeTransport)
	return nil, nil, errTransport
}

// AllocateConn refuses RFC 6062.
func (g *generator) AllocateConn(turn.AllocateConnConfig) (net.Conn, error) {
	g.metrics.refuse(causeTransport)
	return nil, errTransport
}

// A relaySocket is bound to a relayed address. It sees the port of the TURN peer, which pion's permissions do not
// know, and drops what may not pass.
type relaySocket struct {
	*net.UDPConn
	policy  *policy
	metrics *metrics
	budget  *budget
	end     func()
}

// WriteTo sends a packet up. One that is dropped counts as sent: to a client both look alike.
func (r *relaySocket) WriteTo(p []byte, peer net.Addr) (int, error) {
	switch {
	case !r.policy.peerAllowed(addrPort(peer)):
		r.metrics.refuse(causePeer)
		return len(p), nil
	case !r.budget.up.admits(len(p)):
		r.metrics.refuse(causeRate)
		return len(p), nil
	}
	r.metrics.up.count(len(p))
	return r.UDPConn.WriteTo(p, peer)
}

// ReadFrom receives the next packet that may pass down.
func (r *relaySocket) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, peer, err := r.UDPConn.ReadFrom(p)
		switch {
		case err != nil:
			return 0, nil, err
		case n == len(p):
			r.metrics.refuse(causeLength)
		case !r.policy.peerAllowed(addrPort(peer)):
			r.metrics.refuse(causePeer)
		case !r.budget.down.admits(n):
			r.metrics.refuse(causeRate)
		default:
			r.metrics.down.count(n)
			return n, peer, nil
		}
	}
}

// Close may be called again, and never fails: pion leaves the other allocations open if one does.
func (r *relaySocket) Close() error {
	_ = r.UDPConn.Close()
	r.end()
	return nil
}
