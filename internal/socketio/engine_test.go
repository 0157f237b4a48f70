package socketio

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/visavis/visavis/internal/hub"
	"github.com/visavis/visavis/protocol"
)

func TestPackets(t *testing.T) {
	for _, c := range []struct {
		text string
		want packet
		ok   bool
	}{
		{"", packet{namespace: "/"}, false},
		{"0", packet{'0', "/", "", ""}, true},
		{`0{"token":"x"}`, packet{'0', "/", "", `{"token":"x"}`}, true},
		{"0/admin", packet{'0', "/admin", "", ""}, true},
		{`0/admin,{}`, packet{'0', "/admin", "", "{}"}, true},
		{`2["a"]`, packet{'2', "/", "", `["a"]`}, true},
		{`2/b,17["a"]`, packet{'2', "/b", "17", `["a"]`}, true},
		{`51-["a"]`, packet{'5', "/", "", `["a"]`}, true},
		{`51-/b,3["a"]`, packet{'5', "/b", "3", `["a"]`}, true},
		{`51`, packet{'5', "/", "", ""}, true},
		{"7", packet{'7', "/", "", ""}, false},
		{"2" + strings.Repeat("1", 21), packet{'2', "/", strings.Repeat("1", 21), ""}, false},
	} {
		got, ok := parsePacket(c.text)
		if got != c.want || ok != c.ok {
			t.Errorf("%q: %+v, %t, want %+v, %t", c.text, got, ok, c.want, c.ok)
		}
	}
}

func FuzzPacket(f *testing.F) {
	for _, s := range []string{"", "0", `0/a,{}`, `27["a"]`, `51-/b,3["a"]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if p, ok := parsePacket(text); ok && len(p.namespace)+len(p.id)+len(p.data) > len(text)+1 {
			t.Errorf("%q: %+v", text, p)
		}
	})
}

// open admits everybody, as far as the tests of this package ask for it.
type open struct {
	Admission
	hub *hub.Hub
}

func (open) Ready() bool         { return true }
func (open) CountLimited(string) {}
func (open) Client(*http.Request) (addr netip.Addr, limited bool) {
	return netip.MustParseAddr("192.0.2.1"), true
}

func (o open) Attach(conn hub.Conn, user protocol.User, token string, hello *protocol.Hello) (*hub.Line, *protocol.Error) {
	return o.hub.Attach(conn, user, token, hello)
}

// deaf is a hub's handler that takes no messages.
type deaf struct{ hub.Handler }

func (deaf) SessionOpened(protocol.SessionID, protocol.UserID)  {}
func (deaf) ConnectionLost(protocol.SessionID, protocol.UserID) {}
func (deaf) SessionEnded(protocol.SessionID, protocol.UserID)   {}

// serve is a server that stands until the test ends.
func serve(t *testing.T, helloTimeout time.Duration) *Server {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	h, err := hub.New(hub.Config{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	h.Handle(deaf{})
	s := New(Config{Admission: open{hub: h}, Hub: h, Log: log, HelloTimeout: helloTimeout})
	t.Cleanup(s.close)
	return s
}

// bareWire is a wire that nobody asks for its packets.
func bareWire(t *testing.T) *wire {
	t.Helper()
	s := serve(t, 0)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/socket.io/", nil)
	addr, limited := s.cfg.Admission.Client(r)
	w := newWire(s, r, addr, limited)
	t.Cleanup(func() { w.end(1000, "") })
	return w
}

func TestAClientThatDoesNotAnswerPingsIsGone(t *testing.T) {
	w := bareWire(t)
	for range 3 {
		w.beat()
		if got := w.take(true, nil); len(got) != 1 || got[0] != enginePing {
			t.Fatalf("sent %q, want a ping", got)
		}
		w.receive(enginePong)
	}
	w.beat()
	w.take(true, nil)
	w.beat()
	select {
	case <-w.done:
	default:
		t.Error("the wire stands")
	}
}

func TestAClientThatDoesNotReadIsGone(t *testing.T) {
	w := bareWire(t)
	for range swamped + 1 {
		w.put(engineMessage)
	}
	select {
	case <-w.done:
	case <-time.After(5 * time.Second):
		t.Error("the wire stands")
	}
}

// Each of few packets may be long.
func TestAClientThatDoesNotReadIsGoneByBytes(t *testing.T) {
	w := bareWire(t)
	long := engineMessage + strings.Repeat("x", 64<<10)
	for range crowdedBytes / len(long) {
		w.put(long)
	}
	if err := w.waitForRoom(); err != nil {
		t.Fatalf("no room within bounds: %v", err)
	}
	w.put(long)
	room := make(chan error)
	go func() { room <- w.waitForRoom() }()
	select {
	case err := <-room:
		t.Fatalf("there is room: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	w.take(true, nil)
	if err := <-room; err != nil {
		t.Fatal(err)
	}
	list := usersPacket + strings.Repeat("x", 2*swampedBytes)
	for range 3 {
		w.put(list) // however many people are here
	}
	for range swampedBytes / len(long) {
		w.put(long)
	}
	select {
	case <-w.done:
		t.Fatal("the wire is gone within its bound")
	case <-time.After(10 * time.Millisecond):
	}
	w.put(long)
	select {
	case <-w.done:
	case <-time.After(5 * time.Second):
		t.Error("the wire stands")
	}
}

// The next connection of a client that did not read is not lost for what the last one left.
func TestWhatAClientDidNotReadWaitsForItsNextConnection(t *testing.T) {
	v, w := visiting(t)
	w.take(true, nil)
	packet := engineMessage + strings.Repeat("x", 1<<10)
	for range swamped + 1 {
		w.put(packet)
	}
	<-w.done
	again := bareWire(t)
	again.io = w.io
	for deadline := time.Now().Add(5 * time.Second); ; <-time.After(time.Millisecond) {
		v.mu.Lock()
		left := v.wire == nil
		v.mu.Unlock()
		if left {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the visit has not noticed")
		}
	}
	if _, refused := v.attach(again, protocol.User{ID: "u1", Name: "Ann"}, ""); refused != nil {
		t.Fatal(refused)
	}
	got := 0
	for got <= swamped {
		packets := again.take(true, t.Context().Done())
		if packets == nil {
			t.Fatal("the next connection is gone")
		}
		for _, p := range packets {
			if p == packet {
				got++
			}
		}
	}
}

func TestTheHubWaitsForAClientThatReadsSlowly(t *testing.T) {
	w := bareWire(t)
	for range crowded {
		w.put(engineMessage)
	}
	room := make(chan error)
	go func() { room <- w.waitForRoom() }()
	select {
	case err := <-room:
		t.Fatalf("there is room: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	w.take(true, nil)
	if err := <-room; err != nil {
		t.Error(err)
	}
}

func TestOfListsOfUsersOnlyTheLastWaits(t *testing.T) {
	w := bareWire(t)
	for _, list := range []string{"[1]", "[2]", "[3]"} {
		w.put(encodePacket(packetEvent, "", []any{"users", list}), encodePacket(packetEvent, "", []any{"ring", list}))
	}
	got := strings.Join(w.take(true, nil), " ")
	want := `42["ring","[1]"] 42["ring","[2]"] 42["users","[3]"] 42["ring","[3]"]`
	if got != want {
		t.Errorf("waiting: %s, want %s", got, want)
	}
}

// visiting is a visit of Ann by a wire that nobody asks for its packets.
func visiting(t *testing.T) (*visit, *wire) {
	t.Helper()
	w := bareWire(t)
	v := newVisit(w.io, "u1", "Ann")
	if _, refused := v.attach(w, protocol.User{ID: "u1", Name: "Ann"}, ""); refused != nil {
		t.Fatal(refused)
	}
	return v, w
}

// What a connection did not take waits for the next one.
func TestWhatWasNotSentIsKept(t *testing.T) {
	v, w := visiting(t)
	w.put(enginePing, engineMessage+"first", engineMessage+"second")
	w.end(protocol.CloseSilent, "")
	v.mu.Lock()
	defer v.mu.Unlock()
	got := strings.Join(v.waiting, " ")
	if !strings.Contains(got, "4first 4second") || strings.Contains(got, " "+enginePing+" ") {
		t.Errorf("kept: %s", got)
	}
}

// A client between two requests is told all the same.
func TestLastWordsWaitForARequest(t *testing.T) {
	w := bareWire(t)
	w.io.mu.Lock()
	w.io.wires[w.id] = w
	w.io.mu.Unlock()
	w.Close(protocol.CloseReplaced, "another connection has taken this session")
	w.io.mu.Lock()
	known := w.io.wires[w.id] != nil
	w.io.mu.Unlock()
	if got := strings.Join(w.take(true, nil), " "); !known || got != "41 1" {
		t.Errorf("known %t, told %q", known, got)
	}
}

// A panic is that of one socket.
func TestAPanicEndsOneConnection(t *testing.T) {
	v, w := visiting(t)
	v.mu.Lock()
	v.page.find = func(string) protocol.UserID { panic("a bug") }
	v.mu.Unlock()
	w.receive(`42["offer",{"target":"Bob","offer":{"type":"offer","sdp":"v=0\r\na=fingerprint:sha-256 A\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n"}}]`)
	select {
	case <-w.done:
	case <-time.After(5 * time.Second):
		t.Error("the connection stands")
	}
}

func TestSocketsThatNobodyEntersByAreBounded(t *testing.T) {
	s := httptest.NewServer(serve(t, 50*time.Millisecond))
	defer s.Close()
	handshake := func() int {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, s.URL+"/socket.io/?EIO=4&transport=polling", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	until := func(status int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); handshake() != status; {
			if time.Now().After(deadline) {
				t.Fatalf("no handshake is answered with %d", status)
			}
		}
	}
	until(http.StatusTooManyRequests)
	until(http.StatusOK) // those before are gone
}
