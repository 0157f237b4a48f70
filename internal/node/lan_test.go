package node

import (
	"net"
	"net/netip"
	"slices"
	"testing"
)

func TestLANAddresses(t *testing.T) {
	var all []net.Addr
	for _, cidr := range []string{
		"127.0.0.1/8", "::1/128", "fe80::1/64", "169.254.3.4/16", "2001:db8:1::7/64", "172.17.0.1/16",
		"10.1.2.3/24", "192.168.1.20/24", "192.168.1.20/24",
	} {
		ip, network, err := net.ParseCIDR(cidr)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, &net.IPNet{IP: ip, Mask: network.Mask})
	}
	got := sortLAN(all, netip.MustParseAddr("192.168.1.20"), netip.Addr{})
	var want []netip.Addr
	for _, text := range []string{"192.168.1.20", "10.1.2.3", "172.17.0.1", "2001:db8:1::7"} {
		want = append(want, netip.MustParseAddr(text))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
