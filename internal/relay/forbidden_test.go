package relay

import (
	"net/netip"
	"testing"
)

func TestPeerAllowed(t *testing.T) {
	strict := &policy{
		relayed: addrs("5.6.7.8"), minPort: 49152, maxPort: 65535, listenPorts: []uint16{50000},
		own: []netip.Addr{netip.MustParseAddr("5.6.7.8"), netip.MustParseAddr("2a00::1"), netip.MustParseAddr("10.1.1.1")},
	}
	lan := &policy{
		allow:   prefixes("127.0.0.0/8", "::1/128", "10.0.0.0/8", "fd00::/8", "64:ff9b::/96"),
		relayed: addrs("127.0.0.1"), minPort: 49152, maxPort: 65535, listenPorts: []uint16{3478},
		own: []netip.Addr{netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("fd00::1")},
	}
	all := &policy{
		allow: prefixes("0.0.0.0/0", "::/0"), listenPorts: []uint16{3478}, own: []netip.Addr{netip.MustParseAddr("8.8.4.4")},
	}
	tests := []struct {
		policy *policy
		peer   string
		want   bool
	}{
		{strict, "8.8.8.8:1024", true},
		{strict, "8.8.8.8:65535", true},
		{strict, "8.8.8.8:1023", false},
		{strict, "8.8.8.8:53", false},
		{strict, "8.8.8.8:0", false},
		{strict, "[2606:4700::1111]:5000", true},
		{strict, "[2606:4700::1111]:443", false},
		{strict, "[2606:4700::1111%eth0]:5000", false},

		{strict, "0.0.0.0:5000", false},
		{strict, "0.1.2.3:5000", false},
		{strict, "10.0.0.1:5000", false},
		{strict, "9.255.255.255:5000", true},
		{strict, "11.0.0.0:5000", true},
		{strict, "100.64.0.1:5000", false},
		{strict, "100.127.255.255:5000", false},
		{strict, "100.128.0.0:5000", true},
		{strict, "127.0.0.1:5000", false},
		{strict, "127.255.255.254:5000", false},
		{strict, "169.254.169.254:5000", false},
		{strict, "172.16.0.1:5000", false},
		{strict, "172.31.255.255:5000", false},
		{strict, "172.32.0.0:5000", true},
		{strict, "192.0.0.8:5000", false},
		{strict, "192.0.2.1:5000", false},
		{strict, "192.31.196.1:5000", false},
		{strict, "192.52.193.1:5000", false},
		{strict, "192.88.99.1:5000", false},
		{strict, "192.168.1.1:5000", false},
		{strict, "192.175.48.1:5000", false},
		{strict, "198.18.0.1:5000", false},
		{strict, "198.19.255.255:5000", false},
		{strict, "198.51.100.1:5000", false},
		{strict, "203.0.113.1:5000", false},
		{strict, "224.0.0.1:5000", false},
		{strict, "239.255.255.255:5000", false},
		{strict, "240.0.0.1:5000", false},
		{strict, "255.255.255.255:5000", false},

		{strict, "[::]:5000", false},
		{strict, "[::1]:5000", false},
		{strict, "[100::1]:5000", false},
		{strict, "[100:0:0:1::1]:5000", false},
		{strict, "[2001:1::1]:5000", false},
		{strict, "[2001:2::1]:5000", false},
		{strict, "[2001:10::1]:5000", false},
		{strict, "[2001:20::1]:5000", false},
		{strict, "[2001:db8::1]:5000", false},
		{strict, "[3fff::1]:5000", false},
		{strict, "[5f00::1]:5000", false},
		{strict, "[fc00::1]:5000", false},
		{strict, "[fd12:3456::1]:5000", false},
		{strict, "[fe80::1]:5000", false},
		{strict, "[fe80::1%1]:5000", false},
		{strict, "[febf::1]:5000", false},
		{strict, "[fec0::1]:5000", false},
		{strict, "[ff02::1]:5000", false},
		{strict, "[ff0e::1]:5000", false},

		{strict, "[::ffff:127.0.0.1]:5000", false},
		{strict, "[::ffff:10.0.0.1]:5000", false},
		{strict, "[::ffff:8.8.8.8]:5000", true},
		{strict, "[::ffff:8.8.8.8%eth0]:5000", false},
		{strict, "[::ffff:8.8.8.8]:80", false},
		{strict, "[::127.0.0.1]:5000", false},
		{strict, "[::169.254.169.254]:5000", false},
		{strict, "[::8.8.8.8]:5000", true},
		{strict, "[::ffff:0:127.0.0.1]:5000", false},
		{strict, "[::ffff:0:192.168.0.1]:5000", false},
		{strict, "[64:ff9b::127.0.0.1]:5000", false},
		{strict, "[64:ff9b::10.0.0.1]:5000", false},
		{strict, "[64:ff9b::0.0.0.0]:5000", false},
		{strict, "[64:ff9b::8.8.8.8]:5000", true},
		{strict, "[64:ff9b:1::10.0.0.1]:5000", false},
		{strict, "[64:ff9b:1::8.8.8.8]:5000", false},
		{strict, "[64:ff9b:1:7f00:0:100::]:5000", false},
		{strict, "[2002:7f00:1::1]:5000", false},
		{strict, "[2002:a00:1::]:5000", false},
		{strict, "[2002:c0a8:101::1]:5000", false},
		{strict, "[2002:808:808::1]:5000", true},
		{strict, "[2001:0:7f00:1::f7f7:f7f7]:5000", false},     // Teredo server 127.0.0.1
		{strict, "[2001:0:808:808:0:0:80ff:fffe]:5000", false}, // Teredo client 127.0.0.1
		{strict, "[2001:0:808:808:0:0:f5ff:fffe]:5000", false}, // Teredo client 10.0.0.1
		{strict, "[2001:0:808:808:0:0:f7f7:f7f7]:5000", true},  // Teredo client 8.8.8.8
		{strict, "[2606:4700::5efe:127.0.0.1]:5000", false},    // ISATAP
		{strict, "[2606:4700::200:5efe:10.0.0.1]:5000", false}, // ISATAP
		{strict, "[2606:4700::200:5efe:8.8.8.8]:5000", true},   // ISATAP
		{strict, "[fe80::5efe:8.8.8.8]:5000", false},           // ISATAP
		{strict, "[2606:4700::100:5efe:127.0.0.1]:5000", true}, // no ISATAP
		{strict, "[2002:7f00:1:0:0:5efe:808:808]:5000", false}, // 6to4 and ISATAP
		{strict, "[2002:808:808:0:0:5efe:7f00:1]:5000", false}, // 6to4 and ISATAP
		{strict, "5.6.7.8:60000", true},                        // a relayed address of ours
		{strict, "5.6.7.8:50000", false},                       // where we listen
		{strict, "5.6.7.8:8080", false},                        // another service of ours
		{strict, "5.6.7.8:1023", false},
		{strict, "[::ffff:5.6.7.8]:50000", false},
		{strict, "[64:ff9b::5.6.7.8]:50000", false},
		{strict, "[64:ff9b::5.6.7.8]:8080", false},
		{strict, "[2002:506:708::1]:50000", false},
		{strict, "[2a00::1]:50000", false}, // where we listen
		{strict, "[2a00::1]:50001", true},
		{lan, "127.0.0.1:5000", true},
		{lan, "127.0.0.1:3478", false},
		{lan, "127.8.8.8:3478", false},
		{lan, "127.0.0.1:80", false},
		{lan, "[::ffff:127.0.0.1]:5000", true},
		{lan, "[::ffff:127.0.0.1]:3478", false},
		{lan, "[::1]:5000", true},
		{lan, "[::1]:3478", false},
		{lan, "10.1.1.1:5000", true},
		{lan, "10.1.1.1:3478", false},
		{lan, "10.1.1.2:3478", true},
		{lan, "10.1.1.2:22", false},
		{lan, "[fd00::1]:3478", false},
		{lan, "[fd00::2]:3478", true},
		{lan, "192.168.1.1:5000", false},
		{lan, "[2002:a00:1::1]:5000", false}, // a range is no leave for its tunnels
		{lan, "[64:ff9b::10.1.1.1]:3478", false},
		{lan, "[64:ff9b::10.1.1.1]:5000", true},
		{all, "10.0.0.1:5000", true},
		{all, "10.0.0.1:1023", false},
		{all, "0.0.0.0:3478", false},
		{all, "0.0.0.0:5000", false},
		{all, "[::]:5000", false},
		{all, "255.255.255.255:5000", false},
		{all, "224.0.0.251:5353", false},
		{all, "[ff02::fb]:5353", false},
		{all, "[fe80::1%eth0]:5000", false},
		{all, "8.8.4.4:3478", false},
		{all, "127.0.0.1:3478", false},
		{all, "[::127.0.0.1]:3478", false},
		{all, "[64:ff9b:1:808:4:400::]:3478", false},
		{all, "[2606:4700::5efe:8.8.4.4]:3478", false},
	}
	for _, test := range tests {
		if got := test.policy.peerAllowed(netip.MustParseAddrPort(test.peer)); got != test.want {
			t.Errorf("peerAllowed(%s) with %v = %v, want %v", test.peer, test.policy.allow, got, test.want)
		}
	}
	if strict.peerAllowed(netip.AddrPort{}) {
		t.Error("peerAllowed of no address = true, want false")
	}
}

func TestPeerAllowedAllocatesNothing(t *testing.T) {
	p := &policy{}
	for _, text := range []string{"8.8.8.8:5000", "[2001:0:808:808:0:0:f7f7:f7f7]:5000"} {
		peer := netip.MustParseAddrPort(text)
		if got := testing.AllocsPerRun(100, func() { p.peerAllowed(peer) }); got != 0 {
			t.Errorf("allocations for %s = %v, want 0", text, got)
		}
	}
}

func FuzzPeerAllowed(f *testing.F) {
	f.Add([]byte{127, 0, 0, 1}, "", uint16(3478))
	f.Add(netip.MustParseAddr("64:ff9b::10.0.0.1").AsSlice(), "", uint16(5000))
	f.Add(netip.MustParseAddr("2606:4700::5efe:10.0.0.1").AsSlice(), "eth0", uint16(5000))
	p := &policy{
		relayed: addrs("5.6.7.8"), minPort: 49152, maxPort: 65535, listenPorts: []uint16{50000},
		own: []netip.Addr{netip.MustParseAddr("5.6.7.8")},
	}
	open := &policy{allow: prefixes("0.0.0.0/0", "::/0"), listenPorts: p.listenPorts, own: p.own}
	f.Fuzz(func(t *testing.T, raw []byte, zone string, port uint16) {
		ip, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		if ip.Is6() {
			ip = ip.WithZone(zone)
		}
		peer := netip.AddrPortFrom(ip, port)
		got := p.peerAllowed(peer)
		if got && !open.peerAllowed(peer) {
			t.Errorf("%v passes the strict policy and not the open one", peer)
		}
		if got && (port < 1024 || ip.Zone() != "" || ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() ||
			ip.IsMulticast() || ip.IsUnspecified()) {
			t.Errorf("%v passes", peer)
		}
		if !ip.Is4() {
			return
		}
		b := ip.As4()
		mapped := netip.AddrPortFrom(netip.AddrFrom16(ip.As16()), port)
		if p.peerAllowed(mapped) != got {
			t.Errorf("%v passes otherwise than %v", mapped, peer)
		}
		for _, in := range [][16]byte{
			{12: b[0], b[1], b[2], b[3]},
			{8: 0xff, 0xff, 12: b[0], b[1], b[2], b[3]},
			{0, 0x64, 0xff, 0x9b, 12: b[0], b[1], b[2], b[3]},
			{0, 0x64, 0xff, 0x9b, 0, 1, 12: b[0], b[1], b[2], b[3]},
			{0x20, 2, b[0], b[1], b[2], b[3], 15: 1},
			{0x20, 1, 0, 0, 8, 8, 8, 8, 12: ^b[0], ^b[1], ^b[2], ^b[3]},
			{0x26, 6, 10: 0x5e, 0xfe, 12: b[0], b[1], b[2], b[3]},
		} {
			if ip := netip.AddrFrom16(in); p.peerAllowed(netip.AddrPortFrom(ip, port)) && !got {
				t.Errorf("%v passes and %v inside does not", ip, peer)
			}
		}
	})
}
