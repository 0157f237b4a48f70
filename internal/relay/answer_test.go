package relay

import (
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"github.com/visavis/visavis/internal/relay/wire"
)

// BenchmarkAnswer is what a request costs from its bytes to those of the answer, without the system calls.
func BenchmarkAnswer(b *testing.B) {
	d := newTestControl(b, nil)
	p := d.client("9.9.9.9:1000", "anna", "a call", "caller")
	p.want(0, stun.MethodAllocate, udp)
	key := stun.NewLongTermIntegrity(p.credentials.Username, "visavis", p.credentials.Password)
	signed := func(method stun.Method, attributes ...stun.Setter) []byte {
		list := append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, attributes...)
		return stun.MustBuild(append(list, stun.NewUsername(p.credentials.Username), stun.NewRealm("visavis"), p.nonce, key)...).Raw
	}
	for name, request := range map[string][]byte{
		"Binding":   stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.Fingerprint).Raw,
		"challenge": stun.MustBuild(stun.TransactionID, allocate, udp).Raw,
		"Refresh":   signed(stun.MethodRefresh),
		"refused":   signed(stun.MethodChannelBind, peer("8.8.8.8:5000")),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d.now = d.now.Add(time.Millisecond) // within the rates of one client
				if d.response(request, p.from) == nil {
					b.Fatal("no answer")
				}
			}
		})
	}
}

func TestNonces(t *testing.T) {
	d := newTestControl(t, nil)
	p := d.client("9.9.9.9:1000", "anna", "", "")
	p.want(0, stun.MethodAllocate, udp)
	nonce := p.nonce

	// Another source, or transport, that has seen it.
	for _, from := range []source{
		{endpointOf(netip.MustParseAddrPort("9.9.9.9:1001")), overUDP},
		{endpointOf(netip.MustParseAddrPort("9.9.9.8:1000")), overUDP},
		{endpointOf(netip.MustParseAddrPort("9.9.9.9:1000")), overTCP},
	} {
		spoofed := d.client("1.1.1.1:1", "anna", "", "")
		spoofed.from, spoofed.nonce = from, nonce
		spoofed.want(438, stun.MethodAllocate, udp)
		spoofed.want(438, stun.MethodRefresh, life(0))
	}
	if got := len(d.control.list()); got != 1 {
		t.Errorf("%d allocations, want 1", got)
	}

	d.after(nonceLife - time.Second)
	p.want(437, stun.MethodRefresh)
	d.after(time.Second)
	response := p.want(438, stun.MethodRefresh)
	if err := p.nonce.GetFrom(response); err != nil {
		t.Fatal(err)
	}
	p.want(437, stun.MethodRefresh)

	for _, forged := range []string{"", "x", string(nonce[:23]), string(nonce) + "x", string(append([]byte("AAAA"), nonce[4:]...))} {
		p.nonce = stun.NewNonce(forged)
		p.want(438, stun.MethodRefresh)
	}
	// From the future, of another server.
	p.nonce = stun.Nonce(newNonces(d.control.nonceKey).append(nil, d.now.Add(time.Minute), p.from))
	p.want(438, stun.MethodRefresh)
	p.nonce = stun.Nonce(newNonces(newNonceKey()).append(nil, d.now, p.from))
	p.want(438, stun.MethodRefresh)
}

func TestForeignCredentials(t *testing.T) {
	d := newTestControl(t, nil)
	p := d.client("9.9.9.9:1000", "anna", "call", "caller")
	p.want(0, stun.MethodAllocate, udp)
	for _, other := range [][3]string{{"ben", "call", "caller"}, {"anna", "other", "caller"}, {"anna", "call", "callee"}} {
		p.credentials = Issue(secret, other[0], other[1], other[2], d.now, time.Hour)
		p.want(441, stun.MethodRefresh, life(0))
		p.want(441, stun.MethodCreatePermission, peer("8.8.8.8:5000"))
		p.want(437, stun.MethodAllocate, udp)
	}
	p.credentials = Issue(older, "anna", "call", "caller", d.now.Add(time.Minute), time.Hour)
	p.want(0, stun.MethodRefresh)
}

func TestUnknownAttributes(t *testing.T) {
	d := newTestControl(t, nil)
	p := d.client("9.9.9.9:1000", "anna", "", "")
	response := p.want(420, stun.MethodAllocate, udp, raw{0x7777, ""}, raw{0x8777, ""}, raw{0x0003, "1234"})
	if got, err := response.Get(stun.AttrUnknownAttributes); err != nil || string(got) != "\x77\x77\x00\x03" {
		t.Errorf("unknown attributes = %x, %v, want 77770003", got, err)
	}
	response = p.tell(stun.MustBuild(stun.TransactionID, stun.BindingRequest, raw{0x7777, "1234"}, raw{0x8777, ""}, raw{0x0003, ""}))
	if got := codeOf(t, response); got != 420 {
		t.Errorf("Binding is answered with %d, want 420", got)
	}
	if got, err := response.Get(stun.AttrUnknownAttributes); err != nil || string(got) != "\x77\x77\x00\x03" {
		t.Errorf("unknown attributes = %x, %v, want 77770003", got, err)
	}
}

func TestUnsignedAttributesAreIgnored(t *testing.T) {
	d := newTestControl(t, nil)
	p := d.client("9.9.9.9:1000", "anna", "", "")
	p.want(0, stun.MethodAllocate, udp)
	key := stun.NewLongTermIntegrity(p.credentials.Username, "visavis", p.credentials.Password)
	m := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodCreatePermission, stun.ClassRequest),
		peer("8.8.8.8:1"), stun.NewUsername(p.credentials.Username), stun.NewRealm("visavis"), p.nonce, key, peer("8.8.4.4:1"))
	if got := codeOf(t, p.tell(m)); got != 0 {
		t.Errorf("answered with %d, want success", got)
	}
	if got := d.control.list()[0].Permissions; len(got) != 1 || got[0] != netip.MustParseAddr("8.8.8.8") {
		t.Errorf("permissions = %v, want 8.8.8.8 alone", got)
	}
}

func TestFingerprints(t *testing.T) {
	d := newTestControl(t, nil)
	p := d.client("9.9.9.9:1000", "anna", "", "")
	m := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.Fingerprint)
	response := p.tell(m)
	if err := stun.Fingerprint.Check(response); err != nil {
		t.Error(err)
	}
	m.Raw[len(m.Raw)-1] ^= 1
	if p.tell(m) != nil {
		t.Error("a wrong fingerprint is answered")
	}
	response = p.want(0, stun.MethodAllocate, udp)
	if response.Contains(stun.AttrFingerprint) {
		t.Error("a fingerprint nobody asked for")
	}
}

func TestUnauthenticatedCostsNothing(t *testing.T) {
	d := newTestControl(t, nil)
	key := stun.NewLongTermIntegrity("anna", "visavis", "wrong")
	stale := stun.NewNonce("AAAAAAAAAAAAAAAAAAAAAAAA")
	packets := [][]byte{
		stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.Fingerprint).Raw,
		stun.MustBuild(stun.TransactionID, allocate, udp).Raw,
		stun.MustBuild(stun.TransactionID, allocate, udp, stun.NewUsername("anna"), stun.NewRealm("visavis"), stale, key).Raw,
		stun.MustBuild(stun.TransactionID, allocate, udp, key).Raw,
		stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodConnect, stun.ClassRequest)).Raw,
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const sent = 100_000
	answered := 0
	for i := range sent {
		from := source{endpoint{Address: wire.Address{IP: [16]byte{10: 0xff, 11: 0xff, 12: 9, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}, Port: uint16(i)}}, overUDP}
		if d.response(packets[i%len(packets)], from) != nil {
			answered++
		}
	}
	runtime.ReadMemStats(&after)
	if got := after.Mallocs - before.Mallocs; got > sent/1000 {
		t.Errorf("%d unauthenticated packets take %d allocations, want none", sent, got)
	}
	if answered < sent/2 {
		t.Errorf("%d of %d are answered: this measures nothing", answered, sent)
	}
	if got := len(d.control.calls) + len(d.control.holders) + len(d.control.allocations); got != 0 {
		t.Errorf("%d things are remembered, want none", got)
	}
}

// Even who has credentials does not keep the control plane busy.
func TestRequestsAreBounded(t *testing.T) {
	d := newTestControl(t, func(c *Config) { c.ChallengeRate, c.ChallengeBurst = 1, 5 })
	p := d.client("9.9.9.9:1000", "anna", "", "")
	p.want(0, stun.MethodAllocate, udp)
	answered := 0
	for range 200 {
		if _, code := p.ask(stun.MethodRefresh); code == 0 {
			answered++
		}
	}
	if answered < 40 || answered > 50 {
		t.Errorf("%d of 200 requests at once are answered, want about 50", answered)
	}
	d.after(time.Second)
	p.want(0, stun.MethodRefresh)
}
