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

// A door takes what clients send, one message after the other, and does at once what has to be done. Streams and plain
// sockets have one each; the workers of batched sockets hand requests to one and do the rest themselves.
type door struct {
	server *Server
	frame  []byte
}

// take handles message b. refused tells that a stream asks too much. A panic costs that message.
func (d *door) take(b []byte, from source, st *stream) (refused bool) {
	s := d.server
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
		// A Send indication carries no proof (RFC 8656 §11.1): the client's address has to do.
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
			d.ask(b, from, st, now)
			return false
		}
		refused = why == dropRate
	}
	if why != none {
		s.metrics.drops.count(why)
		return refused
	}
	d.deliver(&to, payload, whole)
	return false
}

// ask answers a request that was admitted. A panic costs that request.
func (d *door) ask(b []byte, from source, st *stream, now time.Time) {
	defer panics.Recover(d.server.log, inRequest)
	answerers := &d.server.control.answerers
	q := answerers.Get().(*answerer)
	response := q.answer(b, from, st, now)
	if st != nil && st.allocation.Load() != nil {
		d.server.connections.settle(st) // before the client knows
	}
	q.control.respond(response, &from, st)
	answerers.Put(q) // not after a panic, which leaves it half done
}

// relay is deliver for a packet from a TURN peer, which is all that a panic costs.
func (d *door) relay(to *delivery, payload []byte) {
	defer panics.Recover(d.server.log, inPacket)
	d.deliver(to, payload, false)
}

// deliver sends one packet on its way; whole says that it must not be fragmented.
func (d *door) deliver(to *delivery, payload []byte, whole bool) {
	s := d.server
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
	d.frame = append(append(d.frame[:0], h...), payload...)
	if to.channel == 0 {
		d.frame = wire.AppendPadding(d.frame, len(payload))
	}
	s.carrier.toClient(&to.to.source.endpoint, d.frame)
}
