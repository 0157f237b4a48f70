package main

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/visavis/visavis/internal/node"
)

// A setting is one thing an operator can choose: a key of the configuration
// file, a flag and a variable.
type setting struct {
	key   string // in the file; sections are dotted
	takes string // what stands for the value in --help
	help  string
	// secret says that the value may instead stand in a file of its own, whose
	// path KEY-file has.
	secret bool
	// unflagged keeps a setting from the command line, which every user of the
	// machine can read.
	unflagged bool
	// unit is what a number stands for where the field is a duration.
	unit time.Duration
	// remedy is what to type instead of a text that cannot be a value.
	remedy string
	field  func(*node.Config) any
}

var settings = []setting{
	{
		key: "name", takes: "TEXT", help: "what this place is called",
		field: func(c *node.Config) any { return &c.Name },
	},
	{
		key: "listen", takes: "ADDR", help: "address and port of the page and of signaling; no address means all",
		remedy: "--listen localhost:8080",
		field:  func(c *node.Config) any { return &c.Listen },
	},
	{
		key: "access", takes: "WHO", help: "who may enter: open lets in anyone who can reach the address; must be chosen when other machines can",
		field: func(c *node.Config) any { return &c.Access },
	},
	{
		key: "data", takes: "DIR", help: "folder of what is kept",
		field: func(c *node.Config) any { return &c.Data },
	},
	{
		key: "database", takes: "URL", help: "sqlite:PATH or postgres://USER@HOST/NAME; empty is SQLite in the data folder", secret: true,
		field: func(c *node.Config) any { return &c.Database },
	},
	{
		key: "origins", takes: "URL,...", help: "whose pages may connect beside our own, such as https://video.example.org of a proxy in front",
		remedy: "an origin is a scheme and a host: https://app.example.org",
		field:  func(c *node.Config) any { return &c.Origins },
	},
	{
		key: "proxies", takes: "RANGE,...", help: "address ranges of proxies in front of this server, whose X-Forwarded-For is believed",
		remedy: `proxies = ["127.0.0.0/8"]`,
		field:  func(c *node.Config) any { return &c.Proxies },
	},
	{
		key: "tls.mode", takes: "MODE", help: "HTTPS: off, files (cert and key), or self-signed for the local network",
		field: func(c *node.Config) any { return &c.TLS.Mode },
	},
	{
		key: "tls.cert", takes: "FILE", help: "certificate with its chain, PEM",
		field: func(c *node.Config) any { return &c.TLS.Cert },
	},
	{
		key: "tls.key", takes: "FILE", help: "the certificate's private key, PEM",
		field: func(c *node.Config) any { return &c.TLS.Key },
	},
	{
		key: "relay.enabled", takes: "BOOL", help: "whether the STUN and TURN server runs; without it calls between networks often fail",
		field: func(c *node.Config) any { return &c.Relay.Enabled },
	},
	{
		key: "relay.listen", takes: "ADDR", help: "address and port of the relay, UDP and TCP",
		remedy: "--relay-listen 127.0.0.1:3478",
		field:  func(c *node.Config) any { return &c.Relay.Listen },
	},
	{
		key: "relay.host", takes: "NAME", help: "DNS name that clients are told instead of IP addresses, such as turn.example.org; needed for IPv6-only networks with NAT64",
		field: func(c *node.Config) any { return &c.Relay.Host },
	},
	{
		key: "relay.address", takes: "IP", help: "IP address by which clients reach the relay; empty is the one it listens on, or this machine's of each family, followed as they change",
		remedy: "--relay-address 203.0.113.7 is how clients reach the relay",
		field:  func(c *node.Config) any { return &c.Relay.Address },
	},
	{
		key: "relay.other-address", takes: "IP", help: "IP address of the other family, IPv6 beside IPv4; empty is this machine's where the relay listens on all addresses",
		remedy: "--relay-other-address 2001:db8::7 is for clients that ask for IPv6, beside an IPv4 --relay-address",
		field:  func(c *node.Config) any { return &c.Relay.OtherAddress },
	},
	{
		key: "relay.public-port", takes: "PORT", help: "port that clients are told, where a router maps it to that of relay.listen; 0 is that one",
		field: func(c *node.Config) any { return &c.Relay.PublicPort },
	},
	{
		key: "relay.min-port", takes: "PORT", help: "lowest port of relayed media, UDP",
		field: func(c *node.Config) any { return &c.Relay.MinPort },
	},
	{
		key: "relay.max-port", takes: "PORT", help: "highest port of relayed media, UDP",
		field: func(c *node.Config) any { return &c.Relay.MaxPort },
	},
	{
		key: "relay.allow", takes: "RANGE,...", help: "private address ranges that may be relayed to all the same, such as 192.168.0.0/16",
		remedy: "a range is an address and the length of its prefix: 192.168.0.0/16",
		field:  func(c *node.Config) any { return &c.Relay.Allow },
	},
	{
		key: "relay.tls-listen", takes: "ADDR", help: "address and port of the relay over TLS, with the certificate of tls; empty is none",
		remedy: "--relay-tls-listen :5349",
		field:  func(c *node.Config) any { return &c.Relay.TLSListen },
	},
	{
		key: "relay.tls-name", takes: "NAME", help: "name in the certificate, by which clients reach the relay over TLS; empty is relay.host",
		field: func(c *node.Config) any { return &c.Relay.TLSName },
	},
	{
		key: "relay.tls-public-port", takes: "PORT", help: "port that clients of TLS are told, such as 443 of a proxy in front; 0 is that of relay.tls-listen",
		field: func(c *node.Config) any { return &c.Relay.TLSPublicPort },
	},
	{
		key: "relay.others", takes: "URL,...", help: "TURN URLs of relays that stand alone (visavis relay) and share relay.secret",
		remedy: "turn:relay.example.org:3478?transport=udp",
		field:  func(c *node.Config) any { return &c.Relay.Others },
	},
	{
		key: "relay.scoped", takes: "BOOL", help: "whether a relay that stands alone permits a client only what the other party of its call has shown; false makes it a TURN server for anything",
		field: func(c *node.Config) any { return &c.Relay.Scoped },
	},
	{
		key: "relay.coalesce-microseconds", takes: "N", help: "microseconds that packets may wait for others, so that sending costs less; 1000 is worth a try",
		unit:  time.Microsecond,
		field: func(c *node.Config) any { return &c.Relay.Coalesce },
	},
	{
		key: "relay.workers", takes: "N", help: "most threads that move packets; 0 is as many as there are processors, 16 at most",
		field: func(c *node.Config) any { return &c.Relay.Workers },
	},
	{
		key: "relay.drain-seconds", takes: "N", help: "how long relayed calls may go on when the program is to end",
		unit:  time.Second,
		field: func(c *node.Config) any { return &c.Relay.Drain },
	},
	{
		key: "relay.credential-seconds", takes: "N", help: "how long relay credentials of a call are good for; they are renewed while it lives",
		unit:  time.Second,
		field: func(c *node.Config) any { return &c.Relay.CredentialLife },
	},
	{
		key: "relay.secret", takes: "TEXT", help: "signs relay credentials, as visavis secret makes one; empty is one that is made once and kept in the database",
		secret: true, unflagged: true,
		field: func(c *node.Config) any { return &c.Relay.Secret },
	},
	{
		key: "relay.max-allocations", takes: "N", help: "most allocations at a time; a call makes up to eight with Chromium and six with Firefox, and keeps those in use: one or two if it is relayed",
		field: func(c *node.Config) any { return &c.Relay.MaxAllocations },
	},
	{
		key: "relay.bit-rate", takes: "N", help: "bits a second that one user has relayed in one call, each way",
		field: func(c *node.Config) any { return &c.Relay.BitRate },
	},
	{
		key: "relay.packet-rate", takes: "N", help: "packets a second that one user has relayed in one call, each way",
		field: func(c *node.Config) any { return &c.Relay.PacketRate },
	},
	{
		key: "relay.max-connections", takes: "N", help: "most TCP and TLS connections at a time",
		field: func(c *node.Config) any { return &c.Relay.MaxConnections },
	},
	{
		key: "relay.source-connections", takes: "N", help: "most TCP and TLS connections from one source at a time; the default is half of all, because one address may be a whole office",
		field: func(c *node.Config) any { return &c.Relay.SourceConnections },
	},
	{
		key: "relay.source-requests", takes: "N", help: "unsigned requests by UDP that one source has answered each second; the default lets 600 people behind one address start at once, and limits what a forger sends to a victim to 0.5 Mbit/s",
		field: func(c *node.Config) any { return &c.Relay.SourceRequests },
	},
	{
		key: "relay.source-allocations", takes: "N", help: "most allocations that clients from one source have at a time; the default is 250 browsers that start at the same moment",
		field: func(c *node.Config) any { return &c.Relay.SourceAllocations },
	},
	{
		key: "relay.source-bit-rate", takes: "N", help: "bits a second that all clients from one source have relayed, each way; the default is 100 people at bit-rate",
		field: func(c *node.Config) any { return &c.Relay.SourceBitRate },
	},
	{
		key: "relay.total-bit-rate", takes: "N", help: "bits a second that the relay relays, each way; the default is what most links carry",
		field: func(c *node.Config) any { return &c.Relay.TotalBitRate },
	},
	{
		key: "call.ring-seconds", takes: "N", help: "how long a call rings, 5 to 180",
		unit:  time.Second,
		field: func(c *node.Config) any { return &c.Call.RingTime },
	},
	{
		key: "call.rings-per-minute", takes: "N", help: "how often one user may ring, 1 to 60",
		field: func(c *node.Config) any { return &c.Call.RingsPerMinute },
	},
	{
		key: "call.connect-early", takes: "BOOL", help: "whether the two browsers connect over the relay while it rings, so that media is there at accept",
		field: func(c *node.Config) any { return &c.Call.ConnectEarly },
	},
	{
		key: "socketio.enabled", takes: "BOOL", help: "whether pages written with socket.io-client may connect; they come in by a name that they cannot prove",
		field: func(c *node.Config) any { return &c.SocketIO.Enabled },
	},
	{
		key: "push.enabled", takes: "BOOL", help: "whether devices without an open page are told of calls, by the push services of their browsers' makers",
		field: func(c *node.Config) any { return &c.Push.Enabled },
	},
	{
		key: "push.contact", takes: "URL", help: "whom the operators of push services may write to, mailto: or https:; iPhones are not told without",
		field: func(c *node.Config) any { return &c.Push.Contact },
	},
	{
		key: "push.services", takes: "HOST,...", help: "push services that may be sent to: a host, *. and a domain, or an origin",
		field: func(c *node.Config) any { return &c.Push.Services },
	},
	{
		key: "limit.connections-per-address", takes: "N", help: "most connections of one client address; an IPv6 address counts with all of its /64",
		field: func(c *node.Config) any { return &c.Limit.ConnectionsPerAddress },
	},
	{
		key: "limit.sessions", takes: "N", help: "most sessions at a time; each takes some 10 KB",
		field: func(c *node.Config) any { return &c.Limit.Sessions },
	},
	{
		key: "limit.queued-megabytes", takes: "N", help: "most megabytes that wait for clients to acknowledge them, for all sessions together",
		field: func(c *node.Config) any { return &c.Limit.QueuedMegabytes },
	},
	{
		key: "store.keep-days", takes: "N", help: "for how many days the record of a call is kept; 0 is for ever",
		unit:  24 * time.Hour,
		field: func(c *node.Config) any { return &c.Store.Keep },
	},
	{
		key: "admin.listen", takes: "ADDR", help: "address and port of metrics and profiles, such as 127.0.0.1:9090; empty is none",
		remedy: "--admin-listen 127.0.0.1:9090",
		field:  func(c *node.Config) any { return &c.Admin.Listen },
	},
	{
		key: "log.level", takes: "LEVEL", help: "least that is logged: debug, info, warn or error",
		remedy: "--log-level info",
		field:  func(c *node.Config) any { return &c.Log.Level },
	},
	{
		key: "log.format", takes: "FORMAT", help: "text or json",
		field: func(c *node.Config) any { return &c.Log.Format },
	},
}

// fileSuffix makes the key, flag or variable of a secret that of its file.
const fileSuffix = "-file"

// flag is a key as a flag, without the dashes in front.
func flag(key string) string {
	if key == "tls.mode" {
		return "tls"
	}
	return strings.ReplaceAll(key, ".", "-")
}

// variable is a key as an environment variable.
func variable(key string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(flag(key), "-", "_"))
}

// keys are those that the setting has: its own, and that of its file.
func (s setting) keys() []string {
	if s.secret {
		return []string{s.key, s.key + fileSuffix}
	}
	return []string{s.key}
}

// standard is the setting's default as an operator would type it.
func (s setting) standard() string {
	defaults := node.DefaultConfig()
	return shown(s.field(&defaults), s.unit)
}

// newFlags are the flags of a command that reads the configuration, as kong
// wants them: a pointer to a struct with a *string for each, nil when it is not
// given.
func newFlags() reflect.Value {
	fields := []reflect.StructField{flagField("config", "FILE", "configuration file, TOML; none is read unless given")}
	for _, s := range settings {
		if !s.unflagged {
			help := s.help
			if standard := s.standard(); standard != "" {
				help += " [" + standard + "]"
			}
			fields = append(fields, flagField(flag(s.key), s.takes, help))
		}
		if s.secret {
			fields = append(fields, flagField(flag(s.key+fileSuffix), "FILE", "file that has the value of "+s.key))
		}
	}
	return reflect.New(reflect.StructOf(fields))
}

func flagField(name, takes, help string) reflect.StructField {
	return reflect.StructField{
		Name: "Flag_" + strings.ReplaceAll(name, "-", "_"),
		Type: reflect.TypeFor[*string](),
		Tag:  reflect.StructTag(fmt.Sprintf("name:%q placeholder:%q help:%s", name, takes, strconv.Quote(help))),
	}
}

// flagValues are the flags that were given, by name.
func flagValues(flags reflect.Value) map[string]string {
	given := map[string]string{}
	for field, value := range flags.Elem().Fields() {
		if text := value.Interface().(*string); text != nil {
			given[field.Tag.Get("name")] = *text
		}
	}
	return given
}
