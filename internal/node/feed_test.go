package node_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"

	"github.com/visavis/visavis/internal/node"
	"github.com/visavis/visavis/internal/node/nodetest"
	"github.com/visavis/visavis/internal/relay"
	"github.com/visavis/visavis/internal/relay/feed"
	"github.com/visavis/visavis/protocol"
)

var shared = node.NewSecret()

// free is a port of this machine that nobody has.
var free = node.MustParseAddress("127.0.0.1:0")

// turnURL is a TURN URL that is right.
func turnURL(text string) feed.URL {
	u, err := feed.ParseURL(text)
	if err != nil {
		panic(err)
	}
	return u
}

// urls are origins.
func urls(t testing.TB, texts ...string) []*url.URL {
	t.Helper()
	var all []*url.URL
	for _, text := range texts {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, u)
	}
	return all
}

// A lone relay stands alone until the test ends, or stop.
type lone struct {
	address string // host:port
	log     *heard
	stop    func()
}

func standAlone(t *testing.T, listen string, change func(*node.Config)) *lone {
	t.Helper()
	cfg := node.DefaultConfig()
	cfg.Listen, cfg.Relay.Listen, cfg.Relay.Secret = free, node.MustParseAddress(listen), shared
	if change != nil {
		change(&cfg)
	}
	l := &lone{log: new(heard)}
	ctx, cancel := context.WithCancel(context.Background())
	urls, ended := make(chan []string, 1), make(chan error, 1)
	go func() {
		ended <- node.RunRelay(ctx, cfg, slog.New(slog.NewTextHandler(l.log, nil)), func(at []string, _ string) { urls <- at })
	}()
	stopped := false
	l.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(l.stop)
	select {
	case at := <-urls:
		l.address = strings.TrimPrefix(at[0], "stun:")
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	return l
}

// toldTo is the configuration of a node without a relay of its own.
func toldTo(l *lone, data string) func(*node.Config) {
	return func(c *node.Config) {
		c.Relay.Enabled, c.Relay.Secret, c.Data = false, shared, data
		c.Relay.Others = []feed.URL{turnURL("turn:" + l.address + "?transport=udp"), turnURL("turn:" + l.address + "?transport=tcp")}
	}
}

// linked waits until the node's link to its relay is up, or is not.
func linked(t *testing.T, n *node.Node, l *lone, up int) {
	t.Helper()
	want := fmt.Sprintf("visavis_feed_up{relay=%q} %d\n", l.address, up)
	eventually(t, want, func() bool {
		_, body := get(t, n.AdminURL()+"/metrics", nil)
		return strings.Contains(body, want)
	})
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// allows asks for a permission, and tells whether it is granted.
func allows(t *testing.T, client *turn.Client, ip string) bool {
	t.Helper()
	err := client.CreatePermission(&net.UDPAddr{IP: net.ParseIP(ip), Port: 5000})
	var refused *stun.TurnError
	if err != nil && (!errors.As(err, &refused) || refused.ErrorCodeAttr.Code != stun.CodeForbidden) {
		t.Fatalf("permission for %s: %v", ip, err)
	}
	return err == nil
}

// agree has far answer a check of ICE that comes from a relayed address, as the relay wants before it sends anything
// else there. It returns how many bytes that came to, both ways.
func agree(t *testing.T, from, far net.PacketConn) int {
	t.Helper()
	key := stun.NewShortTermIntegrity("key")
	request := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername("far:near"), key, stun.Fingerprint)
	if _, err := from.WriteTo(request.Raw, far.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2000)
	_, relayed, err := far.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	answer := stun.MustBuild(stun.NewTransactionIDSetter(request.TransactionID), stun.BindingSuccess, key, stun.Fingerprint)
	if _, err := far.WriteTo(answer.Raw, relayed); err != nil {
		t.Fatal(err)
	}
	if _, _, err := from.ReadFrom(b); err != nil {
		t.Fatal(err)
	}
	return len(request.Raw) + len(answer.Raw)
}

// closed waits until a client has no allocation any more.
func closed(t *testing.T, client *turn.Client, ip string) {
	t.Helper()
	eventually(t, "the allocation is closed", func() bool {
		err := client.CreatePermission(&net.UDPAddr{IP: net.ParseIP(ip), Port: 5000})
		var refused *stun.TurnError
		return errors.As(err, &refused) && refused.ErrorCodeAttr.Code == stun.CodeAllocMismatch
	})
}

func shows(who *nodetest.Client, call protocol.CallID, ip string) {
	who.Send(&protocol.Candidates{Call: call, Candidates: []protocol.Candidate{
		{Candidate: "candidate:1 1 udp 1 " + ip + " 5000 typ host"},
	}})
}

// A call whose relay stands alone has the rules of the server's own.
func TestARelayAloneIsToldOfCalls(t *testing.T) {
	l, data := standAlone(t, "127.0.0.1:0", nil), t.TempDir()
	n := nodetest.Start(t, toldTo(l, data))
	url := n.URL()
	linked(t, n, l, 1)
	ann, bob := nodetest.Enter(t, url, "Ann"), nodetest.Enter(t, url, "Bob")
	ann.Send(&protocol.Ring{To: bob.Welcome.User.ID})
	calling, ring := nodetest.Await[*protocol.Calling](ann), nodetest.Await[*protocol.Ring](bob)
	anns, from, err := allocate(t, calling.ICEServers)
	if err != nil {
		t.Fatal(err)
	}
	bobs, _ := allocation(t, ring.ICEServers)
	ann.Send(&protocol.Offer{Call: ring.Call, Description: protocol.Description{Type: "offer", SDP: sdp}})
	shows(ann, ring.Call, "127.0.0.7")
	if allows(t, bobs, "127.0.0.7") {
		t.Error("it rings, and Ann can be reached directly")
	}
	bob.Send(&protocol.Accept{Call: ring.Call})
	nodetest.Await[*protocol.Accept](ann)
	nodetest.Await[*protocol.Candidates](bob)
	bob.Send(&protocol.Answer{Call: ring.Call, Description: protocol.Description{Type: "answer", SDP: sdp}})
	// Asked for before it is shown: the relay waits.
	early := make(chan bool, 1)
	go func() { early <- allows(t, anns, "127.0.0.8") }()
	shows(bob, ring.Call, "127.0.0.8")
	if !<-early || !allows(t, bobs, "127.0.0.7") {
		t.Error("what was shown is refused")
	}
	if allows(t, anns, "127.0.0.9") {
		t.Error("what nobody has shown is permitted")
	}

	far, err := net.ListenPacket("udp", "127.0.0.8:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	_ = far.SetReadDeadline(time.Now().Add(10 * time.Second))
	payload, sent := make([]byte, 1000), agree(t, from, far)
	for range 5 {
		if _, err := from.WriteTo(payload, far.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		n, _, err := far.ReadFrom(make([]byte, 2000))
		if err != nil {
			t.Fatal(err)
		}
		sent += n
	}
	// The relay tells each second what it has relayed, and takes a second or two for each of these.
	for _, ip := range []string{"127.0.0.9", "127.0.0.10"} {
		allows(t, anns, ip)
	}
	ann.Send(&protocol.Hangup{Call: ring.Call})
	nodetest.Await[*protocol.Ended](bob)
	closed(t, anns, "127.0.0.8")
	closed(t, bobs, "127.0.0.7")
	if got := relayed(t, data, ring.Call); got != sent {
		t.Errorf("the record has %d bytes, want %d", got, sent)
	}
	if log := l.log.String(); !strings.Contains(log, "a server tells of calls") || strings.Contains(log, "no server") {
		t.Errorf("the relay's log: %s", log)
	}
}

// relayed waits for the record of a call.
func relayed(t *testing.T, data string, call protocol.CallID) (bytes int) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(data, "visavis.db")+"?_busy_timeout=5000")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	eventually(t, "a record", func() bool {
		row := db.QueryRowContext(t.Context(), "SELECT relayed FROM calls WHERE id = $1 AND ended_at > 0", string(call))
		return row.Scan(&bytes) == nil
	})
	return bytes
}

// Of who always relays nothing but relayed addresses are permitted, those of other relays among them.
func TestARelayAloneHidesWhoAlwaysRelays(t *testing.T) {
	l := standAlone(t, "127.0.0.1:0", nil)
	n := nodetest.Start(t, func(c *node.Config) {
		toldTo(l, c.Data)(c)
		// A second one, at an address of its own, which does not answer.
		c.Relay.Others = append(c.Relay.Others, turnURL("turn:127.0.0.20:9?transport=udp"))
	})
	url := n.URL()
	linked(t, n, l, 1)
	ann := nodetest.Enter(t, url, "Ann")
	bob := nodetest.Hello(t, url, &protocol.Hello{Version: protocol.Version, Name: "Bob", AlwaysRelay: true})
	ann.Send(&protocol.Ring{To: bob.Welcome.User.ID})
	calling, ring := nodetest.Await[*protocol.Calling](ann), nodetest.Await[*protocol.Ring](bob)
	anns, _ := allocation(t, calling.ICEServers)
	bob.Send(&protocol.Accept{Call: ring.Call})
	nodetest.Await[*protocol.Accept](ann)
	ann.Send(&protocol.Offer{Call: ring.Call, Description: protocol.Description{Type: "offer", SDP: sdp}})
	nodetest.Await[*protocol.Offer](bob)
	bob.Send(&protocol.Candidates{Call: ring.Call, Candidates: []protocol.Candidate{
		{Candidate: "candidate:1 1 udp 1 127.0.0.7 5000 typ host"},
		{Candidate: "candidate:2 1 udp 1 127.0.0.20 5000 typ relay raddr 127.0.0.7 rport 5000"},
	}})
	nodetest.Await[*protocol.Candidates](ann)
	if allows(t, anns, "127.0.0.7") || !allows(t, anns, "127.0.0.20") {
		t.Error("a direct address is permitted, or one of another relay is refused")
	}
}

// talk has two people in a call in which Bob has shown an address.
func talk(t *testing.T, ann, bob *nodetest.Client) (call protocol.CallID, ticket string) {
	t.Helper()
	ann.Send(&protocol.Ring{To: bob.Welcome.User.ID})
	call = nodetest.Await[*protocol.Ring](bob).Call
	bob.Send(&protocol.Accept{Call: call})
	ticket = nodetest.Await[*protocol.Accept](ann).Ticket
	ann.Send(&protocol.Offer{Call: call, Description: protocol.Description{Type: "offer", SDP: sdp}})
	nodetest.Await[*protocol.Offer](bob)
	bob.Send(&protocol.Answer{Call: call, Description: protocol.Description{Type: "answer", SDP: sdp}})
	shows(bob, call, "127.0.0.8")
	nodetest.Await[*protocol.Candidates](ann)
	return call, ticket
}

func (l *lone) servers(call protocol.CallID, user protocol.UserID) []protocol.ICEServer {
	c := relay.Issue(node.RelayKey(shared), string(user), string(call), string(user), time.Now(), time.Hour)
	return []protocol.ICEServer{{URLs: []string{"turn:" + l.address + "?transport=udp"}, Username: c.Username, Credential: c.Password}}
}

// A relay that starts anew is told of the calls that live, and of those that ended while it was away or before.
func TestARelayStartsAnew(t *testing.T) {
	l := standAlone(t, "127.0.0.1:0", nil)
	n := nodetest.Start(t, toldTo(l, t.TempDir()))
	url := n.URL()
	linked(t, n, l, 1)
	ann, bob, carl, dora := nodetest.Enter(t, url, "Ann"), nodetest.Enter(t, url, "Bob"), nodetest.Enter(t, url, "Carl"), nodetest.Enter(t, url, "Dora")
	hangUp := func(call protocol.CallID) {
		ann.Send(&protocol.Hangup{Call: call})
		nodetest.Await[*protocol.Ended](bob)
	}
	before, _ := talk(t, ann, bob)
	hangUp(before)
	meanwhile, _ := talk(t, ann, bob)
	l.stop()
	linked(t, n, l, 0)
	hangUp(meanwhile)
	live, _ := talk(t, carl, dora)

	l = standAlone(t, l.address, nil)
	linked(t, n, l, 1)
	carls, _ := allocation(t, l.servers(live, carl.Welcome.User.ID))
	if !allows(t, carls, "127.0.0.8") || allows(t, carls, "127.0.0.9") {
		t.Error("the relay does not know what was shown, or permits more")
	}
	for name, call := range map[string]protocol.CallID{"before": before, "meanwhile": meanwhile} {
		_, _, err := allocate(t, l.servers(call, ann.Welcome.User.ID))
		var refused *stun.TurnError
		if !errors.As(err, &refused) || refused.ErrorCodeAttr.Code != stun.CodeForbidden {
			t.Errorf("an allocation for a call that ended %s: %v", name, err)
		}
	}
}

// A server that starts anew ends calls of its last life at the relay, and has their bytes.
func TestAServerStartsAnew(t *testing.T) {
	l, data := standAlone(t, "127.0.0.1:0", nil), t.TempDir()
	far, err := net.ListenPacket("udp", "127.0.0.8:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	var welcome *protocol.Welcome
	var call protocol.CallID
	var ticket string
	var anns *turn.Client
	sent := 1000
	t.Run("first", func(first *testing.T) {
		n := nodetest.Start(first, toldTo(l, data))
		url := n.URL()
		linked(first, n, l, 1)
		ann, bob := nodetest.Enter(first, url, "Ann"), nodetest.Enter(first, url, "Bob")
		call, ticket = talk(first, ann, bob)
		welcome = ann.Welcome
		client, from, err := allocate(t, l.servers(call, welcome.User.ID)) // which outlives this server
		if err != nil {
			first.Fatal(err)
		}
		anns = client
		_ = far.SetReadDeadline(time.Now().Add(10 * time.Second))
		sent += agree(first, from, far)
		if _, err := from.WriteTo(make([]byte, 1000), far.LocalAddr()); err != nil {
			first.Fatal(err)
		}
		if _, _, err := far.ReadFrom(make([]byte, 2000)); err != nil {
			first.Fatal(err)
		}
	})
	if !allows(t, anns, "127.0.0.8") {
		t.Error("the relay has forgotten what was shown because the server is away")
	}
	n := nodetest.Start(t, toldTo(l, data))
	url := n.URL()
	linked(t, n, l, 1)
	ann := nodetest.Hello(t, url, &protocol.Hello{Version: 1, Token: welcome.Token})
	ann.Send(&protocol.Rejoin{Ticket: ticket, Call: call})
	nodetest.Await[*protocol.Rejoin](ann)
	allows(t, anns, "127.0.0.9") // a second or two, in which the relay tells
	allows(t, anns, "127.0.0.9")
	ann.Send(&protocol.Hangup{Call: call})
	closed(t, anns, "127.0.0.8")
	if got := relayed(t, data, call); got != sent {
		t.Errorf("the record has %d bytes, want %d", got, sent)
	}
}

// Why a relay is not told stands in the log of the server, and that it never was in its own.
func TestWhyARelayIsNotTold(t *testing.T) {
	deaf, err := net.Listen("tcp", "127.0.0.1:0") // speaks TURN, perhaps, but no feed
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	go func() {
		for {
			conn, err := deaf.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	nobody := "127.0.0.1:9"
	another := node.NewSecret()
	l := standAlone(t, "127.0.0.1:0", func(c *node.Config) { c.Relay.Secret = another })
	log := new(heard)
	cfg := node.DefaultConfig()
	cfg.Listen, cfg.Data = free, t.TempDir()
	cfg.Relay.Enabled, cfg.Relay.Secret = false, shared
	for _, at := range []string{deaf.Addr().String(), nobody, l.address} {
		cfg.Relay.Others = append(cfg.Relay.Others, turnURL("turn:"+at))
	}
	n, err := node.New(cfg, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	for at, why := range map[string]string{
		deaf.Addr().String(): "earlier version", nobody: "out of reach", l.address: "relay.secret is not this server's",
	} {
		eventually(t, why, func() bool {
			for line := range strings.Lines(log.String()) {
				if strings.Contains(line, "relay="+at) && strings.Contains(line, why) {
					return true
				}
			}
			return false
		})
	}
	c := relay.Issue(node.RelayKey(another), "uann", "n1-call", "uann", time.Now(), time.Hour)
	allocation(t, []protocol.ICEServer{{URLs: []string{"turn:" + l.address}, Username: c.Username, Credential: c.Password}})
	eventually(t, "no server", func() bool { return strings.Contains(l.log.String(), "no server has ever told") })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := strings.Count(log.String(), "is not told of calls"); got != 3 {
		t.Errorf("%d warnings, want one for each relay:\n%s", got, log)
	}
}
