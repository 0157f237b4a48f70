package node_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"

	"github.com/visavis/visavis/internal/node"
	"github.com/visavis/visavis/internal/node/nodetest"
	"github.com/visavis/visavis/internal/relay"
	"github.com/visavis/visavis/protocol"
)

// TestARelayAlone asks a relay without the rest where a packet came from.
func TestARelayAlone(t *testing.T) {
	cfg := node.DefaultConfig()
	cfg.Listen, cfg.Relay.Listen, cfg.Relay.Secret = free, free, shared
	ctx, cancel := context.WithCancel(t.Context())
	urls := make(chan []string, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- node.RunRelay(ctx, cfg, slog.New(slog.DiscardHandler), func(at []string, _ string) { urls <- at })
	}()
	var at []string
	select {
	case at = <-urls:
	case err := <-ended:
		t.Fatal(err)
	}
	conn, err := net.Dial("udp", strings.TrimPrefix(at[0], "stun:"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// A Binding request without attributes (RFC 8489 §5).
	if _, err := conn.Write([]byte("\x00\x01\x00\x00\x21\x12\xa4\x42twelve bytes")); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	answer := make([]byte, 1500)
	n, err := conn.Read(answer)
	if err != nil || n < 32 || string(answer[:2]) != "\x01\x01" || string(answer[8:20]) != "twelve bytes" {
		t.Errorf("answer %x, %v", answer[:n], err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestWhatARelayAloneReaches: one that is scoped to no calls knows all the same of addresses that are nobody's business.
func TestWhatARelayAloneReaches(t *testing.T) {
	cfg := node.DefaultConfig()
	cfg.Listen, cfg.Relay.Listen, cfg.Relay.Secret = free, node.MustParseAddress("0.0.0.0:0"), shared
	cfg.Relay.Address = netip.MustParseAddr("9.9.9.9") // as behind a translator
	cfg.Relay.Scoped = false
	ctx, cancel := context.WithCancel(t.Context())
	urls, ended := make(chan []string, 1), make(chan error, 1)
	go func() {
		ended <- node.RunRelay(ctx, cfg, slog.New(slog.DiscardHandler), func(at []string, _ string) { urls <- at })
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	url := strings.Replace((<-urls)[1], "9.9.9.9", "127.0.0.1", 1)
	credentials := relay.Issue(node.RelayKey(cfg.Relay.Secret), "uann", "n1-call", "uann", time.Now(), time.Hour)
	t.Run("permissions", func(t *testing.T) {
		client, _ := allocation(t, []protocol.ICEServer{{URLs: []string{url}, Username: credentials.Username, Credential: credentials.Password}})
		for to, want := range map[string]bool{
			"8.8.8.8": true, "127.0.0.1": false, "10.0.0.1": false, "192.168.0.1": false, "169.254.169.254": false, "100.64.0.1": false,
		} {
			err := client.CreatePermission(&net.UDPAddr{IP: net.ParseIP(to), Port: 5000})
			if (err == nil) != want {
				t.Errorf("permission for %s: %v, want %v", to, err, want)
			}
		}
	})
}

func TestARelayAloneRefuses(t *testing.T) {
	for name, change := range map[string]func(*node.Config){
		"no secret":        func(*node.Config) {},
		"TLS without any":  func(c *node.Config) { c.Relay.Secret, c.Relay.TLSListen = shared, node.MustParseAddress(":5349") },
		"waiting too long": func(c *node.Config) { c.Relay.Secret, c.Relay.Coalesce = shared, 10*time.Millisecond },
	} {
		cfg := node.DefaultConfig()
		cfg.Listen, cfg.Relay.Listen = free, free
		change(&cfg)
		err := node.RunRelay(t.Context(), cfg, slog.New(slog.DiscardHandler), func([]string, string) { t.Error("it runs:", name) })
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestWhatTheRelayReaches: before accept nothing but relayed addresses, and after it nothing else of a party that hides.
func TestWhatTheRelayReaches(t *testing.T) {
	for _, hides := range []string{"", "Ann", "Bob"} {
		t.Run("hides "+hides, func(t *testing.T) {
			url := nodetest.Start(t, nil).URL()
			enter := func(name string) *nodetest.Client {
				return nodetest.Hello(t, url, &protocol.Hello{Version: protocol.Version, Name: name, AlwaysRelay: name == hides})
			}
			ann, bob := enter("Ann"), enter("Bob")
			ann.Send(&protocol.Ring{To: bob.Welcome.User.ID})
			calling, ring := nodetest.Await[*protocol.Calling](ann), nodetest.Await[*protocol.Ring](bob)
			anns, annsRelayed := allocation(t, calling.ICEServers)
			bobs, bobsRelayed := allocation(t, ring.ICEServers)

			// Loopback addresses other than the relay's stand for those that the two have.
			shows := func(who *nodetest.Client, host string, relayed net.Addr) {
				at := relayed.(*net.UDPAddr)
				who.Send(&protocol.Candidates{Call: ring.Call, Candidates: []protocol.Candidate{
					{Candidate: "candidate:1 1 udp 1 " + host + " 5000 typ host"},
					{Candidate: fmt.Sprintf("candidate:2 1 udp 1 %s %d typ relay raddr %s rport 5000", at.IP, at.Port, host)},
				}})
			}
			permits := func(when string, client *turn.Client, to string, want bool) {
				t.Helper()
				err := client.CreatePermission(net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to)))
				var refused *stun.TurnError
				if err != nil && (!errors.As(err, &refused) || refused.ErrorCodeAttr.Code != stun.CodeForbidden) {
					t.Fatalf("%s: permission for %s: %v", when, to, err)
				}
				if (err == nil) != want {
					t.Errorf("%s: permission for %s: %v, want %v", when, to, err == nil, want)
				}
			}
			ann.Send(&protocol.Offer{Call: ring.Call, Description: protocol.Description{Type: "offer", SDP: sdp}})
			shows(ann, "127.0.0.7", annsRelayed)
			bob.Send(&protocol.Ringing{Call: ring.Call, Early: true})
			nodetest.Await[*protocol.Offer](bob)
			permits("ringing", bobs, "127.0.0.7:5000", false)
			permits("ringing", bobs, annsRelayed.String(), true)
			permits("ringing", anns, bobsRelayed.String(), true)

			bob.Send(&protocol.Accept{Call: ring.Call})
			nodetest.Await[*protocol.Accept](ann)
			nodetest.Await[*protocol.Candidates](bob)
			bob.Send(&protocol.Answer{Call: ring.Call, Description: protocol.Description{Type: "answer", SDP: sdp}})
			shows(bob, "127.0.0.8", bobsRelayed)
			nodetest.Await[*protocol.Candidates](ann)
			permits("accepted", bobs, "127.0.0.7:5000", hides != "Ann")
			permits("accepted", anns, "127.0.0.8:5000", hides != "Bob")
			permits("accepted", bobs, annsRelayed.String(), true)
			permits("accepted", anns, bobsRelayed.String(), true)
			permits("accepted", anns, "127.0.0.9:5000", false) // nobody has shown it
		})
	}
}

// TestWhereBrowsersConnectEarly: wherever there is a relay, be it another server's, for
// before accept nothing else carries them; and only where the callee knows the caller, who
// is a stranger else.
func TestWhereBrowsersConnectEarly(t *testing.T) {
	l := standAlone(t, "127.0.0.1:0", nil)
	elsewhere := toldTo(l, t.TempDir())
	for _, test := range []struct {
		name   string
		change func(*node.Config)
		can    bool // what the caller says
		want   bool
	}{
		{"own relay", nil, true, true},
		{"the only relay is elsewhere", elsewhere, true, true},
		{"own relay and one elsewhere", func(c *node.Config) {
			data := c.Data
			elsewhere(c)
			c.Relay.Enabled, c.Data = true, data
		}, true, true},
		{"no relay", func(c *node.Config) { c.Relay.Enabled = false }, true, false},
		{"turned off", func(c *node.Config) { c.Call.ConnectEarly = false }, true, false},
		{"a caller that cannot", elsewhere, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			url := nodetest.Start(t, test.change).URL()
			ann, bob := nodetest.Enter(t, url, "Ann"), nodetest.Enter(t, url, "Bob")
			ann.Send(&protocol.Ring{Ref: "1", To: bob.Welcome.User.ID, Early: test.can})
			ring := nodetest.Await[*protocol.Ring](bob)
			if ring.Early || !ring.Stranger {
				t.Errorf("at first: early %v, a stranger %v", ring.Early, ring.Stranger)
			}
			bob.Send(&protocol.Accept{Call: ring.Call})
			nodetest.Await[*protocol.Accept](ann)
			ann.Send(&protocol.Hangup{Call: ring.Call})
			nodetest.Await[*protocol.Ended](ann)
			ann.Send(&protocol.Ring{Ref: "2", To: bob.Welcome.User.ID, Early: test.can})
			again := nodetest.Await[*protocol.Ring](bob)
			for again.Call == ring.Call { // told twice, where the first ring met Bob's session while it opened
				again = nodetest.Await[*protocol.Ring](bob)
			}
			if again.Early != test.want || again.Stranger {
				t.Errorf("the two may connect early: %v, want %v; a stranger: %v", again.Early, test.want, again.Stranger)
			}
		})
	}
}

// TestCredentialsOfALongCall: a call that is older than its first credentials makes new allocations with fresh ones only,
// and keeps those that the first have made.
func TestCredentialsOfALongCall(t *testing.T) {
	t.Parallel()
	url := nodetest.Start(t, func(c *node.Config) { c.Call.RingTime, c.Relay.CredentialLife = 5*time.Second, 15*time.Second }).URL()
	ann, bob := nodetest.Enter(t, url, "Ann"), nodetest.Enter(t, url, "Bob")
	began := time.Now()
	ann.Send(&protocol.Ring{To: bob.Welcome.User.ID})
	calling, ring := nodetest.Await[*protocol.Calling](ann), nodetest.Await[*protocol.Ring](bob)
	kept, relayed := allocation(t, calling.ICEServers)
	bob.Send(&protocol.Accept{Call: ring.Call})
	first := map[*nodetest.Client][]protocol.ICEServer{ann: calling.ICEServers, bob: ring.ICEServers}
	fresh := map[*nodetest.Client][]protocol.ICEServer{}
	for range 3 { // after 5, 10 and 15 s
		for _, who := range []*nodetest.Client{ann, bob} {
			fresh[who] = nodetest.Await[*protocol.Refresh](who).ICEServers
		}
	}
	<-time.After(time.Until(began.Add(16 * time.Second)))
	for who, servers := range first {
		var refused *stun.TurnError
		if _, _, err := allocate(t, servers); !errors.As(err, &refused) || refused.ErrorCodeAttr.Code != stun.CodeUnauthorized {
			t.Errorf("credentials of before: %v, want that they are refused", err)
		}
		if _, _, err := allocate(t, fresh[who]); err != nil {
			t.Errorf("fresh credentials: %v", err)
		}
	}
	// The first allocation goes on, and takes requests with the credentials that made it.
	if err := kept.CreatePermission(relayed); err != nil {
		t.Errorf("the allocation of before: %v", err)
	}
}

// allocation is one on the relay of these ICE servers.
func allocation(t *testing.T, servers []protocol.ICEServer) (*turn.Client, net.Addr) {
	t.Helper()
	client, relayed, err := allocate(t, servers)
	if err != nil {
		t.Fatal(err)
	}
	return client, relayed.LocalAddr()
}

// allocate asks for an allocation, which may be refused.
func allocate(t *testing.T, servers []protocol.ICEServer) (*turn.Client, net.PacketConn, error) {
	t.Helper()
	i := slices.IndexFunc(servers, func(s protocol.ICEServer) bool { return s.Credential != "" })
	if i < 0 {
		t.Fatalf("no relay in %+v", servers)
	}
	at := strings.TrimSuffix(strings.TrimPrefix(servers[i].URLs[0], "turn:"), "?transport=udp")
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: at, Conn: conn, Username: servers[i].Username, Password: servers[i].Credential,
	})
	if err == nil {
		err = client.Listen()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	relayed, err := client.Allocate()
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { _ = relayed.Close() })
	return client, relayed, nil
}
