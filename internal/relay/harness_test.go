package relay

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/stun/v4"
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
	return Config{Secrets: [][]byte{secret, older}, ChallengeBurst: 10_000}
}

// listen opens a listener; "[::]:0" is one on all addresses.
func listen(t testing.TB, at string) net.Listener {
	t.Helper()
	l, err := Listen(netip.MustParseAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// bound has a listener on loopback, unless it has one already.
func bound(t testing.TB, cfg Config) Config {
	t.Helper()
	if cfg.Listener == nil {
		cfg.Listener = listen(t, "127.0.0.1:0")
	}
	return cfg
}

// start serves until the test ends.
func start(t *testing.T, change func(*Config)) (*Server, *prometheus.Registry) {
	t.Helper()
	cfg := testConfig()
	if change != nil {
		change(&cfg)
	}
	reg := prometheus.NewRegistry()
	s, err := New(bound(t, cfg), slog.New(slog.DiscardHandler), reg)
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
	if _, datagrams := k.Conn.(*net.UDPConn); !datagrams {
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
