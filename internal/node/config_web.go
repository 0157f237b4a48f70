package node

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
)

// The kinds of access say who may enter.
const (
	AccessOpen     = "open"     // anyone who can reach the address
	AccessAccounts = "accounts" // people with an account
)

// Where the certificate comes from.
const (
	TLSOff        = "off"
	TLSFiles      = "files"
	TLSSelfSigned = "self-signed"
)

// TLS is how the connection to browsers is protected.
type TLS struct {
	// Mode is [TLSOff], [TLSFiles] or [TLSSelfSigned]. Default: off.
	Mode string
	// Cert and Key are PEM files, for [TLSFiles]. Default: none.
	Cert, Key string
}

// LANAddresses are those by which other machines reach what listens, the likeliest
// first; none when it listens on loopback.
func (c *Config) LANAddresses() []netip.Addr {
	if c.Listen.loopback() {
		return nil
	}
	if ip := c.Listen.Addr(); !ip.IsUnspecified() {
		return []netip.Addr{ip}
	}
	return lanAddresses()
}

// public reports whether people on other machines are meant to get here,
// directly or through a proxy.
func (c *Config) public() bool {
	return !c.Listen.loopback() || slices.ContainsFunc(c.Origins, func(o *url.URL) bool {
		ip, err := netip.ParseAddr(o.Hostname())
		return o.Hostname() != "localhost" && (err != nil || !ip.Unmap().IsLoopback())
	})
}

func (c *Config) checkListen() error {
	if !c.Listen.IsValid() {
		return &ConfigError{"listen", `"" is no address with a port`, "--listen localhost:8080"}
	}
	return nil
}

func (c *Config) checkTLS() error {
	switch c.TLS.Mode {
	case TLSOff, TLSSelfSigned:
		return nil
	case TLSFiles:
		if c.TLS.Cert == "" || c.TLS.Key == "" {
			return &ConfigError{
				"tls.mode", "certificate files need both the certificate and its key",
				"--tls-cert FILE --tls-key FILE",
			}
		}
		return nil
	}
	return &ConfigError{
		"tls.mode", fmt.Sprintf("%q is none of off, files, self-signed", c.TLS.Mode),
		"--tls self-signed needs nothing else",
	}
}

// checkPlain refuses plain HTTP to other machines unless a proxy is meant to
// stand in front, which the origins tell.
func (c *Config) checkPlain() error {
	if c.TLS.Mode == TLSOff && !c.Listen.loopback() && len(c.Origins) == 0 {
		return &ConfigError{
			"listen", c.Listen.String() + " is beyond this machine, and without TLS that is only for a proxy with HTTPS in front",
			"--tls self-signed, or --origins https://video.example.org with the proxy's address",
		}
	}
	return nil
}

func (c *Config) checkAccess() error {
	switch c.Access {
	case AccessOpen:
		return nil
	case AccessAccounts:
		return &ConfigError{
			"access", "accounts are not part of this version",
			"--access open lets in anyone who can reach this address",
		}
	case "":
		if c.public() {
			return &ConfigError{
				"access", "other machines can reach this place, so who may enter must be said",
				"--access open lets in anyone who can reach this address",
			}
		}
		c.Access = AccessOpen
		return nil
	}
	return &ConfigError{
		"access", fmt.Sprintf("%q is neither open nor accounts", c.Access),
		"--access open lets in anyone who can reach this address",
	}
}
