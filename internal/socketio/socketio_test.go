package socketio_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lxzan/gws"
	"go.uber.org/goleak"

	"github.com/visavis/visavis/internal/node/nodetest"
	"github.com/visavis/visavis/protocol"
)

const patience = 10 * time.Second

// start runs a node, at whose end no goroutine may be left.
func start(t *testing.T) string {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
	return nodetest.Start(t, nil).URL()
}

// told is what a page's handlers read of any event.
type told struct {
	event      string
	Username   string                `json:"username"`
	Target     string                `json:"target"`
	Call       string                `json:"call"`
	Offer      *protocol.Description `json:"offer"`
	Answer     *protocol.Description `json:"answer"`
	Candidate  *protocol.Candidate   `json:"candidate"`
	Reason     string                `json:"reason"`
	By         string                `json:"by"`
	Code       string                `json:"code"`
	Message    string                `json:"message"`
	Act        string                `json:"act"`
	Token      string                `json:"token"`
	User       protocol.User         `json:"-"`
	ICEServers []protocol.ICEServer  `json:"iceServers"`
	list       []protocol.User
	data       struct{ Code, Message string } // of connect_error
}

// visitor is a page with socket.io-client, as far as the server can tell.
type visitor struct {
	t       *testing.T
	base    string
	ways    string // polling, websocket, upgrade
	request context.Context
	pid     string

	mu     sync.Mutex // guards all below
	sid    string
	socket *gws.Conn
	inbox  []told
	news   chan struct{}
	closed bool
	ended  chan struct{}
}

var transports = []string{"polling", "websocket", "upgrade"}

// enter connects a page of that name and waits for its welcome.
func enter(t *testing.T, base, ways, name string) *visitor {
	t.Helper()
	v := connect(t, base, ways, url.Values{"username": {name}}, "")
	v.await("connect")
	v.await("welcome")
	return v
}

// connect opens the transports and asks to be let in.
func connect(t *testing.T, base, ways string, query url.Values, auth string) *visitor {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	v := &visitor{t: t, base: base, ways: ways, request: ctx, news: make(chan struct{}, 1), ended: make(chan struct{})}
	query.Set("EIO", "4")
	if ways == "websocket" {
		v.dial(query)
	} else {
		v.take(v.get(query))
		go v.poll()
		if ways == "upgrade" {
			v.upgrade()
		}
	}
	t.Cleanup(func() {
		cancel()
		v.cut()
		<-v.ended
	})
	v.send("40" + auth)
	return v
}

func (v *visitor) address(query url.Values, transport string) string {
	query.Set("transport", transport)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.sid != "" {
		query.Set("sid", v.sid)
	}
	return v.base + "/socket.io/?" + query.Encode()
}

func (v *visitor) get(query url.Values) string {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.request, http.MethodGet, v.address(query, "polling"), nil)
	if err != nil {
		v.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "1"
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return "1"
	}
	return string(body)
}

// poll asks for packets until a WebSocket has taken over or the server has closed.
func (v *visitor) poll() {
	for {
		v.take(v.get(url.Values{"EIO": {"4"}}))
		v.mu.Lock()
		closed, plugged := v.closed, v.socket != nil
		v.mu.Unlock()
		if plugged {
			return // the WebSocket's reader ends v
		}
		if closed {
			close(v.ended)
			return
		}
	}
}

type visitorEvents struct {
	gws.BuiltinEventHandler
	v      *visitor
	probed chan struct{}
}

func (e *visitorEvents) OnMessage(_ *gws.Conn, m *gws.Message) {
	text := m.Data.String()
	_ = m.Close()
	if text == "3probe" {
		close(e.probed)
		return
	}
	e.v.take(text)
}

func (e *visitorEvents) OnClose(*gws.Conn, error) {
	e.v.take("1")
	close(e.v.ended)
}

func (v *visitor) open(query url.Values) (*gws.Conn, *visitorEvents) {
	v.t.Helper()
	events := &visitorEvents{v: v, probed: make(chan struct{})}
	//nolint:bodyclose // a WebSocket's answer has none
	socket, _, err := gws.NewClient(events, &gws.ClientOption{
		Addr: strings.Replace(v.address(query, "websocket"), "http", "ws", 1),
	})
	if err != nil {
		v.t.Fatal(err)
	}
	return socket, events
}

func (v *visitor) dial(query url.Values) {
	v.t.Helper()
	socket, _ := v.open(query)
	v.socket = socket
	go socket.ReadLoop()
	v.until("the open packet", func() bool { return v.sid != "" })
}

func (v *visitor) upgrade() {
	v.t.Helper()
	socket, events := v.open(url.Values{"EIO": {"4"}})
	go socket.ReadLoop()
	_ = socket.WriteString("2probe")
	select {
	case <-events.probed:
	case <-time.After(patience):
		v.t.Fatal("no 3probe")
	}
	v.mu.Lock()
	v.socket = socket
	v.mu.Unlock()
	_ = socket.WriteString("5")
}

// take reads the packets of one response or frame.
func (v *visitor) take(text string) {
	for p := range strings.SplitSeq(text, "\x1e") {
		switch {
		case p == "2":
			v.send("3")
		case p == "6":
		case p == "1":
			v.change(func() { v.closed = true })
		case strings.HasPrefix(p, "0"):
			var open struct{ Sid string }
			if json.Unmarshal([]byte(p[1:]), &open) != nil {
				v.t.Errorf("open: %s", p)
			}
			v.change(func() { v.sid = open.Sid })
		case strings.HasPrefix(p, "4"):
			e := v.read(p[1:])
			v.change(func() { v.inbox = append(v.inbox, e) })
		default:
			v.t.Errorf("from the server: %q", p)
		}
	}
}

func (v *visitor) read(p string) told {
	var e told
	var err error
	switch body := strings.TrimLeft(p[1:], "0123456789"); p[0] {
	case '0':
		e.event = "connect"
		var open struct{ Pid string }
		err = json.Unmarshal([]byte(body), &open)
		v.pid = open.Pid
	case '1':
		e.event = "disconnect"
	case '2':
		var parts []json.RawMessage
		if err = json.Unmarshal([]byte(body), &parts); err == nil && len(parts) == 2 {
			_ = json.Unmarshal(parts[0], &e.event)
			if e.event == "users" {
				err = json.Unmarshal(parts[1], &e.list)
			} else {
				err = json.Unmarshal(parts[1], &e)
			}
			if e.event == "welcome" {
				err = json.Unmarshal(parts[1], &struct{ User *protocol.User }{&e.User})
			}
		}
	case '3':
		e.event, e.Message = "ack", body
	case '4':
		e.event = "connect_error"
		if _, in, ok := strings.Cut(body, ","); ok && body[0] == '/' {
			body = in
		}
		var refused struct {
			Data struct{ Code, Message string }
		}
		err = json.Unmarshal([]byte(body), &refused)
		e.data = refused.Data
	}
	if err != nil {
		v.t.Errorf("from the server: %s: %v", p, err)
	}
	return e
}

func (v *visitor) change(f func()) {
	v.mu.Lock()
	f()
	v.mu.Unlock()
	select {
	case v.news <- struct{}{}:
	default:
	}
}

func (v *visitor) until(what string, is func() bool) {
	v.t.Helper()
	timeout := time.After(patience)
	for {
		v.mu.Lock()
		ok := is()
		v.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-v.news:
		case <-timeout:
			v.t.Fatalf("%s did not come; what came instead: %v", what, v.inbox)
		}
	}
}

// await is the next event of one of the names; others stay.
func (v *visitor) await(names ...string) told {
	v.t.Helper()
	var e told
	v.until(strings.Join(names, " or "), func() bool {
		for i := range v.inbox {
			if slices.Contains(names, v.inbox[i].event) {
				e = v.inbox[i]
				v.inbox = append(v.inbox[:i:i], v.inbox[i+1:]...)
				return true
			}
		}
		return false
	})
	return e
}

// events are the names of the events that came and were not awaited.
func (v *visitor) events() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var names []string
	for _, e := range v.inbox {
		names = append(names, e.event)
	}
	return names
}

func (v *visitor) send(packet string) {
	v.mu.Lock()
	socket := v.socket
	v.mu.Unlock()
	if socket != nil {
		_ = socket.WriteString(packet)
		return
	}
	status, body := v.post(packet)
	if status != http.StatusOK || body != "ok" {
		v.t.Logf("POST: %d %s", status, body)
	}
}

func (v *visitor) post(body string) (int, string) {
	r, err := http.NewRequestWithContext(v.request, http.MethodPost, v.address(url.Values{"EIO": {"4"}}, "polling"), bytes.NewBufferString(body))
	if err != nil {
		v.t.Error(err)
		return 0, ""
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	answer, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer)
}

func (v *visitor) emit(event string, data any) {
	v.t.Helper()
	body, err := json.Marshal([]any{event, data})
	if err != nil {
		v.t.Fatal(err)
	}
	v.send("42" + string(body))
}

// cut ends the connection without a word.
func (v *visitor) cut() {
	v.mu.Lock()
	socket := v.socket
	v.mu.Unlock()
	if socket != nil {
		_ = socket.NetConn().Close()
		return
	}
	v.post("1")
}

// leave closes the WebSocket with a code, and waits until the server has done so.
func (v *visitor) leave(code uint16) {
	_ = v.socket.WriteClose(code, nil)
	<-v.ended
}

type dict = map[string]any

func description(kind, ufrag, connection string) *protocol.Description {
	return &protocol.Description{Type: kind, SDP: "v=0\r\no=- " + connection + " 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n" +
		"a=ice-ufrag:" + ufrag + "\r\na=fingerprint:sha-256 7B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:43:F0:A1:58:D0:A1:2C:19:08\r\n" +
		"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n"}
}

func candidate(ufrag, address string) dict {
	return dict{
		"candidate": "candidate:1 1 udp 2113937151 " + address + " 54321 typ host",
		"sdpMid":    "0", "sdpMLineIndex": 0, "usernameFragment": ufrag,
	}
}

func TestTwoPagesCallEachOtherByEveryTransport(t *testing.T) {
	base := start(t)
	for _, ways := range transports {
		for _, peerWays := range transports {
			t.Run(ways+" to "+peerWays, func(t *testing.T) {
				ann := enter(t, base, ways, "Ann "+ways+" "+peerWays)
				bob := enter(t, base, peerWays, "Bob "+ways+" "+peerWays)
				a, b := "Ann "+ways+" "+peerWays, "Bob "+ways+" "+peerWays
				ann.emit("offer", dict{"username": a, "target": b, "offer": description("offer", "aaaa", "1")})
				ann.emit("candidate", dict{"username": a, "target": b, "candidate": candidate("aaaa", "192.0.2.1")})
				offer := bob.await("offer")
				if offer.Username != a || offer.Target != b || offer.Offer.SDP != description("offer", "aaaa", "1").SDP {
					t.Errorf("offer: %+v", offer)
				}
				ann.await("ringing")
				bob.emit("answer", dict{"username": b, "target": a, "answer": description("answer", "bbbb", "2")})
				bob.emit("candidate", dict{"username": b, "target": a, "candidate": candidate("bbbb", "192.0.2.2")})
				if e := ann.await("answer"); e.Username != b || e.Target != a || e.Answer.Type != "answer" || e.Call != offer.Call {
					t.Errorf("answer: %+v", e)
				}
				if e := ann.await("candidate"); !strings.Contains(e.Candidate.Candidate, "192.0.2.2") {
					t.Errorf("candidate to Ann: %+v", e.Candidate)
				}
				if e := bob.await("candidate"); !strings.Contains(e.Candidate.Candidate, "192.0.2.1") || e.Username != a {
					t.Errorf("candidate to Bob: %+v", e.Candidate)
				}
				bob.emit("hangup", nil)
				for _, v := range []*visitor{ann, bob} {
					if e := v.await("ended"); e.Reason != "hungup" || e.By != b {
						t.Errorf("ended: %+v", e)
					}
				}
			})
		}
	}
}

// Candidates reach a page only once it can take them, whenever they were sent.
func TestEarlyCandidatesAreHeldBack(t *testing.T) {
	base := start(t)
	ann, bob := enter(t, base, "websocket", "Ann"), enter(t, base, "websocket", "Bob")
	ann.emit("candidate", dict{"target": "Bob", "candidate": candidate("aaaa", "192.0.2.1")}) // before the offer
	ann.emit("candidate", dict{"target": "Bob", "candidate": candidate("old1", "192.0.2.9")}) // of an earlier one
	ann.emit("offer", dict{"target": "Bob", "offer": description("offer", "aaaa", "1")})
	bob.await("offer")
	ann.emit("candidate", dict{"target": "Bob", "candidate": candidate("aaaa", "192.0.2.2")})
	bob.emit("candidate", dict{"target": "Ann", "candidate": candidate("bbbb", "192.0.2.3")}) // before its answer
	bob.emit("candidate", dict{"target": "Ann", "candidate": nil})
	bob.emit("nonsense", dict{}) // answered in order: whatever came before has been acted on
	bob.await("error")
	ann.emit("nonsense", dict{})
	ann.await("error")
	if got := bob.events(); slices.Contains(got, "candidate") {
		t.Errorf("before Bob answers he gets %v", got)
	}
	bob.emit("answer", dict{"target": "Ann", "answer": description("answer", "bbbb", "2")})
	for _, want := range []string{"192.0.2.1", "192.0.2.2"} {
		if e := bob.await("candidate"); !strings.Contains(e.Candidate.Candidate, want) {
			t.Errorf("Bob gets %s, want %s", e.Candidate.Candidate, want)
		}
	}
	if e := ann.await("answer", "candidate"); e.event != "answer" {
		t.Error("Ann gets a candidate before the answer")
	}
	ann.await("candidate")
}

// Our own client: it is rung, confirms without early, accepts, and answers.
func TestAPageCallsOurClient(t *testing.T) {
	base := start(t)
	ann, bob := enter(t, base, "polling", "Ann"), nodetest.Enter(t, base, "Bob")
	ann.emit("offer", dict{"username": "somebody else", "target": "Bob", "offer": description("offer", "aaaa", "1")})
	ann.emit("candidate", dict{"target": "Bob", "candidate": candidate("aaaa", "192.0.2.1")})
	ring := nodetest.Await[*protocol.Ring](bob)
	if ring.From.Name != "Ann" || ring.Video {
		t.Errorf("ring from %+v, video %t", ring.From, ring.Video)
	}
	bob.Send(&protocol.Ringing{Call: ring.Call})
	ann.await("ringing")
	bob.Send(&protocol.Accept{Call: ring.Call})
	offer := nodetest.Await[*protocol.Offer](bob)
	nodetest.Await[*protocol.Candidates](bob)
	if media := nodetest.Await[*protocol.Media](bob); media.Connection != protocol.Connecting {
		t.Errorf("media before the answer: %+v", media)
	}
	bob.Send(&protocol.Answer{Call: offer.Call, Description: *description("answer", "bbbb", "2")})
	ann.await("answer")
	if media := nodetest.Await[*protocol.Media](bob); media.Connection != protocol.Connected || !media.Audio || media.Video {
		t.Errorf("media after the answer: %+v", media)
	}
	bob.Send(&protocol.Hangup{Call: ring.Call})
	if e := ann.await("ended"); e.Reason != "hungup" || e.By != "Bob" || e.Username != "Bob" {
		t.Errorf("ended: %+v", e)
	}
}

// Our own client: it sends its offer as soon as the call is named.
func TestOurClientCallsAPage(t *testing.T) {
	base := start(t)
	bob := enter(t, base, "websocket", "Bob")
	ann := nodetest.Enter(t, base, "Ann")
	ann.Send(&protocol.Ring{Ref: "1", To: ann.Welcome.Users[0].ID, Video: true})
	calling := nodetest.Await[*protocol.Calling](ann)
	ann.Send(&protocol.Offer{Call: calling.Call, Description: *description("offer", "aaaa", "1")})
	ann.Send(&protocol.Candidates{Call: calling.Call, Candidates: []protocol.Candidate{
		{Candidate: "candidate:1 1 udp 1 192.0.2.1 1 typ host"}, {Candidate: ""},
	}})
	if e := bob.await("ring"); e.Username != "Ann" || e.Call != string(calling.Call) {
		t.Errorf("ring: %+v", e)
	}
	bob.await("offer")
	bob.emit("candidate", dict{"target": "Ann", "candidate": candidate("bbbb", "192.0.2.2")})
	bob.emit("answer", dict{"target": "Ann", "answer": description("answer", "bbbb", "2")})
	nodetest.Await[*protocol.Accept](ann)
	nodetest.Await[*protocol.Answer](ann)
	if m := nodetest.Await[*protocol.Candidates](ann); len(m.Candidates) != 1 {
		t.Errorf("candidates to Ann: %+v", m.Candidates)
	}
	if m := nodetest.Await[*protocol.Media](ann); m.Connection != protocol.Connected {
		t.Errorf("media of Bob: %+v", m)
	}
	bob.await("candidate")
	ann.Send(&protocol.Offer{Call: calling.Call, Description: *description("offer", "aaaa", "1")})
	bob.await("offer")
	bob.emit("answer", dict{"target": "Ann", "answer": description("answer", "bbbb", "2")})
	nodetest.Await[*protocol.Answer](ann)
	bob.emit("offer", dict{"target": "Ann", "offer": description("offer", "bbbb", "2")})
	if m := nodetest.Await[*protocol.Offer](ann); m.Call != calling.Call {
		t.Errorf("Bob's offer is of %s, want %s", m.Call, calling.Call)
	}
	if got := bob.events(); slices.Contains(got, "candidate") || slices.Contains(got, "error") {
		t.Errorf("beside that Bob gets %v", got)
	}
}

func TestWhoMayEnter(t *testing.T) {
	base := start(t)
	ann := nodetest.Enter(t, base, "Ann")
	enter(t, base, "websocket", "Bob")
	for _, c := range []struct{ username, auth, code string }{
		{"Ann", "", "name_taken"},
		{"ann", `{"username":"Cid"}`, ""},
		{"Bob", "", "name_taken"}, // whoever proves nothing is here once
		{"bob", `{"pid":"guessed"}`, "name_taken"},
		{"", "", "unauthorized"},
		{"", "{}", "unauthorized"},
		{"", `{"token":"g1.x.y.z"}`, "unauthorized"},
		{"", `{"token":"` + ann.Welcome.Token + `"}`, ""},
		{"", `{"token":7}`, "bad_message"},
		{"\u202e", "", "bad_name"},
		{strings.Repeat("x", 41), "", "bad_name"},
	} {
		v := connect(t, base, "websocket", url.Values{"username": {c.username}}, c.auth)
		if c.code == "" {
			v.await("welcome")
		} else if e := v.await("connect_error"); e.data.Code != c.code || e.data.Message == "" {
			t.Errorf("username %q, auth %s: %+v, want %s", c.username, c.auth, e.data, c.code)
		}
	}
	v := connect(t, base, "websocket", url.Values{"username": {"Dan"}}, "")
	v.await("welcome")
	v.send(`40/other,{}`)
	if e := v.await("connect_error"); e.Code != "" {
		t.Errorf("another namespace: %+v", e)
	}
	v.send(`42["hangup"]`)
	if e := v.await("error"); e.Code != "unknown_call" {
		t.Errorf("after that: %+v", e)
	}
}

// A page may number its users, and write the numbers as numbers.
func TestNumbersAreNames(t *testing.T) {
	base := start(t)
	ann := connect(t, base, "websocket", url.Values{}, `{"username":10000001}`)
	ann.await("welcome")
	bob := enter(t, base, "websocket", "20000002")
	ann.emit("offer", dict{"username": 10000001, "target": 20000002, "offer": description("offer", "aaaa", "1")})
	ann.emit("candidate", dict{"target": 20000002, "candidate": candidate("aaaa", "192.0.2.1")})
	if e := bob.await("offer"); e.Username != "10000001" || e.Target != "20000002" {
		t.Errorf("offer: %+v", e)
	}
	bob.emit("answer", dict{"target": 10000001, "answer": description("answer", "bbbb", "2")})
	ann.await("answer")
	bob.await("candidate")
	for _, target := range []any{true, dict{}, []int{1}} {
		ann.emit("offer", dict{"target": target, "offer": description("offer", "aaaa", "1")})
		if e := ann.await("error"); e.Code != "bad_message" {
			t.Errorf("target %v: %+v", target, e)
		}
	}
}

func TestATokensUserIsTheSameAgain(t *testing.T) {
	base := start(t)
	ann := nodetest.Enter(t, base, "Ann")
	v := connect(t, base, "websocket", url.Values{}, `{"token":"`+ann.Welcome.Token+`"}`)
	e := v.await("welcome")
	if e.User.ID != ann.Welcome.User.ID || e.Token == "" || len(e.ICEServers) == 0 {
		t.Errorf("welcome: %+v", e)
	}
}

func TestTargetsThatCannotBeCalled(t *testing.T) {
	base := start(t)
	ann, bob := enter(t, base, "websocket", "Ann"), enter(t, base, "polling", "Bob")
	offer := func(target string) {
		ann.emit("offer", dict{"target": target, "offer": description("offer", "aaaa", "1")})
	}
	for _, target := range []string{"nobody", strings.Repeat("\u00e9", 40)} {
		offer(target)
		if e := ann.await("ended"); e.Reason != "unreachable" || e.Username != target {
			t.Errorf("absent: %+v", e)
		}
	}
	offer("Ann")
	if e := ann.await("error"); e.Code != "self" || e.Target != "Ann" {
		t.Errorf("self: %+v", e)
	}
	offer("Bob")
	bob.await("offer")
	bob.emit("decline", nil)
	if e := ann.await("ended"); e.Reason != "declined" || e.By != "Bob" {
		t.Errorf("declined: %+v", e)
	}
	bob.await("ended")

	cid := enter(t, base, "websocket", "Cid")
	cid.emit("offer", dict{"target": "Bob", "offer": description("offer", "cccc", "3")})
	bob.await("offer")
	offer("Bob")
	if e := ann.await("ended"); e.Reason != "busy" || e.Username != "Bob" {
		t.Errorf("busy: %+v", e)
	}
	cid.emit("hangup", dict{})
	if e := bob.await("ended"); e.Reason != "canceled" || e.By != "Cid" {
		t.Errorf("canceled: %+v", e)
	}
	bob.emit("answer", dict{"target": "Cid", "answer": description("answer", "bbbb", "2")})
	if e := bob.await("error"); e.Code != "unknown_call" || e.Target != "Cid" {
		t.Errorf("answer to an ended call: %+v", e)
	}
	if got := ann.events(); slices.Contains(got, "error") {
		t.Errorf("beside that Ann gets %v", got)
	}
}

func TestOneSessionTakesTheCall(t *testing.T) {
	base := start(t)
	ann := enter(t, base, "websocket", "Ann")
	token := nodetest.Enter(t, base, "Bob").Welcome.Token
	byToken := func(ways string) *visitor {
		v := connect(t, base, ways, url.Values{}, `{"token":"`+token+`"}`)
		v.await("welcome")
		return v
	}
	bob, bobToo := byToken("websocket"), byToken("polling")
	ann.emit("offer", dict{"target": "Bob", "offer": description("offer", "aaaa", "1")})
	bobToo.await("offer")
	bob.await("offer")
	bob.emit("accept", nil)
	ann.await("accept")
	if e := bobToo.await("elsewhere"); e.Act != "accepted" {
		t.Errorf("elsewhere: %+v", e)
	}
	bob.emit("answer", dict{"target": "Ann", "answer": description("answer", "bbbb", "2")})
	ann.await("answer")
}

// A page does not say that a call is over, nor that it was loaded again.
func TestAPageMovesOn(t *testing.T) {
	base := start(t)
	ann, bob, cid := enter(t, base, "websocket", "Ann"), enter(t, base, "polling", "Bob"), enter(t, base, "websocket", "Cid")
	ann.emit("offer", dict{"target": "Bob", "offer": description("offer", "aaaa", "1")})
	bob.await("offer")
	bob.emit("answer", dict{"target": "Ann", "answer": description("answer", "bbbb", "2")})
	ann.await("answer")

	ann.emit("offer", dict{"target": "Bob", "offer": description("offer", "aaab", "11")}) // another peer connection
	if e := bob.await("ended"); e.Reason != "hungup" || e.By != "Ann" {
		t.Errorf("to Bob: %+v", e)
	}
	again := bob.await("offer")
	bob.emit("answer", dict{"target": "Ann", "answer": description("answer", "bbbb", "22")})
	if e := ann.await("answer"); e.Call != again.Call {
		t.Errorf("the answer is of %s, want %s", e.Call, again.Call)
	}

	// It is loaded again in the middle of a call, and calls somebody else.
	dan := nodetest.Enter(t, base, "Dan")
	cid.emit("offer", dict{"target": "Dan", "offer": description("offer", "cccc", "3")})
	ring := nodetest.Await[*protocol.Ring](dan)
	dan.Send(&protocol.Accept{Call: ring.Call})
	cid.await("accept")
	cid.leave(1001) // as browsers do
	if m := nodetest.Await[*protocol.Ended](dan); m.Reason != protocol.ReasonHungup {
		t.Errorf("to Dan: %+v", m)
	}
	cid = enter(t, base, "websocket", "Cid")
	cid.emit("offer", dict{"target": "nobody", "offer": description("offer", "cccd", "33")})
	cid.await("ended")
}

// A client of our own protocol keeps its name while it may be back in a moment or is in a
// call, and no longer.
func TestTheNameOfSomebodyGoneIsFree(t *testing.T) {
	base := start(t)
	ann, bob := nodetest.Enter(t, base, "Ann"), nodetest.Enter(t, base, "Bob")
	ann.Send(&protocol.Ring{Ref: "1", To: bob.Welcome.User.ID})
	ring := nodetest.Await[*protocol.Ring](bob)
	bob.Send(&protocol.Accept{Call: ring.Call})
	nodetest.Await[*protocol.Accept](ann)
	cid := nodetest.Enter(t, base, "Cid")
	ann.Cut()
	cid.Cut()
	enters := func(name string) bool {
		v := connect(t, base, "websocket", url.Values{"username": {name}}, "")
		return v.await("connect_error", "welcome").event == "welcome"
	}
	becomesFree := func(name string) {
		t.Helper()
		for deadline := time.Now().Add(patience); !enters(name); {
			if time.Now().After(deadline) {
				t.Fatal("the name is never free:", name)
			}
			<-time.After(100 * time.Millisecond) // the server limits handshakes
		}
	}
	becomesFree("Cid")
	if enters("Ann") {
		t.Error("somebody has the name of Ann, who is in a call and gone as long as Cid")
	}
	back := nodetest.Hello(t, base, &protocol.Hello{Version: protocol.Version, Token: ann.Welcome.Token, Resume: ann.Welcome.Resume})
	if !back.Welcome.Resumed {
		t.Error("Ann's session has ended")
	}
	back.Leave() // a client that closes with 1000 hangs up
	if m := nodetest.Await[*protocol.Ended](bob); m.Reason != protocol.ReasonHungup {
		t.Errorf("ended: %+v", m)
	}
	becomesFree("Ann") // who is told of as gone before the name is given back
}

// A name takes nothing up: neither the session of a page nor its call.
func TestANameTakesNothingUp(t *testing.T) {
	base := start(t)
	ann, bob := enter(t, base, "websocket", "Ann"), enter(t, base, "websocket", "Bob")
	id := func(name string) (is protocol.UserID) {
		ann.emit("offer", dict{"target": "nobody", "offer": description("offer", "aaaa", "1")})
		ann.await("ended")
		ann.until("Bob in the list", func() bool {
			for _, e := range ann.inbox {
				for _, u := range e.list {
					if u.Name == name {
						is = u.ID
					}
				}
			}
			return is != ""
		})
		return is
	}
	if is := id("Bob"); !strings.HasPrefix(string(is), "n") {
		t.Errorf("Bob, who proves nothing, has the id %s", is)
	}
	// In a call he keeps his name for as long as the call waits for him.
	ann.emit("offer", dict{"target": "Bob", "offer": description("offer", "aaaa", "1")})
	bob.await("offer")
	bob.emit("answer", dict{"target": "Ann", "answer": description("answer", "bbbb", "2")})
	ann.await("answer")
	bob.cut()
	<-bob.ended
	eve := connect(t, base, "websocket", url.Values{"username": {"Bob"}}, "")
	if e := eve.await("connect_error", "welcome"); e.data.Code != "name_taken" {
		t.Errorf("Eve as Bob, who is in a call: %+v", e)
	}
	back := connect(t, base, "websocket", url.Values{"username": {"Bob"}}, `{"pid":"`+bob.pid+`"}`)
	back.await("welcome")
	back.emit("hangup", nil)
	if e := ann.await("ended"); e.Reason != "hungup" || e.By != "Bob" {
		t.Errorf("after his hang-up: %+v", e)
	}
	back.await("ended")

	// Out of a call the name is free when he counts as offline, and his secret is worth nothing then.
	back.cut()
	<-back.ended
	entered := func() *visitor {
		v := connect(t, base, "websocket", url.Values{"username": {"Bob"}}, "")
		if v.await("connect_error", "welcome").event == "welcome" {
			return v
		}
		return nil
	}
	for deadline := time.Now().Add(patience); ; {
		if v := entered(); v != nil {
			if v.pid == bob.pid {
				t.Error("the session is Bob's")
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the name is never free")
		}
		<-time.After(100 * time.Millisecond) // the server limits handshakes
	}
	late := connect(t, base, "websocket", url.Values{"username": {"Bob"}}, `{"pid":"`+bob.pid+`"}`)
	if e := late.await("connect_error", "welcome"); e.data.Code != "name_taken" {
		t.Errorf("Bob, late: %+v", e)
	}
}

func TestAConnectionIsTakenUpAgain(t *testing.T) {
	base := start(t)
	ann, bob := enter(t, base, "websocket", "Ann"), enter(t, base, "websocket", "Bob")
	bob.emit("offer", dict{"target": "Ann", "offer": description("offer", "bbbb", "2")})
	ann.await("offer")
	ann.cut()
	<-ann.ended
	bob.emit("candidate", dict{"target": "Ann", "candidate": candidate("bbbb", "192.0.2.2")})
	back := connect(t, base, "websocket", url.Values{"username": {"Ann"}}, `{"pid":"`+ann.pid+`"}`)
	back.await("welcome")
	if back.pid != ann.pid {
		t.Error("the session is another one")
	}
	back.emit("answer", dict{"target": "Bob", "answer": description("answer", "aaaa", "1")})
	bob.await("answer")
	back.await("candidate")
	if got := back.events(); slices.Contains(got, "ring") || slices.Contains(got, "error") {
		t.Errorf("the page that comes back gets %v", got)
	}

	// The server still takes the old connection for alive.
	moved := connect(t, base, "polling", url.Values{"username": {"Ann"}}, `{"pid":"`+ann.pid+`"}`)
	moved.await("welcome")
	bob.emit("candidate", dict{"target": "Ann", "candidate": candidate("bbbb", "192.0.2.3")})
	moved.await("candidate")
	back.await("disconnect")

	// An old client does not know the secret.
	moved.cut() // by polling: the server knows
	<-moved.ended
	old := connect(t, base, "websocket", url.Values{"username": {"Ann"}}, "")
	if e := old.await("connect_error", "welcome"); e.data.Code != "name_taken" {
		t.Errorf("by name alone: %+v", e)
	}
	last := connect(t, base, "websocket", url.Values{"username": {"Ann"}}, `{"pid":"`+ann.pid+`"}`)
	bob.emit("candidate", dict{"target": "Ann", "candidate": candidate("bbbb", "192.0.2.4")})
	last.await("candidate")

	last.send("41")
	if e := bob.await("ended"); e.Reason != "hungup" || e.By != "Ann" {
		t.Errorf("Ann disconnects: %+v", e)
	}
}

// Somebody else's secret is of no use.
func TestAForeignSecretTakesNothingUp(t *testing.T) {
	base := start(t)
	ann := enter(t, base, "websocket", "Ann")
	eve := connect(t, base, "websocket", url.Values{"username": {"Eve"}}, `{"pid":"`+ann.pid+`"}`)
	eve.await("welcome")
	if eve.pid == ann.pid {
		t.Error("Eve has Ann's session")
	}
	ann.emit("hangup", nil)
	ann.await("error")
}

// A page that was loaded again while it was rung is rung again.
func TestAPageLoadedAgainIsRungAgain(t *testing.T) {
	base := start(t)
	ann, bob := enter(t, base, "websocket", "Ann"), enter(t, base, "websocket", "Bob")
	ann.emit("offer", dict{"target": "Bob", "offer": description("offer", "aaaa", "1")})
	bob.await("offer")
	token := nodetest.Enter(t, base, "Dan").Welcome.Token
	dan := connect(t, base, "websocket", url.Values{}, `{"token":"`+token+`"}`)
	dan.await("welcome")
	bob.emit("decline", nil)
	ann.await("ended")
	ann.emit("offer", dict{"target": "Dan", "offer": description("offer", "aaaa", "1")})
	dan.await("offer")
	dan.leave(1001)
	dan = connect(t, base, "websocket", url.Values{}, `{"token":"`+token+`"}`)
	dan.await("offer")
	dan.emit("answer", dict{"target": "Ann", "answer": description("answer", "bbbb", "2")})
	ann.await("answer")
}

func TestBadEventsAreAnswered(t *testing.T) {
	base := start(t)
	for _, ways := range []string{"websocket", "polling"} {
		ann, bob := enter(t, base, ways, "Ann"+ways), enter(t, base, ways, "Bob"+ways)
		for _, c := range []struct{ packet, code string }{
			{`42[]`, "bad_message"},
			{`42{}`, "bad_message"},
			{`42`, "bad_message"},
			{`42[7]`, "bad_message"},
			{`42["offer"]`, "bad_message"},
			{`42["offer",null]`, "bad_message"},
			{`42["offer","Bob"]`, "bad_message"},
			{`42["offer",{"target":7}]`, "bad_message"},
			{`42["offer",{"target":"Bob","offer":"v=0"}]`, "bad_message"},
			{`42["offer",{"target":"Bob","offer":{"type":"offer","sdp":"v=0"}}]`, "bad_description"},
			{`42["offer",{"target":"Bob","offer":{"type":"answer","sdp":"v=0"}}]`, "bad_description"},
			{`42["answer",{"target":"Bob","answer":{}}]`, "unknown_call"},
			{`42["candidate",{"target":"Bob","candidate":"candidate:1"}]`, "bad_message"},
			{`42["candidate",{"target":"Bob","candidate":{"candidate":"` + strings.Repeat("x", 2000) + `"}}]`, "bad_message"},
			{`42["hangup",{"call":"` + strings.Repeat("x", 65) + `"}]`, "bad_message"},
			{`42["hangup",{"call":"n1-other"}]`, "unknown_call"},
			{`42["accept"]`, "unknown_call"},
			{`42["join",{"room":"1"}]`, "unknown_type"},
			{`42["offer",` + strings.Repeat("[", 20000) + `]`, "bad_message"},
			{`451-["offer",{"_placeholder":true,"num":0}]`, "bad_message"},
		} {
			ann.send(c.packet)
			if e := ann.await("error"); e.Code != c.code || e.Message == "" {
				t.Errorf("%s, %.60s: %+v, want %s", ways, c.packet, e, c.code)
			}
		}
		ann.send(`427["offer",{"target":"Bob` + ways + `"}]`)
		if e := ann.await("ack"); !strings.Contains(e.Message, `"bad_message"`) {
			t.Errorf("acknowledged with %s", e.Message)
		}
		body, _ := json.Marshal(dict{"target": "Bob" + ways, "offer": description("offer", "aaaa", "1")})
		ann.send(`428["offer",` + string(body) + `]`)
		if e := ann.await("ack"); e.Message != `[{"ok":true}]` {
			t.Errorf("acknowledged with %s", e.Message)
		}
		bob.await("offer")
	}
}

// What is no Socket.IO at all ends the connection, and nothing else.
func TestBadPacketsEndTheConnection(t *testing.T) {
	base := start(t)
	bob := enter(t, base, "websocket", "Bob")
	for _, ways := range []string{"websocket", "polling"} {
		for i, packet := range []string{"", "2", "5", "7", "4", "49", "40", "4x", "0{}", strings.Repeat("x", protocol.MaxFrame+1)} {
			v := enter(t, base, ways, fmt.Sprint("Ann ", ways, i))
			v.send(packet)
			<-v.ended
		}
		v := connect(t, base, ways, url.Values{"username": {"Ann"}}, "/nowhere")
		v.send(`42["offer",{}]`)
		<-v.ended
	}
	bob.emit("hangup", nil)
	bob.await("error")
}

// Events that lead to no message count like messages.
func TestTooManyEvents(t *testing.T) {
	base := start(t)
	v := enter(t, base, "websocket", "Ann")
	for range 400 {
		v.send(`42[]`)
	}
	v.until("rate_limited, or the end", func() bool {
		return v.closed || slices.ContainsFunc(v.inbox, func(e told) bool { return e.Code == "rate_limited" })
	})
}

// An offer over the limit is refused, and nothing of it stays: the next one rings.
func TestAnOfferOverTheLimitIsRefused(t *testing.T) {
	base := start(t)
	ann, bob := enter(t, base, "websocket", "Ann"), enter(t, base, "websocket", "Bob")
	for range 61 {
		ann.send(`42["nonsense",{}]`)
	}
	offer, _ := json.Marshal(dict{"target": "Bob", "offer": description("offer", "aaaa", "1")})
	ann.send(`421["offer",` + string(offer) + `]`)
	if e := ann.await("ack"); !strings.Contains(e.Message, `"rate_limited"`) {
		t.Errorf("acknowledged with %s", e.Message)
	}
	for told := (told{}); told.Target != "Bob"; {
		if told = ann.await("error"); told.Target == "Bob" && told.Code != "rate_limited" {
			t.Errorf("told %+v", told)
		}
	}
	answers := 0
	for answered := false; !answered; answers++ {
		ann.send(`422["offer",` + string(offer) + `]`)
		answered = ann.await("ack").Message == `[{"ok":true}]`
		if answers > 200 {
			t.Fatal("the limit never ends")
		}
		<-time.After(10 * time.Millisecond) // 200 refusals in a row close the connection
	}
	bob.await("offer")
}

// A description and as many candidates as it may have come through at once.
func TestAHundredCandidatesAtOnce(t *testing.T) {
	base := start(t)
	ann, bob := enter(t, base, "websocket", "Ann"), enter(t, base, "websocket", "Bob")
	ann.emit("offer", dict{"target": "Bob", "offer": description("offer", "aaaa", "1")})
	for i := range protocol.MaxCandidates {
		body, _ := json.Marshal(dict{"target": "Bob", "candidate": candidate("aaaa", fmt.Sprintf("192.0.2.%d", i))})
		ann.send(`421["candidate",` + string(body) + `]`)
	}
	bob.await("offer")
	bob.emit("answer", dict{"target": "Ann", "answer": description("answer", "bbbb", "2")})
	for i := range protocol.MaxCandidates {
		if e := ann.await("ack"); e.Message != `[{"ok":true}]` {
			t.Errorf("candidate %d is acknowledged with %s", i, e.Message)
		}
		if e := bob.await("candidate"); !strings.Contains(e.Candidate.Candidate, fmt.Sprintf("192.0.2.%d ", i)) {
			t.Errorf("candidate %d: %s", i, e.Candidate.Candidate)
		}
	}
	body, _ := json.Marshal(dict{"target": "Bob", "candidate": candidate("aaaa", "192.0.2.101")})
	ann.send(`422["candidate",` + string(body) + `]`)
	if e := ann.await("ack"); !strings.Contains(e.Message, `"bad_message"`) {
		t.Errorf("one more than allowed is acknowledged with %s", e.Message)
	}
}

// Two pages that call each other are in one call, without a tap, and both can call again.
func TestTwoPagesCallEachOtherAtOnce(t *testing.T) {
	base := start(t)
	ann, bob, cid := enter(t, base, "websocket", "Ann"), enter(t, base, "websocket", "Bob"), enter(t, base, "websocket", "Cid")
	ann.emit("offer", dict{"target": "Bob", "offer": description("offer", "aaaa", "1")})
	theirs := bob.await("offer")
	bob.emit("offer", dict{"target": "Ann", "offer": description("offer", "bbbb", "2")})
	if e := bob.await("merged"); e.Call != theirs.Call || e.Username != "Ann" {
		t.Errorf("merged: %+v", e)
	}
	for _, v := range []*visitor{ann, bob} {
		v.await("accept")
	}
	bob.emit("answer", dict{"target": "Ann", "answer": description("answer", "bbbb", "2")})
	ann.await("answer")
	for _, v := range []*visitor{ann, bob} {
		if v == ann {
			v.emit("hangup", nil)
		}
		v.await("ended")
	}
	for _, v := range []*visitor{ann, bob} {
		v.emit("offer", dict{"target": "Cid", "offer": description("offer", "cccc", "3")})
		cid.await("offer")
		v.emit("hangup", nil)
		v.await("ended")
		cid.await("ended")
	}
}

func TestEngineRequestsThatAreRefused(t *testing.T) {
	base := start(t) + "/socket.io/"
	bob := enter(t, strings.TrimSuffix(base, "/socket.io/"), "websocket", "Bob")
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "?EIO=4&transport=polling&sid=unknown", 400},
		{"POST", "?EIO=4&transport=polling&sid=unknown", 400},
		{"POST", "?EIO=4&transport=polling", 400},
		{"DELETE", "?EIO=4&transport=polling", 400},
		{"GET", "?EIO=3&transport=polling", 400},
		{"GET", "?transport=polling", 400},
		{"GET", "?EIO=4&transport=websocket", 400},
		{"GET", "?EIO=4&transport=webtransport", 400},
		{"GET", "?EIO=4&transport=polling&sid=" + bob.sid, 400},
		{"GET", "socket.io.js", 404},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, base+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, resp.StatusCode, c.status)
		}
	}
	bob.emit("hangup", nil)
	bob.await("error")
}

// Two requests for packets at once, as no client makes them, end the connection.
func TestOverlappingRequests(t *testing.T) {
	base := start(t)
	v := enter(t, base, "polling", "Ann")
	v.take(v.get(url.Values{"EIO": {"4"}}))
	<-v.ended
}

// Only a WebSocket that has shown that it works takes over.
func TestAWebSocketThatDoesNotProbeTakesNothingOver(t *testing.T) {
	base := start(t)
	for i, frames := range [][]string{{"5"}, {"2probe", "40"}, {"2"}, {`42["hangup"]`}} {
		v := enter(t, base, "polling", fmt.Sprint("Ann ", i))
		socket, events := v.open(url.Values{"EIO": {"4"}})
		events.v = &visitor{t: t, news: make(chan struct{}, 1), ended: make(chan struct{})}
		go socket.ReadLoop()
		for _, f := range frames {
			_ = socket.WriteString(f)
		}
		v.emit("hangup", nil)
		v.await("error")
		_ = socket.NetConn().Close()
		<-events.v.ended
	}
}

// A server that stops lets go of every connection, in a way that the clients come back.
func TestTheServerStops(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		goleak.VerifyNone(t, ignore)
	})
	var visitors []*visitor
	t.Run("node", func(node *testing.T) {
		base := nodetest.Start(node, nil).URL()
		for _, ways := range transports {
			visitors = append(visitors, enter(t, base, ways, "Ann "+ways))
		}
		lost := enter(t, base, "websocket", "Bob")
		lost.cut()
		<-lost.ended
	})
	for _, v := range visitors {
		<-v.ended
		if slices.Contains(v.events(), "disconnect") {
			t.Errorf("%s: the client was told not to come back", v.ways)
		}
	}
}

func TestForeignOrigins(t *testing.T) {
	base := start(t)
	for _, c := range []struct {
		origin string
		status int
	}{
		{"", http.StatusOK},
		{base, http.StatusOK},
		{"http://localhost:5173", http.StatusOK},
		{"https://evil.example", http.StatusForbidden},
		{"null", http.StatusForbidden},
	} {
		for _, method := range []string{http.MethodGet, http.MethodOptions} {
			r, err := http.NewRequestWithContext(t.Context(), method, base+"/socket.io/?EIO=4&transport=polling", nil)
			if err != nil {
				t.Fatal(err)
			}
			want := c.status
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			if want == http.StatusOK && method == http.MethodOptions {
				want = http.StatusNoContent
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s from %q: %d, want %d", method, c.origin, resp.StatusCode, want)
			}
			allowed := resp.Header.Get("Access-Control-Allow-Origin")
			if c.status == http.StatusOK && allowed != c.origin || c.status != http.StatusOK && allowed != "" {
				t.Errorf("%s from %q: allowed is %q", method, c.origin, allowed)
			}
		}
		//nolint:bodyclose // a WebSocket's answer has none
		socket, _, err := gws.NewClient(&gws.BuiltinEventHandler{}, &gws.ClientOption{
			Addr:          strings.Replace(base, "http", "ws", 1) + "/socket.io/?EIO=4&transport=websocket",
			RequestHeader: http.Header{"Origin": {c.origin}},
		})
		if ok := err == nil; ok != (c.status == http.StatusOK) {
			t.Errorf("WebSocket from %q: %v", c.origin, err)
		}
		if err == nil {
			_ = socket.NetConn().Close()
		}
	}
}
