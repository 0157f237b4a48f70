package relay

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/stun/v4"
)

// What clients are told, by configuration and by what the machine has. local is the likeliest first.
func TestToldURLs(t *testing.T) {
	for name, test := range map[string]struct {
		change        func(*Config)
		listen        string
		local, before []netip.Addr
		addresses     string // also of relayed addresses
		told          string // hosts
	}{
		"one address":        {nil, "192.0.2.7:3478", addrs("8.8.8.8"), nil, "192.0.2.7", "192.0.2.7"},
		"both families":      {nil, "[::]:3478", addrs("8.8.8.8", "9.9.9.9", "2a00::1", "2a00::2"), nil, "8.8.8.8 2a00::1", "8.8.8.8 [2a00::1]"},
		"wildcard of IPv6":   {nil, "[::]:3478", addrs("2a00::1", "8.8.8.8"), nil, "8.8.8.8 2a00::1", "8.8.8.8 [2a00::1]"},
		"IPv4 alone":         {nil, "0.0.0.0:3478", addrs("8.8.8.8", "2a00::1"), nil, "8.8.8.8", "8.8.8.8"},
		"IPv6 alone":         {nil, "[::]:3478", addrs("2a00::1"), nil, "2a00::1", "[2a00::1]"},
		"private IPv6":       {nil, "[::]:3478", addrs("10.0.0.7", "fd00::1"), nil, "10.0.0.7", "10.0.0.7"},
		"only private IPv6":  {nil, "[::]:3478", addrs("fd00::1"), nil, "fd00::1", "[fd00::1]"},
		"no network yet":     {nil, "[::]:3478", nil, nil, "127.0.0.1", "127.0.0.1"},
		"a network at last":  {nil, "[::]:3478", addrs("8.8.8.8"), addrs("127.0.0.1"), "8.8.8.8", "8.8.8.8"},
		"no network for now": {nil, "[::]:3478", addrs("2a00::1"), addrs("8.8.8.8", "2a00::2"), "8.8.8.8 2a00::1", "8.8.8.8 [2a00::1]"},
		"another network":    {nil, "[::]:3478", addrs("9.9.9.9"), addrs("8.8.8.8", "2a00::2"), "9.9.9.9 2a00::2", "9.9.9.9 [2a00::2]"},
		"behind a translator": {
			func(c *Config) { c.Address = netip.MustParseAddr("5.6.7.8") },
			"[::]:3478", addrs("10.0.0.7", "2a00::1"), nil, "5.6.7.8 2a00::1", "5.6.7.8 [2a00::1]",
		},
		"an address of each family": {
			func(c *Config) {
				c.Address, c.OtherAddress = netip.MustParseAddr("2a00::7"), netip.MustParseAddr("5.6.7.8")
			},
			"[::]:3478", addrs("10.0.0.7", "2a00::1"), nil, "2a00::7 5.6.7.8", "[2a00::7] 5.6.7.8",
		},
		"another family for relayed addresses": {
			func(c *Config) { c.OtherAddress = netip.MustParseAddr("2a00::7") },
			"192.0.2.7:3478", nil, nil, "192.0.2.7 2a00::7", "192.0.2.7",
		},
		"a name": {
			func(c *Config) { c.Host = "turn.example.org" },
			"[::]:3478", addrs("8.8.8.8", "2a00::1"), nil, "8.8.8.8 2a00::1", "turn.example.org",
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			if test.change != nil {
				test.change(&cfg)
			}
			at := netip.MustParseAddrPort(test.listen)
			listening, port := at.Addr(), at.Port()
			addresses := cfg.addresses(listening, test.local, test.before)
			if got := strings.Trim(fmt.Sprint(addresses), "[]"); test.addresses != got {
				t.Errorf("addresses %s, want %s", got, test.addresses)
			}
			for _, ports := range []struct{ public, want uint16 }{{0, 3478}, {443, 443}} {
				cfg.PublicPort = ports.public
				var stun, turn []string
				for host := range strings.SplitSeq(test.told, " ") {
					at := fmt.Sprintf("%s:%d", host, ports.want)
					stun = append(stun, "stun:"+at)
					turn = append(turn, "turn:"+at+"?transport=udp", "turn:"+at+"?transport=tcp")
				}
				if diff := cmp.Diff(append(stun, turn...), cfg.urls(listening, addresses, port, 0)); diff != "" {
					t.Errorf("URLs (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestToldURLsOfTLS(t *testing.T) {
	cfg := Config{Host: "relay.example.org"}
	last := func() string {
		urls := cfg.urls(netip.IPv4Unspecified(), addrs("8.8.8.8"), 3478, 5349)
		return urls[len(urls)-1]
	}
	if got, want := last(), "turns:relay.example.org:5349?transport=tcp"; got != want {
		t.Errorf("told %s, want %s", got, want)
	}
	cfg.TLSName, cfg.TLSPublicPort = "turn.example.org", 443
	if got, want := last(), "turns:turn.example.org:443?transport=tcp"; got != want {
		t.Errorf("told %s, want %s", got, want)
	}
}

// A server that was started before its network tells the addresses that come, gives relayed addresses there, and lets
// what is there go on where it is.
func TestAddressesAreFollowed(t *testing.T) {
	var local atomic.Pointer[[]netip.Addr]
	local.Store(new([]netip.Addr))
	s, _ := start(t, func(c *Config) {
		c.Listener = listen(t, "[::]:0")
		c.Local = func() []netip.Addr { return *local.Load() }
		c.Allow = prefixes("127.0.0.0/8")
	})
	if got := s.Addr().Addr().String(); got != "127.0.0.1" {
		t.Fatalf("without a network clients are told %s, want 127.0.0.1", got)
	}
	k := talk(t, s, "udp")
	before := k.allocate()

	told := addrs("9.9.9.9", "2a00::1")
	local.Store(&told)
	deadline, tick := time.Now().Add(2*followEvery*time.Second+long), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !slices.Equal(s.RelayedAddresses(), told) {
		if <-tick.C; time.Now().After(deadline) {
			t.Fatalf("addresses are %v, want %v", s.RelayedAddresses(), told)
		}
	}
	if urls := strings.Join(s.URLs(), " "); !strings.Contains(urls, "turn:9.9.9.9:") || !strings.Contains(urls, "turn:[2a00::1]:") {
		t.Errorf("clients are told %s, want both addresses", urls)
	}

	late := &talker{t: t, credentials: Issue(secret, "ben", "", "", time.Now(), time.Hour)}
	conn, err := net.Dial("udp", fmt.Sprint("127.0.0.1:", s.Addr().Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	late.Conn = conn
	if got := late.allocate().Addr().String(); got != "9.9.9.9" {
		t.Errorf("a new client has a relayed address on %s, want 9.9.9.9", got)
	}

	// The first client still relays from where it is.
	peer, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	at := toward(peer.LocalAddr().(*net.UDPAddr).AddrPort())
	k.want(0, stun.MethodChannelBind, channel(0x4000), at)
	k.write([]byte("\x40\x00\x00\x04data"))
	_ = peer.SetReadDeadline(time.Now().Add(long))
	b := make([]byte, 100)
	n, from, err := peer.ReadFrom(b)
	if err != nil || string(b[:n]) != "data" || from.String() != before.String() {
		t.Errorf("got %q from %v, %v, want data from %v", b[:n], from, err, before)
	}

	// When it has gone, nothing is kept of its address.
	k.want(0, stun.MethodRefresh, raw{stun.AttrLifetime, "\x00\x00\x00\x00"})
	other := addrs("8.8.8.8", "2a00::1")
	local.Store(&other)
	if err := s.follow(); err != nil {
		t.Fatal(err)
	}
	if got := s.control.relayedAddresses(); slices.Contains(got, before.Addr()) || !slices.Contains(got, told[0]) {
		t.Errorf("relayed addresses are on %v: want 9.9.9.9, which is in use, and not %v", got, before.Addr())
	}
}

// 0.0.0.0 is all addresses of IPv4, and none of IPv6.
func TestIPv4Alone(t *testing.T) {
	needs(t, "[::1]:0")
	for carrier, portable := range carriers {
		s, _ := start(t, func(c *Config) {
			c.Listener, c.Portable, c.Address = listen(t, "0.0.0.0:0"), portable, netip.MustParseAddr("127.0.0.1")
		})
		port := s.Addr().Port()
		if conn, err := net.Dial("tcp", fmt.Sprintf("[::1]:%d", port)); err == nil {
			_ = conn.Close()
			t.Errorf("%s: the relay takes TCP on IPv6", carrier)
		}
		taken, err := net.ListenPacket("udp6", fmt.Sprintf("[::1]:%d", port))
		if err != nil {
			t.Errorf("%s: the relay has the UDP port on IPv6: %v", carrier, err)
		} else {
			_ = taken.Close()
		}
		if k := talk(t, s, "udp"); k.allocate().Port() == 0 {
			t.Errorf("%s: no relayed address over IPv4", carrier)
		}
	}
}
