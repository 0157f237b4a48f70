package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lxzan/gws"

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/internal/call"
	"github.com/visavis/visavis/internal/certificate"
	"github.com/visavis/visavis/internal/hub"
	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/internal/socketio"
	"github.com/visavis/visavis/protocol"
)

// fakeHandler is a hub's handler that does nothing, but for telling guests who departs.
type fakeHandler struct{ guests *account.Guests }

func (fakeHandler) HandleMessage(origin.Origin, protocol.Message) *protocol.Error {
	return nil
}
func (fakeHandler) SessionOpened(origin.Origin)                        {}
func (fakeHandler) SessionTakenOver(protocol.SessionID, origin.Origin) {}
func (fakeHandler) PageClosed(origin.Origin)                           {}
func (fakeHandler) ConnectionLost(origin.Origin)                       {}
func (fakeHandler) ConnectionBack(origin.Origin)                       {}
func (d fakeHandler) SessionEnded(from origin.Origin)                  { d.guests.Departed(from.User.ID) }
func (fakeHandler) PageHidden(origin.Origin)                           {}
func (fakeHandler) SignedOut(protocol.UserID)                          {}

// fakeLogins keeps logins as a database does, or fails.
type fakeLogins struct {
	fails atomic.Bool
	out   sync.Map // of protocol.UserID
}

func (s *fakeLogins) err() error {
	if s.fails.Load() {
		return errors.New("the database is down")
	}
	return nil
}

func (s *fakeLogins) Login(context.Context, account.Hash) (l account.Login, found, signedOut bool, err error) {
	return l, false, false, s.err()
}
func (s *fakeLogins) KeepLogin(account.Login) bool                  { return true }
func (s *fakeLogins) AddLogin(context.Context, account.Login) error { return s.err() }
func (s *fakeLogins) SignOut(_ context.Context, id protocol.UserID, _ time.Time) error {
	s.out.Store(id, true)
	return s.err()
}

func (s *fakeLogins) SignedOut(_ context.Context, id protocol.UserID) (bool, error) {
	_, out := s.out.Load(id)
	return out, s.err()
}

// tokenOf is the token of a guest who has come in.
func tokenOf(t testing.TB, s *Server, name string) string {
	t.Helper()
	who, refused := s.cfg.Guests.Enter(t.Context(), account.Credentials{Name: name}, time.Now())
	if refused != nil {
		t.Fatal(refused)
	}
	return who.Token
}

// serve runs an edge on a free port until the test ends.
func serve(t testing.TB, change func(*Config)) *Server {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	h, err := hub.New(hub.Config{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	guests, err := account.NewGuests(account.Config{Logins: new(fakeLogins), Sessions: h, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	h.Handle(fakeHandler{guests})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Listener: listener, Place: "Here", Access: "open", Guests: guests, Hub: h, Log: log,
		Recent: func(context.Context, protocol.UserID, protocol.CallID, int) ([]call.Record, error) {
			return nil, errors.New("the database is down")
		},
	}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	pages := socketio.New(socketio.Config{Admission: s, Guests: s.cfg.Guests, Hub: s.cfg.Hub, Log: s.cfg.Log, HelloTimeout: s.cfg.HelloTimeout})
	s.HandleSocketIO(pages)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 3)
	go func() { ended <- s.Run(ctx) }()
	go func() { ended <- pages.Run(ctx) }()
	hubCtx, stopHub := context.WithCancel(context.Background())
	go func() { ended <- h.Run(hubCtx) }()
	t.Cleanup(func() {
		stopHub()
		cancel()
		for range 3 {
			if err := <-ended; err != nil {
				t.Errorf("run: %v", err)
			}
		}
	})
	for deadline := time.Now().Add(5 * time.Second); !s.ready.Load() && time.Now().Before(deadline); {
		<-time.After(time.Millisecond)
	}
	return s
}

// selfSigned is a certificate for localhost.
func selfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	source, err := certificate.SelfSigned(t.TempDir(), func() []netip.Addr { return nil })
	if err != nil {
		t.Fatal(err)
	}
	pair, err := source.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return *pair
}

// closeClient is a client that only waits for the end of its connection.
type closeClient struct {
	gws.BuiltinEventHandler
	with chan error
}

func (c *closeClient) OnClose(_ *gws.Conn, err error) { c.with <- err }

func connect(t *testing.T, s *Server) (*closeClient, error) {
	t.Helper()
	c := &closeClient{with: make(chan error, 1)}
	//nolint:bodyclose // a WebSocket's answer has none
	socket, _, err := gws.NewClient(c, &gws.ClientOption{Addr: "ws://" + s.Addr().String() + "/v1/signal"})
	if err != nil {
		return nil, err
	}
	go socket.ReadLoop()
	t.Cleanup(func() { _ = socket.NetConn().Close() })
	return c, nil
}

func TestAConnectionThatSaysNothingIsClosed(t *testing.T) {
	s := serve(t, func(c *Config) { c.HelloTimeout = 20 * time.Millisecond })
	c, err := connect(t, s)
	if err != nil {
		t.Fatal(err)
	}
	var closed *gws.CloseError
	if err := <-c.with; !errors.As(err, &closed) || protocol.CloseCode(closed.Code) != protocol.CloseNoHello {
		t.Errorf("closed with %v, want %d", err, protocol.CloseNoHello)
	}
	for deadline := time.Now().Add(5 * time.Second); ; {
		if s.limits.silent.Taken(netip.MustParseAddr("127.0.0.1")) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the connection is counted for ever")
		}
		<-time.After(time.Millisecond)
	}
}

func TestADatabaseThatIsDownSaysNoMore(t *testing.T) {
	s := serve(t, nil)
	token := tokenOf(t, s, "Ann")
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "http://localhost/v1/calls", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	s.routes().ServeHTTP(w, r)
	if body := w.Body.String(); w.Code != 500 || !strings.Contains(body, `"internal"`) || strings.Contains(body, "database") {
		t.Errorf("got %d %s", w.Code, body)
	}
	for _, query := range []string{"limit=0", "limit=201", "limit=x", "before=" + strings.Repeat("x", 65)} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "http://localhost/v1/calls?"+query, nil)
		r.Header.Set("Authorization", "Bearer "+token)
		s.routes().ServeHTTP(w, r)
		if w.Code != 400 {
			t.Errorf("%s: got %d", query, w.Code)
		}
	}
}

func TestTroubleWithTheDatabaseIsTold(t *testing.T) {
	s := serve(t, func(c *Config) {
		c.Recent = func(context.Context, protocol.UserID, protocol.CallID, int) ([]call.Record, error) { return nil, nil }
		c.Complete = func(protocol.UserID) bool { return false }
		c.Failure = func() error { return errors.New("disk full") }
	})
	token := tokenOf(t, s, "Ann")
	w := ask(s, http.MethodGet, "/v1/calls", token, "")
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `{"calls":[],"incomplete":true,`) {
		t.Errorf("calls: %d %s", w.Code, w.Body)
	}
	var answer struct{ Now time.Time }
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || time.Since(answer.Now).Abs() > time.Minute {
		t.Errorf("now: %v, %v", answer.Now, err)
	}
	if w := ask(s, http.MethodGet, "/readyz", "", ""); w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "disk") {
		t.Errorf("readyz: %d %s", w.Code, w.Body)
	}
}

// A client that has gone before its answer is no error of the server's.
func TestAClientThatIsGoneIsNoError(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		errors bool
	}{
		"gone":                 {fmt.Errorf("read calls: %w", context.Canceled), false},
		"the database is away": {errors.New("disk full"), true},
	} {
		var log strings.Builder
		s := &Server{cfg: Config{Log: slog.New(slog.NewTextHandler(&log, nil))}}
		s.fail(httptest.NewRecorder(), "read recent calls", c.err)
		if got := strings.Contains(log.String(), "level=ERROR"); got != c.errors {
			t.Errorf("%s: an error is logged: %v, want %v: %s", name, got, c.errors, log.String())
		}
	}
}

func TestPagesOfAllowedOriginsMayAsk(t *testing.T) {
	s := serve(t, func(c *Config) { c.Origins = []string{"https://app.example.org"} })
	for _, test := range []struct {
		method, origin string
		status         int
		allowed        bool
	}{
		{"GET", "https://app.example.org", 200, true},
		{"OPTIONS", "https://app.example.org", 204, true},
		{"GET", "https://evil.example", 200, false}, // the browser keeps the answer from the page
		{"OPTIONS", "https://evil.example", 204, false},
		{"POST", "https://app.example.org", 405, true},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(test.method, "http://localhost/v1/place", nil)
		r.Header.Set("Origin", test.origin)
		s.routes().ServeHTTP(w, r)
		allowed := w.Header().Get("Access-Control-Allow-Origin") == test.origin
		if w.Code != test.status || allowed != test.allowed {
			t.Errorf("%s from %s: got %d, allowed %v", test.method, test.origin, w.Code, allowed)
		}
	}
}

func TestOrigins(t *testing.T) {
	loopback, lan := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.TCPAddr{IP: net.IPv4zero}
	leaf := &x509.Certificate{DNSNames: []string{"calls.example.org"}, IPAddresses: []net.IP{net.IPv4(192, 168, 1, 5)}}
	tests := []struct {
		name, host, origin string
		origins            origins
		want               bool
	}{
		{"no page", "localhost:8080", "", newOrigins(nil, loopback, nil), true},
		{"own page", "localhost:8080", "http://localhost:8080", newOrigins(nil, loopback, nil), true},
		{"developer's page", "localhost:8080", "http://127.0.0.1:5173", newOrigins(nil, loopback, nil), true},
		{"rebound name", "evil.example:8080", "http://evil.example:8080", newOrigins(nil, loopback, nil), false},
		{"opaque", "localhost:8080", "null", newOrigins(nil, loopback, nil), false},
		{"plain beyond loopback", "192.168.1.5:8080", "http://192.168.1.5:8080", newOrigins(nil, lan, nil), false},
		{"certificate's name", "calls.example.org", "https://calls.example.org", newOrigins(nil, lan, leaf), true},
		{"certificate's address", "192.168.1.5:8443", "https://192.168.1.5:8443", newOrigins(nil, lan, leaf), true},
		{"another port of it", "calls.example.org", "https://calls.example.org:444", newOrigins(nil, lan, leaf), false},
		{"without TLS", "calls.example.org", "http://calls.example.org", newOrigins(nil, lan, leaf), false},
		{"another name", "evil.example", "https://evil.example", newOrigins(nil, lan, leaf), false},
		{"listed", "calls.example.org", "https://app.example.org", newOrigins([]string{"https://App.example.org/"}, lan, leaf), true},
		{"like one listed", "calls.example.org", "https://app.example.org.evil", newOrigins([]string{"https://app.example.org"}, lan, leaf), false},
	}
	for _, test := range tests {
		r := httptest.NewRequest("GET", "/v1/signal", nil)
		r.Host = test.host
		if test.origin != "" {
			r.Header.Set("Origin", test.origin)
		}
		if got := test.origins.allow(r); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func TestClientAddr(t *testing.T) {
	s := &Server{cfg: Config{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}}}
	for _, test := range []struct{ remote, forwarded, want string }{
		{"192.0.2.1:5", "", "192.0.2.1"},
		{"192.0.2.1:5", "198.51.100.7", "192.0.2.1"}, // a client's own word
		{"10.0.0.1:5", "198.51.100.7", "198.51.100.7"},
		{"10.0.0.1:5", "203.0.113.9, 198.51.100.7", "198.51.100.7"},
		{"10.0.0.1:5", "198.51.100.7, 10.0.0.2", "198.51.100.7"},
		{"[::1]:5", "2001:db8::1", "2001:db8::1"},
		{"[::ffff:10.0.0.1]:5", "::ffff:198.51.100.7", "198.51.100.7"},
		{"10.0.0.1:5", "198.51.100.7:567", "198.51.100.7"},
		{"10.0.0.1:5", "203.0.113.9, [2001:db8::1]:567", "2001:db8::1"},
		{"10.0.0.1:5", "[2001:db8::1], 10.0.0.2:80", "2001:db8::1"},
		{"10.0.0.1:5", "[::ffff:198.51.100.7]:567", "198.51.100.7"},
		{"10.0.0.1:5", "[2001:db8::1", "2001:db8::1"},
		{"10.0.0.1:5", "198.51.100.7:", "10.0.0.1"},
		{"10.0.0.1:5", "", "10.0.0.1"},
		{"10.0.0.1:5", "nonsense", "10.0.0.1"},
		{"10.0.0.1:5", "198.51.100.7, nonsense", "10.0.0.1"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = test.remote
		if test.forwarded != "" {
			r.Header.Set("X-Forwarded-For", test.forwarded)
		}
		if got := s.clientAddr(r).String(); got != test.want {
			t.Errorf("%s, forwarded for %q: got %s, want %s", test.remote, test.forwarded, got, test.want)
		}
	}
}
