package relay

import (
	"net/netip"
	"slices"
	"time"

	"github.com/visavis/visavis/internal/panics"
	"github.com/visavis/visavis/internal/relay/wire"
)

// Requests that wait until the other party's address is shown (Config.Fed).
//
// What a party shows goes to its peer through the server, and to a relay that stands alone through a feed. Where the peer
// is nearer, it asks for a permission before the relay has heard of the address; and a browser that was refused once gives
// up on it. So a request of which nothing else is wrong is parked, and done again when its call changes.

const (
	// parkedFor is how long a request waits; as the sweep looks each second, it is refused a second later at most. It is
	// more than a feed is late: a way round the world, and a packet lost on it. And a browser still waits for the answer:
	// for 39.5 s (RFC 8489 §6.2.1).
	parkedFor = time.Second
	// mostParked bounds the requests that an allocation has parked: one for each address that a party shows at once.
	mostParked = 8
)

// A parkedRequest is done again, as if it came anew; it is refused when until is over.
type parkedRequest struct {
	allocation *allocation
	id         wire.Transaction
	message    wire.Message
	until      time.Time
}

var (
	// unshown is what the call does not allow, or not yet.
	unshown = &refusal{wire.CodeForbidden, refusePeer}
	// waiting is no refusal: nothing is answered for now.
	waiting = &refusal{}
)

// parkLocked parks what was refused as unshown, unless it has waited for long enough.
func (c *control) parkLocked(a *allocation, r *request) *refusal {
	until := r.until
	if until.IsZero() {
		until = r.now.Add(parkedFor)
	}
	if !c.cfg.Fed || !r.now.Before(until) {
		return unshown
	}
	if len(a.parked) >= mostParked {
		a.parked[0].until = r.now
		c.unparkLocked(a, 1)
	}
	a.parked = append(a.parked, parkedRequest{a, r.Transaction(), slices.Clone(r.whole), until})
	c.metrics.parked.Add(1)
	return waiting
}

// unparkLocked has the first n parked requests of a done again.
func (c *control) unparkLocked(a *allocation, n int) {
	c.due = append(c.due, a.parked[:n]...)
	a.parked = slices.Delete(a.parked, 0, n)
	c.metrics.parked.Add(int64(-n))
}

// changedLocked shows the data path what a may do now that its call has changed, and has what it has parked done again.
func (c *control) changedLocked(a *allocation) {
	c.publishLocked(a)
	c.unparkLocked(a, len(a.parked))
}

// doDue does again what was parked and is due. It is called, without the lock, after whatever may make something due.
func (c *control) doDue(now time.Time) {
	c.mu.Lock()
	due := c.due
	c.due = nil
	c.mu.Unlock()
	for i := range due {
		c.doAgain(&due[i], now)
	}
}

func (c *control) doAgain(p *parkedRequest, now time.Time) {
	defer panics.Recover(c.log, inRequest)
	q := c.answerers.Get().(*answerer)
	marked, _ := p.message.Fingerprint()
	response := q.proved(p.message, p.allocation.source, p.allocation.stream, now, p.until, marked)
	c.respond(response, &p.allocation.source, p.allocation.stream)
	c.answerers.Put(q)
}

// respond sends a response to who has asked, if there is one.
func (c *control) respond(response []byte, to *source, s *stream) {
	switch {
	case response == nil:
	case s != nil:
		s.write(response, nil, true)
	default:
		c.carrier.toClient(&to.endpoint, response)
	}
}

// relaysAre adds to the addresses that count as relayed in relay-only calls.
func (c *control) relaysAre(now time.Time, addrs []netip.Addr) {
	defer c.doDue(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, addr := range addrs {
		if !slices.Contains(c.relays, addr) {
			c.relays = append(c.relays, addr)
		}
	}
	c.relays = c.relays[max(0, len(c.relays)-mostRelays):]
	for a := range c.allocations {
		c.changedLocked(a)
	}
}
