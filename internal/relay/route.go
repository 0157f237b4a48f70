package relay

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/visavis/visavis/internal/relay/wire"
)

// A router decides what becomes of each packet. It is what all carriers and streams share: no socket, no lock, no
// memory; any goroutine may ask.
type router struct {
	policy     atomic.Pointer[policy]
	rates      rates
	sourceRate int64          // bits a second of an origin, each way
	totalRate  int64          // bits a second of all
	total      budget         // of all
	victims    *hashedBuckets // of bytes to TURN peers that have not agreed, by IP
	callScoped bool
	flow       *flow
	clients    *index // UDP clients
	locals     *locals
	relayed    atomic.Pointer[relayed]
}

// relayed is where our own relayed addresses are. It is never changed, only replaced.
type relayed struct {
	v4, v6 *ports   // on which new ones are; nil when there are none of the family
	all    []*ports // these, and those of earlier addresses on which clients still have some
}

// ports finds a relay socket by the port of its relayed address.
type ports struct {
	ip    [16]byte   // of all these relayed addresses
	at    netip.Addr // where their sockets are bound; unspecified where ip is not ours to bind
	first uint16
	list  []atomic.Pointer[relaySocket]
	used  int // guarded by control.mu: so many of list are not nil
}

// own finds the relay socket of a relayed address; ours tells that it is on our address, be it another program's.
func (r *router) own(at *endpoint) (s *relaySocket, ours bool) {
	for _, p := range r.relayed.Load().all {
		if at.IP != p.ip {
			continue
		}
		ours = true
		if i := int(at.Port) - int(p.first); i >= 0 && i < len(p.list) {
			if s = p.list[i].Load(); s != nil {
				break
			}
		}
	}
	return s, ours
}

// relayedOn tells whether there are relayed addresses on ip.
func (r *router) relayedOn(ip [16]byte) bool {
	return slices.ContainsFunc(r.relayed.Load().all, func(p *ports) bool { return p.ip == ip })
}

// A delivery is where a packet goes: from via to peer, or, when via is nil, to the client of to.
type delivery struct {
	via     *relaySocket
	to      *allocation
	channel uint16   // what the client gets it on; 0 means a Data indication from peer
	peer    endpoint // to send to, or that it is from
}

// channelData is for a ChannelData message from a's client that carries payload.
func (r *router) channelData(a *allocation, number uint16, payload []byte, now int64, d *delivery) cause {
	b := a.table.Load().channel(number)
	if b == nil {
		return dropChannel
	}
	if now >= b.ends {
		return dropPermission
	}
	return r.up(a, b.via, &b.peer, b.direct, b.contacts, payload, now, d)
}

// send is for a Send indication from a's client that carries payload to peer.
func (r *router) send(a *allocation, peer *endpoint, payload []byte, now int64, d *delivery) cause {
	via, p := a.socketFor(peer), a.table.Load().permits(&peer.IP, now)
	switch {
	case via == nil || p == nil:
		return dropPermission
	case !r.policy.Load().peerAllowed(peer.AddrPort()): // permissions know no port
		return dropPeer
	}
	return r.up(a, via, peer, p.direct, p.contacts, payload, now, d)
}

func (r *router) up(
	a *allocation, via *relaySocket, peer *endpoint, direct bool, k *contacts, payload []byte, now int64, d *delivery,
) cause {
	n := len(payload)
	if via == nil {
		return dropPermission
	}
	switch {
	case !a.holder.up.admits(r.rates, now, n):
		return dropRate
	case !spend(&a.origin.up, r.sourceRate, n, now):
		return dropSource
	case !spend(&r.total.up, r.totalRate, n, now):
		return dropTotal
	}
	if s, ours := r.own(peer); ours {
		switch {
		case !r.maySend(a, s, direct):
			return dropPeer
		case s != nil: // no way through the kernel
			r.countUp(a, n)
			r.flow.handed.Add(1)
			return r.down(s, &via.relayed, true, payload, now, d)
		}
	}
	if k != nil && !k.agreed(peer.Port, now) {
		if why := r.check(a, k, peer, payload, now); why != none {
			return why
		}
	}
	r.countUp(a, n)
	d.via, d.to, d.peer = via, nil, *peer
	return none
}

func (r *router) countUp(a *allocation, n int) {
	a.up.count(n)
	r.flow.up.count(n)
}

// maySend tells whether a may exchange packets with what is on an address that is a relayed one of ours: s, or, if
// that is nil, another program.
func (r *router) maySend(a *allocation, s *relaySocket, direct bool) bool {
	if s == nil {
		return direct
	}
	return !r.callScoped || s.allocation.call == a.call
}

// down is for a packet from a TURN peer to the client that s belongs to. It comes from the kernel, or is handed over by
// another allocation.
func (r *router) down(s *relaySocket, from *endpoint, handed bool, packet []byte, now int64, d *delivery) cause {
	a, n := s.allocation, len(packet)
	t := a.table.Load()
	channel, direct := uint16(0), false
	var k *contacts
	if b := t.channelTo(from); b != nil && now < b.ends {
		channel, direct, k = b.number, b.direct, b.contacts
	} else if p := t.permits(&from.IP, now); p == nil {
		return dropPermission
	} else if !r.policy.Load().peerAllowed(from.AddrPort()) { // permissions know no port
		return dropPeer
	} else {
		direct, k = p.direct, p.contacts
	}
	// What clients of ours send to each other does not pass the kernel: from another call it is by a detour, or forged.
	if !handed {
		if other, ours := r.own(from); ours && !r.maySend(a, other, direct) {
			return dropPeer
		}
	}
	if n > longestPayload {
		return dropLength
	}
	switch {
	case !a.holder.down.admits(r.rates, now, n):
		return dropRate
	case !spend(&a.origin.down, r.sourceRate, n, now):
		return dropSource
	case !spend(&r.total.down, r.totalRate, n, now):
		return dropTotal
	}
	if k != nil && !handed {
		k.hear(from.Port, packet, now)
	}
	a.down.count(n)
	r.flow.down.count(n)
	d.via, d.to, d.channel, d.peer = nil, a, channel, *from
	return none
}

// longestPayload leaves room for what stands before it.
const longestPayload = 1<<16 - 1 - 8 - 40 - wire.DataHeaderSize

// appendHeader writes what precedes n bytes of payload that a client gets.
func appendHeader(b []byte, d *delivery, n int) []byte {
	if d.channel != 0 {
		return wire.AppendChannelHeader(b, d.channel, n)
	}
	// Nobody answers an indication: its transaction id only has to differ.
	var id wire.Transaction
	binary.BigEndian.PutUint64(id[:], rand.Uint64())
	binary.BigEndian.PutUint32(id[8:], rand.Uint32())
	return wire.BeginData(b, &id, &d.peer.Address, n)
}
