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

// afterExpiry is how long credentials that expired still serve an allocation they once made: a browser goes on with
// those the call began with.
const afterExpiry = 12 * time.Hour

// control is the control plane: it owns allocations and says what requests do to them. It is told the time and has no
// goroutine; what it changes it shows to the data path by publishing.
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

// A carrier moves packets: it owns the UDP sockets. What it reads it asks the router about, or hands to an answerer. Its
// first three methods are called by the control plane, under its lock.
type carrier interface {
	// open binds s to a port of an address and begins to read from it.
	open(s *relaySocket, at netip.AddrPort) error
	// close ends that. Nothing is sent from s when it has returned, or very soon after.
	close(s *relaySocket)
	// tend is called each second, so many of them after the last time.
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

// newControl makes one without a carrier and without relayed addresses: they come when sockets are bound.
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

// relayOn says that new relayed addresses of its family are on ip from now on, for which sockets are bound to at. Those
// there are stay where they are.
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

// relayedAddresses are those on which clients may have relayed addresses, new ones or old ones.
func (c *control) relayedAddresses() []netip.Addr {
	var all []netip.Addr
	for _, p := range c.router.relayed.Load().all {
		all = append(all, netip.AddrFrom16(p.ip).Unmap())
	}
	return all
}

// clock is the server's time, which the data path compares.
func (c *control) clock(t time.Time) int64 { return int64(t.Sub(c.begin)) }

// A refusal is why a request fails.
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

// A request is one whose sender has proved to be who they say, from where they say.
type request struct {
	wire.Message // as far as it is signed
	claim        claim
	from         source
	stream       *stream
	now          time.Time
	whole        wire.Message // as it came
	until        time.Time    // when a held request is refused; zero for a new one
}

// of finds the allocation of a five-tuple.
func (c *control) of(from *source, s *stream) *allocation {
	if s != nil {
		return s.allocation.Load()
	}
	return c.router.clients.find(&from.endpoint)
}

// do carries a request out and appends to the success response out. There is no response yet when it is waiting.
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
		return out, held // sent again
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

// gone is told when the connection of a stream ends, and with it its allocation (RFC 8656 §7.1).
func (c *control) gone(s *stream, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := s.allocation.Load(); a != nil {
		c.removeLocked(a, now)
	}
}

// expire ends what is over. It is called each second or so.
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

func (c *control) closeAll(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining, c.closed = true, true
	for a := range c.allocations {
		c.removeLocked(a, now)
	}
}

// drain refuses new allocations from now on and waits until there are none, or ctx is done.
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
