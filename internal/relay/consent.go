package relay

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/visavis/visavis/internal/relay/wire"
)

// Consent of TURN peers that are not relayed addresses of ours.
//
// The two parties of a call show the relay whatever addresses they like. Without more, two guests who collude could have
// it send any packets to any public address. So to such a peer an allocation sends only what ICE needs to begin, Binding
// messages, and few of them, until the peer has answered a Binding request of the client with the same transaction id
// from the address and port that were asked (RFC 7675 has browsers do the same). Request and answer must carry
// MESSAGE-INTEGRITY, as those of ICE do (RFC 8445 §7.2.2, §7.3.1.3): public STUN servers answer without it.
//
// Consent lasts as long as the peer sends something each 30 s. The relay asks for no more, because clients older than
// RFC 7675 send no further requests; what a peer that has agreed sends shows that it is still there.
//
// It holds for allocations of calls. Credentials that name no call are for other software on a relay that stands alone
// without relay.scoped, which an operator gives to whom they trust.
//
// The relay cannot check MESSAGE-INTEGRITY, for it has no key. An attacker who can send packets with the victim's
// address could agree in its place, but needs no relay then.
type contacts struct {
	asked [32]atomic.Uint64 // the last requests: more than are on their way at one Ta of 50 ms and 1.5 s there and back
	next  atomic.Uint32     // of asked
	peers [8]contact        // more ports than one party uses within 30 s
}

// A contact is a port of the peer's IP that has agreed. The zero value is none.
type contact struct {
	port  atomic.Uint32
	heard atomic.Int64 // when it last sent something, in the server's time, to the second
}

const (
	// consentLife is RFC 7675 §5.1: consent expires after 30 s.
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

// agreed tells whether a port has agreed to be sent packets.
func (k *contacts) agreed(port uint16, now int64) bool { return k.contact(port, now) != nil }

func (k *contacts) contact(port uint16, now int64) *contact {
	for i := range k.peers {
		if p := &k.peers[i]; p.port.Load() == uint32(port) && now-p.heard.Load() < consentLife {
			return p
		}
	}
	return nil
}

// ask notes a Binding message on its way to a port that has not agreed.
func (k *contacts) ask(port uint16, message wire.Message) {
	if message.Type() == wire.BindingRequest && hasIntegrity(message) {
		k.asked[k.next.Add(1)%uint32(len(k.asked))].Store(transactionWith(port, message))
	}
}

// hear is for each packet from the peer's IP. It takes no lock and no memory.
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

// agree notes the consent of a port, in place of the one that was silent for longest.
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

// transactionWith stands for the transaction of a STUN message with a port. It is never 0.
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

// isBinding tells whether b is a Binding request, indication or response.
func isBinding(b []byte) bool {
	return wire.IsSTUN(b) && wire.Message(b).Type().Request() == wire.BindingRequest
}

// check tells whether a Binding message may go to a peer that has not agreed; nothing else may.
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
