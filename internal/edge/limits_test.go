package edge

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/lxzan/gws"

	"github.com/visavis/visavis/protocol"
)

// dial opens a TCP connection from an address.
func dial(t *testing.T, s *Server, from string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// statusOn sends a GET request with headers over a connection and returns its status: 0 when the server closes it instead.
func statusOn(t *testing.T, conn net.Conn, path string, headers ...string) int {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", path, strings.Join(append(headers, ""), "\r\n"))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode
}

// isClosed waits for the server to close a connection.
func isClosed(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err := io.Copy(io.Discard, conn)
	var timeout net.Error
	return !errors.As(err, &timeout) || !timeout.Timeout()
}

// webSocket are the headers of a WebSocket's handshake.
var webSocket = []string{
	"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
}

const (
	engineHandshake  = "/socket.io/?EIO=4&transport=polling"
	engineHandshakes = 300 // of one address at once, as internal/socketio takes them
)

func TestTheOldestConnectionOfAnAddressGivesWay(t *testing.T) {
	s := serve(t, func(c *Config) { c.ConnectionsPerAddress = 3 })
	other := dial(t, s, "127.0.0.9")
	if got := statusOn(t, other, "/healthz"); got != 200 {
		t.Fatalf("another address: %d", got)
	}
	var held []net.Conn
	for range 4 {
		conn := dial(t, s, "127.0.0.1")
		if got := statusOn(t, conn, "/healthz"); got != 200 {
			t.Fatalf("connection %d: %d, want 200", len(held)+1, got)
		}
		held = append(held, conn)
	}
	if !isClosed(held[0]) {
		t.Error("the oldest of four stands, want it closed")
	}
	for i, conn := range append(held[1:], other) {
		if got := statusOn(t, conn, "/healthz"); got != 200 {
			t.Errorf("connection %d of those that stay: %d, want 200", i, got)
		}
	}
}

// Without a bound the process ran out of files, and could neither accept anybody nor read its database.
func TestTheOldestConnectionOfAllGivesWay(t *testing.T) {
	s := serve(t, func(c *Config) { c.MaxConnections = 3 })
	talks := dial(t, s, "127.0.0.1")
	if got := statusOn(t, talks, "/v1/signal", webSocket...); got != 101 {
		t.Fatalf("WebSocket: %d", got)
	}
	var held []net.Conn
	for _, from := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"} {
		conn := dial(t, s, from)
		if got := statusOn(t, conn, "/healthz"); got != 200 {
			t.Fatalf("from %s: %d, want 200", from, got)
		}
		held = append(held, conn)
	}
	if !isClosed(held[0]) {
		t.Error("the oldest idle connection stands, want it closed")
	}
	for i, conn := range held[1:] {
		if got := statusOn(t, conn, "/v1/signal", webSocket...); got != 101 {
			t.Errorf("connection %d of those that stay: %d, want 101", i, got)
		}
	}
	if got := statusOn(t, dial(t, s, "127.0.0.5"), "/healthz"); got != 0 {
		t.Errorf("one more than there is room for: %d, want it closed", got)
	}
	_ = held[1].Close()
	for deadline := time.Now().Add(5 * time.Second); statusOn(t, dial(t, s, "127.0.0.5"), "/healthz") != 200; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a connection that was closed keeps its place")
		}
	}
	if isClosed(talks) {
		t.Error("a WebSocket gave way")
	}
}

func TestWebSocketsOfAnAddressAreBounded(t *testing.T) {
	s := serve(t, func(c *Config) { c.ConnectionsPerAddress = 2 })
	for i := range 2 {
		if got := statusOn(t, dial(t, s, "127.0.0.1"), "/v1/signal", webSocket...); got != 101 {
			t.Fatalf("WebSocket %d: %d", i, got)
		}
	}
	if got := statusOn(t, dial(t, s, "127.0.0.1"), "/v1/signal", webSocket...); got != 0 {
		t.Errorf("one more: %d, want it closed", got)
	}
	if got := statusOn(t, dial(t, s, "127.0.0.2"), "/v1/signal", webSocket...); got != 101 {
		t.Errorf("another address: %d, want 101", got)
	}
}

// A proxy's connections are those of the clients that it names.
func TestConnectionsBehindAProxyAreThoseOfItsClients(t *testing.T) {
	s := serve(t, func(c *Config) {
		c.ConnectionsPerAddress = 2
		c.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	open := func(client string) int {
		return statusOn(t, dial(t, s, "127.0.0.1"), "/v1/signal", append([]string{"X-Forwarded-For: " + client}, webSocket...)...)
	}
	for _, client := range []string{"198.51.100.1", "198.51.100.1", "203.0.113.7, 198.51.100.2", "198.51.100.2"} {
		if got := open(client); got != 101 {
			t.Fatalf("client %s: %d, want 101", client, got)
		}
	}
	if got := open("203.0.113.8, 198.51.100.1"); got != 429 {
		t.Errorf("a third of one client: %d, want 429", got)
	}
	for i := range 4 { // a proxy that names nobody: no limit by address can tell its clients apart
		if got := statusOn(t, dial(t, s, "127.0.0.1"), "/v1/signal", webSocket...); got != 101 {
			t.Errorf("unnamed client %d: %d, want 101", i, got)
		}
	}
}

// 64 connections that said nothing locked everybody else of their address out for 10 s.
func TestSilentConnectionsLockNobodyOut(t *testing.T) {
	s := serve(t, nil)
	first, err := connect(t, s)
	if err != nil {
		t.Fatal(err)
	}
	counted := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(5 * time.Second); s.limits.silent.Taken(netip.MustParseAddr("127.0.0.1")) != want; <-time.After(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not all of %d connections are counted", want)
			}
		}
	}
	counted(1)
	for i := range maxSilent - 1 {
		if _, err := connect(t, s); err != nil {
			t.Fatalf("connection %d: %v", i+2, err)
		}
	}
	counted(maxSilent)
	newcomer := greeted(t, s, `{"type":"hello","version":1,"name":"Ann"}`)
	if m := newcomer.next(t); m.Type != "welcome" {
		t.Errorf("a newcomer is told %+v, want a welcome", m)
	}
	if got := closeCodeOf(<-first.with); got != protocol.CloseFull {
		t.Errorf("the oldest is closed with %d, want %d", got, protocol.CloseFull)
	}
}

func TestHandshakesLimitNoOtherRequests(t *testing.T) {
	s := serve(t, nil)
	conn, limited := dial(t, s, "127.0.0.1"), 0
	for range 2 * engineHandshakes {
		switch got := statusOn(t, conn, engineHandshake); got {
		case 200:
		case 429:
			limited++
		default:
			t.Fatalf("a handshake: %d", got)
		}
	}
	if limited == 0 {
		t.Errorf("%d handshakes in a row, want some refused", 2*engineHandshakes)
	}
	if got := statusOn(t, dial(t, s, "127.0.0.1"), "/v1/signal", webSocket...); got != 101 {
		t.Errorf("a WebSocket of that address: %d, want 101", got)
	}
	if got := statusOn(t, dial(t, s, "127.0.0.2"), engineHandshake); got != 200 {
		t.Errorf("a handshake of another address: %d, want 200", got)
	}
}

// A page of another site can make its visitors' browsers send requests, such as for images.
func TestForeignPagesCauseNoHandshake(t *testing.T) {
	s := serve(t, func(c *Config) { c.Origins = []string{"https://app.example.org"} })
	for _, c := range []struct {
		path    string
		headers []string
		want    int
	}{
		{engineHandshake, nil, 200},
		{engineHandshake, []string{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors"}, 200},
		{engineHandshake, []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"}, 403},
		{engineHandshake, []string{"Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors"}, 403},
		{engineHandshake, []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"}, 403},
		{engineHandshake, []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors", "Origin: https://app.example.org"}, 200},
		{engineHandshake, []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors", "Origin: https://evil.example"}, 403},
		{"/v1/signal", append([]string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"}, webSocket...), 403},
		{"/v1/place", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"}, 403},
		{"/v1/place", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"}, 200}, // a link
		{"/v1/place", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors", "Origin: https://app.example.org"}, 200},
	} {
		if got := statusOn(t, dial(t, s, "127.0.0.1"), c.path, c.headers...); got != c.want {
			t.Errorf("%s with %q: %d, want %d", c.path, c.headers, got, c.want)
		}
	}
}

// What a foreign page causes is refused before it counts, or the page could use up its visitor's own allowance.
func TestForeignPagesUseUpNobodysAllowance(t *testing.T) {
	s := serve(t, nil)
	conn := dial(t, s, "127.0.0.1")
	for range engineHandshakes + 50 {
		if got := statusOn(t, conn, engineHandshake, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"); got != 403 {
			t.Fatalf("an image of another site: %d, want 403", got)
		}
	}
	if got := statusOn(t, conn, engineHandshake); got != 200 {
		t.Errorf("a handshake after it: %d, want 200", got)
	}
}

func TestABodyMayNotTakeForEver(t *testing.T) {
	s := serve(t, func(c *Config) { c.BodyTimeout = 50 * time.Millisecond })
	for _, request := range []string{
		"POST /v1/hangup", "POST /v1/leave", "POST /v1/pushed", "PUT /v1/push", "GET /v1/place", "GET /v1/calls", "GET /", "POST /healthz", "POST /nowhere",
	} {
		for _, length := range []string{"Content-Length: 100", "Transfer-Encoding: chunked"} {
			conn := dial(t, s, "127.0.0.1")
			if _, err := fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n", request, length); err != nil {
				t.Fatal(err)
			}
			if !isClosed(conn) {
				t.Errorf("%s with %s and no body: it stands", request, length)
			}
		}
	}
}

// testClient is a client of /v1/signal that keeps the messages it receives.
type testClient struct {
	closeClient
	told chan []byte
}

func (c *testClient) OnMessage(_ *gws.Conn, m *gws.Message) {
	c.told <- append([]byte(nil), m.Bytes()...)
	_ = m.Close()
}

type answer struct {
	Type, Code, Token string
}

func (c *testClient) next(t *testing.T) (m answer) {
	t.Helper()
	select {
	case frame := <-c.told:
		if err := json.Unmarshal(frame, &m); err != nil {
			t.Fatal(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("told nothing")
	}
	return m
}

// greeted is a client that has said hello.
func greeted(t *testing.T, s *Server, hello string) *testClient {
	t.Helper()
	c, socket := talking(t, s)
	if err := socket.WriteString(hello); err != nil {
		t.Fatal(err)
	}
	return c
}

func talking(t *testing.T, s *Server) (*testClient, *gws.Conn) {
	t.Helper()
	c := &testClient{closeClient: closeClient{with: make(chan error, 1)}, told: make(chan []byte, 64)}
	//nolint:bodyclose // a WebSocket's answer has none
	socket, _, err := gws.NewClient(c, &gws.ClientOption{Addr: "ws://" + s.Addr().String() + "/v1/signal"})
	if err != nil {
		t.Fatal(err)
	}
	go socket.ReadLoop()
	t.Cleanup(func() { _ = socket.NetConn().Close() })
	return c, socket
}

func closeCodeOf(err error) protocol.CloseCode {
	var closed *gws.CloseError
	if !errors.As(err, &closed) {
		return 0
	}
	return protocol.CloseCode(closed.Code)
}

// A crowd of newcomers from one address must not lock out those who have been here.
func TestNewcomersOfAnAddressAreBounded(t *testing.T) {
	s := serve(t, nil)
	ann := greeted(t, s, `{"type":"hello","version":1,"name":"Ann"}`).next(t)
	refused := 0
	for i := range newcomerRate.Burst + 50 {
		c, socket := talking(t, s)
		if err := socket.WriteString(fmt.Sprintf(`{"type":"hello","version":1,"name":"Guest %d"}`, i)); err != nil {
			t.Fatal(err)
		}
		if m := c.next(t); m.Type == "error" {
			if refused++; refused > 1 {
				continue
			}
			if got := closeCodeOf(<-c.with); m.Code != string(protocol.CodeRateLimited) || got != protocol.CloseFull {
				t.Errorf("one too many is told %s and closed with %d, want rate_limited and %d", m.Code, got, protocol.CloseFull)
			}
		}
		_ = socket.NetConn().Close()
	}
	if refused == 0 {
		t.Errorf("%d newcomers came in at once, want some told to wait", newcomerRate.Burst+50)
	}
	if m := greeted(t, s, `{"type":"hello","version":1,"token":"`+ann.Token+`"}`).next(t); m.Type != "welcome" {
		t.Errorf("somebody with a token is told %+v, want a welcome", m)
	}
}

func TestHellosOfAUserAreBounded(t *testing.T) {
	s := serve(t, nil)
	hello := `{"type":"hello","version":1,"token":"` + greeted(t, s, `{"type":"hello","version":1,"name":"Ann"}`).next(t).Token + `"}`
	for range helloRate.Burst + 10 {
		c, socket := talking(t, s)
		if err := socket.WriteString(hello); err != nil {
			t.Fatal(err)
		}
		if m := c.next(t); m.Code == string(protocol.CodeRateLimited) {
			return
		}
		_ = socket.WriteClose(1000, nil)
	}
	t.Errorf("%d hellos of a user in a row, want one refused", helloRate.Burst+10)
}

func TestPingsCountLikeMessages(t *testing.T) {
	s := serve(t, nil)
	for name, flood := range map[string]func(*gws.Conn) error{
		"pings": func(c *gws.Conn) error { return c.WritePing(nil) },
		"pongs": func(c *gws.Conn) error { return c.WritePong(nil) },
	} {
		c, socket := talking(t, s)
		if err := socket.WriteString(`{"type":"hello","version":1,"name":"` + name + `"}`); err != nil {
			t.Fatal(err)
		}
		c.next(t)
		for range 400 {
			if flood(socket) != nil {
				break // closed already
			}
		}
		select {
		case err := <-c.with:
			if got := closeCodeOf(err); got != protocol.CloseFlood {
				t.Errorf("400 %s: closed with %d, want %d", name, got, protocol.CloseFlood)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("400 %s, and the connection stands", name)
		}
	}
}

func TestRequestsOfAUserThatTheDatabaseAnswersAreBounded(t *testing.T) {
	s := serve(t, nil)
	token := tokenOf(t, s, "Ann")
	conn, asked := dial(t, s, "127.0.0.1"), 0
	for ; asked < recordRate.Burst+20; asked++ {
		if got := statusOn(t, conn, "/v1/calls", "Authorization: Bearer "+token); got == 429 {
			break
		}
	}
	if asked < recordRate.Burst || asked == recordRate.Burst+20 {
		t.Errorf("%d requests in a row were answered, want %d or a few more", asked, recordRate.Burst)
	}
}

func TestRequestsOfAnAddressAreBounded(t *testing.T) {
	s := serve(t, nil)
	conn, asked := dial(t, s, "127.0.0.1"), 0
	for ; asked < 2*requestRate.Burst; asked++ {
		if got := statusOn(t, conn, "/healthz"); got == 429 {
			break
		}
	}
	if asked < requestRate.Burst || asked == 2*requestRate.Burst {
		t.Errorf("%d requests in a row were answered, want %d or some more", asked, requestRate.Burst)
	}
	if got := statusOn(t, dial(t, s, "127.0.0.1"), "/v1/signal", webSocket...); got != 101 {
		t.Errorf("a WebSocket of that address: %d, want 101", got)
	}
}
