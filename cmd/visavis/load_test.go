package main

import (
	"errors"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/visavis/visavis/internal/node"
	"github.com/visavis/visavis/internal/relay/feed"
)

func writeFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "visavis.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestPrecedence(t *testing.T) {
	file := writeFile(t, "name = 'file'\ndata = 'file'\nlisten = 'localhost:1'\n[call]\nring-seconds = 10\n")
	environ := []string{"VISAVIS_CONFIG=" + file, "VISAVIS_DATA=variable", "VISAVIS_LISTEN=localhost:2", "PATH=/bin", "VISAVIS_NAME="}
	cfg, from, err := load(map[string]string{"listen": "localhost:3"}, environ)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Name != "file" || cfg.Data != "variable" || cfg.Listen.String() != "localhost:3" || cfg.Call.RingTime != 10*time.Second || from != file {
		t.Errorf("got %+v from %s", cfg, from)
	}

	other := writeFile(t, "name = 'other'\n")
	if cfg, _, err = load(map[string]string{"config": other}, environ); err != nil || cfg.Name != "other" {
		t.Errorf("--config does not win: name %q, error %v", cfg.Name, err)
	}
}

// whole are the types of settings that are compared as a whole.
var whole = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, node.Address{}, feed.URL{})

// turnURL is a TURN URL that is right.
func turnURL(t *testing.T, text string) feed.URL {
	t.Helper()
	u, err := feed.ParseURL(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestEverySettingCanBeSetEveryWay(t *testing.T) {
	const secret = "gJ7uQxv0mN3bY8kRz5TqW1sLcE6hPdA9oViFtU2XyMw"
	values := map[string]string{
		"name": "Den", "listen": "127.0.0.1:9", "access": "open", "data": "kept", "database": "sqlite:x.db",
		"origins": "https://a.example, https://b.example", "proxies": "10.1.0.0/16", "tls.mode": "files", "tls.cert": "c.pem", "tls.key": "k.pem",
		"relay.enabled": "true", "relay.listen": "127.0.0.1:8", "relay.address": "192.0.2.1", "relay.min-port": "2000",
		"relay.max-port": "3000", "relay.allow": "10.0.0.0/8,fd00::/8", "relay.secret": secret,
		"relay.tls-listen": ":5349", "relay.tls-name": "turn.example", "relay.others": "turn:one.example:3478,turns:two.example", "relay.scoped": "false",
		"relay.host": "relay.example", "relay.public-port": "3479", "relay.tls-public-port": "443",
		"relay.coalesce-microseconds": "1000", "relay.drain-seconds": "60", "relay.credential-seconds": "600", "relay.workers": "3", "relay.other-address": "2001:db8::1",
		"relay.max-allocations": "99", "relay.bit-rate": "64000", "relay.packet-rate": "51",
		"relay.source-allocations": "95", "relay.source-bit-rate": "65000", "relay.total-bit-rate": "25000000000",
		"relay.max-connections": "98", "relay.source-connections": "97", "relay.source-requests": "96",
		"call.ring-seconds": "7", "call.rings-per-minute": "8", "call.connect-early": "false",
		"socketio.enabled": "true",
		"push.enabled":     "true", "push.contact": "mailto:ann@a.example", "push.services": "push.a.example,*.b.example",
		"limit.connections-per-address": "9", "limit.sessions": "77", "limit.queued-megabytes": "5",
		"store.keep-days": "30",
		"admin.listen":    "127.0.0.1:7", "log.level": "debug", "log.format": "json",
	}
	want := node.Config{
		Name: "Den", Listen: node.MustParseAddress("127.0.0.1:9"), Access: "open", Data: "kept", Database: "sqlite:x.db",
		Origins: []*url.URL{{Scheme: "https", Host: "a.example"}, {Scheme: "https", Host: "b.example"}}, Proxies: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
		TLS: node.TLS{Mode: "files", Cert: "c.pem", Key: "k.pem"},
		Relay: node.Relay{
			Enabled: true, Listen: node.MustParseAddress("127.0.0.1:8"), Address: netip.MustParseAddr("192.0.2.1"), MinPort: 2000, MaxPort: 3000,
			Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}, Secret: secret,
			MaxAllocations: 99, BitRate: 64_000, PacketRate: 51,
			SourceAllocations: 95, SourceBitRate: 65000, TotalBitRate: 25_000_000_000,
			MaxConnections: 98, SourceConnections: 97, SourceRequests: 96,
			TLSListen: node.MustParseAddress(":5349"), TLSName: "turn.example", Others: []feed.URL{turnURL(t, "turn:one.example:3478"), turnURL(t, "turns:two.example")},
			Coalesce: time.Millisecond, Drain: time.Minute, CredentialLife: 10 * time.Minute, Workers: 3, OtherAddress: netip.MustParseAddr("2001:db8::1"),
			Host: "relay.example", PublicPort: 3479, TLSPublicPort: 443,
		},
		Call:     node.Call{RingTime: 7 * time.Second, RingsPerMinute: 8},
		SocketIO: node.SocketIO{Enabled: true},
		Push:     node.Push{Enabled: true, Contact: "mailto:ann@a.example", Services: []string{"push.a.example", "*.b.example"}},
		Limit:    node.Limit{ConnectionsPerAddress: 9, Sessions: 77, QueuedMegabytes: 5},
		Store:    node.Store{Keep: 30 * 24 * time.Hour},
		Admin:    node.Admin{Listen: node.MustParseAddress("127.0.0.1:7")},
		Log:      node.Log{Level: slog.LevelDebug, Format: "json"},
	}
	flags, environ := map[string]string{}, []string{}
	for _, s := range settings {
		value, ok := values[s.key]
		if !ok {
			t.Errorf("the test has no value for %s", s.key)
		}
		environ = append(environ, variable(s.key)+"="+value)
		if s.unflagged {
			flags[flag(s.key)+fileSuffix] = writeFile(t, value+"\n")
		} else {
			flags[flag(s.key)] = value
		}
	}
	file := writeFile(t, `
name = "Den"
listen = "127.0.0.1:9"
access = "open"
data = "kept"
database = "sqlite:x.db"
origins = ["https://a.example", "https://b.example"]
proxies = ["10.1.0.0/16"]
tls = {mode = "files", cert = "c.pem", key = "k.pem"}
call.ring-seconds = 7
call.rings-per-minute = 8
call.connect-early = false
limit = {connections-per-address = 9, sessions = 77, queued-megabytes = 5}
store = {keep-days = 30}
[relay]
enabled = true
listen = "127.0.0.1:8"
address = "192.0.2.1"
min-port = 2000
max-allocations = 99
bit-rate = 64000
packet-rate = 51
source-allocations = 95
source-bit-rate = 65000
total-bit-rate = 25000000000
max-connections = 98
source-connections = 97
source-requests = 96
max-port = 3000
allow = ["10.0.0.0/8", "fd00::/8"]
tls-listen = ":5349"
tls-name = "turn.example"
others = ["turn:one.example:3478", "turns:two.example"]
coalesce-microseconds = 1000
scoped = false
drain-seconds = 60
credential-seconds = 600
workers = 3
other-address = "2001:db8::1"
host = "relay.example"
public-port = 3479
tls-public-port = 443
secret = "gJ7uQxv0mN3bY8kRz5TqW1sLcE6hPdA9oViFtU2XyMw"
[push]
enabled = true
contact = "mailto:ann@a.example"
services = ["push.a.example", "*.b.example"]
[admin]
listen = "127.0.0.1:7"
[log]
level = "debug"
format = "json"
`[1:])
	for way, given := range map[string]struct {
		flags   map[string]string
		environ []string
	}{
		"flags": {flags: flags}, "variables": {environ: environ}, "file": {flags: map[string]string{"config": file}},
	} {
		got, _, err := load(given.flags, given.environ)
		if err != nil {
			t.Errorf("%s: %v", way, err)
			continue
		}
		if diff := cmp.Diff(want, got, whole); diff != "" {
			t.Errorf("%s (-want +got):\n%s", way, diff)
		}
	}
}

func TestWhatFollowsFromTLS(t *testing.T) {
	for _, c := range []struct {
		flags                 map[string]string
		mode, listen, relayAt string
	}{
		{map[string]string{}, "off", "localhost:8080", "127.0.0.1:3478"},
		{map[string]string{"tls-cert": "c", "tls-key": "k"}, "files", "localhost:8080", "127.0.0.1:3478"},
		{map[string]string{"tls-cert": "c", "tls-key": "k", "tls": "off"}, "off", "localhost:8080", "127.0.0.1:3478"},
		{map[string]string{"tls": "self-signed"}, "self-signed", ":8443", ":3478"},
		{
			map[string]string{"tls": "self-signed", "listen": "localhost:8080", "relay-listen": "127.0.0.1:3478"},
			"self-signed", "localhost:8080", "127.0.0.1:3478",
		},
	} {
		c.flags["access"] = "open"
		cfg, _, err := load(c.flags, nil)
		if err != nil {
			t.Errorf("%v: %v", c.flags, err)
		}
		if cfg.TLS.Mode != c.mode || cfg.Listen.String() != c.listen || cfg.Relay.Listen.String() != c.relayAt {
			t.Errorf("%v: got %s on %s, relay on %s; want %s on %s, relay on %s", c.flags,
				cfg.TLS.Mode, cfg.Listen, cfg.Relay.Listen, c.mode, c.listen, c.relayAt)
		}
	}
}

func TestWrongFiles(t *testing.T) {
	made := node.NewSecret()
	secret := writeFile(t, made+"\n")
	for _, c := range []struct{ text, want, hint string }{
		{"listen = 'localhost:1'\nlistn = 'x'\n", ":2: unknown key listn", "did you mean listen?"},
		{"[relay]\n# ports\n\nmin-prt = 1\n", ":4: unknown key relay.min-prt", "did you mean relay.min-port?"},
		{"[relay]\nlisten = ':1'\n[relais]\nlisten = ':1'\n", ":3: unknown key relais", ""},
		{"origins = [\n  'https://a.example',\n]\nwhat = {ever = 1}\n", ":4: unknown key what", ""},
		{"text = '''\nlisten = 1\n'''\n", ":1: unknown key text", ""},
		{"tls = 'self-signed'\n", ":1: unknown key tls", ""},
		{"[listen]\nport = 3\n", ":1: listen is a value, no section", ""},
		{"[[relay]]\nlisten = ':1'\n", ":1: unknown key relay", ""},
		{"name = 'a'\nname = 'b'\n", ":2: ", ""},
		{"name = \n", ":1: ", ""},
		{"name = 5\n", ":1: name: 5 is no text: put it in quotes", ""},
		{"\norigins = 5\n", ":2: origins: 5 is no list", ""},
		{"origins = [5]\n", ":1: origins: 5 in the list is no text", ""},
		{"[relay]\nenabled = 'perhaps'\n", `:2: relay.enabled: "perhaps" is neither true nor false`, ""},
		{"[relay]\nmin-port = 70000\n", `:2: relay.min-port: "70000" is no port from 0 to 65535`, ""},
		{"[call]\nring-seconds = 7.5\n", `:2: call.ring-seconds: "7.5" is no whole number`, ""},
		{"[call]\nring-seconds = 1\n", "call.ring-seconds: 1 is not from 5 to 180", "--call-ring-seconds 60"},
		{"[relay]\nsecret = 'gJ7uQxv0mN3bY8kRz5TqW1sLcE6hPdA9oViFtU2XyMw'\nsecret-file = '" + secret + "'\n", "are both set", "leave one of the two away"},
		{"[relay]\nsecret-file = '/nowhere/at/all'\n", ":2: relay.secret-file: open /nowhere/at/all", ""},
	} {
		_, _, err := load(map[string]string{"config": writeFile(t, c.text)}, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want %q", c.text, err, c.want)
		}
		if c.hint != "" && hintFor(err) != c.hint {
			t.Errorf("%q: hint %q, want %q", c.text, hintFor(err), c.hint)
		}
	}
	cfg, _, err := load(map[string]string{"config": writeFile(t, "[relay]\nsecret-file = '"+secret+"'\n")}, nil)
	if err != nil || cfg.Relay.Secret != made {
		t.Errorf("secret %q, error %v", cfg.Relay.Secret, err)
	}
}

// Texts that are of the right kind and still no value are told with the setting's key and what to type instead.
func TestImpossibleValues(t *testing.T) {
	for _, c := range []struct{ key, value, want string }{
		{"listen", "localhost", `"localhost" is no address with a port`},
		{"listen", "localhost:65536", `"65536" is no port from 0 to 65535`},
		{"listen", "localhost:http", `"http" is no port from 0 to 65535`},
		{"listen", "video.example.org:443", `"video.example.org" is no IP address of this machine`},
		{"relay.listen", ":", `"" is no port from 0 to 65535`},
		{"relay.tls-listen", "5349", `"5349" is no address with a port`},
		{"admin.listen", "metrics", `"metrics" is no address with a port`},
		{"origins", "video.example.org", `"video.example.org" is no origin`},
		{"origins", "*", `"*" is no origin`},
		{"origins", "https://example.org/app", `"https://example.org/app" is no origin`},
		{"origins", "ftp://example.org", `"ftp://example.org" is no origin`},
		{"proxies", "127.0.0.1", "127.0.0.1"},
		{"relay.address", "203.0.113.7:3478", `"203.0.113.7:3478" is no IP address`},
		{"relay.other-address", "here", `"here" is no IP address`},
		{"relay.allow", "10.0.0.1", `"10.0.0.1" is no address range`},
		{"relay.allow", "::ffff:10.0.0.0/104", "is no address range"},
		{"relay.others", "stun:relay.example.org", `"stun:relay.example.org" is no TURN URL`},
		{"log.level", "trace", `"trace" is none of debug, info, warn, error`},
	} {
		for _, given := range []struct {
			flags   map[string]string
			environ []string
		}{{flags: map[string]string{flag(c.key): c.value}}, {environ: []string{variable(c.key) + "=" + c.value}}} {
			_, _, err := load(given.flags, given.environ)
			wrong := (*node.ConfigError)(nil)
			if !errors.As(err, &wrong) || wrong.Key != c.key || !strings.Contains(wrong.Problem, c.want) || wrong.Hint() == "" {
				t.Errorf("%s = %q: error %v, want %s: %s, with a hint", c.key, c.value, err, c.key, c.want)
			}
		}
	}
	for _, days := range []string{"106752", "9223372036854775807", "-106752"} {
		if _, _, err := load(map[string]string{"store-keep-days": days}, nil); err == nil || !strings.Contains(err.Error(), days) {
			t.Errorf("%s days are longer than a duration can be: %v", days, err)
		}
	}
}

func TestOriginsBecomeExact(t *testing.T) {
	cfg, _, err := load(map[string]string{"access": "open", "origins": "HTTPS://Video.Example.ORG/,http://[::1]:5173"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, u := range cfg.Origins {
		got = append(got, u.String())
	}
	if want := []string{"https://video.example.org", "http://[::1]:5173"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A secret of a stronger source wins over a weaker one, whichever form either has.
func TestSecretFiles(t *testing.T) {
	file := writeFile(t, "sqlite:from-a-file.db\n")
	cfg, _, err := load(map[string]string{"database": "sqlite:flag.db"}, []string{"VISAVIS_DATABASE_FILE=" + file})
	if err != nil || cfg.Database != "sqlite:flag.db" {
		t.Errorf("database %q, error %v", cfg.Database, err)
	}
	cfg, _, err = load(map[string]string{"database-file": file}, []string{"VISAVIS_DATABASE=sqlite:variable.db"})
	if err != nil || cfg.Database != "sqlite:from-a-file.db" {
		t.Errorf("database %q, error %v", cfg.Database, err)
	}
}

func TestUnknownVariables(t *testing.T) {
	_, _, err := load(nil, []string{"VISAVIS_RELAY_LISTN=:1"})
	if err == nil || err.Error() != "unknown variable VISAVIS_RELAY_LISTN" || hintFor(err) != "did you mean VISAVIS_RELAY_LISTEN?" {
		t.Errorf("error %v, hint %q", err, hintFor(err))
	}
	if _, _, err := load(nil, []string{"VISAVIS_TEST_POSTGRES=postgres://"}); err != nil {
		t.Error(err)
	}
}
