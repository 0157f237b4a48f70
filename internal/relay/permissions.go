package relay

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/visavis/visavis/internal/relay/wire"
)

// permissionLocked is RFC 8656 §9.2: all of the addresses, or none.
func (c *control) permissionLocked(r *request, a *allocation) *refusal {
	var peers []endpoint
	for rest := r.Attributes(); len(rest) > 0; {
		kind, value, after, _ := rest.Next()
		rest = after
		if kind != wire.AttrXORPeerAddress {
			continue
		}
		peer, ok := r.XORAddress(value)
		if !ok {
			return malformed
		}
		peers = append(peers, endpoint{Address: peer})
	}
	if len(peers) == 0 {
		return malformed
	}
	if no := c.grantLocked(a, r.now, peers...); no != nil {
		return no
	}
	c.publishLocked(a)
	return nil
}

// grantLocked gives permissions for the IPs of peers, or renews them.
func (c *control) grantLocked(a *allocation, now time.Time, peers ...endpoint) *refusal {
	more := 0
	for ip, p := range a.permissions {
		if !now.Before(p.ends) {
			delete(a.permissions, ip)
		}
	}
	for i, peer := range peers {
		switch {
		case a.socketFor(&peer) == nil:
			return wrongFamily
		case !c.router.policy.Load().hostAllowed(peer.AddrPort().Addr()):
			return forbidPeer
		}
		_, held := a.permissions[peer.IP]
		if !held && !slices.ContainsFunc(peers[:i], func(p endpoint) bool { return p.IP == peer.IP }) {
			more++
		}
	}
	if slices.ContainsFunc(peers, func(p endpoint) bool { return !c.callAllowsLocked(a, p.IP) }) {
		return notShown
	}
	if len(a.permissions)+more > c.cfg.Permissions {
		return &refusal{wire.CodeInsufficientCapacity, refusePermissions}
	}
	if a.permissions == nil {
		a.permissions = make(map[[16]byte]*granted, 2)
	}
	for _, peer := range peers {
		p := a.permissions[peer.IP]
		if p == nil {
			p = new(granted)
			if a.call != nil {
				p.contacts = new(contacts)
			}
			a.permissions[peer.IP] = p
		}
		p.ends = now.Add(permissionLife)
	}
	return nil
}

// channelLocked is RFC 8656 §12.2.
func (c *control) channelLocked(r *request, a *allocation) *refusal {
	value, numbered := r.Attribute(wire.AttrChannelNumber)
	at, addressed := r.Attribute(wire.AttrXORPeerAddress)
	if !numbered || !addressed || len(value) != 4 {
		return malformed
	}
	number := binary.BigEndian.Uint16(value)
	toward, ok := r.XORAddress(at)
	peer := endpoint{Address: toward}
	if !ok || number < wire.FirstChannel || number > wire.LastChannel {
		return malformed
	}
	for n, ch := range a.channels {
		switch {
		case !r.now.Before(ch.ends):
			delete(a.channels, n)
		case (n == number) != (ch.peer == peer):
			return malformed
		}
	}
	if a.socketFor(&peer) != nil && !c.router.policy.Load().peerAllowed(peer.AddrPort()) {
		return forbidPeer
	}
	if s, ours := c.router.own(&peer); ours && !c.router.maySend(a, s, c.directLocked(a, peer.IP)) {
		if s == nil {
			return notShown
		}
		return forbidPeer
	}
	if _, bound := a.channels[number]; !bound && len(a.channels) >= c.cfg.Channels {
		return &refusal{wire.CodeInsufficientCapacity, refuseChannels}
	}
	if no := c.grantLocked(a, r.now, peer); no != nil {
		return no
	}
	if a.channels == nil {
		a.channels = make(map[uint16]channelBound, 1)
	}
	a.channels[number] = channelBound{peer, r.now.Add(channelLife)}
	c.publishLocked(a)
	return nil
}
