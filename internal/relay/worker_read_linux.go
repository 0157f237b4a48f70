package relay

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/visavis/visavis/internal/relay/wire"
)

// readClients reads once and tells whether there may be more: a call that is not filled means that there is nothing.
func (w *worker) readClients() (more bool) {
	n, no := w.clients.receive(w.fd, 0, fromClients)
	if no != 0 {
		return passing(no)
	}
	var from endpoint
	var local [16]byte
	for i := range n {
		length, segment, ecn, ok := w.clients.cut(i, &local)
		switch {
		case !ok:
			w.drops.count(dropLength)
			continue
		case length == 0:
			w.drops.count(dropShape)
			continue
		}
		w.clients.names[i].take(&from)
		from.local = w.router.locals.number(&local)
		b := w.clients.buffer(i)
		for at := wire.DataHeaderSize; at < wire.DataHeaderSize+length; at += segment {
			w.fromClient(&from, b, at, min(segment, wire.DataHeaderSize+length-at), ecn)
		}
	}
	w.clients.reset(n)
	return n == fromClients
}

// passing tells whether a socket that could not be read from is worth another try, beside the one when something new is
// there.
func passing(no unix.Errno) bool {
	switch no {
	case unix.EINTR, unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENOBUFS, unix.ENOMEM:
		return true
	}
	return false
}

// fromClient is for a packet of n bytes, which begins in b at at.
func (w *worker) fromClient(from *endpoint, b []byte, at, n int, ecn byte) {
	packet := b[at : at+n]
	var d delivery
	var payload []byte
	var why cause
	var whole bool
	switch {
	case wire.IsChannelData(packet):
		a := w.client(from)
		if a == nil {
			w.drops.count(dropUnknown)
			return
		}
		var number uint16
		number, payload = wire.ChannelData(packet)
		at += wire.ChannelHeaderSize
		why = w.router.channelData(a, number, payload, w.now, &d)
	case !wire.IsSTUN(packet):
		w.drops.count(dropShape)
		return
	case wire.Message(packet).Type() == wire.SendIndication:
		a := w.client(from)
		if a == nil {
			w.drops.count(dropUnknown)
			return
		}
		sent, ok := wire.ParseSend(packet)
		if !ok {
			w.drops.count(dropShape)
			return
		}
		payload, whole = sent.Payload, sent.DontFragment
		at += int(uintptr(unsafe.Pointer(unsafe.SliceData(payload))) - uintptr(unsafe.Pointer(unsafe.SliceData(packet))))
		why = w.router.send(a, &endpoint{Address: sent.Peer}, payload, w.now, &d)
	default:
		w.queueRequest(from, packet)
		return
	}
	switch {
	case why != none:
		w.drops.count(why)
	case d.via != nil && whole:
		w.sendUp() // what came before
		w.carrier.toPeer(d.via, &d.peer, payload, true)
	case d.via != nil:
		w.rise(d.via, &d.peer, payload, ecn)
	default:
		w.descend(&d, b, at, len(payload), wire.ChannelHeaderSize, ecn)
	}
}

// client remembers the last one: packets come in trains.
func (w *worker) client(from *endpoint) *allocation {
	if w.lastOne == nil || w.lastKey != *from || w.lastOne.ended.Load() {
		w.lastKey, w.lastOne = *from, w.router.clients.find(from)
	}
	return w.lastOne
}

// queueRequest hands a request to the receiver. It drops a request that is not admitted, or that finds the queue full.
func (w *worker) queueRequest(from *endpoint, packet []byte) {
	c := w.carrier
	if len(packet) > longestRequest {
		w.drops.count(dropLength)
		return
	}
	src := source{*from, overUDP}
	if why := c.server.control.admit(packet, &src, nil, w.now); why != none {
		w.drops.count(why)
		return
	}
	if len(c.free) < reserved && w.client(from) == nil {
		w.drops.count(dropBusy)
		return
	}
	select {
	case q := <-c.free:
		q.from = src
		q.n = copy(q.packet[:], packet)
		c.requests <- q // there is room for all of them
	default:
		w.drops.count(dropBusy)
	}
}

// readPeers does the same with a relay socket, which may be gone by now.
func (w *worker) readPeers(slot int) (more bool) {
	s := w.carrier.slots[slot].Load()
	if s == nil || !s.fd.acquire() {
		return false
	}
	defer s.fd.release()
	if peersRound-w.next < fromPeers {
		w.sendDown()
	}
	first := w.next
	got, no := w.peers.receive(s.fd.number, first, fromPeers)
	if no != 0 {
		return passing(no)
	}
	w.next += got
	var from endpoint
	var local [16]byte // nothing: relay sockets do not tell
	for i := first; i < first+got; i++ {
		length, segment, ecn, ok := w.peers.cut(i, &local)
		if !ok {
			w.drops.count(dropLength)
			continue
		}
		w.peers.names[i].take(&from)
		b := w.peers.buffer(i)
		for at, room := wire.DataHeaderSize, wire.DataHeaderSize; ; room = 0 {
			n := min(segment, wire.DataHeaderSize+length-at)
			var d delivery
			if why := w.router.down(s, &from, false, b[at:at+n], w.now, &d); why != none {
				w.drops.count(why)
			} else {
				w.descend(&d, b, at, n, room, ecn)
			}
			if at += max(segment, 1); at >= wire.DataHeaderSize+length {
				break
			}
		}
	}
	return got == fromPeers
}
