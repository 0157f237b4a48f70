package feed

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// A URL is the TURN URL of a relay that stands alone (RFC 7065). [ParseURL] makes one.
type URL struct {
	// Host is the relay's name or IP address.
	Host string
	// Port is where it listens, on UDP and on TCP: that of the URL, or the default of its scheme.
	Port uint16
	// Secure is whether the relay is to be reached by TLS, with a certificate for Host.
	Secure bool

	text string
}

// ParseURL reads a TURN URL, such as turn:relay.example.org:3478?transport=udp.
func ParseURL(text string) (URL, error) {
	u, err := url.Parse(strings.Replace(text, ":", "://", 1))
	if err != nil || u.Scheme != "turn" && u.Scheme != "turns" || u.Hostname() == "" {
		return URL{}, fmt.Errorf("%q is no TURN URL", text)
	}
	standard := "3478"
	if u.Scheme == "turns" {
		standard = "5349"
	}
	port, err := strconv.ParseUint(cmp.Or(u.Port(), standard), 10, 16)
	if err != nil {
		return URL{}, fmt.Errorf("%q is no TURN URL", text)
	}
	return URL{Host: u.Hostname(), Port: uint16(port), Secure: u.Scheme == "turns", text: text}, nil
}

// String is the URL as it was written, for clients.
func (u URL) String() string { return u.text }

// Address is host:port, where the relay is told of calls.
func (u URL) Address() string { return net.JoinHostPort(u.Host, strconv.Itoa(int(u.Port))) }
