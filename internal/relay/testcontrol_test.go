package relay

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"github.com/visavis/visavis/internal/relay/wire"
)

// A testControl is a control plane without sockets and with a clock of its own.
type testControl struct {
	t        testing.TB
	control  *control
	answerer *answerer
	carrier  *fakeCarrier
	now      time.Time
}

// fakeCarrier is a carrier without sockets. It keeps the messages to clients.
type fakeCarrier struct {
	said  [][]byte
	open_ map[*relaySocket]bool
	full  map[byte]bool // by family

	taken func(port uint16) error // may be nil
	tries int
}

func (c *fakeCarrier) open(s *relaySocket, at netip.AddrPort) error {
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

func (c *fakeCarrier) close(s *relaySocket)                         { delete(c.open_, s) }
func (c *fakeCarrier) tend(float64)                                 {}
func (c *fakeCarrier) toClient(_ *endpoint, b []byte)               { c.said = append(c.said, slices.Clone(b)) }
func (c *fakeCarrier) toPeer(*relaySocket, *endpoint, []byte, bool) {}
func (c *fakeCarrier) serve() error                                 { return nil }
func (c *fakeCarrier) stop()                                        {}
func (c *fakeCarrier) finish()                                      {}

var (
	our4 = netip.MustParseAddr("5.6.7.8")
	our6 = netip.MustParseAddr("2a00::1")
)

func newTestControl(t testing.TB, change func(*Config)) *testControl {
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
	d := &testControl{t: t, now: now, carrier: &fakeCarrier{open_: make(map[*relaySocket]bool), full: make(map[byte]bool)}}
	d.control = newControl(cfg, p, newMetrics(), now)
	d.control.carrier = d.carrier
	d.control.relayOn(our4, our4)
	d.control.relayOn(our6, our6)
	d.answerer = newAnswerer(d.control)
	return d
}

// response is what a carrier would send, or nil.
func (d *testControl) response(b []byte, from source) []byte {
	if d.control.admit(b, &from, nil, d.control.clock(d.now)) != none {
		return nil
	}
	return d.answerer.answer(b, from, nil, d.now)
}

func (d *testControl) after(by time.Duration) {
	d.now = d.now.Add(by)
	d.control.expire(d.now)
}

// A testClient sends requests from one address with one set of credentials.
type testClient struct {
	*testControl
	from        source
	credentials Credentials
	nonce       stun.Nonce
	id          [stun.TransactionIDSize]byte // of the next request; zero is a new one
}

func (d *testControl) client(from, user, call, party string) *testClient {
	return &testClient{
		testControl: d, from: source{endpointOf(netip.MustParseAddrPort(from)), overUDP},
		credentials: Issue(secret, user, call, party, d.now, time.Hour),
	}
}

func (p *testClient) tell(m *stun.Message) *stun.Message {
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

func (p *testClient) ask(method stun.Method, attributes ...stun.Setter) (*stun.Message, stun.ErrorCode) {
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

func (p *testClient) want(want stun.ErrorCode, method stun.Method, attributes ...stun.Setter) *stun.Message {
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
