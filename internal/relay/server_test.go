package relay

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/visavis/visavis/internal/relay/wire"
)

func TestBinding(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		for _, network := range []string{"udp", "tcp"} {
			for _, fingerprint := range []bool{false, true} {
				t.Run(fmt.Sprint(at, network, fingerprint), func(t *testing.T) {
					needs(t, at)
					s, _ := start(t, func(c *Config) { c.Listener = listen(t, at) })
					k := talk(t, s, network)
					var attributes []stun.Setter
					if fingerprint {
						attributes = append(attributes, stun.Fingerprint)
					}
					request := k.message(stun.BindingRequest, attributes...)
					response := k.exchange(request)
					if response == nil {
						t.Fatal("no answer")
					}
					var mapped stun.XORMappedAddress
					if err := mapped.GetFrom(response); err != nil {
						t.Fatal(err)
					}
					if got, want := mapped.String(), k.LocalAddr().String(); got != want {
						t.Errorf("mapped address = %s, want %s", got, want)
					}
					if got := response.Contains(stun.AttrFingerprint); got != fingerprint {
						t.Errorf("answer has a fingerprint: %v, want %v", got, fingerprint)
					}
					if got := float64(len(response.Raw)) / float64(len(request.Raw)); got > 2.5 {
						t.Errorf("amplification = %.2f, want at most 2.5", got)
					}
				})
			}
		}
	}
}

// relayedConn is an allocation by pion's client.
func relayedConn(t *testing.T, s *Server, network, user string) net.PacketConn {
	t.Helper()
	packets, server := dialed(t, s, network)
	credentials := Issue(secret, user, "", "", time.Now(), time.Hour)
	client, err := turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: server, TURNServerAddr: server, Conn: packets,
		Username: credentials.Username, Password: credentials.Password,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Listen(); err != nil {
		t.Fatal(err)
	}
	relayed, err := client.Allocate()
	t.Cleanup(func() {
		if relayed != nil {
			_ = relayed.Close()
		}
		client.Close()
		_ = packets.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	return relayed
}

func TestSmallChannelData(t *testing.T) {
	for carrier, portable := range carriers {
		t.Run(carrier, func(t *testing.T) {
			for _, network := range []string{"udp", "tcp"} {
				s, _ := start(t, func(c *Config) { c.Portable = portable })
				plain, err := net.ListenPacket("udp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer plain.Close()
				k := talk(t, s, network)
				relayed := k.allocate()
				k.want(0, stun.MethodChannelBind, channel(0x4001), peer(plain.LocalAddr().String()))
				k.write([]byte{0x40, 1, 0, 1, 'x', 0, 0, 0})
				got := make([]byte, 100)
				_ = plain.SetReadDeadline(time.Now().Add(long))
				n, from, err := plain.ReadFrom(got)
				if err != nil || string(got[:n]) != "x" || from.String() != relayed.String() {
					t.Fatalf("%s: got %q from %v, %v, want x from %v", network, got[:n], from, err, relayed)
				}
				if _, err := plain.WriteTo([]byte("yz"), from); err != nil {
					t.Fatal(err)
				}
				want := []byte{0x40, 1, 0, 2, 'y', 'z'}
				if network == "tcp" { // RFC 8656 §12.5: padded on streams alone
					want = append(want, 0, 0)
				}
				if got := k.read(long); !bytes.Equal(got, want) {
					t.Errorf("%s: got %x, want %x", network, got, want)
				}
			}
		})
	}
}

func TestCredentials(t *testing.T) {
	good := Issue(secret, "anna", "call", "caller", time.Now(), time.Hour)
	tests := []struct {
		name        string
		credentials Credentials
		want        stun.ErrorCode
	}{
		{"good", good, 0},
		{"of the older secret", Issue(older, "anna", "", "", time.Now(), time.Hour), 0},
		{"expired", Issue(secret, "anna", "", "", time.Now().Add(-time.Hour), time.Minute), 401},
		{"of a foreign secret", Issue(bytes.Repeat([]byte("f"), 32), "anna", "", "", time.Now(), time.Hour), 401},
		{"wrong password", Credentials{Username: good.Username, Password: "wrong"}, 401},
		{"no password", Credentials{Username: good.Username}, 401},
		{"later expiry", Credentials{Username: "9" + good.Username, Password: good.Password}, 401},
		{"another user's name", Credentials{
			Username: strings.Replace(good.Username, "YW5uYQ", "YmVu", 1), Password: good.Password,
		}, 401},
		{"malformed", Credentials{Username: "anna", Password: good.Password}, 401},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, network := range []string{"udp", "tcp"} {
				s, reg := start(t, nil)
				k := talk(t, s, network)
				k.credentials = test.credentials
				k.want(test.want, stun.MethodAllocate, udp)
				want := 0.0
				if test.want != 0 {
					want = 1
				}
				if got := metric(t, reg, "refused_total", "credentials"); got != want {
					t.Errorf("refused credentials = %v, want %v", got, want)
				}
			}
		})
	}
}

func TestCredentialsOutlivedByAllocation(t *testing.T) {
	s, _ := start(t, nil)
	k := talk(t, s, "udp")
	k.allocate()
	k.credentials = Issue(secret, "anna", "", "", time.Now().Add(-2*time.Hour), time.Hour)
	k.want(0, stun.MethodRefresh)
	k.want(0, stun.MethodCreatePermission, peer("127.0.0.1:5000"))
	k.want(401, stun.MethodAllocate, udp)
	k.credentials = Issue(secret, "anna", "", "", time.Now().Add(-24*time.Hour), time.Hour)
	k.want(401, stun.MethodRefresh)
}

func TestForbiddenPeer(t *testing.T) {
	for carrier, portable := range carriers {
		t.Run(carrier, func(t *testing.T) {
			for _, network := range []string{"udp", "tcp"} {
				t.Run(network, func(t *testing.T) {
					s, reg := start(t, func(c *Config) { c.Portable = portable })
					k := talk(t, s, network)
					k.allocate()
					k.want(403, stun.MethodCreatePermission, peer("10.0.0.1:5000"))
					k.want(403, stun.MethodCreatePermission, peer("169.254.169.254:5000"))
					k.want(403, stun.MethodChannelBind, channel(0x4000), peer("192.168.0.1:5000"))
					// On a host that is allowed there are ports that are not.
					k.want(403, stun.MethodChannelBind, channel(0x4001), peer("127.0.0.1:53"))
					k.want(403, stun.MethodChannelBind, channel(0x4001), toward(s.Addr()))
					eventually(t, reg, 5, "refused_total", "peer")

					// A permission knows no port.
					k.want(0, stun.MethodCreatePermission, peer("127.0.0.1:53"))
					data := raw{stun.AttrData, "data"}
					k.write(k.message(send, toward(s.Addr()), data).Raw)
					k.write(k.message(send, peer("127.0.0.1:53"), data).Raw)
					k.write([]byte{0x40, 1, 0, 4, 'd', 'a', 't', 'a'})
					k.write(k.message(send, peer("10.0.0.1:5000"), data).Raw)
					k.want(0, stun.MethodRefresh)
					eventually(t, reg, 2, "dropped_total", "peer")
					eventually(t, reg, 1, "dropped_total", "channel")
					eventually(t, reg, 1, "dropped_total", "permission")
					if got := metric(t, reg, "packets_total", "up"); got != 0 {
						t.Errorf("packets up = %v, want 0", got)
					}
				})
			}
		})
	}
}

func TestForbiddenSource(t *testing.T) {
	// Above the ports that the system hands out.
	s, reg := start(t, func(c *Config) { c.Allow, c.MinPort = []netip.Prefix{}, 61_000 })
	k := talk(t, s, "udp")
	relayed := k.allocate()
	k.want(0, stun.MethodCreatePermission, peer("127.0.0.1:5000"))
	plain, err := net.Dial("udp", relayed.String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := plain.Write([]byte("data")); err != nil {
		t.Fatal(err)
	}
	eventually(t, reg, 1, "dropped_total", "peer")
	if got := metric(t, reg, "packets_total", "down"); got != 0 {
		t.Errorf("packets down = %v, want 0", got)
	}
}

func TestUnsupported(t *testing.T) {
	s, reg := start(t, nil)
	k := talk(t, s, "udp")
	for _, test := range []struct {
		want       stun.ErrorCode
		attributes []stun.Setter
	}{
		{442, []stun.Setter{raw{stun.AttrRequestedTransport, "\x06\x00\x00\x00"}}}, // RFC 6062
		{442, []stun.Setter{raw{stun.AttrRequestedTransport, "\x84\x00\x00\x00"}}}, // SCTP
		{400, nil},
		{508, []stun.Setter{udp, raw{stun.AttrEvenPort, "\x80"}}},
		{508, []stun.Setter{udp, raw{stun.AttrReservationToken, "12345678"}}},
		{400, []stun.Setter{udp, raw{stun.AttrEvenPort, "\x80"}, raw{stun.AttrReservationToken, "12345678"}}},
		{440, []stun.Setter{udp, raw{stun.AttrRequestedAddressFamily, "\x02\x00\x00\x00"}}}, // IPv6
		{440, []stun.Setter{udp, raw{stun.AttrRequestedAddressFamily, "\x03\x00\x00\x00"}}},
		{400, []stun.Setter{udp, raw{stun.AttrRequestedAddressFamily, "\x01"}}},
		{400, []stun.Setter{
			udp, raw{stun.AttrRequestedAddressFamily, "\x01\x00\x00\x00"}, raw{stun.AttrType(wire.AttrAdditionalAddressFamily), "\x02\x00\x00\x00"},
		}},
		{400, []stun.Setter{udp, raw{stun.AttrType(wire.AttrAdditionalAddressFamily), "\x01\x00\x00\x00"}}},
		{400, []stun.Setter{udp, raw{stun.AttrLifetime, "\x00"}}},
		{420, []stun.Setter{udp, raw{0x7fff, "?"}}},
	} {
		k.want(test.want, stun.MethodAllocate, test.attributes...)
	}
	k.write(k.message(stun.NewType(stun.MethodConnect, stun.ClassRequest), peer("127.0.0.1:5000")).Raw) // RFC 6062
	eventually(t, reg, 1, "dropped_total", "shape")
	if got := metric(t, reg, "allocations"); got != 0 {
		t.Errorf("allocations = %v, want 0", got)
	}
}

func TestNoSTUN(t *testing.T) {
	for carrier, portable := range carriers {
		t.Run(carrier, func(t *testing.T) {
			s, reg := start(t, func(c *Config) { c.Portable = portable })
			for _, garbage := range []string{
				"GET / HTTP/1.1\r\n\r\n", "\xff\xff\xff\xff", "\x80\x00\x00\x04data", "\x00\x01\x00\x07\x21\x12\xa4\x42abcdefghijkl",
				"\x00\x01\x00\x00\x21\x12\xa4\x43abcdefghijkl", "\x01\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl",
				"\x40\x00\x00\x04data", "",
			} {
				k := talk(t, s, "udp")
				k.write([]byte(garbage))
				if response := k.exchange(k.message(stun.BindingRequest)); response == nil {
					t.Errorf("no answer after %q", garbage)
				}
			}
			if got := metric(t, reg, "dropped_total", "shape") + metric(t, reg, "dropped_total", "unknown"); got != 8 {
				t.Errorf("refused = %v, want 8", got)
			}
		})
	}
}

func TestRegisterTwice(t *testing.T) {
	reg := prometheus.NewRegistry()
	s, err := New(bound(t, testConfig()), nil, reg)
	if err != nil {
		t.Fatal(err)
	}
	defer runOut(t, s)
	if _, err := New(bound(t, testConfig()), nil, reg); err == nil {
		t.Error("two servers share a registry")
	}
}

func TestRunLeavesNothing(t *testing.T) {
	for carrier, portable := range carriers {
		t.Run(carrier, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			cfg := testConfig()
			cfg.Portable = portable
			cfg.MinPort = 61_000 // above the ports that the system hands out
			s, err := New(bound(t, cfg), nil, prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() {
				if err := s.Run(ctx); err != nil {
					t.Errorf("Run = %v, want nil", err)
				}
			})
			var relayed []netip.AddrPort
			var talkers []*talker
			for _, network := range []string{"udp", "tcp", "udp", "tcp"} {
				k := talk(t, s, network)
				relayed = append(relayed, k.allocate())
				k.want(0, stun.MethodChannelBind, channel(0x4000), peer("127.0.0.1:5000"))
				talkers = append(talkers, k)
			}
			talk(t, s, "tcp").write([]byte{0, 1})
			cancel()
			running.Wait()
			for _, at := range append(relayed, s.Addr()) {
				conn, err := net.ListenPacket("udp", at.String())
				if err != nil {
					t.Errorf("still open: %v", err)
					continue
				}
				_ = conn.Close()
			}
			for _, k := range talkers {
				_ = k.Close()
			}
		})
	}
}
