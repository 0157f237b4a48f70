package relay

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/pion/stun/v4"

	"github.com/visavis/visavis/internal/relay/wire"
)

const v2TCP4 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x09\x09\x09\x09\x0a\x00\x00\x01\x1f\x90\x01\xbb"

// A client behind a listed proxy is told its own address; behind another one the header is what it is to everybody: no
// TURN.
func TestProxyProtocol(t *testing.T) {
	for _, header := range []string{"PROXY TCP4 9.9.9.9 10.0.0.1 8080 443\r\n", v2TCP4} {
		for _, listed := range []bool{true, false} {
			for _, secure := range []bool{false, true} {
				t.Run(fmt.Sprintf("%.5q listed %v TLS %v", header, listed, secure), func(t *testing.T) {
					s, _ := start(t, func(c *Config) {
						secured(t, "127.0.0.1:0", false)(c)
						if listed {
							c.Proxies = prefixes("127.0.0.0/8")
						}
					})
					at := s.Addr()
					if secure {
						at = s.secureAddr()
					}
					conn, err := net.Dial("tcp", at.String())
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					if _, err := conn.Write([]byte(header)); err != nil {
						t.Fatal(err)
					}
					if secure {
						conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
					}
					k := &talker{t: t, Conn: conn}
					request := k.message(stun.BindingRequest)
					_, err = conn.Write(request.Raw)
					b := make([]byte, 2000)
					n := 0
					if err == nil {
						n, err = wire.ReadFrame(conn, b)
					}
					if !listed {
						if err == nil {
							t.Errorf("a header of a proxy that is not listed is answered with %x", b[:n])
						}
						return
					}
					m := &stun.Message{Raw: b[:n]}
					var mapped stun.XORMappedAddress
					if err != nil || m.Decode() != nil || mapped.GetFrom(m) != nil {
						t.Fatalf("answer %x, %v", b[:n], err)
					}
					if ip, _ := netip.AddrFromSlice(mapped.IP); ip.Unmap().String() != "9.9.9.9" || mapped.Port != 8080 {
						t.Errorf("the client is told %v, want 9.9.9.9:8080", mapped)
					}
				})
			}
		}
	}
}
