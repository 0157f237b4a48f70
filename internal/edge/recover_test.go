package edge

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/lxzan/gws"

	"github.com/visavis/visavis/internal/call"
	"github.com/visavis/visavis/internal/hub"
	"github.com/visavis/visavis/internal/limit"
	"github.com/visavis/visavis/internal/panics"
	"github.com/visavis/visavis/protocol"
)

// planted is a panic that a test has put somewhere.
const planted = "planted by a test"

// brokenHub panics when somebody comes in.
func brokenHub(c *Config) {
	c.Hub, _ = hub.New(hub.Config{Log: c.Log, ICEServers: func(protocol.UserID, string) []protocol.ICEServer { panic(planted) }})
	c.Hub.Handle(fakeHandler{})
	c.Recent = func(context.Context, protocol.UserID, protocol.CallID, int) ([]call.Record, error) { panic(planted) }
}

// A panic while somebody comes in, or in a request, ends that connection, is counted, and
// leaves the server to everybody else.
func TestAPanicIsItsConnections(t *testing.T) {
	s := serve(t, brokenHub)
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		return conn
	}
	for _, c := range []struct{ path, in, hello string }{
		{"native", inHello, `{"type":"hello","version":1,"name":"Eve"}`},
		{"Socket.IO", inSocketIO, `40`},
	} {
		before := panics.Count(c.in)
		r, err := openWebSocket(dial(), webSocketPaths[c.path])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Write(frame(0x81, c.hello)); err != nil {
			t.Fatal(err)
		}
		if code, err := r.closed(); code != protocol.CloseInternal {
			t.Errorf("%s: closed with %d, %v", c.path, code, err)
		}
		_ = r.Close()
		if got := panics.Count(c.in) - before; got != 1 {
			t.Errorf("%s: counted %d panics in %s", c.path, got, c.in)
		}
	}

	before := panics.Count(inHTTP)
	token := tokenOf(t, s, "Ann")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr().String()+"/v1/calls", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if answer, err := http.DefaultClient.Do(r); err == nil {
		_ = answer.Body.Close()
		t.Errorf("the request was answered: %s", answer.Status)
	}
	if got := panics.Count(inHTTP) - before; got != 1 {
		t.Errorf("counted %d panics in %s", got, inHTTP)
	}
	for name, path := range webSocketPaths {
		r, err := openWebSocket(dial(), path)
		if err != nil {
			t.Fatalf("afterwards nobody comes in by %s: %v", name, err)
		}
		_ = r.Close()
	}
}

// panickingHandler is a gws event handler that panics.
type panickingHandler struct{ events }

func (panickingHandler) OnPing(*gws.Conn, []byte) { panic(planted) }
func (panickingHandler) OnClose(*gws.Conn, error) { panic(planted) }

func TestAPanicOfAReaderEndsItsConnection(t *testing.T) {
	s := serve(t, nil)
	for name, sent := range map[string][]byte{"in a callback": frame(0x89, ""), "at the end": {}} {
		before := panics.Count(inReader)
		addr := s.Addr().(*net.TCPAddr).AddrPort().Addr()
		server, client := net.Pipe()
		go func() {
			_, _ = client.Write(sent)
			if len(sent) == 0 {
				_ = client.Close()
			}
		}()
		go func() { _, _ = io.Copy(io.Discard, client) }()
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/signal", nil)
		for name, value := range map[string]string{
			"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
		} {
			request.Header.Set(name, value)
		}
		v := &visitor{edge: s, addr: addr, helloTimer: time.AfterFunc(time.Hour, func() {}), silent: &limit.Place[netip.Addr]{}}
		if !s.limits.silent.Enter(addr, v.silent, v) {
			t.Fatal("no room")
		}
		socket, err := upgrade(gws.NewUpgrader(panickingHandler{}, &gws.ServerOption{NewSession: func() gws.SessionStorage { return v }}),
			&hijackable{httptest.NewRecorder(), server}, request)
		if err != nil {
			t.Fatal(err)
		}
		v.socket = socket
		v.read()
		if got := panics.Count(inReader) - before; got != 1 {
			t.Errorf("%s: counted %d panics", name, got)
		}
		if _, err := client.Write([]byte("x")); err == nil {
			t.Errorf("%s: the connection stays open", name)
		}
		if s.limits.silent.Taken(addr) != 0 {
			t.Errorf("%s: the connection counts on", name)
		}
	}
}

func TestAPanicOfATimerIsItsOwn(t *testing.T) {
	s := serve(t, nil)
	before := panics.Count(inTimer)
	s.contained(inTimer, func() { panic(planted) })()
	if got := panics.Count(inTimer) - before; got != 1 {
		t.Errorf("counted %d panics", got)
	}
}

func TestADrainThatPanicsEndsItsConnection(t *testing.T) {
	before := panics.Count(inWriter)
	o := &clientConn{backlog: []byte("x"), drained: make(chan struct{})} // without a connection to write to
	o.drain()
	if err := o.wait(); err == nil || panics.Count(inWriter) == before {
		t.Errorf("wait: %v, counted %d panics", err, panics.Count(inWriter)-before)
	}
}

// What net/http says of its own panics is an error; what it says of clients is not.
func TestPanicsOfTheHTTPServerAreErrors(t *testing.T) {
	var text bytes.Buffer
	log := httpLog{slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelInfo}))}
	before := panics.Count(inHTTP)
	for _, line := range []string{"http: TLS handshake error from 192.0.2.1:7: EOF\n", servePanic + "192.0.2.1:7: " + planted + "\ngoroutine 7\n"} {
		if _, err := log.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	got := text.String()
	if !strings.Contains(got, "level=ERROR") || !strings.Contains(got, planted) || strings.Contains(got, "192.0.2.1") || strings.Contains(got, "TLS") {
		t.Errorf("logged %s", got)
	}
	if panics.Count(inHTTP)-before != 1 {
		t.Error("it is not counted")
	}
}
