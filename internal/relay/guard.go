package relay

import (
	"encoding/binary"
	"hash/maphash"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun/v4"
)

const (
	stunHeader  = 20
	magicCookie = 0x2112A442

	methodAllocate = stun.MethodAllocate

	permissionLife = 5 * time.Minute // RFC 8656 §9

	// shortestLife is the least that RFC 8656 §7.2 grants an allocation. pion grants what it is asked for, and breaks
	// the program if an allocation expires while a permission is being added: nobody is to time that.
	shortestLife = 10 * time.Minute
)

// The messages that a TURN client sends, as their first two octets. Those of RFC 6062 are not among them.
var (
	bindingRequest          = stun.BindingRequest.Value()
	allocateRequest         = stun.NewType(stun.MethodAllocate, stun.ClassRequest).Value()
	refreshRequest          = stun.NewType(stun.MethodRefresh, stun.ClassRequest).Value()
	createPermissionRequest = stun.NewType(stun.MethodCreatePermission, stun.ClassRequest).Value()
	channelBindRequest      = stun.NewType(stun.MethodChannelBind, stun.ClassRequest).Value()
	sendIndication          = stun.NewType(stun.MethodSend, stun.ClassIndication).Value()
)

// A verdict is what becomes of a message from a client.
type verdict int

const (
	drop   verdict = iota
	flood          // drop, and a TCP client is hung up on: it would wait for an answer
	answer         // a Binding request, which needs no pion
	pass
)

// A guard stands between the clients of one socket or connection and the pion server that reads from it.
type guard struct {
	server *Server

	mu      sync.Mutex
	clients map[netip.AddrPort]*client // guarded by mu: those with an allocation
}

// A client is one that has an allocation.
type client struct {
	allocations int // 2 for the moment in which pion replaces one that expired
	permissions map[netip.Addr]time.Time
	channels    map[uint16]struct{}
}

func newGuard(s *Server) *guard {
	return &guard{server: s, clients: make(map[netip.AddrPort]*client)}
}

// judge says what becomes of message b from src. Strangers cost no more than this: no parsing, no memory.
func (g *guard) judge(b []byte, src netip.AddrPort) verdict {
	if isChannelData(b) {
		return g.passKnown(src)
	}
	if !isSTUN(b) {
		g.server.metrics.refuse(causeShape)
		return drop
	}
	kind := binary.BigEndian.Uint16(b)
	switch kind {
	case sendIndication: // carries no proof (RFC 8656 §11.1): the client's address has to do
		return g.passKnown(src)
	case bindingRequest, allocateRequest, refreshRequest, createPermissionRequest, channelBindRequest:
	default:
		g.server.metrics.refuse(causeShape)
		return drop
	}
	if !hasIntegrity(b) || kind == bindingRequest {
		if !g.server.challenges.take(src.Addr(), time.Now()) {
			g.server.metrics.refuse(causeChallenges)
			return flood
		}
	}
	switch {
	case kind == bindingRequest:
		return answer
	case kind == channelBindRequest && !g.channelLeft(b, src):
		g.server.metrics.refuse(causeChannels)
		return drop
	case shortLived(b):
		g.server.metrics.refuse(causeLifetime)
		return drop
	}
	return pass
}

// shortLived is not the request to end an allocation, whose lifetime is 0.
func shortLived(b []byte) bool {
	value, _ := attribute(b, stun.AttrLifetime)
	if len(value) != 4 {
		return false
	}
	seconds := binary.BigEndian.Uint32(value)
	return seconds > 0 && seconds < uint32(shortestLife/time.Second)
}

func (g *guard) passKnown(src netip.AddrPort) verdict {
	if !g.known(src) {
		g.server.metrics.refuse(causeUnknown)
		return drop
	}
	return pass
}

func (g *guard) known(src netip.AddrPort) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.clients[src] != nil
}

// channelLeft is false if src has its channels and b wants one more.
func (g *guard) channelLeft(b []byte, src netip.AddrPort) bool {
	number, _ := attribute(b, stun.AttrChannelNumber)
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.clients[src]
	if c == nil || len(number) < 2 || len(c.channels) < g.server.cfg.Channels {
		return true
	}
	_, bound := c.channels[binary.BigEndian.Uint16(number)]
	return bound
}

// permit is pion's question whether an authenticated client may have a permission, for CreatePermission or
// ChannelBind. pion has no port to tell; relaySocket looks at it.
func (g *guard) permit(clientAddr net.Addr, peer net.IP) bool {
	ip, _ := netip.AddrFromSlice(peer)
	ip = ip.Unmap()
	if !g.server.policy.hostAllowed(ip) {
		g.server.metrics.refuse(causePeer)
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.clients[addrPort(clientAddr)]
	if c == nil {
		return false
	}
	now := time.Now()
	for old, granted := range c.permissions {
		if now.Sub(granted) >= permissionLife {
			delete(c.permissions, old)
		}
	}
	if _, held := c.permissions[ip]; !held && len(c.permissions) >= g.server.cfg.Permissions {
		g.server.metrics.refuse(causePermissions)
		return false
	}
	c.permissions[ip] = now
	return true
}

func (g *guard) onAuth(_, _ net.Addr, _, _, _, _ string, ok bool) {
	if !ok {
		g.server.metrics.refuse(causeCredentials)
	}
}

func (g *guard) onAllocationCreated(src, _ net.Addr, _, _, _ string, _ net.Addr, _ int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := addrPort(src)
	c := g.clients[at]
	if c == nil {
		c = &client{permissions: make(map[netip.Addr]time.Time), channels: make(map[uint16]struct{})}
		g.clients[at] = c
	}
	c.allocations++
}

func (g *guard) onAllocationDeleted(src, _ net.Addr, _, _, _ string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := addrPort(src)
	c := g.clients[at]
	if c == nil {
		return
	}
	if c.allocations--; c.allocations == 0 {
		delete(g.clients, at)
	}
}

func (g *guard) onChannelCreated(src, _ net.Addr, _, _, _ string, _, _ net.Addr, number uint16) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.clients[addrPort(src)]; c != nil {
		c.channels[number] = struct{}{}
	}
}

func (g *guard) onChannelDeleted(src, _ net.Addr, _, _, _ string, _, _ net.Addr, number uint16) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.clients[addrPort(src)]; c != nil {
		delete(c.channels, number)
	}
}

// isSTUN is RFC 8489 §5, and that the message ends where it says.
func isSTUN(b []byte) bool {
	return len(b) >= stunHeader && len(b)%4 == 0 && b[0]&0xc0 == 0 &&
		int(binary.BigEndian.Uint16(b[2:])) == len(b)-stunHeader && binary.BigEndian.Uint32(b[4:]) == magicCookie
}

// isChannelData is RFC 8656 §12.4 and §12.6: over UDP, padding may follow.
func isChannelData(b []byte) bool {
	return len(b) >= channelHeader && b[0]&0xf0 == 0x40 && int(binary.BigEndian.Uint16(b[2:])) <= len(b)-channelHeader
}

// attribute finds the first attribute of a kind in the STUN message b.
func attribute(b []byte, kind stun.AttrType) (value []byte, ok bool) {
	for b = b[stunHeader:]; len(b) >= 4; {
		n := int(binary.BigEndian.Uint16(b[2:]))
		padded := 4 + (n+3)&^3
		if padded > len(b) {
			return nil, false
		}
		if binary.BigEndian.Uint16(b) == uint16(kind) {
			return b[4 : 4+n], true
		}
		b = b[padded:]
	}
	return nil, false
}

func hasIntegrity(b []byte) bool {
	_, ok := attribute(b, stun.AttrMessageIntegrity)
	return ok
}

// bindingResponse answers the Binding request b. FINGERPRINT only answers its like, which keeps the answer to an
// IPv6 client within amplification.
func bindingResponse(b []byte, src netip.AddrPort) ([]byte, error) {
	setters := []stun.Setter{
		stun.NewTransactionIDSetter([stun.TransactionIDSize]byte(b[8:stunHeader])),
		stun.BindingSuccess,
		stun.XORMappedAddress{IP: src.Addr().AsSlice(), Port: int(src.Port())},
	}
	if _, ok := attribute(b, stun.AttrFingerprint); ok {
		setters = append(setters, stun.Fingerprint)
	}
	m, err := stun.Build(setters...)
	if err != nil {
		return nil, err
	}
	return m.Raw, nil
}

// sourceOf is what is counted as one: an IPv4 address, or the /56 that an IPv6 customer has.
func sourceOf(ip netip.Addr) netip.Prefix {
	bits := 32
	if ip.Is6() {
		bits = 56
	}
	prefix, _ := ip.WithZone("").Prefix(bits)
	return prefix
}

// buckets are token buckets for all sources in a memory that does not grow: sources that fall together by a secret
// hash share one.
type buckets struct {
	rate, burst float64
	seed        maphash.Seed
	start       time.Time

	mu    sync.Mutex
	slots [1 << 14]bucket // guarded by mu
}

// A bucket is full when it is new, so it holds what was taken.
type bucket struct {
	taken float64
	at    time.Duration // since buckets.start
}

func newBuckets(rate, burst int) *buckets {
	return &buckets{rate: float64(rate), burst: float64(burst), seed: maphash.MakeSeed(), start: time.Now()}
}

func (b *buckets) take(ip netip.Addr, now time.Time) bool {
	slot := &b.slots[maphash.Comparable(b.seed, sourceOf(ip))%uint64(len(b.slots))]
	at := now.Sub(b.start)
	b.mu.Lock()
	defer b.mu.Unlock()
	slot.taken = max(0, slot.taken-(at-slot.at).Seconds()*b.rate)
	slot.at = at
	if slot.taken+1 > b.burst {
		return false
	}
	slot.taken++
	return true
}
