package relay

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v4"
)

// afterExpiry is how long credentials that expired still serve an allocation they once made: a browser goes on with
// those the call began with.
const afterExpiry = 12 * time.Hour

// control is the control plane: it owns allocations and says what requests do to them. It is told the time and has no
// goroutine; what it changes it shows to the data path by publishing.
type control struct {
	cfg          Config
	policy       *policy
	router       *router
	carrier      carrier
	metrics      *metrics
	secrets      map[string][]byte // by secretID
	strange      *sourceBuckets    // what sources that have proved nothing are answered
	realm        []byte            // the attribute
	nonceKey     []byte
	begin        time.Time
	bind4, bind6 netip.Addr // of relay sockets; unspecified where the relayed address is not ours to bind

	mu          sync.Mutex
	allocations map[*allocation]struct{} // guarded by mu
	holders     map[string]*holder       // guarded by mu: those with an allocation
	calls       map[string]*call         // guarded by mu
	draining    bool                     // guarded by mu
	empty       chan struct{}            // guarded by mu: closed when the last allocation goes; nil unless waited for
	swept       time.Time                // guarded by mu: when calls were last looked through
	tended      time.Time                // guarded by mu: when the carrier was
	closed      bool                     // guarded by mu
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
	// toPeer sends payload from a relayed address.
	toPeer(s *relaySocket, to *endpoint, payload []byte)

	// serve reads from clients until stop is called, or the sockets fail.
	serve() error
	stop()
	// finish is called when serve has returned and no relay socket is open. Nothing is read or sent afterwards.
	finish()
}

// newControl makes one without a carrier and without relayed addresses: they come when sockets are bound.
func newControl(cfg Config, p *policy, m *metrics, begin time.Time) *control {
	c := &control{
		cfg: cfg, policy: p, metrics: m, begin: begin, swept: begin, tended: begin,
		secrets:     make(map[string][]byte),
		strange:     newSourceBuckets(cfg.ChallengeRate, cfg.ChallengeBurst),
		realm:       appendAttribute(nil, stun.AttrRealm, []byte(cfg.Realm)...),
		nonceKey:    newNonceKey(),
		allocations: make(map[*allocation]struct{}),
		holders:     make(map[string]*holder),
		calls:       make(map[string]*call),
	}
	c.router = &router{
		policy: p, flow: &m.flow, callScoped: cfg.CallScoped,
		rates: newRates(cfg.BitRate, cfg.PacketRate), clients: newIndex(cfg.MaxAllocations),
	}
	for _, secret := range cfg.Secrets {
		c.secrets[secretID(secret)] = secret
	}
	return c
}

// relayOn says that clients may have relayed addresses on ip, for which sockets are bound to at. It comes before all
// requests.
func (c *control) relayOn(ip, at netip.Addr) {
	p := ports{
		ip: ip.As16(), first: c.cfg.MinPort,
		list: make([]atomic.Pointer[relaySocket], int(c.cfg.MaxPort)-int(c.cfg.MinPort)+1),
	}
	if ip.Is4() {
		c.router.relayed4, c.bind4 = p, at
	} else {
		c.router.relayed6, c.bind6 = p, at
	}
}

// clock is the server's time, which the data path compares.
func (c *control) clock(t time.Time) int64 { return int64(t.Sub(c.begin)) }

// A refusal is why a request fails.
type refusal struct {
	code  stun.ErrorCode
	cause cause
}

var (
	malformed   = &refusal{stun.CodeBadRequest, refuseMalformed}
	forbidPeer  = &refusal{stun.CodeForbidden, refusePeer}
	wrongFamily = &refusal{stun.CodePeerAddrFamilyMismatch, refuseFamily}
	noFamily    = &refusal{stun.CodeAddrFamilyNotSupported, refuseFamily}
	mismatch    = &refusal{stun.CodeAllocMismatch, refuseMismatch}
	full        = &refusal{stun.CodeInsufficientCapacity, refuseCapacity}
)

// A request is one whose sender has proved to be who they say, from where they say.
type request struct {
	*stun.Message
	claim  claim
	from   source
	stream *stream
	now    time.Time
}

// of finds the allocation of a five-tuple.
func (c *control) of(from *source, s *stream) *allocation {
	if s != nil {
		return s.allocation.Load()
	}
	return c.router.clients.find(&from.endpoint)
}

// do carries a request out. What it returns goes into the response.
func (c *control) do(r *request) ([]stun.Setter, *refusal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.of(&r.from, r.stream)
	if r.Type.Method == stun.MethodAllocate {
		return c.allocateLocked(r, a)
	}
	switch {
	case a == nil:
		return nil, mismatch
	case !a.claim.same(r.claim): // RFC 8656 §5
		return nil, &refusal{stun.CodeWrongCredentials, refuseCredentials}
	}
	switch r.Type.Method {
	case stun.MethodRefresh:
		return c.refreshLocked(r, a)
	case stun.MethodCreatePermission:
		return c.permissionLocked(r, a)
	case stun.MethodChannelBind:
		return c.channelLocked(r, a)
	}
	return nil, malformed
}

// lifetime is RFC 8656 §7.2: what was asked for, within bounds.
func lifetime(r *request) (time.Duration, *refusal) {
	value, err := r.Get(stun.AttrLifetime)
	if err != nil {
		return defaultLifetime, nil
	}
	if len(value) != 4 {
		return 0, malformed
	}
	asked := time.Duration(be32(value)) * time.Second
	if asked == 0 {
		return 0, nil
	}
	return max(defaultLifetime, min(asked, longestLifetime)), nil
}

// allocateLocked is RFC 8656 §7.2, in its order where that shows.
func (c *control) allocateLocked(r *request, a *allocation) ([]stun.Setter, *refusal) {
	if a != nil {
		if a.made != r.TransactionID || !a.claim.same(r.claim) {
			return nil, mismatch
		}
		return c.allocated(a, r.now, nil), nil // the answer was lost
	}
	families, optional, no := c.families(r)
	if no != nil {
		return nil, no
	}
	life, no := lifetime(r)
	if no != nil {
		return nil, no
	}
	if life == 0 {
		life = defaultLifetime
	}
	k, no := c.callOfLocked(r)
	if no != nil {
		return nil, no
	}
	h := c.holders[r.claim.holder]
	if h != nil && h.allocations >= c.cfg.UserAllocations {
		return nil, &refusal{stun.CodeAllocQuotaReached, refuseAllocations}
	}
	if c.draining || len(c.allocations) >= c.cfg.MaxAllocations {
		return nil, full
	}
	if h == nil {
		h = &holder{name: r.claim.holder}
	}
	a = &allocation{
		source: r.from, stream: r.stream, claim: r.claim, holder: h, call: k, made: r.TransactionID, created: r.now,
		expires: r.now.Add(life),
	}
	a.table.Store(new(table))
	var missing *refusal
	for i, family := range families {
		s, no := c.bind(a, family, r.Contains(stun.AttrEvenPort))
		switch {
		case no == nil:
			a.sockets[i] = s
		case i == 1 && optional: // RFC 8656 §7.2: the first one alone is a success, too
			missing = no
		default:
			return nil, no
		}
	}
	c.addLocked(a)
	return c.allocated(a, r.now, missing), nil
}

// families are those of the relayed addresses that are asked for; whether the second is only wished for.
func (c *control) families(r *request) (list []byte, optional bool, no *refusal) {
	transport, err := r.Get(stun.AttrRequestedTransport)
	switch {
	case err != nil || len(transport) != 4:
		return nil, false, malformed
	case transport[0] != 17: // UDP; no RFC 6062
		return nil, false, &refusal{stun.CodeUnsupportedTransProto, refuseTransport}
	}
	requested, err := r.Get(stun.AttrRequestedAddressFamily)
	one := err == nil
	additional, err := r.Get(attrAdditionalAddressFamily)
	both := err == nil
	even, err := r.Get(stun.AttrEvenPort)
	pair := err == nil
	switch {
	case r.Contains(stun.AttrReservationToken) && (one || both || pair), pair && len(even) == 0:
		return nil, false, malformed
	// No port is kept for a second allocation. An even one alone is for the asking: coturn's client does.
	case r.Contains(stun.AttrReservationToken), pair && even[0]&0x80 != 0:
		return nil, false, &refusal{stun.CodeInsufficientCapacity, refuseTransport}
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
		// RFC 8656 §7.2 wants 440. But browsers never ask for a family, and a server that has IPv6 alone would be
		// nothing to them.
		return []byte{6}, false, nil
	}
	return []byte{4}, false, nil
}

func (c *control) serves(family byte) *refusal {
	if c.portsOf(family).list == nil {
		return noFamily
	}
	return nil
}

func (c *control) portsOf(family byte) *ports {
	if family == 4 {
		return &c.router.relayed4
	}
	return &c.router.relayed6
}

// callOfLocked is the call that an allocation would be for.
func (c *control) callOfLocked(r *request) (*call, *refusal) {
	over := &refusal{stun.CodeForbidden, refuseCall}
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

// bind takes a port at random (RFC 8656 §7.2), or one of those above it.
func (c *control) bind(a *allocation, family byte, even bool) (*relaySocket, *refusal) {
	p := c.portsOf(family)
	if p.list == nil {
		return nil, noFamily
	}
	s := &relaySocket{allocation: a, family: family}
	at := c.bind4
	if family == 6 {
		at = c.bind6
	}
	first := rand.IntN(len(p.list))
	for i := range min(len(p.list), 64) {
		port := (first + i) % len(p.list)
		s.relayed = endpoint{ip: p.ip, port: p.first + uint16(port)}
		if p.list[port].Load() != nil || even && s.relayed.port%2 != 0 {
			continue
		}
		if err := c.carrier.open(s, netip.AddrPortFrom(at, s.relayed.port)); err == nil {
			return s, nil
		}
	}
	return nil, full
}

func (c *control) addLocked(a *allocation) {
	c.allocations[a] = struct{}{}
	a.holder.allocations++
	c.holders[a.holder.name] = a.holder
	if a.call != nil {
		a.call.live[a] = struct{}{}
	}
	for _, s := range a.sockets {
		if s != nil {
			c.router.publish(s, s)
		}
	}
	if a.stream != nil {
		a.stream.allocation.Store(a)
	} else {
		c.router.clients.add(a.source.endpoint, a)
	}
	c.metrics.allocations.Add(1)
}

func (c *control) removeLocked(a *allocation) {
	if _, there := c.allocations[a]; !there {
		return
	}
	delete(c.allocations, a)
	a.ended.Store(true)
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
	if a.call != nil {
		delete(a.call.live, a)
		a.call.usage.add(a)
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
	c.router.publish(s, nil)
	c.carrier.close(s)
}

// allocated is the success response; missing says why the second family is not there.
func (c *control) allocated(a *allocation, now time.Time, missing *refusal) []stun.Setter {
	var list []stun.Setter
	for _, s := range a.sockets {
		if s != nil {
			list = append(list, address{stun.AttrXORRelayedAddress, s.relayed})
		}
	}
	list = append(list, address{stun.AttrXORMappedAddress, a.source.endpoint}, seconds(a.expires.Sub(now)))
	if missing != nil {
		list = append(list, attr{attrAddressErrorCode, []byte{2, 0, byte(missing.code / 100), byte(missing.code % 100)}})
	}
	return list
}

// refreshLocked is RFC 8656 §7.3.
func (c *control) refreshLocked(r *request, a *allocation) ([]stun.Setter, *refusal) {
	only := -1
	if value, err := r.Get(stun.AttrRequestedAddressFamily); err == nil {
		family := byte(4)
		if len(value) != 4 {
			return nil, malformed
		}
		if value[0] == 2 {
			family = 6
		}
		only = slices.IndexFunc(a.sockets[:], func(s *relaySocket) bool { return s != nil && s.family == family })
		if only < 0 || a.sockets[only].closed.Load() {
			return nil, wrongFamily
		}
	}
	life, no := lifetime(r)
	if no != nil {
		return nil, no
	}
	switch {
	case life > 0:
		a.expires = r.now.Add(life)
	case only >= 0 && a.sockets[1-only] != nil && !a.sockets[1-only].closed.Load():
		c.unbind(a, only)
		c.publishLocked(a)
	default:
		c.removeLocked(a)
	}
	return []stun.Setter{seconds(life)}, nil
}

// permissionLocked is RFC 8656 §9.2: all of the addresses, or none.
func (c *control) permissionLocked(r *request, a *allocation) ([]stun.Setter, *refusal) {
	var peers []endpoint
	for _, at := range r.Attributes {
		if at.Type != stun.AttrXORPeerAddress {
			continue
		}
		peer, ok := parseXOR(r.Raw, at.Value)
		if !ok {
			return nil, malformed
		}
		peers = append(peers, peer)
	}
	if len(peers) == 0 {
		return nil, malformed
	}
	if no := c.grantLocked(a, r.now, peers...); no != nil {
		return nil, no
	}
	c.publishLocked(a)
	return nil, nil
}

// grantLocked gives permissions for the IPs of peers, or renews them.
func (c *control) grantLocked(a *allocation, now time.Time, peers ...endpoint) *refusal {
	more := 0
	for ip, ends := range a.permissions {
		if !now.Before(ends) {
			delete(a.permissions, ip)
		}
	}
	for i, peer := range peers {
		switch {
		case a.socketFor(&peer) == nil:
			return wrongFamily
		case !c.policy.hostAllowed(peer.addrPort().Addr()), !c.callAllowsLocked(a, peer.ip):
			return forbidPeer
		}
		_, held := a.permissions[peer.ip]
		if !held && !slices.ContainsFunc(peers[:i], func(p endpoint) bool { return p.ip == peer.ip }) {
			more++
		}
	}
	if len(a.permissions)+more > c.cfg.Permissions {
		return &refusal{stun.CodeInsufficientCapacity, refusePermissions}
	}
	if a.permissions == nil {
		a.permissions = make(map[[16]byte]time.Time, 2)
	}
	for _, peer := range peers {
		a.permissions[peer.ip] = now.Add(permissionLife)
	}
	return nil
}

// channelLocked is RFC 8656 §12.2.
func (c *control) channelLocked(r *request, a *allocation) ([]stun.Setter, *refusal) {
	value, err := r.Get(stun.AttrChannelNumber)
	at, err2 := r.Get(stun.AttrXORPeerAddress)
	if err != nil || err2 != nil || len(value) != 4 {
		return nil, malformed
	}
	number := be16(value)
	peer, ok := parseXOR(r.Raw, at)
	if !ok || number < firstChannel || number > lastChannel {
		return nil, malformed
	}
	for n, ch := range a.channels {
		switch {
		case !r.now.Before(ch.ends):
			delete(a.channels, n)
		case (n == number) != (ch.peer == peer):
			return nil, malformed
		}
	}
	if a.socketFor(&peer) != nil && !c.policy.peerAllowed(peer.addrPort()) {
		return nil, forbidPeer
	}
	if s, ours := c.router.own(&peer); ours && !c.router.maySend(a, s, c.directLocked(a, peer.ip)) {
		return nil, forbidPeer
	}
	if _, bound := a.channels[number]; !bound && len(a.channels) >= c.cfg.Channels {
		return nil, &refusal{stun.CodeInsufficientCapacity, refuseChannels}
	}
	if no := c.grantLocked(a, r.now, peer); no != nil {
		return nil, no
	}
	if a.channels == nil {
		a.channels = make(map[uint16]channelBound, 1)
	}
	a.channels[number] = channelBound{peer, r.now.Add(channelLife)}
	c.publishLocked(a)
	return nil, nil
}

// gone is told when the connection of a stream ends, and with it its allocation (RFC 8656 §7.1).
func (c *control) gone(s *stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := s.allocation.Load(); a != nil {
		c.removeLocked(a)
	}
}

// expire ends what is over. It is called each second or so.
func (c *control) expire(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.carrier.tend(now.Sub(c.tended).Seconds())
	c.tended = now
	for a := range c.allocations {
		if !now.Before(a.expires) {
			c.removeLocked(a)
		}
	}
	if now.Sub(c.swept) >= time.Minute {
		c.swept = now
		c.forgetCallsLocked(now)
	}
}

func (c *control) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining, c.closed = true, true
	for a := range c.allocations {
		c.removeLocked(a)
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
			Transport: transportNames[a.source.transport], Client: a.source.addrPort(),
			Usage: u, Created: a.created, Expires: a.expires, Channels: len(a.channels),
		}
		for _, s := range a.sockets {
			if s != nil && !s.closed.Load() {
				e.Relayed = append(e.Relayed, s.relayed.addrPort())
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
