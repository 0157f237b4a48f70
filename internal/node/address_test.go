package node

import (
	"net/netip"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]Address{
		"":                      {},
		"localhost:8080":        {netip.MustParseAddrPort("127.0.0.1:8080"), true},
		"127.1.2.3:0":           {netip.MustParseAddrPort("127.1.2.3:0"), false},
		":443":                  {netip.MustParseAddrPort("[::]:443"), false},
		"0.0.0.0:443":           {netip.MustParseAddrPort("0.0.0.0:443"), false},
		"[::1]:8080":            {netip.MustParseAddrPort("[::1]:8080"), false},
		"[::ffff:127.0.0.1]:80": {netip.MustParseAddrPort("127.0.0.1:80"), false},
	} {
		got, err := ParseAddress(text)
		if err != nil || got != want {
			t.Errorf("%q: got %#v, error %v; want %#v", text, got, err, want)
		}
		if again, err := ParseAddress(got.String()); err != nil || again != got {
			t.Errorf("%q is written as %q, which is %#v, error %v", text, got, again, err)
		}
	}
	for text, want := range map[string]string{
		"localhost":             `"localhost" is no address with a port`,
		":":                     `"" is no port from 0 to 65535`,
		"localhost:65536":       `"65536" is no port from 0 to 65535`,
		"localhost:http":        `"http" is no port from 0 to 65535`,
		"video.example.org:443": `"video.example.org" is no IP address of this machine`,
	} {
		if got, err := ParseAddress(text); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, error %v; want %s", text, got, err, want)
		}
	}
}

func TestLoopback(t *testing.T) {
	for text, want := range map[string]bool{
		"localhost:8080": true, "127.1.2.3:8080": true, "[::1]:8080": true, "[::ffff:127.0.0.1]:8080": true,
		":8080": false, "0.0.0.0:8080": false, "[fd00::1]:8080": false,
	} {
		if got := MustParseAddress(text).loopback(); got != want {
			t.Errorf("%s is one that only this machine can reach: %v, want %v", text, got, want)
		}
	}
}
