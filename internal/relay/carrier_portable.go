package relay

import (
	"errors"
	"net"
	"net/netip"
	"sync"
)

// longestPacket is the size in bytes of a receive buffer. A packet that fills it may have been cut off and is dropped.
const longestPacket = 2048

// portableCarrier is the carrier that works on every system. It uses sockets of package net and one goroutine for each.
// It does not carry ECN marks, because package net does not.
type portableCarrier struct {
	server  *Server
	conn    *net.UDPConn
	v6      bool // of conn
	readers sync.WaitGroup
}

func openPortable(s *Server, at netip.AddrPort) (carrier, error) {
	network := "udp"
	if at.Addr() == netip.IPv4Unspecified() { // package net takes it for both families
		network = "udp4"
	}
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	prepare(conn, !at.Addr().Is4(), at.Addr().IsUnspecified())
	_ = conn.SetReadBuffer(clientBuffer)
	_ = conn.SetWriteBuffer(clientBuffer)
	return &portableCarrier{server: s, conn: conn, v6: !at.Addr().Is4()}, nil
}

// serve reads from clients until the socket is closed.
func (p *portableCarrier) serve() error {
	r := &receiver{server: p.server}
	b, oob := make([]byte, longestPacket), make([]byte, oobSpace)
	for {
		n, told, _, from, err := p.conn.ReadMsgUDPAddrPort(b, oob)
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		case n == len(b):
			p.server.metrics.drops.count(dropLength)
		default:
			local := localIn(oob[:told])
			client := endpointOf(from)
			client.local = p.server.router.locals.number(&local)
			r.receive(b[:n], source{client, overUDP}, nil)
		}
	}
}

func (p *portableCarrier) stop() { _ = p.conn.Close() }

// finish waits until the readers of all relay sockets have ended.
func (p *portableCarrier) finish() { p.readers.Wait() }

func (p *portableCarrier) open(s *relaySocket, at netip.AddrPort) error {
	network := "udp4"
	if at.Addr().Is6() {
		network = "udp6"
	}
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	prepare(conn, at.Addr().Is6(), false)
	s.conn = conn
	p.readers.Go(func() { p.relay(s) })
	return nil
}

func (p *portableCarrier) close(s *relaySocket) { _ = s.conn.Close() }

// relay reads from TURN peers until the allocation ends.
func (p *portableCarrier) relay(s *relaySocket) {
	server := p.server
	r := &receiver{server: server}
	b := make([]byte, longestPacket)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		why := dropLength
		var to delivery
		if n < len(b) {
			peer := endpointOf(from)
			why = server.router.down(s, &peer, false, b[:n], server.control.clock(server.now()), &to)
		}
		if why != none {
			server.metrics.drops.count(why)
			continue
		}
		r.deliverFromPeer(&to, b[:n])
	}
}

// tend has nothing to do.
func (p *portableCarrier) tend(float64) {}

func (p *portableCarrier) toClient(to *endpoint, b []byte) {
	if to.local == 0 {
		p.sent(p.conn.WriteToUDPAddrPort(b, to.AddrPort()))
		return
	}
	var oob [oobSpace]byte
	n := putLocal(oob[:], p.v6, p.server.router.locals.ip(to.local))
	n, _, err := p.conn.WriteMsgUDPAddrPort(b, oob[:n], to.AddrPort())
	p.sent(n, err)
}

func (p *portableCarrier) toPeer(s *relaySocket, to *endpoint, payload []byte, intact bool) {
	send := func() { p.sent(s.conn.WriteToUDPAddrPort(payload, to.AddrPort())) }
	if intact {
		whole(s.conn, s.family == 6, send)
		return
	}
	send()
}

func (p *portableCarrier) sent(_ int, err error) {
	switch {
	case errors.Is(err, net.ErrClosed):
		p.server.metrics.drops.count(dropGone)
	case err != nil:
		p.server.metrics.drops.count(dropFailed)
	}
}
