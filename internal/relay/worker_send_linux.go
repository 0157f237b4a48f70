package relay

import (
	"github.com/visavis/visavis/internal/relay/wire"
)

// An upward packet waits for others that leave from the same relay socket.
type upward struct {
	via     *relaySocket
	to      endpoint
	payload []byte
	ecn     byte
	next    int // of the same relay socket; 0 is none, for it is never the second
}

// upwardRoom is what of a round is sorted; after that many packets it is sent.
const upwardRoom = 4 * mostSegments

// send ends a round: reading and sending by turns would wake receivers more often. Afterwards the buffers are free.
func (w *worker) send() {
	w.sendUp()
	w.sendDown()
}

// sendDown sends what is for clients, and frees the buffers of relay sockets.
func (w *worker) sendDown() {
	if w.out.n > 0 {
		w.out.flush(w.fd)
	}
	w.peers.reset(w.next)
	w.next = 0
}

// descend is for n bytes, which begin in b at at, to a client.
func (w *worker) descend(d *delivery, b []byte, at, n, room int, ecn byte) {
	if st := d.to.stream; st != nil {
		var header [wire.DataHeaderSize]byte
		st.write(appendHeader(header[:0], d, n), b[at:at+n], false)
		return
	}
	if w.out.room() == 0 {
		w.out.flush(w.fd)
	}
	w.out.addFramed(d, b, at, n, room, ecn)
}

// rise is for a packet to a TURN peer.
func (w *worker) rise(via *relaySocket, to *endpoint, payload []byte, ecn byte) {
	if len(w.upward) == upwardRoom {
		w.sendUp()
	}
	i := len(w.upward)
	w.upward = append(w.upward, upward{via: via, to: *to, payload: payload, ecn: ecn})
	if j := w.last[via.slot]; j < i && w.upward[j].via == via {
		w.upward[j].next = i
	} else {
		w.firsts = append(w.firsts, i)
	}
	w.last[via.slot] = i
}

// sendUp sends what is for TURN peers, one relay socket after the other.
func (w *worker) sendUp() {
	for _, i := range w.firsts {
		via := w.upward[i].via
		if !via.fd.acquire() {
			w.lose(i)
			continue
		}
		w.sendFrom(via, i)
	}
	w.upward, w.firsts = w.upward[:0], w.firsts[:0]
}

// sendFrom sends the i-th packet of upward and those that leave with it from the same relay socket, which is acquired.
func (w *worker) sendFrom(via *relaySocket, i int) {
	defer via.fd.release()
	o := w.up[0]
	if via.family == 6 {
		o = w.up[1]
	}
	for {
		u := &w.upward[i]
		o.addPayload(&u.to, u.payload, u.ecn)
		if i = u.next; i == 0 {
			break
		}
	}
	o.flush(via.fd.number)
}

// lose counts the i-th packet of upward and those that were to leave with it.
func (w *worker) lose(i int) {
	for {
		w.drops.count(dropGone)
		if i = w.upward[i].next; i == 0 {
			return
		}
	}
}
