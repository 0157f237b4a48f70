package relay

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/visavis/visavis/internal/relay/wire"
)

const long = 5 * time.Second // nothing takes this long unless it fails

var (
	secret = bytes.Repeat([]byte("s"), 32)
	older  = bytes.Repeat([]byte("o"), 32)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testConfig() Config {
	return Config{Listen: "127.0.0.1:0", Secrets: [][]byte{secret, older}, ChallengeBurst: 10_000}
}

// start serves until the test ends.
func start(t *testing.T, change func(*Config)) (*Server, *prometheus.Registry) {
	t.Helper()
	cfg := testConfig()
	if change != nil {
		change(&cfg)
	}
	reg := prometheus.NewRegistry()
	s, err := New(cfg, slog.New(slog.DiscardHandler), reg)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	return s, reg
}

func run(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
}

// runOut only closes what New opened.
func runOut(t testing.TB, s *Server) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
}

// needs skips where the machine has no IPv6, but never in CI.
func needs(t *testing.T, listen string) {
	t.Helper()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		lacks(t, err)
	}
	_ = l.Close()
}

// lacks skips a test that this machine cannot run. In CI, where nobody reads of it, that is an error.
func lacks(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
}

// metric is the value of one series, whose labels have the given values.
func metric(t *testing.T, reg *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var have []string
			for _, pair := range m.GetLabel() {
				have = append(have, pair.GetValue())
			}
			if family.GetName() == "visavis_relay_"+name && cmp.Equal(have, labels) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// dropped tells all causes that there were.
func dropped(s *Server) map[string]uint64 {
	all := make(map[string]uint64)
	for c := range s.metrics.drops {
		if n := s.metrics.drops[c].Load(); n > 0 {
			all[causeNames[c]] += n
		}
	}
	return all
}

// eventually polls until the metric has a value.
func eventually(t *testing.T, reg *prometheus.Registry, want float64, name string, labels ...string) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var got float64
	for deadline := time.Now().Add(long); time.Now().Before(deadline); <-tick.C {
		if got = metric(t, reg, name, labels...); got == want {
			return
		}
	}
	t.Errorf("%s %v = %v, want %v", name, labels, got, want)
}

// A talker speaks STUN by hand, on UDP or TCP.
type talker struct {
	t *testing.T
	net.Conn
	credentials Credentials
	realm       stun.Realm
	nonce       stun.Nonce
}

func talk(t *testing.T, s *Server, network string) *talker {
	t.Helper()
	conn, err := net.Dial(network, s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &talker{t: t, Conn: conn, credentials: Issue(secret, "anna", "", "", time.Now(), time.Hour)}
}

func (k *talker) write(b []byte) {
	k.t.Helper()
	if _, err := k.Write(b); err != nil {
		k.t.Fatal(err)
	}
}

// read returns the next message, or nil if none comes before the deadline or the connection is closed.
func (k *talker) read(wait time.Duration) []byte {
	k.t.Helper()
	_ = k.SetReadDeadline(time.Now().Add(wait))
	b := make([]byte, 2000)
	var n int
	var err error
	if _, stream := k.Conn.(*net.TCPConn); stream {
		n, err = wire.ReadFrame(k.Conn, b)
	} else {
		n, err = k.Read(b)
	}
	if err != nil {
		return nil
	}
	return b[:n]
}

// message is not signed.
func (k *talker) message(kind stun.MessageType, attributes ...stun.Setter) *stun.Message {
	k.t.Helper()
	m, err := stun.Build(append([]stun.Setter{stun.TransactionID, kind}, attributes...)...)
	if err != nil {
		k.t.Fatal(err)
	}
	return m
}

// exchange sends a request and returns what answers it, or nil.
func (k *talker) exchange(request *stun.Message) *stun.Message {
	k.t.Helper()
	k.write(request.Raw)
	for {
		b := k.read(long)
		if b == nil {
			return nil
		}
		m := &stun.Message{Raw: b}
		if m.Decode() == nil && m.TransactionID == request.TransactionID {
			return m
		}
	}
}

// ask sends a signed request and returns the answer and its error code, or 0.
func (k *talker) ask(method stun.Method, attributes ...stun.Setter) (*stun.Message, stun.ErrorCode) {
	k.t.Helper()
	kind := stun.NewType(method, stun.ClassRequest)
	if k.nonce == nil {
		challenge := k.exchange(k.message(allocate, udp))
		if challenge == nil {
			k.t.Fatal("no challenge")
		}
		if err := challenge.Parse(&k.realm, &k.nonce); err != nil {
			k.t.Fatal(err)
		}
	}
	key := stun.NewLongTermIntegrity(k.credentials.Username, string(k.realm), k.credentials.Password)
	username := stun.NewUsername(k.credentials.Username)
	response := k.exchange(k.message(kind, append(attributes, username, k.realm, k.nonce, key)...))
	if response == nil {
		return nil, -1
	}
	var code stun.ErrorCodeAttribute
	if response.Type.Class == stun.ClassErrorResponse {
		if err := code.GetFrom(response); err != nil {
			k.t.Fatal(err)
		}
	}
	return response, code.Code
}

func (k *talker) want(want stun.ErrorCode, method stun.Method, attributes ...stun.Setter) *stun.Message {
	k.t.Helper()
	response, got := k.ask(method, attributes...)
	if got != want {
		k.t.Errorf("%s is answered with %d, want %d", method, got, want)
	}
	return response
}

// allocate returns the relayed address.
func (k *talker) allocate() netip.AddrPort {
	k.t.Helper()
	response := k.want(0, stun.MethodAllocate, udp)
	var relayed stun.XORMappedAddress
	if err := relayed.GetFromAs(response, stun.AttrXORRelayedAddress); err != nil {
		k.t.Fatal(err)
	}
	ip, _ := netip.AddrFromSlice(relayed.IP)
	return netip.AddrPortFrom(ip, uint16(relayed.Port))
}

type raw struct {
	kind  stun.AttrType
	value string
}

func (r raw) AddTo(m *stun.Message) error {
	m.Add(r.kind, []byte(r.value))
	return nil
}

type toward netip.AddrPort

func (p toward) AddTo(m *stun.Message) error {
	peer := netip.AddrPort(p)
	x := stun.XORMappedAddress{IP: peer.Addr().AsSlice(), Port: int(peer.Port())}
	return x.AddToAs(m, stun.AttrXORPeerAddress)
}

func peer(text string) toward { return toward(netip.MustParseAddrPort(text)) }

func channel(n uint16) raw {
	return raw{stun.AttrChannelNumber, string(binary.BigEndian.AppendUint16(nil, n)) + "\x00\x00"}
}

var (
	allocate = stun.NewType(stun.MethodAllocate, stun.ClassRequest)
	send     = stun.NewType(stun.MethodSend, stun.ClassIndication)
	udp      = raw{stun.AttrRequestedTransport, "\x11\x00\x00\x00"}
)

func TestBinding(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0"} {
		for _, network := range []string{"udp", "tcp"} {
			for _, fingerprint := range []bool{false, true} {
				t.Run(fmt.Sprint(listen, network, fingerprint), func(t *testing.T) {
					needs(t, listen)
					s, _ := start(t, func(c *Config) { c.Listen = listen })
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
	for carrier, plainly := range carriers {
		t.Run(carrier, func(t *testing.T) {
			for _, network := range []string{"udp", "tcp"} {
				s, _ := start(t, func(c *Config) { c.Plain = plainly })
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
	for carrier, plainly := range carriers {
		t.Run(carrier, func(t *testing.T) {
			for _, network := range []string{"udp", "tcp"} {
				t.Run(network, func(t *testing.T) {
					s, reg := start(t, func(c *Config) { c.Plain = plainly })
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

func TestSpinningFrames(t *testing.T) {
	s, reg := start(t, nil)
	closed := 0.0
	for name, frame := range spinning {
		k := talk(t, s, "tcp")
		k.write(frame)
		_ = k.SetReadDeadline(time.Now().Add(long))
		if n, err := k.Read(make([]byte, 1)); n != 0 || errors.Is(err, io.ErrNoProgress) || isTimeout(err) {
			t.Errorf("%s: read %d bytes, %v, want a closed connection", name, n, err)
		}
		closed++
		eventually(t, reg, closed, "dropped_total", "length")
		for _, network := range []string{"udp", "tcp"} {
			k := talk(t, s, network)
			if k.exchange(k.message(stun.BindingRequest)) == nil {
				t.Errorf("%s: no answer over %s afterwards", name, network)
			}
		}
	}
}

// A client that speaks TLS to the port for TCP is hung up on at its first byte, not when its time is over.
func TestTLSWithoutTLS(t *testing.T) {
	s, reg := start(t, nil)
	k := talk(t, s, "tcp")
	k.write([]byte{0x16, 3, 1, 0, 0xf8, 1})
	_ = k.SetReadDeadline(time.Now().Add(patience / 2))
	if n, err := k.Read(make([]byte, 1)); n != 0 || isTimeout(err) {
		t.Errorf("read %d bytes, %v, want a closed connection", n, err)
	}
	eventually(t, reg, 1, "dropped_total", "shape")
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func TestNoSTUN(t *testing.T) {
	for carrier, plainly := range carriers {
		t.Run(carrier, func(t *testing.T) {
			s, reg := start(t, func(c *Config) { c.Plain = plainly })
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

func TestLongFrameIsReadOver(t *testing.T) {
	s, reg := start(t, nil)
	k := talk(t, s, "tcp")
	k.write(append([]byte{0x40, 0, 0x70, 0}, make([]byte, 0x7000)...))
	if k.exchange(k.message(stun.BindingRequest)) == nil {
		t.Error("no answer after a long frame")
	}
	eventually(t, reg, 1, "dropped_total", "length")
}

func TestSlowStreams(t *testing.T) {
	cfg := testConfig()
	reg := prometheus.NewRegistry()
	s, err := New(cfg, nil, reg)
	if err != nil {
		t.Fatal(err)
	}
	s.patience = 100 * time.Millisecond
	run(t, s)

	silent, half, asking := talk(t, s, "tcp"), talk(t, s, "tcp"), talk(t, s, "tcp")
	half.write([]byte{0, 1})
	asking.exchange(asking.message(stun.BindingRequest))
	for _, k := range []*talker{silent, half, asking} {
		_ = k.SetReadDeadline(time.Now().Add(long))
		if _, err := k.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("read: %v, want a closed connection", err)
		}
	}
	eventually(t, reg, 3, "refused_total", "timeout")
	eventually(t, reg, 0, "tcp_connections")
}

func TestStreamWithAllocationMayPause(t *testing.T) {
	cfg := testConfig()
	reg := prometheus.NewRegistry()
	s, err := New(cfg, nil, reg)
	if err != nil {
		t.Fatal(err)
	}
	s.patience = time.Second
	run(t, s)
	k := talk(t, s, "tcp")
	k.allocate()
	if b := k.read(s.patience * 5 / 4); b != nil {
		t.Errorf("got %x, want nothing", b)
	}
	k.want(0, stun.MethodRefresh)
	_ = k.Close()
	eventually(t, reg, 0, "allocations")
	eventually(t, reg, 0, "tcp_connections")
}

// A source that is full is no lock: a newcomer takes the place of the oldest connection that has come to nothing.
func TestConnectionsAreBounded(t *testing.T) {
	for name, bound := range map[string]func(*Config){
		"of a source": func(c *Config) { c.SourceConnections = 3 },
		"of all":      func(c *Config) { c.MaxConnections = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			s, reg := start(t, bound)
			closed := func(k *talker) {
				t.Helper()
				_ = k.SetReadDeadline(time.Now().Add(long))
				if _, err := k.Read(make([]byte, 1)); err == nil || isTimeout(err) {
					t.Errorf("read: %v, want a closed connection", err)
				}
			}
			user := talk(t, s, "tcp")
			user.allocate()
			idle := []*talker{talk(t, s, "tcp"), talk(t, s, "tcp")}
			for _, k := range idle {
				if k.exchange(k.message(stun.BindingRequest)) == nil {
					t.Error("a connection within the bound is refused")
				}
			}
			for _, k := range idle {
				talk(t, s, "tcp").allocate()
				closed(k)
			}
			eventually(t, reg, 3, "tcp_connections")
			closed(talk(t, s, "tcp")) // all others are in use
			user.want(0, stun.MethodRefresh)
			eventually(t, reg, 3, "refused_total", "connections")
			_ = user.Close()
			eventually(t, reg, 2, "tcp_connections")
			talk(t, s, "tcp").allocate()
		})
	}
}

// A connection that a proxy introduces while the server stops must not keep that waiting.
func TestAConnectionEndsWithItsServer(t *testing.T) {
	s, reg := start(t, nil)
	for _, when := range []string{"before it is admitted", "after it is admitted"} {
		client, socket := tcpPair(t)
		ctx, stop := context.WithCancel(t.Context())
		if when == "before it is admitted" {
			stop()
		}
		s.admit(ctx, socket, socket, client.LocalAddr().(*net.TCPAddr).AddrPort(), false)
		stop()
		_ = client.SetReadDeadline(time.Now().Add(long))
		if _, err := client.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("stopped %s: read: %v, want a closed connection", when, err)
		}
		eventually(t, reg, 0, "tcp_connections")
	}
}

// tcpPair is both ends of a connection.
func tcpPair(t *testing.T) (client net.Conn, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return client, conn.(*net.TCPConn)
}

func TestChallengesAreBounded(t *testing.T) {
	for carrier, plainly := range carriers {
		t.Run(carrier, func(t *testing.T) {
			const burst, sent = 5, 100
			s, reg := start(t, func(c *Config) { c.Plain, c.ChallengeRate, c.ChallengeBurst = plainly, 1, burst })
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
	for carrier, plainly := range carriers {
		t.Run(carrier, func(t *testing.T) {
			s, reg := start(t, func(c *Config) {
				c.Plain = plainly
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
	for carrier, plainly := range carriers {
		t.Run(carrier, func(t *testing.T) {
			s, reg := start(t, func(c *Config) {
				c.Plain = plainly
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

func TestAddressInUse(t *testing.T) {
	for carrier, plainly := range carriers {
		t.Run(carrier, func(t *testing.T) {
			s, _ := start(t, func(c *Config) { c.Plain = plainly })
			address := s.Addr().String()
			for _, host := range []string{"127.0.0.1", ""} {
				cfg := testConfig()
				cfg.Plain = plainly
				cfg.Listen = net.JoinHostPort(host, fmt.Sprint(s.Addr().Port()))
				_, err := New(cfg, nil, nil)
				if err == nil {
					t.Fatalf("second server on %s starts", cfg.Listen)
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
			cfg.Plain = plainly
			cfg.Listen = taken.LocalAddr().String()
			_, err = New(cfg, nil, nil)
			if want := "relay: listen udp " + cfg.Listen + ": bind: address already in use"; err == nil || err.Error() != want {
				t.Errorf("error = %v, want %s", err, want)
			}
			tcp, err := net.Listen("tcp", cfg.Listen)
			if err != nil {
				t.Fatalf("New left its TCP socket open: %v", err)
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
		{"localhost:0", "", "127.0.0.1", true},
		{"[::1]:0", "", "[::1]", true},
		{"127.0.0.1:0", "5.6.7.8", "5.6.7.8", true},
		{":0", "5.6.7.8", "5.6.7.8", false},
		{":0", "::ffff:5.6.7.8", "5.6.7.8", false},
		{"0.0.0.0:0", "2a00::1", "[2a00::1]", false},
		{":0", "", "", false},
	}
	needs(t, "[::1]:0")
	for _, test := range tests {
		cfg := testConfig()
		cfg.Listen = test.listen
		if test.address != "" {
			cfg.Address = netip.MustParseAddr(test.address)
		}
		s, err := New(cfg, nil, nil)
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
	for _, listen := range []string{":0", "[::1]:0"} {
		s, _ := start(t, func(c *Config) {
			if c.Listen = listen; listen == ":0" {
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
	for carrier, plainly := range carriers {
		for _, host := range []string{"127.0.0.1", "::1"} {
			t.Run(carrier+host, func(t *testing.T) {
				s, _ := start(t, func(c *Config) {
					c.Plain, c.Listen = plainly, ":0"
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
		"no secret":         func(c *Config) { c.Secrets = nil },
		"secret 2 has 31":   func(c *Config) { c.Secrets = [][]byte{secret, secret[1:]} },
		"relayed ports 9–8": func(c *Config) { c.MinPort, c.MaxPort = 9, 8 },
		"relayed ports 500": func(c *Config) { c.MinPort = 500 },
		"realm":             func(c *Config) { c.Realm = "example.org" },
		"address ::":        func(c *Config) { c.Address = netip.IPv6Unspecified() },
		"allowed range":     func(c *Config) { c.Allow = []netip.Prefix{{}} },
		"permissions is -1": func(c *Config) { c.Permissions = -1 },
		"missing port":      func(c *Config) { c.Listen = "localhost" },
		"coalesce":          func(c *Config) { c.Coalesce = time.Second },
		"other address":     func(c *Config) { c.OtherAddress = netip.IPv6Unspecified() },
		"each family":       func(c *Config) { c.OtherAddress = netip.MustParseAddr("9.9.9.9") },
		"no such host":      func(c *Config) { c.Listen = "no such host:0" },
	}
	for want, change := range tests {
		cfg := testConfig()
		change(&cfg)
		if _, err := New(cfg, nil, nil); err == nil || !strings.HasPrefix(err.Error(), "relay: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v, want one with %q", err, want)
		}
	}
}

func TestRegisterTwice(t *testing.T) {
	reg := prometheus.NewRegistry()
	s, err := New(testConfig(), nil, reg)
	if err != nil {
		t.Fatal(err)
	}
	defer runOut(t, s)
	if _, err := New(testConfig(), nil, reg); err == nil {
		t.Error("two servers share a registry")
	}
}

func TestRunLeavesNothing(t *testing.T) {
	for carrier, plainly := range carriers {
		t.Run(carrier, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			cfg := testConfig()
			cfg.Plain = plainly
			cfg.MinPort = 61_000 // above the ports that the system hands out
			s, err := New(cfg, nil, prometheus.NewRegistry())
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
