package node

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/visavis/visavis/internal/relay"
	"github.com/visavis/visavis/internal/relay/feed"
)

// Relay is the node's own STUN and TURN server.
type Relay struct {
	// Enabled says whether there is one. Default: true.
	Enabled bool
	// Listen is where it takes UDP and TCP. Default: 127.0.0.1:3478.
	Listen Address
	// Address is the IP address by which clients reach it. Default: the one it
	// listens on; when it listens on all, this machine's of each family, which are
	// followed while it runs.
	Address netip.Addr
	// OtherAddress is the address of the family that Address is not of. Default: this
	// machine's when it listens on all addresses, else none.
	OtherAddress netip.Addr
	// Host is a name that clients are told instead of addresses. Default: none.
	Host string
	// PublicPort and TLSPublicPort are the ports that clients are told, where they are
	// not those of Listen and TLSListen. Default: 0, which means those.
	PublicPort, TLSPublicPort uint16
	// Workers bounds the threads that move packets; 0 is as many as processors, at
	// most 16. There is one until it has enough to do. Default: 0.
	Workers int
	// MinPort and MaxPort are the range of the relayed addresses' ports. Default:
	// 49152–65535, RFC 6335's dynamic ports.
	MinPort, MaxPort uint16
	// Allow are address ranges that media may be relayed to although they are
	// private: 192.168.0.0/16. Default: none.
	Allow []netip.Prefix
	// TLSListen is where it takes TLS, with the certificate of TLS. Default: none.
	TLSListen Address
	// TLSName is the name in the certificate, by which clients come. Default: Host.
	TLSName string
	// Others are TURN URLs of relays that stand alone and share Secret; those of
	// one relay follow each other. They are told of calls by TCP. Default: none.
	Others []feed.URL
	// Scoped says whether a relay that stands alone permits a client only what the
	// other party of its call has shown, as a server's own does always. Default: true.
	Scoped bool
	// Coalesce is how long packets may wait for others, so that sending costs less. Default: 0.
	Coalesce time.Duration
	// Drain is how long relayed calls may go on when the program ends. Default: 0.
	Drain time.Duration
	// Secret signs the credentials that are handed out: 32 random bytes in base64 or
	// hexadecimal, as [NewSecret] makes them. Default: one that is made once and kept
	// in the database.
	Secret string
	// CredentialLife is how long the credentials that a party of a call gets are good
	// for new allocations: 15 s to an hour, and 10 s more than a call rings. Fresh ones
	// are sent after a third of it. Default: an hour.
	CredentialLife time.Duration
	// MaxAllocations is how many there may be at a time. Default: 10000.
	MaxAllocations int
	// BitRate and PacketRate are what one user may send and be sent in one call, in
	// bits and packets a second: 64000 and 50 at least. Default: 4000000, 1000.
	BitRate, PacketRate int
	// SourceAllocations is how many allocations the clients of one source may have.
	// Default: 2000, which is 250 browsers that start at the same moment.
	SourceAllocations int
	// SourceBitRate is what all clients of one source may send and be sent, in bits a
	// second. Default: 400000000, which is 100 users at BitRate.
	SourceBitRate int
	// TotalBitRate is what the relay relays for all, in bits a second each way.
	// Default: 1000000000, which is what most links carry.
	TotalBitRate int
	// MaxConnections is how many TCP and TLS connections there may be. Default: 4096.
	MaxConnections int
	// SourceConnections is how many of them one source may have: an IPv4 address or an
	// IPv6 /56. Default: 2048, half of all, because one address may be a whole office.
	SourceConnections int
	// SourceRequests is how many unsigned requests one source has answered each
	// second. Default: 1000, see internal/relay/admit.go.
	SourceRequests int
}

// ValidateRelay is Validate for a relay that stands alone.
func (c *Config) ValidateRelay() error {
	for _, check := range []func() error{c.checkListen, c.checkTLS, c.checkSecret, c.checkRelay, c.checkLog} {
		if err := check(); err != nil {
			return err
		}
	}
	if c.Relay.Secret == "" {
		return &ConfigError{
			"relay.secret", "a relay that stands alone shares one with the nodes that send clients to it",
			"\"visavis secret\" makes one; write it into the file that relay.secret-file names",
		}
	}
	return nil
}

func (c *Config) checkRelay() error {
	if err := c.checkOthers(); err != nil || !c.Relay.Enabled {
		return err
	}
	for _, check := range []func() error{c.checkRelayNames, c.Relay.checkLimits, c.Relay.checkByRelay} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// checkRelayNames checks the names by which clients come, and that there is a certificate for TLS.
func (c *Config) checkRelayNames() error {
	r := &c.Relay
	if r.TLSListen.IsValid() {
		if c.TLS.Mode == TLSOff {
			return &ConfigError{"relay.tls-listen", "TLS needs a certificate", "--tls files or --tls self-signed"}
		}
		if r.TLSName == "" && r.Host == "" {
			return &ConfigError{
				"relay.tls-name", "clients of TURN over TLS check the certificate, so they need the name that it is for",
				"--relay-tls-name turn.example.org",
			}
		}
	}
	for _, name := range []struct{ key, value string }{{"relay.host", r.Host}, {"relay.tls-name", r.TLSName}} {
		if name.value != "" && !hostName(name.value) {
			return &ConfigError{
				name.key, fmt.Sprintf("%q is no host name", name.value),
				"a name such as turn.example.org, without scheme and port; relay.address takes an IP address",
			}
		}
	}
	return nil
}

// checkLimits checks what only a server for calls asks of its relay. The relay itself knows what it can do with.
func (r *Relay) checkLimits() error {
	switch {
	case !r.Listen.IsValid():
		return &ConfigError{"relay.listen", `"" is no address with a port`, "--relay-listen 127.0.0.1:3478"}
	case r.Drain < 0:
		return &ConfigError{"relay.drain-seconds", "it is less than 0", "--relay-drain-seconds 60"}
	case r.BitRate < 64_000:
		return &ConfigError{
			"relay.bit-rate", fmt.Sprintf("%d bits a second is less than 64000, which a voice needs", r.BitRate),
			"--relay-bit-rate 4000000",
		}
	case r.SourceBitRate < r.BitRate || r.TotalBitRate < r.BitRate:
		return &ConfigError{
			"relay.bit-rate", fmt.Sprintf("%d bits a second for one user is more than for a whole source (%d) or for all (%d)", r.BitRate, r.SourceBitRate, r.TotalBitRate),
			fmt.Sprintf("--relay-source-bit-rate %d --relay-total-bit-rate %d", 100*r.BitRate, 250*r.BitRate),
		}
	case r.PacketRate < 50:
		return &ConfigError{
			"relay.packet-rate", fmt.Sprintf("%d packets a second is less than 50, which a voice needs", r.PacketRate),
			"--relay-packet-rate 1000",
		}
	}
	return nil
}

// defaultIsRight is the remedy for limits that few have a reason to set.
const defaultIsRight = "without it, the default is right for most (docs/configuration.md)"

// relaySettings are the settings of fields that the relay checks itself, and what to type instead of what it refuses.
var relaySettings = map[string]struct{ key, remedy string }{
	"Address":           {"relay.address", "--relay-address 203.0.113.7 is how clients reach the relay"},
	"OtherAddress":      {"relay.other-address", "--relay-other-address 2001:db8::7 is for clients that ask for IPv6, beside an IPv4 --relay-address"},
	"Allow":             {"relay.allow", "a range is an address and the length of its prefix: 192.168.0.0/16"},
	"MinPort":           {"relay.min-port", "--relay-min-port 49152 --relay-max-port 65535"},
	"Workers":           {"relay.workers", "--relay-workers 0 is as many as there are processors, 16 at most"},
	"Coalesce":          {"relay.coalesce-microseconds", "--relay-coalesce-microseconds 1000"},
	"MaxAllocations":    {"relay.max-allocations", "--relay-max-allocations 10000, or --relay-enabled=false for no relay"},
	"MaxConnections":    {"relay.max-connections", defaultIsRight},
	"SourceConnections": {"relay.source-connections", defaultIsRight},
	"SourceRequests":    {"relay.source-requests", defaultIsRight},
	"SourceAllocations": {"relay.source-allocations", defaultIsRight},
}

// checkByRelay has the relay check what it is to be made of.
func (r *Relay) checkByRelay() error {
	err := relayConfig(*r).Check(r.Listen.Addr())
	if wrong := (*relay.ConfigError)(nil); errors.As(err, &wrong) {
		if setting, known := relaySettings[wrong.Field]; known {
			return &ConfigError{setting.key, wrong.Problem, setting.remedy}
		}
	}
	return err
}

func (c *Config) checkOthers() error {
	if len(c.Relay.Others) > 0 && c.Relay.Secret == "" {
		return &ConfigError{
			"relay.secret", "relays that stand alone share one with this server",
			"\"visavis secret\" makes one; write it into the file that relay.secret-file names",
		}
	}
	return nil
}

// hostName reports whether a text is a DNS name (RFC 1123 §2.1), and not an IP
// address.
func hostName(text string) bool {
	if _, err := netip.ParseAddr(text); err == nil || len(text) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(text, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool {
				return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
			}) {
			return false
		}
	}
	return true
}

// longestCredentials is the most that relay credentials are good for. What leaks is
// soon worth nothing.
const longestCredentials = time.Hour

// gathering is what a callee who accepts at the last moment has to make allocations
// with the credentials of the ring.
const gathering = 10 * time.Second

// relayRenewal is when the parties of an active call get fresh credentials: early
// enough that a client that misses one has those of before for long.
func (c *Config) relayRenewal() time.Duration { return c.Relay.CredentialLife / 3 }

func (c *Config) checkCredentials() error {
	if !c.Relay.Enabled && len(c.Relay.Others) == 0 {
		return nil
	}
	ring := c.Call.RingTime
	switch age := c.Relay.CredentialLife; {
	case age < 15*time.Second || age > longestCredentials:
		return &ConfigError{
			"relay.credential-seconds", fmt.Sprintf("%d is not from 15 to 3600", age/time.Second),
			"--relay-credential-seconds 3600",
		}
	case age < ring+gathering:
		return &ConfigError{
			"relay.credential-seconds",
			fmt.Sprintf("credentials of %d s may expire while a call rings, for up to %d s", age/time.Second, ring/time.Second),
			fmt.Sprintf("--relay-credential-seconds %d", int((ring+gathering)/time.Second)),
		}
	}
	return nil
}
