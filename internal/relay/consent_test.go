package relay

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"github.com/visavis/visavis/internal/relay/wire"
)

// check is what ICE begins with: it goes to a TURN peer that has not agreed, too.
var check = iceMessage(stun.BindingRequest, 1, true)

// iceMessage is a Binding message with a transaction id; a signed one has 100 bytes.
func iceMessage(kind stun.MessageType, id uint32, signed bool) []byte {
	var transaction [stun.TransactionIDSize]byte
	binary.BigEndian.PutUint32(transaction[4:], id)
	list := []stun.Setter{stun.NewTransactionIDSetter(transaction), kind}
	if signed {
		list = append(list, stun.NewUsername("abcdefghijklmnopqrstuv:ABCDEFGHIJKLMNOPQRSTU"), stun.NewShortTermIntegrity("ijkl"), stun.Fingerprint)
	}
	return stun.MustBuild(list...).Raw
}

// A pair is an allocation of a call and a TURN peer that the other party has shown.
type pair struct {
	*testClient
	a    *allocation
	peer endpoint
}

func newPair(d *testControl) *pair {
	d.control.permit(d.now, "call", "bob", []netip.Addr{netip.MustParseAddr("8.8.8.8")})
	p := d.client("9.9.9.9:1000", "anna", "call", "anna")
	p.want(0, stun.MethodAllocate, udp, life(3600))
	p.want(0, stun.MethodChannelBind, channel(0x4000), peer("8.8.8.8:5000"))
	return &pair{p, d.control.router.clients.find(&p.from.endpoint), endpointOf(netip.MustParseAddrPort("8.8.8.8:5000"))}
}

// up returns what becomes of a packet to a port, by Send, and by the channel if it is the one of that.
func (p *pair) up(port uint16, packet []byte) cause {
	p.t.Helper()
	at, r := p.control.clock(p.now), p.control.router
	to := endpoint{Address: wire.Address{IP: p.peer.IP, Port: port}}
	why := r.send(p.a, &to, packet, at, new(delivery))
	if port == p.peer.Port {
		if by := r.channelData(p.a, 0x4000, packet, at, new(delivery)); by != why {
			p.t.Errorf("by Send: %q, on the channel: %q", causeNames[why], causeNames[by])
		}
	}
	return why
}

func (p *pair) down(port uint16, packet []byte) {
	p.t.Helper()
	from := endpoint{Address: wire.Address{IP: p.peer.IP, Port: port}}
	if why := p.control.router.down(p.a.sockets[0], &from, false, packet, p.control.clock(p.now), new(delivery)); why != none {
		p.t.Errorf("a packet from the peer is dropped: %s", causeNames[why])
	}
}

func (p *pair) wants(want cause, port uint16, packet []byte, when string) {
	p.t.Helper()
	if got := p.up(port, packet); got != want {
		p.t.Errorf("%s: %q, want %q", when, causeNames[got], causeNames[want])
	}
}

var media = append([]byte{0x80, 111}, make([]byte, 200)...)

func TestPeerHasToAgree(t *testing.T) {
	request := iceMessage(stun.BindingRequest, 7, true)
	for name, test := range map[string]struct {
		asked    []byte
		port     uint16 // where the answer is from
		answer   []byte
		want     cause
		unscoped bool
	}{
		"nothing":                       {want: dropConsent},
		"no answer":                     {asked: request, want: dropConsent},
		"the answer":                    {request, 5000, iceMessage(stun.BindingSuccess, 7, true), none, false},
		"also without scope":            {request, 5000, iceMessage(stun.BindingSuccess, 7, true), none, true},
		"without scope, no answer":      {asked: request, want: dropConsent, unscoped: true},
		"of another transaction":        {request, 5000, iceMessage(stun.BindingSuccess, 8, true), dropConsent, false},
		"from another port":             {request, 5001, iceMessage(stun.BindingSuccess, 7, true), dropConsent, false},
		"an error":                      {request, 5000, iceMessage(stun.BindingError, 7, true), dropConsent, false},
		"a request of its own":          {request, 5000, iceMessage(stun.BindingRequest, 7, true), dropConsent, false},
		"of a public STUN server":       {request, 5000, iceMessage(stun.BindingSuccess, 7, false), dropConsent, false},
		"to a question without key":     {iceMessage(stun.BindingRequest, 7, false), 5000, iceMessage(stun.BindingSuccess, 7, true), dropConsent, false},
		"to an indication":              {iceMessage(stun.NewType(stun.MethodBinding, stun.ClassIndication), 7, true), 5000, iceMessage(stun.BindingSuccess, 7, true), dropConsent, false},
		"to nothing that was asked":     {nil, 5000, iceMessage(stun.BindingSuccess, 7, true), dropConsent, false},
		"to nothing, with a zero of id": {nil, 5000, make8(iceMessage(stun.BindingSuccess, 0, true)), dropConsent, false},
		"something that is no STUN":     {request, 5000, media, dropConsent, false},
		"a success that is cut off":     {request, 5000, iceMessage(stun.BindingSuccess, 7, true)[:24], dropConsent, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(newTestControl(t, func(c *Config) { c.CallScoped = !test.unscoped }))
			if test.asked != nil {
				p.wants(none, 5000, test.asked, "a check")
			}
			if test.answer != nil {
				p.down(test.port, test.answer)
			}
			p.wants(test.want, 5000, media, "media to the port that was asked")
			p.wants(dropConsent, 5002, media, "media to another port of the same IP")
		})
	}
}

// make8 clears the transaction id.
func make8(message []byte) []byte {
	clear(message[8:wire.HeaderSize])
	return message
}

// What passes before consent is Binding messages alone.
func TestOnlyChecksPassBeforeConsent(t *testing.T) {
	p := newPair(newTestControl(t, scoped))
	for _, pass := range []stun.MessageType{
		stun.BindingRequest, stun.BindingSuccess, stun.BindingError, stun.NewType(stun.MethodBinding, stun.ClassIndication),
	} {
		p.wants(none, 5000, iceMessage(pass, 1, true), pass.String())
	}
	broken := iceMessage(stun.BindingRequest, 1, true)
	broken[4]++ // of the magic cookie
	for name, packet := range map[string][]byte{
		"media": media, "nothing": {}, "an Allocate request": iceMessage(allocate, 1, true), "another cookie": broken,
		"more than the message": append(iceMessage(stun.BindingRequest, 1, true), 1, 2, 3, 4),
		"a DTLS ClientHello":    {22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0},
	} {
		p.wants(dropConsent, 5000, packet, name)
	}
}

// They pass slowly: for one user, and for all users together to one address.
func TestChecksAreSlow(t *testing.T) {
	d := newTestControl(t, func(c *Config) { scoped(c); c.BitRate, c.PacketRate = 1_000_000_000, 1_000_000 })
	p := newPair(d)
	sent := func(p *pair) (bytes int) {
		r := d.control.router
		for range 50 {
			for range 1000 {
				if r.send(p.a, &p.peer, check, d.control.clock(d.now), new(delivery)) == none {
					bytes += len(check)
				}
			}
			d.now = d.now.Add(20 * time.Millisecond)
		}
		return bytes
	}
	if got, most := sent(p), checkBurst+checkRate; got > most || got < most*9/10 {
		t.Errorf("%d bytes pass in the first second, want a little less than %d", got, most)
	}
	if got := sent(p); got > checkRate*11/10 || got < checkRate*9/10 {
		t.Errorf("%d bytes pass in the next second, want %d", got, checkRate)
	}

	// Forty people, each in a call of their own, at one address.
	var crowd []*pair
	for i := range 40 {
		call := strconv.Itoa(i)
		d.control.permit(d.now, call, "bob", []netip.Addr{netip.MustParseAddr("8.8.8.8")})
		one := d.client(fmt.Sprintf("9.9.9.9:%d", 2000+i), "eve", call, "eve")
		one.want(0, stun.MethodAllocate, udp)
		one.want(0, stun.MethodCreatePermission, peer("8.8.8.8:1024"))
		crowd = append(crowd, &pair{one, d.control.router.clients.find(&one.from.endpoint), p.peer})
	}
	d.now = d.now.Add(time.Minute)
	start := d.now
	all := 0
	for _, one := range crowd {
		d.now = start
		all += sent(one)
	}
	if most := victimRate*(victimBurst+1) + len(crowd)*len(check); all > most || all < most*9/10 {
		t.Errorf("%d bytes pass to one address, want a little less than %d", all, most)
	}
}

func TestConsentEnds(t *testing.T) {
	p := newPair(newTestControl(t, scoped))
	asks := func(id uint32) {
		t.Helper()
		p.wants(none, 5000, iceMessage(stun.BindingRequest, id, true), "a check")
		p.down(5000, iceMessage(stun.BindingSuccess, id, true))
	}
	asks(1)
	// A peer that sends something, even media alone, is there.
	for range 40 {
		p.after(20 * time.Second)
		p.nonce = nil
		p.want(0, stun.MethodChannelBind, channel(0x4000), peer("8.8.8.8:5000"))
		p.wants(none, 5000, media, "while the peer sends")
		p.down(5000, media)
	}
	p.after(29 * time.Second)
	p.wants(none, 5000, media, "29 s after the peer was heard")
	p.after(2 * time.Second)
	p.wants(dropConsent, 5000, media, "31 s after the peer was heard")
	p.down(5000, media)
	p.wants(dropConsent, 5000, media, "when the peer sends something again")
	asks(2)
	p.wants(none, 5000, media, "when the peer has answered again")

	// It is the permission's, and ends with that.
	p.after(10 * time.Second)
	p.want(0, stun.MethodCreatePermission, peer("8.8.8.8:5000"))
	p.wants(none, 5000, media, "after the permission was renewed")
	p.after(permissionLife)
	p.down4(dropPermission)
	p.want(0, stun.MethodCreatePermission, peer("8.8.8.8:5000"))
	p.wants(dropConsent, 5000, media, "with a new permission")
}

// down4 is media from the peer while there is no permission.
func (p *pair) down4(want cause) {
	p.t.Helper()
	if got := p.control.router.down(p.a.sockets[0], &p.peer, false, media, p.control.clock(p.now), new(delivery)); got != want {
		p.t.Errorf("from the peer: %q, want %q", causeNames[got], causeNames[want])
	}
}

// A party that uses port after port, behind a translator perhaps, has room for those it uses now.
func TestConsentOfManyPorts(t *testing.T) {
	p := newPair(newTestControl(t, scoped))
	var k contacts
	for i := range 3 * len(k.peers) {
		port := uint16(6000 + i)
		p.wants(none, port, iceMessage(stun.BindingRequest, uint32(i), true), "a check")
		p.down(port, iceMessage(stun.BindingSuccess, uint32(i), true))
		p.wants(none, port, media, "the port that agreed last")
		p.after(2 * time.Second)
	}
}

func TestConsentTakesNoMemoryForPackets(t *testing.T) {
	p := newPair(newTestControl(t, func(c *Config) { scoped(c); c.BitRate, c.PacketRate = 1_000_000_000, 1_000_000_000 }))
	r, d := p.control.router, new(delivery)
	question, answer := iceMessage(stun.BindingRequest, 7, true), iceMessage(stun.BindingSuccess, 7, true)
	at := p.control.clock(p.now)
	if got := testing.AllocsPerRun(100, func() {
		at += int64(time.Second)
		r.channelData(p.a, 0x4000, question, at, d)
		r.down(p.a.sockets[0], &p.peer, false, answer, at, d)
		if why := r.channelData(p.a, 0x4000, media, at, d); why != none {
			t.Fatal(causeNames[why])
		}
		at += 2 * consentLife
		p.a.table.Load().channels[0].ends = at + consentLife
		p.a.table.Load().permissions[0].ends = at + consentLife
	}); got != 0 {
		t.Errorf("a question, an answer and media take %.1f allocations, want none", got)
	}
}
