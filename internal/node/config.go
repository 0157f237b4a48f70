package node

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/visavis/visavis/internal/outbox"
	"github.com/visavis/visavis/internal/relay/feed"
)

// Who may enter.
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

// Config is all that a node can be told. Start from [DefaultConfig]; cmd/visavis
// names each field's key, flag and variable.
type Config struct {
	// Name is what this place is called. Default: Visavis.
	Name string
	// Listen is where HTTP and WebSocket are taken: an address or none, and a
	// port. Default: localhost:8080.
	Listen string
	// Access is who may enter: [AccessOpen] or [AccessAccounts]. Default: open for
	// a place that only this machine can reach; any other has to choose.
	Access string
	// Data is the folder for what is kept. Default: ./data.
	Data string
	// Database is sqlite:PATH or a postgres:// URL. Default: SQLite in Data.
	Database string
	// Origins are those whose pages may connect, beside the one that the request
	// itself came to: https://app.example.org. Default: none.
	Origins []string
	// Proxies are address ranges of proxies in front of this server, whose
	// X-Forwarded-For is believed. Default: none.
	Proxies  []string
	TLS      TLS
	Relay    Relay
	Call     Call
	SocketIO SocketIO
	Push     Push
	Limit    Limit
	Store    Store
	Admin    Admin
	Log      Log
}

// Store is how long what is stored is kept.
type Store struct {
	// KeepDays is for how many days the record of a call is kept; 0 is for ever.
	// Default: 365.
	KeepDays int
}

// Limit is what bounds the memory of a node, and one client's share of it.
type Limit struct {
	// ConnectionsPerAddress is how many connections one client address may have, an
	// IPv6 one with all of its /64. Default: 1024.
	ConnectionsPerAddress int
	// Sessions is how many sessions there may be at a time, connected or waiting to be
	// resumed. Default: 100000, which take some 1 GB.
	Sessions int
	// QueuedMegabytes is how much may wait for clients to acknowledge it, in all.
	// Default: 128.
	QueuedMegabytes int
}

// TLS is how the connection to browsers is protected.
type TLS struct {
	// Mode is [TLSOff], [TLSFiles] or [TLSSelfSigned]. Default: off.
	Mode string
	// Cert and Key are PEM files, for [TLSFiles]. Default: none.
	Cert, Key string
}

// Relay is the node's own STUN and TURN server.
type Relay struct {
	// Enabled says whether there is one. Default: true.
	Enabled bool
	// Listen is where it takes UDP and TCP. Default: 127.0.0.1:3478.
	Listen string
	// Address is the IP address by which clients reach it. Default: the one it
	// listens on; when it listens on all, this machine's of each family, which are
	// followed while it runs.
	Address string
	// OtherAddress is the address of the family that Address is not of. Default: this
	// machine's when it listens on all addresses, else none.
	OtherAddress string
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
	Allow []string
	// TLSListen is where it takes TLS, with the certificate of TLS; TLSName is the
	// name in that, by which clients come. Default: none.
	TLSListen, TLSName string
	// Others are TURN URLs of relays that stand alone and share Secret; those of
	// one relay follow each other. They are told of calls by TCP. Default: none.
	Others []string
	// Scoped says whether a relay that stands alone permits a client only what the
	// other party of its call has shown, as a server's own does always. Default: true.
	Scoped bool
	// CoalesceMicroseconds is how long packets may wait for others, so that sending
	// costs less. Default: 0.
	CoalesceMicroseconds int
	// DrainSeconds is how long relayed calls may go on when the program ends.
	// Default: 0.
	DrainSeconds int
	// Secret signs the credentials that are handed out: 32 random bytes in base64 or
	// hexadecimal, as [NewSecret] makes them. Default: one that is made once and kept
	// in the database.
	Secret string
	// CredentialSeconds is how long the credentials that a party of a call gets are good
	// for new allocations: 15–3600, and 10 more than a call rings. Fresh ones are sent
	// after a third of it. Default: 3600.
	CredentialSeconds int
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

// Call is how calls behave.
type Call struct {
	// RingSeconds is how long a call rings: 5–180. Default: 60.
	RingSeconds int
	// RingsPerMinute is how often one user may ring: 1–60. Default: 5.
	RingsPerMinute int
	// ConnectEarly lets the two browsers connect, over the relay and without
	// sending anything, while it rings. Default: true.
	ConnectEarly bool
}

// SocketIO are pages written with socket.io-client.
type SocketIO struct {
	// Enabled says whether they may connect. They prove nothing but a name. Default: true.
	Enabled bool
}

// Log is what is written to standard error.
type Log struct {
	// Level is the least that is written: debug, info, warn or error. Default: info.
	Level string
	// Format is text or json. Default: text.
	Format string
}

// DefaultConfig is a place that only this machine can reach: it needs nothing
// else to run.
func DefaultConfig() Config {
	return Config{
		Name:   "Visavis",
		Listen: "localhost:8080",
		Data:   "./data",
		TLS:    TLS{Mode: TLSOff},
		Relay: Relay{
			Enabled: true, Scoped: true, Listen: "127.0.0.1:3478", MinPort: 49152, MaxPort: 65535,
			CredentialSeconds: 3600, MaxAllocations: 10_000, BitRate: 4_000_000, PacketRate: 1000,
			SourceAllocations: 2000, SourceBitRate: 400000000, TotalBitRate: 1000000000,
			MaxConnections: 4096, SourceConnections: 2048, SourceRequests: 1000,
		},
		Call:     Call{RingSeconds: 60, RingsPerMinute: 5, ConnectEarly: true},
		SocketIO: SocketIO{Enabled: true},
		Push:     Push{Enabled: true, Services: outbox.DefaultServices()},
		Store:    Store{KeepDays: 365},
		Limit:    Limit{ConnectionsPerAddress: 1024, Sessions: 100_000, QueuedMegabytes: 128},
		Log:      Log{Level: "info", Format: "text"},
	}
}

// ConfigError is a setting that cannot be.
type ConfigError struct {
	// Key is the setting's key in the configuration file.
	Key string
	// Problem is what is wrong with it.
	Problem string
	// Remedy is what to type instead; may be empty.
	Remedy string
}

// Error implements the error interface.
func (e *ConfigError) Error() string { return e.Key + ": " + e.Problem }

// Hint is what to type instead.
func (e *ConfigError) Hint() string { return e.Remedy }

// Validate reports the first setting that cannot be, as a [*ConfigError], and
// settles those that depend on others: Access, Origins in their exact form. It
// reads no file and opens nothing.
func (c *Config) Validate() error {
	for _, check := range []func() error{
		c.checkName, c.checkListen, c.checkTLS, c.checkOrigins, c.checkProxies, c.checkAccess, c.checkPlain, c.checkKept,
		c.checkSecret, c.checkRelay, c.checkCall, c.checkCredentials, c.checkPush, c.checkLimit, c.checkStore, c.checkAdmin, c.checkLog,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// Warnings are the sentences an operator should read about a valid
// configuration.
func (c *Config) Warnings() []string {
	var all []string
	if c.TLS.Mode == TLSOff && !loopback(c.Listen) {
		all = append(all, "listening beyond this machine without TLS: browsers give cameras and microphones to secure "+
			"pages only, so a proxy in front must speak HTTPS")
	}
	if len(c.Origins) > 0 && len(c.Proxies) == 0 {
		all = append(all, "origins is set and proxies is empty: if a proxy stands in front, all its visitors share one address "+
			"and its limits; name it, as in proxies = [\"127.0.0.0/8\"]")
	}
	if c.Relay.Enabled && loopback(c.Relay.Listen) && c.public() {
		all = append(all, "the relay listens on "+c.Relay.Listen+": nobody but this machine can use it")
	}
	if c.Admin.Listen != "" && !loopback(c.Admin.Listen) {
		all = append(all, "metrics and profiles are open to whoever reaches "+c.Admin.Listen+": see to it that only you can")
	}
	if !c.Relay.Enabled && c.public() {
		all = append(all, "the relay is off: calls between people in different networks will often fail")
	}
	return all
}

// DatabaseURL is Database, or what stands for it when it is empty.
func (c *Config) DatabaseURL() string {
	if c.Database != "" {
		return c.Database
	}
	return "sqlite:" + filepath.Join(c.Data, "visavis.db")
}

// LANAddresses are those by which other machines reach what listens, the likeliest
// first; none when it listens on loopback.
func (c *Config) LANAddresses() []netip.Addr {
	if loopback(c.Listen) {
		return nil
	}
	host, _, _ := net.SplitHostPort(c.Listen)
	if ip, err := netip.ParseAddr(host); err == nil && !ip.IsUnspecified() {
		return []netip.Addr{ip}
	}
	return lanAddresses()
}

// public reports whether people on other machines are meant to get here,
// directly or through a proxy.
func (c *Config) public() bool {
	return !loopback(c.Listen) || slices.ContainsFunc(c.Origins, func(o string) bool {
		u, err := url.Parse(o)
		return err == nil && !loopback(net.JoinHostPort(u.Hostname(), "0"))
	})
}

func (c *Config) checkName() error {
	c.Name = strings.TrimSpace(c.Name)
	n := utf8.RuneCountInString(c.Name)
	if n == 0 || n > 60 || strings.ContainsFunc(c.Name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return &ConfigError{"name", "a place has a name of 1 to 60 characters that can be shown", ""}
	}
	return nil
}

func (c *Config) checkListen() error {
	return checkAddress("listen", c.Listen, "--listen localhost:8080")
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

func (c *Config) checkProxies() error {
	for _, p := range c.Proxies {
		if _, err := netip.ParsePrefix(p); err != nil {
			return &ConfigError{"proxies", p + " is no address range", "proxies = [\"127.0.0.0/8\"]"}
		}
	}
	return nil
}

func (c *Config) checkOrigins() error {
	for i, origin := range c.Origins {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil ||
			u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
			return &ConfigError{
				"origins", fmt.Sprintf("%q is no origin", origin),
				"an origin is a scheme and a host: https://app.example.org",
			}
		}
		c.Origins[i] = strings.ToLower(u.Scheme + "://" + u.Host)
	}
	return nil
}

// checkPlain refuses plain HTTP to other machines unless a proxy is meant to
// stand in front, which the origins tell.
func (c *Config) checkPlain() error {
	if c.TLS.Mode == TLSOff && !loopback(c.Listen) && len(c.Origins) == 0 {
		return &ConfigError{
			"listen", c.Listen + " is beyond this machine, and without TLS that is only for a proxy with HTTPS in front",
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

func (c *Config) checkKept() error {
	if c.Data == "" {
		return &ConfigError{"data", "a folder is needed for what is kept", "--data ./data"}
	}
	scheme, path, _ := strings.Cut(c.DatabaseURL(), ":")
	_, err := url.Parse(c.DatabaseURL())
	switch {
	case scheme == "sqlite" && path != "":
		return nil
	case (scheme == "postgres" || scheme == "postgresql") && strings.HasPrefix(path, "//") && err == nil:
		return nil
	}
	// The value itself may hold a password.
	return &ConfigError{
		"database", "it is neither sqlite: with a path nor a postgres:// address",
		"--database sqlite:./data/visavis.db",
	}
}

// ValidateRelay is Validate for a relay that stands alone.
func (c *Config) ValidateRelay() error {
	for _, check := range []func() error{c.checkListen, c.checkTLS, c.checkProxies, c.checkSecret, c.checkRelay, c.checkAdmin, c.checkLog} {
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
	r := &c.Relay
	if err := r.checkOthers(); err != nil || !r.Enabled {
		return err
	}
	if r.TLSListen != "" {
		if err := checkAddress("relay.tls-listen", r.TLSListen, "--relay-tls-listen :5349"); err != nil {
			return err
		}
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
	if r.CoalesceMicroseconds < 0 || r.CoalesceMicroseconds > 5000 {
		return &ConfigError{"relay.coalesce-microseconds", "a packet may wait for at most 5000 µs", "--relay-coalesce-microseconds 1000"}
	}
	if r.DrainSeconds < 0 {
		return &ConfigError{"relay.drain-seconds", "it is less than 0", "--relay-drain-seconds 60"}
	}
	if err := checkAddress("relay.listen", r.Listen, "--relay-listen 127.0.0.1:3478"); err != nil {
		return err
	}
	if r.Address != "" {
		if ip, err := netip.ParseAddr(r.Address); err != nil || ip.IsUnspecified() || ip.Zone() != "" {
			return &ConfigError{
				"relay.address", fmt.Sprintf("%q is no IP address", r.Address),
				"--relay-address 203.0.113.7 is how clients reach the relay",
			}
		}
	}
	if r.OtherAddress != "" {
		if ip, err := netip.ParseAddr(r.OtherAddress); err != nil || ip.IsUnspecified() || ip.Zone() != "" || ip.Is4In6() {
			return &ConfigError{
				"relay.other-address", fmt.Sprintf("%q is no IP address", r.OtherAddress),
				"--relay-other-address 2001:db8::7 is for clients that ask for IPv6, beside an IPv4 --relay-address",
			}
		}
	}
	if r.Workers < 0 || r.Workers > 64 {
		return &ConfigError{
			"relay.workers", fmt.Sprintf("%d is not from 0 to 64", r.Workers),
			"--relay-workers 0 is as many as there are processors, 16 at most",
		}
	}
	if r.MinPort < 1024 || r.MinPort > r.MaxPort {
		return &ConfigError{
			"relay.min-port", fmt.Sprintf("%d–%d is no range of ports from 1024 on", r.MinPort, r.MaxPort),
			"--relay-min-port 49152 --relay-max-port 65535",
		}
	}
	for _, prefix := range r.Allow {
		if p, err := netip.ParsePrefix(prefix); err != nil || p.Addr().Is4In6() {
			return &ConfigError{
				"relay.allow", fmt.Sprintf("%q is no address range", prefix),
				"a range is an address and the length of its prefix: 192.168.0.0/16",
			}
		}
	}
	if r.MaxAllocations < 1 {
		return &ConfigError{
			"relay.max-allocations", fmt.Sprintf("%d is not 1 or more", r.MaxAllocations),
			"--relay-max-allocations 10000, or --relay-enabled=false for no relay",
		}
	}
	if r.BitRate < 64_000 {
		return &ConfigError{
			"relay.bit-rate", fmt.Sprintf("%d bits a second is less than 64000, which a voice needs", r.BitRate),
			"--relay-bit-rate 4000000",
		}
	}
	for _, limit := range []struct {
		key   string
		value int
	}{
		{"max-connections", r.MaxConnections},
		{"source-connections", r.SourceConnections},
		{"source-requests", r.SourceRequests},
		{"source-allocations", r.SourceAllocations},
	} {
		if limit.value < 1 {
			return &ConfigError{
				"relay." + limit.key, fmt.Sprintf("%d is not 1 or more", limit.value),
				"without it, the default is right for most (docs/configuration.md)",
			}
		}
	}
	if r.SourceBitRate < r.BitRate || r.TotalBitRate < r.BitRate {
		return &ConfigError{
			"relay.bit-rate", fmt.Sprintf("%d bits a second for one user is more than for a whole source (%d) or for all (%d)", r.BitRate, r.SourceBitRate, r.TotalBitRate),
			fmt.Sprintf("--relay-source-bit-rate %d --relay-total-bit-rate %d", 100*r.BitRate, 250*r.BitRate),
		}
	}
	if r.PacketRate < 50 {
		return &ConfigError{
			"relay.packet-rate", fmt.Sprintf("%d packets a second is less than 50, which a voice needs", r.PacketRate),
			"--relay-packet-rate 1000",
		}
	}
	return nil
}

func (c *Config) checkCall() error {
	if s := c.Call.RingSeconds; s < 5 || s > 180 {
		return &ConfigError{
			"call.ring-seconds", fmt.Sprintf("%d is not from 5 to 180", s),
			"--call-ring-seconds 60",
		}
	}
	if n := c.Call.RingsPerMinute; n < 1 || n > 60 {
		return &ConfigError{
			"call.rings-per-minute", fmt.Sprintf("%d is not from 1 to 60", n),
			"--call-rings-per-minute 5",
		}
	}
	return nil
}

func (c *Config) checkLimit() error {
	if n := c.Limit.ConnectionsPerAddress; n < 8 {
		return &ConfigError{
			"limit.connections-per-address", fmt.Sprintf("%d is less than 8, which one browser may open", n),
			"--limit-connections-per-address 1024",
		}
	}
	if n := c.Limit.Sessions; n < 1 {
		return &ConfigError{"limit.sessions", fmt.Sprintf("%d is not 1 or more", n), "--limit-sessions 100000"}
	}
	if n := c.Limit.QueuedMegabytes; n < 1 {
		return &ConfigError{"limit.queued-megabytes", fmt.Sprintf("%d is not 1 or more", n), "--limit-queued-megabytes 128"}
	}
	return nil
}

func (c *Config) checkStore() error {
	if n := c.Store.KeepDays; n < 0 {
		return &ConfigError{"store.keep-days", fmt.Sprintf("%d is less than 0, which keeps records for ever", n), "--store-keep-days 365"}
	}
	return nil
}

func (c *Config) checkLog() error {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		return &ConfigError{
			"log.level", fmt.Sprintf("%q is none of debug, info, warn, error", c.Log.Level),
			"--log-level info",
		}
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		return &ConfigError{
			"log.format", fmt.Sprintf("%q is neither text nor json", c.Log.Format),
			"--log-format text",
		}
	}
	return nil
}

// checkAddress accepts an IP address, localhost or nothing, and a port.
func checkAddress(key, address, remedy string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return &ConfigError{key, fmt.Sprintf("%q is no address with a port", address), remedy}
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return &ConfigError{key, fmt.Sprintf("%q is no port from 0 to 65535", port), remedy}
	}
	if host == "" || host == "localhost" {
		return nil
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return &ConfigError{key, fmt.Sprintf("%q is no IP address of this machine", host), remedy}
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

// loopback reports whether an address with a port is one that only this machine
// can reach.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

func (r *Relay) checkOthers() error {
	for _, u := range r.Others {
		if _, _, err := feed.Address(u); err != nil {
			return &ConfigError{
				"relay.others", fmt.Sprintf("%q is no TURN URL", u),
				"turn:relay.example.org:3478?transport=udp",
			}
		}
	}
	if len(r.Others) > 0 && r.Secret == "" {
		return &ConfigError{
			"relay.secret", "relays that stand alone share one with this server",
			"\"visavis secret\" makes one; write it into the file that relay.secret-file names",
		}
	}
	return nil
}
