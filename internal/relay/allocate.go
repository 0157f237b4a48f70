package relay

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/visavis/visavis/internal/relay/wire"
)

// lifetime returns the requested lifetime within the bounds of RFC 8656 §7.2. It returns 0 if the client asks for 0.
func lifetime(r *request) (time.Duration, *refusal) {
	value, ok := r.Attribute(wire.AttrLifetime)
	if !ok {
		return defaultLifetime, nil
	}
	if len(value) != 4 {
		return 0, malformed
	}
	asked := time.Duration(binary.BigEndian.Uint32(value)) * time.Second
	if asked == 0 {
		return 0, nil
	}
	return max(defaultLifetime, min(asked, longestLifetime)), nil
}

// allocateLocked carries out an Allocate request (RFC 8656 §7.2). It checks in the RFC's order where a client could
// notice a difference.
func (c *control) allocateLocked(r *request, a *allocation, out []byte) ([]byte, *refusal) {
	if a != nil {
		if a.made != r.Transaction() || !a.claim.same(r.claim) {
			return out, mismatch
		}
		return c.allocated(out, a, r.now, nil), nil // a retransmission: the response was lost
	}
	families, optional, no := c.families(r)
	if no != nil {
		return out, no
	}
	life, no := lifetime(r)
	if no != nil {
		return out, no
	}
	if life == 0 {
		life = defaultLifetime
	}
	k, no := c.callOfLocked(r)
	if no != nil {
		return out, no
	}
	h, o := c.holders[r.claim.holder], c.origins[sourceOf(r.from.endpoint)]
	switch {
	case c.draining:
		return out, full
	case h != nil && h.allocations >= c.cfg.UserAllocations && !c.makeRoomLocked(h, k, r.now):
		return out, &refusal{wire.CodeAllocationQuotaReached, refuseAllocations}
	case o != nil && o.allocations >= c.cfg.SourceAllocations:
		return out, &refusal{wire.CodeAllocationQuotaReached, refuseSource}
	case len(c.allocations) >= c.cfg.MaxAllocations:
		return out, full
	}
	if h == nil {
		h = &holder{name: r.claim.holder}
	}
	if o == nil {
		o = new(origin)
	}
	a = &allocation{
		source: r.from, stream: r.stream, claim: r.claim, holder: h, origin: o, call: k, made: r.Transaction(), created: r.now, used: r.now,
		expires: r.now.Add(life),
	}
	a.table.Store(new(table))
	var missing *refusal
	for i, family := range families {
		s, no := c.bind(a, family, r.Has(wire.AttrEvenPort))
		switch {
		case no == nil:
			a.sockets[i] = s
		case i == 1 && optional: // RFC 8656 §7.2: the first one alone is a success, too
			missing = no
		default:
			return out, no
		}
	}
	c.addLocked(a)
	return c.allocated(out, a, r.now, missing), nil
}

// makeRoomLocked removes the allocation of h that has carried no packets for longest, and reports whether it found one.
// A browser that gathers again makes an allocation for each interface and transport, and leaves the old ones to expire.
// Two kinds of allocations are kept: those in use within spareAfter, and the one that carried packets last, because
// a call may be silent on it.
func (c *control) makeRoomLocked(h *holder, k *call, now time.Time) bool {
	live := c.allocations
	if k != nil {
		live = k.live
	}
	var last, spare *allocation
	for a := range live {
		a.noteLocked(now)
		if a.holder == h && a.carried > 0 && (last == nil || a.used.After(last.used)) {
			last = a
		}
	}
	for a := range live {
		if a.holder == h && a != last && now.Sub(a.used) >= c.spareAfter && (spare == nil || a.used.Before(spare.used)) {
			spare = a
		}
	}
	if spare != nil {
		c.removeLocked(spare, now)
	}
	return spare != nil
}

// families returns the families (4, 6) of the requested relayed addresses. If optional is set, the request succeeds
// without the second one.
func (c *control) families(r *request) (list []byte, optional bool, no *refusal) {
	transport, ok := r.Attribute(wire.AttrRequestedTransport)
	switch {
	case !ok || len(transport) != 4:
		return nil, false, malformed
	case transport[0] != 17: // UDP; no RFC 6062
		return nil, false, &refusal{wire.CodeUnsupportedTransport, refuseTransport}
	}
	requested, one := r.Attribute(wire.AttrRequestedAddressFamily)
	additional, both := r.Attribute(wire.AttrAdditionalAddressFamily)
	even, pair := r.Attribute(wire.AttrEvenPort)
	switch {
	case r.Has(wire.AttrReservationToken) && (one || both || pair), pair && len(even) == 0:
		return nil, false, malformed
	// No port is kept for a second allocation. An even one alone is for the asking: coturn's client does.
	case r.Has(wire.AttrReservationToken), pair && even[0]&0x80 != 0:
		return nil, false, &refusal{wire.CodeInsufficientCapacity, refuseTransport}
	}
	switch {
	case one && both, one && len(requested) != 4, both && (len(additional) != 4 || additional[0] != 2):
		return nil, false, malformed
	case one && requested[0] == 2:
		return []byte{6}, false, c.serves(6)
	case one && requested[0] == 1:
		return []byte{4}, false, c.serves(4)
	case one:
		return nil, false, noFamily
	case both:
		return []byte{4, 6}, true, c.serves(4)
	case c.serves(4) != nil:
		// RFC 8656 §7.2 requires error 440. But browsers never request a family, so they could not use a server that has
		// only IPv6.
		return []byte{6}, false, nil
	}
	return []byte{4}, false, nil
}

func (c *control) serves(family byte) *refusal {
	if c.portsOf(family) == nil {
		return noFamily
	}
	return nil
}

func (c *control) portsOf(family byte) *ports {
	if family == 4 {
		return c.router.relayed.Load().v4
	}
	return c.router.relayed.Load().v6
}

// callOfLocked returns the call that the credentials name, or nil if they name none.
func (c *control) callOfLocked(r *request) (*call, *refusal) {
	over := &refusal{wire.CodeForbidden, refuseCall}
	if c.cfg.CallScoped && (r.claim.call == "" || r.claim.party == "") {
		return nil, over
	}
	if r.claim.call == "" {
		return nil, nil
	}
	k := c.callLocked(r.claim.call, r.now)
	if k.ended {
		return nil, over
	}
	return k, nil
}

// bind binds a relay socket to a random port (RFC 8656 §7.2). If the port is taken, it tries the next one, and so on.
func (c *control) bind(a *allocation, family byte, even bool) (*relaySocket, *refusal) {
	p := c.portsOf(family)
	if p == nil {
		return nil, noFamily
	}
	s := &relaySocket{allocation: a, family: family, ports: p}
	first := rand.IntN(len(p.list))
	for i := range p.list {
		port := (first + i) % len(p.list)
		s.relayed = endpoint{Address: wire.Address{IP: p.ip, Port: p.first + uint16(port)}}
		if p.list[port].Load() != nil || even && s.relayed.Port%2 != 0 {
			continue
		}
		err := c.carrier.open(s, netip.AddrPortFrom(p.at, s.relayed.Port))
		switch {
		case err == nil:
			return s, nil
		case slices.ContainsFunc(hopeless, func(h syscall.Errno) bool { return errors.Is(err, h) }):
			return nil, full
		}
	}
	return nil, full
}

// hopeless are errors with which every other port would fail, too: no descriptors, no memory, no such address.
var hopeless = []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL}

func (c *control) addLocked(a *allocation) {
	c.allocations[a] = struct{}{}
	a.holder.allocations++
	c.holders[a.holder.name] = a.holder
	a.origin.allocations++
	c.origins[sourceOf(a.source.endpoint)] = a.origin
	if a.call != nil {
		a.call.live[a] = struct{}{}
	}
	for _, s := range a.sockets {
		if s != nil {
			c.publishSocketLocked(s, s)
		}
	}
	if a.stream != nil {
		a.stream.allocation.Store(a)
	} else {
		c.router.clients.add(a.source.endpoint, a)
	}
	c.metrics.allocations.Add(1)
}

func (c *control) removeLocked(a *allocation, now time.Time) {
	if _, there := c.allocations[a]; !there {
		return
	}
	delete(c.allocations, a)
	a.ended.Store(true)
	c.metrics.pending.Add(int64(-len(a.pending)))
	a.pending = nil
	if a.stream != nil {
		a.stream.allocation.CompareAndSwap(a, nil)
	} else {
		c.router.clients.remove(a.source.endpoint)
	}
	a.table.Store(new(table))
	for i := range a.sockets {
		c.unbind(a, i)
	}
	if a.holder.allocations--; a.holder.allocations == 0 {
		delete(c.holders, a.holder.name)
	}
	if a.origin.allocations--; a.origin.allocations == 0 {
		delete(c.origins, sourceOf(a.source.endpoint))
	}
	if a.call != nil {
		delete(a.call.live, a)
		a.call.usage.add(a)
		a.call.touched = now
	}
	c.metrics.allocations.Add(-1)
	if len(c.allocations) == 0 && c.empty != nil {
		close(c.empty)
		c.empty = nil
	}
}

func (c *control) unbind(a *allocation, i int) {
	s := a.sockets[i]
	if s == nil || s.closed.Swap(true) {
		return
	}
	c.publishSocketLocked(s, nil)
	c.carrier.close(s)
}

// publishSocketLocked makes s known to the data path under its relayed address. If shown is nil, it removes s there.
func (c *control) publishSocketLocked(s, shown *relaySocket) {
	s.ports.list[s.relayed.Port-s.ports.first].Store(shown)
	if shown != nil {
		s.ports.used++
	} else {
		s.ports.used--
	}
}

// allocated appends the attributes of a successful Allocate response. missing says why the second family failed, or is
// nil.
func (c *control) allocated(out []byte, a *allocation, now time.Time, missing *refusal) []byte {
	for _, s := range a.sockets {
		if s != nil {
			out = wire.AppendXORAddress(out, wire.AttrXORRelayedAddress, &s.relayed.Address)
		}
	}
	out = wire.AppendXORAddress(out, wire.AttrXORMappedAddress, &a.source.Address)
	out = appendLifetime(out, a.expires.Sub(now))
	if missing != nil {
		out = wire.AppendAttribute(out, wire.AttrAddressErrorCode, 2, 0, byte(missing.code/100), byte(missing.code%100))
	}
	return out
}

// appendLifetime appends LIFETIME. If the allocation has expired but is not yet removed, the value is 0.
func appendLifetime(out []byte, left time.Duration) []byte {
	return wire.AppendUint32(out, wire.AttrLifetime, uint32(max(left, 0)/time.Second))
}

// refreshLocked carries out a Refresh request (RFC 8656 §7.3).
func (c *control) refreshLocked(r *request, a *allocation, out []byte) ([]byte, *refusal) {
	only := -1
	if value, ok := r.Attribute(wire.AttrRequestedAddressFamily); ok {
		family := byte(4)
		if len(value) != 4 {
			return out, malformed
		}
		if value[0] == 2 {
			family = 6
		}
		only = slices.IndexFunc(a.sockets[:], func(s *relaySocket) bool { return s != nil && s.family == family })
		if only < 0 || a.sockets[only].closed.Load() {
			return out, wrongFamily
		}
	}
	life, no := lifetime(r)
	if no != nil {
		return out, no
	}
	switch {
	case life > 0:
		a.expires = r.now.Add(life)
	case only >= 0 && a.sockets[1-only] != nil && !a.sockets[1-only].closed.Load():
		c.unbind(a, only)
		c.publishLocked(a)
	default:
		c.removeLocked(a, r.now)
	}
	return appendLifetime(out, life), nil
}
