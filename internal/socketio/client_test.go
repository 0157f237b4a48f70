package socketio_test

import (
	"bytes"
	"context"
	"encoding/json"
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
