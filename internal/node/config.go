package node

import (
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/visavis/visavis/internal/outbox"
)

// Config is all that a node can be told. Start from [DefaultConfig]; cmd/visavis
// names each field's key, flag and variable.
type Config struct {
	// Name is what this place is called. Default: Visavis.
	Name string
	// Listen is where HTTP and WebSocket are taken. Needed. Default: localhost:8080.
	Listen Address
	// Access is who may enter: [AccessOpen] or [AccessAccounts]. Default: open for
	// a place that only this machine can reach; any other has to choose.
	Access string
	// Data is the folder for what is kept. Default: ./data.
	Data string
	// Database is sqlite:PATH or a postgres:// URL. Default: SQLite in Data.
	Database string
	// Origins are those whose pages may connect, beside the one that the request
	// itself came to: a scheme and a host, as in https://app.example.org. Default: none.
	Origins []*url.URL
	// Proxies are address ranges of proxies in front of this server, whose
	// X-Forwarded-For is believed. Default: none.
	Proxies  []netip.Prefix
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
	// Keep is for how long the record of a call is kept; 0 is for ever. Default: 365 days.
	Keep time.Duration
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

// Call is how calls behave.
type Call struct {
	// RingTime is how long a call rings: 5–180 s. Default: 60 s.
	RingTime time.Duration
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
	// Level is the least that is written. Default: info.
	Level slog.Level
	// Format is text or json. Default: text.
	Format string
}

// DefaultConfig is a place that only this machine can reach: it needs nothing
// else to run.
func DefaultConfig() Config {
	return Config{
		Name:   "Visavis",
		Listen: MustParseAddress("localhost:8080"),
		Data:   "./data",
		TLS:    TLS{Mode: TLSOff},
		Relay: Relay{
			Enabled: true, Scoped: true, Listen: MustParseAddress("127.0.0.1:3478"), MinPort: 49152, MaxPort: 65535,
			CredentialLife: time.Hour, MaxAllocations: 10_000, BitRate: 4_000_000, PacketRate: 1000,
			SourceAllocations: 2000, SourceBitRate: 400000000, TotalBitRate: 1000000000,
			MaxConnections: 4096, SourceConnections: 2048, SourceRequests: 1000,
		},
		Call:     Call{RingTime: time.Minute, RingsPerMinute: 5, ConnectEarly: true},
		SocketIO: SocketIO{Enabled: true},
		Push:     Push{Enabled: true, Services: outbox.DefaultServices()},
		Store:    Store{Keep: 365 * 24 * time.Hour},
		Limit:    Limit{ConnectionsPerAddress: 1024, Sessions: 100_000, QueuedMegabytes: 128},
		Log:      Log{Level: slog.LevelInfo, Format: "text"},
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
// settles Access, which depends on others. It reads no file and opens nothing.
func (c *Config) Validate() error {
	for _, check := range []func() error{
		c.checkName, c.checkListen, c.checkTLS, c.checkAccess, c.checkPlain, c.checkKept,
		c.checkSecret, c.checkRelay, c.checkCall, c.checkCredentials, c.checkPush, c.checkLimit, c.checkStore, c.checkLog,
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
	if c.TLS.Mode == TLSOff && !c.Listen.loopback() {
		all = append(all, "listening beyond this machine without TLS: browsers give cameras and microphones to secure "+
			"pages only, so a proxy in front must speak HTTPS")
	}
	if len(c.Origins) > 0 && len(c.Proxies) == 0 {
		all = append(all, "origins is set and proxies is empty: if a proxy stands in front, all its visitors share one address "+
			"and its limits; name it, as in proxies = [\"127.0.0.0/8\"]")
	}
	if c.Relay.Enabled && c.Relay.Listen.loopback() && c.public() {
		all = append(all, "the relay listens on "+c.Relay.Listen.String()+": nobody but this machine can use it")
	}
	if c.Admin.Listen.IsValid() && !c.Admin.Listen.loopback() {
		all = append(all, "metrics and profiles are open to whoever reaches "+c.Admin.Listen.String()+": see to it that only you can")
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

func (c *Config) checkName() error {
	c.Name = strings.TrimSpace(c.Name)
	n := utf8.RuneCountInString(c.Name)
	if n == 0 || n > 60 || strings.ContainsFunc(c.Name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return &ConfigError{"name", "a place has a name of 1 to 60 characters that can be shown", ""}
	}
	return nil
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

func (c *Config) checkCall() error {
	if t := c.Call.RingTime; t < 5*time.Second || t > 180*time.Second {
		return &ConfigError{
			"call.ring-seconds", fmt.Sprintf("%d is not from 5 to 180", t/time.Second),
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
	if keep := c.Store.Keep; keep < 0 {
		return &ConfigError{"store.keep-days", fmt.Sprintf("%d is less than 0, which keeps records for ever", keep/(24*time.Hour)), "--store-keep-days 365"}
	}
	return nil
}

func (c *Config) checkLog() error {
	if c.Log.Format != "text" && c.Log.Format != "json" {
		return &ConfigError{
			"log.format", fmt.Sprintf("%q is neither text nor json", c.Log.Format),
			"--log-format text",
		}
	}
	return nil
}
