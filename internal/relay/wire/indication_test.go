package wire

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/pion/stun/v4"
)

// toward is XOR-PEER-ADDRESS as pion/stun writes it.
type toward string

func (a toward) AddTo(m *stun.Message) error {
	ap := netip.MustParseAddrPort(string(a))
	return stun.XORMappedAddress{IP: ap.Addr().AsSlice(), Port: int(ap.Port())}.AddToAs(m, stun.AttrXORPeerAddress)
}

// pion/stun reads what is written.
func TestData(t *testing.T) {
	for _, peer := range []string{"9.9.9.9:1000", "[2a02::8]:5000"} {
		for n := range 6 {
			payload := []byte("packet")[:n]
			from := AddressOf(netip.MustParseAddrPort(peer))
			b := BeginData(nil, &Transaction{1, 2, 3}, &from, n)
			if len(b) > DataHeaderSize {
				t.Errorf("a header of %d bytes, want %d at most", len(b), DataHeaderSize)
			}
			b = AppendPadding(append(b, payload...), n)
			m := &stun.Message{Raw: b}
			if err := m.Decode(); err != nil || !IsSTUN(b) {
				t.Fatalf("%x: %v", b, err)
			}
			var x stun.XORMappedAddress
			if err := x.GetFromAs(m, stun.AttrXORPeerAddress); err != nil || x.String() != peer {
				t.Errorf("from %v, %v, want %s", x, err, peer)
			}
			if got, err := m.Get(stun.AttrData); err != nil || !bytes.Equal(got, payload) {
				t.Errorf("payload %q, %v, want %q", got, err, payload)
			}
			if m.Type != stun.NewType(stun.MethodData, stun.ClassIndication) {
				t.Errorf("%v, want a Data indication", m.Type)
			}
		}
	}
}

func FuzzSend(f *testing.F) {
	send := stun.NewType(stun.MethodSend, stun.ClassIndication)
	data := func(text string) stun.RawAttribute {
		return stun.RawAttribute{Type: stun.AttrData, Value: []byte(text)}
	}
	f.Add(stun.MustBuild(stun.TransactionID, send, toward("8.8.8.8:5000"), data("data"), stun.Fingerprint).Raw)
	whole := stun.RawAttribute{Type: stun.AttrDontFragment}
	f.Add(stun.MustBuild(stun.TransactionID, send, toward("[2a02::8]:5000"), whole, data("")).Raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		if !IsSTUN(b) {
			return
		}
		s, ok := ParseSend(b)
		if !ok {
			return
		}
		if len(s.Payload) > len(b)-HeaderSize-12-4 {
			t.Fatalf("%d bytes of payload in a message of %d", len(s.Payload), len(b))
		}
		// pion/stun reads the same.
		m := &stun.Message{Raw: b}
		var x stun.XORMappedAddress
		if err := m.Decode(); err != nil {
			t.Fatal(err)
		}
		if value, _ := m.Get(stun.AttrXORPeerAddress); value[0] != 0 {
			return // reserved, and ignored: pion/stun refuses it
		}
		if err := x.GetFromAs(m, stun.AttrXORPeerAddress); err != nil {
			t.Fatal(err)
		}
		if data, err := m.Get(stun.AttrData); err != nil || !bytes.Equal(data, s.Payload) {
			t.Errorf("payload %x, want %x", s.Payload, data)
		}
		if ap := s.Peer.AddrPort(); !bytes.Equal(ap.Addr().AsSlice(), x.IP) || int(ap.Port()) != x.Port {
			t.Errorf("to %v, want %v", ap, x)
		}
		if s.DontFragment != m.Contains(stun.AttrDontFragment) {
			t.Errorf("DONT-FRAGMENT is read as %v", s.DontFragment)
		}
	})
}
