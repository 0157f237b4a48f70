package relay

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v4"
)

// spinning are the messages on which pion/turn ≤ 5.1.2 spins when it frames a stream: their lengths are 0 in uint16.
var spinning = map[string][]byte{
	"STUN":        {0, 1, 0xff, 0xec, 0x21, 0x12, 0xa4, 0x42, 19: 0},
	"ChannelData": {0x40, 0, 0xff, 0xfc, 19: 0},
}

func TestFrameLength(t *testing.T) {
	tests := []struct {
		header [4]byte
		want   int
		err    error
	}{
		{[4]byte{0, 1, 0, 0}, 20, nil},
		{[4]byte{0x3f, 0xff, 0, 8}, 28, nil},
		{[4]byte{0, 1, 0xff, 0xe8}, 65532, nil},
		{[4]byte{0, 1, 0xff, 0xec}, 0, errFrameLength},
		{[4]byte{0, 1, 0xff, 0xfc}, 0, errFrameLength},
		{[4]byte{0, 1, 0, 7}, 0, errFrameShape},
		{[4]byte{0x40, 0, 0, 0}, 4, nil},
		{[4]byte{0x4f, 0xff, 0, 1}, 8, nil},
		{[4]byte{0x40, 0, 0, 4}, 8, nil},
		{[4]byte{0x40, 0, 0xff, 0xf8}, 65532, nil},
		{[4]byte{0x40, 0, 0xff, 0xf9}, 0, errFrameLength},
		{[4]byte{0x40, 0, 0xff, 0xff}, 0, errFrameLength},
		{[4]byte{0x7f, 0xff, 0, 4}, 8, nil},
		{[4]byte{'G', 'E', 'T', ' '}, 21540, nil},  // a channel, to all appearances
		{[4]byte{0x16, 3, 1, 2}, 0, errFrameShape}, // TLS
		{[4]byte{0x80, 0, 0, 4}, 0, errFrameShape},
		{[4]byte{0xff, 0xff, 0xff, 0xff}, 0, errFrameShape},
	}
	for _, test := range tests {
		got, err := frameLength(test.header)
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("frameLength(%x) = %d, %v, want %d, %v", test.header, got, err, test.want, test.err)
		}
	}
}

func TestReadFrame(t *testing.T) {
	binding := append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...)
	data := []byte{0x40, 0, 0, 3, 'a', 'b', 'c', 0}
	long := append([]byte{0x40, 0, 0x10, 0}, make([]byte, 0x1000)...)
	r := bytes.NewReader(bytes.Join([][]byte{binding, data, long, binding}, nil))
	b := make([]byte, 100)
	for i, want := range [][]byte{binding, data, {}, binding} {
		n, err := readFrame(r, b)
		if err != nil || !bytes.Equal(b[:n], want) {
			t.Fatalf("frame %d = %x, %v, want %x", i, b[:n], err, want)
		}
	}
	if n, err := readFrame(bytes.NewReader(data[:6]), b); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half a frame = %d, %v, want %v", n, err, io.ErrUnexpectedEOF)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{0x40, 0, 0, 3, 'a', 'b', 'c', 0, 0x40, 0, 0, 0})
	for _, frame := range spinning {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bytes.NewReader(stream)
		b := make([]byte, streamBuffer)
		for left := r.Len(); ; left = r.Len() {
			n, err := readFrame(r, b)
			if err != nil {
				return
			}
			if r.Len() >= left {
				t.Fatal("no progress")
			}
			if n != 0 && n != left-r.Len() {
				t.Fatalf("frame of %d bytes took %d", n, left-r.Len())
			}
			if frame := b[:n]; n != 0 && b[0] >= 0x40 && !isChannelData(frame) {
				t.Fatalf("frame %x is no ChannelData", frame)
			}
		}
	})
}

func FuzzAnswer(f *testing.F) {
	s, err := New(testConfig(), nil, nil)
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
		if isChannelData(b) {
			channelDataOf(b)
		}
		if !isSTUN(b) {
			return
		}
		parseSend(b)
		response := q.answer(b, from, nil, time.Now())
		if response == nil {
			return
		}
		if !isSTUN(response) || float64(len(response)) > amplification*float64(len(b)) {
			t.Errorf("%x is answered with %x", b, response)
		}
	})
}

func FuzzSend(f *testing.F) {
	f.Add(stun.MustBuild(stun.TransactionID, send, peer("8.8.8.8:5000"), raw{stun.AttrData, "data"}, stun.Fingerprint).Raw)
	f.Add(stun.MustBuild(stun.TransactionID, send, peer("[2a02::8]:5000"), raw{stun.AttrDontFragment, ""}, raw{stun.AttrData, ""}).Raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		if !isSTUN(b) {
			return
		}
		to, payload, ok := parseSend(b)
		if !ok {
			return
		}
		if len(payload) > len(b)-stunHeader-12-4 {
			t.Fatalf("%d bytes of payload in a message of %d", len(payload), len(b))
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
		if data, err := m.Get(stun.AttrData); err != nil || !bytes.Equal(data, payload) {
			t.Errorf("payload %x, want %x", payload, data)
		}
		if ap := to.addrPort(); !bytes.Equal(ap.Addr().AsSlice(), x.IP) || int(ap.Port()) != x.Port {
			t.Errorf("to %v, want %v", ap, x)
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
		if n.fresh(nonce, now, from) && !bytes.Equal(nonce, good) && now.Unix()-int64(be32(decoded(nonce))) >= 3600 {
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
			key := endpoint{port: uint16(op % 32)}
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
