package relay

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"github.com/visavis/visavis/internal/relay/wire"
)

func addrs(list ...string) (out []netip.Addr) {
	for _, text := range list {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

func scoped(c *Config) { c.CallScoped = true }

func TestCallScope(t *testing.T) {
	d := newTestControl(t, scoped)
	c := d.control
	c.permit(d.now, "call", "caller", addrs("1.1.1.1"))
	c.permit(d.now, "call", "callee", addrs("8.8.8.8", "2a02::8", "10.0.0.1", "::ffff:8.8.4.4"))
	c.permit(d.now, "other", "callee", addrs("9.9.9.10"))
	p := d.client("1.1.1.1:1000", "anna", "call", "caller")
	p.want(0, stun.MethodAllocate, udp, family(stun.AttrType(wire.AttrAdditionalAddressFamily), "\x02"))
	for _, test := range []struct {
		peer string
		want stun.ErrorCode
	}{
		{"8.8.8.8:5000", 0},
		{"8.8.8.8:6000", 0},
		{"8.8.4.4:5000", 0},
		{"[2a02::8]:5000", 0},
		{"1.1.1.1:5000", 403},         // shown by this party itself
		{"9.9.9.10:5000", 403},        // shown in another call
		{"9.9.9.11:5000", 403},        // never shown
		{"10.0.0.1:5000", 403},        // shown, but forbidden to all
		{"[64:ff9b::808:808]:1", 403}, // shown in another spelling
	} {
		if _, got := p.ask(stun.MethodCreatePermission, peer(test.peer)); got != test.want {
			t.Errorf("permission for %s is answered with %d, want %d", test.peer, got, test.want)
		}
	}
	p.want(403, stun.MethodChannelBind, channel(0x4000), peer("9.9.9.11:5000"))
	p.want(403, stun.MethodCreatePermission, peer("8.8.8.8:5000"), peer("9.9.9.11:5000"))

	// What is shown later may be reached then.
	p.want(403, stun.MethodChannelBind, channel(0x4000), peer("7.7.7.7:5000"))
	c.permit(d.now, "call", "callee", addrs("7.7.7.7"))
	p.want(0, stun.MethodChannelBind, channel(0x4000), peer("7.7.7.7:5000"))

	d.client("1.1.1.1:1001", "anna", "", "").want(403, stun.MethodAllocate, udp)
	d.client("1.1.1.1:1001", "anna", "call", "").want(403, stun.MethodAllocate, udp)
}

// route returns what becomes of a packet on a channel, or by Send, and of one from the peer.
func (p *testClient) route(number uint16, to string) (channelData, send, down cause) {
	e := endpointOf(netip.MustParseAddrPort(to))
	a := p.control.router.clients.find(&p.from.endpoint)
	var d delivery
	at := p.control.clock(p.now)
	r := p.control.router
	return r.channelData(a, number, check, at, &d), r.send(a, &e, check, at, &d), r.down(a.socketFor(&e), &e, false, check, at, &d)
}

// hear is a packet that comes down to p.
func (p *testClient) hear(from string) cause {
	e := endpointOf(netip.MustParseAddrPort(from))
	r := p.control.router
	return r.down(r.clients.find(&p.from.endpoint).socketFor(&e), &e, false, check, p.control.clock(p.now), &delivery{})
}

func TestOwnRelayedAddresses(t *testing.T) {
	for _, relayOnly := range []bool{false, true} {
		d := newTestControl(t, scoped)
		d.control.relayOnly(d.now, "call", relayOnly)
		d.control.permit(d.now, "call", "caller", addrs("1.1.1.1"))
		d.control.permit(d.now, "call", "callee", addrs("2.2.2.2", our4.String()))
		anna, ben, eve := d.client("1.1.1.1:1", "anna", "call", "caller"), d.client("2.2.2.2:1", "ben", "call", "callee"),
			d.client("3.3.3.3:1", "eve", "other", "caller")
		var relayed []netip.AddrPort
		for _, p := range []*testClient{anna, ben, eve} {
			relayed = append(relayed, relayedOf(t, p.want(0, stun.MethodAllocate, udp))[0])
		}
		annas, bens, eves := toward(relayed[0]), toward(relayed[1]), toward(relayed[2])
		anna.want(0, stun.MethodChannelBind, channel(0x4000), bens)
		ben.want(0, stun.MethodChannelBind, channel(0x4000), annas)
		if up, _, _ := anna.route(0x4000, relayed[1].String()); up != none {
			t.Errorf("to the other party's relayed address: %s", causeNames[up])
		}
		if got := d.control.metrics.flow.handed.Load(); got == 0 {
			t.Error("it is not handed over")
		}

		anna.want(403, stun.MethodChannelBind, channel(0x4001), eves)
		eve.want(403, stun.MethodChannelBind, channel(0x4001), annas)
		eve.want(0, stun.MethodCreatePermission, annas) // of the IP: nothing passes all the same
		if _, send, _ := eve.route(0, relayed[0].String()); send != dropPeer {
			t.Errorf("to a relayed address of another call: %s, want %s", causeNames[send], causeNames[dropPeer])
		}
		if _, _, down := anna.route(0, relayed[2].String()); down != dropPeer {
			t.Errorf("from a relayed address of another call: %s, want %s", causeNames[down], causeNames[dropPeer])
		}
		nobody := netip.AddrPortFrom(our4, 49152)
		for nobody == relayed[0] || nobody == relayed[1] || nobody == relayed[2] {
			nobody = netip.AddrPortFrom(our4, nobody.Port()+1)
		}
		anna.want(403, stun.MethodChannelBind, channel(0x4001), toward(nobody))
		if _, send, down := anna.route(0, nobody.String()); send != dropPeer || down != dropPeer {
			t.Errorf("another program on our address: %s, %s, want %s", causeNames[send], causeNames[down], causeNames[dropPeer])
		}

		want := stun.ErrorCode(0)
		if relayOnly {
			want = 403
		}
		anna.want(want, stun.MethodChannelBind, channel(0x4002), peer("2.2.2.2:5000"))
	}
}

// Where our own address is in a range that is allowed, its other programs are for those alone whom a party has shown it.
func TestOtherProgramsOnOurAddress(t *testing.T) {
	for _, shown := range []bool{false, true} {
		d := newTestControl(t, func(c *Config) {
			c.CallScoped, c.Allow = true, []netip.Prefix{netip.PrefixFrom(our4, 24).Masked()}
		})
		want, why := stun.ErrorCode(403), dropPeer
		if shown {
			want, why = 0, none
			d.control.permit(d.now, "call", "callee", []netip.Addr{our4})
		}
		p := d.client("1.1.1.1:1", "anna", "call", "caller")
		p.want(0, stun.MethodAllocate, udp)
		for i, port := range []uint16{5000, 49151} { // below those of relayed addresses
			at := netip.AddrPortFrom(our4, port)
			p.want(want, stun.MethodChannelBind, channel(0x4000+uint16(i)), toward(at))
			p.want(0, stun.MethodCreatePermission, toward(at)) // of the IP
			if _, send, down := p.route(0, at.String()); send != why || down != why {
				t.Errorf("shown %v, %s: %s, %s, want %s", shown, at, causeNames[send], causeNames[down], causeNames[why])
			}
		}
	}
}

func TestRelayOnlyComesLater(t *testing.T) {
	d := newTestControl(t, scoped)
	d.control.permit(d.now, "call", "callee", addrs("2.2.2.2"))
	p := d.client("1.1.1.1:1", "anna", "call", "caller")
	p.want(0, stun.MethodAllocate, udp)
	p.want(0, stun.MethodChannelBind, channel(0x4000), peer("2.2.2.2:5000"))
	if up, send, down := p.route(0x4000, "2.2.2.2:5000"); up != none || send != none || down != none {
		t.Errorf("before: %v, %v, %v, want none", up, send, down)
	}
	d.control.relayOnly(d.now, "call", true)
	if up, send, down := p.route(0x4000, "2.2.2.2:5000"); up != dropPermission || send != dropPermission || down != dropPermission {
		t.Errorf("after: %s, %s, %s, want %s", causeNames[up], causeNames[send], causeNames[down], causeNames[dropPermission])
	}
	p.want(403, stun.MethodCreatePermission, peer("2.2.2.2:5000"))
	d.control.relayOnly(d.now, "call", false)
	p.want(0, stun.MethodCreatePermission, peer("2.2.2.2:5000"))
}

func TestOtherRelays(t *testing.T) {
	d := newTestControl(t, func(c *Config) { c.CallScoped, c.Relays = true, addrs("6.6.6.6", "6.6.6.7") })
	d.control.relayOnly(d.now, "call", true)
	d.control.permit(d.now, "call", "callee", addrs("2.2.2.2", "6.6.6.6"))
	p := d.client("1.1.1.1:1", "anna", "call", "caller")
	p.want(0, stun.MethodAllocate, udp)
	p.want(0, stun.MethodChannelBind, channel(0x4000), peer("6.6.6.6:50000"))
	p.want(403, stun.MethodChannelBind, channel(0x4001), peer("6.6.6.7:50000"))
	p.want(403, stun.MethodChannelBind, channel(0x4001), peer("2.2.2.2:50000"))
	if up, _, down := p.route(0x4000, "6.6.6.6:50000"); up != none || down != none {
		t.Errorf("to and from another relay: %s, %s, want none", causeNames[up], causeNames[down])
	}
}

// A browser that gathers anew has to get along with the allocations that one user may have.
func TestIdleAllocationsMakeRoom(t *testing.T) {
	d := newTestControl(t, func(c *Config) { c.CallScoped, c.UserAllocations = true, 4 })
	d.control.permit(d.now, "call", "callee", addrs("2.2.2.2"))
	var anna []*testClient
	allocate := func(want stun.ErrorCode) {
		t.Helper()
		p := d.client(fmt.Sprintf("1.1.1.1:%d", 1+len(anna)), "anna", "call", "caller")
		p.want(want, stun.MethodAllocate, udp)
		anna = append(anna, p)
		d.after(time.Millisecond)
	}
	living := func(want ...uint16) {
		t.Helper()
		var got []uint16
		for _, a := range d.control.list() {
			if a.User == "anna" {
				got = append(got, a.Client.Port())
			}
		}
		if !slices.Equal(slices.Sorted(slices.Values(got)), want) {
			t.Errorf("allocations of ports %v, want %v", got, want)
		}
	}
	eve := d.client("3.3.3.3:1", "eve", "call", "callee")
	eve.want(0, stun.MethodAllocate, udp)
	for range 4 {
		allocate(0)
	}
	allocate(486) // they were gathered together
	anna[1].want(0, stun.MethodChannelBind, channel(0x4000), peer("2.2.2.2:5000"))
	for range 10 {
		d.after(time.Second)
		anna[1].route(0x4000, "2.2.2.2:5000")
	}
	for range 3 {
		allocate(0)
	}
	living(2, 6, 7, 8) // the one that carries, and the new ones
	allocate(486)
	for range 3 {
		d.after(time.Second)
		anna[1].route(0x4000, "2.2.2.2:5000")
	}
	allocate(0)
	living(2, 7, 8, 10)
	d.after(time.Minute) // a silent call
	for range 3 {
		allocate(0)
	}
	allocate(486)
	living(2, 11, 12, 13)
	anna[12].want(0, stun.MethodChannelBind, channel(0x4000), peer("2.2.2.2:5000"))
	for range 3 { // on another network; the other party still sends to where it was
		d.after(time.Second)
		anna[12].route(0x4000, "2.2.2.2:5000")
		anna[1].hear("2.2.2.2:5000")
	}
	allocate(0)
	living(11, 12, 13, 15)
	anna[1].want(437, stun.MethodRefresh)
	anna[12].want(0, stun.MethodRefresh)
	eve.want(0, stun.MethodRefresh)
	if got := len(d.carrier.open_); got != 5 {
		t.Errorf("%d relay sockets are open, want 5", got)
	}
}

func TestEndCall(t *testing.T) {
	d := newTestControl(t, scoped)
	d.control.permit(d.now, "call", "callee", addrs("2.2.2.2"))
	d.control.permit(d.now, "other", "callee", addrs("2.2.2.2"))
	p, q := d.client("1.1.1.1:1", "anna", "call", "caller"), d.client("1.1.1.1:2", "anna", "other", "caller")
	for _, k := range []*testClient{p, q} {
		k.want(0, stun.MethodAllocate, udp)
		k.want(0, stun.MethodChannelBind, channel(0x4000), peer("2.2.2.2:5000"))
	}
	for range 3 {
		p.route(0x4000, "2.2.2.2:5000")
	}
	p.want(0, stun.MethodRefresh, life(0))
	p.want(0, stun.MethodAllocate, udp)
	want := Usage{BytesUp: 600, PacketsUp: 6, BytesDown: 300, PacketsDown: 3}
	if got := d.control.endCall(d.now, "call"); got != want {
		t.Errorf("EndCall = %+v, want %+v", got, want)
	}
	if got := d.control.list(); len(got) != 1 || got[0].Call != "other" {
		t.Errorf("allocations = %+v, want that of the other call", got)
	}
	p.want(437, stun.MethodRefresh)
	p.want(403, stun.MethodAllocate, udp)
	d.control.permit(d.now, "call", "callee", addrs("2.2.2.2"))
	p.want(403, stun.MethodAllocate, udp)
	if got := d.control.endCall(d.now, "call"); got != want {
		t.Errorf("EndCall again = %+v, want %+v", got, want)
	}
	// As long as credentials for it can be good.
	d.after(longestTTL - time.Second)
	p.nonce = nil
	p.want(403, stun.MethodAllocate, udp)
	d.after(endedLife)
	if d.control.calls["call"] != nil || d.control.calls["other"] == nil {
		t.Error("want the ended call forgotten and the other one not")
	}
}

func TestShownIsBounded(t *testing.T) {
	d := newTestControl(t, scoped)
	ip := netip.MustParseAddr("8.0.0.0")
	for range 10 * mostShown {
		ip = ip.Next()
		d.control.permit(d.now, "call", "callee", []netip.Addr{ip, ip})
	}
	if got := len(d.control.calls["call"].shown["callee"]); got != mostShown {
		t.Errorf("%d addresses are kept, want %d", got, mostShown)
	}
	p := d.client("1.1.1.1:1", "anna", "call", "caller")
	p.want(0, stun.MethodAllocate, udp)
	p.want(0, stun.MethodCreatePermission, toward(netip.AddrPortFrom(ip, 5000)))
	p.want(403, stun.MethodCreatePermission, peer("8.0.0.1:5000"))
}

func TestListing(t *testing.T) {
	d := newTestControl(t, nil)
	p := d.client("9.9.9.9:1000", "anna", "call", "caller")
	response := p.want(0, stun.MethodAllocate, udp)
	p.want(0, stun.MethodChannelBind, channel(0x4000), peer("8.8.8.8:5000"))
	p.route(0x4000, "8.8.8.8:5000")
	list := d.control.list()
	if len(list) != 1 {
		t.Fatalf("%d allocations, want 1", len(list))
	}
	got := list[0]
	if got.User != "anna" || got.Call != "call" || got.Party != "caller" || got.Transport != "udp" ||
		got.Client.String() != "9.9.9.9:1000" || len(got.Relayed) != 1 || got.Relayed[0] != relayedOf(t, response)[0] ||
		got.Usage != (Usage{200, 2, 100, 1}) || !got.Expires.Equal(d.now.Add(defaultLifetime)) || got.Channels != 1 ||
		len(got.Permissions) != 1 || got.Permissions[0].String() != "8.8.8.8" {
		t.Errorf("allocation = %+v", got)
	}
}
