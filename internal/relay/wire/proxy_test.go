package wire

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
	"testing"
)

const (
	v2TCP4  = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x09\x09\x09\x09\x0a\x00\x00\x01\x1f\x90\x01\xbb"
	v2Local = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
)

func TestReadProxyHeader(t *testing.T) {
	v2 := func(command, family byte, rest string) string {
		return fmt.Sprintf("%s%c%c\x00%c%s", proxySignature, command, family, len(rest), rest)
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
		client, found, err := ReadProxyHeader(r)
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
