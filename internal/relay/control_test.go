package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/stun/v4"

	"github.com/visavis/visavis/internal/relay/wire"
)

// A desk is a control plane without sockets and with a clock of its own.
type desk struct {
	t       testing.TB
	control *control
	clerk   *answerer
	carrier *still
	now     time.Time
}

// still is a carrier that moves nothing, and keeps what it should have sent to clients.
type still struct {
	said  [][]byte
	open_ map[*relaySocket]bool
	full  map[byte]bool // by family

	taken func(port uint16) error // may be nil
	tries int
}

func (c *still) open(s *relaySocket, at netip.AddrPort) error {
	if c.taken != nil {
		c.tries++
		if err := c.taken(at.Port()); err != nil {
			return os.NewSyscallError("bind", err)
		}
	}
	if c.full[s.family] {
		return errors.New("no port")
	}
	c.open_[s] = true
	return nil
}
func (c *still) close(s *relaySocket)                         { delete(c.open_, s) }
func (c *still) tend(float64)                                 {}
func (c *still) toClient(_ *endpoint, b []byte)               { c.said = append(c.said, slices.Clone(b)) }
func (c *still) toPeer(*relaySocket, *endpoint, []byte, bool) {}
func (c *still) serve() error                                 { return nil }
func (c *still) stop()                                        {}
func (c *still) finish()                                      {}

var (
	our4 = netip.MustParseAddr("5.6.7.8")
	our6 = netip.MustParseAddr("2a00::1")
)

func newDesk(t testing.TB, change func(*Config)) *desk {
	cfg := testConfig()
	cfg.ChallengeRate, cfg.ChallengeBurst = 1_000_000, 1_000_000
	if change != nil {
		change(&cfg)
	}
	cfg = cfg.withDefaults()
	p := &policy{
		relayed: []netip.Addr{our4, our6}, minPort: cfg.MinPort, maxPort: cfg.MaxPort, listenPorts: []uint16{3478},
		own: []netip.Addr{our4, our6}, allow: cfg.Allow,
	}
	d := &desk{t: t, now: now, carrier: &still{open_: make(map[*relaySocket]bool), full: make(map[byte]bool)}}
	d.control = newControl(cfg, p, newMetrics(), now)
	d.control.carrier = d.carrier
	d.control.relayOn(our4, our4)
	d.control.relayOn(our6, our6)
	d.clerk = newAnswerer(d.control)
	return d
}

// response is what a carrier would send, or nil.
func (d *desk) response(b []byte, from source) []byte {
	if d.control.admit(b, &from, nil, d.control.clock(d.now)) != none {
		return nil
	}
	return d.clerk.answer(b, from, nil, d.now)
}

func (d *desk) after(by time.Duration) {
	d.now = d.now.Add(by)
	d.control.expire(d.now)
}

// A person asks from one address with one set of credentials.
type person struct {
	*desk
	from        source
	credentials Credentials
	nonce       stun.Nonce
	id          [stun.TransactionIDSize]byte // of the next request; zero is a new one
}

func (d *desk) person(from, user, call, party string) *person {
	return &person{
		desk: d, from: source{endpointOf(netip.MustParseAddrPort(from)), overUDP},
		credentials: Issue(secret, user, call, party, d.now, time.Hour),
	}
}

func (p *person) tell(m *stun.Message) *stun.Message {
	p.t.Helper()
	raw := p.response(m.Raw, p.from)
	if raw == nil {
		return nil
	}
	response := &stun.Message{Raw: append([]byte(nil), raw...)}
	if err := response.Decode(); err != nil {
		p.t.Fatal(err)
	}
	return response
}

func codeOf(t testing.TB, m *stun.Message) stun.ErrorCode {
	t.Helper()
	if m == nil {
		return -1
	}
	if m.Type.Class == stun.ClassSuccessResponse {
		return 0
	}
	var code stun.ErrorCodeAttribute
	if err := code.GetFrom(m); err != nil {
		t.Fatal(err)
	}
	return code.Code
}

func (p *person) ask(method stun.Method, attributes ...stun.Setter) (*stun.Message, stun.ErrorCode) {
	p.t.Helper()
	kind := stun.NewType(method, stun.ClassRequest)
	if p.nonce == nil {
		challenge := p.tell(stun.MustBuild(stun.TransactionID, allocate, udp))
		if err := p.nonce.GetFrom(challenge); err != nil {
			p.t.Fatal(err)
		}
	}
	id := stun.TransactionID
	if p.id != [stun.TransactionIDSize]byte{} {
		id = stun.NewTransactionIDSetter(p.id)
	}
	key := stun.NewLongTermIntegrity(p.credentials.Username, "visavis", p.credentials.Password)
	list := append([]stun.Setter{id, kind}, attributes...)
	list = append(list, stun.NewUsername(p.credentials.Username), stun.NewRealm("visavis"), p.nonce, key)
	response := p.tell(stun.MustBuild(list...))
	if code := codeOf(p.t, response); code == 0 || code != 401 && code != 438 && code > 0 {
		if err := key.Check(response); err != nil {
			p.t.Errorf("%s: response is not signed: %v", method, err)
		}
	}
	return response, codeOf(p.t, response)
}

func (p *person) want(want stun.ErrorCode, method stun.Method, attributes ...stun.Setter) *stun.Message {
	p.t.Helper()
	response, got := p.ask(method, attributes...)
	if got != want {
		p.t.Errorf("%s is answered with %d, want %d", method, got, want)
	}
	return response
}

func relayedOf(t testing.TB, m *stun.Message) (list []netip.AddrPort) {
	t.Helper()
	for _, a := range m.Attributes {
		if a.Type == stun.AttrXORRelayedAddress {
			e, ok := wire.Message(m.Raw).XORAddress(a.Value)
			if !ok {
				t.Fatalf("relayed address %x", a.Value)
			}
			list = append(list, e.AddrPort())
		}
	}
	return list
}

func lifetimeOf(t testing.TB, m *stun.Message) time.Duration {
	t.Helper()
	v, err := m.Get(stun.AttrLifetime)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(binary.BigEndian.Uint32(v)) * time.Second
}

func life(seconds uint32) raw {
	return raw{stun.AttrLifetime, string(binary.BigEndian.AppendUint32(nil, seconds))}
}

func family(kind stun.AttrType, f string) raw { return raw{kind, f + "\x00\x00\x00"} }

func TestLifetimes(t *testing.T) {
	for _, test := range []struct{ asked, want time.Duration }{
		{-1, 600 * time.Second},
		{1 * time.Second, 600 * time.Second},
		{600 * time.Second, 600 * time.Second},
		{1000 * time.Second, 1000 * time.Second},
		{3600 * time.Second, 3600 * time.Second},
		{86_400 * time.Second, 3600 * time.Second},
	} {
		d := newDesk(t, nil)
		p := d.person("9.9.9.9:1000", "anna", "", "")
		attributes := []stun.Setter{udp}
		if test.asked >= 0 {
			attributes = append(attributes, life(uint32(test.asked/time.Second)))
		}
		if got := lifetimeOf(t, p.want(0, stun.MethodAllocate, attributes...)); got != test.want {
			t.Errorf("lifetime of %v becomes %v, want %v", test.asked, got, test.want)
		}
		d.after(test.want - time.Second)
		if got := len(d.control.list()); got != 1 {
			t.Errorf("%d allocations a second before the end, want 1", got)
		}
		if got := lifetimeOf(t, p.want(0, stun.MethodRefresh, attributes[1:]...)); got != test.want {
			t.Errorf("refreshed for %v becomes %v, want %v", test.asked, got, test.want)
		}
		d.after(test.want - time.Second)
		p.nonce = nil
		p.want(0, stun.MethodCreatePermission, peer("8.8.8.8:5000"))
		d.after(time.Second)
		if got, open := len(d.control.list()), len(d.carrier.open_); got != 0 || open != 0 {
			t.Errorf("%d allocations, %d sockets at the end, want none", got, open)
		}
		p.want(437, stun.MethodRefresh)
		p.want(437, stun.MethodCreatePermission, peer("8.8.8.8:5000"))
		p.want(437, stun.MethodChannelBind, channel(0x4000), peer("8.8.8.8:5000"))
	}
}

func TestAllocateAgain(t *testing.T) {
	d := newDesk(t, nil)
	p := d.person("9.9.9.9:1000", "anna", "", "")
	p.id = [stun.TransactionIDSize]byte{1}
	first := p.want(0, stun.MethodAllocate, udp)
	d.after(time.Second)
	again := p.want(0, stun.MethodAllocate, udp)
	if diff := cmp.Diff(relayedOf(t, again), relayedOf(t, first), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("relayed address, - again, + first:\n%s", diff)
	}
	if got := lifetimeOf(t, again); got != 599*time.Second {
		t.Errorf("lifetime = %v, want what is left", got)
	}
	p.id = [stun.TransactionIDSize]byte{2}
	p.want(437, stun.MethodAllocate, udp)
	p.want(0, stun.MethodRefresh, life(0))
	p.want(437, stun.MethodRefresh, life(0))
	p.want(0, stun.MethodAllocate, udp)
	if got := len(d.carrier.open_); got != 1 {
		t.Errorf("%d sockets, want 1", got)
	}
}

func TestFamilies(t *testing.T) {
	const v4, v6 = "\x01", "\x02"
	requested, additional := stun.AttrRequestedAddressFamily, stun.AttrType(wire.AttrAdditionalAddressFamily)
	tests := []struct {
		attribute stun.Setter
		full      byte
		code      stun.ErrorCode
		want      []netip.Addr
		missing   bool
	}{
		{nil, 0, 0, []netip.Addr{our4}, false},
		{family(requested, v4), 0, 0, []netip.Addr{our4}, false},
		{family(requested, v6), 0, 0, []netip.Addr{our6}, false},
		{family(additional, v6), 0, 0, []netip.Addr{our4, our6}, false},
		{family(additional, v6), 6, 0, []netip.Addr{our4}, true},
		{family(additional, v6), 4, 508, nil, false},
		{family(requested, v6), 6, 508, nil, false},
		{family(additional, v4), 0, 400, nil, false},
	}
	for i, test := range tests {
		d := newDesk(t, nil)
		d.carrier.full[test.full] = true
		p := d.person("9.9.9.9:1000", "anna", "", "")
		list := []stun.Setter{udp}
		if test.attribute != nil {
			list = append(list, test.attribute)
		}
		response := p.want(test.code, stun.MethodAllocate, list...)
		var got []netip.Addr
		for _, ap := range relayedOf(t, response) {
			got = append(got, ap.Addr())
		}
		if fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%d: relayed addresses = %v, want %v", i, got, test.want)
		}
		if got := response.Contains(stun.AttrType(wire.AttrAddressErrorCode)); got != test.missing {
			t.Errorf("%d: answer says that a family is missing: %v, want %v", i, got, test.missing)
		}
	}

	d := newDesk(t, nil)
	p := d.person("[2a01::9]:1000", "anna", "", "")
	p.want(0, stun.MethodAllocate, udp, family(requested, v4))
	p.want(443, stun.MethodCreatePermission, peer("[2a02::1]:5000"))
	p.want(443, stun.MethodChannelBind, channel(0x4000), peer("[2a02::1]:5000"))
	p.want(443, stun.MethodRefresh, family(requested, v6))
	p.want(0, stun.MethodRefresh, family(requested, v4))

	p = d.person("[2a01::9]:1001", "anna", "", "")
	p.want(0, stun.MethodAllocate, udp, family(additional, v6))
	p.want(0, stun.MethodChannelBind, channel(0x4000), peer("[2a02::1]:5000"))
	p.want(0, stun.MethodRefresh, life(0), family(requested, v4))
	p.want(443, stun.MethodRefresh, family(requested, v4))
	p.want(443, stun.MethodCreatePermission, peer("8.8.8.8:5000"))
	if got := len(d.carrier.open_); got != 2 {
		t.Errorf("%d sockets, want 2", got)
	}
	p.want(0, stun.MethodRefresh, life(0), family(requested, v6))
	if got := len(d.control.list()); got != 1 {
		t.Errorf("%d allocations, want 1", got)
	}
}

func TestEvenPort(t *testing.T) {
	d := newDesk(t, nil)
	for i := range 20 {
		p := d.person(fmt.Sprint("9.9.9.9:", 1000+i), strconv.Itoa(i), "", "")
		if got := relayedOf(t, p.want(0, stun.MethodAllocate, udp, raw{stun.AttrEvenPort, "\x00"}))[0].Port(); got%2 != 0 {
			t.Errorf("port = %d, want an even one", got)
		}
	}
}

func TestChannelBind(t *testing.T) {
	d := newDesk(t, nil)
	p := d.person("9.9.9.9:1000", "anna", "", "")
	p.want(0, stun.MethodAllocate, udp)
	bind := func(want stun.ErrorCode, attributes ...stun.Setter) {
		t.Helper()
		p.want(want, stun.MethodChannelBind, attributes...)
	}
	bind(400, channel(0x3fff), peer("8.8.8.8:5000"))
	bind(400, channel(0x8000), peer("8.8.8.8:5000"))
	for i, number := range []uint16{0x4fff, 0x5000, 0x7fff} { // the last of RFC 8656; only RFC 5766 has the others
		bind(0, channel(number), peer(fmt.Sprintf("8.8.8.8:%d", 6000+i)))
	}
	bind(400, channel(0x4000))
	bind(400, peer("8.8.8.8:5000"))
	bind(400, raw{stun.AttrChannelNumber, "\x40\x00"}, peer("8.8.8.8:5000"))
	bind(0, channel(0x4000), peer("8.8.8.8:5000"))
	bind(0, channel(0x4000), peer("8.8.8.8:5000"))
	bind(400, channel(0x4000), peer("8.8.8.8:5001"))
	bind(400, channel(0x4001), peer("8.8.8.8:5000"))
	bind(0, channel(0x4ffe), peer("8.8.8.8:5001"))
	d.after(channelLife)
	p.want(0, stun.MethodAllocate, udp) // it is over as well
	bind(0, channel(0x4000), peer("8.8.4.4:5001"))
}

// Where other programs have all ports but one, that one is found.
func TestTheLastFreePort(t *testing.T) {
	const free = 51_234
	d := newDesk(t, nil)
	d.carrier.taken = func(port uint16) error {
		if port != free {
			return syscall.EADDRINUSE
		}
		return nil
	}
	p := d.person("9.9.9.9:1000", "anna", "", "")
	if got := relayedOf(t, p.want(0, stun.MethodAllocate, udp)); len(got) != 1 || got[0].Port() != free {
		t.Errorf("relayed address = %v, want port %d", got, free)
	}
	other := d.person("9.9.9.9:1001", "bob", "", "")
	other.want(508, stun.MethodAllocate, udp)

	// Where no port can be had, not all of them are tried.
	d.carrier.tries = 0
	d.carrier.taken = func(uint16) error { return syscall.EMFILE }
	other.want(508, stun.MethodAllocate, udp)
	if d.carrier.tries != 1 {
		t.Errorf("%d ports are tried without descriptors, want 1", d.carrier.tries)
	}
}

// An allocation that a browser gathered and does not use is given up, while the call goes on.
func TestUnusedAllocationsAreDropped(t *testing.T) {
	d := newDesk(t, nil)
	used, unused := d.person("9.9.9.9:1000", "anna", "call", "anna"), d.person("9.9.9.9:1001", "anna", "call", "anna")
	other := d.person("9.9.9.9:1002", "anna", "", "") // of no call: who knows what it is for
	for _, p := range []*person{used, unused, other} {
		p.want(0, stun.MethodAllocate, udp, life(3600))
		p.want(0, stun.MethodCreatePermission, peer("8.8.8.8:5000"))
	}
	to := endpointOf(netip.MustParseAddrPort("8.8.8.8:5000"))
	for range 5 {
		used.want(0, stun.MethodCreatePermission, peer("8.8.8.8:5000"))
		unused.want(0, stun.MethodCreatePermission, peer("8.8.8.8:5000")) // which is no use, nor is what comes down
		for _, p := range []*person{used, unused} {
			a := d.control.router.clients.find(&p.from.endpoint)
			if p == used {
				if why := d.control.router.send(a, &to, check, d.control.clock(d.now), new(delivery)); why != none {
					t.Fatal(causeNames[why])
				}
			}
			d.control.router.down(a.sockets[0], &to, false, check, d.control.clock(d.now), new(delivery))
		}
		d.after(50 * time.Second)
	}
	d.after(51 * time.Second) // 301 s after the unused one was made
	used.want(0, stun.MethodRefresh, life(3600))
	other.want(0, stun.MethodRefresh, life(3600))
	unused.want(437, stun.MethodRefresh, life(3600))
}

// The data path goes by times of its own.
func TestPermissionsExpire(t *testing.T) {
	d := newDesk(t, nil)
	p := d.person("9.9.9.9:1000", "anna", "", "")
	p.want(0, stun.MethodAllocate, udp, life(3600))
	a := d.control.router.clients.find(&p.from.endpoint)
	to := endpointOf(netip.MustParseAddrPort("8.8.8.8:5000"))
	var dv delivery
	r := d.control.router
	try := func(when string, wantChannel, wantSend, wantDown cause) {
		t.Helper()
		at := d.control.clock(d.now)
		got := []cause{
			r.channelData(a, 0x4000, check, at, &dv), r.send(a, &to, check, at, &dv), r.down(a.sockets[0], &to, false, check, at, &dv),
		}
		if diff := cmp.Diff(got, []cause{wantChannel, wantSend, wantDown}); diff != "" {
			t.Errorf("%s: channel, Send, from the TURN peer, - got, + want:\n%s", when, diff)
		}
	}
	try("before anything", dropChannel, dropPermission, dropPermission)
	p.want(0, stun.MethodCreatePermission, peer("8.8.8.8:9999"))
	try("with a permission", dropChannel, none, none)
	p.want(0, stun.MethodChannelBind, channel(0x4000), peer("8.8.8.8:5000"))
	try("with a channel", none, none, none)
	d.after(permissionLife - time.Second)
	try("a second before the permission ends", none, none, none)
	d.after(time.Second)
	try("after the permission", dropPermission, dropPermission, dropPermission)
	p.want(0, stun.MethodCreatePermission, peer("8.8.8.8:1"))
	try("with a new permission", none, none, none)
	d.after(channelLife - permissionLife)
	p.nonce = nil
	p.want(0, stun.MethodCreatePermission, peer("8.8.8.8:1"))
	try("after the channel", dropPermission, none, none)
	d.control.closeAll(d.now)
	try("after the allocation", dropChannel, dropPermission, dropPermission)
}

func TestNonces(t *testing.T) {
	d := newDesk(t, nil)
	p := d.person("9.9.9.9:1000", "anna", "", "")
	p.want(0, stun.MethodAllocate, udp)
	nonce := p.nonce

	// Another source, or transport, that has seen it.
	for _, from := range []source{
		{endpointOf(netip.MustParseAddrPort("9.9.9.9:1001")), overUDP},
		{endpointOf(netip.MustParseAddrPort("9.9.9.8:1000")), overUDP},
		{endpointOf(netip.MustParseAddrPort("9.9.9.9:1000")), overTCP},
	} {
		spoofed := d.person("1.1.1.1:1", "anna", "", "")
		spoofed.from, spoofed.nonce = from, nonce
		spoofed.want(438, stun.MethodAllocate, udp)
		spoofed.want(438, stun.MethodRefresh, life(0))
	}
	if got := len(d.control.list()); got != 1 {
		t.Errorf("%d allocations, want 1", got)
	}

	d.after(nonceLife - time.Second)
	p.want(437, stun.MethodRefresh)
	d.after(time.Second)
	response := p.want(438, stun.MethodRefresh)
	if err := p.nonce.GetFrom(response); err != nil {
		t.Fatal(err)
	}
	p.want(437, stun.MethodRefresh)

	for _, forged := range []string{"", "x", string(nonce[:23]), string(nonce) + "x", string(append([]byte("AAAA"), nonce[4:]...))} {
		p.nonce = stun.NewNonce(forged)
		p.want(438, stun.MethodRefresh)
	}
	// From the future, of another server.
	p.nonce = stun.Nonce(newNonces(d.control.nonceKey).append(nil, d.now.Add(time.Minute), p.from))
	p.want(438, stun.MethodRefresh)
	p.nonce = stun.Nonce(newNonces(newNonceKey()).append(nil, d.now, p.from))
	p.want(438, stun.MethodRefresh)
}

func TestForeignCredentials(t *testing.T) {
	d := newDesk(t, nil)
	p := d.person("9.9.9.9:1000", "anna", "call", "caller")
	p.want(0, stun.MethodAllocate, udp)
	for _, other := range [][3]string{{"ben", "call", "caller"}, {"anna", "other", "caller"}, {"anna", "call", "callee"}} {
		p.credentials = Issue(secret, other[0], other[1], other[2], d.now, time.Hour)
		p.want(441, stun.MethodRefresh, life(0))
		p.want(441, stun.MethodCreatePermission, peer("8.8.8.8:5000"))
		p.want(437, stun.MethodAllocate, udp)
	}
	p.credentials = Issue(older, "anna", "call", "caller", d.now.Add(time.Minute), time.Hour)
	p.want(0, stun.MethodRefresh)
}

func TestUnknownAttributes(t *testing.T) {
	d := newDesk(t, nil)
	p := d.person("9.9.9.9:1000", "anna", "", "")
	response := p.want(420, stun.MethodAllocate, udp, raw{0x7777, ""}, raw{0x8777, ""}, raw{0x0003, "1234"})
	if got, err := response.Get(stun.AttrUnknownAttributes); err != nil || string(got) != "\x77\x77\x00\x03" {
		t.Errorf("unknown attributes = %x, %v, want 77770003", got, err)
	}
	response = p.tell(stun.MustBuild(stun.TransactionID, stun.BindingRequest, raw{0x7777, "1234"}, raw{0x8777, ""}, raw{0x0003, ""}))
	if got := codeOf(t, response); got != 420 {
		t.Errorf("Binding is answered with %d, want 420", got)
	}
	if got, err := response.Get(stun.AttrUnknownAttributes); err != nil || string(got) != "\x77\x77\x00\x03" {
		t.Errorf("unknown attributes = %x, %v, want 77770003", got, err)
	}
}

func TestUnsignedAttributesAreIgnored(t *testing.T) {
	d := newDesk(t, nil)
	p := d.person("9.9.9.9:1000", "anna", "", "")
	p.want(0, stun.MethodAllocate, udp)
	key := stun.NewLongTermIntegrity(p.credentials.Username, "visavis", p.credentials.Password)
	m := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodCreatePermission, stun.ClassRequest),
		peer("8.8.8.8:1"), stun.NewUsername(p.credentials.Username), stun.NewRealm("visavis"), p.nonce, key, peer("8.8.4.4:1"))
	if got := codeOf(t, p.tell(m)); got != 0 {
		t.Errorf("answered with %d, want success", got)
	}
	if got := d.control.list()[0].Permissions; len(got) != 1 || got[0] != netip.MustParseAddr("8.8.8.8") {
		t.Errorf("permissions = %v, want 8.8.8.8 alone", got)
	}
}

func TestFingerprints(t *testing.T) {
	d := newDesk(t, nil)
	p := d.person("9.9.9.9:1000", "anna", "", "")
	m := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.Fingerprint)
	response := p.tell(m)
	if err := stun.Fingerprint.Check(response); err != nil {
		t.Error(err)
	}
	m.Raw[len(m.Raw)-1] ^= 1
	if p.tell(m) != nil {
		t.Error("a wrong fingerprint is answered")
	}
	response = p.want(0, stun.MethodAllocate, udp)
	if response.Contains(stun.AttrFingerprint) {
		t.Error("a fingerprint nobody asked for")
	}
}

func TestUnauthenticatedCostsNothing(t *testing.T) {
	d := newDesk(t, nil)
	key := stun.NewLongTermIntegrity("anna", "visavis", "wrong")
	stale := stun.NewNonce("AAAAAAAAAAAAAAAAAAAAAAAA")
	packets := [][]byte{
		stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.Fingerprint).Raw,
		stun.MustBuild(stun.TransactionID, allocate, udp).Raw,
		stun.MustBuild(stun.TransactionID, allocate, udp, stun.NewUsername("anna"), stun.NewRealm("visavis"), stale, key).Raw,
		stun.MustBuild(stun.TransactionID, allocate, udp, key).Raw,
		stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodConnect, stun.ClassRequest)).Raw,
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const sent = 100_000
	answered := 0
	for i := range sent {
		from := source{endpoint{Address: wire.Address{IP: [16]byte{10: 0xff, 11: 0xff, 12: 9, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}, Port: uint16(i)}}, overUDP}
		if d.response(packets[i%len(packets)], from) != nil {
			answered++
		}
	}
	runtime.ReadMemStats(&after)
	if got := after.Mallocs - before.Mallocs; got > sent/1000 {
		t.Errorf("%d unauthenticated packets take %d allocations, want none", sent, got)
	}
	if answered < sent/2 {
		t.Errorf("%d of %d are answered: this measures nothing", answered, sent)
	}
	if got := len(d.control.calls) + len(d.control.holders) + len(d.control.allocations); got != 0 {
		t.Errorf("%d things are remembered, want none", got)
	}
}

// Even who has credentials does not keep the control plane busy.
func TestRequestsAreBounded(t *testing.T) {
	d := newDesk(t, func(c *Config) { c.ChallengeRate, c.ChallengeBurst = 1, 5 })
	p := d.person("9.9.9.9:1000", "anna", "", "")
	p.want(0, stun.MethodAllocate, udp)
	answered := 0
	for range 200 {
		if _, code := p.ask(stun.MethodRefresh); code == 0 {
			answered++
		}
	}
	if answered < 40 || answered > 50 {
		t.Errorf("%d of 200 requests at once are answered, want about 50", answered)
	}
	d.after(time.Second)
	p.want(0, stun.MethodRefresh)
}

func TestDrain(t *testing.T) {
	d := newDesk(t, nil)
	p := d.person("9.9.9.9:1000", "anna", "", "")
	p.want(0, stun.MethodAllocate, udp)
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.control.drain(short); !errors.Is(err, context.Canceled) {
		t.Errorf("drain = %v, want that there is an allocation", err)
	}
	d.person("9.9.9.9:1001", "anna", "", "").want(508, stun.MethodAllocate, udp)
	p.want(0, stun.MethodRefresh)
	ended := make(chan error)
	go func() { ended <- d.control.drain(t.Context()) }()
	p.want(0, stun.MethodRefresh, life(0))
	if err := <-ended; err != nil {
		t.Errorf("drain = %v, want nil", err)
	}
}

// RELAY_CYCLES asks for more of them: make relay-cycles.
func TestCyclesLeaveNothing(t *testing.T) {
	cycles := 2000
	if n, err := strconv.Atoi(os.Getenv("RELAY_CYCLES")); err == nil {
		cycles = n
	}
	d := newDesk(t, func(c *Config) { c.CallScoped = true })
	cycle := func(i int) {
		call := strconv.Itoa(i)
		from := fmt.Sprintf("9.9.%d.%d:%d", byte(i>>8), byte(i), 1000+i%50_000)
		d.control.permit(d.now, call, "callee", []netip.Addr{netip.MustParseAddr("8.8.8.8")})
		p := d.person(from, "anna", call, "caller")
		p.want(0, stun.MethodAllocate, udp)
		p.want(0, stun.MethodChannelBind, channel(0x4000), peer("8.8.8.8:5000"))
		p.want(0, stun.MethodRefresh)
		switch i % 3 {
		case 0:
			p.want(0, stun.MethodRefresh, life(0))
		case 1:
			d.control.endCall(d.now, call)
		}
		d.after(time.Minute) // the third expires
	}
	memory := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for i := range 1500 { // a day and an hour: as much as there can be at a time
		cycle(i)
	}
	before := memory()
	for i := range cycles {
		cycle(i + 1500)
	}
	after := memory()
	t.Logf("heap: %d KB, after %d cycles more %d KB", before>>10, cycles, after>>10)
	if after > before+before/10+64<<10 {
		t.Errorf("heap grows from %d to %d bytes in %d cycles", before, after, cycles)
	}
	d.after(time.Hour) // the last allocations expire
	d.after(48 * time.Hour)
	if a, h, c, s := len(d.control.allocations), len(d.control.holders), len(d.control.calls), len(d.carrier.open_); a+h+c+s != 0 {
		t.Errorf("%d allocations, %d holders, %d calls, %d sockets are left, want none", a, h, c, s)
	}
	for i := range d.control.portsOf(4).list {
		if d.control.portsOf(4).list[i].Load() != nil {
			t.Fatal("a relayed address is left")
		}
	}
}
