package node_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lxzan/gws"
	"go.uber.org/goleak"

	"github.com/visavis/visavis/internal/node"
	"github.com/visavis/visavis/internal/node/nodetest"
	"github.com/visavis/visavis/protocol"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n" +
	"a=fingerprint:sha-256 AB:CD\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n"

// get is a request's status and body.
func get(t *testing.T, url string, header http.Header) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		r.Header[k] = v
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

type recent struct {
	Calls []struct {
		ID, Direction, Reason string
		Peer                  protocol.User
		DurationMs            int64
		AcceptedAt            *time.Time
		Missed                bool
	}
}

// calls waits until a user's recent calls are as many as wanted.
func calls(t *testing.T, url, token string, want int) recent {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; {
		status, body := get(t, url+"/v1/calls", http.Header{"Authorization": {"Bearer " + token}})
		var r recent
		if err := json.Unmarshal([]byte(body), &r); err != nil || status != http.StatusOK {
			t.Fatalf("calls: %d %s", status, body)
		}
		if len(r.Calls) == want || time.Now().After(deadline) {
			return r
		}
		<-time.After(10 * time.Millisecond)
	}
}

func TestACallFromRingToRecord(t *testing.T) {
	url := nodetest.Start(t, nil).URL()
	ann := nodetest.Enter(t, url, "Ann")
	bob := nodetest.Enter(t, url, "Bob")
	tablet := nodetest.Hello(t, url, &protocol.Hello{Version: 1, Token: bob.Welcome.Token})
	nodetest.AwaitPresence(ann, bob.Welcome.User.ID, protocol.Online)
	if len(ann.Welcome.ICEServers) != 1 || ann.Welcome.ICEServers[0].Credential != "" {
		t.Errorf("ICE servers of a session: %+v", ann.Welcome.ICEServers)
	}

	ann.Send(&protocol.Ring{Ref: "1", To: bob.Welcome.User.ID, Video: true})
	calling := nodetest.Await[*protocol.Calling](ann)
	id := calling.Call
	if len(calling.ICEServers) != 2 || calling.ICEServers[1].Credential == "" {
		t.Errorf("ICE servers of a call: %+v", calling.ICEServers)
	}
	ann.Send(&protocol.Offer{Call: id, Description: protocol.Description{Type: "offer", SDP: sdp}})
	ann.Send(&protocol.Candidates{Call: id, Candidates: []protocol.Candidate{{Candidate: "one"}}})
	for _, device := range []*nodetest.Client{bob, tablet} {
		if ring := nodetest.Await[*protocol.Ring](device); ring.Call != id || ring.From.Name != "Ann" {
			t.Errorf("ring: %+v", ring)
		}
	}
	bob.Send(&protocol.Ringing{Call: id})
	nodetest.Await[*protocol.Ringing](ann)
	tablet.Send(&protocol.Accept{Call: id})
	nodetest.Await[*protocol.Accept](ann)
	nodetest.Await[*protocol.Accept](tablet)
	if got := nodetest.Await[*protocol.Elsewhere](bob); got.Act != protocol.ActAccepted {
		t.Errorf("elsewhere: %+v", got)
	}
	if got := nodetest.Await[*protocol.Offer](tablet); got.Description.SDP != sdp {
		t.Errorf("the offer was changed: %q", got.Description.SDP)
	}
	if got := nodetest.Await[*protocol.Candidates](tablet); got.Candidates[0].Candidate != "one" {
		t.Errorf("the candidate was changed: %+v", got)
	}
	tablet.Send(&protocol.Answer{Call: id, Description: protocol.Description{Type: "answer", SDP: sdp}})
	nodetest.Await[*protocol.Answer](ann)

	tablet.Cut()
	if got := nodetest.Await[*protocol.Media](ann); got.Connection != protocol.Reconnecting {
		t.Errorf("Bob's connection was cut: %+v", got)
	}
	tablet = nodetest.Hello(t, url, &protocol.Hello{Version: 1, Token: bob.Welcome.Token, Resume: tablet.Welcome.Resume, Received: 1})
	if !tablet.Welcome.Resumed {
		t.Error("the session was not resumed")
	}
	nodetest.Await[*protocol.Accept](tablet) // missed, so sent again
	ann.Send(&protocol.Hangup{Call: id})
	for _, party := range []*nodetest.Client{ann, tablet} {
		if got := nodetest.Await[*protocol.Ended](party); got.Reason != protocol.ReasonHungup || got.By != ann.Welcome.User.ID {
			t.Errorf("ended: %+v", got)
		}
	}

	his := calls(t, url, bob.Welcome.Token, 1).Calls
	if len(his) != 1 || his[0].ID != string(id) || his[0].Direction != "in" || his[0].Peer.Name != "Ann" || his[0].AcceptedAt == nil {
		t.Errorf("Bob's recent calls: %+v", his)
	}
	if hers := calls(t, url, ann.Welcome.Token, 1).Calls; len(hers) != 1 || hers[0].Direction != "out" || hers[0].Reason != "hungup" {
		t.Errorf("Ann's recent calls: %+v", hers)
	}
	if status, _ := get(t, url+"/v1/calls", http.Header{"Authorization": {"Bearer forged"}}); status != http.StatusUnauthorized {
		t.Errorf("calls with a forged token: %d", status)
	}
}

// TestBadInputHarmsNobodyElse does everything wrong beside a call, which goes on.
func TestBadInputHarmsNobodyElse(t *testing.T) {
	url := nodetest.Start(t, nil).URL()
	ann, bob := nodetest.Enter(t, url, "Ann"), nodetest.Enter(t, url, "Bob")
	ann.Send(&protocol.Ring{To: bob.Welcome.User.ID})
	id := nodetest.Await[*protocol.Calling](ann).Call
	bob.Send(&protocol.Accept{Call: id})
	nodetest.Await[*protocol.Accept](ann)

	eve := nodetest.Enter(t, url, "Eve")
	for frame, want := range map[string]protocol.Code{
		`{"type":"hangup","call":"` + string(id) + `"}`:              protocol.CodeUnknownCall,
		`{"type":"accept","call":"` + string(id) + `"}`:              protocol.CodeUnknownCall,
		`{"type":"hangup","call":"n1-nothing"}`:                      protocol.CodeUnknownCall,
		`{"type":"ring","to":"` + string(eve.Welcome.User.ID) + `"}`: protocol.CodeSelf,
		`{`:                protocol.CodeBadMessage,
		`{"type":"dance"}`: protocol.CodeUnknownType,
		`{"type":"offer","call":"c","description":{"type":"offer","sdp":"v=0 nonsense"}}`: protocol.CodeBadDescription,
	} {
		eve.SendFrame(nodetest.Text, []byte(frame))
		if got := nodetest.Await[*protocol.Error](eve); got.Code != want {
			t.Errorf("%s: got %s, want %s", frame, got.Code, want)
		}
	}
	ann.Send(&protocol.Answer{Call: "n1-other", Description: protocol.Description{Type: "answer", SDP: sdp}})
	if got := nodetest.Await[*protocol.Error](ann); got.Code != protocol.CodeUnknownCall {
		t.Errorf("a foreign call: %s", got.Code)
	}

	for name, bad := range map[string]struct {
		do   func(*nodetest.Client)
		want protocol.CloseCode
	}{
		"binary":    {func(c *nodetest.Client) { c.SendFrame(nodetest.Binary, []byte("x")) }, protocol.CloseBadMessage},
		"oversized": {func(c *nodetest.Client) { c.SendFrame(nodetest.Text, make([]byte, protocol.MaxFrame+1)) }, protocol.CloseTooLarge},
		"flood": {func(c *nodetest.Client) {
			for range 400 {
				c.SendFrame(nodetest.Text, []byte(`{"type":"accept","call":"c"}`))
			}
		}, protocol.CloseFlood},
	} {
		c := nodetest.Enter(t, url, "Mallory "+name)
		bad.do(c)
		if got := c.Closed(); got != bad.want {
			t.Errorf("%s: closed with %d, want %d", name, got, bad.want)
		}
	}

	huge := nodetest.Enter(t, url, "Mallory huge")
	huge.SendFrame(nodetest.Text, make([]byte, 1<<20))
	if got := huge.Closed(); got != protocol.CloseTooLarge {
		t.Errorf("huge: closed with %d", got)
	}

	bob.Send(&protocol.Media{Call: id, Connection: protocol.Connected, Audio: true})
	if got := nodetest.Await[*protocol.Media](ann); got.Connection != protocol.Connected {
		t.Errorf("Ann and Bob's call: %+v", got)
	}
}

func TestHelloRefused(t *testing.T) {
	url := nodetest.Start(t, nil).URL()
	nodetest.Enter(t, url, "Ann")
	for frame, want := range map[string]protocol.Code{
		`{"type":"hello","version":1,"name":"ANN"}`:     protocol.CodeNameTaken,
		`{"type":"hello","version":1}`:                  protocol.CodeBadName,
		`{"type":"hello","version":2,"name":"Bob"}`:     protocol.CodeVersion,
		`{"type":"hello","version":1,"token":"forged"}`: protocol.CodeUnauthorized,
		`{"type":"ring","to":"u"}`:                      protocol.CodeBadMessage,
		`garbage`:                                       protocol.CodeBadMessage,
	} {
		code, closed := closedAfter(t, url, frame)
		if code != want {
			t.Errorf("%s: got %s, want %s", frame, code, want)
		}
		if closed != protocol.CloseRefused {
			t.Errorf("%s: closed with %d", frame, closed)
		}
	}
}

// closedAfter sends a first frame, also one that no client would, waits until the server closes the connection, and
// returns the error that it told before, if any, and the close code.
func closedAfter(t *testing.T, url, frame string) (code protocol.Code, closed protocol.CloseCode) {
	t.Helper()
	answers := &refusals{}
	//nolint:bodyclose // a WebSocket's answer has none
	socket, _, err := gws.NewClient(answers, &gws.ClientOption{Addr: strings.Replace(url, "http", "ws", 1) + "/v1/signal"})
	if err != nil {
		t.Error(err)
		return "", 0
	}
	if err := socket.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Error(err)
		return "", 0
	}
	if err := socket.WriteString(frame); err != nil {
		t.Error(err)
		return "", 0
	}
	socket.ReadLoop()
	return answers.code, answers.closed
}

type refusals struct {
	gws.BuiltinEventHandler
	code   protocol.Code
	closed protocol.CloseCode
}

func (r *refusals) OnMessage(_ *gws.Conn, message *gws.Message) {
	if m, _, _ := protocol.Decode(message.Bytes()); m != nil && r.code == "" {
		if refused, ok := m.(*protocol.Error); ok {
			r.code = refused.Code
		}
	}
	_ = message.Close()
}

func (r *refusals) OnClose(_ *gws.Conn, err error) {
	if frame := (*gws.CloseError)(nil); errors.As(err, &frame) {
		r.closed = protocol.CloseCode(frame.Code)
	}
}

func TestForeignOriginsAreRefused(t *testing.T) {
	url := nodetest.Start(t, func(c *node.Config) {
		c.Access, c.Origins = node.AccessOpen, urls(t, "https://app.example.org")
	}).URL()
	for origin, want := range map[string]int{
		"https://evil.example":      http.StatusForbidden,
		"null":                      http.StatusForbidden,
		"http://localhost.evil.com": http.StatusForbidden,
		// Allowed, and then no WebSocket.
		"https://app.example.org": http.StatusBadRequest,
		"http://localhost:3000":   http.StatusBadRequest,
		"http://[::1]:3000":       http.StatusBadRequest,
	} {
		if got, _ := get(t, url+"/v1/signal", http.Header{"Origin": {origin}}); got != want {
			t.Errorf("%s: got %d, want %d", origin, got, want)
		}
	}
}

func TestWhatIsServed(t *testing.T) {
	url := nodetest.Start(t, func(c *node.Config) { c.Name = "Lee family" }).URL()
	for path, want := range map[string]string{
		"/v1/place": `{"name":"Lee family","access":"open"}`,
		"/healthz":  "ok",
		"/readyz":   "ready",
		"/v1/other": "not_found",
	} {
		if _, body := get(t, url+path, nil); !strings.Contains(body, want) {
			t.Errorf("%s: %q does not have %q", path, body, want)
		}
	}
	for _, path := range []string{"/assets/", "/../node.go", "/nothing", "/metrics", "/debug/pprof/"} {
		if status, _ := get(t, url+path, nil); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
}

// TestACallSurvivesARestart stops a node in the middle of a call and starts
// another on the same data: both parties show their tickets, and the call is live.
func TestACallSurvivesARestart(t *testing.T) {
	data := t.TempDir()
	var ann, bob *protocol.Welcome
	var ticket string
	var id protocol.CallID
	t.Run("before", func(t *testing.T) {
		url := nodetest.Start(t, func(c *node.Config) { c.Data = data }).URL()
		a, b := nodetest.Enter(t, url, "Ann"), nodetest.Enter(t, url, "Bob")
		a.Send(&protocol.Ring{To: b.Welcome.User.ID})
		id = nodetest.Await[*protocol.Calling](a).Call
		b.Send(&protocol.Accept{Call: id})
		ticket = nodetest.Await[*protocol.Accept](a).Ticket
		ann, bob = a.Welcome, b.Welcome
	})
	url := nodetest.Start(t, func(c *node.Config) { c.Data = data }).URL()
	a := nodetest.Hello(t, url, &protocol.Hello{Version: 1, Token: ann.Token, Resume: ann.Resume})
	if a.Welcome.User.ID != ann.User.ID || a.Welcome.Resumed {
		t.Errorf("Ann's welcome: %+v", a.Welcome)
	}
	a.Send(&protocol.Rejoin{Ticket: ticket, Call: id})
	if got := nodetest.Await[*protocol.Rejoin](a); got.Call != id || !got.Active || got.Direction != protocol.Outgoing || got.Peer.Name != "Bob" {
		t.Errorf("Ann rejoins: %+v", got)
	}
	b := nodetest.Hello(t, url, &protocol.Hello{Version: 1, Token: bob.Token})
	b.Send(&protocol.Rejoin{Ticket: ticket, Call: id})
	nodetest.Await[*protocol.Rejoin](b)
	if got := calls(t, url, ann.Token, 0).Calls; len(got) != 0 {
		t.Errorf("a call that lives is shown as ended: %+v", got)
	}
	b.Send(&protocol.Hangup{Call: id})
	if got := nodetest.Await[*protocol.Ended](a); got.Reason != protocol.ReasonHungup {
		t.Errorf("ended: %+v", got)
	}
	if got := calls(t, url, ann.Token, 1).Calls; len(got) != 1 || got[0].Reason != "hungup" || got[0].AcceptedAt == nil {
		t.Errorf("calls: %+v", got)
	}
	eve := nodetest.Enter(t, url, "Eve")
	eve.Send(&protocol.Rejoin{Ticket: ticket, Call: id})
	if got := nodetest.Await[*protocol.Error](eve); got.Code != protocol.CodeBadTicket {
		t.Errorf("a foreign ticket: %+v", got)
	}
}

// TestTheBeaconHangsUp ends a call for a page that is gone.
func TestTheBeaconHangsUp(t *testing.T) {
	url := nodetest.Start(t, nil).URL()
	ann, bob := nodetest.Enter(t, url, "Ann"), nodetest.Enter(t, url, "Bob")
	ann.Send(&protocol.Ring{To: bob.Welcome.User.ID})
	id := nodetest.Await[*protocol.Calling](ann).Call
	bob.Send(&protocol.Accept{Call: id})
	nodetest.Await[*protocol.Accept](ann)
	ann.Cut()
	for body, want := range map[string]int{
		`nonsense`:       http.StatusBadRequest,
		`{"resume":"x"}`: http.StatusBadRequest,
		`{"resume":"x","call":"` + string(id) + `"}`: http.StatusNoContent,
	} {
		if got := beacon(t, url, body); got != want {
			t.Errorf("%s: got %d, want %d", body, got, want)
		}
	}
	beacon(t, url, `{"resume":"`+ann.Welcome.Resume+`","call":"`+string(id)+`"}`)
	if got := nodetest.Await[*protocol.Ended](bob); got.Reason != protocol.ReasonHungup || got.By != ann.Welcome.User.ID {
		t.Errorf("ended: %+v", got)
	}
}

// TestLeaveByBeacon: a page that keeps nothing says so as it goes, and its name is
// free for the person who returns, though its connection still stands.
func TestLeaveByBeacon(t *testing.T) {
	url := nodetest.Start(t, nil).URL()
	ann := nodetest.Enter(t, url, "Ann")
	for body, want := range map[string]int{
		`nonsense`:       http.StatusBadRequest,
		`{}`:             http.StatusBadRequest,
		`{"resume":"x"}`: http.StatusNoContent,
		`{"resume":"` + ann.Welcome.Resume + `"}`: http.StatusNoContent,
	} {
		if got := beaconTo(t, url+"/v1/leave", body); got != want {
			t.Errorf("%s: got %d, want %d", body, got, want)
		}
	}
	if again := nodetest.Enter(t, url, "Ann"); again.Welcome.User.Name != "Ann" {
		t.Errorf("came back as %+v", again.Welcome.User)
	}
}

func beacon(t *testing.T, url, body string) int {
	t.Helper()
	return beaconTo(t, url+"/v1/hangup", body)
}

func beaconTo(t *testing.T, url, body string) int {
	t.Helper()
	resp, err := http.Post(url, "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode
}

// TestAStuckDatabaseStopsNoCall holds the database's lock while a call begins and
// ends: the call does not notice, and its record is written when the lock is gone.
func TestAStuckDatabaseStopsNoCall(t *testing.T) {
	data := t.TempDir()
	url := nodetest.Start(t, func(c *node.Config) { c.Data = data }).URL()
	ann, bob := nodetest.Enter(t, url, "Ann"), nodetest.Enter(t, url, "Bob")

	db, err := sql.Open("sqlite", "file:"+filepath.Join(data, "visavis.db")+"?_busy_timeout=5000") // store's driver
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	lock, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	ann.Send(&protocol.Ring{To: bob.Welcome.User.ID})
	id := nodetest.Await[*protocol.Calling](ann).Call
	bob.Send(&protocol.Accept{Call: id})
	nodetest.Await[*protocol.Accept](ann)
	ann.Send(&protocol.Hangup{Call: id})
	nodetest.Await[*protocol.Ended](bob)
	if got := calls(t, url, ann.Welcome.Token, 0).Calls; len(got) != 0 {
		t.Errorf("written through a lock: %+v", got)
	}
	if _, err := lock.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if got := calls(t, url, ann.Welcome.Token, 1).Calls; len(got) != 1 || got[0].ID != string(id) {
		t.Errorf("after the lock: %+v", got)
	}
}

func TestATakenAddressIsAnError(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for name, change := range map[string]func(*node.Config){
		"HTTP":  func(c *node.Config) { c.Listen = node.MustParseAddress(taken.Addr().String()) },
		"relay": func(c *node.Config) { c.Relay.Listen = node.MustParseAddress(taken.Addr().String()) },
	} {
		cfg := node.DefaultConfig()
		cfg.Data, cfg.Listen, cfg.Relay.Listen = t.TempDir(), free, free
		change(&cfg)
		n, err := node.New(cfg, slog.New(slog.DiscardHandler))
		if err == nil {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_ = n.Run(ctx)
			t.Errorf("%s: no error", name)
		} else if !strings.Contains(err.Error(), taken.Addr().String()) {
			t.Errorf("%s: %v does not name the address", name, err)
		}
	}
}
