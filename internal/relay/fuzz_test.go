package relay

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/visavis/visavis/internal/relay/wire"
)

// spinning are the messages on which pion/turn ≤ 5.1.2 spins when it frames a stream: their lengths are 0 in uint16.
var spinning = map[string][]byte{
	"STUN":        {0, 1, 0xff, 0xec, 0x21, 0x12, 0xa4, 0x42, 19: 0},
	"ChannelData": {0x40, 0, 0xff, 0xfc, 19: 0},
}

func FuzzAnswer(f *testing.F) {
	s, err := New(bound(f, testConfig()), nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { runOut(f, s) })
	q := newAnswerer(s.control)
	from := source{endpointOf(s.Addr()), overTCP}
	f.Add(append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...))
	f.Add(append([]byte{0, 9, 0, 8, 0x21, 0x12, 0xa4, 0x42, 19: 0}, 0, 0x0c, 0, 4, 0x40, 0, 0, 0))
	for _, frame := range spinning {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if wire.IsChannelData(b) {
			wire.ChannelData(b)
		}
		if !wire.IsSTUN(b) {
			return
		}
		wire.ParseSend(b)
		response := q.answer(b, from, nil, time.Now())
		if response == nil {
			return
		}
		if !wire.IsSTUN(response) || float64(len(response)) > amplification*float64(len(b)) {
			t.Errorf("%x is answered with %x", b, response)
		}
	})
}

func FuzzNonce(f *testing.F) {
	key := bytes.Repeat([]byte("k"), 32)
	n := newNonces(key)
	from := source{endpointOf(netip.MustParseAddrPort("9.9.9.9:1000")), overUDP}
	good := n.append(nil, now, from)
	f.Add(good)
	f.Add([]byte("AAAAAAAAAAAAAAAAAAAAAAAA"))
	f.Fuzz(func(t *testing.T, nonce []byte) {
		if n.fresh(nonce, now, from) && !bytes.Equal(nonce, good) && now.Unix()-int64(binary.BigEndian.Uint32(decoded(nonce))) >= 3600 {
			t.Errorf("%q passes", nonce)
		}
	})
}

func decoded(nonce []byte) []byte {
	b := make([]byte, 32)
	n, _ := base64.RawURLEncoding.Decode(b, nonce)
	return b[:n]
}

// An index is a map.
func FuzzIndex(f *testing.F) {
	f.Add([]byte("abcabcaabbcc"))
	f.Fuzz(func(t *testing.T, script []byte) {
		x, model := newIndex(4), make(map[endpoint]*allocation)
		for _, op := range script {
			key := endpoint{Address: wire.Address{Port: uint16(op % 32)}}
			if a := model[key]; x.find(&key) != a {
				t.Fatalf("find(%v) = %p, want %p", key, x.find(&key), a)
			} else if a != nil {
				x.remove(key)
				delete(model, key)
			} else {
				model[key] = new(allocation)
				x.add(key, model[key])
			}
		}
		for key, a := range model {
			if x.find(&key) != a {
				t.Fatalf("%v is lost", key)
			}
		}
	})
}
