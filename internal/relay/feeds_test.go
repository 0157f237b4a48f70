package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/stun/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/visavis/visavis/internal/relay/feed"
)

// A fakeServer is the server end of a feed. Tests say what it sends.
type fakeServer struct {
	t     *testing.T
	conn  net.Conn
	feed  *feed.Conn
	relay string
}

// connectFeed connects one to the relay at an address.
func connectFeed(t *testing.T, conn net.Conn, secret []byte) (*fakeServer, error) {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * long))
	var hello feed.Report
	f, err := feed.Open(conn, secret, &hello)
	return &fakeServer{t, conn, f, hello.Relay}, err
}

func dialTCP(t *testing.T, s *Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func mustConnectFeed(t *testing.T, s *Server) *fakeServer {
	t.Helper()
	k, err := connectFeed(t, dialTCP(t, s), secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// tell sends news and waits for the report upon them.
func (k *fakeServer) tell(calls ...feed.Call) {
	k.t.Helper()
	if err := k.feed.Send(&feed.News{Calls: calls, Relays: addrs("127.0.0.20")}); err != nil {
		k.t.Fatal(err)
	}
	var report feed.Report
	if err := k.feed.Receive(&report); err != nil {
		k.t.Fatal(err)
	}
}

var on, off = true, false

func TestAFeedIsHeeded(t *testing.T) {
	for name, way := range map[string]func(t *testing.T, s *Server) net.Conn{
		"TCP": dialTCP,
		"TLS": func(t *testing.T, s *Server) net.Conn {
			conn, err := tls.Dial("tcp", s.secureAddr().String(), &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				t.Fatal(err)
			}
			return conn
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, reg := start(t, func(c *Config) {
				fed(c)
				secured(t, "127.0.0.1:0", false)(c)
			})
			k, err := connectFeed(t, way(t, s), older) // any of the secrets
			if err != nil || k.relay == "" {
				t.Fatal(k.relay, err)
			}
			eventually(t, reg, 1, "feeds")
			k.tell(feed.Call{ID: "call", RelayOnly: &on, Shown: map[string][]netip.Addr{"callee": addrs("127.0.0.7", "127.0.0.20")}})

			c := talk(t, s, "tcp")
			c.credentials = Issue(secret, "anna", "call", "caller", time.Now(), time.Hour)
			c.allocate()
			c.want(0, stun.MethodCreatePermission, peer("127.0.0.20:5000")) // another relay
			c.want(403, stun.MethodCreatePermission, peer("127.0.0.7:5000"))
			k.tell(feed.Call{ID: "call", RelayOnly: &off})
			c.want(0, stun.MethodCreatePermission, peer("127.0.0.7:5000"))
			k.tell(feed.Call{ID: "call"}) // says nothing
			c.want(0, stun.MethodCreatePermission, peer("127.0.0.7:5000"))

			// Without the feed all stays as it is.
			_ = k.conn.Close()
			eventually(t, reg, 0, "feeds")
			c.want(0, stun.MethodCreatePermission, peer("127.0.0.7:5000"))
			again := mustConnectFeed(t, s)
			if again.relay != k.relay {
				t.Error("the relay is another one")
			}
			again.tell(feed.Call{ID: "call", Ended: true})
			if b := c.read(long); b != nil {
				t.Errorf("its connection says %x, want closed", b)
			}
			eventually(t, reg, 0, "allocations")
		})
	}
}

// Each server is told what was relayed for calls that it has spoken of, when that has changed.
func TestUsageIsReported(t *testing.T) {
	d := newTestControl(t, fed)
	one, other := map[string]uint64{}, map[string]uint64{}
	learn := func(reported map[string]uint64, calls ...feed.Call) {
		d.control.learn(d.now, &feed.News{Calls: calls}, reported)
	}
	learn(one, feed.Call{ID: "call", Shown: map[string][]netip.Addr{"callee": addrs("8.8.8.8")}}, feed.Call{ID: "unheard of"})
	learn(other, feed.Call{ID: "other", Shown: map[string][]netip.Addr{"callee": addrs("8.8.8.8")}})
	p := d.client("1.1.1.1:1000", "anna", "call", "caller")
	p.want(0, stun.MethodAllocate, udp)
	p.want(0, stun.MethodChannelBind, channel(0x4000), peer("8.8.8.8:5000"))
	since := func(told map[string]uint64, want ...feed.Usage) {
		t.Helper()
		if diff := cmp.Diff(want, d.control.relayedSince(told)); diff != "" {
			t.Errorf("usage (-want +got):\n%s", diff)
		}
	}
	since(one)
	p.route(0x4000, "8.8.8.8:5000") // three packets of 100 bytes
	since(one, feed.Usage{Call: "call", Bytes: 300})
	since(one)
	since(other)
	p.want(0, stun.MethodRefresh, raw{stun.AttrLifetime, "\x00\x00\x00\x00"}) // the bytes stay
	since(one)
	if _, there := one["unheard of"]; there {
		t.Error("a call that the relay does not know is kept")
	}
	learn(one, feed.Call{ID: "call", Ended: true}, feed.Call{ID: "never", Ended: true})
	p.want(403, stun.MethodAllocate, udp)
	if len(one) != 0 {
		t.Errorf("still reported: %v", one)
	}
}

func TestRelaysAreBounded(t *testing.T) {
	d := newTestControl(t, fed)
	next := netip.MustParseAddr("2001:db8::")
	for range 2 * mostRelays {
		next = next.Next()
		d.control.addRelays(d.now, []netip.Addr{next})
	}
	if got := d.control.relays; len(got) != mostRelays || !slices.Contains(got, next) {
		t.Errorf("%d relays, want %d with the last one", len(got), mostRelays)
	}
}

// Who cannot prove to hold the secret is hung up on, as are those who break the framing or take their time.
func TestFeedsAreRefused(t *testing.T) {
	cfg := testConfig()
	fed(&cfg)
	cfg.SourceConnections = 2 * mostFeeds
	reg := prometheus.NewRegistry()
	s, err := New(bound(t, cfg), nil, reg)
	if err != nil {
		t.Fatal(err)
	}
	s.patience = time.Second
	run(t, s)
	hungUp := func(who string, conn net.Conn) {
		t.Helper()
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(2 * long))
		if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
			t.Errorf("%s is not hung up on", who)
		}
	}
	if _, err := connectFeed(t, dialTCP(t, s), bytes.Repeat([]byte("x"), 32)); !errors.Is(err, feed.ErrSecret) {
		t.Errorf("another secret: %v, want %v", err, feed.ErrSecret)
	}
	eventually(t, reg, 1, "refused_total", "feed")
	stranger := dialTCP(t, s)
	if _, err := stranger.Write(bytes.Repeat([]byte{0xff}, 100)); err != nil {
		t.Fatal(err)
	}
	hungUp("a stranger", stranger)
	eventually(t, reg, 2, "refused_total", "feed")

	slow := dialTCP(t, s)
	if _, err := slow.Write([]byte{0xff, 'v'}); err != nil {
		t.Fatal(err)
	}
	hungUp("one that does not go on", slow)
	eventually(t, reg, 1, "refused_total", "timeout")
	hungUp("one that says nothing more", mustConnectFeed(t, s).conn)
	eventually(t, reg, 2, "refused_total", "timeout")

	forger := mustConnectFeed(t, s)
	if _, err := forger.conn.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	hungUp("a forger", forger.conn)
	eventually(t, reg, 3, "refused_total", "feed")

	eventually(t, reg, 0, "feeds")
	s.metrics.feeds.Store(mostFeeds)
	hungUp("one too many", mustConnectFeed(t, s).conn)
	s.metrics.feeds.Store(0)
	eventually(t, reg, 0, "tcp_connections")
}

// A relay of a server's own takes no feed.
func TestOnlyARelayAloneIsFed(t *testing.T) {
	s, reg := start(t, scoped)
	if _, err := connectFeed(t, dialTCP(t, s), secret); !errors.Is(err, feed.ErrNoFeed) {
		t.Errorf("%v, want %v", err, feed.ErrNoFeed)
	}
	eventually(t, reg, 1, "dropped_total", "shape")
}

// The two ends of it, as they are.
func TestAFeedReachesARelay(t *testing.T) {
	s, reg := start(t, fed)
	at, err := feed.ParseURL("turn:" + s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	f, err := feed.New(feed.Config{
		Relays: []feed.URL{at}, Secret: secret, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	run := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { run <- f.Run(ctx) }()
	f.Permit("call", "callee", addrs("127.0.0.7")...)
	k := talk(t, s, "udp")
	k.credentials = Issue(secret, "anna", "call", "caller", time.Now(), time.Hour)
	k.allocate()
	k.want(0, stun.MethodCreatePermission, peer("127.0.0.7:5000"))
	f.EndCall("call")
	eventually(t, reg, 0, "allocations")
	f.EndCall("last")
	cancel()
	if err := <-run; err != nil {
		t.Error(err)
	}
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	if c := s.control; c.calls["last"] == nil || !c.calls["last"].ended {
		t.Error("the last word is lost")
	}
}
