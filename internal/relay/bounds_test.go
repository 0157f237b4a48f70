package relay

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"github.com/visavis/visavis/internal/relay/wire"
)

func TestChallengesAreBounded(t *testing.T) {
	for carrier, portable := range carriers {
		t.Run(carrier, func(t *testing.T) {
			const burst, sent = 5, 100
			s, reg := start(t, func(c *Config) { c.Portable, c.ChallengeRate, c.ChallengeBurst = portable, 1, burst })
			k := talk(t, s, "udp")
			k.allocate() // takes one
			stranger := talk(t, s, "udp")
			for range sent {
				stranger.write(stranger.message(allocate, udp).Raw)
			}
			k.want(0, stun.MethodRefresh) // comes after them
			answered := 0
			for stranger.read(100*time.Millisecond) != nil {
				answered++
			}
			if answered < burst-1 || answered > burst+int(long/time.Second) {
				t.Errorf("%d of %d requests are answered, want %d or a few more", answered, sent, burst-1)
			}
			if got := metric(t, reg, "dropped_total", "challenges"); got != float64(sent-answered) {
				t.Errorf("refused = %v, want %v", got, sent-answered)
			}

			// A signature that nobody made is no way around.
			stranger.realm, stranger.nonce = stun.NewRealm("visavis"), stun.NewNonce("none")
			key := stun.NewLongTermIntegrity("anna", "visavis", "wrong")
			for range sent {
				stranger.write(stranger.message(allocate, udp, stun.NewUsername("anna"), stranger.realm, stranger.nonce, key).Raw)
			}
			k.want(0, stun.MethodRefresh)
			answered = 0
			for stranger.read(100*time.Millisecond) != nil {
				answered++
			}
			if answered > int(long/time.Second) {
				t.Errorf("%d forged requests are answered, want none or a few", answered)
			}

			// A stream has a bound of its own. It has no retransmission: it is closed rather than left to wait.
			stream := talk(t, s, "tcp")
			for i := range signedShare * burst {
				if stream.exchange(stream.message(stun.BindingRequest)) == nil {
					t.Fatalf("request %d on a stream is not answered", i)
				}
			}
			for range signedShare * burst * 4 {
				_, _ = stream.Write(stream.message(stun.BindingRequest).Raw)
			}
			for answered = 0; stream.read(long) != nil; answered++ {
			}
			if most := signedShare * int(long/time.Second); answered > most {
				t.Errorf("%d more requests on a stream are answered, want %d at most", answered, most)
			}
		})
	}
}

func TestAmplification(t *testing.T) {
	for carrier, portable := range carriers {
		t.Run(carrier, func(t *testing.T) {
			s, reg := start(t, func(c *Config) {
				c.Portable = portable
				c.Realm = "12345678"
			})
			k := talk(t, s, "udp")
			request := k.message(allocate, udp) // as short as a browser's
			response := k.exchange(request)
			if response == nil {
				t.Fatal("no challenge")
			}
			got := float64(len(response.Raw)) / float64(len(request.Raw))
			t.Logf("challenge: %d bytes for %d, %.2f times as many", len(response.Raw), len(request.Raw), got)
			if got > 2.5 {
				t.Errorf("amplification = %.2f, want at most 2.5", got)
			}
			k.write(k.message(stun.NewType(stun.MethodRefresh, stun.ClassRequest)).Raw)
			eventually(t, reg, 1, "dropped_total", "amplification")
		})
	}
}

func TestBuckets(t *testing.T) {
	b := newHashedBuckets(10, 3)
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	tests := []struct {
		ip    netip.Addr
		after time.Duration
		want  bool
	}{
		{v4, 0, true},
		{v4, 0, true},
		{v4, 0, true},
		{v4, 0, false},
		{v6, 0, true},
		{netip.MustParseAddr("2001:db8:0:ff::2"), 0, true},
		{netip.MustParseAddr("2001:db8:0:ff::3"), 0, true},
		{v6, 0, false},
		{netip.MustParseAddr("2001:db8:0:100::1"), 0, true},
		{v4, 99 * time.Millisecond, false},
		{v4, 101 * time.Millisecond, true},
		{v4, 101 * time.Millisecond, false},
		{v4, time.Hour, true},
		{v4, time.Hour, true},
		{v4, time.Hour, true},
		{v4, time.Hour, false},
	}
	for i, test := range tests {
		key := sourceOf(endpoint{Address: wire.Address{IP: test.ip.As16()}})
		if got := b.take(key[:], int64(test.after)); got != test.want {
			t.Errorf("%d: take(%s) after %v = %v, want %v", i, test.ip, test.after, got, test.want)
		}
	}
}

func TestAllocationsAreBounded(t *testing.T) {
	s, reg := start(t, func(c *Config) { c.UserAllocations, c.MaxAllocations = 2, 3 })
	s.control.mu.Lock()
	s.control.spareAfter = time.Hour // however slow this machine is
	s.control.mu.Unlock()
	first, second, third := talk(t, s, "udp"), talk(t, s, "tcp"), talk(t, s, "udp")
	first.allocate()
	second.allocate()
	third.want(486, stun.MethodAllocate, udp)
	first.want(437, stun.MethodAllocate, udp)
	third.credentials = Issue(secret, "anna", "another call", "", time.Now(), time.Hour)
	third.allocate()
	fourth := talk(t, s, "udp")
	fourth.credentials = Issue(secret, "ben", "", "", time.Now(), time.Hour)
	fourth.want(508, stun.MethodAllocate, udp)
	first.want(0, stun.MethodRefresh, raw{stun.AttrLifetime, "\x00\x00\x00\x00"})
	eventually(t, reg, 2, "allocations")
	fourth.allocate()
}

func TestPermissionsAndChannelsAreBounded(t *testing.T) {
	s, reg := start(t, func(c *Config) { c.Permissions, c.Channels = 2, 2 })
	k := talk(t, s, "udp")
	k.allocate()
	k.want(0, stun.MethodCreatePermission, peer("8.8.8.8:5000"), peer("127.0.0.1:5000"))
	k.want(508, stun.MethodCreatePermission, peer("8.8.4.4:5000"))
	k.want(0, stun.MethodCreatePermission, peer("8.8.8.8:5000"))
	eventually(t, reg, 1, "refused_total", "permissions")

	k.want(0, stun.MethodChannelBind, channel(0x4000), peer("127.0.0.1:5000"))
	k.want(0, stun.MethodChannelBind, channel(0x4001), peer("127.0.0.1:5001"))
	k.want(0, stun.MethodChannelBind, channel(0x4000), peer("127.0.0.1:5000"))
	k.want(508, stun.MethodChannelBind, channel(0x4002), peer("127.0.0.1:5002"))
	eventually(t, reg, 1, "refused_total", "channels")
}

func TestRateIsBounded(t *testing.T) {
	for carrier, portable := range carriers {
		t.Run(carrier, func(t *testing.T) {
			s, reg := start(t, func(c *Config) {
				c.Portable = portable
				c.PacketRate = 10
			})
			plain, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer plain.Close()
			k := talk(t, s, "udp")
			relayed := k.allocate()
			k.want(0, stun.MethodChannelBind, channel(0x4000), peer(plain.LocalAddr().String()))
			for range 50 {
				k.write([]byte{0x40, 0, 0, 4, 'd', 'a', 't', 'a'})
				if _, err := plain.WriteTo([]byte("data"), net.UDPAddrFromAddrPort(relayed)); err != nil {
					t.Fatal(err)
				}
			}
			tick := time.NewTicker(2 * time.Millisecond)
			defer tick.Stop()
			var up, down, refused float64
			for deadline := time.Now().Add(long); up+down+refused < 100 && time.Now().Before(deadline); <-tick.C {
				up, down = metric(t, reg, "packets_total", "up"), metric(t, reg, "packets_total", "down")
				refused = metric(t, reg, "dropped_total", "rate")
			}
			if up < 10 || up > 40 || down < 10 || down > 40 || refused != 100-up-down {
				t.Errorf("%v up, %v down, %v refused, want 10, 10 and the rest of 100", up, down, refused)
			}
		})
	}
}

func TestLane(t *testing.T) {
	r := newRates(80_000, 100)
	for _, test := range []struct{ size, want int }{{1000, 10}, {10, 100}, {30_000, 1}} {
		var l lane
		admitted := 0
		for range 200 {
			if l.admits(r, 0, test.size) {
				admitted++
			}
		}
		if admitted != test.want {
			t.Errorf("%d packets of %d bytes pass at once with 80 kbit/s and 100 packets/s, want %d", admitted, test.size, test.want)
		}
		if l.admits(r, int64(time.Second)/1000, test.size) {
			t.Errorf("another of %d bytes passes after a millisecond", test.size)
		}
	}
}
