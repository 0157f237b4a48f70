package relay

import (
	"net/netip"
	"slices"
	"time"
)

// A call limits what its parties may reach through the relay (Config.CallScoped).
//
// A usual TURN server lets every client with a password reach any address. This relay lets a party reach only the
// addresses that the other party of the call has shown; the switchboard announces them with Permit. An address matches by
// IP alone, as in permissions (RFC 8656 §9): if a NAT makes a new port for each destination, nobody knows the port in
// advance.
//
// The caller of Permit decides which addresses count as shown. The switchboard passes the addresses of the candidates, and
// the address from which the party signals. The latter stands in for mDNS candidates and for candidates that a browser
// withholds. Peer-reflexive candidates usually come from it, too. The exception are NATs that mix several outer addresses.
// There, a pair of one relayed and one direct address fails. The pair of both relayed addresses remains: the relay's own
// relayed addresses are permitted within their call without being shown, and in no other call.
//
// With several relays, the other relays' relayed candidates are shown like all candidates. In relay-only calls they count
// only if their address is in Config.Relays.
//
// Permit should be called before the other party receives the candidate, because a browser gives up on an address that
// was refused once. Over the network this order is not certain (Config.Fed): the relay then holds requests (pending.go).
type call struct {
	id        string
	relayOnly bool
	shown     map[string][][16]byte // by party, oldest first
	live      map[*allocation]struct{}
	usage     Usage // of allocations that are closed
	ended     bool
	touched   time.Time
}

const (
	// mostShown bounds the addresses of one party. The 100 candidates of an epoch name fewer.
	mostShown = 64
	// endedLife is how long an ended call is remembered. Credentials that were issued for it expire earlier.
	endedLife = longestTTL + 5*time.Minute
	// idleCall is how long a call without allocations and without changes is remembered.
	idleCall = 24 * time.Hour
)

// Usage counts what was relayed, payload only. Up is from clients to TURN peers, down is to clients.
type Usage struct{ BytesUp, PacketsUp, BytesDown, PacketsDown uint64 }

// Bytes returns the bytes of both directions.
func (u Usage) Bytes() uint64 { return u.BytesUp + u.BytesDown }

func (u *Usage) add(a *allocation) {
	u.BytesUp += a.up.bytes.Load()
	u.PacketsUp += a.up.packets.Load()
	u.BytesDown += a.down.bytes.Load()
	u.PacketsDown += a.down.packets.Load()
}

// callLocked returns the call with an id, and makes it if there is none. An ended call stays ended.
func (c *control) callLocked(id string, now time.Time) *call {
	k := c.calls[id]
	if k == nil {
		k = &call{id: id, shown: make(map[string][][16]byte), live: make(map[*allocation]struct{})}
		c.calls[id] = k
	}
	if !k.ended {
		k.touched = now
	}
	return k
}

// permit records that a party has shown addresses. It ignores invalid addresses and ended calls.
func (c *control) permit(now time.Time, id, party string, addrs []netip.Addr) {
	defer c.retryDue(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.callLocked(id, now)
	if k.ended {
		return
	}
	changed := false
	for _, addr := range addrs {
		if !addr.IsValid() || addr.Zone() != "" {
			continue
		}
		ip := addr.As16()
		list := k.shown[party]
		if slices.Contains(list, ip) {
			continue
		}
		if len(list) >= mostShown {
			list = list[1:]
		}
		k.shown[party], changed = append(list, ip), true
	}
	if changed {
		for a := range k.live {
			c.changedLocked(a)
		}
	}
}

// relayOnly sets whether a call may reach relayed addresses only. It deletes permissions that this forbids.
func (c *control) relayOnly(now time.Time, id string, on bool) {
	defer c.retryDue(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.callLocked(id, now)
	if k.relayOnly == on {
		return
	}
	k.relayOnly = on
	for a := range k.live {
		for ip := range a.permissions {
			if !c.callAllowsLocked(a, ip) {
				delete(a.permissions, ip)
			}
		}
		c.changedLocked(a)
	}
}

// callAllowsLocked reports whether a may have a permission for ip. On an address of this relay, the permission may cover
// relayed addresses only.
func (c *control) callAllowsLocked(a *allocation, ip [16]byte) bool {
	return c.router.relayedOn(ip) || c.directLocked(a, ip)
}

// directLocked reports whether a may reach ports of ip that are not relayed addresses of this relay.
func (c *control) directLocked(a *allocation, ip [16]byte) bool {
	switch {
	// Clients may not reach other programs on the relay's own address, unless the configuration allows it.
	case c.router.relayedOn(ip) && !contains(c.router.policy.Load().allow, netip.AddrFrom16(ip).Unmap()):
		return false
	case !c.cfg.CallScoped:
		return true
	case a.call == nil, a.call.relayOnly && !slices.Contains(c.relays, netip.AddrFrom16(ip).Unmap()):
		return false
	}
	for party, list := range a.call.shown {
		if party != a.claim.party && slices.Contains(list, ip) {
			return true
		}
	}
	return false
}

// endCall closes the allocations of a call, and refuses new ones for it. It returns the usage of the call.
func (c *control) endCall(now time.Time, id string) Usage {
	usage, streams := c.closeCall(now, id)
	for _, s := range streams {
		s.hangUp()
	}
	return usage
}

// closeCall is endCall, except that it leaves the streams of the allocations open. The caller must hang them up.
func (c *control) closeCall(now time.Time, id string) (Usage, []*stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.callLocked(id, now)
	if !k.ended {
		k.ended, k.touched, k.shown = true, now, nil
	}
	var streams []*stream
	for a := range k.live {
		c.removeLocked(a, now)
		if a.stream != nil {
			streams = append(streams, a.stream)
		}
	}
	return k.usage, streams
}

// forgetCallsLocked drops calls that are no longer needed.
func (c *control) forgetCallsLocked(now time.Time) {
	for id, k := range c.calls {
		age := now.Sub(k.touched)
		switch {
		case len(k.live) > 0:
		case k.ended && age > endedLife, age > idleCall, !k.ended && len(k.shown) == 0 && !k.relayOnly && age > longestTTL:
			delete(c.calls, id)
		}
	}
}
