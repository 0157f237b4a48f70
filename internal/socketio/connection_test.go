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

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/internal/hub"
	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/protocol"
)

// open admits everybody, as far as the tests of this package ask for it.
type open struct {
	Admission
	hub *hub.Hub
}

func (open) Ready() bool { return true }

func (open) CountLimited(string) {}

func (open) Client(*http.Request) (addr netip.Addr, limited bool) {
	return netip.MustParseAddr("192.0.2.1"), true
}

func (o open) Attach(conn hub.Conn, who account.Visitor, hello *protocol.Hello) (*hub.Line, *protocol.Error) {
	return o.hub.Attach(conn, who.User, who.Token, hello)
}

// deaf is a hub's handler that takes no messages.
type deaf struct{ hub.Handler }

func (deaf) SessionOpened(origin.Origin) {}

func (deaf) ConnectionLost(origin.Origin) {}

func (deaf) SessionEnded(origin.Origin) {}

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

// bareConnection is a connection whose packets nobody asks for.
func bareConnection(t *testing.T) *connection {
	t.Helper()
	c := newConnection(serve(t, 0), netip.MustParseAddr("192.0.2.1"), "")
	t.Cleanup(func() { c.end(1000, "") })
	return c
}

func TestAClientThatDoesNotAnswerPingsIsGone(t *testing.T) {
	c := bareConnection(t)
	for range 3 {
		c.beat()
		if got := c.take(true, nil); len(got) != 1 || got[0] != enginePing {
			t.Fatalf("sent %q, want a ping", got)
		}
		c.receive(enginePong)
	}
	c.beat()
	c.take(true, nil)
	c.beat()
	select {
	case <-c.done:
	default:
		t.Error("the connection stands")
	}
}

// entered is a session of Ann by a connection whose packets nobody asks for.
func entered(t *testing.T) (*session, *connection) {
	t.Helper()
	c := bareConnection(t)
	s := newSession(c.server, "u1", "Ann")
	if refused := s.attach(c, account.Visitor{User: protocol.User{ID: "u1", Name: "Ann"}}); refused != nil {
		t.Fatal(refused)
	}
	return s, c
}

// A client between two requests is told all the same.
func TestLastWordsWaitForARequest(t *testing.T) {
	c := bareConnection(t)
	c.server.mu.Lock()
	c.server.connections[c.id] = c
	c.server.mu.Unlock()
	c.Close(protocol.CloseReplaced, "another connection has taken this session")
	c.server.mu.Lock()
	known := c.server.connections[c.id] != nil
	c.server.mu.Unlock()
	if got := strings.Join(c.take(true, nil), " "); !known || got != "41 1" {
		t.Errorf("known %t, told %q", known, got)
	}
}

// A panic is that of one socket.
func TestAPanicEndsOneConnection(t *testing.T) {
	s, c := entered(t)
	s.mu.Lock()
	s.page.find = func(string) protocol.UserID { panic("a bug") }
	s.mu.Unlock()
	c.receive(`42["offer",{"target":"Bob","offer":{"type":"offer","sdp":"v=0\r\na=fingerprint:sha-256 A\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n"}}]`)
	select {
	case <-c.done:
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
