package wire

import "testing"

func TestKinds(t *testing.T) {
	type bounds struct {
		from, to    int
		kind, opens Kind
	}
	next := 0
	for _, b := range []bounds{
		{0, 3, STUN, STUN},
		{4, 12, Other, Other},
		{'\r', '\r', Other, ProxyHeader},
		{14, 63, Other, Other}, // DTLS and TLS are among them
		{64, 'P' - 1, Channel, Channel},
		{'P', 'P', Channel, ProxyLine},
		{'P' + 1, 127, Channel, Channel},
		{128, 254, Other, Other},
		{255, 255, Other, Feed},
	} {
		if b.from != next {
			t.Fatalf("the table has a hole before %d", b.from)
		}
		for ; next <= b.to; next++ {
			if got := KindOf(byte(next)); got != b.kind {
				t.Errorf("KindOf(%d) = %d, want %d", next, got, b.kind)
			}
			if got := OpeningOf(byte(next)); got != b.opens {
				t.Errorf("OpeningOf(%d) = %d, want %d", next, got, b.opens)
			}
		}
	}
	for _, number := range []uint16{FirstChannel, LastChannel} {
		if got := KindOf(byte(number >> 8)); got != Channel {
			t.Errorf("KindOf(%#x) = %d, want a channel", number>>8, got)
		}
	}
}
