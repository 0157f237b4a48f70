package node

import (
	"net"
	"net/netip"
	"testing"
)

// 0.0.0.0 is all addresses of IPv4, and none of IPv6.
func TestListen(t *testing.T) {
	for address, want := range map[string]string{"0.0.0.0:443": "tcp4", ":443": "tcp", "[::]:443": "tcp", "127.0.0.1:443": "tcp", "localhost:443": "tcp"} {
		if got := network(MustParseAddress(address)); got != want {
			t.Errorf("%s is listened on by %s, want %s", address, got, want)
		}
	}
	listener, err := listen("a test", MustParseAddress("0.0.0.0:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	if conn, err := net.Dial("tcp", net.JoinHostPort("::1", port)); err == nil {
		_ = conn.Close()
		t.Error("0.0.0.0 takes IPv6")
	}
}

// An empty list of ranges has the default of no list: on loopback, two browsers on this machine reach each other.
func TestEmptyListOfRanges(t *testing.T) {
	if got := relayConfig(Relay{Allow: []netip.Prefix{}}).Allow; got != nil {
		t.Errorf("got %#v, want nil", got)
	}
}
