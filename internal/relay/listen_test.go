package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/stun/v4"

	"github.com/visavis/visavis/internal/relay/wire"
)

func TestAddressInUse(t *testing.T) {
	for carrier, portable := range carriers {
		t.Run(carrier, func(t *testing.T) {
			s, _ := start(t, func(c *Config) { c.Portable = portable })
			address := s.Addr().String()
			for _, host := range []netip.Addr{s.Addr().Addr(), netip.IPv6Unspecified()} {
				at := netip.AddrPortFrom(host, s.Addr().Port())
				_, err := Listen(at)
				if err == nil {
					t.Fatalf("a second server on %s has a listener", at)
				}
				if got := err.Error(); !strings.Contains(got, fmt.Sprint(":", s.Addr().Port())) || !strings.Contains(got, "in use") {
					t.Errorf("error = %q, want one that names %s and says that it is in use", got, address)
				}
			}

			// An address of its own: connections of other tests from 127.0.0.1 may have the port for TCP.
			taken, err := net.ListenPacket("udp", "127.0.0.2:0")
			if err != nil {
				t.Fatal(err)
			}
			defer taken.Close()
			cfg := testConfig()
			cfg.Portable = portable
			at := taken.LocalAddr().String()
			cfg.Listener = listen(t, at)
			_, err = New(cfg, nil, nil)
			if want := "relay: listen udp " + at + ": bind: address already in use"; err == nil || err.Error() != want {
				t.Errorf("error = %v, want %s", err, want)
			}
			tcp, err := net.Listen("tcp", at)
			if err != nil {
				t.Fatalf("New left the listener open: %v", err)
			}
			_ = tcp.Close()
		})
	}
}

func TestAddresses(t *testing.T) {
	tests := []struct {
		listen, address string
		want            string // before the port; empty for whatever an interface has
		loopback        bool   // peers allowed
	}{
		{"127.0.0.1:0", "", "127.0.0.1", true},
		{"[::1]:0", "", "[::1]", true},
		{"127.0.0.1:0", "5.6.7.8", "5.6.7.8", true},
		{"[::]:0", "5.6.7.8", "5.6.7.8", false},
		{"[::]:0", "::ffff:5.6.7.8", "5.6.7.8", false},
		{"0.0.0.0:0", "2a00::1", "[2a00::1]", false},
		{"[::]:0", "", "", false},
	}
	needs(t, "[::1]:0")
	for _, test := range tests {
		cfg := testConfig()
		cfg.Listener = listen(t, test.listen)
		if test.address != "" {
			cfg.Address = netip.MustParseAddr(test.address)
		}
		s, err := New(bound(t, cfg), nil, nil)
		if err != nil {
			t.Errorf("New on %s: %v", test.listen, err)
			continue
		}
		want := fmt.Sprintf("%s:%d", test.want, s.Addr().Port())
		if test.want == "" {
			want = netip.AddrPortFrom(s.Addr().Addr(), s.Addr().Port()).String()
			if ip := s.Addr().Addr(); !ip.IsGlobalUnicast() && !ip.IsLoopback() {
				t.Errorf("address of %s = %s, want one that clients reach", test.listen, ip)
			}
		}
		if got := s.Addr().String(); got != want || s.Addr().Port() == 0 {
			t.Errorf("address of %s = %s, want %s", test.listen, got, want)
		}
		urls := []string{"stun:" + want, "turn:" + want + "?transport=udp", "turn:" + want + "?transport=tcp"}
		if diff := cmp.Diff(s.URLs(), urls); diff != "" {
			t.Errorf("URLs, - got, + want:\n%s", diff)
		}
		if got := s.router.policy.Load().peerAllowed(netip.MustParseAddrPort("127.0.0.2:5000")); got != test.loopback {
			t.Errorf("loopback peers with %s: %v, want %v", test.listen, got, test.loopback)
		}
		runOut(t, s)
	}
}

func TestAllocateElsewhere(t *testing.T) {
	needs(t, "[::1]:0")
	for _, at := range []string{"[::]:0", "[::1]:0"} {
		s, _ := start(t, func(c *Config) {
			if c.Listener = listen(t, at); at == "[::]:0" {
				c.Address = netip.MustParseAddr("127.0.0.1")
			}
		})
		for _, network := range []string{"udp", "tcp"} {
			k := talk(t, s, network)
			if got, want := k.allocate().Addr(), s.Addr().Addr(); got != want {
				t.Errorf("relayed address = %s, want one on %s", got, want)
			}
		}
	}
}

// A server on all addresses, with relayed addresses of both families, and clients of both.
func TestBothFamilies(t *testing.T) {
	needs(t, "[::1]:0")
	for carrier, portable := range carriers {
		for _, host := range []string{"127.0.0.1", "::1"} {
			t.Run(carrier+host, func(t *testing.T) {
				s, _ := start(t, func(c *Config) {
					c.Portable, c.Listener = portable, listen(t, "[::]:0")
					c.Address, c.OtherAddress = netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")
					c.Allow = prefixes("127.0.0.0/8", "::1/128")
				})
				conn, err := net.Dial("udp", net.JoinHostPort(host, fmt.Sprint(s.Addr().Port())))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				k := &talker{t: t, Conn: conn, credentials: Issue(secret, "anna", "", "", time.Now(), time.Hour)}
				relayed := relayedOf(t, k.want(0, stun.MethodAllocate, udp, family(stun.AttrType(wire.AttrAdditionalAddressFamily), "\x02")))
				if len(relayed) != 2 || !relayed[0].Addr().Is4() || !relayed[1].Addr().Is6() {
					t.Fatalf("relayed addresses = %v, want one of each family", relayed)
				}
				for i, at := range []string{"127.0.0.1:0", "[::1]:0"} {
					far, err := net.ListenPacket("udp", at)
					if err != nil {
						t.Fatal(err)
					}
					defer far.Close()
					number := uint16(0x4000 + i)
					k.want(0, stun.MethodChannelBind, channel(number), peer(far.LocalAddr().String()))
					frame := []byte{0x40, byte(i), 0, 4, 'd', 'a', 't', 'a'}
					k.write(frame)
					_ = far.SetReadDeadline(time.Now().Add(long))
					got := make([]byte, 100)
					n, from, err := far.ReadFrom(got)
					if err != nil || string(got[:n]) != "data" || from.String() != relayed[i].String() {
						t.Fatalf("got %q from %v, %v, want data from %v", got[:n], from, err, relayed[i])
					}
					if _, err := far.WriteTo([]byte("data"), from); err != nil {
						t.Fatal(err)
					}
					if got := k.read(long); !bytes.Equal(got, frame) {
						t.Errorf("got %x, want %x", got, frame)
					}
				}
			})
		}
	}
}

func TestConfigRefused(t *testing.T) {
	tests := map[string]func(*Config){
		"no secret":                            func(c *Config) { c.Secrets = nil },
		"secret 2 has 31":                      func(c *Config) { c.Secrets = [][]byte{secret, secret[1:]} },
		"MinPort: 9–8 is no range":             func(c *Config) { c.MinPort, c.MaxPort = 9, 8 },
		"MinPort: 500–65535 is no range":       func(c *Config) { c.MinPort = 500 },
		"realm":                                func(c *Config) { c.Realm = "example.org" },
		`Address: "::" is no IP address`:       func(c *Config) { c.Address = netip.IPv6Unspecified() },
		"Allow: ":                              func(c *Config) { c.Allow = []netip.Prefix{{}} },
		"Permissions: -1 is not":               func(c *Config) { c.Permissions = -1 },
		"Workers: 65 is not":                   func(c *Config) { c.Workers = 65 },
		"Coalesce: a packet may wait":          func(c *Config) { c.Coalesce = time.Second },
		`OtherAddress: "::" is no IP address`:  func(c *Config) { c.OtherAddress = netip.IPv6Unspecified() },
		"OtherAddress: 9.9.9.9 is of the same": func(c *Config) { c.OtherAddress = netip.MustParseAddr("9.9.9.9") },
		"no listener":                          func(c *Config) { _ = c.Listener.Close(); c.Listener = nil },
		"TLS without":                          func(c *Config) { c.TLSListener = listen(t, "127.0.0.1:0") },
	}
	for want, change := range tests {
		cfg := bound(t, testConfig())
		change(&cfg)
		if _, err := New(cfg, nil, nil); err == nil || !strings.HasPrefix(err.Error(), "relay: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v, want one with %q", err, want)
		}
	}
}

// A port that Listen chooses is free for UDP, too, and 0.0.0.0 is all addresses of IPv4 and none of IPv6.
func TestListen(t *testing.T) {
	tcp := listen(t, "0.0.0.0:0")
	defer tcp.Close()
	_, port, _ := net.SplitHostPort(tcp.Addr().String())
	udp, err := net.ListenPacket("udp4", net.JoinHostPort("0.0.0.0", port))
	if err != nil {
		t.Fatalf("the port is not free for UDP: %v", err)
	}
	_ = udp.Close()
	if conn, err := net.Dial("tcp", net.JoinHostPort("::1", port)); err == nil {
		_ = conn.Close()
		t.Error("0.0.0.0 takes IPv6")
	}
}

// A connection that somebody else has accepted is served like one of the relay's own, with and without TLS.
func TestServeConn(t *testing.T) {
	shared, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	cfg := bound(t, testConfig())
	config := certificate(t)
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &config.Certificates[0], nil }
	s, err := New(cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	// hand connects to the port that is shared, and hands the other end to the relay.
	hand := func(secure bool) net.Conn {
		t.Helper()
		client, err := net.Dial("tcp", shared.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		accepted, err := shared.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s.ServeConn(accepted, secure)
		if secure {
			return tls.Client(client, &tls.Config{InsecureSkipVerify: true})
		}
		return client
	}
	for _, secure := range []bool{false, true} {
		k := &talker{t: t, Conn: hand(secure), credentials: Issue(secret, "anna", "", "", time.Now(), time.Hour)}
		if got, want := k.allocate().Addr(), s.Addr().Addr(); got != want {
			t.Errorf("TLS %v: relayed address %s, want one on %s", secure, got, want)
		}
		want := map[bool]string{false: "tcp", true: "tls"}[secure]
		if all := s.Allocations(); all[len(all)-1].Transport != want || all[len(all)-1].Client.String() != k.LocalAddr().String() {
			t.Errorf("TLS %v: the allocation is of %+v, want %s by %s", secure, all[len(all)-1], k.LocalAddr(), want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	late := hand(false)
	_ = late.SetReadDeadline(time.Now().Add(long))
	if n, err := late.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the end a client reads %d bytes, %v; want the end of its connection", n, err)
	}
}
