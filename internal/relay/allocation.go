package relay

import (
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/visavis/visavis/internal/relay/wire"
)

const (
	defaultLifetime = 10 * time.Minute // RFC 8656 §3.2
	longestLifetime = time.Hour        // RFC 8656 §7.2
	permissionLife  = 5 * time.Minute  // RFC 8656 §9
	channelLife     = 10 * time.Minute // RFC 8656 §12

	// unusedAfter is how long an allocation of a call may have sent nothing on before it is dropped. Browsers make up to
	// eight for a call (Chromium) and keep them all; ICE checks what it may still use at least every 25 s. It is longer
	// than any call rings (call.ring-seconds), for a caller gathers before. A client that needs a relayed address again
	// restarts ICE, which makes a new one.
	unusedAfter = 5 * time.Minute

	// spareAfter is how long an allocation has to carry nothing until it may make room for another one of its user.
	// Connectivity checks count: what ICE still tries carries more often than that (RFC 8445 §14.3), as does media.
	spareAfter = time.Second
)

// Transports of clients, as nonces and five-tuples tell them apart.
const (
	overUDP byte = iota
	overTCP
	overTLS
)

var transportNames = [...]string{overUDP: "udp", overTCP: "tcp", overTLS: "tls"}

// A source is where a message comes from. As we listen on one port, it stands for the five-tuple.
type source struct {
	endpoint
	transport byte
}

// An allocation is what one client has (RFC 8656 §3.2). Everybody on the data path reads it without a lock: what
// changes there is atomic, and the rest never changes once the allocation is published.
type allocation struct {
	source  source
	stream  *stream // the client's, if it is no UDP client
	claim   claim
	holder  *holder
	origin  *origin
	call    *call // nil when the credentials name none
	sockets [2]*relaySocket
	made    wire.Transaction // the request that made it: the same again has the same answer
	created time.Time

	table    atomic.Pointer[table]
	ended    atomic.Bool
	up, down traffic

	expires     time.Time               // guarded by control.mu
	used        time.Time               // guarded by control.mu: when its client was last seen to have sent something on
	carried     uint64                  // guarded by control.mu: packets, by then
	permissions map[[16]byte]*granted   // guarded by control.mu
	channels    map[uint16]channelBound // guarded by control.mu
	pending     []pendingRequest        // guarded by control.mu: oldest first
}

// noteLocked notes whether a has carried something since the last time. What comes down does not count: a client that has
// left the network does not hear it.
func (a *allocation) noteLocked(now time.Time) {
	if n := a.up.packets.Load(); n != a.carried {
		a.carried, a.used = n, now
	}
}

// granted is a permission as the control plane knows it.
type granted struct {
	ends     time.Time
	contacts *contacts // nil where the peer's consent is not asked for
}

type channelBound struct {
	peer endpoint
	ends time.Time
}

// traffic is what was relayed in one direction.
type traffic struct{ bytes, packets atomic.Uint64 }

func (t *traffic) count(n int) {
	t.bytes.Add(uint64(n))
	t.packets.Add(1)
}

// A holder is a user in a call, whose quotas all allocations of theirs share.
type holder struct {
	name        string
	allocations int // guarded by control.mu
	up, down    lane
	checks      bucket // of bytes that go to TURN peers which have not agreed
}

// An origin is a source of clients, which all their allocations share. It may be an office, or everybody behind a load
// balancer: its bounds are wide, and keep one address from taking the whole relay.
type origin struct {
	budget
	allocations int // guarded by control.mu
}

// A relaySocket is bound to a relayed address. The carrier that opened it owns what it reads and writes with.
type relaySocket struct {
	allocation *allocation
	relayed    endpoint // as clients are told
	ports      *ports   // among which it is found
	family     byte     // 4 or 6
	closed     atomic.Bool

	conn *net.UDPConn // of the portable carrier
	fd   descriptor   // batched sockets
	slot int          // batched sockets: where events find it
}

// A table is the permissions and channels of an allocation as the data path sees them. It is never changed, only
// replaced. Both lists are so short that looking through them is the quickest way.
type table struct {
	channels    []binding
	permissions []permission
}

type binding struct {
	number uint16
	peer   endpoint
	via    *relaySocket
	ends   int64 // the earlier of the channel's end and its permission's, in the server's time
	direct bool  // as its permission's

	contacts *contacts // as its permission's
}

type permission struct {
	ip     [16]byte
	ends   int64
	direct bool // not only for what is relayed by us

	contacts *contacts // what of it has agreed; nil where that is not asked for
}

func (t *table) channel(number uint16) *binding {
	for i := range t.channels {
		if t.channels[i].number == number {
			return &t.channels[i]
		}
	}
	return nil
}

func (t *table) channelTo(peer *endpoint) *binding {
	for i := range t.channels {
		if t.channels[i].peer == *peer {
			return &t.channels[i]
		}
	}
	return nil
}

// permits finds the permission for ip, or nil.
func (t *table) permits(ip *[16]byte, now int64) *permission {
	for i := range t.permissions {
		if p := &t.permissions[i]; p.ip == *ip && now < p.ends {
			return p
		}
	}
	return nil
}

// publishLocked shows the data path what allocation.permissions and channels say.
func (c *control) publishLocked(a *allocation) {
	t := &table{
		channels:    make([]binding, 0, len(a.channels)),
		permissions: make([]permission, 0, len(a.permissions)),
	}
	for ip, p := range a.permissions {
		t.permissions = append(t.permissions, permission{ip, c.clock(p.ends), c.directLocked(a, ip), p.contacts})
	}
	for number, ch := range a.channels {
		p := a.permissions[ch.peer.IP]
		if p == nil {
			p = new(granted) // taken back: it ended long ago
		}
		ends := ch.ends
		if p.ends.Before(ends) {
			ends = p.ends
		}
		t.channels = append(t.channels, binding{
			number, ch.peer, a.socketFor(&ch.peer), c.clock(ends), c.directLocked(a, ch.peer.IP), p.contacts,
		})
	}
	a.table.Store(t)
}

// socketFor is the one of the peer's family, or nil.
func (a *allocation) socketFor(peer *endpoint) *relaySocket {
	family := byte(6)
	if peer.Is4() {
		family = 4
	}
	return a.socket(family)
}

func (a *allocation) socket(family byte) *relaySocket {
	for _, s := range a.sockets {
		if s != nil && s.family == family && !s.closed.Load() {
			return s
		}
	}
	return nil
}

// An Allocation is what an administrator may know of one.
type Allocation struct {
	User, Call, Party string
	Transport         string // udp, tcp or tls
	Client            netip.AddrPort
	Relayed           []netip.AddrPort
	Usage             Usage
	Created, Expires  time.Time
	Permissions       []netip.Addr
	Channels          int
}
