package relay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/stun/v4"

	"github.com/visavis/visavis/internal/relay/wire"
)

func TestLifetimes(t *testing.T) {
	for _, test := range []struct{ asked, want time.Duration }{
		{-1, 600 * time.Second},
		{1 * time.Second, 600 * time.Second},
		{600 * time.Second, 600 * time.Second},
		{1000 * time.Second, 1000 * time.Second},
		{3600 * time.Second, 3600 * time.Second},
		{86_400 * time.Second, 3600 * time.Second},
	} {
		d := newTestControl(t, nil)
		p := d.client("9.9.9.9:1000", "anna", "", "")
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
	d := newTestControl(t, nil)
	p := d.client("9.9.9.9:1000", "anna", "", "")
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
		d := newTestControl(t, nil)
		d.carrier.full[test.full] = true
		p := d.client("9.9.9.9:1000", "anna", "", "")
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

	d := newTestControl(t, nil)
	p := d.client("[2a01::9]:1000", "anna", "", "")
	p.want(0, stun.MethodAllocate, udp, family(requested, v4))
	p.want(443, stun.MethodCreatePermission, peer("[2a02::1]:5000"))
	p.want(443, stun.MethodChannelBind, channel(0x4000), peer("[2a02::1]:5000"))
	p.want(443, stun.MethodRefresh, family(requested, v6))
	p.want(0, stun.MethodRefresh, family(requested, v4))

	p = d.client("[2a01::9]:1001", "anna", "", "")
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
	d := newTestControl(t, nil)
	for i := range 20 {
		p := d.client(fmt.Sprint("9.9.9.9:", 1000+i), strconv.Itoa(i), "", "")
		if got := relayedOf(t, p.want(0, stun.MethodAllocate, udp, raw{stun.AttrEvenPort, "\x00"}))[0].Port(); got%2 != 0 {
			t.Errorf("port = %d, want an even one", got)
		}
	}
}

func TestChannelBind(t *testing.T) {
	d := newTestControl(t, nil)
	p := d.client("9.9.9.9:1000", "anna", "", "")
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
	d := newTestControl(t, nil)
	d.carrier.taken = func(port uint16) error {
		if port != free {
			return syscall.EADDRINUSE
		}
		return nil
	}
	p := d.client("9.9.9.9:1000", "anna", "", "")
	if got := relayedOf(t, p.want(0, stun.MethodAllocate, udp)); len(got) != 1 || got[0].Port() != free {
		t.Errorf("relayed address = %v, want port %d", got, free)
	}
	other := d.client("9.9.9.9:1001", "bob", "", "")
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
	d := newTestControl(t, nil)
	used, unused := d.client("9.9.9.9:1000", "anna", "call", "anna"), d.client("9.9.9.9:1001", "anna", "call", "anna")
	other := d.client("9.9.9.9:1002", "anna", "", "") // of no call: who knows what it is for
	for _, p := range []*testClient{used, unused, other} {
		p.want(0, stun.MethodAllocate, udp, life(3600))
		p.want(0, stun.MethodCreatePermission, peer("8.8.8.8:5000"))
	}
	to := endpointOf(netip.MustParseAddrPort("8.8.8.8:5000"))
	for range 5 {
		used.want(0, stun.MethodCreatePermission, peer("8.8.8.8:5000"))
		unused.want(0, stun.MethodCreatePermission, peer("8.8.8.8:5000")) // which is no use, nor is what comes down
		for _, p := range []*testClient{used, unused} {
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
	d := newTestControl(t, nil)
	p := d.client("9.9.9.9:1000", "anna", "", "")
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

func TestDrain(t *testing.T) {
	d := newTestControl(t, nil)
	p := d.client("9.9.9.9:1000", "anna", "", "")
	p.want(0, stun.MethodAllocate, udp)
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.control.drain(short); !errors.Is(err, context.Canceled) {
		t.Errorf("drain = %v, want that there is an allocation", err)
	}
	d.client("9.9.9.9:1001", "anna", "", "").want(508, stun.MethodAllocate, udp)
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
	d := newTestControl(t, func(c *Config) { c.CallScoped = true })
	cycle := func(i int) {
		call := strconv.Itoa(i)
		from := fmt.Sprintf("9.9.%d.%d:%d", byte(i>>8), byte(i), 1000+i%50_000)
		d.control.permit(d.now, call, "callee", []netip.Addr{netip.MustParseAddr("8.8.8.8")})
		p := d.client(from, "anna", call, "caller")
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
