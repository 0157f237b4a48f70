package relay

import (
	"net/netip"
	"slices"
	"time"

	"github.com/visavis/visavis/internal/panics"
	"github.com/visavis/visavis/internal/relay/wire"
)

// A relay that hears of calls over the network holds requests that arrive before the server has announced the peer's
// address (Config.Fed).
//
// A party's addresses reach the other party through the server, and reach a standalone relay through a feed. The other
// party may be nearer: its request for a permission then arrives first. A browser that is refused once gives up on the
// address. So the relay keeps such a request pending, and tries it again whenever its call changes.

const (
	// pendingTimeout is how long a request stays pending. It is refused at the first sweep after that, at most a second
	// later. A feed is late by less: by a way round the world and one lost packet. A browser waits longer for an answer:
	// 39.5 s (RFC 8489 §6.2.1).
	pendingTimeout = time.Second
	// maxPending bounds the pending requests of an allocation: one for each address that a party announces at once.
	maxPending = 8
)

// A pendingRequest is tried again as if it had just arrived. From until on it is refused.
type pendingRequest struct {
	allocation *allocation
	id         wire.Transaction
	message    wire.Message
	until      time.Time
}

var (
	// notShown refuses an address that the other party of the call has not announced, perhaps not yet.
	notShown = &refusal{wire.CodeForbidden, refusePeer}
	// held is no refusal: the request is pending and gets no response yet.
	held = &refusal{}
)

// holdLocked makes r, which was refused as notShown, pending and returns held. If the relay is not fed, or if r was
// pending for pendingTimeout, it returns notShown. The oldest pending request makes room for r and is refused.
func (c *control) holdLocked(a *allocation, r *request) *refusal {
	until := r.until
	if until.IsZero() {
		until = r.now.Add(pendingTimeout)
	}
	if !c.cfg.Fed || !r.now.Before(until) {
		return notShown
	}
	if len(a.pending) >= maxPending {
		a.pending[0].until = r.now
		c.releaseLocked(a, 1)
	}
	a.pending = append(a.pending, pendingRequest{a, r.Transaction(), slices.Clone(r.whole), until})
	c.metrics.pending.Add(1)
	return held
}

// releaseLocked moves the n oldest pending requests of a to c.due, for retryDue.
func (c *control) releaseLocked(a *allocation, n int) {
	c.due = append(c.due, a.pending[:n]...)
	a.pending = slices.Delete(a.pending, 0, n)
	c.metrics.pending.Add(int64(-n))
}

// changedLocked is called after the call of a has changed. It publishes to the data path what a may do now, and releases
// the pending requests of a.
func (c *control) changedLocked(a *allocation) {
	c.publishLocked(a)
	c.releaseLocked(a, len(a.pending))
}

// retryDue tries the released requests again. The caller must not hold c.mu, and must call it after each change that may
// release requests.
func (c *control) retryDue(now time.Time) {
	c.mu.Lock()
	due := c.due
	c.due = nil
	c.mu.Unlock()
	for i := range due {
		c.retry(&due[i], now)
	}
}

// retry answers p as if it had just arrived. A panic loses p alone.
func (c *control) retry(p *pendingRequest, now time.Time) {
	defer panics.Recover(c.log, inRequest)
	q := c.answerers.Get().(*answerer)
	marked, _ := p.message.Fingerprint()
	response := q.proved(p.message, p.allocation.source, p.allocation.stream, now, p.until, marked)
	c.respond(response, &p.allocation.source, p.allocation.stream)
	c.answerers.Put(q)
}

// respond sends response to the client at to, or on stream s if the client has one. It does nothing if response is nil.
func (c *control) respond(response []byte, to *source, s *stream) {
	switch {
	case response == nil:
	case s != nil:
		s.write(response, nil, true)
	default:
		c.carrier.toClient(&to.endpoint, response)
	}
}

// addRelays adds addresses of other relays. Relay-only calls may reach these. The list keeps the last mostRelays.
func (c *control) addRelays(now time.Time, addrs []netip.Addr) {
	defer c.retryDue(now)
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
