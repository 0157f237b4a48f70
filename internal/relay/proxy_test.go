package relay

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/pion/stun/v4"

	"github.com/visavis/visavis/internal/relay/wire"
)

const (
	v2TCP4  = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x09\x09\x09\x09\x0a\x00\x00\x01\x1f\x90\x01\xbb"
	v2Local = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
)

func TestReadProxyHeader(t *testing.T) {
	v2 := func(command, family byte, rest string) string {
		return fmt.Sprintf("%s%c%c\x00%c%s", proxySignature2, command, family, len(rest), rest)
	}
	six := strings.Repeat("\x2a", 16) + strings.Repeat("\x00", 16) + "\x1f\x90\x01\xbb"
	for header, want := range map[string]string{
		"PROXY TCP4 9.9.9.9 10.0.0.1 8080 443\r\n":  "9.9.9.9:8080",
		"PROXY TCP6 2a00::1 2a00::2 8080 443\r\n":   "[2a00::1]:8080",
		"PROXY UNKNOWN\r\n":                         "itself",
		"PROXY UNKNOWN whatever else\r\n":           "itself",
		v2TCP4:                                      "9.9.9.9:8080",
		v2Local:                                     "itself",
		v2(0x21, 0x21, six):                         "[2a2a:2a2a:2a2a:2a2a:2a2a:2a2a:2a2a:2a2a]:8080",
		v2(0x21, 0x21, six+"more"):                  "[2a2a:2a2a:2a2a:2a2a:2a2a:2a2a:2a2a:2a2a]:8080",
		v2(0x21, 0x00, "addresses of another kind"): "itself",
		"":                           "none",
		v2(0x21, 0x11, "short"):      "refused",
		v2(0x11, 0x11, "version 1?"): "refused",
		"PROXY TCP4 9.9.9.9\r\n":     "refused",
		"PROXY TCP4 a b c d\r\n":     "refused",
		"PROXY TCP6 fe80::1%eth0 2a00::2 8080 443\r\n":       "refused",
		"PROXY UNKNOWN " + strings.Repeat("x", 600) + "\r\n": "refused",
	} {
		r := bufio.NewReaderSize(strings.NewReader(header+"\x16rest"), 512)
		client, found, err := readProxyHeader(r)
		got := client.String()
		switch {
		case err != nil:
			got = "refused"
		case !found:
			got = "none"
		case !client.IsValid():
			got = "itself"
		}
		if got != want {
			t.Errorf("%q: client %s, want %s (%v)", header, got, want, err)
		}
		if rest, _ := r.Peek(5); err == nil && !bytes.Equal(rest, []byte("\x16rest")) {
			t.Errorf("%q: followed by %q, want what the client sends", header, rest)
		}
	}
}

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
