package relay

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/visavis/visavis/internal/relay/wire"
)

// afterExpiry is how long expired credentials still work for an allocation that was made with them. A browser keeps using
// the credentials with which the call began.
const afterExpiry = 12 * time.Hour

// control is the control plane: it owns the allocations and carries out requests on them. Its callers pass the time, and
// it has no goroutine. It publishes each change to the data path as a new table.
type control struct {
	cfg        Config
	router     *router
	carrier    carrier
	metrics    *metrics
	secrets    map[string][]byte // by secretID
	admissions admissions
	log        *slog.Logger
	realm      []byte    // the attribute
	answerers  sync.Pool // of *answerer: there are many receivers, and most answer no request most of the time
	nonceKey   []byte
	begin      time.Time

	mu          sync.Mutex
	allocations map[*allocation]struct{} // guarded by mu
	holders     map[string]*holder       // guarded by mu: those with an allocation
	origins     map[[16]byte]*origin     // guarded by mu: those with an allocation
	calls       map[string]*call         // guarded by mu
	relays      []netip.Addr             // guarded by mu: those that count as relayed in relay-only calls
	due         []pendingRequest         // guarded by mu: to be done again (retryDue)
	draining    bool                     // guarded by mu
	empty       chan struct{}            // guarded by mu: closed when the last allocation goes; nil unless waited for
	swept       time.Time                // guarded by mu: when calls were last looked through
	tended      time.Time                // guarded by mu: when the carrier was
	closed      bool                     // guarded by mu
	spareAfter  time.Duration            // guarded by mu; longer in tests
}

// A carrier owns the UDP sockets and moves packets. It asks the router where a packet goes, and hands requests to an
// answerer. The control plane calls the first three methods with its lock held.
type carrier interface {
	// open binds s to a port of an address and begins to read from it.
	open(s *relaySocket, at netip.AddrPort) error
	// close closes s. Packets that are being sent from s at this moment may still leave.
	close(s *relaySocket)
	// tend is called about once a second, with the seconds since the last call.
	tend(seconds float64)

	// toClient sends b to a UDP client.
	toClient(to *endpoint, b []byte)
	// toPeer sends payload from a relayed address; whole says that it must not be fragmented.
	toPeer(s *relaySocket, to *endpoint, payload []byte, whole bool)

	// serve reads from clients until stop is called, or the sockets fail.
	serve() error
	stop()
	// finish is called when serve has returned and no relay socket is open. Nothing is read or sent afterwards.
	finish()
}

// newControl returns a control without a carrier and without relayed addresses. Both are set when sockets are bound.
func newControl(cfg Config, p *policy, m *metrics, begin time.Time) *control {
	c := &control{
		cfg: cfg, metrics: m, begin: begin, swept: begin, tended: begin, spareAfter: spareAfter,
		secrets:     make(map[string][]byte),
		admissions:  newAdmissions(cfg),
		realm:       wire.AppendAttribute(nil, wire.AttrRealm, []byte(cfg.Realm)...),
		nonceKey:    newNonceKey(),
		allocations: make(map[*allocation]struct{}),
		holders:     make(map[string]*holder),
		origins:     make(map[[16]byte]*origin),
		calls:       make(map[string]*call),
		relays:      slices.Clone(cfg.Relays),
	}
	c.router = &router{
		flow: &m.flow, callScoped: cfg.CallScoped,
		rates: newRates(cfg.BitRate, cfg.PacketRate), victims: newHashedBuckets(victimRate, victimRate*victimBurst),
		clients: newIndex(cfg.MaxAllocations), locals: newLocals(),
		sourceRate: int64(cfg.SourceBitRate), totalRate: int64(cfg.TotalBitRate),
	}
	c.router.policy.Store(p)
	c.router.relayed.Store(new(relayed))
	for _, secret := range cfg.Secrets {
		c.secrets[secretID(secret)] = secret
	}
	c.answerers.New = func() any { return newAnswerer(c) }
	return c
}

// relayOn sets the IP of new relayed addresses in the family of ip. Their sockets are bound to at. Existing relayed
// addresses do not change.
func (c *control) relayOn(ip, at netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.router.relayed.Load()
	now := &relayed{v4: before.v4, v6: before.v6}
	var current *ports
	for _, p := range before.all {
		if p.ip == ip.As16() && p.at == at {
			current = p
		}
	}
	if current == nil {
		current = &ports{
			ip: ip.As16(), at: at, first: c.cfg.MinPort,
			list: make([]atomic.Pointer[relaySocket], int(c.cfg.MaxPort)-int(c.cfg.MinPort)+1),
		}
	}
	if ip.Is4() {
		now.v4 = current
	} else {
		now.v6 = current
	}
	for _, p := range append([]*ports{now.v4, now.v6}, before.all...) {
		if p != nil && !slices.Contains(now.all, p) && (p == now.v4 || p == now.v6 || p.used > 0) {
			now.all = append(now.all, p)
		}
	}
	c.router.relayed.Store(now)
}

// relayedAddresses returns all IPs on which there may be relayed addresses, current and earlier ones.
func (c *control) relayedAddresses() []netip.Addr {
	var all []netip.Addr
	for _, p := range c.router.relayed.Load().all {
		all = append(all, netip.AddrFrom16(p.ip).Unmap())
	}
	return all
}

// clock converts t to the server's time: ns since begin.
func (c *control) clock(t time.Time) int64 { return int64(t.Sub(c.begin)) }

// A refusal says why a request fails: to the client with a code, and to the metrics with a cause.
type refusal struct {
	code  wire.Code
	cause cause
}

var (
	malformed        = &refusal{wire.CodeBadRequest, refuseMalformed}
	unknownAttribute = &refusal{wire.CodeUnknownAttribute, refuseAttributes}
	forbidPeer       = &refusal{wire.CodeForbidden, refusePeer}
	wrongFamily      = &refusal{wire.CodePeerAddressFamilyMismatch, refuseFamily}
	noFamily         = &refusal{wire.CodeAddressFamilyNotSupported, refuseFamily}
	mismatch         = &refusal{wire.CodeAllocationMismatch, refuseMismatch}
	full             = &refusal{wire.CodeInsufficientCapacity, refuseCapacity}
)

// A request has valid credentials (MESSAGE-INTEGRITY), and its sender receives packets at the source address (nonce).
type request struct {
	wire.Message // the part that MESSAGE-INTEGRITY covers
	claim        claim
	from         source
	stream       *stream
	now          time.Time
	whole        wire.Message // all of it
	until        time.Time    // when a held request is refused; zero for a new one
}

// of returns the allocation of a five-tuple, or nil.
func (c *control) of(from *source, s *stream) *allocation {
	if s != nil {
		return s.allocation.Load()
	}
	return c.router.clients.find(&from.endpoint)
}

// do carries out a request and appends attributes to the success response out. If it returns held, there is no response
// yet (pending.go).
func (c *control) do(r *request, out []byte) ([]byte, *refusal) {
	defer c.retryDue(r.now)
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.of(&r.from, r.stream)
	if r.Type() == wire.AllocateRequest {
		return c.allocateLocked(r, a, out)
	}
	switch {
	case a == nil:
		return out, mismatch
	case !a.claim.same(r.claim): // RFC 8656 §5
		return out, &refusal{wire.CodeWrongCredentials, refuseCredentials}
	}
	if slices.ContainsFunc(a.pending, func(p pendingRequest) bool { return p.id == r.Transaction() }) {
		return out, held // a retransmission
	}
	no := malformed
	switch r.Type() {
	case wire.RefreshRequest:
		out, no = c.refreshLocked(r, a, out)
	case wire.CreatePermissionRequest:
		no = c.permissionLocked(r, a)
	case wire.ChannelBindRequest:
		no = c.channelLocked(r, a)
	}
	if no == notShown {
		no = c.holdLocked(a, r)
	}
	return out, no
}

// gone removes the allocation of a stream whose connection has ended (RFC 8656 §7.1).
func (c *control) gone(s *stream, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := s.allocation.Load(); a != nil {
		c.removeLocked(a, now)
	}
}

// expire removes expired and unused allocations, and refuses pending requests that have waited for too long. It is called
// about once a second.
func (c *control) expire(now time.Time) {
	defer c.retryDue(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.carrier.tend(now.Sub(c.tended).Seconds())
	c.tended = now
	for a := range c.allocations {
		a.noteLocked(now)
		if !now.Before(a.expires) || a.call != nil && now.Sub(a.used) >= unusedAfter {
			c.removeLocked(a, now)
		}
		for len(a.pending) > 0 && !now.Before(a.pending[0].until) {
			c.releaseLocked(a, 1)
		}
	}
	if now.Sub(c.swept) >= time.Minute {
		c.swept = now
		c.forgetCallsLocked(now)
	}
}

// closeAll removes all allocations and refuses new ones.
func (c *control) closeAll(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining, c.closed = true, true
	for a := range c.allocations {
		c.removeLocked(a, now)
	}
}

// drain refuses new allocations and waits until there are none left, or until ctx is done.
func (c *control) drain(ctx context.Context) error {
	c.mu.Lock()
	c.draining = true
	if len(c.allocations) == 0 {
		c.mu.Unlock()
		return nil
	}
	if c.empty == nil {
		c.empty = make(chan struct{})
	}
	empty := c.empty
	c.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// list returns all allocations, oldest first.
func (c *control) list() []Allocation {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]Allocation, 0, len(c.allocations))
	for a := range c.allocations {
		var u Usage
		u.add(a)
		e := Allocation{
			User: a.claim.user, Call: a.claim.call, Party: a.claim.party,
			Transport: transportNames[a.source.transport], Client: a.source.AddrPort(),
			Usage: u, Created: a.created, Expires: a.expires, Channels: len(a.channels),
		}
		for _, s := range a.sockets {
			if s != nil && !s.closed.Load() {
				e.Relayed = append(e.Relayed, s.relayed.AddrPort())
			}
		}
		for ip := range a.permissions {
			e.Permissions = append(e.Permissions, netip.AddrFrom16(ip).Unmap())
		}
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b Allocation) int { return a.Created.Compare(b.Created) })
	return list
}
