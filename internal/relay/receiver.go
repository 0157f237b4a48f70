package relay

import (
	"time"

	"github.com/visavis/visavis/internal/panics"
	"github.com/visavis/visavis/internal/relay/wire"
)

// Where a panic of this package is counted.
const (
	inPacket  = "a relay packet"
	inRequest = "a relay request"
	inStream  = "a relay connection"
	inSweep   = "the relay's sweep"
)

// A receiver handles the messages of clients one after the other, in the goroutine that calls it. Each stream has one,
// and so has each socket of the portable carrier. The workers of the batched carrier leave only requests to a receiver,
// and handle packets themselves.
type receiver struct {
	server *Server
	frame  []byte
}

// receive handles message b from a client. It reports refused if b is a request beyond the limits of admit. The caller
// then closes a stream, whose client would wait for an answer that never comes. A panic loses b alone.
func (r *receiver) receive(b []byte, from source, st *stream) (refused bool) {
	s := r.server
	defer panics.Recover(s.log, inPacket)
	now := s.now()
	var why cause
	var to delivery
	var payload []byte
	var whole bool
	switch {
	case wire.IsChannelData(b):
		var number uint16
		number, payload = wire.ChannelData(b)
		if a := s.control.of(&from, st); a == nil {
			why = dropUnknown
		} else {
			why = s.router.channelData(a, number, payload, s.control.clock(now), &to)
		}
	case !wire.IsSTUN(b):
		why = dropShape
	case wire.Message(b).Type() == wire.SendIndication:
		// A Send indication carries no MESSAGE-INTEGRITY (RFC 8656 §11.1). The client's address identifies it.
		if a := s.control.of(&from, st); a == nil {
			why = dropUnknown
		} else if sent, ok := wire.ParseSend(b); !ok {
			why = dropShape
		} else {
			payload, whole = sent.Payload, sent.DontFragment
			why = s.router.send(a, &endpoint{Address: sent.Peer}, payload, s.control.clock(now), &to)
		}
	default:
		if why = s.control.admit(b, &from, st, s.control.clock(now)); why == none {
			r.answer(b, from, st, now)
			return false
		}
		refused = why == dropRate
	}
	if why != none {
		s.metrics.drops.count(why)
		return refused
	}
	r.deliver(&to, payload, whole)
	return false
}

// answer answers a request that was admitted. A panic loses that request alone.
func (r *receiver) answer(b []byte, from source, st *stream, now time.Time) {
	defer panics.Recover(r.server.log, inRequest)
	answerers := &r.server.control.answerers
	q := answerers.Get().(*answerer)
	response := q.answer(b, from, st, now)
	if st != nil && st.allocation.Load() != nil {
		r.server.connections.settle(st) // before the client has the response
	}
	q.control.respond(response, &from, st)
	answerers.Put(q) // not after a panic, which leaves it half done
}

// deliverFromPeer is deliver for a packet from a TURN peer. A panic loses that packet alone.
func (r *receiver) deliverFromPeer(to *delivery, payload []byte) {
	defer panics.Recover(r.server.log, inPacket)
	r.deliver(to, payload, false)
}

// deliver sends one packet to where the router has directed it. If whole is set, the packet must not be fragmented.
func (r *receiver) deliver(to *delivery, payload []byte, whole bool) {
	s := r.server
	if to.via != nil {
		s.carrier.toPeer(to.via, &to.peer, payload, whole)
		return
	}
	var header [wire.DataHeaderSize]byte
	h := appendHeader(header[:0], to, len(payload))
	if st := to.to.stream; st != nil {
		st.write(h, payload, false)
		return
	}
	r.frame = append(append(r.frame[:0], h...), payload...)
	if to.channel == 0 {
		r.frame = wire.AppendPadding(r.frame, len(payload))
	}
	s.carrier.toClient(&to.to.source.endpoint, r.frame)
}
