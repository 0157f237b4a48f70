package node_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/visavis/visavis/internal/node"
)

func TestDefaultConfigIsValid(t *testing.T) {
	cfg := node.DefaultConfig()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	if cfg.Access != node.AccessOpen {
		t.Errorf("access %q, want %q", cfg.Access, node.AccessOpen)
	}
	if got := cfg.DatabaseURL(); got != "sqlite:data/visavis.db" {
		t.Errorf("database %q", got)
	}
	if got := cfg.Warnings(); len(got) != 0 {
		t.Errorf("warnings %q", got)
	}
	if got := cfg.LANAddresses(); len(got) != 0 {
		t.Errorf("other machines reach it at %v", got)
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		what string
		set  func(*node.Config)
		key  string // of the error; none when it is valid
	}{
		{"no name", func(c *node.Config) { c.Name = " " }, "name"},
		{"a long name", func(c *node.Config) { c.Name = strings.Repeat("ö", 61) }, "name"},
		{"a name of two lines", func(c *node.Config) { c.Name = "a\nb" }, "name"},
		{"a name", func(c *node.Config) { c.Name = "Ann & Bob's" }, ""},

		{"nowhere", func(c *node.Config) { c.Listen = node.Address{} }, "listen"},
		{"a relay that is nowhere", func(c *node.Config) { c.Relay.Listen = node.Address{} }, "relay.listen"},
		{"any port", func(c *node.Config) { c.Listen = node.MustParseAddress("localhost:0") }, ""},
		{"IPv6 loopback", func(c *node.Config) { c.Listen = node.MustParseAddress("[::1]:8080") }, ""},
		{"IPv4 loopback", func(c *node.Config) { c.Listen = node.MustParseAddress("127.1.2.3:8080") }, ""},
		{"IPv4 loopback in IPv6", func(c *node.Config) { c.Listen = node.MustParseAddress("[::ffff:127.0.0.1]:8080") }, ""},

		{"accounts", func(c *node.Config) { c.Access = "accounts" }, "access"},
		{"some access", func(c *node.Config) { c.Access = "closed" }, "access"},
		{"all addresses, nothing chosen", func(c *node.Config) { c.Listen = node.MustParseAddress(":8080") }, "access"},
		{"0.0.0.0, nothing chosen", func(c *node.Config) { c.Listen = node.MustParseAddress("0.0.0.0:8080") }, "access"},
		{"a network, nothing chosen", func(c *node.Config) { c.Listen = node.MustParseAddress("[fd00::1]:8080") }, "access"},
		{"self-signed, nothing chosen", func(c *node.Config) { c.Listen, c.TLS.Mode = node.MustParseAddress(":8443"), "self-signed" }, "access"},
		{"a proxy, nothing chosen", func(c *node.Config) { c.Origins = urls(t, "https://video.example.org") }, "access"},
		{"a developer's page", func(c *node.Config) { c.Origins = urls(t, "http://localhost:5173") }, ""},
		{"self-signed and open", func(c *node.Config) {
			c.Listen, c.TLS.Mode, c.Access = node.MustParseAddress(":8443"), "self-signed", "open"
		}, ""},

		{"plain HTTP to all", func(c *node.Config) { c.Listen, c.Access = node.MustParseAddress(":8080"), "open" }, "listen"},
		{"plain HTTP to a proxy", func(c *node.Config) {
			c.Listen, c.Access, c.Origins = node.MustParseAddress(":8080"), "open", urls(t, "https://video.example.org")
		}, ""},

		{"some TLS", func(c *node.Config) { c.TLS.Mode = "on" }, "tls.mode"},
		{"files without key", func(c *node.Config) { c.TLS.Mode, c.TLS.Cert = "files", "cert.pem" }, "tls.mode"},
		{"files", func(c *node.Config) { c.TLS = node.TLS{Mode: "files", Cert: "cert.pem", Key: "key.pem"} }, ""},

		{"no data", func(c *node.Config) { c.Data = "" }, "data"},
		{"another database", func(c *node.Config) { c.Database = "mysql://ann:hunter2@localhost/x" }, "database"},
		{"SQLite without path", func(c *node.Config) { c.Database = "sqlite:" }, "database"},
		{"a broken URL", func(c *node.Config) { c.Database = "postgres://ann:hunter2@local host:port/x" }, "database"},
		{"PostgreSQL", func(c *node.Config) { c.Database = "postgres://ann:hunter2@localhost/visavis" }, ""},

		{"a relay that is off", func(c *node.Config) { c.Relay = node.Relay{} }, ""},
		{"two relay addresses of one family", func(c *node.Config) {
			c.Relay.Address, c.Relay.OtherAddress = netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("203.0.113.8")
		}, "relay.other-address"},
		{"a packet that waits for 6 ms", func(c *node.Config) { c.Relay.Coalesce = 6 * time.Millisecond }, "relay.coalesce-microseconds"},
		{"a relay that is everywhere", func(c *node.Config) { c.Relay.Address = netip.IPv6Unspecified() }, "relay.address"},
		{"a relay address", func(c *node.Config) { c.Relay.Address = netip.MustParseAddr("203.0.113.7") }, ""},
		{"a name for the relay", func(c *node.Config) { c.Relay.Host = "turn.example.org" }, ""},
		{"an address for a name", func(c *node.Config) { c.Relay.Host = "203.0.113.7" }, "relay.host"},
		{"a name with a port", func(c *node.Config) { c.Relay.Host = "turn.example.org:3478" }, "relay.host"},
		{"a URL for a name", func(c *node.Config) { c.Relay.Host = "turn:turn.example.org" }, "relay.host"},
		{"TLS by address", func(c *node.Config) { c.TLS.Mode, c.Relay.TLSListen = "self-signed", node.MustParseAddress(":5349") }, "relay.tls-name"},
		{"TLS by name", func(c *node.Config) {
			c.TLS.Mode, c.Relay.TLSListen, c.Relay.TLSName = "self-signed", node.MustParseAddress(":5349"), "turn.example.org"
		}, ""},
		{"TLS by the relay's name", func(c *node.Config) {
			c.TLS.Mode, c.Relay.TLSListen, c.Relay.Host = "self-signed", node.MustParseAddress(":5349"), "turn.example.org"
		}, ""},
		{"low relay ports", func(c *node.Config) { c.Relay.MinPort = 80 }, "relay.min-port"},
		{"no relay ports", func(c *node.Config) { c.Relay.MaxPort = 49151 }, "relay.min-port"},
		{"a mixed range", func(c *node.Config) {
			c.Relay.Allow = []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.0.0"), 104)}
		}, "relay.allow"},
		{"credentials for ten seconds", func(c *node.Config) { c.Relay.CredentialLife = 10 * time.Second }, "relay.credential-seconds"},
		{"credentials for a day", func(c *node.Config) { c.Relay.CredentialLife = 86_400 * time.Second }, "relay.credential-seconds"},
		{"credentials that expire while it rings", func(c *node.Config) { c.Relay.CredentialLife = 69 * time.Second }, "relay.credential-seconds"},
		{"credentials for little more than a ring", func(c *node.Config) { c.Relay.CredentialLife = 70 * time.Second }, ""},
		{"a contact without address", func(c *node.Config) { c.Push.Contact = "ann@example.org" }, "push.contact"},
		{"a contact by plain HTTP", func(c *node.Config) { c.Push.Contact = "http://example.org" }, "push.contact"},
		{"a contact", func(c *node.Config) { c.Push.Contact = "mailto:ann@example.org" }, ""},
		{"no push service", func(c *node.Config) { c.Push.Services = nil }, "push.services"},
		{"no push service, and no push", func(c *node.Config) { c.Push = node.Push{} }, ""},
		{"any push service", func(c *node.Config) { c.Push.Services = []string{"*"} }, "push.services"},
		{"a push service of one's own", func(c *node.Config) { c.Push.Services = []string{"https://push.example.org:8443"} }, ""},
		{"a range", func(c *node.Config) { c.Relay.Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }, ""},
		{"no allocations", func(c *node.Config) { c.Relay.MaxAllocations = 0 }, "relay.max-allocations"},
		{"one allocation", func(c *node.Config) { c.Relay.MaxAllocations = 1 }, ""},
		{"no connections", func(c *node.Config) { c.Relay.MaxConnections = 0 }, "relay.max-connections"},
		{"no connections of a source", func(c *node.Config) { c.Relay.SourceConnections = 0 }, "relay.source-connections"},
		{"no requests of a source", func(c *node.Config) { c.Relay.SourceRequests = -1 }, "relay.source-requests"},
		{"no allocations of a source", func(c *node.Config) { c.Relay.SourceAllocations = 0 }, "relay.source-allocations"},
		{"less for a source than for a user", func(c *node.Config) { c.Relay.SourceBitRate = 3_999_999 }, "relay.bit-rate"},
		{"less for all than for a user", func(c *node.Config) { c.Relay.TotalBitRate = 3_999_999 }, "relay.bit-rate"},
		{"as much for all as for a user", func(c *node.Config) { c.Relay.TotalBitRate, c.Relay.SourceBitRate = 4_000_000, 4_000_000 }, ""},
		{"a low bit rate", func(c *node.Config) { c.Relay.BitRate = 63_999 }, "relay.bit-rate"},
		{"another address", func(c *node.Config) { c.Relay.OtherAddress = netip.MustParseAddr("2001:db8::7") }, ""},
		{"no other address", func(c *node.Config) { c.Relay.OtherAddress = netip.IPv6Unspecified() }, "relay.other-address"},
		{"four workers", func(c *node.Config) { c.Relay.Workers = 4 }, ""},
		{"less than no workers", func(c *node.Config) { c.Relay.Workers = -1 }, "relay.workers"},
		{"a low packet rate", func(c *node.Config) { c.Relay.PacketRate = 49 }, "relay.packet-rate"},

		{"4 s", func(c *node.Config) { c.Call.RingTime = 4 * time.Second }, "call.ring-seconds"},
		{"181 s", func(c *node.Config) { c.Call.RingTime = 181 * time.Second }, "call.ring-seconds"},
		{"180 s", func(c *node.Config) { c.Call.RingTime = 180 * time.Second }, ""},
		{"no rings", func(c *node.Config) { c.Call.RingsPerMinute = 0 }, "call.rings-per-minute"},
		{"61 rings", func(c *node.Config) { c.Call.RingsPerMinute = 61 }, "call.rings-per-minute"},

		{"a log of tables", func(c *node.Config) { c.Log.Format = "csv" }, "log.format"},
	} {
		t.Run(c.what, func(t *testing.T) {
			cfg := node.DefaultConfig()
			c.set(&cfg)
			err := cfg.Validate()
			if c.key == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wrong := (*node.ConfigError)(nil)
			if !errors.As(err, &wrong) || wrong.Key != c.key {
				t.Fatalf("error %v, want one about %s", err, c.key)
			}
			if strings.Contains(err.Error()+wrong.Hint(), "hunter2") {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

func TestAccessBeyondThisMachineHasAHint(t *testing.T) {
	cfg := node.DefaultConfig()
	cfg.Listen = node.MustParseAddress(":8443")
	wrong := (*node.ConfigError)(nil)
	if err := cfg.Validate(); !errors.As(err, &wrong) ||
		wrong.Hint() != "--access open lets in anyone who can reach this address" {
		t.Errorf("error %v, hint %q", err, wrong.Hint())
	}
}

func TestWarnings(t *testing.T) {
	for _, c := range []struct {
		what string
		set  func(*node.Config)
		want []string // a part of each
	}{
		{"plain HTTP to a proxy elsewhere", func(c *node.Config) {
			c.Listen, c.Relay.Listen, c.Origins = node.MustParseAddress(":8080"), node.MustParseAddress(":3478"), urls(t, "https://video.example.org")
		}, []string{"secure pages only", "proxies is empty"}},
		{"a proxy here, the relay forgotten", func(c *node.Config) {
			c.Origins, c.Proxies = urls(t, "https://video.example.org"), []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		}, []string{"nobody but this machine"}},
		{"no relay", func(c *node.Config) {
			c.Listen, c.TLS.Mode, c.Relay.Enabled = node.MustParseAddress(":8443"), "self-signed", false
		}, []string{"the relay is off"}},
		{"all well", func(c *node.Config) {
			c.Listen, c.TLS.Mode, c.Relay.Listen = node.MustParseAddress(":8443"), "self-signed", node.MustParseAddress(":3478")
		}, nil},
	} {
		cfg := node.DefaultConfig()
		cfg.Access = "open"
		c.set(&cfg)
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		got := cfg.Warnings()
		if len(got) != len(c.want) {
			t.Errorf("%s: got %q, want %q", c.what, got, c.want)
			continue
		}
		for i, part := range c.want {
			if !strings.Contains(got[i], part) {
				t.Errorf("%s: got %q, want %q", c.what, got[i], part)
			}
		}
	}
}
