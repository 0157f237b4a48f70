package relay

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/visavis/visavis/internal/relay/wire"
)

// contacts hold the consent of one TURN peer that is not a relayed address of this relay.
//
// The parties of a call may show the relay any address. Two colluding guests could therefore make it send packets to any
// public address. So an allocation may send such a peer only Binding messages, at a low rate, until the peer has
// consented. The peer consents by answering a Binding request of the client: with the same transaction id, from the
// address and port that were asked. RFC 7675 requires the same of browsers. Request and answer must carry
// MESSAGE-INTEGRITY, as in ICE (RFC 8445 §7.2.2, §7.3.1.3), because public STUN servers answer without it.
//
// Consent lasts while the peer sends at least one packet each 30 s. The relay demands no further answers, because clients
// older than RFC 7675 send no further requests. A packet from the peer shows that it is still there.
//
// The rule applies to allocations of calls. Credentials without a call are for other software on a standalone relay
// without relay.scoped. An operator gives them only to people they trust.
//
// The relay has no key and cannot verify MESSAGE-INTEGRITY. An attacker who can send packets with the victim's address
// could consent in its place, but such an attacker needs no relay.
type contacts struct {
	asked [32]atomic.Uint64 // the last requests: more than are on their way at one Ta of 50 ms and 1.5 s there and back
	next  atomic.Uint32     // of asked
	peers [8]contact        // more ports than one party uses within 30 s
}

// A contact is a port of the peer's IP that has consented. The zero value is no contact.
type contact struct {
	port  atomic.Uint32
	heard atomic.Int64 // when it last sent something, in the server's time, to the second
}

const (
	// consentLife is the time in ns after which consent expires (RFC 7675 §5.1).
	consentLife = int64(30 * time.Second)

	// checkRate bounds the Binding messages that one user in a call sends to peers that have not agreed, in bytes a
	// second: 130 checks of 120 bytes. Chromium sends 21 checks and as many answers a second for each peer connection,
	// and a call has three of those at most. checkBurst admits the larger ones that carry DTLS.
	checkRate  = 16_000
	checkBurst = 4 * checkRate
	// victimRate bounds what all users together send to one address in that way: 1 Mbit/s. A hundred people who call
	// somebody behind one NAT at the same moment stay below it.
	victimRate  = 128_000
	victimBurst = 4 // seconds
)

// agreed reports whether a port has consented to receive packets. now is the server's time in ns.
func (k *contacts) agreed(port uint16, now int64) bool { return k.contact(port, now) != nil }

func (k *contacts) contact(port uint16, now int64) *contact {
	for i := range k.peers {
		if p := &k.peers[i]; p.port.Load() == uint32(port) && now-p.heard.Load() < consentLife {
			return p
		}
	}
	return nil
}

// ask records a Binding request on its way to a port that has not consented.
func (k *contacts) ask(port uint16, message wire.Message) {
	if message.Type() == wire.BindingRequest && hasIntegrity(message) {
		k.asked[k.next.Add(1)%uint32(len(k.asked))].Store(transactionWith(port, message))
	}
}

// hear is called for each packet from the peer's IP. It takes no lock and allocates nothing.
func (k *contacts) hear(port uint16, packet []byte, now int64) {
	if p := k.contact(port, now); p != nil {
		if now-p.heard.Load() >= int64(time.Second) {
			p.heard.Store(now)
		}
		return
	}
	if !wire.IsSTUN(packet) || wire.Message(packet).Type() != wire.BindingSuccess || !hasIntegrity(packet) {
		return
	}
	transaction := transactionWith(port, packet)
	for i := range k.asked {
		if k.asked[i].Load() == transaction {
			k.agree(port, now)
			return
		}
	}
}

// agree records the consent of a port. It replaces the port that has been silent for longest.
func (k *contacts) agree(port uint16, now int64) {
	oldest := &k.peers[0]
	for i := range k.peers {
		p := &k.peers[i]
		if p.port.Load() == uint32(port) {
			oldest = p
			break
		}
		if p.port.Load() == 0 || p.heard.Load() < oldest.heard.Load() && oldest.port.Load() != 0 {
			oldest = p
		}
	}
	// Nobody reads the new port with an old time as consent, nor the old port with the new time: neither is sent to by
	// mistake, for both have agreed, or are no port at all while the time changes.
	oldest.port.Store(0)
	oldest.heard.Store(now)
	oldest.port.Store(uint32(port))
}

// transactionWith returns a hash of a STUN message's transaction id and a port. It is never 0.
func transactionWith(port uint16, message wire.Message) uint64 {
	high := uint64(binary.BigEndian.Uint32(message[8:]))<<16 | uint64(port)
	low := binary.BigEndian.Uint64(message[12:])
	return (bits.RotateLeft64(high*0x9e3779b97f4a7c15, 29) ^ low) | 1
}

func hasIntegrity(message wire.Message) bool {
	for rest := message.Attributes(); ; {
		kind, _, after, ok := rest.Next()
		switch {
		case !ok:
			return false
		case kind == wire.AttrMessageIntegrity, kind == wire.AttrMessageIntegritySHA256:
			return true
		}
		rest = after
	}
}

// isBinding reports whether b is a Binding request, indication or response.
func isBinding(b []byte) bool {
	return wire.IsSTUN(b) && wire.Message(b).Type().Request() == wire.BindingRequest
}

// check decides whether packet may go to a peer that has not consented. It admits only Binding messages within the rates.
func (r *router) check(a *allocation, k *contacts, peer *endpoint, packet []byte, now int64) cause {
	switch n := int64(len(packet)); {
	case !isBinding(packet):
		return dropConsent
	case !a.holder.checks.take(now, n*int64(time.Second)/checkRate, checkBurst*int64(time.Second)/checkRate),
		!r.victims.takeSome(peer.IP[:], n, now):
		return dropRate
	}
	k.ask(peer.Port, packet)
	return none
}
