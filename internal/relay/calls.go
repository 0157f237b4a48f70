package relay

import (
	"net/netip"
	"slices"
	"time"
)

// Permissions that are scoped to calls (Config.CallScoped).
//
// A TURN server usually lets anybody with a password reach any address. This one is told by the switchboard what each
// party of a call has shown, and lets the other party reach just that. What may be reached is matched by IP, as
// permissions are (RFC 8656 §9): the port behind a translator that makes a new one for each destination is known to
// nobody beforehand, and cannot be signaled.
//
// What counts as shown is up to who feeds Permit: the addresses of the candidates, and the one from which the party
// signals. The latter stands in for candidates that are mDNS names and for those a browser keeps to itself, and is
// where peer-reflexive candidates come from in all but the rarest networks: those whose translators have several
// outer addresses and mix them. There the pair of one relayed address and one direct one fails; that of both relayed
// addresses remains, for own relayed addresses are permitted to their call without being shown, and to no other call.
//
// With several relays the relayed candidates of the others are shown like all candidates; in relay-only calls they count
// only when they are on an address of Config.Relays.
//
// The feed should come before the candidate goes to the other party: a browser gives up on an address that was refused
// once. Where it cannot, for it comes over the network (Config.Fed), requests wait for it (pending.go).
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
	// mostShown bounds what one party may show: 100 candidates an epoch name few addresses.
	mostShown = 64
	// endedLife is how long an ended call is remembered: as long as credentials that were issued for it live, and some.
	endedLife = longestTTL + 5*time.Minute
	// idleCall is how long what parties have shown is kept without an allocation or anything new.
	idleCall = 24 * time.Hour
)

// Usage is what was relayed, payload only: up from clients to TURN peers, down to clients.
type Usage struct{ BytesUp, PacketsUp, BytesDown, PacketsDown uint64 }

// Bytes is what that comes to, both ways.
func (u Usage) Bytes() uint64 { return u.BytesUp + u.BytesDown }

func (u *Usage) add(a *allocation) {
	u.BytesUp += a.up.bytes.Load()
	u.PacketsUp += a.up.packets.Load()
	u.BytesDown += a.down.bytes.Load()
	u.PacketsDown += a.down.packets.Load()
}

// callLocked finds or makes a call. An ended one stays ended.
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

// callAllowsLocked tells whether a may have a permission for ip, be it for our own relayed addresses alone.
func (c *control) callAllowsLocked(a *allocation, ip [16]byte) bool {
	return c.router.relayedOn(ip) || c.directLocked(a, ip)
}

// directLocked tells whether a may reach, on ip, what is not relayed by us.
func (c *control) directLocked(a *allocation, ip [16]byte) bool {
	switch {
	// Other programs on our own address are not for clients, unless someone says so.
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

// endCall closes the allocations of a call and makes that nobody gets another one for it.
func (c *control) endCall(now time.Time, id string) Usage {
	usage, streams := c.closeCall(now, id)
	for _, s := range streams {
		s.hangUp()
	}
	return usage
}

// closeCall is endCall but for the streams that are to be hung up on.
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

// forgetCallsLocked drops what is of no use any more.
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
